//! NOR flash in memory, with what goes wrong with it: power that fails in the middle of a word or an erase, cells that are worn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

/// The size of a sector, in bytes.
pub const SECTOR: usize = 4096;

/// A flash chip. Clones are the same chip, so that it can be looked at while a device has it.
#[derive(Debug, Clone)]
pub struct Flash(Arc<Mutex<Cells>>);

#[derive(Debug)]
struct Cells {
    bytes: Vec<u8>,
    /// Words programmed and sectors erased since it was made.
    operations: u64,
    /// After how many more operations the power fails, during that operation.
    cut_in: Option<u64>,
    powered: bool,
    /// How often each sector was erased, and how often it can be.
    erased: Vec<u32>,
    erases_max: u32,
    noise: u64,
}

/// The flash does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashError {
    /// The power is out.
    NoPower,
    /// The sector is worn.
    Worn,
    /// Out of bounds or not aligned.
    Bounds,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Bounds => NorFlashErrorKind::OutOfBounds,
            Self::NoPower | Self::Worn => NorFlashErrorKind::Other,
        }
    }
}

impl Cells {
    fn random(&mut self) -> u64 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        self.noise
    }

    /// Counts an operation. Whether it is carried out whole; the power is out after one that is not.
    fn whole(&mut self) -> Result<bool, FlashError> {
        if !self.powered {
            return Err(FlashError::NoPower);
        }
        self.operations += 1;
        match &mut self.cut_in {
            None => Ok(true),
            Some(left) if *left > 1 => {
                *left -= 1;
                Ok(true)
            }
            Some(_) => {
                self.powered = false;
                Ok(false)
            }
        }
    }
}

impl Flash {
    fn cells(&self) -> MutexGuard<'_, Cells> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An erased chip of so many sectors.
    #[must_use]
    pub fn blank(sectors: usize) -> Self {
        Self::with(vec![0xff; sectors * SECTOR])
    }

    /// A chip with this in it; the length is a multiple of [`SECTOR`].
    #[must_use]
    pub fn with(bytes: Vec<u8>) -> Self {
        let sectors = bytes.len() / SECTOR;
        Self(Arc::new(Mutex::new(Cells {
            bytes,
            operations: 0,
            cut_in: None,
            powered: true,
            erased: vec![0; sectors],
            erases_max: 100_000,
            noise: 0x9e37_79b9_7f4a_7c15,
        })))
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.cells().bytes.clone()
    }

    /// How many words were programmed and sectors erased.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.cells().operations
    }

    /// Lets the power fail during the `nth` operation from now (1 is the next). `noise` decides what of that one is done.
    pub fn cut_power_in(&self, nth: u64, noise: u64) {
        let mut cells = self.cells();
        cells.cut_in = Some(nth.max(1));
        cells.noise = noise | 1;
    }

    /// Whether the power is out.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !self.cells().powered
    }

    /// The power is back, and stays.
    pub fn power_on(&self) {
        let mut cells = self.cells();
        cells.powered = true;
        cells.cut_in = None;
    }

    /// From now on a sector that was erased so often can neither be erased nor written.
    pub fn wear_out_after(&self, erases: u32) {
        self.cells().erases_max = erases;
    }

    /// The most erases of one sector.
    #[must_use]
    pub fn erases(&self) -> u32 {
        self.cells().erased.iter().copied().max().unwrap_or(0)
    }
}

impl ErrorType for Flash {
    type Error = FlashError;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let cells = self.cells();
        if !cells.powered {
            return Err(FlashError::NoPower);
        }
        let start = offset as usize;
        let from = cells.bytes.get(start..start + bytes.len()).ok_or(FlashError::Bounds)?;
        bytes.copy_from_slice(from);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.cells().bytes.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let mut cells = self.cells();
        let (from, to) = (from as usize, to as usize);
        if from > to || to > cells.bytes.len() || !from.is_multiple_of(SECTOR) || !to.is_multiple_of(SECTOR) {
            return Err(FlashError::Bounds);
        }
        for start in (from..to).step_by(SECTOR) {
            let whole = cells.whole()?;
            if cells.erased[start / SECTOR] >= cells.erases_max {
                return Err(FlashError::Worn);
            }
            cells.erased[start / SECTOR] += 1;
            if whole {
                cells.bytes[start..start + SECTOR].fill(0xff);
                continue;
            }
            // An erase that is cut leaves nothing done, all done, a part of the sector, or bits that rose at random.
            let (kind, until) = (cells.random() % 4, cells.random() as usize % SECTOR);
            for at in start..start + SECTOR {
                let risen = match kind {
                    0 => 0,
                    1 => 0xff,
                    2 if at - start < until => 0xff,
                    2 => 0,
                    _ => cells.random() as u8,
                };
                cells.bytes[at] |= risen;
            }
            return Err(FlashError::NoPower);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let mut cells = self.cells();
        let start = offset as usize;
        if !start.is_multiple_of(4)
            || !bytes.len().is_multiple_of(4)
            || start + bytes.len() > cells.bytes.len()
        {
            return Err(FlashError::Bounds);
        }
        for (at, word) in (start..).step_by(4).zip(bytes.chunks_exact(4)) {
            let whole = cells.whole()?;
            if cells.erased[at / SECTOR] >= cells.erases_max {
                return Err(FlashError::Worn);
            }
            // A word that is cut has its first bytes and random bits of the rest.
            let (done, mut left) = (cells.random() % 5, [0; 4]);
            if !whole {
                for (place, byte) in left.iter_mut().enumerate() {
                    *byte = if (place as u64) < done { 0 } else { cells.random() as u8 };
                }
            }
            for (place, (byte, left)) in word.iter().zip(left).enumerate() {
                cells.bytes[at + place] &= byte | left;
            }
            if !whole {
                return Err(FlashError::NoPower);
            }
        }
        Ok(())
    }
}
