//! One message for many receivers.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};

use crate::basics::{QosId, Version};
use crate::encode::sink::{Count, Sink};
use crate::encode::{VARINT_MAX, message_properties, publish_first_byte, receiver_properties};
use crate::frame::varint_len;
use crate::names::TopicName;
use crate::packet::PublishProperties;

/// What a PUBLISH says to one receiver only.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'a> {
    /// Sent before.
    pub dup: bool,
    /// The RETAIN flag.
    pub retain: bool,
    /// QoS and packet identifier.
    pub qos: QosId,
    /// The message expiry interval that is left, in seconds.
    pub expiry_secs: Option<u32>,
    /// The topic alias of this connection.
    pub alias: Option<Alias>,
    /// The identifiers of the subscriptions that matched, each 1 to 268 435 455.
    pub subscription_ids: &'a [u32],
}

/// A topic alias of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The alias.
    pub value: NonZeroU16,
    /// Whether the receiver already knows the topic behind it; then the topic is left out.
    pub topic_known: bool,
}

/// A message's bytes that do not depend on the receiver, encoded once per version and patched per receiver.
///
/// Topic and payload are shared with the message, so a template costs its properties and nothing else; writing it is a handful of
/// copies into the output.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    version: Version,
    topic: TopicName,
    /// The message's own properties, encoded; empty in 3.1.1.
    properties: Bytes,
    payload: Bytes,
}

impl PublishTemplate {
    /// Prepares a message. Expiry, alias and subscription identifiers of `properties` are left out: they come with the patch. In
    /// 3.1.1 there are no properties at all.
    #[must_use]
    pub fn new(
        version: Version,
        topic: &TopicName,
        properties: Option<&PublishProperties>,
        payload: &Bytes,
    ) -> Self {
        let mut encoded = BytesMut::new();
        if let (Version::V5, Some(properties)) = (version, properties) {
            let mut count = Count::default();
            message_properties(properties, &mut count);
            encoded.reserve(count.bytes());
            message_properties(properties, &mut encoded);
        }
        Self { version, topic: topic.clone(), properties: encoded.freeze(), payload: payload.clone() }
    }

    /// The version that the template was made for.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The bytes that [`Self::write`] would append: what to compare with the receiver's maximum packet size
    /// (`[MQTT5-3.1.2-24]`).
    #[must_use]
    pub fn encoded_len(&self, patch: &Patch<'_>) -> usize {
        let (body, _) = self.lengths(patch);
        1 + varint_len(body) + body
    }

    /// Appends the packet for one receiver.
    ///
    /// In 3.1.1 expiry, alias and subscription identifiers are left out. DUP is left out at QoS 0, and a subscription identifier
    /// that does not exist (0, or above 268 435 455) everywhere. A packet above [`crate::PACKET_BYTES_MAX`] does not exist
    /// either: nothing is written. A caller who compares [`Self::encoded_len`] with the receiver's maximum, which is never higher,
    /// does not meet that.
    pub fn write(&self, patch: &Patch<'_>, out: &mut BytesMut) {
        let (body, properties) = self.lengths(patch);
        if body > VARINT_MAX {
            return;
        }
        out.reserve(1 + varint_len(body) + body);
        let id = patch.qos.packet_id();
        out.u8(publish_first_byte(patch.dup && id.is_some(), patch.retain, patch.qos.qos() as u8));
        out.varint(body);
        out.field(if self.leaves_topic_out(patch) { b"" } else { self.topic.as_bytes() });
        if let Some(id) = id {
            out.u16(id.get());
        }
        if self.version == Version::V5 {
            out.varint(properties);
            Self::put_patch(patch, out);
            out.slice(&self.properties);
        }
        out.slice(&self.payload);
    }

    /// The length of the body and, in 5.0, of the properties within.
    fn lengths(&self, patch: &Patch<'_>) -> (usize, usize) {
        let topic = if self.leaves_topic_out(patch) { 0 } else { self.topic.len() };
        let id = if patch.qos.packet_id().is_some() { 2 } else { 0 };
        let plain = 2 + topic + id + self.payload.len();
        if self.version == Version::V311 {
            return (plain, 0);
        }
        let mut count = Count::default();
        Self::put_patch(patch, &mut count);
        let properties = count.bytes() + self.properties.len();
        (plain + varint_len(properties) + properties, properties)
    }

    fn leaves_topic_out(&self, patch: &Patch<'_>) -> bool {
        self.version == Version::V5 && patch.alias.is_some_and(|alias| alias.topic_known)
    }

    fn put_patch(patch: &Patch<'_>, out: &mut impl Sink) {
        receiver_properties(
            patch.expiry_secs,
            patch.alias.map(|alias| alias.value.get()),
            patch.subscription_ids,
            out,
        );
    }
}
