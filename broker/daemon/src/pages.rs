//! Large or small pages of memory, as the ceiling wants it.
//!
//! The allocator asks for huge pages, and the first few bytes of each make two MiB resident: of a broker with 1 000 idle
//! devices 20 MiB of 56. Under a small ceiling that is too much. What is in huge pages stays there, so the process begins
//! with small ones, and takes large ones as soon as it knows that it may.
//!
//! Programs that it starts (hooks) have small pages while it has, as `prctl(2)` says: the choice is inherited over exec. They may take
//! it back with `PR_SET_THP_DISABLE`.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// Below so large a ceiling, in bytes, pages are small.
const SMALL_CEILING: u64 = 512 * 1024 * 1024;

/// Whether it was this process that gave up huge pages, and not whoever started it.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Whether it was said that the kernel refuses small pages.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Begins with small pages: the first thing that the program does.
pub fn begin_small() {
    // Whether it matters shows with the ceiling: `choose` tries again, and tells of it.
    let _ = give_up();
}

/// The ceiling is known, in bytes; `None`: there is none.
pub(crate) fn choose(ceiling: Option<u64>) {
    if wants_small(ceiling) {
        if let Err(error) = give_up()
            && !TOLD.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %error,
                "the kernel does not let the broker give up huge pages: under so small a ceiling they may take 20 MiB more"
            );
        }
    } else if GIVEN_UP.swap(false, Ordering::Relaxed)
        && let Err(error) = disable_transparent_huge_pages(false)
    {
        tracing::debug!(%error, "the kernel gives no huge pages again");
    }
}

fn wants_small(ceiling: Option<u64>) -> bool {
    ceiling.is_some_and(|ceiling| ceiling < SMALL_CEILING)
}

/// A kernel that refuses goes on with huge pages; nothing else is different.
fn give_up() -> Result<(), Errno> {
    if !transparent_huge_pages_are_disabled()? {
        disable_transparent_huge_pages(true)?;
        GIVEN_UP.store(true, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_small_ceiling_wants_small_pages() {
        let wants = [None, Some(1), Some(SMALL_CEILING - 1), Some(SMALL_CEILING)].map(wants_small);
        assert_eq!(wants, [false, true, true, false]);
    }
}
