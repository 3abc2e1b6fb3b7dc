//! From packets to bytes.

mod body;
mod check;
mod properties;
pub(crate) mod sink;

use bytes::BytesMut;

use crate::basics::{PacketType, Version};
use crate::error::EncodeError;
use crate::packet::{Packet, Publish};
use sink::{Count, Sink};

pub(crate) use properties::{message_properties, receiver_properties};

/// The largest value of a variable byte integer, and so the longest body of a packet.
pub(crate) const VARINT_MAX: usize = 268_435_455;

/// Appends `packet` to `out`; on an error `out` is as before.
///
/// What a version cannot say about a packet that it does have is left out for 3.1.1: properties, reasons of acknowledgements,
/// options of subscriptions other than the QoS.
///
/// # Errors
/// The packet contradicts itself or the specification, does not exist in `version`, or is too long; see [`EncodeError`].
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    let body_len = body_len(packet, version)?;
    out.reserve(1 + crate::frame::varint_len(body_len) + body_len);
    out.u8(first_byte(packet));
    out.varint(body_len);
    body::put(packet, version, out);
    Ok(())
}

/// The bytes that [`encode`] would append; 0 for a packet that cannot be encoded.
#[must_use]
pub fn encoded_len(packet: &Packet, version: Version) -> usize {
    body_len(packet, version).map_or(0, |body| 1 + crate::frame::varint_len(body) + body)
}

fn body_len(packet: &Packet, version: Version) -> Result<usize, EncodeError> {
    check::check(packet, version)?;
    let mut count = Count::default();
    body::put(packet, version, &mut count);
    if count.bytes() > VARINT_MAX {
        return Err(EncodeError::PacketTooLarge);
    }
    Ok(count.bytes())
}

fn first_byte(packet: &Packet) -> u8 {
    match packet {
        Packet::Publish(Publish { dup, retain, qos, .. }) => {
            publish_first_byte(*dup, *retain, qos.qos() as u8)
        }
        other => other.packet_type().first_byte(),
    }
}

pub(crate) const fn publish_first_byte(dup: bool, retain: bool, qos: u8) -> u8 {
    (PacketType::Publish as u8) << 4 | (dup as u8) << 3 | qos << 1 | retain as u8
}
