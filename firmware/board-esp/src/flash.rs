//! The flash: one driver, and its partitions as regions of their own.

use core::cell::RefCell;

use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash};
use esp_bootloader_esp_idf::ota::OtaImageState;
use esp_bootloader_esp_idf::ota_updater::OtaUpdater;
use esp_bootloader_esp_idf::partitions::{AppPartitionSubType, PARTITION_TABLE_MAX_LEN, read_partition_table};
use esp_storage::FlashStorage;
use signet_device_core::platform::{ImageError, Images};

/// The driver, shared by everything on the one core that touches it.
pub type Shared = RefCell<FlashStorage<'static>>;

/// One partition.
#[derive(Clone, Copy)]
pub struct Region {
    flash: &'static Shared,
    start: u32,
    bytes: usize,
}

impl Region {
    /// The partition called `label`, if the table has it.
    pub fn find(flash: &'static Shared, label: &str) -> Option<Self> {
        let mut buffer = [0; PARTITION_TABLE_MAX_LEN];
        let mut driver = flash.borrow_mut();
        let table = read_partition_table(&mut driver, &mut buffer).ok()?;
        let entry = table.iter().find(|entry| entry.label_as_str() == label)?;
        Some(Self { flash, start: entry.offset(), bytes: entry.len() as usize })
    }

    fn within(&self, offset: u32, len: usize) -> Result<u32, NorFlashErrorKind> {
        let end = (offset as usize).checked_add(len).filter(|end| *end <= self.bytes);
        end.map(|_| self.start + offset).ok_or(NorFlashErrorKind::OutOfBounds)
    }
}

fn other<E>(_: E) -> NorFlashErrorKind {
    NorFlashErrorKind::Other
}

impl ErrorType for Region {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Region {
    const READ_SIZE: usize = FlashStorage::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let at = self.within(offset, bytes.len())?;
        self.flash.borrow_mut().read_nor(at, bytes).map_err(other)
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl NorFlash for Region {
    const WRITE_SIZE: usize = FlashStorage::WRITE_SIZE;
    const ERASE_SIZE: usize = FlashStorage::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        let len = to.checked_sub(from).ok_or(NorFlashErrorKind::OutOfBounds)?;
        let at = self.within(from, len as usize)?;
        self.flash.borrow_mut().erase(at, at + len).map_err(other)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let at = self.within(offset, bytes.len())?;
        self.flash.borrow_mut().write_nor(at, bytes).map_err(other)
    }
}

impl MultiwriteNorFlash for Region {}

/// The two application partitions and the note which one boots.
///
/// The bootloaders that espflash brings know no rollback: the trial is the application's own, and cannot save an image that
/// dies before it gets here.
pub struct Partitions(pub &'static Shared);

impl Partitions {
    fn with<R>(
        &mut self,
        act: impl FnOnce(&mut OtaUpdater<'_, 'static>) -> Result<R, esp_bootloader_esp_idf::partitions::Error>,
    ) -> Result<R, ImageError> {
        let mut buffer = [0; PARTITION_TABLE_MAX_LEN];
        let mut flash = self.0.borrow_mut();
        let mut updater = OtaUpdater::new(&mut flash, &mut buffer).map_err(|_| ImageError::Flash)?;
        act(&mut updater).map_err(|_| ImageError::Flash)
    }
}

impl Images for Partitions {
    fn begin(&mut self, bytes: u32) -> Result<(), ImageError> {
        // Nothing was ever noted: the bootloader runs the first partition, and the next one must not be taken to be that.
        self.with(|updater| {
            if updater.selected_partition()? == AppPartitionSubType::Factory {
                updater.ota_data()?.set_current_app_partition(AppPartitionSubType::Ota0)?;
                updater.set_current_ota_state(OtaImageState::Valid)?;
            }
            Ok(())
        })?;
        let room = self.with(|updater| Ok(updater.next_partition()?.0.partition_size()))?;
        if bytes as usize > room {
            return Err(ImageError::TooLarge);
        }
        let sector = FlashStorage::SECTOR_SIZE;
        let end = bytes.div_ceil(sector) * sector;
        self.with(|updater| updater.next_partition()?.0.erase(0, end))
    }

    fn write(&mut self, offset: u32, part: &[u8]) -> Result<(), ImageError> {
        self.with(|updater| updater.next_partition()?.0.write(offset, part))
    }

    fn boot_next(&mut self) -> Result<(), ImageError> {
        self.with(|updater| {
            updater.activate_next_partition()?;
            updater.set_current_ota_state(OtaImageState::New)
        })
    }

    fn on_trial(&mut self) -> bool {
        let state = self.with(|updater| updater.current_ota_state());
        matches!(state, Ok(OtaImageState::New | OtaImageState::PendingVerify))
    }

    fn confirm(&mut self) -> Result<(), ImageError> {
        self.with(|updater| updater.set_current_ota_state(OtaImageState::Valid))
    }

    fn revert(&mut self) -> Result<(), ImageError> {
        self.with(|updater| {
            updater.set_current_ota_state(OtaImageState::Invalid)?;
            updater.activate_next_partition()?;
            updater.set_current_ota_state(OtaImageState::Valid)
        })
    }
}
