//! The credentials' flash region, in the NVS format of ESP-IDF.
//!
//! Every access mounts the region anew. They are few (a boot, a rotation), a mount repairs what a power cut left, and a
//! failure leaves nothing in memory that could be wrong.

use alloc::vec::Vec;
use core::fmt;

use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash};
use esp_nvs::platform::Crc;
use esp_nvs::{FLASH_SECTOR_SIZE, Get, Key, Nvs, Set};

const NAMESPACE: Key = Key::from_str("signet");
/// The header of a page, in bytes.
const HEADER_BYTES: usize = 32;

/// In what state the region was found at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreState {
    /// Erased: a new device.
    Blank,
    /// Ours.
    Ready,
    /// Something else is there. It is left as it is, and nothing is written: whose it is, a person knows.
    Foreign,
    /// Ours, and damaged so much that it cannot be mounted. It is left as it is: what can be saved, a person may save.
    Corrupt,
    /// It cannot be read or erased.
    Worn,
}

impl StoreState {
    /// Whether something is there that cannot be read.
    #[must_use]
    pub const fn is_unreadable(self) -> bool {
        matches!(self, Self::Foreign | Self::Corrupt)
    }

    /// Whether something can be kept there.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Blank | Self::Ready)
    }
}

/// The store could not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// The flash gave an error, or holds something else than was written.
    Worn,
    /// There is no room.
    Full,
    /// What is there cannot be understood.
    Corrupt,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worn => "the flash does not keep what is written to it",
            Self::Full => "the flash region of the credentials is full",
            Self::Corrupt => "the flash region of the credentials cannot be understood",
        })
    }
}

impl core::error::Error for StoreFault {}

fn fault(error: &esp_nvs::error::Error) -> StoreFault {
    use esp_nvs::error::Error;
    match error {
        Error::FlashError => StoreFault::Worn,
        Error::FlashFull | Error::PageFull => StoreFault::Full,
        _ => StoreFault::Corrupt,
    }
}

/// The flash with the checksum that NVS wants.
pub(crate) struct WithCrc<'a, F>(pub(crate) &'a mut F);

impl<F> Crc for WithCrc<'_, F> {
    fn crc32(init: u32, data: &[u8]) -> u32 {
        crc32(init, data)
    }
}

/// CRC-32 of IEEE 802.3 as zlib and the ROM of the chips count it. A mount computes one for each entry, so by table.
pub(crate) fn crc32(init: u32, data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut crc = at as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xedb8_8320 };
                bit += 1;
            }
            table[at] = crc;
            at += 1;
        }
        table
    };
    !data.iter().fold(!init, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

impl<F: ErrorType> ErrorType for WithCrc<'_, F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for WithCrc<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for WithCrc<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes)
    }
}

impl<F: NorFlash> MultiwriteNorFlash for WithCrc<'_, F> {}

/// A flash that lets nothing be written: the factory partition.
pub(crate) struct ReadOnly<'a, F>(pub(crate) &'a mut F);

/// Somebody tried to write what is never written.
#[derive(Debug)]
pub(crate) struct ReadOnlyError;

impl embedded_storage::nor_flash::NorFlashError for ReadOnlyError {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl<F> ErrorType for ReadOnly<'_, F> {
    type Error = ReadOnlyError;
}

impl<F: ReadNorFlash> ReadNorFlash for ReadOnly<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ReadOnlyError> {
        self.0.read(offset, bytes).map_err(|_| ReadOnlyError)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: ReadNorFlash> NorFlash for ReadOnly<'_, F> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = FLASH_SECTOR_SIZE;

    fn erase(&mut self, _: u32, _: u32) -> Result<(), ReadOnlyError> {
        Err(ReadOnlyError)
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), ReadOnlyError> {
        Err(ReadOnlyError)
    }
}

