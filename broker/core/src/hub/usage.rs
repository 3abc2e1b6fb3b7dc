//! What all sessions of one principal have together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counted by the sessions of one principal, each of which holds it.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    subscriptions: AtomicUsize,
    queued_bytes: AtomicUsize,
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

    /// Bytes of messages that wait in the queues.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
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
