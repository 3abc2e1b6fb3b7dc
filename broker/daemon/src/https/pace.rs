//! How many requests one address may make.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use parking_lot::Mutex;
use signet_core::Mono;

use crate::admission::source_of;

/// Addresses remembered at most; beyond it, unknown addresses share one place.
const ADDRESSES_MAX: usize = 16_384;
/// The time over which requests are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// A leaky bucket for each address, kept as the time at which it would be empty.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    drained_at: HashMap<IpAddr, Duration, foldhash::fast::RandomState>,
    overflow: Duration,
}

impl Pace {
    /// Admits a request of `address`, or says after how long it may try again. A minute's worth may come at once.
    pub(super) fn admit(
        &self,
        address: IpAddr,
        per_minute: Option<NonZeroU32>,
        now: Mono,
    ) -> Result<(), Duration> {
        let Some(per_minute) = per_minute else { return Ok(()) };
        let (now, source) = (now.elapsed(), source_of(address));
        let mut table = self.0.lock();
        if table.drained_at.len() >= ADDRESSES_MAX && !table.drained_at.contains_key(&source) {
            table.drained_at.retain(|_, drained| *drained > now);
        }
        let full = table.drained_at.len() >= ADDRESSES_MAX && !table.drained_at.contains_key(&source);
        let drained = if full { &mut table.overflow } else { table.drained_at.entry(source).or_default() };
        let after = (*drained).max(now) + WINDOW / per_minute.get();
        match after.checked_sub(now + WINDOW) {
            Some(over) if !over.is_zero() => Err(over),
            _ => {
                *drained = after;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono::default().after(Duration::from_secs(secs))
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_by_one() {
        let (pace, most) = (Pace::default(), NonZeroU32::new(6));
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert!((0..6).all(|_| pace.admit(one, most, at(1)).is_ok()));
        assert_eq!(pace.admit(one, most, at(1)), Err(Duration::from_secs(10)));
        assert_eq!(pace.admit(other, most, at(1)), Ok(()), "another address is not held up");
        assert_eq!(pace.admit(one, most, at(11)), Ok(()));
        assert!(pace.admit(one, most, at(11)).is_err());
        assert_eq!(pace.admit(one, None, at(11)), Ok(()), "no limit");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source_and_the_table_is_bounded() {
        let (pace, most) = (Pace::default(), NonZeroU32::new(1));
        let host = |net: u16, last: u16| IpAddr::from([0x2001, 0xdb8, net, 0, 0, 0, 0, last]);
        assert!(pace.admit(host(0, 1), most, at(1)).is_ok());
        assert!(pace.admit(host(0, 2), most, at(1)).is_err());
        for net in 1..u16::try_from(ADDRESSES_MAX).unwrap() {
            assert!(pace.admit(host(net, 1), most, at(1)).is_ok());
        }
        assert!(pace.admit(host(50_000, 1), most, at(1)).is_ok());
        assert!(pace.admit(host(50_001, 1), most, at(1)).is_err(), "they share one place");
        assert_eq!(pace.0.lock().drained_at.len(), ADDRESSES_MAX);
        assert!(pace.admit(host(50_001, 1), most, at(100)).is_ok(), "old ones are forgotten");
    }
}
