//! Packets from the broker, read strictly and without `signet-wire`.
//!
//! A byte that the specification does not allow in this place panics with a sentence: the test fails there and not
//! three steps later. 3.1.1 packets are read a second time with `mqttbytes` (v4), which must agree.

use crate::build::{Version, id};
use bytes::BytesMut;
use mqttbytes::v4;

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One, two or four bytes, or a variable byte integer.
    Number(u32),
    /// A string or binary data.
    Bytes(Vec<u8>),
    /// A user property.
    Pair(String, String),
}

/// The properties of one packet, in the order of the bytes; empty in 3.1.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(u8, Value)>);

impl Properties {
    /// The number that `id` carries, if it is there.
    #[must_use]
    pub fn number(&self, id: u8) -> Option<u32> {
        self.0.iter().find_map(|(i, v)| match v {
            Value::Number(n) if *i == id => Some(*n),
            _ => None,
        })
    }

    /// Every number that `id` carries (subscription identifiers), sorted.
    #[must_use]
    pub fn numbers(&self, id: u8) -> Vec<u32> {
        let mut all: Vec<u32> = self
            .0
            .iter()
            .filter_map(|(i, v)| match v {
                Value::Number(n) if *i == id => Some(*n),
                _ => None,
            })
            .collect();
        all.sort_unstable();
        all
    }

    /// The bytes that `id` carries, if it is there.
    #[must_use]
    pub fn bytes(&self, id: u8) -> Option<&[u8]> {
        self.0.iter().find_map(|(i, v)| match v {
            Value::Bytes(b) if *i == id => Some(b.as_slice()),
            _ => None,
        })
    }

    /// The string that `id` carries, if it is there.
    #[must_use]
    pub fn text(&self, id: u8) -> Option<&str> {
        self.bytes(id).map(|b| std::str::from_utf8(b).expect("a property string is UTF-8"))
    }

    /// The user properties, in order.
    #[must_use]
    pub fn user(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .filter_map(|(_, v)| match v {
                Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
                _ => None,
            })
            .collect()
    }

    /// Whether `id` is there.
    #[must_use]
    pub fn has(&self, id: u8) -> bool {
        self.0.iter().any(|(i, _)| *i == id)
    }

    /// Whether there is no property.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A PUBLISH from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The DUP flag.
    pub dup: bool,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// The topic name; empty only behind a topic alias.
    pub topic: String,
    /// The packet identifier; 0 in QoS 0.
    pub packet_id: u16,
    /// The properties.
    pub props: Properties,
    /// The application message.
    pub payload: Vec<u8>,
    /// The size of the whole packet in bytes, fixed header included.
    pub size: usize,
}

/// An acknowledgement from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// The packet identifier.
    pub packet_id: u16,
    /// The reason code; 0 in 3.1.1.
    pub code: u8,
    /// The properties.
    pub props: Properties,
}

/// A packet that the broker sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum Received {
    ConnAck { session_present: bool, code: u8, props: Properties, size: usize },
    Publish(Published),
    PubAck(Acked),
    PubRec(Acked),
    PubRel(Acked),
    PubComp(Acked),
    SubAck { packet_id: u16, codes: Vec<u8>, props: Properties },
    UnsubAck { packet_id: u16, codes: Vec<u8>, props: Properties },
    PingResp,
    Disconnect { code: u8, props: Properties },
    Auth { code: u8, props: Properties },
}

/// Takes one packet from the front of `stream`; `None` when it is not complete.
#[must_use]
pub fn take(stream: &mut Vec<u8>, version: Version) -> Option<Received> {
    let (length, header) = remaining_length(stream)?;
    let size = header + length;
    if stream.len() < size {
        return None;
    }
    let bytes: Vec<u8> = stream.drain(..size).collect();
    let received = parse(bytes[0], &bytes[header..], size, version);
    if version == Version::V311 {
        agree_with_mqttbytes(&bytes, &received);
    }
    Some(received)
}

fn remaining_length(stream: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in stream.iter().skip(1).enumerate() {
        assert!(index < 4, "a remaining length of more than four bytes: {stream:02x?}");
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            assert!(index == 0 || *byte != 0, "a remaining length in more bytes than needed: {stream:02x?}");
            return Some((value, index + 2));
        }
    }
    None
}

