//! The flash: one driver, and the partitions of its table.

use core::cell::RefCell;

use esp_bootloader_esp_idf::partitions::{PARTITION_TABLE_MAX_LEN, read_partition_table};
use esp_storage::FlashStorage;
use signet_device_core::images::Partitions;
use signet_device_core::platform::Place;
use signet_device_core::region::Region;

/// The driver, shared by everything on the one core that touches it.
pub type Shared = RefCell<FlashStorage<'static>>;
/// One partition.
pub type Part = Region<'static, FlashStorage<'static>>;

/// What the firmware uses of the flash.
pub struct Table {
    /// What the device was given on the line.
    pub factory: Part,
    /// What it keeps.
    pub credentials: Part,
    /// Its images.
    pub images: Partitions<Part>,
}

impl Table {
    /// The partitions of `partitions-4mb.csv`, if all are there.
    pub fn read(flash: &'static Shared) -> Option<Self> {
        let mut buffer = [0; PARTITION_TABLE_MAX_LEN];
        let table = read_partition_table(&mut flash.borrow_mut(), &mut buffer).ok()?;
        let part = |label: &str| {
            let entry = table.iter().find(|entry| entry.label_as_str() == label)?;
            Some(Region::new(flash, entry.offset(), entry.len()))
        };
        // What the memory management unit maps is what runs, whatever the bootloader's note says.
        let booted = table.booted_partition().ok().flatten();
        let second = booted.is_some_and(|entry| entry.label_as_str() == "ota_1");
        let running = if second { Place::Second } else { Place::First };
        Some(Self {
            factory: part("factory_nvs")?,
            credentials: part("creds")?,
            images: Partitions::new(part("otadata")?, [part("ota_0")?, part("ota_1")?], running),
        })
    }
}
