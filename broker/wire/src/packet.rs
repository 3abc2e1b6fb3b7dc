//! The control packets, as values that cannot hold what the wire cannot carry.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::basics::{PacketId, PacketType, QoS, QosId, Version};
use crate::filter::{FilterError, SubscriptionFilter};
use crate::names::{ClientId, TopicName};
use crate::reason::ReasonCode;
use crate::text::{Binary, Text};

/// User properties, in the order in which they were sent (`[MQTT5-3.3.2-18]`). Names may repeat.
///
/// A decoded packet has at most [`crate::USER_PROPERTIES_MAX`] of them, with at most
/// [`crate::USER_PROPERTIES_BYTES_MAX`] bytes.
pub type UserProperties = Vec<(Text, Text)>;

/// One control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Box<Subscribe>),
    SubAck(Box<SubAck>),
    Unsubscribe(Box<Unsubscribe>),
    UnsubAck(Box<UnsubAck>),
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    Auth(Box<Auth>),
}

impl Packet {
    /// The type in the first byte.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// CONNECT (MQTT3 §3.1, MQTT5 §3.1). Its `Debug` shows only the size of password and authentication data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// What the client speaks; every later packet of the connection is decoded and encoded for this version.
    pub version: Version,
    /// Clean Start of 5.0, Clean Session of 3.1.1.
    pub clean_start: bool,
    /// Keep alive in seconds; 0 turns it off (`[MQTT5-3.1.2-22]`).
    pub keep_alive_secs: u16,
    /// `None` when the client leaves the choice to the server (`[MQTT5-3.1.3-6]`); never with a 3.1.1 client that wants to
    /// resume a session (`[MQTT3-3.1.3-8]`).
    pub client_id: Option<ClientId>,
    /// The message to send when the connection ends without a valid DISCONNECT.
    pub will: Option<Box<Will>>,
    /// User name; never a credential for this broker.
    pub username: Option<Text>,
    /// Password: binary in both versions.
    pub password: Option<Binary>,
    /// Defaults in 3.1.1.
    pub properties: ConnectProperties,
}

/// The properties of CONNECT (MQTT5 §3.1.2.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Session expiry interval in seconds; `None` is 0, `u32::MAX` never expires (MQTT5 §3.1.2.11.2).
    pub session_expiry_secs: Option<u32>,
    /// How many QoS 1 and 2 messages the client takes at once; `None` is 65535 (MQTT5 §3.1.2.11.3).
    pub receive_max: Option<NonZeroU16>,
    /// The largest packet in bytes that the client takes; `None` is no limit (MQTT5 §3.1.2.11.4).
    pub packet_bytes_max: Option<NonZeroU32>,
    /// The highest topic alias that the client takes; 0 is none (MQTT5 §3.1.2.11.5).
    pub topic_alias_max: u16,
    /// Whether the client asks for response information; false by default (MQTT5 §3.1.2.11.6).
    pub request_response_info: bool,
    /// Whether reason strings and user properties may be sent with any packet; true by default (MQTT5 §3.1.2.11.7).
    pub request_problem_info: bool,
    /// Not forwarded.
    pub user_properties: UserProperties,
    /// Method of the enhanced authentication (MQTT5 §3.1.2.11.9).
    pub auth_method: Option<Text>,
    /// Data of the enhanced authentication; a decoded packet has it only with a method.
    pub auth_data: Option<Binary>,
}

impl Default for ConnectProperties {
    fn default() -> Self {
        Self {
            session_expiry_secs: None,
            receive_max: None,
            packet_bytes_max: None,
            topic_alias_max: 0,
            request_response_info: false,
            request_problem_info: true,
            user_properties: Vec::new(),
            auth_method: None,
            auth_data: None,
        }
    }
}

/// The will message of CONNECT (MQTT5 §3.1.2.5).
#[derive(Clone, PartialEq, Eq)]
pub struct Will {
    /// Where it goes.
    pub topic: TopicName,
    /// What it says; at most 65535 bytes, since its length in CONNECT is a two-byte integer.
    pub payload: Bytes,
    /// The QoS to publish it with.
    pub qos: QoS,
    /// Whether to retain it.
    pub retain: bool,
    /// Will delay interval in seconds; 0 by default and in 3.1.1 (`[MQTT5-3.1.3-9]`).
    pub delay_secs: u32,
    /// Payload format, expiry, content type, response topic, correlation data and user properties (MQTT5 §3.1.3.2). Topic alias
    /// and subscription identifiers are never there, and not encoded.
    pub properties: Option<Box<PublishProperties>>,
}

impl fmt::Debug for Will {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Will")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("delay_secs", &self.delay_secs)
            .field("properties", &self.properties)
            .finish()
    }
}

/// CONNACK (MQTT3 §3.2, MQTT5 §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server had session state; false with every reason but success (`[MQTT5-3.2.2-6]`, `[MQTT3-3.2.2-4]`).
    pub session_present: bool,
    /// The outcome. For 3.1.1 the encoder maps it to a return code (MQTT3 §3.2.2.3): 0x84 to 1, 0x85 to 2, 0x86 to 4; the codes
    /// of a server that cannot serve now to 3; every other refusal to 5. Malformed packet and protocol error have no 3.1.1 code:
    /// there the connection is closed without CONNACK (`[MQTT3-3.1.4-1]`).
    pub reason: ReasonCode,
    /// Not sent to 3.1.1 clients.
    pub properties: Box<ConnAckProperties>,
}