fn parse(first: u8, body: &[u8], size: usize, version: Version) -> Received {
    let v5 = version == Version::V5;
    let mut r = Reader { body, at: 0, v5 };
    if first >> 4 != 3 {
        let expected = if first >> 4 == 6 { 2 } else { 0 };
        assert_eq!(first & 0x0f, expected, "reserved flags of {first:#04x}");
    }
    let received = match first >> 4 {
        2 => {
            let flags = r.u8();
            assert_eq!(flags & 0xfe, 0, "[MQTT5-3.2.2-1] reserved acknowledge flags {flags:#04x}");
            let code = r.u8();
            let props = if v5 { r.properties(CONNACK) } else { Properties::default() };
            Received::ConnAck { session_present: flags == 1, code, props, size }
        }
        3 => Received::Publish(r.publish(first, size)),
        4 => Received::PubAck(r.ack(&[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])),
        5 => Received::PubRec(r.ack(&[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])),
        6 => Received::PubRel(r.ack(&[0x00, 0x92])),
        7 => Received::PubComp(r.ack(&[0x00, 0x92])),
        9 => {
            let (packet_id, codes, props) = r.sub_ack();
            let granted: &[u8] = if v5 {
                &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]
            } else {
                &[0, 1, 2, 0x80]
            };
            assert!(codes.iter().all(|c| granted.contains(c)), "a SUBACK must not carry {codes:02x?}");
            Received::SubAck { packet_id, codes, props }
        }
        11 => {
            let (packet_id, codes, props) = r.sub_ack();
            assert!(v5 || codes.is_empty(), "a 3.1.1 UNSUBACK has no payload");
            let allowed = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
            assert!(codes.iter().all(|c| allowed.contains(c)), "an UNSUBACK must not carry {codes:02x?}");
            Received::UnsubAck { packet_id, codes, props }
        }
        13 => Received::PingResp,
        14 if v5 => {
            let (code, props) = r.code_and_properties(DISCONNECT);
            assert!(SERVER_DISCONNECT.contains(&code), "a server must not send DISCONNECT {code:#04x}");
            Received::Disconnect { code, props }
        }
        15 if v5 => {
            let (code, props) = r.code_and_properties(AUTH);
            Received::Auth { code, props }
        }
        _ => panic!("a server of this version must not send {first:#04x} {body:02x?}"),
    };
    assert_eq!(r.at, body.len(), "surplus bytes behind {received:?}");
    received
}

/// The reason codes that DISCONNECT can carry from a server (table 3-10 of 5.0).
const SERVER_DISCONNECT: [u8; 28] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
    0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];

const CONNACK: &[u8] = &[
    id::SESSION_EXPIRY,
    id::RECEIVE_MAXIMUM,
    id::MAXIMUM_QOS,
    id::RETAIN_AVAILABLE,
    id::MAXIMUM_PACKET_SIZE,
    id::ASSIGNED_CLIENT_ID,
    id::TOPIC_ALIAS_MAXIMUM,
    id::REASON_STRING,
    id::USER_PROPERTY,
    id::WILDCARD_AVAILABLE,
    id::SUBSCRIPTION_IDS_AVAILABLE,
    id::SHARED_AVAILABLE,
    id::SERVER_KEEP_ALIVE,
    id::RESPONSE_INFORMATION,
    id::SERVER_REFERENCE,
    id::AUTH_METHOD,
    id::AUTH_DATA,
];
const PUBLISH: &[u8] = &[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::TOPIC_ALIAS,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::USER_PROPERTY,
    id::SUBSCRIPTION_ID,
    id::CONTENT_TYPE,
];
const ACK: &[u8] = &[id::REASON_STRING, id::USER_PROPERTY];
/// A server's DISCONNECT carries no Session Expiry Interval [MQTT5-3.14.2-2].
const DISCONNECT: &[u8] = &[id::REASON_STRING, id::USER_PROPERTY, id::SERVER_REFERENCE];
const AUTH: &[u8] = &[id::AUTH_METHOD, id::AUTH_DATA, id::REASON_STRING, id::USER_PROPERTY];

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    v5: bool,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Vec<u8> {
        let end = self.at + length;
        assert!(end <= self.body.len(), "the packet ends too early: {:02x?}", self.body);
        let taken = self.body[self.at..end].to_vec();
        self.at = end;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    fn packet_id(&mut self) -> u16 {
        let packet_id = self.u16();
        assert_ne!(packet_id, 0, "[MQTT5-2.2.1-4] a packet identifier of 0");
        packet_id
    }

    fn prefixed(&mut self) -> Vec<u8> {
        let length = self.u16();
        self.take(usize::from(length))
    }

    fn string(&mut self) -> String {
        let text = String::from_utf8(self.prefixed()).expect("[MQTT5-1.5.4-1] strings are UTF-8");
        assert!(!text.contains('\0'), "[MQTT5-1.5.4-2] U+0000 in {text:?}");
        text
    }

    fn varint(&mut self) -> u32 {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.u8();
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                assert!(index == 0 || byte != 0, "[MQTT5-1.5.5-1] more bytes than needed");
                return value;
            }
        }
        panic!("a variable byte integer of more than four bytes")
    }

    fn rest(&mut self) -> Vec<u8> {
        self.take(self.body.len() - self.at)
    }

    fn at_end(&self) -> bool {
        self.at == self.body.len()
    }

    fn properties(&mut self, allowed: &[u8]) -> Properties {
        let length = self.varint() as usize;
        let end = self.at + length;
        let mut properties = Properties::default();
        while self.at < end {
            let id = self.u8();
            assert!(allowed.contains(&id), "property {id:#04x} is not allowed in this packet");
            let repeatable = id == id::USER_PROPERTY || id == id::SUBSCRIPTION_ID;
            assert!(repeatable || !properties.has(id), "property {id:#04x} twice");
            let value = self.value(id);
            properties.0.push((id, value));
        }
        assert_eq!(self.at, end, "the properties do not end at their length");
        properties
    }

    fn value(&mut self, property: u8) -> Value {
        match property {
            id::PAYLOAD_FORMAT
            | id::MAXIMUM_QOS
            | id::RETAIN_AVAILABLE
            | id::WILDCARD_AVAILABLE
            | id::SUBSCRIPTION_IDS_AVAILABLE
            | id::SHARED_AVAILABLE => {
                let value = self.u8();
                assert!(value <= 1, "property {property:#04x} is 0 or 1, not {value}");
                Value::Number(u32::from(value))
            }
            id::SERVER_KEEP_ALIVE | id::TOPIC_ALIAS_MAXIMUM => Value::Number(u32::from(self.u16())),
            id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS => {
                let value = self.u16();
                assert_ne!(value, 0, "property {property:#04x} must not be 0");
                Value::Number(u32::from(value))
            }
            id::MESSAGE_EXPIRY | id::SESSION_EXPIRY => Value::Number(self.u32()),
            id::MAXIMUM_PACKET_SIZE => {
                let value = self.u32();
                assert_ne!(value, 0, "a Maximum Packet Size of 0");
                Value::Number(value)
            }
            id::SUBSCRIPTION_ID => {
                let value = self.varint();
                assert_ne!(value, 0, "a Subscription Identifier of 0");
                Value::Number(value)
            }
            id::USER_PROPERTY => Value::Pair(self.string(), self.string()),
            id::CORRELATION_DATA | id::AUTH_DATA => Value::Bytes(self.prefixed()),
            _ => Value::Bytes(self.string().into_bytes()),
        }
    }

    fn publish(&mut self, first: u8, size: usize) -> Published {
        let qos = (first >> 1) & 3;
        assert_ne!(qos, 3, "[MQTT5-3.3.1-4] both QoS bits");
        let dup = first & 8 != 0;
        assert!(qos > 0 || !dup, "[MQTT5-3.3.1-2] DUP in QoS 0");
        let topic = self.string();
        assert!(!topic.contains(['+', '#']), "[MQTT5-3.3.2-2] a wildcard in {topic:?}");
        let packet_id = if qos > 0 { self.packet_id() } else { 0 };
        let props = if self.v5 { self.properties(PUBLISH) } else { Properties::default() };
        assert!(!topic.is_empty() || props.has(id::TOPIC_ALIAS), "an empty topic without an alias");
        Published { dup, qos, retain: first & 1 != 0, topic, packet_id, props, payload: self.rest(), size }
    }

    fn ack(&mut self, allowed: &[u8]) -> Acked {
        let packet_id = self.packet_id();
        let (code, props) = if self.v5 && !self.at_end() {
            self.code_and_properties(ACK)
        } else {
            (0, Properties::default())
        };
        assert!(allowed.contains(&code), "this acknowledgement must not carry {code:#04x}");
        Acked { packet_id, code, props }
    }

    fn code_and_properties(&mut self, allowed: &[u8]) -> (u8, Properties) {
        let code = if self.at_end() { 0 } else { self.u8() };
        let props = if self.at_end() { Properties::default() } else { self.properties(allowed) };
        (code, props)
    }

    fn sub_ack(&mut self) -> (u16, Vec<u8>, Properties) {
        let packet_id = self.packet_id();
        let props = if self.v5 { self.properties(ACK) } else { Properties::default() };
        (packet_id, self.rest(), props)
    }
}

