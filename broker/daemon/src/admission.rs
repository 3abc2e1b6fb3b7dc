//! What a peer may cost before it has proven who it is.
//!
//! Three bounds, all before any cryptography: a token bucket per source address for new connections, a count of
//! connections per source address, and a count of peers that have connected but not yet authenticated ("half-open").
//! An address from which many come who are refused, and nobody who is good, gets only a share of its connections in: each
//! of them by chance, so that somebody good behind a translator that is shared with a bad one gets in after a few tries,
//! and opens the door for the others.
//!
//! When the half-open table is full, the oldest half-open peer makes room, so that silent peers cannot keep good ones out.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use signet_core::Mono;
use tokio::sync::Notify;

/// Source addresses remembered at most; beyond it, unknown addresses share one bucket.
const ADDRESSES_TRACKED_MAX: usize = 65_536;

/// Between two looks at all sources.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The time that refusals of an address are counted in, and for which those who were good count from the first arrival after
/// they have gone.
const REMEMBERED: Duration = Duration::from_secs(600);
/// So many refused peers of an address, with nobody good among them, change nothing.
const REFUSED_FREE: u32 = 30;
/// So many more halve the share of its connections that may begin, down to one in sixteen.
const REFUSED_STEP: u32 = 10;

/// Bounds on peers that have not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Peers between accept and their CONNECT, in all.
    pub half_open_max: usize,
    /// Connections of one source address (an IPv6 /64 counts as one), authenticated or not; `None`: no bound.
    pub connections_per_address_max: Option<usize>,
    /// New connections per second and source address; twice this may come in a burst. 0 = no bound.
    pub connects_per_address_per_second: u32,
    /// Whether an address from which only refused peers come gets fewer of its connections in.
    pub refused_addresses_slowed: bool,
}

/// Why a new connection was turned away before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This address connects faster than `connects_per_address_per_second`.
    AddressRate,
    /// This address has `connections_per_address_max` connections.
    AddressConnections,
    /// Nobody good comes from this address, and many who are refused: only some may begin.
    AddressRefused,
}

impl Refused {
    /// The bounded label under which the dashboard counts it.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::AddressRate => "address_rate",
            Self::AddressConnections => "address_connections",
            Self::AddressRefused => "address_refused",
        }
    }
}

#[derive(Debug, Default)]
struct Source {
    connections: usize,
    /// Token bucket as "the time at which it was last empty", in nanoseconds of [`Mono`].
    drained_until: Duration,
    /// Connections with a certificate in force.
    good: usize,
    /// One of those has gone since the last arrival.
    good_gone: bool,
    /// Until when those that have gone count.
    good_until: Duration,
    /// Peers whose certificate was refused, since then and since the last that was not.
    refused: u32,
    refused_since: Duration,
}

#[derive(Debug, Default)]
struct Table {
    sources: HashMap<IpAddr, Source, foldhash::fast::RandomState>,
    overflow: Source,
    half_open: BTreeMap<u64, Arc<Notify>>,
    next_ticket: u64,
    /// Not before then sources are looked at for those that can be forgotten: that is a look at all of them.
    next_sweep: Duration,
    #[cfg(test)]
    sweeps: u32,
    /// Drawn from, keyed, so that nobody can tell who is next.
    lottery: foldhash::quality::RandomState,
}

/// Decides who may begin a handshake.
#[derive(Debug)]
pub struct Admission {
    limits: Mutex<AdmissionLimits>,
    table: Mutex<Table>,
}

/// A peer's place among the half-open. Dropped when the peer has said CONNECT or is gone.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    evicted: Arc<Notify>,
    admission: Arc<Admission>,
}

impl Ticket {
    /// Resolves when this peer must make room for a newer one.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.admission.table.lock().half_open.remove(&self.number);
    }
}

impl Ticket {
    /// The oldest half-open peer makes room for this one. False: there is none that came before.
    pub fn displaces_oldest(&self) -> bool {
        let mut table = self.admission.table.lock();
        let oldest = table.half_open.first_entry().filter(|oldest| *oldest.key() < self.number);
        let displaced = oldest.map(|oldest| oldest.remove());
        displaced.inspect(|evicted| evicted.notify_one()).is_some()
    }
}

