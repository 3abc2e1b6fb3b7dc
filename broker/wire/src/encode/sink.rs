//! Where encoded bytes go. Lengths are counted by the same code that writes, so the two cannot disagree.

use bytes::{BufMut, BytesMut};

use crate::frame::varint_len;

/// Takes bytes in order.
pub(crate) trait Sink {
    fn slice(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.slice(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.slice(&value.to_be_bytes());
    }

    /// A variable byte integer; the caller keeps to [`super::VARINT_MAX`].
    fn varint(&mut self, value: usize) {
        let mut rest = value;
        loop {
            let byte = (rest & 0x7F) as u8;
            rest >>= 7;
            if rest == 0 {
                return self.u8(byte);
            }
            self.u8(byte | 0x80);
        }
    }

    /// A two-byte length and the bytes. Every caller has at most 65535 bytes: by type, or by the check before.
    fn field(&mut self, bytes: &[u8]) {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.slice(bytes);
    }
}

impl Sink for BytesMut {
    fn slice(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn u8(&mut self, value: u8) {
        self.put_u8(value);
    }
}

/// Only counts.
#[derive(Default)]
pub(crate) struct Count(usize);

impl Count {
    pub(crate) const fn bytes(&self) -> usize {
        self.0
    }
}

impl Sink for Count {
    fn slice(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }

    fn varint(&mut self, value: usize) {
        self.0 = self.0.saturating_add(varint_len(value));
    }
}