fn agree_with_mqttbytes(bytes: &[u8], received: &Received) {
    let mut stream = BytesMut::from(bytes);
    let other = v4::read(&mut stream, usize::MAX).expect("mqttbytes reads what the broker sends");
    let agrees = match (&other, received) {
        (v4::Packet::ConnAck(o), Received::ConnAck { session_present, code, .. }) => {
            o.session_present == *session_present && o.code as u8 == *code
        }
        (v4::Packet::Publish(o), Received::Publish(p)) => {
            (o.dup, o.qos as u8, o.retain, o.pkid) == (p.dup, p.qos, p.retain, p.packet_id)
                && o.topic == p.topic
                && o.payload == p.payload
        }
        (v4::Packet::PubAck(o), Received::PubAck(a)) => o.pkid == a.packet_id,
        (v4::Packet::PubRec(o), Received::PubRec(a)) => o.pkid == a.packet_id,
        (v4::Packet::PubRel(o), Received::PubRel(a)) => o.pkid == a.packet_id,
        (v4::Packet::PubComp(o), Received::PubComp(a)) => o.pkid == a.packet_id,
        (v4::Packet::SubAck(o), Received::SubAck { packet_id, codes, .. }) => {
            let read: Vec<u8> = o
                .return_codes
                .iter()
                .map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => *qos as u8,
                    v4::SubscribeReasonCode::Failure => 0x80,
                })
                .collect();
            o.pkid == *packet_id && read == *codes
        }
        (v4::Packet::UnsubAck(o), Received::UnsubAck { packet_id, .. }) => o.pkid == *packet_id,
        (v4::Packet::PingResp, Received::PingResp) => true,
        _ => false,
    };
    assert!(agrees, "mqttbytes reads {other:?} where the tests read {received:?}");
}
