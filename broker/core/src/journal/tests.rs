use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use signet_wire::TopicName;

use super::{GATES, InTheMiddle, Journal, Record, Ticket};

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
    let journal = Arc::new(Journal::new(1 << 20));
    let first = journal.append(record());
    let (calls, waker) = Calls::new();
    assert!(journal.is_settled(Ticket::NONE));
    assert!(!journal.is_settled(first));
    let call = journal.wake_when_settled(first, &waker);
    assert!(call.is_some());
    let portion = journal.take().expect("a record");
    let second = journal.append(record());
    assert_eq!(calls.count(), 0, "taken is not durable");
    journal.settle(portion.upto, portion.bytes());
    assert_eq!(calls.count(), 1);
    assert!(journal.is_settled(first));
    assert!(!journal.is_settled(second));
    assert!(journal.wake_when_settled(first, &waker).is_none(), "it is settled already");
}

#[test]
fn the_bell_rings_once_for_each_portion() {
    let journal = Arc::new(Journal::new(1 << 20));
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
    let journal = Arc::new(Journal::new(1));
    let (calls, waker) = Calls::new();
    assert!(journal.wake_when_room(&waker).is_none());
    journal.append(record());
    assert!(journal.is_full());
    let call = journal.wake_when_room(&waker);
    assert!(call.is_some());
    let portion = journal.take().expect("a record");
    assert!(journal.is_full(), "taken is still in memory");
    journal.settle(portion.upto, portion.bytes());
    assert!(!journal.is_full());
    assert_eq!(calls.count(), 1);
    assert_eq!(journal.unsettled_bytes(), 0);
}

#[test]
fn who_tries_to_take_what_somebody_is_in_the_middle_of_keeps_nobody_waiting() {
    let journal = Journal::new(1 << 20);
    assert!(matches!(journal.try_take(), Ok(None)));
    let in_the_middle = journal.together(7);
    journal.append(record());
    assert_eq!(journal.try_take().unwrap_err(), InTheMiddle { gate: 7 });
    // Each of these would wait for ever if it were kept waiting.
    for number in 0..64 {
        if number % GATES as u64 != 7 {
            drop(journal.together(number));
        }
    }
    drop(in_the_middle);
    drop(journal.together(7));
    assert_eq!(journal.try_take().unwrap().expect("a record").records.len(), 1);
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

#[test]
fn who_no_longer_waits_is_not_called_and_not_kept() {
    let journal = Arc::new(Journal::new(1));
    let ticket = journal.append(record());
    let (calls, waker) = Calls::new();
    let settled = journal.wake_when_settled(ticket, &waker).expect("not settled");
    let room = journal.wake_when_room(&waker).expect("full");
    assert_eq!(Arc::strong_count(&calls), 4, "this one, the waker and two who wait");
    drop((settled, room));
    assert_eq!(Arc::strong_count(&calls), 2);
    let portion = journal.take().expect("a record");
    journal.settle(portion.upto, portion.bytes());
    assert_eq!(calls.count(), 0);
}
