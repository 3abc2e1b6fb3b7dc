//! What all sessions of one principal have together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// About what a subscription takes: in its session, in the index, and its filter in both.
const SUBSCRIPTION_BYTES: usize = 512;

/// Counted by the sessions of one principal, each of which holds it.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    subscriptions: AtomicUsize,
    queued_bytes: AtomicUsize,
    replayed_bytes: AtomicUsize,
}

impl Usage {
    /// Counts one more subscription, within `max`. False: there are as many already.
    pub(crate) fn subscribe(&self, max: usize) -> bool {
        self.subscriptions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < max).then_some(now + 1))
            .is_ok()
    }

    /// So many subscriptions are gone.
    pub(crate) fn unsubscribe(&self, count: usize) {
        take(&self.subscriptions, count);
    }

    /// About what its subscriptions take, in bytes.
    pub(crate) fn subscribed_bytes(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed) * SUBSCRIPTION_BYTES
    }

    /// Bytes of messages that wait in the queues, or are in flight.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of retained messages that wait in the queues. They are those of the retained store, until other messages are
    /// retained there in their place.
    pub(crate) fn replayed_bytes(&self) -> usize {
        self.replayed_bytes.load(Ordering::Relaxed)
    }

    /// A retained message waits.
    pub(crate) fn replay(&self, bytes: usize) {
        self.replayed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It does no longer.
    pub(crate) fn unreplay(&self, bytes: usize) {
        take(&self.replayed_bytes, bytes);
    }

    /// A message waits.
    pub(crate) fn queue(&self, bytes: usize) {
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It does no longer.
    pub(crate) fn unqueue(&self, bytes: usize) {
        take(&self.queued_bytes, bytes);
    }
}

/// Bytes of one session's messages that are in flight to its client: sent, and not acknowledged. They are kept for it as
/// those are that wait.
#[derive(Debug, Default)]
pub(crate) struct Inflight(AtomicUsize);

impl Inflight {
    /// Smaller changes are not told, in bytes: most messages are less and are acknowledged at once.
    pub(crate) const GRAIN_BYTES: usize = 4096;

    /// About how many, for whoever has not locked the session's state.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// There are so many now. Only who has locked the session's state says so.
    fn put(&self, bytes: usize, usage: &Usage) {
        let before = self.bytes();
        self.0.store(bytes, Ordering::Relaxed);
        if bytes > before {
            usage.queue(bytes - before);
        } else {
            usage.unqueue(before - bytes);
        }
    }

    /// As [`Self::put`], if it is clearly more or less than was told before.
    pub(crate) fn tell(&self, bytes: usize, usage: &Usage) {
        if bytes.abs_diff(self.bytes()) >= Self::GRAIN_BYTES {
            self.put(bytes, usage);
        }
    }

    /// The session has ended.
    pub(crate) fn end(&self, usage: &Usage) {
        self.put(0, usage);
    }
}

/// Never below zero: a count that went wrong must not turn into one that refuses everybody.
fn take(count: &AtomicUsize, by: usize) {
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(by)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_given_once_and_again_when_it_is_free() {
        let usage = Usage::default();
        assert!(usage.subscribe(2) && usage.subscribe(2));
        assert!(!usage.subscribe(2));
        usage.unsubscribe(1);
        assert!(usage.subscribe(2));
        usage.unsubscribe(100);
        assert!(usage.subscribe(1), "it does not go below zero");
    }
}
