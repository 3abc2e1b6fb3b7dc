//! A partition: some sectors of a flash that others use too.

use core::cell::RefCell;

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

/// A part of the flash `F`, from which nobody reaches out of it. Everything that has a part of one flash runs on one core and
/// keeps no borrow.
#[derive(Debug)]
pub struct Region<'f, F> {
    flash: &'f RefCell<F>,
    start: u32,
    bytes: u32,
}

impl<'f, F> Region<'f, F> {
    /// `bytes` bytes from `start` on.
    #[must_use]
    pub const fn new(flash: &'f RefCell<F>, start: u32, bytes: u32) -> Self {
        Self { flash, start, bytes }
    }

    fn within(&self, offset: u32, len: usize) -> Result<u32, NorFlashErrorKind> {
        let end = u32::try_from(len).ok().and_then(|len| offset.checked_add(len));
        end.filter(|end| *end <= self.bytes).ok_or(NorFlashErrorKind::OutOfBounds)?;
        Ok(self.start + offset)
    }
}

impl<F> ErrorType for Region<'_, F> {
    type Error = NorFlashErrorKind;
}

impl<F: ReadNorFlash> ReadNorFlash for Region<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let at = self.within(offset, bytes.len())?;
        self.flash.borrow_mut().read(at, bytes).map_err(|error| error.kind())
    }

    fn capacity(&self) -> usize {
        self.bytes as usize
    }
}

impl<F: NorFlash> NorFlash for Region<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        let len = to.checked_sub(from).ok_or(NorFlashErrorKind::OutOfBounds)?;
        let at = self.within(from, len as usize)?;
        self.flash.borrow_mut().erase(at, at + len).map_err(|error| error.kind())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let at = self.within(offset, bytes.len())?;
        self.flash.borrow_mut().write(at, bytes).map_err(|error| error.kind())
    }
}

impl<F: MultiwriteNorFlash> MultiwriteNorFlash for Region<'_, F> {}
