//! The registry of the running broker: questions answered from memory, commands handed to the writer.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Mutex, RwLock};
use signet_identity::CertificateId;
use signet_registry::audit::Head;
use signet_registry::{
    Actor, Attempt, Command, Effects, Event, KeyHash, Limits, Line, Registry, Seen, SeenBook, SerialNumber,
    Standing, TlsVersion, Topic, Wall,
};
use tokio::sync::oneshot;

use super::database::{Database, load, load_seen};
use super::place::Place;
use super::writer::{Job, Writer};
use super::{ExecuteError, StoreError, schema};

/// The most commands that wait for the writer; more are refused with [`StoreError::Busy`].
pub const QUEUE_COMMANDS_MAX: usize = 4096;

/// How long who reads the audit trail waits for what was recorded before.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// How the registry is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bounds of its tables.
    pub limits: Limits,
    /// The wall clock.
    pub clock: fn() -> Wall,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), clock: wall }
    }
}

/// The wall clock in the terms of the registry.
fn wall() -> Wall {
    Wall(crate::clock::wall().0)
}

/// A command that is stored and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// When it was decided.
    pub at: Wall,
    /// What happened.
    pub events: Vec<Event>,
    /// What follows from it for those who keep connections, sessions and revocation lists.
    pub effects: Effects,
}

/// What the store has done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands that were stored.
    pub commands: u64,
    /// Commands that the registry refused.
    pub refused: u64,
    /// Commands that failed because the store did.
    pub failed: u64,
    /// Events that were stored.
    pub events: u64,
    /// Transactions that stored events; each is one wait for the disk.
    pub transactions: u64,
    /// Rows of last-seen data that were stored.
    pub seen: u64,
    /// Refusals that were not recorded because too many commands waited.
    pub unrecorded: u64,
    /// Times that what follows from a change failed; the change itself is in force.
    pub deaf: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commands: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) transactions: AtomicU64,
    pub(super) seen: AtomicU64,
    /// Subscribers that panicked.
    pub(super) deaf: AtomicU64,
    unrecorded: AtomicU64,
}

type Subscriber = Box<dyn Fn(&Applied, &Registry) + Send + Sync>;

/// What the writer and those who ask share.
pub(super) struct Shared {
    pub(super) place: Place,
    pub(super) clock: fn() -> Wall,
    pub(super) snapshot: ArcSwap<Registry>,
    pub(super) head: Mutex<Head>,
    pub(super) seen: SeenBook,
    pub(super) subscribers: RwLock<Vec<Subscriber>>,
    pub(super) counters: Counters,
}

/// The registry of one broker. Dropping it writes what is left of last-seen data, and ends its thread.
pub struct RegistryService {
    shared: Arc<Shared>,
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for RegistryService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryService")
            .field("directory", &self.shared.place.directory())
            .field("head", &self.head().seq)
            .finish_non_exhaustive()
    }
}

