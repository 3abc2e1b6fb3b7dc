use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use signet_wire::TopicName;

use super::{Journal, Record, Ticket};

#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Calls {
    fn new() -> (Arc<Self>, Waker) {
        let calls = Arc::new(Self::default());
        (Arc::clone(&calls), Waker::from(calls))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn record() -> Record {
    Record::Cleared(TopicName::try_from("a/b").unwrap())
}

#[test]
fn a_ticket_is_settled_when_its_portion_is_and_who_waits_is_called_once() {
    let journal = Journal::new(1 << 20);
    let first = journal.append(record());
    let (calls, waker) = Calls::new();
    assert!(journal.is_settled(Ticket::NONE));
    assert!(!journal.is_settled(first));
    assert!(journal.wake_when_settled(first, &waker));
    let portion = journal.take().expect("a record");
    let second = journal.append(record());
    assert_eq!(calls.count(), 0, "taken is not durable");
    journal.settle(portion.upto, portion.bytes());
    assert_eq!(calls.count(), 1);
    assert!(journal.is_settled(first));
    assert!(!journal.is_settled(second));
    assert!(!journal.wake_when_settled(first, &waker), "it is settled already");
}

#[test]
fn the_bell_rings_once_for_each_portion() {
    let journal = Journal::new(1 << 20);
    let (calls, waker) = Calls::new();
    journal.set_bell(waker);
    journal.append(record());
    journal.append(record());
    assert_eq!(calls.count(), 1);
    assert_eq!(journal.take().expect("two records").records.len(), 2);
    assert!(journal.take().is_none());
    journal.append(record());
    assert_eq!(calls.count(), 2);
}

#[test]
fn a_full_journal_has_room_again_when_enough_is_settled() {
    let journal = Journal::new(1);
    let (calls, waker) = Calls::new();
    assert!(!journal.wake_when_room(&waker));
    journal.append(record());
    assert!(journal.is_full());
    assert!(journal.wake_when_room(&waker));
    let portion = journal.take().expect("a record");
    assert!(journal.is_full(), "taken is still in memory");
    journal.settle(portion.upto, portion.bytes());
    assert!(!journal.is_full());
    assert_eq!(calls.count(), 1);
    assert_eq!(journal.unsettled_bytes(), 0);
}

#[test]
fn what_belongs_together_is_in_one_portion() {
    let journal = Arc::new(Journal::new(1 << 20));
    let together = journal.together(7);
    journal.append(record());
    let taker = std::thread::spawn({
        let journal = Arc::clone(&journal);
        move || journal.take().expect("records").records.len()
    });
    journal.append(record());
    drop(together);
    assert_eq!(taker.join().unwrap(), 2);
}
