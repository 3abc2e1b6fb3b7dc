//! How deep the stack ever was.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// So much below the first frame is looked at.
const PAINTED_BYTES: usize = 64 * 1024;
/// What the painter itself uses.
const OWN_BYTES: usize = 512;
const PAINT: u32 = 0xdead_beef;

static TOP: AtomicUsize = AtomicUsize::new(0);

/// Paints the free stack. Called once, at the start.
#[inline(never)]
pub fn paint() {
    let top: usize;
    // SAFETY: it reads a register.
    unsafe { asm!("mv {}, sp", out(reg) top) };
    TOP.store(top, Relaxed);
    for address in (top - PAINTED_BYTES..top - OWN_BYTES).step_by(4) {
        // SAFETY: the stack has the rest of 16 MiB below it, and nothing that is in use lies more than `OWN_BYTES` below the
        // stack pointer.
        unsafe { core::ptr::write_volatile(core::ptr::with_exposed_provenance_mut(address), PAINT) };
    }
}

/// Bytes of stack that were ever used below the first frame.
pub fn peak() -> usize {
    let top = TOP.load(Relaxed);
    let mut address = top - PAINTED_BYTES;
    // SAFETY: as in `paint`, and it only reads.
    while address < top
        && unsafe { core::ptr::read_volatile::<u32>(core::ptr::with_exposed_provenance(address)) } == PAINT
    {
        address += 4;
    }
    top - address
}