/// A connection's place among those of its address. Dropped when the connection is gone.
#[derive(Debug)]
pub struct AddressSlot {
    /// `None`: counted among the addresses that share the overflow entry.
    source: Option<IpAddr>,
    admission: Arc<Admission>,
    good: bool,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut table = self.admission.table.lock();
        let table = &mut *table;
        // An entry with connections is never forgotten, so a slot always finds the entry that counted it.
        let source =
            self.source.and_then(|address| table.sources.get_mut(&address)).unwrap_or(&mut table.overflow);
        source.connections = source.connections.saturating_sub(1);
        if self.good {
            source.good = source.good.saturating_sub(1);
            source.good_gone = true;
        }
    }
}

impl AddressSlot {
    /// The peer's certificate is in force: whoever else comes from its address may begin as usual.
    pub fn good(&mut self) {
        let Some(address) = self.source.filter(|_| !self.good) else { return };
        if let Some(source) = self.admission.table.lock().sources.get_mut(&address) {
            source.good += 1;
            source.refused = 0;
            self.good = true;
        }
    }

    /// Whether somebody good is connected from its address, or was lately.
    pub fn is_known(&self, now: Mono) -> bool {
        let table = self.admission.table.lock();
        let source = self.source.and_then(|address| table.sources.get(&address));
        source.is_some_and(|source| source.good > 0 || source.good_gone || now.elapsed() < source.good_until)
    }

    /// The peer's certificate was refused.
    pub fn refused(&self, now: Mono) {
        let Some(address) = self.source else { return };
        if let Some(source) = self.admission.table.lock().sources.get_mut(&address) {
            let now = now.elapsed();
            if source.refused == 0 || now.saturating_sub(source.refused_since) > REMEMBERED {
                source.refused = 0;
                source.refused_since = now;
            }
            source.refused = source.refused.saturating_add(1);
        }
    }
}

impl Admission {
    /// An empty table under `limits`.
    pub fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Self { limits: Mutex::new(limits), table: Mutex::default() })
    }

    /// Replaces the limits; peers already admitted keep their place.
    pub fn set_limits(&self, limits: AdmissionLimits) {
        *self.limits.lock() = limits;
    }

    /// Peers now between accept and authentication.
    pub fn half_open(&self) -> usize {
        self.table.lock().half_open.len()
    }

    /// Drops the `count` oldest half-open peers; how many there were.
    pub fn make_room(&self, count: usize) -> usize {
        let mut table = self.table.lock();
        let oldest = std::iter::from_fn(|| table.half_open.pop_first()).take(count);
        oldest.inspect(|(_, evicted)| evicted.notify_one()).count()
    }

    /// Admits one new connection from `address`, or says why not.
    pub fn admit(self: &Arc<Self>, address: IpAddr, now: Mono) -> Result<(Ticket, AddressSlot), Refused> {
        let limits = *self.limits.lock();
        let source_key = source_of(address);
        let now = now.elapsed();
        let mut table = self.table.lock();
        if table.sources.len() >= ADDRESSES_TRACKED_MAX
            && !table.sources.contains_key(&source_key)
            && now >= table.next_sweep
        {
            table.sources.retain(|_, source| source.connections > 0 || source.drained_until > now);
            table.next_sweep = now.saturating_add(SWEEP_INTERVAL);
            #[cfg(test)]
            {
                table.sweeps += 1;
            }
        }
        let full = table.sources.len() >= ADDRESSES_TRACKED_MAX && !table.sources.contains_key(&source_key);
        let table = &mut *table;
        let source = if full { &mut table.overflow } else { table.sources.entry(source_key).or_default() };
        if limits.connections_per_address_max.is_some_and(|most| source.connections >= most) {
            return Err(Refused::AddressConnections);
        }
        let share = source.share(now);
        if !full && share > 1 && limits.refused_addresses_slowed {
            let drawn = table.lottery.hash_one((source_key, table.next_ticket));
            table.next_ticket += 1;
            if !drawn.is_multiple_of(share) {
                return Err(Refused::AddressRefused);
            }
        }
        source.take_token(limits.connects_per_address_per_second, now)?;
        source.connections += 1;
        let number = table.next_ticket;
        table.next_ticket += 1;
        let evicted = Arc::new(Notify::new());
        table.half_open.insert(number, Arc::clone(&evicted));
        if table.half_open.len() > limits.half_open_max
            && let Some((_, oldest)) = table.half_open.pop_first()
        {
            oldest.notify_one();
        }
        let slot =
            AddressSlot { source: (!full).then_some(source_key), admission: Arc::clone(self), good: false };
        Ok((Ticket { number, evicted, admission: Arc::clone(self) }, slot))
    }
}

/// Why a new connection gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Its address may not have it.
    Away(Refused),
    /// There is none.
    NoPlace,
}

