//! What must outlive the process, in the order in which it became true.
//!
//! The core writes nothing to a disk. It appends [`Record`]s, each with a [`Ticket`], under the lock that orders them: a
//! session's own records under that session's locks, a topic's retained message under the topic's. Somebody outside, one
//! thread, takes them with [`Journal::take`], makes them durable, and says so with [`Journal::settle`]. A connection that
//! owes somebody an acknowledgement says [`crate::Action::Hold`] with the ticket first: what follows leaves when that
//! ticket is settled.
//!
//! A portion that is taken is whole: it never has one half of what `together` joined.
//!
//! What is recorded is what later records do not undo. The taker may leave out a message that was queued and done with
//! in the same portion: a receiver that acknowledges in time costs no write.

mod record;
mod restored;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

pub use record::{QueuedEntry, Record, SessionNumber, StoredSession};
pub use restored::{RestoredEntry, RestoredSession};

/// A place in the journal. Everything up to a settled ticket outlives the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// Before the first record: always settled.
    pub const NONE: Self = Self(0);
}

/// Records that were taken at once, in order.
#[derive(Debug)]
pub struct Portion {
    /// In the order of their tickets.
    pub records: Vec<Record>,
    /// The ticket of the last one.
    pub upto: Ticket,
    bytes: usize,
}

/// Somebody is in the middle of what belongs together, and none of it can be taken. Two that are not equal are not the same
/// somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("somebody is in the middle of what belongs together")]
pub struct InTheMiddle {
    /// Which gate was found closed first.
    gate: usize,
}

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// For the disk: it leaves once what it acknowledges outlives the process.
    #[default]
    Strict,
    /// For nothing: what was acknowledged shortly before a crash may be lost.
    Batched,
}

/// So many groups of writers that [`Journal::together`] does not make wait for each other.
const GATES: usize = 16;
/// Bookkeeping of one record, in bytes.
const RECORD_OVERHEAD_BYTES: usize = 96;

/// The records that nobody has made durable yet, and who waits for them.
pub struct Journal {
    pending: Mutex<Pending>,
    /// Held for reading by who appends what belongs together, for writing by who takes.
    gates: [Gate; GATES],
    settled: AtomicU64,
    /// Bytes of records that are not settled, those that were taken included.
    bytes: AtomicUsize,
    bytes_max: AtomicUsize,
    waiting: Mutex<Waiting>,
    /// The taker has been called since it last took.
    rung: AtomicBool,
}

/// In a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Gate(RwLock<()>);

#[derive(Default)]
struct Pending {
    records: Vec<Record>,
    /// What they count for in the bound.
    bytes: usize,
    last: u64,
    /// Portions that were taken.
    portions: u64,
    bell: Option<Waker>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    wakers: BTreeMap<(Ticket, u64), Waker>,
    /// Waits for room, not for a ticket.
    room: BTreeMap<u64, Waker>,
}

/// Somebody waits to be called. Dropping it ends the waiting: whoever is gone is not kept in memory by a disk that hangs.
#[must_use]
pub struct Call {
    journal: Arc<Journal>,
    /// `None`: for room.
    ticket: Option<Ticket>,
    number: u64,
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut waiting = self.journal.waiting.lock();
        let _waker = match self.ticket {
            Some(ticket) => waiting.wakers.remove(&(ticket, self.number)),
            None => waiting.room.remove(&self.number),
        };
        // The lock goes before the waker does.
        drop(waiting);
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("settled", &self.settled.load(Ordering::Relaxed))
            .field("bytes", &self.bytes.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// The records of one session.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    journal: Arc<Journal>,
    session: SessionNumber,
}

impl Log {
    pub(crate) const fn new(journal: Arc<Journal>, session: SessionNumber) -> Self {
        Self { journal, session }
    }

    /// Appends a record of the session. The caller holds the session's lock that orders it.
    pub(crate) fn add(&self, record: impl FnOnce(SessionNumber) -> Record) -> Ticket {
        self.journal.append(record(self.session))
    }

    /// The ticket of everything that was recorded so far, by whomever. Who repeats a question is answered when what it did
    /// the first time is settled.
    pub(crate) fn latest(&self) -> Ticket {
        self.journal.last()
    }
}

/// While it lives, nothing is taken.
#[must_use]
pub(crate) struct Together<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>);

