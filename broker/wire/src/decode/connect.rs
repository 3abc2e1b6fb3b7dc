//! CONNECT and CONNACK.

use std::num::{NonZeroU16, NonZeroU32};

use crate::basics::{PacketType, QoS, Version};
use crate::decode::acks::reason;
use crate::decode::publish::{self, topic_error};
use crate::error::{ConnectError, DecodeError, DecodeErrorKind as Kind};
use crate::frame::Frame;
use crate::names::{ClientId, TopicName};
use crate::packet::{ConnAck, ConnAckProperties, Connect, ConnectProperties, PublishProperties, Will};
use crate::property::{self, Key, Place, Value};
use crate::reader::{Reader, Step};
use crate::reason::{ReasonCode, Sender};

const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USERNAME: u8 = 0b1000_0000;

pub(super) fn connect(frame: Frame) -> Result<Connect, ConnectError> {
    let packet = frame.packet_type();
    let error = |kind, version| ConnectError::Malformed(DecodeError::new(kind, packet, version));
    if packet != Some(PacketType::Connect) {
        return Err(error(Kind::NotConnect, Version::V5));
    }
    let first_byte = frame.first_byte();
    let mut reader = Reader::new(frame.into_body());
    // Until the level is known the peer is taken for an old one, which is closed without a word.
    let (name, level) = name_and_level(&mut reader).map_err(|kind| error(kind, Version::V311))?;
    let version = match (name, level) {
        (Name::Mqtt, 4) => Version::V311,
        (Name::Mqtt, 5) => Version::V5,
        (Name::Mqtt | Name::MqIsdp, level) => {
            return Err(ConnectError::UnacceptableProtocolVersion { answer_as: answer_to(level) });
        }
    };
    if first_byte != PacketType::Connect.first_byte() {
        return Err(error(Kind::Flags, version));
    }
    let connect = body(&mut reader, version).map_err(|kind| error(kind, version))?;
    if version == Version::V311 && connect.client_id.is_none() && !connect.clean_start {
        return Err(ConnectError::IdentifierRejected);
    }
    Ok(connect)
}

enum Name {
    Mqtt,
    /// The name of MQTT 3.1.
    MqIsdp,
}

fn name_and_level(reader: &mut Reader) -> Step<(Name, u8)> {
    let name = match reader.field()?.as_ref() {
        b"MQTT" => Name::Mqtt,
        b"MQIsdp" => Name::MqIsdp,
        _ => return Err(Kind::ProtocolName),
    };
    Ok((name, reader.u8()?))
}

/// In which version to refuse `level`. Clients of 3.1 and bridges, which set the top bit of their level and try again without
/// it when refused, read the two-byte CONNACK of 3.1.1; whatever is newer or unknown gets 5.0.
const fn answer_to(level: u8) -> Version {
    match level & 0x7F {
        3 | 4 => Version::V311,
        _ => Version::V5,
    }
}

fn body(reader: &mut Reader, version: Version) -> Step<Connect> {
    let flags = reader.u8()?;
    let will_qos = check_flags(flags, version)?;
    let keep_alive_secs = reader.u16()?;
    let properties = match version {
        Version::V311 => ConnectProperties::default(),
        Version::V5 => connect_properties(reader)?,
    };
    let client_id = reader.text()?;
    let will = match will_qos {
        Some(qos) => Some(Box::new(will(reader, version, qos, flags & WILL_RETAIN != 0)?)),
        None => None,
    };
    let username = if flags & USERNAME != 0 { Some(reader.text()?) } else { None };
    let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
    reader.finish()?;
    Ok(Connect {
        version,
        clean_start: flags & CLEAN_START != 0,
        keep_alive_secs,
        client_id: ClientId::try_from(client_id).ok(),
        will,
        username,
        password,
        properties,
    })
}

/// The QoS of the will; `None` when there is no will.
fn check_flags(flags: u8, version: Version) -> Step<Option<QoS>> {
    if flags & RESERVED != 0 {
        return Err(Kind::ConnectReserved);
    }
    if version == Version::V311 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(Kind::PasswordWithoutUsername);
    }
    let will_qos = flags >> 3 & 0b11;
    if flags & WILL != 0 {
        return QoS::try_from(will_qos).map(Some).map_err(|_| Kind::WillQosThree);
    }
    if will_qos != 0 {
        return Err(Kind::WillQosWithoutWill);
    }
    if flags & WILL_RETAIN != 0 {
        return Err(Kind::WillRetainWithoutWill);
    }
    Ok(None)
}