/// Mounts the region and does something with it.
pub(crate) fn mounted<F: NorFlash, R>(
    flash: &mut F,
    act: impl FnOnce(&mut Nvs<WithCrc<'_, F>>) -> Result<R, esp_nvs::error::Error>,
) -> Result<R, StoreFault> {
    let size = flash.capacity() / FLASH_SECTOR_SIZE * FLASH_SECTOR_SIZE;
    let mut nvs = Nvs::new(0, size, WithCrc(flash)).map_err(|error| fault(&error))?;
    act(&mut nvs).map_err(|error| fault(&error))
}

/// What was never written is no error.
pub(crate) fn found<R>(result: Result<R, esp_nvs::error::Error>) -> Result<Option<R>, esp_nvs::error::Error> {
    use esp_nvs::error::Error;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::KeyNotFound | Error::NamespaceNotFound) => Ok(None),
        // Another type under the name, or a value whose checksum is wrong: as good as never written.
        Err(Error::ItemTypeMismatch(_) | Error::CorruptedData) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What [`Store::read`] found: bytes and numbers, in the order of their names.
pub type Found<const B: usize, const N: usize> = ([Option<Vec<u8>>; B], [Option<u64>; N]);

/// The region.
pub struct Store<F> {
    flash: F,
}

impl<F: NorFlash> Store<F> {
    /// Looks at the region. Only what the device itself left unfinished is cleaned up; what it does not understand, it leaves
    /// alone.
    pub fn open(mut flash: F) -> (Self, StoreState) {
        let state = match look(&mut flash) {
            Err(_) => StoreState::Worn,
            Ok(Looks::Blank) => StoreState::Blank,
            Ok(Looks::Foreign) => StoreState::Foreign,
            Ok(Looks::Begun) => begin_again(&mut flash),
            Ok(Looks::Ours) => match mounted(&mut flash, |_| Ok(())) {
                Ok(()) => StoreState::Ready,
                Err(StoreFault::Worn) => StoreState::Worn,
                Err(StoreFault::Full | StoreFault::Corrupt) => StoreState::Corrupt,
            },
        };
        (Self { flash }, state)
    }

    /// The flash back.
    pub fn into_flash(self) -> F {
        self.flash
    }

    /// What is under some names, bytes and numbers, in one mount.
    ///
    /// # Errors
    ///
    /// The flash cannot be read.
    pub fn read<const B: usize, const N: usize>(
        &mut self,
        bytes: [&str; B],
        numbers: [&str; N],
    ) -> Result<Found<B, N>, StoreFault> {
        mounted(&mut self.flash, |nvs| {
            let mut found_bytes = [const { None }; B];
            for (place, key) in found_bytes.iter_mut().zip(bytes) {
                *place = found(nvs.get(&NAMESPACE, &Key::from_str(key)))?;
            }
            let mut found_numbers = [None; N];
            for (place, key) in found_numbers.iter_mut().zip(numbers) {
                *place = found(nvs.get(&NAMESPACE, &Key::from_str(key)))?;
            }
            Ok((found_bytes, found_numbers))
        })
    }

    /// Writes a value and reads it back: a worn cell keeps something else.
    fn set<'v, W, R>(&mut self, key: &str, value: W) -> Result<(), StoreFault>
    where
        W: Copy + PartialEq<R> + 'v,
        for<'a> Nvs<WithCrc<'a, F>>: Set<W> + Get<R>,
    {
        let key = Key::from_str(key);
        let kept = mounted(&mut self.flash, |nvs| {
            nvs.set(&NAMESPACE, &key, value)?;
            found(nvs.get::<R>(&NAMESPACE, &key))
        })?;
        kept.is_some_and(|kept| value == kept).then_some(()).ok_or(StoreFault::Worn)
    }

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// The flash is full or worn.
    pub fn set_bytes(&mut self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        self.set::<&[u8], Vec<u8>>(key, value)
    }

    /// Writes a number. It is one entry of NVS: after a power cut the old or the new one is there.
    ///
    /// # Errors
    ///
    /// The flash is full or worn.
    pub fn set_number(&mut self, key: &str, value: u64) -> Result<(), StoreFault> {
        self.set::<u64, u64>(key, value)
    }

    /// Deletes what is under `key` and overwrites what is left of deleted values, so that no old key stays readable.
    ///
    /// # Errors
    ///
    /// The flash is worn.
    pub fn delete(&mut self, key: &str) -> Result<(), StoreFault> {
        mounted(&mut self.flash, |nvs| {
            nvs.delete(&NAMESPACE, &Key::from_str(key))?;
            nvs.purge_all(&NAMESPACE)
        })
    }
}

/// What the region looks like before it is mounted.
#[derive(PartialEq, Eq)]
enum Looks {
    Blank,
    /// Blank but for the header of one page: a first start that was cut.
    Begun,
    Ours,
    Foreign,
}

/// NVS would take any page that it does not understand for a worn one and reuse it. That is right for one page among
/// others, and hides that a whole region is somebody else's.
fn look<F: NorFlash>(flash: &mut F) -> Result<Looks, F::Error> {
    let mut looks = Looks::Blank;
    for sector in 0..flash.capacity() / FLASH_SECTOR_SIZE {
        // A region of the flash is far below 4 GiB.
        let start = (sector * FLASH_SECTOR_SIZE) as u32;
        let mut header = [0; HEADER_BYTES];
        flash.read(start, &mut header)?;
        if is_page(&header) {
            return Ok(Looks::Ours);
        }
        looks = match looks {
            Looks::Blank if !is_blank(flash, start + HEADER_BYTES as u32, start)? => Looks::Foreign,
            Looks::Blank if header != [0xff; HEADER_BYTES] => Looks::Begun,
            Looks::Begun if header != [0xff; HEADER_BYTES] => Looks::Foreign,
            Looks::Begun if !is_blank(flash, start + HEADER_BYTES as u32, start)? => Looks::Foreign,
            looks => looks,
        };
    }
    Ok(looks)
}

/// Whether these are the header of an NVS page in use: one of three states, and the checksum of the rest.
fn is_page(header: &[u8; HEADER_BYTES]) -> bool {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let in_use = [0xffff_fffe, 0xffff_fffc, 0xffff_fff8].contains(&word(0));
    in_use && word(28) == crc32(u32::MAX, &header[4..28])
}

/// Whether the sector that begins at `start` is blank from `from` on.
fn is_blank<F: NorFlash>(flash: &mut F, from: u32, start: u32) -> Result<bool, F::Error> {
    let mut part = [0; HEADER_BYTES];
    for offset in (from..start + FLASH_SECTOR_SIZE as u32).step_by(part.len()) {
        flash.read(offset, &mut part)?;
        if part.iter().any(|byte| *byte != 0xff) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Nothing was kept yet: the pages whose first header was cut are erased.
fn begin_again<F: NorFlash>(flash: &mut F) -> StoreState {
    let end = flash.capacity() / FLASH_SECTOR_SIZE * FLASH_SECTOR_SIZE;
    match flash.erase(0, end as u32) {
        Ok(()) => StoreState::Blank,
        Err(_) => StoreState::Worn,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_that_of_nvs() {
        for data in [&b""[..], b"123456789", &[0xff; 28], &[0; 100]] {
            for init in [0, u32::MAX, 7] {
                assert_eq!(super::crc32(init, data), esp_nvs::platform::software_crc32(init, data));
            }
        }
    }
}
