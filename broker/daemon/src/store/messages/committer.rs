//! The one thread that makes durable what the core has recorded.
//!
//! It waits for the journal's bell, takes what is there, and lets it come to rest for a moment: a message that its receivers
//! acknowledge meanwhile leaves nothing to write, and then whoever waits is answered at once. What is left goes to the
//! store in one batch with one sync.
//!
//! While the store cannot be written nothing is settled: nobody is told that something is kept that is not. The same batch
//! is tried again until it is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use signet_core::journal::{Journal, Portion, Ticket};

use super::MessagesError;
use super::ledger::{Counts, Ledger};
use super::metrics::StoreMetrics;
use super::store::{Batch, MessageStore, Snapshot};
use crate::clock::Clock;

/// Between two takes while something waits to be written: taking holds up every publisher for a moment.
const TAKES_APART: Duration = Duration::from_micros(250);
/// Whoever is in the middle of what belongs together may have lost the processor there, and for long if its priority is low and
/// the machine busy. So long nobody but those whose acknowledgements wait for the store waits for it,
const MIDDLE_WITHIN: Duration = Duration::from_millis(50);
/// when it was the same in so many looks in a row. Otherwise it is many who are busy, and each is done after microseconds.
const LOOKS_IN_A_ROW: usize = 16;
/// It is looked again after so long.
const LOOKS_APART: Duration = Duration::from_micros(50);
/// So many bytes of records are written without waiting for more.
const BYTES_AT_ONCE: usize = 4 << 20;
/// Between two attempts to write after one failed.
const RETRY: Duration = Duration::from_millis(500);
/// Between two looks at the size of the store.
const LOOK_AT_SIZE: Duration = Duration::from_secs(5);

/// When the committer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// So long after the first record of a portion: `durability-linger`, or the interval of `batched`.
    pub linger: Duration,
}

/// What the committer and those who ask share.
#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    /// Why nothing can be written now.
    trouble: Mutex<Option<MessagesError>>,
    asks: Mutex<Vec<Ask>>,
}

type Ask = SyncSender<Result<Box<dyn Snapshot>, MessagesError>>;

/// The committer of one broker. Dropping it writes what is left, if it can be, and ends the thread.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    unparker: Thread,
}

struct Bell(Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl Committer {
    /// Starts the thread, which has the store and the ledger that was loaded from it from now on.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(
        journal: Arc<Journal>,
        store: Box<dyn MessageStore>,
        ledger: Ledger,
        clock: Clock,
        pace: Pace,
        metrics: StoreMetrics,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            trouble: Mutex::default(),
            asks: Mutex::default(),
        });
        let mut writer = Writer {
            journal,
            store,
            clock,
            pace,
            metrics,
            shared: Arc::clone(&shared),
            upto: Ticket::NONE,
            bytes: 0,
            records: 0,
            since: None,
            told: ledger.counts(),
            ledger,
            sized: None,
        };
        let thread = std::thread::Builder::new().name("signet-store".to_owned()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                // Nobody would ever be answered again: a supervisor is to start the process anew.
                tracing::error!(
                    "the thread that writes sessions and messages failed: the broker ends here, with nothing lost that was \
                     acknowledged\n  hint: report the panic above; what is stored is read at the next start"
                );
                std::process::abort();
            }
        })?;
        let unparker = thread.thread().clone();
        Ok(Self { shared, thread: Some(thread), unparker })
    }

    /// Why nothing can be written now; `None`: all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<MessagesError> {
        self.shared.trouble.lock().clone()
    }

    /// Everything that is committed, as it is now. Waits for the commit that is under way.
    ///
    /// # Errors
    /// The store cannot be read now.
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, MessagesError> {
        let (ask, answer): (Ask, Receiver<_>) = sync_channel(1);
        self.shared.asks.lock().push(ask);
        self.unparker.unpark();
        answer.recv().unwrap_or(Err(MessagesError::Closed))
    }

    /// Writes what is left and ends the thread.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.unparker.unpark();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes sessions and messages did not end well");
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Writer {
    journal: Arc<Journal>,
    store: Box<dyn MessageStore>,
    ledger: Ledger,
    clock: Clock,
    pace: Pace,
    metrics: StoreMetrics,
    shared: Arc<Shared>,
    /// What was taken goes up to here,
    upto: Ticket,
    /// counts for so many bytes in the journal's bound,
    bytes: usize,
    /// is so many records,
    records: u64,
    /// and the first of it was taken then; `None`: all is settled.
    since: Option<Instant>,
    /// What the metrics know.
    told: Counts,
    sized: Option<Instant>,
}

impl Writer {
    fn run(&mut self) {
        self.journal.set_bell(Waker::from(Arc::new(Bell(std::thread::current()))));
        loop {
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            self.take();
            if self.since.is_some() && self.ledger.is_settled() {
                self.metrics.without_commit.inc();
                self.settle();
            }
            self.answer_asks();
            let wait = self.until_due();
            if !self.ledger.is_settled() && (stopping || wait.is_none()) {
                if !self.commit() {
                    return;
                }
                continue;
            }
            if stopping {
                return;
            }
            self.look_at_size();
            match wait {
                // More may come, and some of what there is may go; not a park, which every record would end.
                Some(left) if self.since.is_some() => std::thread::sleep(left.min(TAKES_APART)),
                _ => std::thread::park_timeout(LOOK_AT_SIZE),
            }
            if let Some(left) = wait.filter(|left| self.since.is_some() && *left > TAKES_APART) {
                std::thread::park_timeout(left.saturating_sub(TAKES_APART));
            }
        }
    }

