//! What a peer may cost before it has proven who it is.
//!
//! Three bounds, all before any cryptography: a token bucket per source address for new connections, a count of
//! connections per source address, and a count of peers that have connected but not yet authenticated ("half-open").
//! An address from which many come who are refused, and nobody who is good, gets only a share of its connections in: each
//! of them by chance, so that somebody good behind a translator that is shared with a bad one gets in after a few tries,
//! and opens the door for the others.
//!
//! When the half-open table is full, somebody makes room who came before: of those that have said nothing the oldest, then of
//! those that have said something, and last of those from an address where somebody good is, or who have shown a good
//! certificate. A quarter of the places is left to each of the three, so that who has just come has the time to say
//! something whatever the others do.

mod threshold;

use std::array;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use signet_core::Mono;
use tokio::sync::Notify;

pub(crate) use threshold::Threshold;

/// Source addresses remembered at most; beyond it, unknown addresses share one bucket.
const ADDRESSES_TRACKED_MAX: usize = 65_536;

/// With more addresses left than this after a look for those that can be forgotten, those are forgotten too from which somebody
/// good has come lately, and nobody is connected.
const KNOWN_KEPT_MAX: usize = ADDRESSES_TRACKED_MAX / 2;

/// Between two looks at all sources.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The time that refusals of an address are counted in, and for which those who were good count from the first arrival after
/// they have gone.
const REMEMBERED: Duration = Duration::from_secs(600);
/// So many refused peers of an address, with nobody good among them, change nothing.
const REFUSED_FREE: u32 = 30;
/// So many more halve the share of its connections that may begin, down to one in sixteen.
const REFUSED_STEP: u32 = 10;

/// This part of the half-open stays with each rank, whatever the others do.
const REMAIN_SHARE: usize = 4;

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

/// Under which trust anchor somebody is; short, and only to share something fairly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Authority([u8; 8]);

impl Authority {
    /// The anchor of which this is a hash.
    #[must_use]
    pub fn of(anchor: [u8; 32]) -> Self {
        Self(anchor.first_chunk().copied().unwrap_or_default())
    }
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
    /// The authority of the first of them.
    authority: Option<Authority>,
    /// One of those has gone since the last arrival.
    good_gone: bool,
    /// Until when those that have gone count.
    good_until: Duration,
    /// Peers whose certificate was refused, since then and since the last that was not.
    refused: u32,
    refused_since: Duration,
}

/// How much is lost when a half-open peer makes room.
#[derive(Debug, Clone, Copy)]
enum Rank {
    /// It has said nothing.
    Silent,
    /// It has begun with TLS.
    Began,
    /// Somebody good is at its address, or it has shown a certificate in force itself.
    Known,
}

/// One of the addresses that peers come to. Each has places of its own, which only those free that came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entrance(u64);

impl Entrance {
    /// Another than all before.
    pub(crate) fn another() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Those that came to one entrance, by rank, in the order in which they came.
type Came = [BTreeMap<u64, Arc<Notify>>; 3];

/// Those between accept and CONNECT.
#[derive(Debug, Default)]
struct HalfOpen(BTreeMap<Entrance, Came>);

impl HalfOpen {
    fn len(&self) -> usize {
        self.0.values().flatten().map(BTreeMap::len).sum()
    }

    fn known(&self) -> usize {
        self.0.values().map(|came| came[Rank::Known as usize].len()).sum()
    }

    fn insert(&mut self, (entrance, number): (Entrance, u64), rank: Rank, evicted: Arc<Notify>) {
        self.0.entry(entrance).or_default()[rank as usize].insert(number, evicted);
    }

    fn remove(&mut self, (entrance, number): (Entrance, u64)) -> Option<Arc<Notify>> {
        self.0.get_mut(&entrance)?.iter_mut().find_map(|peers| peers.remove(&number))
    }

