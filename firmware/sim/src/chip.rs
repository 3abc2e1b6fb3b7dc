//! What a chip adds to its flash: partitions, and the bootloader that reads the note which image boots. The bootloader is written
//! after ESP-IDF's, and not after the code of the firmware that writes the note.

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use signet_device_core::platform::Place;

use super::flash::{Flash, FlashError, SECTOR};

/// Some sectors of the chip.
#[derive(Debug, Clone)]
pub struct Region {
    chip: Flash,
    start: u32,
    bytes: usize,
}

impl Region {
    /// So many sectors from `sector` on.
    #[must_use]
    pub fn of(chip: &Flash, sector: usize, sectors: usize) -> Self {
        Self { chip: chip.clone(), start: (sector * SECTOR) as u32, bytes: sectors * SECTOR }
    }
}

impl ErrorType for Region {
    type Error = FlashError;
}

impl ReadNorFlash for Region {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        assert!(offset as usize + bytes.len() <= self.bytes, "a read outside of the partition");
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4), "a read that the chip cannot do");
        self.chip.read(self.start + offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl NorFlash for Region {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        assert!(to as usize <= self.bytes, "an erase outside of the partition");
        self.chip.erase(self.start + from, self.start + to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        assert!(offset as usize + bytes.len() <= self.bytes, "a write outside of the partition");
        self.chip.write(self.start + offset, bytes)
    }
}

/// What the bootloader starts by its note in two sectors from `otadata` on, without rollback.
#[must_use]
pub fn noted(chip: &Flash, otadata: usize) -> Place {
    let bytes = chip.bytes();
    let entry = |sector: usize| {
        let entry = &bytes[sector * SECTOR..sector * SECTOR + 32];
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let (seq, state, crc) = (word(0), word(24), word(28));
        let given_up = state == 3 || state == 4;
        (seq != u32::MAX && !given_up && crc == crc32(&seq.to_le_bytes())).then_some(seq)
    };
    let seq = entry(otadata).max(entry(otadata + 1));
    if seq.is_none_or(|seq| seq.wrapping_sub(1).is_multiple_of(2)) { Place::First } else { Place::Second }
}

/// `esp_rom_crc32_le(UINT32_MAX, ..)`, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = 0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