impl Journal {
    /// An empty journal. `bytes_max`: from so many bytes of unsettled records on, [`Self::is_full`].
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            pending: Mutex::default(),
            gates: std::array::from_fn(|_| Gate::default()),
            settled: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            bytes_max: AtomicUsize::new(bytes_max),
            waiting: Mutex::default(),
            rung: AtomicBool::new(false),
        }
    }

    /// Appends a record. The caller holds the lock that orders it among those that concern the same thing.
    pub fn append(&self, record: Record) -> Ticket {
        let mut pending = self.pending.lock();
        let bytes = RECORD_OVERHEAD_BYTES + record.bytes(pending.portions + 1);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        pending.bytes += bytes;
        pending.last += 1;
        pending.records.push(record);
        let ticket = Ticket(pending.last);
        let bell = if self.rung.swap(true, Ordering::AcqRel) { None } else { pending.bell.clone() };
        drop(pending);
        if let Some(bell) = bell {
            bell.wake();
        }
        ticket
    }

    /// The ticket of the last record: what was appended before this call is settled when it is.
    pub(crate) fn last(&self) -> Ticket {
        Ticket(self.pending.lock().last)
    }

    /// Joins what is appended until the guard goes: a portion has all of it or nothing. `number` is any number of the
    /// caller's own, such as its session's.
    ///
    /// It comes before every other lock, and is not taken twice by one thread: who holds it must not wait for somebody who
    /// may be waiting for it, and while a taker waits everybody who comes waits behind.
    pub(crate) fn together(&self, number: u64) -> Together<'_> {
        let place = usize::try_from(number % GATES as u64).unwrap_or_default();
        // The array has GATES places.
        let gate = self.gates.get(place).unwrap_or(&self.gates[0]);
        Together(gate.0.read())
    }

    /// Who is called when there is something to take; once for each [`Self::take`]. Take once after this: what was appended
    /// before does not call.
    ///
    /// It is called with locks of the core held: it may not call the core, only wake somebody.
    pub fn set_bell(&self, bell: Waker) {
        self.pending.lock().bell = Some(bell);
    }

    /// Takes everything that was appended; `None`: nothing was. Waits for whoever is in the middle of what belongs together, and
    /// whoever comes meanwhile waits too.
    pub fn take(&self) -> Option<Portion> {
        let _closed: Vec<_> = self.gates.iter().map(|gate| gate.0.write()).collect();
        self.take_pending()
    }

    /// As [`Self::take`], but nobody waits for anybody. The next record calls again.
    ///
    /// # Errors
    /// [`InTheMiddle`]: nothing is taken.
    pub fn try_take(&self) -> Result<Option<Portion>, InTheMiddle> {
        let closed = self.gates.iter().enumerate();
        let closed = closed.map(|(gate, lock)| lock.0.try_write().ok_or(InTheMiddle { gate }));
        let closed: Result<Vec<_>, InTheMiddle> = closed.collect();
        if let Err(in_the_middle) = closed {
            self.rung.store(false, Ordering::Release);
            return Err(in_the_middle);
        }
        Ok(self.take_pending())
    }

    fn take_pending(&self) -> Option<Portion> {
        let mut pending = self.pending.lock();
        self.rung.store(false, Ordering::Release);
        if pending.records.is_empty() {
            return None;
        }
        pending.portions += 1;
        Some(Portion {
            records: std::mem::take(&mut pending.records),
            upto: Ticket(pending.last),
            bytes: std::mem::take(&mut pending.bytes),
        })
    }

    /// Says that everything up to `upto` outlives the process, and that `bytes` of [`Portion::bytes`] are off the books.
    /// Calls who waited for it.
    pub fn settle(&self, upto: Ticket, bytes: usize) {
        self.settled.fetch_max(upto.0, Ordering::AcqRel);
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        let has_room = before.saturating_sub(bytes) < self.bytes_max.load(Ordering::Relaxed);
        let (due, room) = {
            let mut waiting = self.waiting.lock();
            let later = waiting.wakers.split_off(&(Ticket(upto.0.saturating_add(1)), 0));
            let due = std::mem::replace(&mut waiting.wakers, later);
            (due, if has_room { std::mem::take(&mut waiting.room) } else { BTreeMap::new() })
        };
        for waker in due.into_values().chain(room.into_values()) {
            waker.wake();
        }
    }

    /// Whether everything up to `ticket` outlives the process.
    #[must_use]
    pub fn is_settled(&self, ticket: Ticket) -> bool {
        ticket.0 <= self.settled.load(Ordering::Acquire)
    }

    /// Calls `waker` once `ticket` is settled, unless the [`Call`] is dropped before. `None`: it is already, and nobody will
    /// call.
    pub fn wake_when_settled(self: &Arc<Self>, ticket: Ticket, waker: &Waker) -> Option<Call> {
        let mut waiting = self.waiting.lock();
        if self.is_settled(ticket) {
            return None;
        }
        let number = waiting.number();
        waiting.wakers.insert((ticket, number), waker.clone());
        Some(Call { journal: Arc::clone(self), ticket: Some(ticket), number })
    }

    /// Whether so much is not durable yet that nothing more should be read from publishers.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.bytes_max.load(Ordering::Relaxed)
    }

    /// Calls `waker` once there is room, unless the [`Call`] is dropped before. `None`: there is, and nobody will call.
    pub fn wake_when_room(self: &Arc<Self>, waker: &Waker) -> Option<Call> {
        let mut waiting = self.waiting.lock();
        if !self.is_full() {
            return None;
        }
        let number = waiting.number();
        waiting.room.insert(number, waker.clone());
        Some(Call { journal: Arc::clone(self), ticket: None, number })
    }

    /// Another bound of unsettled bytes.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Bytes of records that are not durable yet.
    #[must_use]
    pub fn unsettled_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Waiting {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Portion {
    /// What it counts for in the journal's bound, in bytes: a message once, however many sessions it waits for.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
