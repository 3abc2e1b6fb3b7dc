//! The properties of each packet, written. Defaults are not written.

use crate::basics::QoS;
use crate::encode::check::is_subscription_id;
use crate::encode::sink::{Count, Sink};
use crate::packet::{
    AckProperties, Auth, ConnAckProperties, ConnectProperties, DisconnectProperties, PublishProperties,
    Subscribe, Unsubscribe, UserProperties, Will,
};
use crate::property::Key;
use crate::text::{Binary, Text};

/// A set of properties, without its length.
pub(crate) trait Properties {
    fn put<S: Sink>(&self, out: &mut S);
}

/// The property length and the properties.
pub(super) fn put<S: Sink>(properties: &impl Properties, out: &mut S) {
    let mut count = Count::default();
    properties.put(&mut count);
    out.varint(count.bytes());
    properties.put(out);
}

/// As [`put`]; nothing is a length of 0.
pub(super) fn put_option<S: Sink, P: Properties>(properties: Option<&P>, out: &mut S) {
    match properties {
        Some(properties) => put(properties, out),
        None => out.u8(0),
    }
}

/// Whether anything would be written.
pub(super) fn is_empty(properties: &impl Properties) -> bool {
    let mut count = Count::default();
    properties.put(&mut count);
    count.bytes() == 0
}

fn flag(out: &mut impl Sink, id: Key, value: bool) {
    out.u8(id as u8);
    out.u8(value.into());
}

fn two_bytes(out: &mut impl Sink, id: Key, value: Option<u16>) {
    if let Some(value) = value {
        out.u8(id as u8);
        out.u16(value);
    }
}

fn four_bytes(out: &mut impl Sink, id: Key, value: Option<u32>) {
    if let Some(value) = value {
        out.u8(id as u8);
        out.u32(value);
    }
}

fn text(out: &mut impl Sink, id: Key, value: Option<&Text>) {
    if let Some(value) = value {
        out.u8(id as u8);
        out.field(value.as_bytes());
    }
}

fn binary(out: &mut impl Sink, id: Key, value: Option<&Binary>) {
    if let Some(value) = value {
        out.u8(id as u8);
        out.field(value);
    }
}

fn user(out: &mut impl Sink, properties: &UserProperties) {
    for (name, value) in properties {
        out.u8(Key::UserProperty as u8);
        out.field(name.as_bytes());
        out.field(value.as_bytes());
    }
}

/// What a message says to every receiver alike, a will's included.
pub(crate) fn message_properties(properties: &PublishProperties, out: &mut impl Sink) {
    if let Some(format) = properties.payload_format {
        out.u8(Key::PayloadFormat as u8);
        out.u8(format as u8);
    }
    text(out, Key::ContentType, properties.content_type.as_ref());
    text(out, Key::ResponseTopic, properties.response_topic.as_ref().map(|topic| topic.as_text()));
    binary(out, Key::CorrelationData, properties.correlation_data.as_ref());
    user(out, &properties.user_properties);
}

/// What a message says to one receiver.
pub(crate) fn receiver_properties(
    expiry_secs: Option<u32>,
    alias: Option<u16>,
    subscription_ids: &[u32],
    out: &mut impl Sink,
) {
    four_bytes(out, Key::MessageExpiry, expiry_secs);
    two_bytes(out, Key::TopicAlias, alias);
    for &id in subscription_ids.iter().filter(|&&id| is_subscription_id(id)) {
        out.u8(Key::SubscriptionId as u8);
        out.varint(id as usize);
    }
}

impl Properties for PublishProperties {
    fn put<S: Sink>(&self, out: &mut S) {
        let alias = self.topic_alias.map(Into::into);
        receiver_properties(self.message_expiry_secs, alias, &self.subscription_ids, out);
        message_properties(self, out);
    }
}

