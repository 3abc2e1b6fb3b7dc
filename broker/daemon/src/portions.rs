//! Long work beside the traffic, in portions.
//!
//! A reload builds and judges for milliseconds, on a processor that may be the one on which a thread of the traffic is
//! to run next. The kernel would let that wait until our time slice is over, which is 3 ms or more. So such work offers the
//! processor whenever a portion is done. It is given back at once when nobody else wants it.
//!
//! Handshakes, and taking connections down, go on for seconds when a fleet comes back. Who yields loses the rest of its time slice
//! to whatever else is there; beside the work of other programs that would be most of the time. So they offer the processor by a
//! short sleep, which keeps their share of it, and no more often than what the offers cost allows ([`Offers`]).

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signet_core::Hub;

/// A message may wait for so long. Each offer may cost about 0.1 ms where others want the processor, and who is revoked waits for that.
pub(crate) const PORTION: Duration = Duration::from_micros(250);
/// The sleep by which the processor is offered: long enough for the kernel to look for who else wants it.
const OFFER: Duration = Duration::from_micros(8);
/// Messages are done with it after so long. What an offer took beyond that went to the work of others,
const MESSAGES_WITHIN: Duration = Duration::from_micros(500);
/// and so many times as long is worked before the next one: no more than a ninth of the time goes to others by it.
const WORK_PER_OFFER: u32 = 8;
/// Nothing is offered when no message came for so long.
const MESSAGES_LATELY: Duration = Duration::from_millis(100);

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

/// What threads that work behind the traffic offer to it: their processor, for a moment.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    /// Whose messages may wait; `None`: nobody's.
    hub: Option<Arc<Hub>>,
}

/// What a thread knows of its own offers.
#[derive(Clone, Copy)]
struct Worked {
    /// The next offer is not before.
    next: Instant,
    /// Messages that had come when it last looked,
    messages: u64,
    /// and until when they count as lately.
    lately_until: Instant,
}

thread_local!(static WORKED: Cell<Option<Worked>> = const { Cell::new(None) });

impl Offers {
    /// To the traffic of this hub.
    pub(crate) fn to(hub: &Arc<Hub>) -> Self {
        Self { hub: Some(Arc::clone(hub)) }
    }

    /// Offers the processor, when it is time. To be asked often: what lies between two of them is done in one go. Not for work
    /// that holds a lock.
    pub(crate) fn offer(&self) {
        let now = Instant::now();
        let begun = Worked { next: now + PORTION, messages: 0, lately_until: now };
        let mut worked = WORKED.get().unwrap_or(begun);
        if now >= worked.next {
            let messages = self.hub.as_ref().map_or(0, |hub| hub.counters().publishes_received());
            if messages != worked.messages {
                (worked.messages, worked.lately_until) = (messages, now + MESSAGES_LATELY);
            }
            let offered = now < worked.lately_until;
            if offered {
                std::thread::sleep(OFFER);
            }
            let then = if offered { Instant::now() } else { now };
            worked.next = then + after(then - now);
        }
        WORKED.set(Some(worked));
    }
}

/// How long is worked after an offer that took so long.
fn after(took: Duration) -> Duration {
    PORTION.max(took.saturating_sub(MESSAGES_WITHIN) * WORK_PER_OFFER)
}

/// The thread has slept: its next portion begins now.
pub(crate) fn begin_again() {
    if let Some(worked) = WORKED.get() {
        WORKED.set(Some(Worked { next: worked.next.max(Instant::now() + PORTION), ..worked }));
    }
}

/// Lets the kernel end the sleep of an offer in time: it may put off the sleeps of this thread by 1 ns, in place of 50 us.
pub(crate) fn prepare_offers() {
    if let Err(error) = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN)) {
        tracing::debug!(%error, "a thread offers its processor for longer than it needs to");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_that_cost_much_are_made_seldom() {
        assert_eq!(after(Duration::ZERO), PORTION);
        assert_eq!(after(Duration::from_micros(20)), PORTION);
        assert_eq!(after(MESSAGES_WITHIN), PORTION);
        assert_eq!(after(Duration::from_millis(4)), Duration::from_millis(28));
    }

    #[test]
    fn nothing_is_offered_while_there_are_no_messages_and_before_a_portion_is_done() {
        std::thread::spawn(|| {
            let offers = Offers::default();
            let begun = Instant::now();
            offers.offer();
            let first = WORKED.get().unwrap();
            assert!(first.next >= begun + PORTION);
            while Instant::now() < first.next {
                std::hint::spin_loop();
            }
            offers.offer();
            let second = WORKED.get().unwrap();
            assert!(second.next > first.next && second.lately_until == first.lately_until);
            // A thread that has slept begins anew.
            begin_again();
            assert!(WORKED.get().unwrap().next >= second.next);
        })
        .join()
        .unwrap();
    }
}
