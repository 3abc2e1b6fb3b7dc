//! The properties of MQTT 5.0: one table says which exist, what they carry, where they may be and how often.

use crate::basics::PacketType;
use crate::error::DecodeErrorKind as Kind;
use crate::reader::{Reader, Step};
use crate::reason::Sender;
use crate::text::{Binary, Text};

/// The most user properties that a received packet may have. The specification sets no limit; without one, 256 KiB of empty
/// pairs would become over 3 MiB of memory.
pub const USER_PROPERTIES_MAX: usize = 64;

/// The most bytes of names and values that the user properties of a received packet may have together.
pub const USER_PROPERTIES_BYTES_MAX: usize = 8192;

/// Property identifiers (MQTT5 §2.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Key {
    PayloadFormat = 0x01,
    MessageExpiry = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionId = 0x0B,
    SessionExpiry = 0x11,
    AssignedClientId = 0x12,
    ServerKeepAlive = 0x13,
    AuthMethod = 0x15,
    AuthData = 0x16,
    RequestProblemInfo = 0x17,
    WillDelay = 0x18,
    RequestResponseInfo = 0x19,
    ResponseInformation = 0x1A,
    ServerReference = 0x1C,
    ReasonString = 0x1F,
    ReceiveMax = 0x21,
    TopicAliasMax = 0x22,
    TopicAlias = 0x23,
    MaximumQos = 0x24,
    RetainAvailable = 0x25,
    UserProperty = 0x26,
    MaximumPacketSize = 0x27,
    WildcardAvailable = 0x28,
    SubscriptionIdsAvailable = 0x29,
    SharedAvailable = 0x2A,
}

/// How a value is written, and which values there are.
#[derive(Clone, Copy)]
enum Form {
    /// One byte, 0 or 1.
    Flag,
    TwoBytes,
    /// Two bytes, not 0.
    TwoBytesNonZero,
    FourBytes,
    FourBytesNonZero,
    VarintNonZero,
    Text,
    Binary,
    Pair,
}

/// A property's value as read.
pub(crate) enum Value {
    Flag(bool),
    TwoBytes(u16),
    FourBytes(u32),
    Varint(u32),
    Text(Text),
    Binary(Binary),
    Pair(Text, Text),
}

/// A place that holds properties: a packet, or the will inside CONNECT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Packet(PacketType),
    Will,
}

impl Place {
    /// Bit 0 is the will, bits 1 to 15 are the packet types.
    const fn bit(self) -> u16 {
        match self {
            Self::Will => 1,
            Self::Packet(packet) => 1 << packet as u8,
        }
    }
}

#[derive(Clone, Copy)]
struct Rule {
    id: Key,
    form: Form,
    /// Places where a client may send it.
    by_client: u16,
    /// Places where a server may send it.
    by_server: u16,
    /// Places where it may be there more than once.
    many: u16,
}

const fn places(packets: &[PacketType]) -> u16 {
    let mut bits = 0;
    let mut at = 0;
    while at < packets.len() {
        bits |= Place::Packet(packets[at]).bit();
        at += 1;
    }
    bits
}

/// A property that may be there once, wherever it is allowed.
const fn once(id: Key, form: Form, by_client: u16, by_server: u16) -> Rule {
    Rule { id, form, by_client, by_server, many: 0 }
}

const WILL: u16 = Place::Will.bit();
const NOWHERE: u16 = 0;
const CONNECT: u16 = places(&[PacketType::Connect]);
const CONNACK: u16 = places(&[PacketType::ConnAck]);
const PUBLISH: u16 = places(&[PacketType::Publish]);
const SUBSCRIBE: u16 = places(&[PacketType::Subscribe]);
const DISCONNECT: u16 = places(&[PacketType::Disconnect]);
const AUTH: u16 = places(&[PacketType::Auth]);
const PUBLISH_ACKS: u16 =
    places(&[PacketType::PubAck, PacketType::PubRec, PacketType::PubRel, PacketType::PubComp]);
const SUBSCRIBE_ACKS: u16 = places(&[PacketType::SubAck, PacketType::UnsubAck]);
const UNSUBSCRIBE: u16 = places(&[PacketType::Unsubscribe]);
const USER_BY_CLIENT: u16 =
    CONNECT | WILL | PUBLISH | PUBLISH_ACKS | SUBSCRIBE | UNSUBSCRIBE | DISCONNECT | AUTH;
const USER_BY_SERVER: u16 = CONNACK | PUBLISH | PUBLISH_ACKS | SUBSCRIBE_ACKS | DISCONNECT | AUTH;