impl Admission {
    /// Admits one new connection from `address` to a place of its own, or says why not. Its address is asked first: nobody
    /// makes room for a peer that is turned away for its address. With `crowded` the oldest half-open peer makes room in any
    /// case. `place` finds the place.
    pub fn enter<T>(
        self: &Arc<Self>,
        address: IpAddr,
        now: Mono,
        crowded: bool,
        place: impl FnOnce(&Ticket) -> Option<T>,
    ) -> Result<(Ticket, AddressSlot, T), Turned> {
        let (ticket, slot) = self.admit(address, now).map_err(Turned::Away)?;
        if crowded {
            ticket.displaces_oldest();
        }
        let place = place(&ticket).ok_or(Turned::NoPlace)?;
        Ok((ticket, slot, place))
    }
}

impl Source {
    /// One in how many may begin a handshake.
    fn share(&mut self, now: Duration) -> u64 {
        if std::mem::take(&mut self.good_gone) {
            self.good_until = now.saturating_add(REMEMBERED);
        }
        let good = self.good > 0 || now < self.good_until;
        if good || now.saturating_sub(self.refused_since) > REMEMBERED {
            return 1;
        }
        match self.refused.checked_sub(REFUSED_FREE) {
            None => 1,
            Some(beyond) => 2 << (beyond / REFUSED_STEP).min(3),
        }
    }

    /// A leaky bucket kept as one point in time: each connection adds 1/rate second, two seconds' worth may be ahead.
    fn take_token(&mut self, per_second: u32, now: Duration) -> Result<(), Refused> {
        if per_second == 0 {
            return Ok(());
        }
        let cost = Duration::from_secs(1) / per_second;
        let burst = Duration::from_secs(2);
        let filled_from = self.drained_until.max(now);
        if filled_from + cost > now + burst {
            return Err(Refused::AddressRate);
        }
        self.drained_until = filled_from + cost;
        Ok(())
    }
}

