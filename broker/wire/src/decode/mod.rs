//! From frames to packets: what each side may send, and nothing else.

mod acks;
mod connect;
mod publish;
mod session;
mod subscribe;

use crate::basics::{PacketType, Version};
use crate::error::{ConnectError, DecodeError, DecodeErrorKind as Kind};
use crate::frame::Frame;
use crate::packet::{Connect, Packet};
use crate::reader::{Reader, Step};
use crate::reason::Sender;

/// Decodes the first packet of a connection. Protocol name and level are read before anything else, so that a client of another
/// version gets an answer that it understands.
///
/// # Errors
/// - The level is not 4 or 5: [`ConnectError::UnacceptableProtocolVersion`].
/// - 3.1.1, no client identifier, no clean session: [`ConnectError::IdentifierRejected`].
/// - Anything else that the specification does not allow, or not a CONNECT: [`ConnectError::Malformed`].
pub fn decode_connect(frame: Frame) -> Result<Connect, ConnectError> {
    connect::connect(frame)
}

/// Decodes a packet that a client sent on a connection whose CONNECT is done.
///
/// # Errors
/// Everything that the specification does not allow a client to send, a second CONNECT included
/// ([`Kind::SecondConnect`](crate::DecodeErrorKind::SecondConnect)). Only an impossible filter in SUBSCRIBE or UNSUBSCRIBE is
/// left to its own reason code.
pub fn decode_from_client(frame: Frame, version: Version) -> Result<Packet, DecodeError> {
    let packet = frame.packet_type();
    let error = |kind| DecodeError::new(kind, packet, version);
    let packet_type = checked_type(&frame, version).map_err(error)?;
    let first_byte = frame.first_byte();
    let mut reader = Reader::new(frame.into_body());
    let sender = Sender::Client;
    match packet_type {
        PacketType::Publish => publish::publish(first_byte, reader, version, sender).map(Packet::Publish),
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            acks::publish_ack(packet_type, &mut reader, version, sender)
        }
        PacketType::Subscribe => {
            subscribe::subscribe(&mut reader, version).map(|it| Packet::Subscribe(Box::new(it)))
        }
        PacketType::Unsubscribe => {
            subscribe::unsubscribe(&mut reader, version).map(|it| Packet::Unsubscribe(Box::new(it)))
        }
        PacketType::PingReq => reader.finish().map(|()| Packet::PingReq),
        PacketType::Disconnect => session::disconnect(&mut reader, version, sender).map(Packet::Disconnect),
        PacketType::Auth => session::auth(&mut reader, sender).map(|it| Packet::Auth(Box::new(it))),
        PacketType::Connect => Err(Kind::SecondConnect),
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            Err(Kind::ServerOnly)
        }
    }
    .map_err(error)
}

/// Decodes a packet that a server sent: for clients, and for tests of this broker.
///
/// # Errors
/// Everything that the specification does not allow a server to send.
pub fn decode_from_server(frame: Frame, version: Version) -> Result<Packet, DecodeError> {
    let packet = frame.packet_type();
    let error = |kind| DecodeError::new(kind, packet, version);
    let packet_type = checked_type(&frame, version).map_err(error)?;
    let first_byte = frame.first_byte();
    let mut reader = Reader::new(frame.into_body());
    let sender = Sender::Server;
    match packet_type {
        PacketType::ConnAck => connect::connack(&mut reader, version).map(|it| Packet::ConnAck(Box::new(it))),
        PacketType::Publish => publish::publish(first_byte, reader, version, sender).map(Packet::Publish),
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            acks::publish_ack(packet_type, &mut reader, version, sender)
        }
        PacketType::SubAck => acks::suback(&mut reader, version).map(|it| Packet::SubAck(Box::new(it))),
        PacketType::UnsubAck => acks::unsuback(&mut reader, version).map(|it| Packet::UnsubAck(Box::new(it))),
        PacketType::PingResp => reader.finish().map(|()| Packet::PingResp),
        // MQTT3 §3.14: in 3.1.1 only a client disconnects.
        PacketType::Disconnect if version == Version::V311 => Err(Kind::ClientOnly),
        PacketType::Disconnect => session::disconnect(&mut reader, version, sender).map(Packet::Disconnect),
        PacketType::Auth => session::auth(&mut reader, sender).map(|it| Packet::Auth(Box::new(it))),
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => {
            Err(Kind::ClientOnly)
        }
    }
    .map_err(error)
}

/// The type, when this version has it and the flags are the ones of that type.
fn checked_type(frame: &Frame, version: Version) -> Step<PacketType> {
    let packet_type = frame.packet_type().ok_or(Kind::ReservedType)?;
    if packet_type == PacketType::Auth && version == Version::V311 {
        return Err(Kind::ReservedType);
    }
    if packet_type != PacketType::Publish && frame.first_byte() != packet_type.first_byte() {
        return Err(Kind::Flags);
    }
    Ok(packet_type)
}
