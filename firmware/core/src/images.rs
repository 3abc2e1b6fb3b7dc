//! Two image partitions and the note which one boots, in the format of ESP-IDF's bootloader (`esp_ota_select_entry_t`).
//!
//! The note has two sectors with an entry each; the valid entry with the greater number counts. A new entry always goes to the
//! sector that does not count, and its checksum is written last: after a power cut at any moment the old entry counts, or the
//! new one. Without a valid entry the first partition boots.

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

use crate::platform::{ImageError, Images, Place};
use crate::store::crc32;

/// The size of a sector, in bytes.
const SECTOR: u32 = 4096;
/// The size of an entry, in bytes: number, 20 bytes of label, state, checksum of the number.
const ENTRY: usize = 32;
const STATE_AT: usize = 24;
const CHECKSUM_AT: usize = 28;
/// Flashes write whole words.
const WORD: usize = 4;

/// What is known of an image. The numbers are those of ESP-IDF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Never started.
    New = 0,
    /// Started once by a bootloader that knows rollback.
    PendingVerify = 1,
    /// It works.
    Valid = 2,
}

/// An entry that counts for a bootloader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    number: u32,
    state: u32,
}

impl Entry {
    /// The entry in these bytes; `None` when a bootloader would not look at it.
    fn read(bytes: &[u8; ENTRY]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (number, state) = (word(0), word(STATE_AT));
        // 3: it does not work. 4: a bootloader with rollback gave it up. All ones: it never knew rollback.
        let usable = matches!(state, 0..=2 | u32::MAX);
        let valid = number != 0 && number != u32::MAX && word(CHECKSUM_AT) == checksum(number);
        (usable && valid).then_some(Self { number, state })
    }

    const fn place(self) -> Place {
        if self.number % 2 == 1 { Place::First } else { Place::Second }
    }

    fn bytes(number: u32, state: State) -> [u8; ENTRY] {
        let mut bytes = [0xff; ENTRY];
        bytes[..WORD].copy_from_slice(&number.to_le_bytes());
        bytes[STATE_AT..CHECKSUM_AT].copy_from_slice(&(state as u32).to_le_bytes());
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum(number).to_le_bytes());
        bytes
    }
}

fn checksum(number: u32) -> u32 {
    crc32(u32::MAX, &number.to_le_bytes())
}

/// The partitions `otadata`, `ota_0` and `ota_1` of a partition table.
#[derive(Debug)]
pub struct Partitions<F> {
    otadata: F,
    images: [F; 2],
    running: Place,
}

impl<F: NorFlash> Partitions<F> {
    /// `running` is where the image that runs is, as the machine says and not as the note does: a bootloader that finds the
    /// noted image damaged starts the other one.
    pub const fn new(otadata: F, images: [F; 2], running: Place) -> Self {
        Self { otadata, images, running }
    }

    /// The entry that counts and the sector that it is in.
    fn counts(&mut self) -> Result<Option<(Entry, u32)>, ImageError> {
        let mut counts = None::<(Entry, u32)>;
        for sector in [0, 1] {
            let mut bytes = [0; ENTRY];
            self.otadata.read(sector * SECTOR, &mut bytes).map_err(|_| ImageError::Flash)?;
            if let Some(entry) = Entry::read(&bytes)
                && counts.is_none_or(|(other, _)| entry.number > other.number)
            {
                counts = Some((entry, sector));
            }
        }
        Ok(counts)
    }

    /// Lets the image in `place` boot next.
    fn select(&mut self, place: Place, state: State) -> Result<(), ImageError> {
        let counts = self.counts()?;
        let (last, sector) = counts.map_or((0, 0), |(entry, sector)| (entry.number, 1 - sector));
        let mut number = last.checked_add(1).ok_or(ImageError::Flash)?;
        if (Entry { number, state: 0 }).place() != place {
            number = number.checked_add(1).filter(|number| *number != u32::MAX).ok_or(ImageError::Flash)?;
        }
        let (start, bytes) = (sector * SECTOR, Entry::bytes(number, state));
        self.otadata.erase(start, start + SECTOR).map_err(|_| ImageError::Flash)?;
        self.otadata.write(start, &bytes[..CHECKSUM_AT]).map_err(|_| ImageError::Flash)?;
        let checksum_at = start + CHECKSUM_AT as u32;
        self.otadata.write(checksum_at, &bytes[CHECKSUM_AT..]).map_err(|_| ImageError::Flash)?;
        let written = self.counts()?.is_some_and(|(entry, _)| entry.number == number);
        written.then_some(()).ok_or(ImageError::Flash)
    }

