//! Long work beside the traffic, in portions.
//!
//! A reload builds and judges for milliseconds, on a processor that may be the one on which a thread of the traffic is
//! to run next. The kernel would let that wait until our time slice is over, which is 3 ms or more. So such work offers the
//! processor whenever a portion is done. It is given back at once when nobody else wants it.

use std::time::{Duration, Instant};

/// A message may wait for so long. Each offer may cost about 0.1 ms where others want the processor, and who is revoked waits for that.
const PORTION: Duration = Duration::from_micros(250);

/// Work that goes on for long. To be asked for a pause often: what lies between two of them is done in one go.
#[derive(Debug)]
pub(crate) struct Portions {
    begun: Instant,
}

impl Portions {
    /// The first portion begins.
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now() }
    }

    /// Lets others run, if this portion has been long enough.
    pub(crate) fn pause(&mut self) {
        if self.begun.elapsed() >= PORTION {
            give_way();
            self.begun = Instant::now();
        }
    }
}

/// Lets whoever waits for this processor run first.
pub(crate) fn give_way() {
    std::thread::yield_now();
}
