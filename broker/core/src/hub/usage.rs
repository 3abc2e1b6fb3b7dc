//! What all sessions of one principal have together.

use std::sync::atomic::{AtomicUsize, Ordering};

use signet_wire::SubscriptionFilter;

/// About what a subscription takes, in bytes: in its session, in the index, and a filter of [`SHORT_FILTER_BYTES`] in both.
pub(crate) const SUBSCRIPTION_BYTES: usize = 512;
/// Of a longer filter the rest counts besides, once for the session and once for the index. In bytes.
const SHORT_FILTER_BYTES: usize = 64;
/// What a level `+` takes in the index, in bytes: a place of its own, and perhaps one for what follows it.
const PLUS_BYTES: usize = 256;
/// So many of them are in [`SUBSCRIPTION_BYTES`].
const FEW_PLUSES: usize = 2;
/// Subscriptions of one principal take so many bytes on average, where it has as many as it may. A filter has a few hundred.
const MEAN_BYTES_MAX: usize = 1024;
/// Few subscriptions may take so many bytes together: a filter may have 65 535.
const FEW_BYTES_MAX: usize = 256 * 1024;

/// About what a subscription takes, in bytes.
pub(crate) fn subscription_bytes(filter: &SubscriptionFilter) -> usize {
    let text = filter.filter().len() + filter.group().map_or(0, |group| group.len());
    let pluses = filter.filter().bytes().filter(|byte| *byte == b'+').count();
    SUBSCRIPTION_BYTES
        + 2 * text.saturating_sub(SHORT_FILTER_BYTES)
        + PLUS_BYTES * pluses.saturating_sub(FEW_PLUSES)
}

/// Counted by the sessions of one principal, each of which holds it.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    subscriptions: AtomicUsize,
    subscribed_bytes: AtomicUsize,
    queued_bytes: AtomicUsize,
    replayed_bytes: AtomicUsize,
}

impl Usage {
    /// Counts one more subscription, within `max`, and within what so many subscriptions may take together. False: there is
    /// no room for it.
    pub(crate) fn subscribe(&self, filter: &SubscriptionFilter, max: usize) -> bool {
        let bytes_max = max.saturating_mul(MEAN_BYTES_MAX).max(FEW_BYTES_MAX);
        if !add(&self.subscriptions, 1, max) {
            return false;
        }
        let fits = add(&self.subscribed_bytes, subscription_bytes(filter), bytes_max);
        if !fits {
            take(&self.subscriptions, 1);
        }
        fits
    }

    /// A subscription is gone.
    pub(crate) fn unsubscribe(&self, filter: &SubscriptionFilter) {
        take(&self.subscriptions, 1);
        take(&self.subscribed_bytes, subscription_bytes(filter));
    }

    /// About what its subscriptions take, in bytes.
    pub(crate) fn subscribed_bytes(&self) -> usize {
        self.subscribed_bytes.load(Ordering::Relaxed)
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

/// Whether there was room for `by` more within `max`.
fn add(count: &AtomicUsize, by: usize, max: usize) -> bool {
    let added = |now: usize| now.checked_add(by).filter(|sum| *sum <= max);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added).is_ok()
}

/// Never below zero: a count that went wrong must not turn into one that refuses everybody.
fn take(count: &AtomicUsize, by: usize) {
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(by)));
}

#[cfg(test)]
mod tests {
    use signet_wire::Text;

    use super::*;

    fn filter(bytes: usize) -> SubscriptionFilter {
        SubscriptionFilter::parse(Text::try_from("x".repeat(bytes)).unwrap()).unwrap()
    }

    #[test]
    fn the_last_place_is_given_once_and_again_when_it_is_free() {
        let (usage, filter) = (Usage::default(), filter(5));
        assert!(usage.subscribe(&filter, 2) && usage.subscribe(&filter, 2));
        assert!(!usage.subscribe(&filter, 2));
        usage.unsubscribe(&filter);
        assert!(usage.subscribe(&filter, 2));
        for _ in 0..100 {
            usage.unsubscribe(&filter);
        }
        assert!(usage.subscribe(&filter, 1), "it does not go below zero");
        assert_eq!(usage.subscribed_bytes(), SUBSCRIPTION_BYTES);
    }

    #[test]
    fn a_filter_counts_as_long_as_it_is_and_one_that_finds_no_room_counts_for_nothing() {
        let (usage, long) = (Usage::default(), filter(60_000));
        assert!(usage.subscribe(&long, 3) && usage.subscribe(&long, 3));
        let held = usage.subscribed_bytes();
        assert!((240_000..FEW_BYTES_MAX).contains(&held), "{held}: in the session and in the index");
        assert!(!usage.subscribe(&long, 3));
        assert_eq!(usage.subscribed_bytes(), held);
        assert!(usage.subscribe(&filter(64), 3), "its place was given back");
        assert!(!usage.subscribe(&filter(64), 3));
    }
}
