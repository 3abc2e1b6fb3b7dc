use std::io::ErrorKind;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use signet_core::journal::{Journal, Ticket};

use super::super::{Committer, Failure, MemoryStore, MessagesError, Pace, StoreMetrics};
use super::*;
use crate::clock::Clock;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

struct Call(Thread);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Bench {
    journal: Arc<Journal>,
    store: MemoryStore,
    metrics: StoreMetrics,
    committer: Committer,
}

impl Bench {
    fn new(linger: Duration) -> Self {
        let store = MemoryStore::new();
        let journal = Arc::new(Journal::new(1 << 20));
        let metrics = StoreMetrics::new(&prometheus::Registry::new()).unwrap();
        let committer = Committer::start(
            Arc::clone(&journal),
            Box::new(store.clone()),
            Ledger::new(),
            Clock::start(),
            Pace { linger },
            metrics.clone(),
        )
        .unwrap();
        Self { journal, store, metrics, committer }
    }

    /// Until it is settled, or not in time.
    fn wait(&self, ticket: Ticket, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let waker = Waker::from(Arc::new(Call(std::thread::current())));
            let Some(_call) = self.journal.wake_when_settled(ticket, &waker) else { return true };
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            std::thread::park_timeout(left);
        }
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn what_is_recorded_is_in_the_store_when_its_ticket_is_settled() {
    let bench = Bench::new(Duration::ZERO);
    for number in 0..50 {
        let ticket = bench.journal.append(Record::Retained(message(&format!("t/{number:02}"), "x")));
        assert!(bench.wait(ticket, PATIENCE));
        assert_eq!(found(&bench.store).1.retained.len(), number + 1);
    }
    assert_eq!(bench.metrics.commits.get(), 50);
    assert_eq!(bench.journal.unsettled_bytes(), 0);
}

#[test]
fn what_came_to_nothing_is_settled_at_once_and_without_a_commit() {
    let bench = Bench::new(LONG);
    bench.journal.append(Record::Session(1, stored("sensor-1")));
    bench.journal.append(queued(1, 0, &message("a", "x")));
    // Nothing of it is left before the hour is over.
    bench.journal.append(Record::Done(1, 0));
    let ticket = bench.journal.append(Record::Ended(1));
    assert!(bench.wait(ticket, PATIENCE));
    assert_eq!(bench.metrics.commits.get(), 0);
    assert_eq!(bench.metrics.spared.get(), 1);
    // What is not nothing waits for more.
    let ticket = bench.journal.append(Record::Retained(message("a", "x")));
    assert!(!bench.wait(ticket, Duration::from_millis(50)));
    let mut bench = bench;
    bench.committer.stop();
    assert!(bench.journal.is_settled(ticket), "the last of it is written at the end");
    assert_eq!(shown(&bench.store), ["a=x"]);
}

fn shown(store: &MemoryStore) -> Vec<String> {
    found(store).1.retained.iter().map(|message| show(message)).collect()
}

#[test]
fn nothing_is_settled_while_the_disk_is_full_and_everything_soon_after() {
    let bench = Bench::new(Duration::ZERO);
    bench.store.fail([
        Failure::Lost(ErrorKind::StorageFull),
        // The first attempt to open it again, and the commit after the second one.
        Failure::Lost(ErrorKind::StorageFull),
    ]);
    let started = Instant::now();
    let first = bench.journal.append(Record::Retained(message("a", "1")));
    let end = started + PATIENCE;
    while bench.committer.trouble().is_none() {
        assert!(Instant::now() < end, "the failure is noticed");
        std::thread::yield_now();
    }
    assert!(bench.committer.trouble().unwrap().is_full());
    assert_eq!(bench.metrics.failing.get(), 1);
    assert!(!bench.journal.is_settled(first), "it is not on disk");
    let second = bench.journal.append(Record::Retained(message("b", "2")));
    assert!(bench.wait(second, PATIENCE) && bench.journal.is_settled(first));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(shown(&bench.store), ["a=1", "b=2"]);
    assert!(bench.committer.trouble().is_none());
    assert_eq!((bench.metrics.failing.get(), bench.store.failures_left()), (0, 0));
    assert_eq!(bench.metrics.errors.with_label_values(&["full"]).get(), 2);
}

#[test]
fn a_batch_that_was_made_though_the_disk_said_otherwise_is_there_once() {
    let bench = Bench::new(Duration::ZERO);
    let body = message("a", "x");
    bench.store.fail([Failure::Made(ErrorKind::Other)]);
    bench.journal.append(Record::Session(1, stored("sensor-1")));
    let ticket = bench.journal.append(queued(1, 7, &body));
    assert!(bench.wait(ticket, PATIENCE));
    let found = found(&bench.store).1;
    assert_eq!(entries(&found.sessions[0]), ["7 waits a=x"]);
    assert_eq!(found.loaded.waiting, 1);
}

#[test]
fn a_snapshot_is_to_be_had_while_it_works_and_while_it_cannot() {
    let mut bench = Bench::new(Duration::ZERO);
    let ticket = bench.journal.append(Record::Retained(message("a", "1")));
    assert!(bench.wait(ticket, PATIENCE));
    let count = |committer: &Committer| {
        let mut rows = 0;
        committer.snapshot()?.for_each(&mut |_, _| {
            rows += 1;
            Ok(())
        })?;
        Ok::<_, MessagesError>(rows)
    };
    assert_eq!(count(&bench.committer).unwrap(), 2);
    bench.store.fail([Failure::Lost(ErrorKind::StorageFull); 2]);
    let ticket = bench.journal.append(Record::Retained(message("b", "1")));
    assert_eq!(count(&bench.committer).unwrap(), 2);
    assert!(bench.wait(ticket, PATIENCE));
    bench.committer.stop();
}

#[test]
fn a_large_replay_is_written_in_several_batches_and_is_whole_when_it_is_settled() {
    let mut bench = Bench::new(LONG);
    bench.journal.append(Record::Session(1, stored("sensor-1")));
    let mut last = Ticket::NONE;
    for number in 0..10 {
        let Record::Queued(session, mut entry) = queued(1, number, &message("r", &"x".repeat(1 << 20)))
        else {
            unreachable!()
        };
        entry.replay = true;
        last = bench.journal.append(Record::Queued(session, entry));
    }
    bench.committer.stop();
    assert!(bench.journal.is_settled(last));
    assert!(bench.metrics.commits.get() >= 3, "{}", bench.metrics.commits.get());
    assert_eq!(found(&bench.store).1.sessions[0].entries.len(), 10);
}
