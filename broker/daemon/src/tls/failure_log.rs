//! The failed handshakes of late: kept, counted by cause, and logged without letting one client fill the log.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::cause::FailureCause;
use super::failure::FailureRecord;

/// The bounds of a [`FailureLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLogLimits {
    /// Records kept.
    pub records_max: usize,
    /// Addresses whose rate is followed; those beyond share one allowance.
    pub addresses_max: usize,
    /// Records that an address may leave at once.
    pub burst: u32,
    /// After how long it may leave one more.
    pub refill: Duration,
}

impl Default for FailureLogLimits {
    fn default() -> Self {
        Self { records_max: 1_000, addresses_max: 4_096, burst: 5, refill: Duration::from_secs(10) }
    }
}

/// Whether a record is to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogAdvice {
    /// Log it, and say how many of the same address were not logged before it.
    Log {
        /// How many were not logged.
        suppressed: u64,
    },
    /// Do not: the address has left enough. It is counted all the same.
    Suppress,
}

/// What one address has left of its allowance.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    tokens: u32,
    refilled: Duration,
    suppressed: u64,
}

struct Inner {
    records: VecDeque<Arc<FailureRecord>>,
    addresses: HashMap<IpAddr, Allowance>,
    /// For addresses that find no room.
    shared: Allowance,
}

/// The failed handshakes of late. Shared by all listeners.
pub struct FailureLog {
    limits: FailureLogLimits,
    counts: [AtomicU64; FailureCause::ALL.len()],
    inner: Mutex<Inner>,
}

impl FailureLog {
    /// An empty log.
    #[must_use]
    pub fn new(limits: FailureLogLimits) -> Self {
        let shared = Allowance { tokens: limits.burst, refilled: Duration::ZERO, suppressed: 0 };
        let inner = Inner { records: VecDeque::new(), addresses: HashMap::new(), shared };
        Self { limits, counts: Default::default(), inner: Mutex::new(inner) }
    }

    /// Counts a failure, and keeps it unless its address has left too many. `mono` is the time since any fixed
    /// moment and never goes back.
    pub fn record(&self, record: FailureRecord, mono: Duration) -> (Arc<FailureRecord>, LogAdvice) {
        if let Some(count) = self.counts.get(record.cause.index()) {
            count.fetch_add(1, Relaxed);
        }
        let record = Arc::new(record);
        let mut inner = self.inner.lock();
        let advice = inner.admit(network(record.peer.ip()), mono, &self.limits);
        if advice != LogAdvice::Suppress && self.limits.records_max > 0 {
            if inner.records.len() >= self.limits.records_max {
                inner.records.pop_front();
            }
            inner.records.push_back(Arc::clone(&record));
        }
        (record, advice)
    }

    /// The records kept, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Arc<FailureRecord>> {
        self.inner.lock().records.iter().cloned().collect()
    }

    /// How many handshakes failed, by cause, those not kept included.
    pub fn counts(&self) -> impl Iterator<Item = (FailureCause, u64)> {
        FailureCause::ALL.iter().zip(&self.counts).map(|(cause, count)| (*cause, count.load(Relaxed)))
    }
}

impl Default for FailureLog {
    fn default() -> Self {
        Self::new(FailureLogLimits::default())
    }
}

impl std::fmt::Debug for FailureLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailureLog").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Inner {
    fn admit(&mut self, address: IpAddr, mono: Duration, limits: &FailureLogLimits) -> LogAdvice {
        if !self.addresses.contains_key(&address) && self.addresses.len() >= limits.addresses_max {
            // Whoever has its whole allowance back and nothing to report need not be remembered.
            self.addresses.retain(|_, allowance| {
                allowance.refill(mono, limits);
                allowance.tokens < limits.burst
                    || (allowance.suppressed > 0 && !allowance.is_old(mono, limits))
            });
        }
        if !self.addresses.contains_key(&address) && self.addresses.len() >= limits.addresses_max {
            return self.shared.spend(mono, limits);
        }
        let fresh = Allowance { tokens: limits.burst, refilled: mono, suppressed: 0 };
        self.addresses.entry(address).or_insert(fresh).spend(mono, limits)
    }
}

impl Allowance {
    fn refill(&mut self, mono: Duration, limits: &FailureLogLimits) {
        let refill = limits.refill.max(Duration::from_millis(1));
        let earned = mono.saturating_sub(self.refilled).as_nanos() / refill.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if self.tokens.saturating_add(earned) >= limits.burst {
            self.tokens = limits.burst;
            self.refilled = self.refilled.max(mono);
        } else {
            self.tokens += earned;
            self.refilled += refill * earned;
        }
    }

    /// Whether nothing came for so long that what was suppressed is no news any more.
    fn is_old(&self, mono: Duration, limits: &FailureLogLimits) -> bool {
        mono.saturating_sub(self.refilled) > limits.refill * limits.burst.saturating_add(1)
    }

    fn spend(&mut self, mono: Duration, limits: &FailureLogLimits) -> LogAdvice {
        self.refill(mono, limits);
        match self.tokens.checked_sub(1) {
            None => {
                self.suppressed = self.suppressed.saturating_add(1);
                LogAdvice::Suppress
            }
            Some(left) => {
                self.tokens = left;
                LogAdvice::Log { suppressed: std::mem::take(&mut self.suppressed) }
            }
        }
    }
}

/// An IPv6 client has at least a /64 to choose addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        },
    }
}
