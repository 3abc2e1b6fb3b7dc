use super::super::{Batch, MemoryStore, MessageStore};
use super::*;

/// A ledger and the store that it writes to.
#[derive(Default)]
struct Written {
    ledger: Ledger,
    store: MemoryStore,
}

impl Written {
    fn new() -> Self {
        Self { ledger: Ledger::new(), store: MemoryStore::new() }
    }

    /// Writes these records as one portion.
    fn write(&mut self, records: impl IntoIterator<Item = Record>) -> Batch {
        records.into_iter().for_each(|record| self.ledger.take_in(record));
        let batch = self.ledger.render(now());
        self.store.commit(&batch).unwrap();
        batch
    }

    /// What a start now would find; the ledger that goes on is the one that the start makes.
    fn restart(&mut self) -> Found {
        let (ledger, found) = found(&self.store);
        self.ledger = ledger;
        assert!(self.ledger.is_settled(), "nothing is left over in the store");
        found
    }
}

#[test]
fn what_was_queued_and_is_done_with_leaves_nothing_to_write() {
    let mut written = Written::new();
    written.write([Record::Session(1, stored("sensor-1"))]);
    let message = message("a/b", "x");
    for record in [queued(1, 0, &message), Record::Sent(1, 0, id(1)), Record::Released(1, 0)] {
        written.ledger.take_in(record);
        assert!(!written.ledger.is_settled());
    }
    written.ledger.take_in(Record::Done(1, 0));
    assert!(written.ledger.is_settled());
    assert!(written.ledger.render(now()).is_empty());
    assert_eq!(written.ledger.counts().spared, 1);
    assert_eq!(Arc::strong_count(&message), 1, "it is not kept in memory");
}

#[test]
fn a_message_for_many_sessions_is_written_once_and_goes_with_the_last_of_them() {
    let mut written = Written::new();
    let message = message("a/b", "hello");
    written.write((1..=3).flat_map(|n| [Record::Session(n, stored("sensor-1")), queued(n, 10, &message)]));
    // Schema, three sessions, three entries, one body.
    assert_eq!(written.store.len(), 8);
    let found = written.restart();
    assert_eq!(found.loaded.waiting, 3);
    let body = |session: &RestoredSession| match &session.entries[0] {
        RestoredEntry::Waiting(entry) => Arc::as_ptr(&entry.message),
        _ => panic!("it waits"),
    };
    let bodies: Vec<_> = found.sessions.iter().map(body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "they share it in memory too");
    written.write([Record::Done(1, 10), Record::Done(3, 10)]);
    assert_eq!(written.ledger.body_count(), 1);
    written.write([Record::Done(2, 10)]);
    assert_eq!(written.ledger.body_count(), 0);
    assert_eq!(written.store.len(), 4);
}

#[test]
fn each_stage_of_an_exchange_is_found_again() {
    let mut written = Written::new();
    let message = message("a/b", "x");
    written.write([Record::Session(1, stored("sensor-1")), queued(1, 4, &message), queued(1, 5, &message)]);
    assert_eq!(entries(&written.restart().sessions[0]), ["4 waits a/b=x", "5 waits a/b=x"]);
    written.write([Record::Sent(1, 4, id(9))]);
    assert_eq!(entries(&written.restart().sessions[0]), ["4 sent as 9 a/b=x", "5 waits a/b=x"]);
    written.write([Record::Released(1, 4)]);
    assert_eq!(entries(&written.restart().sessions[0]), ["4 released as 9", "5 waits a/b=x"]);
    written.write([Record::Done(1, 4), Record::Done(1, 5)]);
    assert_eq!(entries(&written.restart().sessions[0]), [""; 0]);
    assert_eq!(written.store.len(), 2, "the schema and the session");
}

#[test]
fn a_message_that_is_queued_sent_and_released_in_one_portion_leaves_its_identifier_only() {
    let mut written = Written::new();
    let message = message("a/b", "x");
    written.write([
        Record::Session(1, stored("sensor-1")),
        queued(1, 4, &message),
        Record::Sent(1, 4, id(9)),
        Record::Released(1, 4),
    ]);
    assert_eq!(entries(&written.restart().sessions[0]), ["4 released as 9"]);
    assert_eq!(written.ledger.body_count(), 0);
}

#[test]
fn of_what_is_overwritten_only_the_last_counts() {
    let mut written = Written::new();
    let last = Box::new(StoredSession { expiry_secs: 9, ..*stored("sensor-1") });
    let batch = written.write([
        Record::Session(1, stored("sensor-1")),
        Record::Session(1, last),
        subscribed(1, "a/+"),
        Record::Unsubscribed(1, filter("a/+")),
        subscribed(1, "$share/g/b/#"),
        Record::Retained(message("r", "1")),
        Record::Retained(message("r", "2")),
        Record::Retained(message("gone", "1")),
        Record::Cleared(TopicName::try_from("gone").unwrap()),
    ]);
    assert_eq!(batch.changes().len(), 5, "a session, two filters, two topics");
    let found = written.restart();
    assert_eq!(found.sessions[0].stored.expiry_secs, 9);
    assert_eq!(found.sessions[0].subscriptions.len(), 1);
    assert_eq!(found.sessions[0].subscriptions[0].0, filter("$share/g/b/#"));
    assert_eq!(found.retained.iter().map(|it| show(it)).collect::<Vec<_>>(), ["r=2"]);
}