impl RegistryService {
    /// Opens the registry in `directory`, which this process alone has from then on; makes it when there has never been one.
    ///
    /// Every event is read, its place in the audit trail verified, and applied.
    ///
    /// # Errors
    /// [`StoreError`] with what to do. Nothing that is there is changed by a refusal.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, Options::default())
    }

    /// [`Self::open`] with other bounds or another clock.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(directory: &Path, options: Options) -> Result<Self, StoreError> {
        let place = Place::take(directory)?;
        let path = place.database();
        let connection = schema::open(&place)?;
        let (registry, head) = load(&connection, &path, options.limits, place.known_head()?)?;
        let seen = SeenBook::restore(load_seen(&connection, &path)?);
        let mut head_file = place.head_file()?;
        head_file.write(&head).map_err(|error| StoreError::io(place.directory(), error))?;
        let shared = Arc::new(Shared {
            clock: options.clock,
            snapshot: ArcSwap::from_pointee(registry.clone()),
            head: Mutex::new(head),
            seen,
            subscribers: RwLock::default(),
            counters: Counters::default(),
            place,
        });
        let (queue, jobs) = sync_channel(QUEUE_COMMANDS_MAX);
        let writer = Writer::new(Arc::clone(&shared), Database::new(connection), registry, head, head_file);
        let thread = std::thread::Builder::new()
            .name("signet-registry".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(|error| StoreError::io(directory, error))?;
        Ok(Self { shared, queue: Some(queue), thread: Some(thread) })
    }

    /// Where the certificate `id` stands, which the key `issuer` signed under the number `serial`. No query and no lock.
    #[must_use]
    pub fn standing(&self, id: &CertificateId, issuer: &KeyHash, serial: &SerialNumber) -> Standing {
        self.shared.snapshot.load().standing(id, issuer, serial, self.now())
    }

    /// The registry as it is now, for several questions about one state. Held only for a moment: while it is, what it was is
    /// kept in memory.
    #[must_use]
    pub fn registry(&self) -> Guard<Arc<Registry>> {
        self.shared.snapshot.load()
    }

    /// The registry as it is now, to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Registry> {
        self.shared.snapshot.load_full()
    }

    /// The wall clock that commands are decided by.
    #[must_use]
    pub fn now(&self) -> Wall {
        (self.shared.clock)()
    }

    /// The last event that is stored.
    #[must_use]
    pub fn head(&self) -> Head {
        *self.shared.head.lock()
    }

    /// The folder that it lives in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.shared.place.directory()
    }

    pub(super) fn database_path(&self) -> PathBuf {
        self.shared.place.database()
    }

    /// Decides `command`, stores what follows, applies it, and returns when that is durable and every subscriber has been
    /// told. It waits for the disk: not for threads that carry traffic, and not inside a task (see [`Self::submit`]).
    ///
    /// # Errors
    /// [`ExecuteError`]; then nothing has changed, but for [`StoreError::DiskFailed`], where that is unknown.
    pub fn execute(&self, command: Command, actor: Actor) -> Result<Applied, ExecuteError> {
        self.submit(command, actor).wait()
    }

    /// Hands `command` to the writer and does not wait. Commands of one caller are decided in the order in which they were
    /// handed over, and those that wait together share a transaction.
    pub fn submit(&self, command: Command, actor: Actor) -> Pending {
        let (reply, answer) = oneshot::channel();
        match self.enqueue(Job::Execute { command: Box::new(command), actor, reply }) {
            Ok(()) => Pending(Ok(answer)),
            Err(error) => Pending(Err(error)),
        }
    }

    /// Records in the audit trail that somebody was refused something. It does not wait; when too many commands wait, the
    /// record is left out and counted. The caller bounds how many one peer can cause.
    pub fn record_refusal(
        &self,
        attempt: Attempt,
        why: &dyn std::fmt::Display,
        unrecorded: u64,
        actor: Actor,
    ) {
        let event = Event::refused(attempt, why, unrecorded, actor, self.now());
        if self.enqueue(Job::Record(Box::new(event))).is_err() {
            self.shared.counters.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a note into the audit trail. It does not wait; when too many commands wait, it is left out and counted.
    pub fn note(&self, topic: Topic, text: &dyn std::fmt::Display, actor: Actor) {
        let (reply, _nobody_waits) = oneshot::channel();
        let command = Box::new(Command::Note { topic, text: Line::new(&text.to_string()) });
        if self.enqueue(Job::Execute { command, actor, reply }).is_err() {
            self.shared.counters.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was handed over before is stored, or has failed; at most [`SETTLE_PATIENCE`], and not at all
    /// when too many commands wait. Not for threads that carry traffic, and not inside a task.
    pub(super) fn settle(&self) {
        let (waiting, settled) = sync_channel(1);
        if self.enqueue(Job::Settle(waiting)).is_ok() {
            // Nothing is ever sent: the writer lets go of its end.
            let _ = settled.recv_timeout(SETTLE_PATIENCE);
        }
    }

    fn enqueue(&self, job: Job) -> Result<(), StoreError> {
        let Some(queue) = &self.queue else { return Err(StoreError::Closed) };
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy(QUEUE_COMMANDS_MAX),
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Whether the writer's thread works. When it does not, nothing can be changed, revoked or registered until a restart.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Calls `subscriber` with every command that is applied from now on, in their order, after it is durable and visible in
    /// [`Self::registry`] and before it is answered. The registry is the one after all commands of the same transaction.
    ///
    /// It runs on the writer's thread, so it must only pass on: the next command waits for it. It must not call
    /// [`Self::execute`] or this function.
    pub fn subscribe(&self, subscriber: impl Fn(&Applied, &Registry) + Send + Sync + 'static) {
        self.shared.subscribers.write().push(Box::new(subscriber));
    }

    /// Notes that the certificate `id` has connected, and says what was seen of it before. It is written to disk within a few
    /// seconds, by and by. For certificates that the registry knows.
    pub fn seen(&self, id: &CertificateId, address: IpAddr, tls: TlsVersion) -> Option<Seen> {
        self.shared.seen.note(id, self.now(), address, tls)
    }

    /// What was seen of the certificate `id`.
    #[must_use]
    pub fn last_seen(&self, id: &CertificateId) -> Option<Seen> {
        self.shared.seen.get(id)
    }

    /// What the store has done since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commands: read(&counters.commands),
            refused: read(&counters.refused),
            failed: read(&counters.failed),
            events: read(&counters.events),
            transactions: read(&counters.transactions),
            seen: read(&counters.seen),
            unrecorded: read(&counters.unrecorded),
            deaf: read(&counters.deaf),
        }
    }

    #[cfg(test)]
    pub(super) fn send(&self, job: Job) {
        assert!(self.enqueue(job).is_ok(), "the writer runs");
    }
}

impl Drop for RegistryService {
    fn drop(&mut self) {
        // The writer ends when nobody can send to it any more.
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(
                "the thread that writes the registry ended by a panic; this is a defect, please report it"
            );
        }
    }
}

/// The answer to a command that was handed over.
#[derive(Debug)]
pub struct Pending(Result<oneshot::Receiver<Result<Applied, ExecuteError>>, StoreError>);

impl Pending {
    /// Waits for it. Not inside a task.
    ///
    /// # Errors
    /// As [`RegistryService::execute`].
    pub fn wait(self) -> Result<Applied, ExecuteError> {
        self.0?.blocking_recv().unwrap_or(Err(ExecuteError::Store(StoreError::Closed)))
    }

    /// Waits for it inside a task.
    ///
    /// # Errors
    /// As [`RegistryService::execute`].
    pub async fn answer(self) -> Result<Applied, ExecuteError> {
        self.0?.await.unwrap_or(Err(ExecuteError::Store(StoreError::Closed)))
    }
}