    fn take(&mut self) {
        self.metrics.unsettled_bytes.set(level(self.journal.unsettled_bytes() as u64));
        let Some(portion) = self.portion() else { return };
        self.bytes += portion.bytes();
        self.upto = portion.upto;
        self.records += portion.records.len() as u64;
        self.since.get_or_insert_with(Instant::now);
        for record in portion.records {
            self.ledger.take_in(record);
        }
        let counts = self.ledger.counts();
        self.metrics.spared.inc_by(counts.spared - self.told.spared);
        self.metrics.unwritable.inc_by(counts.unwritable - self.told.unwritable);
        self.told = counts;
    }

    /// Takes what was appended.
    fn portion(&self) -> Option<Portion> {
        let begun = Instant::now();
        loop {
            let mut found = None;
            for _ in 0..LOOKS_IN_A_ROW {
                match self.journal.try_take() {
                    Ok(portion) => return portion,
                    Err(now) if found.is_some_and(|before| before != now) => return self.journal.take(),
                    Err(now) => found = Some(now),
                }
                std::thread::yield_now();
            }
            if begun.elapsed() >= MIDDLE_WITHIN {
                return self.journal.take();
            }
            std::thread::sleep(LOOKS_APART);
        }
    }

    /// How long until what was taken is to be written; `None`: now.
    fn until_due(&self) -> Option<Duration> {
        if self.bytes >= BYTES_AT_ONCE || self.journal.is_full() {
            return None;
        }
        // What a load left to be deleted has no portion, and waits for the first one.
        let Some(since) = self.since else { return Some(Duration::MAX) };
        self.pace.linger.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    fn settle(&mut self) {
        self.journal.settle(self.upto, std::mem::take(&mut self.bytes));
        self.since = None;
        self.records = 0;
        self.metrics.unsettled_bytes.set(level(self.journal.unsettled_bytes() as u64));
    }

    /// Writes until all is written, in several batches when it is much. False: it is not, and the broker stops. Nothing is
    /// settled before the last batch: until then nobody has been told that any of it is kept.
    fn commit(&mut self) -> bool {
        while !self.ledger.is_settled() {
            let batch = self.ledger.render(self.clock.now());
            if !batch.is_empty() && !self.write(&batch) {
                tracing::error!(
                    records = self.records,
                    "the message store could not be written before the end: what was not acknowledged is lost"
                );
                return false;
            }
        }
        self.metrics.portion_records.observe(self.records as f64);
        self.metrics.waiting_messages.set(level(self.ledger.body_count() as u64));
        self.settle();
        true
    }

    fn write(&mut self, batch: &Batch) -> bool {
        let mut failing_since: Option<Instant> = None;
        loop {
            let started = Instant::now();
            let written = match failing_since {
                None => self.store.commit(batch),
                Some(_) => self.store.reopen().and_then(|()| self.store.commit(batch)),
            };
            let Err(error) = written else {
                self.metrics.commits.inc();
                self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                self.metrics.batch_bytes.observe(batch.bytes() as f64);
                if let Some(since) = failing_since {
                    *self.shared.trouble.lock() = None;
                    self.metrics.failing.set(0);
                    let seconds = since.elapsed().as_secs();
                    tracing::warn!(
                        seconds,
                        "the message store can be written again; nothing that was acknowledged is lost"
                    );
                }
                return true;
            };
            self.metrics.errors.with_label_values(&[error.metric_label()]).inc();
            self.metrics.failing.set(1);
            if failing_since.is_none() {
                let hint = if error.is_full() {
                    "make room on the disk"
                } else {
                    "see that the disk is well and can be written"
                };
                tracing::error!(
                    cause = error.metric_label(),
                    "ALARM: the message store cannot be written: {error}\n  hint: {hint}; QoS 1 and 2 are not acknowledged until \
                     then, and it is tried again every {} ms without a restart",
                    RETRY.as_millis()
                );
                failing_since = Some(started);
            } else {
                tracing::debug!(%error, "the message store still cannot be written");
            }
            *self.shared.trouble.lock() = Some(error);
            let again = Instant::now() + RETRY;
            while let Some(left) = again.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                self.answer_asks();
                if self.shared.stopping.load(Ordering::Acquire) {
                    // The last attempt was this one.
                    return self.store.reopen().and_then(|()| self.store.commit(batch)).is_ok();
                }
                std::thread::park_timeout(left);
            }
        }
    }

    fn answer_asks(&mut self) {
        let asks = std::mem::take(&mut *self.shared.asks.lock());
        for ask in asks {
            // Whoever asked may have gone away.
            let _ = ask.send(self.store.snapshot());
        }
    }

    fn look_at_size(&mut self) {
        if self.sized.is_some_and(|at| at.elapsed() < LOOK_AT_SIZE) {
            return;
        }
        self.sized = Some(Instant::now());
        self.store.rest();
        let size = self.store.size();
        self.metrics.disk_bytes.set(level(size.disk_bytes));
        self.metrics.tables.set(level(size.tables));
        self.metrics.memory_bytes.set(level(size.memory_bytes));
        self.metrics.compactions.set(level(size.compactions));
    }
}

fn level(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
