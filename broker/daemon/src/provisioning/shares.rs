//! What one principal may have of what all share: a quarter, so that one who asks without end leaves room for the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use signet_core::Mono;
use signet_identity::PrincipalKey;
use signet_registry::TokenHash;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// So many times the hook is asked about one ownership token. Who was refused as often begins anew with a signing request.
const TRIES_MAX: u8 = 8;
/// Tokens whose tries are counted at once. Those beyond are not counted: what one principal has of the hook is bounded anyway.
const TOKENS_MAX: usize = 16_384;

/// A quarter of `all`, and at least one.
const fn quarter(all: usize) -> usize {
    if all < 4 { 1 } else { all / 4 }
}

/// How many requests of each principal are under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashMap<PrincipalKey, usize, RandomState>>);

impl UnderWay {
    /// Counts one more of `key`, unless it has its quarter of `all`.
    pub(super) fn begin(&self, key: &PrincipalKey, all: usize) -> bool {
        let mut counts = self.0.lock();
        let held = counts.entry(key.clone()).or_insert(0);
        let room = *held < quarter(all);
        if room {
            *held += 1;
        }
        room
    }

    /// One of `key` has ended.
    pub(super) fn end(&self, key: &PrincipalKey) {
        let mut counts = self.0.lock();
        if let Some(held) = counts.get_mut(key) {
            *held -= 1;
            if *held == 0 {
                counts.remove(key);
            }
        }
    }
}

/// The places of hooks under way.
#[derive(Debug)]
pub(super) struct HookPlaces {
    all: Semaphore,
    each: usize,
    /// Of those who have a place or wait for one.
    own: Mutex<HashMap<PrincipalKey, Weak<Semaphore>, RandomState>>,
    tries: Mutex<BTreeMap<TokenHash, (Mono, u8)>>,
}

/// A hook's place: that of its principal, and that among all.
pub(super) struct HookPlace<'a> {
    _own: OwnedSemaphorePermit,
    _shared: SemaphorePermit<'a>,
}

impl HookPlaces {
    /// `all` hooks run at once, a quarter of them for one principal.
    pub(super) fn new(all: usize) -> Self {
        let (own, tries) = (Mutex::default(), Mutex::default());
        Self { all: Semaphore::new(all), each: quarter(all), own, tries }
    }

    /// Waits for a place. Who waits for a place of its own is in nobody else's way.
    pub(super) async fn take(&self, key: &PrincipalKey) -> Result<HookPlace<'_>, AcquireError> {
        let own = self.own(key).acquire_owned().await?;
        Ok(HookPlace { _own: own, _shared: self.all.acquire().await? })
    }

    fn own(&self, key: &PrincipalKey) -> Arc<Semaphore> {
        let mut all = self.own.lock();
        if let Some(own) = all.get(key).and_then(Weak::upgrade) {
            return own;
        }
        all.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(self.each));
        all.insert(key.clone(), Arc::downgrade(&own));
        own
    }

    /// Counts one more question about `token`, which is good for `validity`; false when there were enough.
    pub(super) fn may_ask_about(&self, token: &TokenHash, validity: Duration, now: Mono) -> bool {
        let mut tries = self.tries.lock();
        if tries.len() >= TOKENS_MAX && !tries.contains_key(token) {
            tries.retain(|_, (first, _)| now.since(*first) <= validity);
            if tries.len() >= TOKENS_MAX {
                return true;
            }
        }
        let (_, asked) = tries.entry(*token).or_insert((now, 0));
        let more = *asked < TRIES_MAX;
        if more {
            *asked += 1;
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use signet_identity::{Role, ThingName};

    use super::*;

    fn key(name: &str) -> PrincipalKey {
        PrincipalKey { role: Role::Claim, name: ThingName::try_from(name).unwrap() }
    }

    /// Whether a place is there at once.
    fn taken<'a>(places: &'a HookPlaces, key: &PrincipalKey) -> Option<HookPlace<'a>> {
        let mut taking = Box::pin(places.take(key));
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_has_a_quarter_of_the_hook_waits_and_leaves_room_for_others() {
        let places = HookPlaces::new(16);
        let (a, b) = (key("a"), key("b"));
        let held: Vec<_> = (0..100).filter_map(|_| taken(&places, &a)).collect();
        assert_eq!(held.len(), 4);
        let other = taken(&places, &b);
        assert!(other.is_some());
        drop(held);
        assert!(taken(&places, &a).is_some(), "they come back");
        assert_eq!(places.own.lock().len(), 2);
        drop(other);
        assert!(taken(&places, &key("c")).is_some());
        assert_eq!(places.own.lock().len(), 1, "who has nothing is forgotten");
        assert!(taken(&HookPlaces::new(1), &a).is_some());
    }

    #[test]
    fn who_has_a_quarter_of_the_requests_leaves_room_for_others() {
        let under_way = UnderWay::default();
        let (a, b) = (key("a"), key("b"));
        assert_eq!((0..100).filter(|_| under_way.begin(&a, 256)).count(), 64);
        assert!(under_way.begin(&b, 256));
        under_way.end(&a);
        assert!(under_way.begin(&a, 256) && !under_way.begin(&a, 256));
        (0..64).for_each(|_| under_way.end(&a));
        under_way.end(&b);
        assert!(under_way.0.lock().is_empty());
        assert!(under_way.begin(&a, 1));
    }

    #[test]
    fn the_hook_is_asked_a_few_times_about_one_token() {
        let places = HookPlaces::new(16);
        let (a, b) = (TokenHash::of(b"a"), TokenHash::of(b"b"));
        let asked =
            |token| (0..100).filter(|_| places.may_ask_about(token, Duration::MAX, Mono::START)).count();
        assert_eq!((asked(&a), asked(&b)), (8, 8));
    }
}
