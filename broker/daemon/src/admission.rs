//! What a peer may cost before it has proven who it is.
//!
//! Three bounds, all before any cryptography: a token bucket per source address for new connections, a count of
//! connections per source address, and a count of peers that have connected but not yet authenticated ("half-open").
//! When the half-open table is full, the oldest half-open peer makes room, so that silent peers cannot keep good ones out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use signet_core::Mono;
use tokio::sync::Notify;

/// Source addresses remembered at most; beyond it, unknown addresses share one bucket.
const ADDRESSES_TRACKED_MAX: usize = 65_536;

/// Bounds on peers that have not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Peers between accept and the end of their handshake, in all.
    pub half_open_max: usize,
    /// Connections of one source address (an IPv6 /64 counts as one), authenticated or not; `None`: no bound.
    pub connections_per_address_max: Option<usize>,
    /// New connections per second and source address; twice this may come in a burst. 0 = no bound.
    pub connects_per_address_per_second: u32,
}

/// Why a new connection was turned away before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This address connects faster than `connects_per_address_per_second`.
    AddressRate,
    /// This address has `connections_per_address_max` connections.
    AddressConnections,
}

impl Refused {
    /// The bounded label under which the dashboard counts it.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::AddressRate => "address_rate",
            Self::AddressConnections => "address_connections",
        }
    }
}

#[derive(Debug, Default)]
struct Source {
    connections: usize,
    /// Token bucket as "the time at which it was last empty", in nanoseconds of [`Mono`].
    drained_until: Duration,
}

#[derive(Debug, Default)]
struct Table {
    sources: HashMap<IpAddr, Source, foldhash::fast::RandomState>,
    overflow: Source,
    half_open: BTreeMap<u64, Arc<Notify>>,
    next_ticket: u64,
}

/// Decides who may begin a handshake.
#[derive(Debug)]
pub struct Admission {
    limits: Mutex<AdmissionLimits>,
    table: Mutex<Table>,
}

/// A peer's place among the half-open. Dropped when the peer has authenticated or is gone.
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

/// A connection's place among those of its address. Dropped when the connection is gone.
#[derive(Debug)]
pub struct AddressSlot {
    /// `None`: counted among the addresses that share the overflow entry.
    source: Option<IpAddr>,
    admission: Arc<Admission>,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut table = self.admission.table.lock();
        let table = &mut *table;
        // An entry with connections is never forgotten, so a slot always finds the entry that counted it.
        let source =
            self.source.and_then(|address| table.sources.get_mut(&address)).unwrap_or(&mut table.overflow);
        source.connections = source.connections.saturating_sub(1);
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

    /// Admits one new connection from `address`, or says why not.
    pub fn admit(self: &Arc<Self>, address: IpAddr, now: Mono) -> Result<(Ticket, AddressSlot), Refused> {
        let limits = *self.limits.lock();
        let source_key = source_of(address);
        let now = now.elapsed();
        let mut table = self.table.lock();
        if table.sources.len() >= ADDRESSES_TRACKED_MAX && !table.sources.contains_key(&source_key) {
            table.sources.retain(|_, source| source.connections > 0 || source.drained_until > now);
        }
        let full = table.sources.len() >= ADDRESSES_TRACKED_MAX && !table.sources.contains_key(&source_key);
        let table = &mut *table;
        let source = if full { &mut table.overflow } else { table.sources.entry(source_key).or_default() };
        if limits.connections_per_address_max.is_some_and(|most| source.connections >= most) {
            return Err(Refused::AddressConnections);
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
        let slot = AddressSlot { source: (!full).then_some(source_key), admission: Arc::clone(self) };
        Ok((Ticket { number, evicted, admission: Arc::clone(self) }, slot))
    }
}

impl Source {
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