    /// Takes out whoever makes room for `newcomer`, or for whomever comes next. None who came later does. With `entrance` it is one
    /// of those that came to it.
    fn make_room(&mut self, entrance: Option<Entrance>, newcomer: Option<u64>) -> Option<Arc<Notify>> {
        let asked = |rank: usize| {
            let here = self.0.iter().filter(move |(at, _)| entrance.is_none_or(|entrance| entrance == **at));
            here.map(move |(at, came)| (*at, &came[rank]))
        };
        let counts: [usize; 3] = array::from_fn(|rank| asked(rank).map(|(_, peers)| peers.len()).sum());
        let oldest: [Option<(u64, Entrance)>; 3] = array::from_fn(|rank| {
            let oldest = asked(rank).filter_map(|(at, peers)| Some((*peers.first_key_value()?.0, at))).min();
            oldest.filter(|(oldest, _)| newcomer.is_none_or(|newcomer| *oldest < newcomer))
        });
        let remain = counts.iter().sum::<usize>() / REMAIN_SHARE;
        // One of them is above its quarter; where that is the newcomer's alone, it is not asked.
        let beyond = counts.iter().zip(oldest).find_map(|(count, oldest)| oldest.filter(|_| *count > remain));
        let (number, at) = beyond.or_else(|| oldest.into_iter().flatten().next())?;
        self.remove((at, number))
    }
}

#[derive(Debug, Default)]
struct Table {
    sources: HashMap<IpAddr, Source, foldhash::fast::RandomState>,
    overflow: Source,
    half_open: HalfOpen,
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
    /// Half-open peers that came through.
    through: AtomicU64,
}

/// A peer's place among the half-open. Dropped when the peer has said CONNECT or is gone.
#[derive(Debug)]
pub struct Ticket {
    /// Where it came to, and as which.
    at: (Entrance, u64),
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
        self.admission.table.lock().half_open.remove(self.at);
    }
}

impl Ticket {
    /// Somebody who came to the same entrance before makes room for this one. False: there is nobody.
    pub fn displaces_another(&self) -> bool {
        let (entrance, number) = self.at;
        let evicted = self.admission.table.lock().half_open.make_room(Some(entrance), Some(number));
        evicted.inspect(|evicted| evicted.notify_one()).is_some()
    }

    /// Where there are more half-open peers than `most`, or in any case with `crowded`, one who came before goes, wherever it came
    /// to: the bound and the memory are one for all.
    fn takes_its_turn(&self, most: usize, crowded: bool) {
        let half_open = &mut self.admission.table.lock().half_open;
        if (crowded || half_open.len() > most)
            && let Some(evicted) = half_open.make_room(None, Some(self.at.1))
        {
            evicted.notify_one();
        }
    }

    /// The peer has begun with TLS. Who is known stays so.
    pub fn began(&self) {
        let half_open = &mut self.admission.table.lock().half_open;
        let (entrance, number) = self.at;
        let silent = half_open.0.get_mut(&entrance).map(|came| &mut came[Rank::Silent as usize]);
        if let Some(evicted) = silent.and_then(|silent| silent.remove(&number)) {
            half_open.insert(self.at, Rank::Began, evicted);
        }
    }