fn connect_properties(reader: &mut Reader) -> Step<ConnectProperties> {
    let mut out = ConnectProperties::default();
    property::read(reader, Place::Packet(PacketType::Connect), Sender::Client, |id, value| {
        match (id, value) {
            (Key::SessionExpiry, Value::FourBytes(secs)) => out.session_expiry_secs = Some(secs),
            (Key::ReceiveMax, Value::TwoBytes(max)) => out.receive_max = NonZeroU16::new(max),
            (Key::MaximumPacketSize, Value::FourBytes(max)) => out.packet_bytes_max = NonZeroU32::new(max),
            (Key::TopicAliasMax, Value::TwoBytes(max)) => out.topic_alias_max = max,
            (Key::RequestResponseInfo, Value::Flag(flag)) => out.request_response_info = flag,
            (Key::RequestProblemInfo, Value::Flag(flag)) => out.request_problem_info = flag,
            (Key::UserProperty, Value::Pair(name, value)) => out.user_properties.push((name, value)),
            (Key::AuthMethod, Value::Text(text)) => out.auth_method = Some(text),
            (Key::AuthData, Value::Binary(data)) => out.auth_data = Some(data),
            _ => return Err(Kind::PropertyNotAllowed),
        }
        Ok(())
    })?;
    if out.auth_data.is_some() && out.auth_method.is_none() {
        return Err(Kind::AuthDataWithoutMethod);
    }
    Ok(out)
}

fn will(reader: &mut Reader, version: Version, qos: QoS, retain: bool) -> Step<Will> {
    let mut delay_secs = 0;
    let mut properties: Option<Box<PublishProperties>> = None;
    if version == Version::V5 {
        property::read(reader, Place::Will, Sender::Client, |id, value| match (id, value) {
            (Key::WillDelay, Value::FourBytes(secs)) => {
                delay_secs = secs;
                Ok(())
            }
            (id, value) => publish::set(properties.get_or_insert_default(), id, value),
        })?;
    }
    let topic = TopicName::try_from(reader.field()?).map_err(|error| topic_error(error, Kind::WillTopic))?;
    let payload = reader.field()?;
    Ok(Will { topic, payload, qos, retain, delay_secs, properties })
}

pub(super) fn connack(reader: &mut Reader, version: Version) -> Step<ConnAck> {
    let flags = reader.u8()?;
    if flags > 1 {
        return Err(Kind::AckFlags);
    }
    let session_present = flags == 1;
    let (reason, properties) = match version {
        Version::V311 => (return_code(reader.u8()?)?, Box::default()),
        Version::V5 => (reason(reader, PacketType::ConnAck, Sender::Server)?, connack_properties(reader)?),
    };
    reader.finish()?;
    if session_present && reason != ReasonCode::Success {
        return Err(Kind::SessionPresent);
    }
    Ok(ConnAck { session_present, reason, properties })
}

/// The return codes of 3.1.1 (MQTT3 §3.2.2.3).
const fn return_code(code: u8) -> Step<ReasonCode> {
    Ok(match code {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        5 => ReasonCode::NotAuthorized,
        _ => return Err(Kind::Reason),
    })
}

fn connack_properties(reader: &mut Reader) -> Step<Box<ConnAckProperties>> {
    let mut out = Box::<ConnAckProperties>::default();
    property::read(reader, Place::Packet(PacketType::ConnAck), Sender::Server, |id, value| {
        match (id, value) {
            (Key::SessionExpiry, Value::FourBytes(secs)) => out.session_expiry_secs = Some(secs),
            (Key::ReceiveMax, Value::TwoBytes(max)) => out.receive_max = NonZeroU16::new(max),
            (Key::MaximumQos, Value::Flag(one)) => {
                out.qos_max = if one { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            }
            (Key::RetainAvailable, Value::Flag(flag)) => out.retain_available = flag,
            (Key::MaximumPacketSize, Value::FourBytes(max)) => out.packet_bytes_max = NonZeroU32::new(max),
            (Key::AssignedClientId, Value::Text(text)) => {
                out.assigned_client_id = Some(ClientId::try_from(text).map_err(|_| Kind::PropertyValue)?);
            }
            (Key::TopicAliasMax, Value::TwoBytes(max)) => out.topic_alias_max = max,
            (Key::ReasonString, Value::Text(text)) => out.reason_string = Some(text),
            (Key::UserProperty, Value::Pair(name, value)) => out.user_properties.push((name, value)),
            (Key::WildcardAvailable, Value::Flag(flag)) => out.wildcard_available = flag,
            (Key::SubscriptionIdsAvailable, Value::Flag(flag)) => out.subscription_ids_available = flag,
            (Key::SharedAvailable, Value::Flag(flag)) => out.shared_available = flag,
            (Key::ServerKeepAlive, Value::TwoBytes(secs)) => out.server_keep_alive_secs = Some(secs),
            (Key::ResponseInformation, Value::Text(text)) => out.response_information = Some(text),
            (Key::ServerReference, Value::Text(text)) => out.server_reference = Some(text),
            (Key::AuthMethod, Value::Text(text)) => out.auth_method = Some(text),
            (Key::AuthData, Value::Binary(data)) => out.auth_data = Some(data),
            _ => return Err(Kind::PropertyNotAllowed),
        }
        Ok(())
    })?;
    if out.auth_data.is_some() && out.auth_method.is_none() {
        return Err(Kind::AuthDataWithoutMethod);
    }
    Ok(out)
}