/// One subscriber line usually owns a whole IPv6 /64, so that is what counts as one source.
pub(crate) fn source_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let s = v6.segments();
                IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AdmissionLimits = AdmissionLimits {
        half_open_max: 1_000_000,
        connections_per_address_max: None,
        connects_per_address_per_second: 0,
        refused_addresses_slowed: true,
    };

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    fn at(secs: u64) -> Mono {
        Mono::new(Duration::from_secs(secs))
    }

    /// How many of `tries` bad peers of one address may begin; each of them is refused then.
    fn bad(admission: &Arc<Admission>, tries: usize, now: Mono) -> usize {
        let begins = |_: &usize| admission.admit(address(1), now).map(|(_, slot)| slot.refused(now)).is_ok();
        (0..tries).filter(begins).count()
    }

    #[test]
    fn an_address_of_refused_peers_alone_gets_a_small_share_in() {
        let admission = Admission::new(LIMITS);
        assert_eq!(bad(&admission, 30, at(1)), 30, "a few refusals change nothing");
        bad(&admission, 1_000, at(1));
        let begun = bad(&admission, 16_000, at(1));
        assert!((600..1_500).contains(&begun), "{begun} of 16000");
        assert!(admission.admit(address(2), at(1)).is_ok(), "another address is another matter");
        assert_eq!(bad(&admission, 20, at(1000)), 20, "it is forgotten");
    }

    #[test]
    fn good_peers_behind_the_same_address_keep_the_door_open() {
        let admission = Admission::new(LIMITS);
        let (_ticket, mut good) = admission.admit(address(1), at(1)).unwrap();
        good.good();
        assert_eq!(bad(&admission, 1_000, at(1)), 1_000);
        drop(good);
        assert_eq!(bad(&admission, 1_000, at(2)), 1_000, "for a while after the last good one has gone");
        assert!(bad(&admission, 1_000, at(700)) < 700);
    }

    #[test]
    fn somebody_good_gets_in_after_a_few_tries_and_opens_the_door() {
        let admission = Admission::new(LIMITS);
        bad(&admission, 5_000, at(1));
        let tries = (0..1_000).find_map(|n| admission.admit(address(1), at(1)).ok().map(|came| (n, came)));
        let (tries, (_ticket, mut slot)) = tries.expect("one in sixteen may begin");
        assert!(tries < 500, "{tries}");
        assert!(!slot.is_known(at(1)));
        slot.good();
        assert!(slot.is_known(at(1)));
        assert!((0..100).all(|_| admission.admit(address(1), at(1)).is_ok()));
    }

    #[test]
    fn one_bad_peer_that_comes_now_and_then_never_slows_its_address() {
        let admission = Admission::new(LIMITS);
        assert!((0..600).all(|minute| bad(&admission, 1, at(60 * minute)) == 1));
    }

    #[test]
    fn the_door_stays_open_for_a_while_after_a_long_connection_has_ended() {
        let admission = Admission::new(LIMITS);
        let (_ticket, mut good) = admission.admit(address(1), at(1)).unwrap();
        good.good();
        assert_eq!(bad(&admission, 1_000, at(5_000)), 1_000);
        drop(good);
        assert_eq!(bad(&admission, 1_000, at(5_001)), 1_000);
        assert_eq!(bad(&admission, 1_000, at(5_600)), 1_000, "the bad ones do not shorten it");
        assert!(bad(&admission, 1_000, at(5_602)) < 700, "nor is it longer");
    }

    #[test]
    fn nothing_is_slowed_when_that_is_switched_off() {
        let admission = Admission::new(AdmissionLimits { refused_addresses_slowed: false, ..LIMITS });
        assert_eq!(bad(&admission, 1_000, at(1)), 1_000);
    }

    #[test]
    fn the_oldest_half_open_make_room_and_those_that_have_gone_on_are_not_asked() {
        let admission = Admission::new(LIMITS);
        let mut peers: Vec<_> = (0..4).map(|n| admission.admit(address(n), at(1)).unwrap().0).collect();
        drop(peers.remove(0));
        assert_eq!(admission.make_room(2), 2);
        let asked = |ticket: &Ticket| {
            let waiting = std::pin::pin!(ticket.evicted());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            waiting.poll(&mut cx).is_ready()
        };
        assert_eq!(peers.iter().map(asked).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(admission.half_open(), 1);
        assert_eq!(admission.make_room(100), 1);
        assert_eq!(admission.make_room(100), 0);
    }

    #[test]
    fn nobody_makes_room_for_a_peer_that_is_turned_away_for_its_address() {
        let admission = Admission::new(AdmissionLimits { connects_per_address_per_second: 1, ..LIMITS });
        let good: Vec<_> = (2..102).map(|n| admission.admit(address(n), at(1)).unwrap()).collect();
        assert_eq!(admission.half_open(), good.len());
        // Memory runs short, and max-connections is reached: each that comes needs the place of another.
        let place = |ticket: &Ticket| ticket.displaces_oldest().then_some(());
        let came: Vec<_> = (0..5_000).map(|_| admission.enter(address(1), at(1), true, place)).collect();
        let begun = came.iter().filter(|came| came.is_ok()).count();
        assert_eq!(begun, 2, "a burst");
        assert!(
            came.iter().skip(2).all(|came| came.as_ref().err() == Some(&Turned::Away(Refused::AddressRate)))
        );
        assert_eq!(admission.half_open(), good.len() + begun - 2 * begun, "two places for each that came in");
    }

    #[test]
    fn no_peer_makes_room_for_itself() {
        let admission = Admission::new(LIMITS);
        let place = |ticket: &Ticket| ticket.displaces_oldest().then_some(());
        assert_eq!(admission.enter(address(1), at(1), false, place).err(), Some(Turned::NoPlace));
        assert_eq!(admission.half_open(), 0, "it has gone");
        let (ticket, _slot, ()) = admission.enter(address(1), at(1), true, |_| Some(())).unwrap();
        assert_eq!(admission.half_open(), 1);
        let (newer, _slot, ()) = admission.enter(address(2), at(1), false, place).unwrap();
        assert_eq!(admission.half_open(), 1);
        drop(ticket);
        assert_eq!(admission.half_open(), 1, "the newer one is there");
        drop(newer);
    }

    #[test]
    fn a_full_table_is_searched_once_in_a_while_and_not_for_every_peer() {
        let admission = Admission::new(LIMITS);
        let count = u32::try_from(ADDRESSES_TRACKED_MAX).unwrap();
        let slots: Vec<_> = (0..count).map(|n| admission.admit(address(n), at(1)).unwrap()).collect();
        for n in 0..1_000 {
            assert!(admission.admit(address(count + n), at(1)).is_ok());
        }
        assert_eq!(admission.table.lock().sweeps, 1);
        drop(slots);
        assert!(admission.admit(address(count), at(3)).is_ok());
        assert_eq!(admission.table.lock().sweeps, 2);
        assert_eq!(admission.table.lock().sources.len(), 1);
    }
}
