//! Reading fields off the front of one packet's body. Every read checks the bounds; no read copies.

use bytes::{Buf, Bytes};

use crate::basics::PacketId;
use crate::error::DecodeErrorKind as Kind;
use crate::text::{Binary, Text, TextError};

/// The result of reading one thing; the kind becomes a [`crate::DecodeError`] where packet and version are known.
pub(crate) type Step<T> = Result<T, Kind>;

/// What is left of a packet's body.
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) const fn new(body: Bytes) -> Self {
        Self(body)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is left, as it is.
    pub(crate) fn rest(self) -> Bytes {
        self.0
    }

    /// Every packet is consumed exactly.
    pub(crate) fn finish(&self) -> Step<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Kind::Surplus) }
    }

    pub(crate) fn u8(&mut self) -> Step<u8> {
        self.0.try_get_u8().map_err(|_| Kind::Truncated)
    }

    pub(crate) fn u16(&mut self) -> Step<u16> {
        self.0.try_get_u16().map_err(|_| Kind::Truncated)
    }

    pub(crate) fn u32(&mut self) -> Step<u32> {
        self.0.try_get_u32().map_err(|_| Kind::Truncated)
    }

    /// A variable byte integer: at most four bytes (MQTT5 §1.5.5), in the fewest possible (`[MQTT5-1.5.5-1]`).
    pub(crate) fn varint(&mut self) -> Step<u32> {
        let mut value = 0;
        for at in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                return if byte == 0 && at > 0 { Err(Kind::VarintNotMinimal) } else { Ok(value) };
            }
        }
        Err(Kind::VarintTooLong)
    }

    pub(crate) fn packet_id(&mut self) -> Step<PacketId> {
        PacketId::new(self.u16()?).ok_or(Kind::PacketIdZero)
    }

    /// The next `count` bytes, sharing the buffer.
    pub(crate) fn bytes(&mut self, count: usize) -> Step<Bytes> {
        if count > self.0.len() {
            return Err(Kind::Truncated);
        }
        Ok(self.0.split_to(count))
    }

    /// A field with a two-byte length.
    pub(crate) fn field(&mut self) -> Step<Bytes> {
        let length = self.u16()?;
        self.bytes(length.into())
    }

    pub(crate) fn binary(&mut self) -> Step<Binary> {
        Binary::try_from(self.field()?).map_err(text_error)
    }

    pub(crate) fn text(&mut self) -> Step<Text> {
        Text::try_from(self.field()?).map_err(text_error)
    }
}

pub(crate) const fn text_error(error: TextError) -> Kind {
    match error {
        TextError::NotUtf8 => Kind::NotUtf8,
        TextError::Nul => Kind::Nul,
        TextError::Control => Kind::Control,
        // A two-byte length announces no more; kept total rather than unreachable.
        TextError::TooLong => Kind::Surplus,
    }
}