#[test]
fn an_identifier_in_use_is_found_until_it_is_freed() {
    let mut written = Written::new();
    written.write([
        Record::Session(1, stored("sensor-1")),
        Record::Received(1, id(5)),
        Record::Received(1, id(6)),
    ]);
    assert_eq!(written.restart().sessions[0].unreleased, [id(5), id(6)]);
    // Freed and used again for another message: it is in use.
    written.ledger.take_in(Record::Freed(1, id(5)));
    written.ledger.take_in(Record::Received(1, id(5)));
    assert!(written.ledger.is_settled());
    written.write([Record::Freed(1, id(6)), Record::Received(1, id(7)), Record::Freed(1, id(7))]);
    assert_eq!(written.restart().sessions[0].unreleased, [id(5)]);
}

#[test]
fn a_session_that_ends_takes_everything_with_it_and_leaves_others_alone() {
    let mut written = Written::new();
    let message = message("a/b", "x");
    let all = |n| {
        let session = Record::Session(n, stored("sensor-1"));
        [session, subscribed(n, "a/#"), queued(n, 1, &message), Record::Received(n, id(3))]
    };
    written.write(all(255).into_iter().chain(all(256)));
    // What the same portion adds to it before it ends goes too.
    let batch = written.write([
        subscribed(255, "b"),
        queued(255, 2, &message),
        Record::Sent(255, 1, id(1)),
        Record::Received(255, id(4)),
        Record::Ended(255),
    ]);
    assert_eq!(batch.changes().len(), 1);
    let found = written.restart();
    assert_eq!(found.loaded.sessions, 1);
    assert_eq!(found.sessions[0].number, 256);
    assert_eq!(entries(&found.sessions[0]), ["1 waits a/b=x"]);
    assert_eq!(written.ledger.body_count(), 1);
    written.write([Record::Ended(256)]);
    assert_eq!(written.store.len(), 1, "the schema");
}

#[test]
fn a_session_that_comes_and_goes_between_two_writes_leaves_nothing_to_write() {
    let mut written = Written::new();
    for record in [
        Record::Session(1, stored("sensor-1")),
        queued(1, 1, &message("a", "x")),
        Record::Received(1, id(3)),
        Record::Ended(1),
    ] {
        written.ledger.take_in(record);
    }
    assert!(written.ledger.is_settled());
    assert_eq!(written.ledger.session_count(), 0);
}

#[test]
fn a_batch_that_is_written_twice_is_as_if_it_were_written_once() {
    let mut written = Written::new();
    let message = message("a/b", "x");
    written.write([Record::Session(1, stored("sensor-1")), queued(1, 1, &message), queued(1, 2, &message)]);
    let batch = written.write([
        Record::Sent(1, 1, id(4)),
        Record::Done(1, 2),
        Record::Session(2, stored("sensor-2")),
        Record::Retained(message.clone()),
    ]);
    let before = written.restart();
    written.store.commit(&batch).unwrap();
    let after = written.restart();
    assert_eq!(before.loaded, after.loaded);
    assert_eq!(entries(&after.sessions[0]), ["1 sent as 4 a/b=x"]);
}

#[test]
fn rows_that_belong_to_nothing_are_left_out_and_deleted() {
    let mut written = Written::new();
    let message = message("a/b", "x");
    written.write([Record::Session(1, stored("sensor-1")), queued(1, 1, &message), subscribed(1, "a")]);
    let mut loss = Batch::default();
    loss.push(super::super::Change::Delete(super::super::key::Key::Session(1).encode()));
    written.store.commit(&loss).unwrap();
    let (mut ledger, found) = found(&written.store);
    assert_eq!((found.loaded.sessions, found.loaded.strays), (0, 3), "an entry, a subscription, a body");
    assert!(!ledger.is_settled());
    written.store.commit(&ledger.render(now())).unwrap();
    assert_eq!(written.store.len(), 1);
}

/// A message of a mebibyte from the retained store, waiting for session 1.
fn replayed(number: u64) -> Record {
    let Record::Queued(session, mut entry) =
        queued(1, number, &message(&format!("r/{number}"), &"x".repeat(1 << 20)))
    else {
        unreachable!()
    };
    entry.replay = true;
    Record::Queued(session, entry)
}

#[test]
fn a_large_replay_is_written_in_several_batches_behind_everything_that_belongs_together() {
    let mut written = Written::new();
    let live = message("a/b", "x");
    let first = written.write(
        [Record::Session(1, stored("sensor-1"))]
            .into_iter()
            .chain((0..10).map(replayed))
            .chain([queued(1, 10, &live), Record::Received(1, id(3))]),
    );
    let whole = super::super::ledger::REPLAY_BATCH_BYTES_MAX;
    assert!((whole..whole + (2 << 20)).contains(&first.bytes()), "{}", first.bytes());
    assert!(!written.ledger.is_settled());
    let (_, found) = found(&written.store);
    let entries = entries(&found.sessions[0]);
    assert_eq!(entries.last().unwrap(), "10 waits a/b=x", "it is not a replay");
    assert_eq!(entries.len(), 5, "and four of those that are");
    // What is done with before its turn came is never written.
    written.ledger.take_in(Record::Done(1, 9));
    let mut batches = 1;
    while !written.ledger.is_settled() {
        assert!(written.write([]).bytes() < whole + (2 << 20));
        batches += 1;
    }
    assert_eq!(batches, 3);
    assert_eq!(written.restart().sessions[0].entries.len(), 10);
}

#[test]
fn a_replay_that_is_small_is_written_in_one_batch() {
    let mut written = Written::new();
    written.write([Record::Session(1, stored("sensor-1")), replayed(0), replayed(1)]);
    assert!(written.ledger.is_settled());
    assert_eq!(written.restart().sessions[0].entries.len(), 2);
}
