//! How fast one certified name may come, publish and send, over all its connections.
//!
//! Each rate is a leaky bucket, kept as the time at which it will have run empty: what is taken moves it on, and it may be
//! two seconds ahead. Who publishes or sends faster is not read for as long as it is further ahead, so that TCP slows it
//! down and nothing is lost; who connects faster is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use signet_config::Checked;
use signet_core::Mono;
use signet_identity::{PrincipalKey, Role};

/// So far ahead a name may be: what may come in a burst, in the time that it should take.
const BURST: Duration = Duration::from_secs(2);
/// So many names are remembered before those are looked for that can be forgotten. After each search there may be twice as
/// many as were left, so the table is bounded by twice the names that are connected or came in the last [`BURST`].
const NAMES_MIN: usize = 1024;

/// What is allowed, per second; 0: as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) connects: u32,
    pub(crate) publishes: u32,
    pub(crate) bytes: u64,
}

impl Rates {
    pub(crate) fn of(config: &Checked) -> Self {
        let limits = &config.limits;
        Self {
            connects: limits.connects_per_principal_per_second.map_or(0, std::num::NonZero::get),
            publishes: limits.publishes_per_principal_per_second.map_or(0, std::num::NonZero::get),
            bytes: limits.bytes_per_principal_per_second.map_or(0, std::num::NonZero::get),
        }
    }

    /// Whether what arrives is counted.
    pub(crate) fn slow_reading(self) -> bool {
        self.publishes > 0 || self.bytes > 0
    }
}

/// When each bucket will have run empty.
#[derive(Debug, Default)]
struct Buckets {
    connects: Duration,
    publishes: Duration,
    bytes: Duration,
}

/// What one name has taken.
#[derive(Debug, Default)]
pub(crate) struct Share(Mutex<Buckets>);

/// This name connects faster than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFast;

impl Share {
    /// Counts what came. Nothing is to be read before the time that is returned; it may be over.
    pub(crate) fn came(&self, publishes: u32, bytes: usize, rates: Rates, now: Mono) -> Mono {
        let mut buckets = self.0.lock();
        let now = now.elapsed();
        if rates.publishes > 0 {
            let cost = Duration::from_secs(1) / rates.publishes * publishes;
            buckets.publishes = buckets.publishes.max(now) + cost;
        }
        if rates.bytes > 0 {
            let nanos = (bytes as u128 * 1_000_000_000) / u128::from(rates.bytes);
            let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            buckets.bytes = buckets.bytes.max(now) + cost;
        }
        let publishes = if rates.publishes > 0 { buckets.publishes } else { Duration::ZERO };
        let sent = if rates.bytes > 0 { buckets.bytes } else { Duration::ZERO };
        Mono::new(publishes.max(sent).saturating_sub(BURST))
    }

    fn connects(&self, per_second: u32, now: Duration) -> Result<(), TooFast> {
        if per_second == 0 {
            return Ok(());
        }
        let mut buckets = self.0.lock();
        let empty = buckets.connects.max(now) + Duration::from_secs(1) / per_second;
        if empty > now + BURST {
            return Err(TooFast);
        }
        buckets.connects = empty;
        Ok(())
    }

    /// Whether nothing of it matters any more.
    fn is_idle(&self, now: Duration) -> bool {
        let buckets = self.0.lock();
        buckets.connects.max(buckets.publishes).max(buckets.bytes) <= now
    }
}

#[derive(Debug, Default)]
struct Table {
    shares: HashMap<PrincipalKey, Arc<Share>, foldhash::quality::RandomState>,
    search_at: usize,
}

/// The names that are connected, or were a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Principals(Mutex<Table>);

