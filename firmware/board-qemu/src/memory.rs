//! The heap, and how much of it was ever in use.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::RefCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use critical_section::Mutex;
use linked_list_allocator::Heap;

/// The heap of the whole firmware: the network's buffers, the device, TLS and MQTT.
const HEAP_BYTES: usize = 512 * 1024;

struct Counted {
    heap: Mutex<RefCell<Heap>>,
    used: AtomicUsize,
    peak: AtomicUsize,
}

#[global_allocator]
static HEAP: Counted = Counted {
    heap: Mutex::new(RefCell::new(Heap::empty())),
    used: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
};

static mut ARENA: [u8; HEAP_BYTES] = [0; HEAP_BYTES];

// SAFETY: the linked list allocator gives each block once, and the critical section lets one caller in at a time.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        critical_section::with(|section| {
            let block = self.heap.borrow(section).borrow_mut().allocate_first_fit(layout);
            match block {
                Ok(block) => {
                    let used = self.used.fetch_add(layout.size(), Relaxed) + layout.size();
                    self.peak.fetch_max(used, Relaxed);
                    block.as_ptr()
                }
                Err(()) => ptr::null_mut(),
            }
        })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        critical_section::with(|section| {
            self.used.fetch_sub(layout.size(), Relaxed);
            if let Some(block) = NonNull::new(block) {
                // SAFETY: the caller of `dealloc` promises that the block came from `alloc` with this layout.
                unsafe { self.heap.borrow(section).borrow_mut().deallocate(block, layout) }
            }
        });
    }
}

/// Gives the allocator its memory. Called once, before anything allocates.
pub fn init() {
    critical_section::with(|section| {
        // SAFETY: nobody else names the arena, and this runs once, at the start.
        unsafe { HEAP.heap.borrow(section).borrow_mut().init((&raw mut ARENA).cast(), HEAP_BYTES) }
    });
}

/// Bytes in use.
pub fn used() -> usize {
    HEAP.used.load(Relaxed)
}

/// The most bytes in use since the last [`forget_peak`].
pub fn peak() -> usize {
    HEAP.peak.load(Relaxed)
}

/// Starts the peak anew.
pub fn forget_peak() {
    HEAP.peak.store(used(), Relaxed);
}