/// The properties of CONNACK (MQTT5 §3.2.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// Session expiry in seconds that the server uses instead of the client's.
    pub session_expiry_secs: Option<u32>,
    /// How many QoS 1 and 2 messages the server takes at once; `None` is 65535.
    pub receive_max: Option<NonZeroU16>,
    /// The highest QoS that the server takes. QoS 2 is the default and is not written (`[MQTT5-3.2.2-9]`).
    pub qos_max: QoS,
    /// Whether retained messages are supported; true by default.
    pub retain_available: bool,
    /// The largest packet in bytes that the server takes; `None` is no limit.
    pub packet_bytes_max: Option<NonZeroU32>,
    /// The identifier given to a client that sent none (`[MQTT5-3.2.2-16]`).
    pub assigned_client_id: Option<ClientId>,
    /// The highest topic alias that the server takes; 0 is none.
    pub topic_alias_max: u16,
    /// For people who diagnose.
    pub reason_string: Option<Text>,
    /// For the client's own use.
    pub user_properties: UserProperties,
    /// Whether wildcard subscriptions are supported; true by default.
    pub wildcard_available: bool,
    /// Whether subscription identifiers are supported; true by default.
    pub subscription_ids_available: bool,
    /// Whether shared subscriptions are supported; true by default.
    pub shared_available: bool,
    /// Keep alive in seconds that the client must use instead of its own (`[MQTT5-3.2.2-21]`).
    pub server_keep_alive_secs: Option<u16>,
    /// Only for a client that asked (`[MQTT5-3.1.2-28]`).
    pub response_information: Option<Text>,
    /// Another server to use.
    pub server_reference: Option<Text>,
    /// Method of the enhanced authentication.
    pub auth_method: Option<Text>,
    /// Data of the enhanced authentication.
    pub auth_data: Option<Binary>,
}

impl Default for ConnAckProperties {
    fn default() -> Self {
        Self {
            session_expiry_secs: None,
            receive_max: None,
            qos_max: QoS::ExactlyOnce,
            retain_available: true,
            packet_bytes_max: None,
            assigned_client_id: None,
            topic_alias_max: 0,
            reason_string: None,
            user_properties: Vec::new(),
            wildcard_available: true,
            subscription_ids_available: true,
            shared_available: true,
            server_keep_alive_secs: None,
            response_information: None,
            server_reference: None,
            auth_method: None,
            auth_data: None,
        }
    }
}

/// PUBLISH (MQTT3 §3.3, MQTT5 §3.3). Its `Debug` shows only the size of the payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Publish {
    /// Sent before; never with QoS 0 (`[MQTT5-3.3.1-2]`).
    pub dup: bool,
    /// To be retained, or sent because it was retained.
    pub retain: bool,
    /// QoS and packet identifier.
    pub qos: QosId,
    /// `None` only together with a topic alias (`[MQTT5-3.3.2-8]`, MQTT5 §3.3.2.1).
    pub topic: Option<TopicName>,
    /// `None` in 3.1.1, and when there are none.
    pub properties: Option<Box<PublishProperties>>,
    /// The message itself.
    pub payload: Bytes,
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("dup", &self.dup)
            .field("retain", &self.retain)
            .field("qos", &self.qos)
            .field("topic", &self.topic)
            .field("properties", &self.properties)
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

/// What a payload is (MQTT5 §3.3.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PayloadFormat {
    /// Unspecified bytes, as when nothing is said.
    Bytes = 0,
    /// UTF-8 text. Whether the payload really is that is not checked by the codec.
    Utf8 = 1,
}

/// The properties of PUBLISH and of a will (MQTT5 §3.3.2.3, §3.1.3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// What the payload is.
    pub payload_format: Option<PayloadFormat>,
    /// Message expiry interval in seconds.
    pub message_expiry_secs: Option<u32>,
    /// Topic alias of this connection.
    pub topic_alias: Option<NonZeroU16>,
    /// Where a response should go.
    pub response_topic: Option<TopicName>,
    /// What the response should carry.
    pub correlation_data: Option<Binary>,
    /// Forwarded in order (`[MQTT5-3.3.2-17]`, `[MQTT5-3.3.2-18]`).
    pub user_properties: UserProperties,
    /// From server to client only (`[MQTT5-3.3.4-6]`); each 1 to 268 435 455, the encoder checks it.
    pub subscription_ids: SmallVec<[u32; 1]>,
    /// Content type, MIME or otherwise.
    pub content_type: Option<Text>,
}

