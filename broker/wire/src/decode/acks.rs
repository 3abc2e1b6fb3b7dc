//! The acknowledgements.

use crate::basics::{PacketType, Version};
use crate::error::DecodeErrorKind as Kind;
use crate::packet::{Ack, AckProperties, Packet, SubAck, UnsubAck};
use crate::property::{self, Key, Place, Value};
use crate::reader::{Reader, Step};
use crate::reason::{ReasonCode, Sender};

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
pub(super) fn publish_ack(
    packet: PacketType,
    reader: &mut Reader,
    version: Version,
    sender: Sender,
) -> Step<Packet> {
    let packet_id = reader.packet_id()?;
    let mut ack = Ack::success(packet_id);
    // MQTT5 §3.4.2.1: reason code and property length may be left out, from the end.
    if version == Version::V5 && !reader.is_empty() {
        ack.reason = reason(reader, packet, sender)?;
        if !reader.is_empty() {
            ack.properties = properties(reader, packet, sender)?;
        }
    }
    reader.finish()?;
    Ok(match packet {
        PacketType::PubRec => Packet::PubRec(ack),
        PacketType::PubRel => Packet::PubRel(ack),
        PacketType::PubComp => Packet::PubComp(ack),
        _ => Packet::PubAck(ack),
    })
}

pub(super) fn suback(reader: &mut Reader, version: Version) -> Step<SubAck> {
    let packet_id = reader.packet_id()?;
    let properties = match version {
        Version::V311 => None,
        Version::V5 => properties(reader, PacketType::SubAck, Sender::Server)?,
    };
    let mut reasons = Vec::new();
    while !reader.is_empty() {
        let reason = reason(reader, PacketType::SubAck, Sender::Server)?;
        // [MQTT3-3.9.3-2] 3.1.1 has three grants and one failure.
        if version == Version::V311 && reason.is_failure() && reason != ReasonCode::UnspecifiedError {
            return Err(Kind::Reason);
        }
        reasons.push(reason);
    }
    if reasons.is_empty() {
        return Err(Kind::NoReasons);
    }
    Ok(SubAck { packet_id, reasons, properties })
}

pub(super) fn unsuback(reader: &mut Reader, version: Version) -> Step<UnsubAck> {
    let packet_id = reader.packet_id()?;
    if version == Version::V311 {
        reader.finish()?;
        return Ok(UnsubAck { packet_id, reasons: Vec::new(), properties: None });
    }
    let properties = properties(reader, PacketType::UnsubAck, Sender::Server)?;
    let mut reasons = Vec::new();
    while !reader.is_empty() {
        reasons.push(reason(reader, PacketType::UnsubAck, Sender::Server)?);
    }
    if reasons.is_empty() {
        return Err(Kind::NoReasons);
    }
    Ok(UnsubAck { packet_id, reasons, properties })
}

/// One reason code that `sender` may use in `packet`.
pub(super) fn reason(reader: &mut Reader, packet: PacketType, sender: Sender) -> Step<ReasonCode> {
    ReasonCode::try_from(reader.u8()?)
        .ok()
        .filter(|reason| reason.allowed_in(packet, sender))
        .ok_or(Kind::Reason)
}

fn properties(reader: &mut Reader, packet: PacketType, sender: Sender) -> Step<Option<Box<AckProperties>>> {
    let mut found: Option<Box<AckProperties>> = None;
    property::read(reader, Place::Packet(packet), sender, |id, value| {
        let out = found.get_or_insert_default();
        match (id, value) {
            (Key::ReasonString, Value::Text(text)) => out.reason_string = Some(text),
            (Key::UserProperty, Value::Pair(name, value)) => out.user_properties.push((name, value)),
            _ => return Err(Kind::PropertyNotAllowed),
        }
        Ok(())
    })?;
    Ok(found)
}
