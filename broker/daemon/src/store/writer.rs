//! The one thread that changes the registry.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use signet_identity::CertificateId;
use signet_registry::audit::Head;
use signet_registry::{Actor, Command, Effects, Event, Registry, Wall};
use tokio::sync::oneshot;

use super::database::{Database, NewRow};
use super::place::HeadFile;
use super::seen::SeenWriter;
use super::service::Shared;
use super::{Applied, ExecuteError, StoreError};

/// The most commands that share a transaction.
const BATCH_COMMANDS_MAX: usize = 512;
/// No further command joins a transaction with so many events.
const BATCH_EVENTS: usize = 4096;
/// The most certificates that one round of housekeeping is about.
const HOUSEKEEPING_AT_MOST: usize = 500;
/// How long the writer sleeps when there is nothing to do, before it looks at deadlines.
const TICK: Duration = Duration::from_secs(1);
/// How long housekeeping that achieved nothing is left alone.
const HOUSEKEEPING_PAUSE: Duration = Duration::from_secs(60);

/// What the writer is asked to do.
pub(super) enum Job {
    /// Decide, store, apply, answer.
    Execute { command: Box<Command>, actor: Actor, reply: oneshot::Sender<Result<Applied, ExecuteError>> },
    /// Store a row of the audit trail that changes nothing.
    Record(Box<Event>),
    /// Let go of this once all that came before is stored, or has failed.
    Settle(SyncSender<()>),
    /// Run something on the writer's thread, between two transactions.
    #[cfg(test)]
    Inspect(Box<dyn FnOnce(&mut Writer) + Send>),
}