    /// The peer has shown a certificate in force.
    pub fn is_good(&self) {
        let half_open = &mut self.admission.table.lock().half_open;
        if let Some(evicted) = half_open.remove(self.at) {
            half_open.insert(self.at, Rank::Known, evicted);
        }
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
    /// The peer's certificate is in force, and of this authority: whoever else comes from its address may begin as usual.
    pub fn good(&mut self, authority: Authority) {
        let Some(address) = self.source.filter(|_| !self.good) else { return };
        if let Some(source) = self.admission.table.lock().sources.get_mut(&address) {
            // One that comes later moves nobody to its own authority's turns.
            if source.good == 0 {
                source.authority = Some(authority);
            }
            source.good += 1;
            source.refused = 0;
            self.good = true;
        }
    }

    /// The authority of those good peers that are connected from its address, or were lately; `None`: there are none.
    pub fn known(&self, now: Mono) -> Option<Authority> {
        let table = self.admission.table.lock();
        let source = self.source.and_then(|address| table.sources.get(&address));
        source.filter(|source| source.is_known(now.elapsed())).and_then(|source| source.authority)
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
        Arc::new(Self { limits: Mutex::new(limits), table: Mutex::default(), through: AtomicU64::new(0) })
    }

    /// Replaces the limits; peers already admitted keep their place.
    pub fn set_limits(&self, limits: AdmissionLimits) {
        *self.limits.lock() = limits;
    }

    /// Peers now between accept and authentication.
    pub fn half_open(&self) -> usize {
        self.table.lock().half_open.len()
    }

    /// Whether a peer that comes now makes another one go, and that is one who is known: three quarters of all or more are.
    fn is_full_of_known(&self) -> bool {
        let most = self.limits.lock().half_open_max;
        let half_open = &self.table.lock().half_open;
        let (all, known) = (half_open.len(), half_open.known());
        all >= most && known >= all - all / REMAIN_SHARE
    }

    /// A half-open peer came through: its CONNECT was accepted, or, where a handshake is all, that one with a
    /// certificate in force.
    pub(crate) fn came_through(&self) {
        self.through.fetch_add(1, Ordering::Relaxed);
    }

    /// How many did since the start.
    fn through(&self) -> u64 {
        self.through.load(Ordering::Relaxed)
    }

    /// Drops `count` half-open peers; how many there were.
    pub fn make_room(&self, count: usize) -> usize {
        let mut table = self.table.lock();
        let first = std::iter::from_fn(|| table.half_open.make_room(None, None)).take(count);
        first.inspect(|evicted| evicted.notify_one()).count()
    }

    /// Admits one new connection from `address` to `entrance` under `limits`, or says why not. Nobody makes room for it.
    fn admit(
        self: &Arc<Self>,
        limits: &AdmissionLimits,
        address: IpAddr,
        entrance: Entrance,
        now: Mono,
    ) -> Result<(Ticket, AddressSlot), Refused> {
        let source_key = source_of(address);
        let now = now.elapsed();
        let mut table = self.table.lock();
        if table.sources.len() >= ADDRESSES_TRACKED_MAX
            && !table.sources.contains_key(&source_key)
            && now >= table.next_sweep
        {
            table.sources.retain(|_, source| !source.can_be_forgotten(now) || source.is_known(now));
            // Who is good is not forgotten for strangers' sake, unless too many are remembered that have gone.
            if table.sources.len() > KNOWN_KEPT_MAX {
                table.sources.retain(|_, source| !source.can_be_forgotten(now));
            }
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
        let rank = if !full && source.is_known(now) { Rank::Known } else { Rank::Silent };
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
        let at = (entrance, number);
        table.half_open.insert(at, rank, Arc::clone(&evicted));
        let slot =
            AddressSlot { source: (!full).then_some(source_key), admission: Arc::clone(self), good: false };
        Ok((Ticket { at, evicted, admission: Arc::clone(self) }, slot))
    }
}

/// Why a new connection gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Its address may not have it.
    Away(Refused),
    /// There is none.
    NoPlace,
    /// Memory runs short.
    Memory,
}

impl Turned {
    /// The bounded label under which the dashboard counts it.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::Away(refused) => refused.metric_label(),
            Self::NoPlace => "max_connections",
            Self::Memory => "memory",
        }
    }
}

impl Admission {
    /// Admits one new connection from `address` to a place of its own at `entrance`, or says why not. Its address is asked first,
    /// and then `place` finds the place: nobody makes room for a peer that is turned away. When there are more half-open peers than
    /// there may be, and with `crowded` in any case, another makes room for one that is let in.
    pub fn enter<T>(
        self: &Arc<Self>,
        (address, entrance): (IpAddr, Entrance),
        now: Mono,
        crowded: bool,
        place: impl FnOnce(&Ticket) -> Option<T>,
    ) -> Result<(Ticket, AddressSlot, T), Turned> {
        let limits = *self.limits.lock();
        let (ticket, slot) = self.admit(&limits, address, entrance, now).map_err(Turned::Away)?;
        let place = place(&ticket).ok_or(Turned::NoPlace)?;
        ticket.takes_its_turn(limits.half_open_max, crowded);
        Ok((ticket, slot, place))
    }
}

impl Source {
    /// Whether nobody is connected, and nothing is ahead of its rate.
    fn can_be_forgotten(&self, now: Duration) -> bool {
        self.connections == 0 && self.drained_until <= now
    }

    /// Whether somebody good is here, or was lately.
    fn is_known(&self, now: Duration) -> bool {
        self.good > 0 || self.good_gone || now < self.good_until
    }

    /// One in how many may begin a handshake.
    fn share(&mut self, now: Duration) -> u64 {
        if std::mem::take(&mut self.good_gone) {
            self.good_until = now.saturating_add(REMEMBERED);
        }
        if self.is_known(now) || now.saturating_sub(self.refused_since) > REMEMBERED {
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
mod tests;
