//! Reading and writing the fields of a stored row.

use super::row::RowError;

/// The longest text or list of bytes in a field of its own, in bytes.
const FIELD_BYTES_MAX: usize = 65_535;

/// Appends fields.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// A number of things that is bounded far below 65536 where it comes from; what is beyond is cut off.
    pub(super) fn count(&mut self, value: usize) -> usize {
        let value = u16::try_from(value).unwrap_or(u16::MAX);
        self.u16(value);
        usize::from(value)
    }

    /// Bytes with their length; the longest text of MQTT fits exactly.
    pub(super) fn field(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..bytes.len().min(FIELD_BYTES_MAX)).unwrap_or_default();
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Bytes with a length of four bytes. False: they are longer than that can say, and were not written.
    pub(super) fn long(&mut self, bytes: &[u8]) -> bool {
        let Ok(len) = u32::try_from(bytes.len()) else { return false };
        self.u32(len);
        self.raw(bytes);
        true
    }

    pub(super) fn option(&mut self, value: Option<u64>) {
        self.u8(u8::from(value.is_some()));
        self.u64(value.unwrap_or(0));
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields off the front. Never past the end, never a panic.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    pub(super) fn raw(&mut self, len: usize) -> Result<&'a [u8], RowError> {
        let end = self.at.checked_add(len).ok_or(RowError::Short)?;
        let taken = self.all.get(self.at..end).ok_or(RowError::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        self.raw(N)?.try_into().map_err(|_| RowError::Short)
    }

    pub(super) fn u8(&mut self) -> Result<u8, RowError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, RowError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, RowError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, RowError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn octets32(&mut self) -> Result<[u8; 32], RowError> {
        self.array()
    }

    pub(super) fn flag(&mut self) -> Result<bool, RowError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RowError::Value("a flag")),
        }
    }

    pub(super) fn field(&mut self) -> Result<&'a [u8], RowError> {
        let len = self.u16()?;
        self.raw(len.into())
    }

    pub(super) fn text(&mut self) -> Result<&'a str, RowError> {
        std::str::from_utf8(self.field()?).map_err(|_| RowError::Value("a text"))
    }

    pub(super) fn option(&mut self) -> Result<Option<u64>, RowError> {
        let there = self.flag()?;
        let value = self.u64()?;
        Ok(there.then_some(value))
    }

    /// Bytes with a length of four bytes.
    pub(super) fn long(&mut self) -> Result<&'a [u8], RowError> {
        let len = usize::try_from(self.u32()?).map_err(|_| RowError::Short)?;
        self.raw(len)
    }

    /// That nothing is left.
    pub(super) fn finish(&self) -> Result<(), RowError> {
        if self.at == self.all.len() { Ok(()) } else { Err(RowError::Long) }
    }
}