    fn spare(&mut self) -> &mut F {
        &mut self.images[self.running.other() as usize]
    }
}

impl<F: NorFlash> Images for Partitions<F> {
    fn running(&self) -> Place {
        self.running
    }

    fn begin(&mut self, bytes: u32) -> Result<(), ImageError> {
        if bytes as usize > self.spare().capacity() {
            return Err(ImageError::TooLarge);
        }
        // What is about to be overwritten must not be what boots after a power cut.
        let noted = self.counts()?.map_or(Place::First, |(entry, _)| entry.place());
        if noted == self.running { Ok(()) } else { self.select(self.running, State::Valid) }
    }

    fn write(&mut self, offset: u32, part: &[u8]) -> Result<(), ImageError> {
        let flash = self.spare();
        let (whole, rest) = part.split_at(part.len() / WORD * WORD);
        let mut last = [0xff; WORD];
        last[..rest.len()].copy_from_slice(rest);
        // A part is far below 4 GiB.
        let (middle, end) = (offset + whole.len() as u32, offset + part.len() as u32);
        // A sector is erased when the first word of it is written: nothing waits for the erase of megabytes.
        let first = offset.next_multiple_of(SECTOR);
        let after = end.next_multiple_of(SECTOR);
        if first < after {
            flash.erase(first, after).map_err(|_| ImageError::Flash)?;
        }
        flash.write(offset, whole).map_err(|_| ImageError::Flash)?;
        if !rest.is_empty() {
            flash.write(middle, &last).map_err(|_| ImageError::Flash)?;
        }
        Ok(())
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ImageError> {
        self.spare().read(offset, bytes).map_err(|_| ImageError::Flash)
    }

    fn boot_next(&mut self) -> Result<(), ImageError> {
        self.select(self.running.other(), State::New)
    }

    fn on_trial(&mut self) -> bool {
        let unproven = [State::New as u32, State::PendingVerify as u32];
        let counts = self.counts().ok().flatten();
        counts.is_some_and(|(entry, _)| entry.place() == self.running && unproven.contains(&entry.state))
    }

    fn keep(&mut self) -> Result<(), ImageError> {
        let counts = self.counts()?.map(|(entry, _)| (entry.place(), entry.state));
        match counts {
            Some((place, state)) if place == self.running && state == State::Valid as u32 => Ok(()),
            None if self.running == Place::First => Ok(()),
            _ => self.select(self.running, State::Valid),
        }
    }

    fn revert(&mut self) -> Result<(), ImageError> {
        self.select(self.running.other(), State::Valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_the_tools_of_esp_idf_write() {
        // The first entries of `otatool.py switch_ota_partition`.
        assert_eq!(checksum(1), 0x4743_989a);
        assert_eq!(checksum(2), 0x55f6_3774);
        let bytes = Entry::bytes(1, State::Valid);
        assert_eq!(bytes[..4], [1, 0, 0, 0]);
        assert_eq!(bytes[4..24], [0xff; 20]);
        assert_eq!(bytes[24..], [2, 0, 0, 0, 0x9a, 0x98, 0x43, 0x47]);
    }

    #[test]
    fn an_entry_counts_only_with_its_checksum_and_while_nobody_gave_it_up() {
        let good = Entry::bytes(7, State::New);
        assert_eq!(Entry::read(&good), Some(Entry { number: 7, state: 0 }));
        for (at, with) in [(0, 6), (28, 0), (24, 3), (24, 4)] {
            let mut bad = good;
            bad[at] = with;
            assert_eq!(Entry::read(&bad), None, "byte {at} is {with}");
        }
        assert_eq!(Entry::read(&[0xff; ENTRY]), None);
        assert_eq!(Entry::read(&[0; ENTRY]), None);
    }
}