/// A command that is decided and applied to the working copy, and not yet stored.
struct Decided {
    outcome: Result<Applied, ExecuteError>,
    reply: Option<oneshot::Sender<Result<Applied, ExecuteError>>>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    pub(super) database: Database,
    /// What is stored, and within a batch what will be.
    working: Registry,
    head: Head,
    head_file: HeadFile,
    seen: SeenWriter,
    /// The disk failed: nothing more is written.
    failed: Option<StoreError>,
    housekeeping_not_before: Instant,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        database: Database,
        working: Registry,
        head: Head,
        head_file: HeadFile,
    ) -> Self {
        Self {
            shared,
            database,
            working,
            head,
            head_file,
            seen: SeenWriter::default(),
            failed: None,
            housekeeping_not_before: Instant::now(),
        }
    }

    /// Works until nobody can send jobs any more, then writes what is left.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let patience = if self.seen.is_behind() { Duration::ZERO } else { TICK };
            match jobs.recv_timeout(patience) {
                Ok(first) => self.batch(first, jobs),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.failed.is_none() {
                self.housekeeping();
                self.seen.write_some(&self.shared, &mut self.database);
            }
        }
        if self.failed.is_none() {
            self.seen.write_all(&self.shared, &mut self.database);
            if let Err(error) = self.database.checkpoint() {
                tracing::warn!(%error, "the registry's write-ahead log was not emptied; it is read at the next start");
            }
        }
    }

    /// Decides the jobs that wait, and stores them together.
    fn batch(&mut self, first: Job, jobs: &Receiver<Job>) {
        let now = (self.shared.clock)();
        let mut batch = Batch::new(self.working.clone(), self.head);
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Execute { command, actor, reply } => {
                    let outcome = self.decide(*command, &actor, now, &mut batch);
                    batch.decided.push(Decided { outcome, reply: Some(reply) });
                }
                Job::Record(event) => {
                    let applied = self.take_in(vec![*event], now, &mut batch);
                    batch.decided.push(Decided { outcome: Ok(applied), reply: None });
                }
                Job::Settle(waiting) => batch.waiting.push(waiting),
                #[cfg(test)]
                Job::Inspect(inspect) => {
                    self.commit(std::mem::replace(&mut batch, Batch::new(self.working.clone(), self.head)));
                    inspect(self);
                    batch = Batch::new(self.working.clone(), self.head);
                }
            }
            let room = batch.decided.len() < BATCH_COMMANDS_MAX && batch.rows.len() < BATCH_EVENTS;
            next = if room { jobs.try_recv().ok() } else { None };
        }
        self.commit(batch);
    }

    fn decide(
        &mut self,
        command: Command,
        actor: &Actor,
        now: Wall,
        batch: &mut Batch,
    ) -> Result<Applied, ExecuteError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone().into());
        }
        let events = self.working.decide(command, actor, now)?;
        Ok(self.take_in(events, now, batch))
    }

    /// Applies events to the working copy, and adds their rows to the batch.
    fn take_in(&mut self, events: Vec<Event>, now: Wall, batch: &mut Batch) -> Applied {
        let before = self.working.clone();
        for event in &events {
            self.working.apply(event);
            let row = NewRow::new(&self.head, event, &self.working);
            self.head = row.row.head();
            batch.rows.push(row);
        }
        let effects = self.working.effects(&before, &events, now);
        batch.deleted.extend(&effects.deleted);
        Applied { at: now, events, effects }
    }

    /// Stores a batch, then publishes it, tells the subscribers, and answers; or goes back to the state before it.
    fn commit(&mut self, batch: Batch) {
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        if let Some(failed) = &self.failed {
            return fail(&shared, batch.decided, failed);
        }
        if !batch.rows.is_empty() {
            if let Err(error) = self.database.append(&batch.rows, &batch.deleted) {
                let error = StoreError::writing(&error);
                self.working = batch.working_before;
                self.head = batch.head_before;
                if matches!(error, StoreError::DiskFailed(_)) {
                    self.failed = Some(error.clone());
                }
                tracing::error!(cause = error.metric_label(), "{error}");
                return fail(&shared, batch.decided, &error);
            }
            counters.events.fetch_add(batch.rows.len() as u64, Ordering::Relaxed);
            counters.transactions.fetch_add(1, Ordering::Relaxed);
            self.publish();
        }
        for decided in batch.decided {
            match &decided.outcome {
                Ok(applied) => {
                    counters.commands.fetch_add(1, Ordering::Relaxed);
                    self.tell(applied);
                }
                Err(_) => {
                    counters.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            if let Some(reply) = decided.reply {
                // Whoever asked may have gone away; the command is done all the same.
                let _ = reply.send(decided.outcome);
            }
        }
    }

    /// From here on, new questions are answered by the new state.
    fn publish(&mut self) {
        if let Err(error) = self.head_file.write(&self.head) {
            // It only makes an older copy of the database show; the database itself is well.
            tracing::warn!(%error, "the registry's last event could not be noted beside its database");
        }
        self.shared.snapshot.store(Arc::new(self.working.clone()));
        *self.shared.head.lock() = self.head;
    }

    fn tell(&self, applied: &Applied) {
        for id in &applied.effects.deleted {
            self.shared.seen.forget(id);
        }
        if applied.events.is_empty() && applied.effects == Effects::default() {
            return;
        }
        for subscriber in self.shared.subscribers.read().iter() {
            // The change is stored and visible: whoever fails to hear of it must not end the one thread that writes.
            let heard = catch_unwind(AssertUnwindSafe(|| subscriber(applied, &self.working)));
            if heard.is_err() {
                self.shared.counters.deaf.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    "what follows from a change of the registry failed; the change itself is in force\n  hint: signet \
                     reload judges all live connections anew; report the panic above"
                );
            }
        }
    }

    /// Does what deadlines ask for.
    fn housekeeping(&mut self) {
        let now = (self.shared.clock)();
        let due = self.working.next_deadline().is_some_and(|deadline| deadline <= now);
        if !due || Instant::now() < self.housekeeping_not_before {
            return;
        }
        let mut batch = Batch::new(self.working.clone(), self.head);
        let at_most = HOUSEKEEPING_AT_MOST;
        for command in [
            Command::RetireSuperseded { at_most },
            Command::ExpirePending { at_most },
            Command::ExpireTokens { before: now, at_most },
        ] {
            match self.decide(command, &Actor::Broker, now, &mut batch) {
                Ok(applied) => batch.decided.push(Decided { outcome: Ok(applied), reply: None }),
                Err(error) => tracing::debug!(%error, "housekeeping of the registry"),
            }
        }
        if batch.rows.is_empty() {
            self.housekeeping_not_before = Instant::now() + HOUSEKEEPING_PAUSE;
        }
        self.commit(batch);
    }
}

/// Commands that will share a transaction, and the state to go back to when it fails.
struct Batch {
    working_before: Registry,
    head_before: Head,
    decided: Vec<Decided>,
    rows: Vec<NewRow>,
    deleted: Vec<CertificateId>,
    /// Those who wait until the batch is stored, or has failed: they see it by its end. One queue full at most.
    waiting: Vec<SyncSender<()>>,
}

impl Batch {
    const fn new(working_before: Registry, head_before: Head) -> Self {
        Self {
            working_before,
            head_before,
            decided: Vec::new(),
            rows: Vec::new(),
            deleted: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

/// Answers all with the failure of the store. Those that were refused too: the refusal may have rested on a change that was
/// not stored.
fn fail(shared: &Shared, decided: Vec<Decided>, error: &StoreError) {
    for reply in decided.into_iter().filter_map(|decided| decided.reply) {
        shared.counters.failed.fetch_add(1, Ordering::Relaxed);
        // Whoever asked may have gone away.
        let _ = reply.send(Err(error.clone().into()));
    }
}
