//! The failed handshakes of late: kept, counted by cause, and logged without letting one client fill the log.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::cause::FailureCause;
use super::failure::FailureRecord;
use super::failure_groups::{FailureGroup, Groups};

/// The bounds of a [`FailureLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLogLimits {
    /// Records kept.
    pub records_max: usize,
    /// Groups of one cause and one device that are counted.
    pub groups_max: usize,
    /// Addresses whose rate is followed; those beyond share one allowance.
    pub addresses_max: usize,
    /// Records that an address may leave at once.
    pub burst: u32,
    /// After how long it may leave one more.
    pub refill: Duration,
}

impl Default for FailureLogLimits {
    fn default() -> Self {
        Self {
            records_max: 1_000,
            groups_max: 1_000,
            addresses_max: 4_096,
            burst: 5,
            refill: Duration::from_secs(10),
        }
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

/// A record that was kept.
#[derive(Debug, Clone)]
pub struct KeptFailure {
    /// Its number: the first one since the start has 1, and no number is left out.
    pub number: u64,
    /// How many of the same address were not kept before it.
    pub not_kept_before: u64,
    /// The record.
    pub record: Arc<FailureRecord>,
}

/// Between two looks at all addresses.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What the log holds at one moment: each failure that is counted has its record in it, or is not kept.
#[derive(Debug, Clone)]
pub struct FailuresSince {
    /// The newer records, oldest first.
    pub records: Vec<KeptFailure>,
    /// How many newer records are gone already.
    pub missed: u64,
    /// How many failures left no record, because their address had left enough.
    pub not_kept: u64,
    counts: [u64; FailureCause::ALL.len()],
}

struct Inner {
    /// Failures by cause, those not kept included.
    counts: [u64; FailureCause::ALL.len()],
    records: VecDeque<KeptFailure>,
    /// The number of the newest record.
    newest: u64,
    not_kept: u64,
    groups: Groups,
    addresses: HashMap<IpAddr, Allowance>,
    /// Not before then the addresses are looked at for those that can be forgotten: that is a look at all of them.
    next_sweep: Duration,
    /// For addresses that find no room.
    shared: Allowance,
}

/// The failed handshakes of late. Shared by all listeners.
pub struct FailureLog {
    limits: FailureLogLimits,
    inner: Mutex<Inner>,
    /// The number of the newest record, for those who wait for one.
    newest: watch::Sender<u64>,
}

impl FailureLog {
    /// An empty log.
    #[must_use]
    pub fn new(limits: FailureLogLimits) -> Self {
        let shared = Allowance { tokens: limits.burst, refilled: Duration::ZERO, suppressed: 0 };
        let inner = Inner {
            counts: [0; FailureCause::ALL.len()],
            records: VecDeque::new(),
            newest: 0,
            not_kept: 0,
            groups: Groups::default(),
            addresses: HashMap::new(),
            next_sweep: Duration::ZERO,
            shared,
        };
        let (newest, _) = watch::channel(0);
        Self { limits, inner: Mutex::new(inner), newest }
    }

    /// Counts a failure, and keeps it unless its address has left too many. `mono` is the time since any fixed
    /// moment and never goes back.
    pub fn record(&self, record: FailureRecord, mono: Duration) -> (Arc<FailureRecord>, LogAdvice) {
        let record = Arc::new(record);
        let mut inner = self.inner.lock();
        if let Some(count) = inner.counts.get_mut(record.cause.index()) {
            *count = count.saturating_add(1);
        }
        let address = network(record.peer.ip());
        let advice = inner.admit(address, mono, &self.limits);
        let kept = inner.keep(&record, advice, &self.limits);
        inner.groups.add(&record, address, kept, self.limits.groups_max);
        let newest = inner.newest;
        drop(inner);
        if kept {
            self.newest.send_replace(newest);
        }
        (record, advice)
    }

    /// The records kept, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Arc<FailureRecord>> {
        self.inner.lock().records.iter().map(|kept| Arc::clone(&kept.record)).collect()
    }

    /// What there is at one moment, with the records of a higher number than `after`.
    #[must_use]
    pub fn since(&self, after: u64) -> FailuresSince {
        self.inner.lock().since(after)
    }

    /// Resolves when there is a record with a higher number than `after`.
    pub async fn newer_than(&self, after: u64) {
        let mut newest = self.newest.subscribe();
        // The sender lives in `self`, so waiting can only end with the value.
        let _ = newest.wait_for(|newest| *newest > after).await;
    }

    /// The number of the newest record; 0 when there has been none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.inner.lock().newest
    }

    /// All that there is at one moment; and failures by cause and device, those not kept included, the most frequent first,
    /// with how many of these groups gave way to newer ones.
    #[must_use]
    pub fn all(&self) -> (FailuresSince, Vec<FailureGroup>, u64) {
        let inner = self.inner.lock();
        (inner.since(0), inner.groups.all(), inner.groups.forgotten())
    }

    /// The bounds.
    #[must_use]
    pub const fn limits(&self) -> &FailureLogLimits {
        &self.limits
    }
}

impl FailuresSince {
    /// How many handshakes failed, by cause, those not kept included.
    pub fn counts(&self) -> impl Iterator<Item = (FailureCause, u64)> {
        FailureCause::ALL.iter().zip(&self.counts).map(|(cause, count)| (*cause, *count))
    }

    /// How many handshakes failed, those not kept included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
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
    fn since(&self, after: u64) -> FailuresSince {
        let records: Vec<KeptFailure> =
            self.records.iter().filter(|kept| kept.number > after).cloned().collect();
        let wanted = self.newest.saturating_sub(after);
        let missed = wanted.saturating_sub(records.len() as u64);
        FailuresSince { records, missed, counts: self.counts, not_kept: self.not_kept }
    }

    /// Keeps a record if that is the advice; whether it did.
    fn keep(&mut self, record: &Arc<FailureRecord>, advice: LogAdvice, limits: &FailureLogLimits) -> bool {
        let LogAdvice::Log { suppressed } = advice else {
            self.not_kept = self.not_kept.saturating_add(1);
            return false;
        };
        if limits.records_max == 0 {
            return false;
        }
        if self.records.len() >= limits.records_max {
            self.records.pop_front();
        }
        self.newest = self.newest.saturating_add(1);
        self.records.push_back(KeptFailure {
            number: self.newest,
            not_kept_before: suppressed,
            record: Arc::clone(record),
        });
        true
    }

    fn admit(&mut self, address: IpAddr, mono: Duration, limits: &FailureLogLimits) -> LogAdvice {
        let full = !self.addresses.contains_key(&address) && self.addresses.len() >= limits.addresses_max;
        if full && mono >= self.next_sweep {
            self.next_sweep = mono.saturating_add(SWEEP_INTERVAL);
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