impl Principals {
    /// A connection of `name`; what all of them share. It is held for as long as the connection is. Many devices come with
    /// one claim, which has bounds of its own: each of its connections has a share for itself, so that none is in the others'
    /// way.
    pub(crate) fn connects(
        &self,
        name: &PrincipalKey,
        rates: Rates,
        now: Mono,
    ) -> Result<Arc<Share>, TooFast> {
        if name.role == Role::Claim {
            return Ok(Arc::default());
        }
        let now = now.elapsed();
        let mut table = self.0.lock();
        if table.shares.len() >= table.search_at.max(NAMES_MIN) {
            table.shares.retain(|_, share| Arc::strong_count(share) > 1 || !share.is_idle(now));
            table.search_at = table.shares.len() * 2;
        }
        let share = match table.shares.get(name) {
            Some(share) => Arc::clone(share),
            None => Arc::clone(table.shares.entry(name.clone()).or_default()),
        };
        drop(table);
        share.connects(rates.connects, now).map(|()| share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signet_identity::ThingName;

    const RATES: Rates = Rates { connects: 10, publishes: 100, bytes: 1000 };

    fn name(n: usize) -> PrincipalKey {
        PrincipalKey { role: Role::Device, name: ThingName::try_from(format!("d{n}").as_str()).unwrap() }
    }

    fn at(ms: u64) -> Mono {
        Mono::new(Duration::from_millis(ms))
    }

    #[test]
    fn a_name_connects_as_often_as_it_may_and_others_are_not_concerned() {
        let names = Principals::default();
        assert_eq!((0..100).filter(|_| names.connects(&name(1), RATES, at(0)).is_ok()).count(), 20);
        assert!(names.connects(&name(2), RATES, at(0)).is_ok());
        assert_eq!((0..100).filter(|_| names.connects(&name(1), RATES, at(1000)).is_ok()).count(), 10);
        let unbounded = Rates::default();
        assert!((0..100).all(|_| names.connects(&name(1), unbounded, at(1000)).is_ok()));
    }

    #[test]
    fn who_publishes_faster_than_it_may_is_not_read_for_as_long_as_it_is_ahead() {
        let share = Share::default();
        assert!(share.came(200, 0, RATES, at(0)) <= at(0), "the burst");
        assert_eq!(share.came(100, 0, RATES, at(0)), at(1000));
        assert_eq!(share.came(0, 0, RATES, at(500)), at(1000), "it does not get longer by asking");
        assert!(share.came(50, 0, RATES, at(2000)) <= at(2000));
    }

    #[test]
    fn bytes_have_a_rate_of_their_own() {
        let share = Share::default();
        assert!(share.came(1, 2000, RATES, at(0)) <= at(0));
        assert_eq!(share.came(1, 500, RATES, at(0)), at(500));
        assert!(share.came(0, usize::MAX, Rates { bytes: 0, ..RATES }, at(0)) <= at(0), "unbounded now");
    }

    #[test]
    fn all_connections_of_a_name_share_what_it_may() {
        let names = Principals::default();
        let first = names.connects(&name(1), RATES, at(0)).unwrap();
        let second = names.connects(&name(1), RATES, at(0)).unwrap();
        first.came(300, 0, RATES, at(0));
        assert_eq!(second.came(0, 0, RATES, at(0)), at(1000));
    }

    #[test]
    fn connections_of_a_claim_are_not_in_each_others_way() {
        let names = Principals::default();
        let claim = PrincipalKey { role: Role::Claim, ..name(1) };
        let first = names.connects(&claim, RATES, at(0)).unwrap();
        let second = names.connects(&claim, RATES, at(0)).unwrap();
        assert!(first.came(60_000, 0, RATES, at(0)) > at(0), "each has a rate");
        assert!(second.came(0, 0, RATES, at(0)) <= at(0));
        assert!((0..100).all(|_| names.connects(&claim, RATES, at(0)).is_ok()));
    }

    #[test]
    fn names_that_are_gone_are_forgotten_and_those_that_are_connected_are_not() {
        let names = Principals::default();
        let kept = names.connects(&name(0), RATES, at(0)).unwrap();
        for n in 1..NAMES_MIN * 3 {
            names.connects(&name(n), RATES, at(5000 + n as u64)).unwrap();
        }
        assert!(names.0.lock().shares.len() <= NAMES_MIN * 2, "{}", names.0.lock().shares.len());
        assert!(names.0.lock().shares.contains_key(&name(0)), "it is connected");
        drop(kept);
    }
}
