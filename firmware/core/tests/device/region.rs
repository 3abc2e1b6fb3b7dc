//! Partitions of one flash: nobody reaches out of his own.

use std::cell::RefCell;

use embedded_storage::nor_flash::{NorFlash as _, NorFlashErrorKind, ReadNorFlash as _};
use signet_device_core::region::Region;

use super::flash::{Flash, SECTOR};

#[test]
fn a_partition_reads_and_writes_what_is_its_own_and_nothing_beside_it() {
    let chip = Flash::blank(4);
    let flash = RefCell::new(chip.clone());
    let (start, bytes) = (SECTOR as u32, 2 * SECTOR as u32);
    let mut region = Region::new(&flash, start, bytes);
    assert_eq!(region.capacity(), 2 * SECTOR);
    region.write(4, &[1, 2, 3, 4]).expect("its own");
    assert_eq!(chip.bytes()[SECTOR + 4..SECTOR + 8], [1, 2, 3, 4]);
    let mut read = [0; 4];
    region.read(4, &mut read).expect("its own");
    assert_eq!(read, [1, 2, 3, 4]);
    region.write(bytes - 4, &[0; 4]).expect("its last word");
    region.erase(0, start).expect("its first sector");
    assert_eq!(chip.bytes()[SECTOR + 4], 0xff);

    let before = chip.bytes();
    let outside = Err(NorFlashErrorKind::OutOfBounds);
    assert_eq!(region.write(bytes, &[0; 4]), outside);
    assert_eq!(region.write(bytes - 4, &[0; 8]), outside);
    assert_eq!(region.write(u32::MAX - 3, &[0; 8]), outside);
    assert_eq!(region.erase(0, bytes + start), outside);
    assert_eq!(region.erase(start, 0), outside);
    assert_eq!(region.read(bytes, &mut read), outside);
    assert_eq!(chip.bytes(), before);
}
