//! One message for many receivers.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};

use crate::basics::{QosId, Version};
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
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    version: Version,
    topic: TopicName,
    properties: Bytes,
    payload: Bytes,
}

impl PublishTemplate {
    /// Prepares a message. Expiry, alias and subscription identifiers of `properties` are left out: they come with the patch.
    #[must_use]
    pub fn new(
        version: Version,
        topic: &TopicName,
        properties: Option<&PublishProperties>,
        payload: &Bytes,
    ) -> Self {
        todo!("{properties:?} {version} {topic} {payload:?}")
    }

    /// The bytes that [`Self::write`] would append.
    #[must_use]
    pub fn encoded_len(&self, patch: &Patch<'_>) -> usize {
        todo!("{patch:?} {self:?}")
    }

    /// Appends the packet for one receiver.
    pub fn write(&self, patch: &Patch<'_>, out: &mut BytesMut) {
        todo!("{patch:?} {self:?} {out:?}")
    }
}
