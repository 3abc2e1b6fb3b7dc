//! A NOR flash in a file of the host, reached by semihosting. It outlives the machine, also one that is killed at any moment.

use core::ffi::CStr;

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read,
    check_write,
};
use semihosting::fs::{File, OpenOptions};
use semihosting::io::{Read as _, Seek as _, SeekFrom, Write as _};

const SECTOR_BYTES: usize = 4096;
const WORD_BYTES: usize = 4;
/// What is written in one go.
const PAGE_BYTES: usize = 256;
const ERASED: u8 = 0xff;

/// One region of the flash.
pub struct FileFlash {
    file: File,
    bytes: usize,
}

impl FileFlash {
    /// The region in the file `name`; a missing or short file becomes an erased region of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// The host does not give the file.
    pub fn open(name: &CStr, bytes: usize) -> Result<Self, NorFlashErrorKind> {
        let file = match options().open(name) {
            Ok(file) => file,
            // "r+" wants the file to exist; "w+" makes it.
            Err(_) => options().create(true).truncate(true).open(name).map_err(other)?,
        };
        let mut flash = Self { file, bytes };
        let len = flash.file.metadata().map_err(other)?.len() as usize;
        let mut at = len / SECTOR_BYTES * SECTOR_BYTES;
        while at < bytes {
            flash.put(at, &[ERASED; SECTOR_BYTES])?;
            at += SECTOR_BYTES;
        }
        Ok(flash)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        self.file.seek(SeekFrom::Start(at as u64)).map_err(other)?;
        self.file.write_all(bytes).map_err(other)
    }

    fn get(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        self.file.seek(SeekFrom::Start(at as u64)).map_err(other)?;
        self.file.read_exact(bytes).map_err(other)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

fn other(_: semihosting::io::Error) -> NorFlashErrorKind {
    NorFlashErrorKind::Other
}

impl ErrorType for FileFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        self.get(offset as usize, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = WORD_BYTES;
    const ERASE_SIZE: usize = SECTOR_BYTES;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        for at in (from as usize..to as usize).step_by(SECTOR_BYTES) {
            self.put(at, &[ERASED; SECTOR_BYTES])?;
        }
        Ok(())
    }

    /// Clears bits and sets none, page by page, as NOR flash does.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let mut at = offset as usize;
        for wanted in bytes.chunks(PAGE_BYTES) {
            let mut page = [0; PAGE_BYTES];
            let page = &mut page[..wanted.len()];
            self.get(at, page)?;
            for (bits, wanted) in page.iter_mut().zip(wanted) {
                *bits &= wanted;
            }
            self.put(at, page)?;
            at += wanted.len();
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for FileFlash {}
