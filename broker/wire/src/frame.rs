//! From a stream of bytes to whole packets.

use bytes::{Buf, Bytes, BytesMut};

use crate::basics::PacketType;
use crate::error::FrameError;

/// The longest packet that MQTT can express, in bytes: 1 byte of type and flags, 4 bytes of length, 268 435 455 bytes of body.
pub const PACKET_BYTES_MAX: u32 = 268_435_460;

/// One whole packet, not yet looked into: the first byte and exactly the bytes that its length announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    first_byte: u8,
    body: Bytes,
}

impl Frame {
    /// A frame from its parts.
    #[must_use]
    pub const fn new(first_byte: u8, body: Bytes) -> Self {
        Self { first_byte, body }
    }

    /// The type; `None` for the reserved type 0.
    #[must_use]
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::of(self.first_byte)
    }

    /// Type and flags.
    #[must_use]
    pub const fn first_byte(&self) -> u8 {
        self.first_byte
    }

    /// What follows the fixed header.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The bytes that the packet took on the wire, fixed header included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        1 + varint_len(self.body.len()) + self.body.len()
    }

    pub(crate) fn into_body(self) -> Bytes {
        self.body
    }
}

/// How many bytes a variable byte integer takes; the value is at most 268 435 455.
pub(crate) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Splits one whole packet off the front of `buf`; `Ok(None)` when more bytes are needed, and then `buf` is untouched.
///
/// `packet_bytes_max` counts the whole packet, fixed header included, and is compared as soon as the fixed header is there:
/// a packet that is too large is refused before its body arrives, and nothing is reserved on the word of the peer. So a
/// reader never has to hold more than `packet_bytes_max` bytes.
///
/// # Errors
/// The remaining length is longer than four bytes, not minimally encoded, or the packet exceeds `packet_bytes_max`. The stream
/// cannot be resumed after any of these.
pub fn frame(buf: &mut BytesMut, packet_bytes_max: u32) -> Result<Option<Frame>, FrameError> {
    let Some((&first_byte, rest)) = buf.split_first() else { return Ok(None) };
    let Some((remaining, length_bytes)) = remaining_length(rest)? else { return Ok(None) };
    let header_bytes = 1 + length_bytes;
    let total = header_bytes + remaining;
    if total > packet_bytes_max as usize {
        return Err(FrameError::PacketTooLarge { bytes: total, bytes_max: packet_bytes_max });
    }
    if buf.len() < total {
        return Ok(None);
    }
    let mut whole = buf.split_to(total).freeze();
    whole.advance(header_bytes);
    Ok(Some(Frame { first_byte, body: whole }))
}

/// The bytes of the packet at the front of `buf`, fixed header included; `None` when its length is not whole, or is none.
#[must_use]
pub fn packet_len(buf: &[u8]) -> Option<usize> {
    let (_, rest) = buf.split_first()?;
    let (remaining, length_bytes) = remaining_length(rest).ok()??;
    Some(1 + length_bytes + remaining)
}

/// The value and the number of bytes of the remaining length; `None` when more bytes are needed.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            if byte == 0 && at > 0 {
                return Err(FrameError::LengthNotMinimal);
            }
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 { Err(FrameError::LengthTooLong) } else { Ok(None) }
}
