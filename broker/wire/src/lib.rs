//! MQTT 3.1.1 and 5.0 on the wire: bytes to packets and back, and the names that packets carry.
//!
//! The way in has two steps, and only the first can say "incomplete":
//!
//! 1. [`frame`] splits one whole packet off a read buffer. The total size is checked against the limit as soon as
//!    the fixed header is there, before any of the body has to be buffered.
//! 2. [`decode_connect`], [`decode_from_client`] or [`decode_from_server`] turn that [`Frame`] into a packet, and
//!    consume it exactly: a missing byte and a surplus byte are both errors.
//!
//! The way out is [`encode`], or for a message that many receivers get [`PublishTemplate`], whose bytes that do not
//! depend on the receiver are prepared once.
//!
//! Topic, payload and every other string or binary field of a decoded packet are slices of the read buffer
//! (no copy). A small slice therefore keeps the whole buffer alive: what is kept for long (a retained message, a
//! session's filters) should be `detached()` first.
//!
//! Errors carry a reason code for the peer, the clause of the specification, and a bounded label for metrics.
//! Clauses are cited as `MQTT5-3.1.2-4` (MQTT 5.0, numbered statement), `MQTT3-3.1.2-4` (MQTT 3.1.1), or with a
//! section sign where the specification states the rule without a number. The two versions use the same numbers for
//! different rules, so the version is always part of the name.
//!
//! This crate knows neither sockets nor time, and no input makes it panic.

mod basics;
mod decode;
mod encode;
mod error;
mod filter;
mod frame;
mod names;
mod packet;
mod property;
mod reader;
mod reason;
mod template;
mod text;

pub use basics::{PacketId, PacketType, QoS, QosId, Version};
pub use decode::{decode_connect, decode_from_client, decode_from_server};
pub use encode::{encode, encoded_len};
pub use error::{ConnectError, DecodeError, DecodeErrorKind, EncodeError, FrameError};
pub use filter::{FilterError, SubscriptionFilter, TopicFilter};
pub use frame::{Frame, PACKET_BYTES_MAX, frame, packet_len};
pub use names::{ClientId, NameError, TopicName};
pub use packet::{
    Ack, AckProperties, Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect,
    DisconnectProperties, Packet, PayloadFormat, Publish, PublishProperties, Requested, RetainHandling,
    SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe, UserProperties, Will,
};
pub use property::{USER_PROPERTIES_BYTES_MAX, USER_PROPERTIES_MAX};
pub use reason::ReasonCode;
pub use template::{Alias, Patch, PublishTemplate};
pub use text::{Binary, Text, TextError};