impl Properties for Will {
    fn put<S: Sink>(&self, out: &mut S) {
        four_bytes(out, Key::WillDelay, Some(self.delay_secs).filter(|&secs| secs != 0));
        if let Some(properties) = &self.properties {
            receiver_properties(properties.message_expiry_secs, None, &[], out);
            message_properties(properties, out);
        }
    }
}

impl Properties for ConnectProperties {
    fn put<S: Sink>(&self, out: &mut S) {
        four_bytes(out, Key::SessionExpiry, self.session_expiry_secs);
        two_bytes(out, Key::ReceiveMax, self.receive_max.map(Into::into));
        four_bytes(out, Key::MaximumPacketSize, self.packet_bytes_max.map(Into::into));
        two_bytes(out, Key::TopicAliasMax, Some(self.topic_alias_max).filter(|&max| max != 0));
        if self.request_response_info {
            flag(out, Key::RequestResponseInfo, true);
        }
        if !self.request_problem_info {
            flag(out, Key::RequestProblemInfo, false);
        }
        text(out, Key::AuthMethod, self.auth_method.as_ref());
        binary(out, Key::AuthData, self.auth_data.as_ref());
        user(out, &self.user_properties);
    }
}

impl Properties for ConnAckProperties {
    fn put<S: Sink>(&self, out: &mut S) {
        four_bytes(out, Key::SessionExpiry, self.session_expiry_secs);
        two_bytes(out, Key::ReceiveMax, self.receive_max.map(Into::into));
        if self.qos_max < QoS::ExactlyOnce {
            flag(out, Key::MaximumQos, self.qos_max == QoS::AtLeastOnce);
        }
        four_bytes(out, Key::MaximumPacketSize, self.packet_bytes_max.map(Into::into));
        text(out, Key::AssignedClientId, self.assigned_client_id.as_ref().map(|id| id.as_text()));
        two_bytes(out, Key::TopicAliasMax, Some(self.topic_alias_max).filter(|&max| max != 0));
        for (id, available) in [
            (Key::RetainAvailable, self.retain_available),
            (Key::WildcardAvailable, self.wildcard_available),
            (Key::SubscriptionIdsAvailable, self.subscription_ids_available),
            (Key::SharedAvailable, self.shared_available),
        ] {
            if !available {
                flag(out, id, false);
            }
        }
        two_bytes(out, Key::ServerKeepAlive, self.server_keep_alive_secs);
        text(out, Key::ResponseInformation, self.response_information.as_ref());
        text(out, Key::ServerReference, self.server_reference.as_ref());
        text(out, Key::AuthMethod, self.auth_method.as_ref());
        binary(out, Key::AuthData, self.auth_data.as_ref());
        text(out, Key::ReasonString, self.reason_string.as_ref());
        user(out, &self.user_properties);
    }
}

impl Properties for AckProperties {
    fn put<S: Sink>(&self, out: &mut S) {
        text(out, Key::ReasonString, self.reason_string.as_ref());
        user(out, &self.user_properties);
    }
}

impl Properties for Subscribe {
    fn put<S: Sink>(&self, out: &mut S) {
        receiver_properties(None, None, self.subscription_id.as_slice(), out);
        user(out, &self.user_properties);
    }
}

impl Properties for Unsubscribe {
    fn put<S: Sink>(&self, out: &mut S) {
        user(out, &self.user_properties);
    }
}

impl Properties for DisconnectProperties {
    fn put<S: Sink>(&self, out: &mut S) {
        four_bytes(out, Key::SessionExpiry, self.session_expiry_secs);
        text(out, Key::ServerReference, self.server_reference.as_ref());
        text(out, Key::ReasonString, self.reason_string.as_ref());
        user(out, &self.user_properties);
    }
}

impl Properties for Auth {
    fn put<S: Sink>(&self, out: &mut S) {
        text(out, Key::AuthMethod, self.auth_method.as_ref());
        binary(out, Key::AuthData, self.auth_data.as_ref());
        text(out, Key::ReasonString, self.reason_string.as_ref());
        user(out, &self.user_properties);
    }
}