/// Table 2-4 of the specification, with the direction where one side alone may send a property.
const RULES: [Rule; 27] = [
    once(Key::PayloadFormat, Form::Flag, PUBLISH | WILL, PUBLISH),
    once(Key::MessageExpiry, Form::FourBytes, PUBLISH | WILL, PUBLISH),
    once(Key::ContentType, Form::Text, PUBLISH | WILL, PUBLISH),
    once(Key::ResponseTopic, Form::Text, PUBLISH | WILL, PUBLISH),
    once(Key::CorrelationData, Form::Binary, PUBLISH | WILL, PUBLISH),
    // [MQTT5-3.3.4-6] not in a PUBLISH from a client; a server sends one for each subscription that matched.
    Rule {
        id: Key::SubscriptionId,
        form: Form::VarintNonZero,
        by_client: SUBSCRIBE,
        by_server: PUBLISH,
        many: PUBLISH,
    },
    // [MQTT5-3.14.2-2] not in a DISCONNECT from a server.
    once(Key::SessionExpiry, Form::FourBytes, CONNECT | DISCONNECT, CONNACK),
    once(Key::AssignedClientId, Form::Text, NOWHERE, CONNACK),
    once(Key::ServerKeepAlive, Form::TwoBytes, NOWHERE, CONNACK),
    once(Key::AuthMethod, Form::Text, CONNECT | AUTH, CONNACK | AUTH),
    once(Key::AuthData, Form::Binary, CONNECT | AUTH, CONNACK | AUTH),
    once(Key::RequestProblemInfo, Form::Flag, CONNECT, NOWHERE),
    once(Key::WillDelay, Form::FourBytes, WILL, NOWHERE),
    once(Key::RequestResponseInfo, Form::Flag, CONNECT, NOWHERE),
    once(Key::ResponseInformation, Form::Text, NOWHERE, CONNACK),
    once(Key::ServerReference, Form::Text, NOWHERE, CONNACK | DISCONNECT),
    once(
        Key::ReasonString,
        Form::Text,
        PUBLISH_ACKS | DISCONNECT | AUTH,
        CONNACK | PUBLISH_ACKS | SUBSCRIBE_ACKS | DISCONNECT | AUTH,
    ),
    once(Key::ReceiveMax, Form::TwoBytesNonZero, CONNECT, CONNACK),
    once(Key::TopicAliasMax, Form::TwoBytes, CONNECT, CONNACK),
    once(Key::TopicAlias, Form::TwoBytesNonZero, PUBLISH, PUBLISH),
    once(Key::MaximumQos, Form::Flag, NOWHERE, CONNACK),
    once(Key::RetainAvailable, Form::Flag, NOWHERE, CONNACK),
    Rule {
        id: Key::UserProperty,
        form: Form::Pair,
        by_client: USER_BY_CLIENT,
        by_server: USER_BY_SERVER,
        many: USER_BY_CLIENT | USER_BY_SERVER,
    },
    once(Key::MaximumPacketSize, Form::FourBytesNonZero, CONNECT, CONNACK),
    once(Key::WildcardAvailable, Form::Flag, NOWHERE, CONNACK),
    once(Key::SubscriptionIdsAvailable, Form::Flag, NOWHERE, CONNACK),
    once(Key::SharedAvailable, Form::Flag, NOWHERE, CONNACK),
];

/// [`RULES`] by identifier.
const BY_ID: [Option<Rule>; 0x2B] = {
    let mut table = [None; 0x2B];
    let mut at = 0;
    while at < RULES.len() {
        table[RULES[at].id as usize] = Some(RULES[at]);
        at += 1;
    }
    table
};

/// Reads a property length and the properties behind it, and hands each to `set`.
///
/// `set` sees only what the table allows in this place; it may still refuse a value.
pub(crate) fn read(
    reader: &mut Reader,
    place: Place,
    sender: Sender,
    mut set: impl FnMut(Key, Value) -> Step<()>,
) -> Step<()> {
    let length = reader.varint()?;
    if length == 0 {
        return Ok(());
    }
    let mut properties = Reader::new(reader.bytes(length as usize)?);
    let mut seen = 0_u64;
    let mut user = UserBudget::default();
    while !properties.is_empty() {
        let id = properties.varint()?;
        let rule = usize::try_from(id)
            .ok()
            .and_then(|id| BY_ID.get(id).copied().flatten())
            .ok_or(Kind::PropertyUnknown)?;
        let (allowed, by_other_side) = match sender {
            Sender::Client => (rule.by_client, rule.by_server),
            Sender::Server => (rule.by_server, rule.by_client),
        };
        if allowed & place.bit() == 0 {
            let other = by_other_side & place.bit() != 0;
            return Err(if other { Kind::PropertyWrongSide } else { Kind::PropertyNotAllowed });
        }
        if rule.many & place.bit() == 0 {
            let bit = 1 << rule.id as u8;
            if seen & bit != 0 {
                return Err(Kind::PropertyTwice);
            }
            seen |= bit;
        }
        let value = value(&mut properties, rule)?;
        if let Value::Pair(name, text) = &value {
            user.spend(name.len() + text.len())?;
        }
        set(rule.id, value)?;
    }
    Ok(())
}

fn value(reader: &mut Reader, rule: Rule) -> Step<Value> {
    let out_of_range =
        if rule.id as u8 == Key::TopicAlias as u8 { Kind::TopicAliasZero } else { Kind::PropertyValue };
    Ok(match rule.form {
        Form::Flag => match reader.u8()? {
            0 => Value::Flag(false),
            1 => Value::Flag(true),
            _ => return Err(out_of_range),
        },
        Form::TwoBytes => Value::TwoBytes(reader.u16()?),
        Form::TwoBytesNonZero => match reader.u16()? {
            0 => return Err(out_of_range),
            value => Value::TwoBytes(value),
        },
        Form::FourBytes => Value::FourBytes(reader.u32()?),
        Form::FourBytesNonZero => match reader.u32()? {
            0 => return Err(out_of_range),
            value => Value::FourBytes(value),
        },
        Form::VarintNonZero => match reader.varint()? {
            0 => return Err(out_of_range),
            value => Value::Varint(value),
        },
        Form::Text => Value::Text(reader.text()?),
        Form::Binary => Value::Binary(reader.binary()?),
        Form::Pair => Value::Pair(reader.text()?, reader.text()?),
    })
}

/// What is left of the bounds on user properties in one packet.
struct UserBudget {
    count: usize,
    bytes: usize,
}

impl Default for UserBudget {
    fn default() -> Self {
        Self { count: USER_PROPERTIES_MAX, bytes: USER_PROPERTIES_BYTES_MAX }
    }
}

impl UserBudget {
    fn spend(&mut self, bytes: usize) -> Step<()> {
        self.count = self.count.checked_sub(1).ok_or(Kind::UserProperties)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Kind::UserProperties)?;
        Ok(())
    }
}