impl PublishProperties {
    /// A copy in memory of its own, so that it does not keep a read buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            payload_format: self.payload_format,
            message_expiry_secs: self.message_expiry_secs,
            topic_alias: self.topic_alias,
            response_topic: self.response_topic.as_ref().map(TopicName::detached),
            correlation_data: self.correlation_data.as_ref().map(Binary::detached),
            user_properties: self
                .user_properties
                .iter()
                .map(|(name, value)| (name.detached(), value.detached()))
                .collect(),
            subscription_ids: self.subscription_ids.clone(),
            content_type: self.content_type.as_ref().map(Text::detached),
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT5 §3.4 to §3.7).
///
/// In 3.1.1 only the packet identifier is sent: these packets cannot say failure there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// The outcome; always success in 3.1.1.
    pub reason: ReasonCode,
    /// `None` when there are none.
    pub properties: Option<Box<AckProperties>>,
}

impl Ack {
    /// An acknowledgement that says success.
    #[must_use]
    pub const fn success(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: None }
    }

    /// An acknowledgement with a reason code.
    #[must_use]
    pub const fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: None }
    }
}

/// The properties of every acknowledgement (MQTT5 §3.4.2.2, §3.9.2.1, §3.11.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckProperties {
    /// For people who diagnose.
    pub reason_string: Option<Text>,
    /// For the receiver's own use.
    pub user_properties: UserProperties,
}

/// SUBSCRIBE (MQTT5 §3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The identifier that SUBACK repeats.
    pub packet_id: PacketId,
    /// 1 to 268 435 455 (`[MQTT5-3.3.4-3]`).
    pub subscription_id: Option<u32>,
    /// For the server's own use.
    pub user_properties: UserProperties,
    /// At least one (`[MQTT5-3.8.3-2]`), as many as fit into the packet.
    pub filters: Vec<Requested>,
}

/// One filter of a SUBSCRIBE with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// A filter that no topic could ever match by the rules is refused alone, not with the whole packet.
    pub filter: Result<SubscriptionFilter, FilterError>,
    /// How to deliver.
    pub options: SubscribeOptions,
}

/// Subscription options (MQTT5 §3.8.3.1). In 3.1.1 only the QoS is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// The highest QoS to deliver with.
    pub qos: QoS,
    /// Leave out the client's own messages; never on a shared subscription (`[MQTT5-3.8.3-4]`).
    pub no_local: bool,
    /// Keep the RETAIN flag of forwarded messages (`[MQTT5-3.3.1-13]`).
    pub retain_as_published: bool,
    /// Which retained messages to send now.
    pub retain_handling: RetainHandling,
}

/// Retain handling (`[MQTT5-3.3.1-9]` to `[MQTT5-3.3.1-11]`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send retained messages, as in 3.1.1.
    #[default]
    SendAlways = 0,
    /// Send them only when the subscription did not exist.
    SendIfNew = 1,
    /// Do not send them.
    DoNotSend = 2,
}

/// SUBACK (MQTT5 §3.9). A failure is written as 0x80 for 3.1.1 (`[MQTT3-3.9.3-2]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// The identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order (`[MQTT5-3.8.4-6]`).
    pub reasons: Vec<ReasonCode>,
    /// Not sent to 3.1.1 clients.
    pub properties: Option<Box<AckProperties>>,
}

/// UNSUBSCRIBE (MQTT5 §3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The identifier that UNSUBACK repeats.
    pub packet_id: PacketId,
    /// For the server's own use.
    pub user_properties: UserProperties,
    /// At least one (`[MQTT5-3.10.3-2]`).
    pub filters: Vec<Result<SubscriptionFilter, FilterError>>,
}

/// UNSUBACK (MQTT5 §3.11). 3.1.1 has neither reasons nor properties: they are not sent, and decoded as empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// The identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order (`[MQTT5-3.11.3-1]`).
    pub reasons: Vec<ReasonCode>,
    /// Not sent to 3.1.1 clients.
    pub properties: Option<Box<AckProperties>>,
}

/// DISCONNECT (MQTT5 §3.14). In 3.1.1 only a client sends it, and only to say that all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: ReasonCode,
    /// `None` when there are none.
    pub properties: Option<Box<DisconnectProperties>>,
}

impl Disconnect {
    /// A DISCONNECT with nothing but a reason code.
    #[must_use]
    pub const fn new(reason: ReasonCode) -> Self {
        Self { reason, properties: None }
    }
}

/// The properties of DISCONNECT (MQTT5 §3.14.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties {
    /// A new session expiry in seconds; from client to server only (`[MQTT5-3.14.2-2]`).
    pub session_expiry_secs: Option<u32>,
    /// For people who diagnose.
    pub reason_string: Option<Text>,
    /// For the receiver's own use.
    pub user_properties: UserProperties,
    /// Another server to use; from server to client only.
    pub server_reference: Option<Text>,
}

/// AUTH (MQTT5 §3.15); 5.0 only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue authentication or re-authenticate.
    pub reason: ReasonCode,
    /// Required with every reason but success (MQTT5 §3.15.2.2.2).
    pub auth_method: Option<Text>,
    /// Never without a method.
    pub auth_data: Option<Binary>,
    /// For people who diagnose.
    pub reason_string: Option<Text>,
    /// For the receiver's own use.
    pub user_properties: UserProperties,
}
