//! The version of this image, in a form that tools find: as the descriptor of an application in an image for a chip.

use alloc::string::String;
use core::ptr;

const MARK: &[u8; 24] = b"SIGNET-FIRMWARE-VERSION ";
const BYTES: usize = 48;

/// The mark, the version, and zeros up to the end.
#[used]
static DESCRIPTOR: [u8; BYTES] = {
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let mut descriptor = [0; BYTES];
    let mut at = 0;
    while at < MARK.len() + version.len() {
        descriptor[at] = if at < MARK.len() { MARK[at] } else { version[at - MARK.len()] };
        at += 1;
    }
    descriptor
};

/// The version. A test that wants another one changes it in the image.
pub fn version() -> String {
    // SAFETY: it is a static. Volatile, so that what stands in the image counts and not what the compiler saw.
    let descriptor = unsafe { ptr::read_volatile(&raw const DESCRIPTOR) };
    let version = descriptor.iter().skip(MARK.len()).take_while(|byte| **byte != 0);
    version.map(|byte| char::from(*byte)).collect()
}
