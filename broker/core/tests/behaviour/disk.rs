//! A disk on virtual time: it takes the journal's portions, keeps what they say in a model of a store, and can end at any
//! of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};

use signet_core::journal::{
    Journal, Portion, QueuedEntry, Record, RestoredEntry, RestoredSession, StoredSession,
};
use signet_core::router::SubOptions;
use signet_core::{Hub, Message, Now, Restored};
use signet_identity::Principal;
use signet_wire::{PacketId, SubscriptionFilter};

/// What is on the disk. Records that contradict each other are refused: the core must not write them.
#[derive(Clone, Default)]
pub(crate) struct Twin {
    sessions: BTreeMap<u64, Stored>,
    retained: BTreeMap<String, Arc<Message>>,
}

#[derive(Clone, Default)]
struct Stored {
    session: Option<StoredSession>,
    subscriptions: BTreeMap<SubscriptionFilter, SubOptions>,
    entries: BTreeMap<u64, Waiting>,
    unreleased: BTreeSet<PacketId>,
}

#[derive(Clone)]
struct Waiting {
    queued: QueuedEntry,
    sent: Option<PacketId>,
    released: bool,
}

impl Twin {
    fn session(&mut self, number: u64, record: &Record) -> &mut Stored {
        self.sessions.get_mut(&number).unwrap_or_else(|| panic!("{record:?} of no session"))
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::Session(number, session) => {
                assert!(session.expiry_secs > 0, "{record:?} ends with its connection");
                self.sessions.entry(*number).or_default().session = Some((**session).clone());
            }
            Record::Ended(number) => assert!(self.sessions.remove(number).is_some(), "{record:?} of none"),
            Record::Subscribed(number, filter, options) => {
                self.session(*number, record).subscriptions.insert(filter.clone(), *options);
            }
            Record::Unsubscribed(number, filter) => {
                let removed = self.session(*number, record).subscriptions.remove(filter);
                assert!(removed.is_some(), "{record:?} of none");
            }
            Record::Queued(number, entry) => {
                let waiting = Waiting { queued: (**entry).clone(), sent: None, released: false };
                let entries = &mut self.session(*number, record).entries;
                let last = entries.last_key_value().map(|(number, _)| *number);
                assert!(last.is_none_or(|last| last < entry.number), "{record:?} behind {last:?}");
                entries.insert(entry.number, waiting);
            }
            Record::Sent(number, entry, id) => {
                let sent = &mut self.entry(*number, *entry, record).sent;
                assert_eq!(sent.replace(*id), None, "{record:?} twice");
            }
            Record::Released(number, entry) => {
                let entry = self.entry(*number, *entry, record);
                assert!(entry.sent.is_some() && !entry.released, "{record:?}");
                entry.released = true;
            }
            Record::Done(number, entry) => {
                let removed = self.session(*number, record).entries.remove(entry);
                assert!(removed.is_some(), "{record:?} of none");
            }
            Record::Received(number, id) => {
                assert!(self.session(*number, record).unreleased.insert(*id), "{record:?} twice");
            }
            Record::Freed(number, id) => {
                assert!(self.session(*number, record).unreleased.remove(id), "{record:?} of none");
            }
            Record::Retained(message) => {
                assert!(message.publisher.author().is_some(), "{record:?} of the broker's own");
                self.retained.insert(message.topic.to_string(), Arc::clone(message));
            }
            Record::Cleared(topic) => {
                assert!(self.retained.remove(&**topic).is_some(), "{record:?} of none");
            }
        }
    }

    fn entry(&mut self, session: u64, number: u64, record: &Record) -> &mut Waiting {
        let entries = &mut self.session(session, record).entries;
        entries.get_mut(&number).unwrap_or_else(|| panic!("{record:?} of none"))
    }

    /// Whether there is nothing on it.
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.retained.is_empty()
    }

    /// The same without wills, which would be sent.
    pub(crate) fn without_wills(&self) -> Self {
        let mut twin = self.clone();
        for session in twin.sessions.values_mut().filter_map(|stored| stored.session.as_mut()) {
            session.will = None;
        }
        twin
    }

    pub(crate) fn retained(&self) -> Vec<&str> {
        self.retained.keys().map(String::as_str).collect()
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Messages that wait for sessions.
    pub(crate) fn entry_count(&self) -> usize {
        self.sessions.values().map(|session| session.entries.len()).sum()
    }

    /// Gives everything to another process, which has other clocks.
    pub(crate) fn restore(
        &self,
        hub: &Hub,
        (then, now): (Now, Now),
        now_is: &dyn Fn(&Principal) -> Option<Principal>,
    ) -> Restored {
        let again = |message: &Arc<Message>| {
            let Message { topic, payload, qos, retain, properties, publisher, expires, .. } = &**message;
            let copy = Message::new(
                topic.clone(),
                payload.clone(),
                *qos,
                *retain,
                properties.clone(),
                publisher.clone(),
                now.mono,
            );
            Arc::new(copy.kept(expires.map(|at| now.mono_at(then.wall_at(at)))))
        };
        let entry = |waiting: &Waiting| {
            let queued = QueuedEntry { message: again(&waiting.queued.message), ..waiting.queued.clone() };
            match waiting.sent {
                None => RestoredEntry::Waiting(queued),
                Some(id) if waiting.released => RestoredEntry::Released(queued.number, id),
                Some(id) => RestoredEntry::Sent(queued, id),
            }
        };
        let mut restoring = hub.restore(now, now.wall.0, now_is);
        for (number, stored) in &self.sessions {
            restoring.session(RestoredSession {
                number: *number,
                stored: stored.session.clone().expect("what the session is"),
                subscriptions: stored.subscriptions.clone().into_iter().collect(),
                entries: stored.entries.values().map(entry).collect(),
                unreleased: stored.unreleased.iter().copied().collect(),
            });
        }
        for message in self.retained.values() {
            restoring.retained(again(message));
        }
        restoring.finish()
    }
}

/// Takes portions and makes them durable.
pub(crate) struct Disk {
    pub(crate) journal: Arc<Journal>,
    pub(crate) twin: Twin,
    taken: Arc<Mutex<VecDeque<Portion>>>,
    /// So many portions become durable; then it hangs.
    left: usize,
    /// Portions that became durable.
    pub(crate) portions: usize,
}

/// Takes every record for itself, but for those that belong together.
struct Bell {
    journal: Weak<Journal>,
    taken: Arc<Mutex<VecDeque<Portion>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if let Some(Ok(Some(portion))) = self.journal.upgrade().map(|journal| journal.try_take()) {
            self.taken.lock().unwrap().push_back(portion);
        }
    }
}

/// More than any test writes.
const UNSETTLED_BYTES_MAX: usize = 1 << 30;

impl Disk {
    /// With what is on it already. In small pieces: every record alone, but for those that belong together.
    pub(crate) fn new(twin: Twin, in_small_pieces: bool) -> Self {
        let journal = Arc::new(Journal::new(UNSETTLED_BYTES_MAX));
        let taken = Arc::default();
        if in_small_pieces {
            let bell = Bell { journal: Arc::downgrade(&journal), taken: Arc::clone(&taken) };
            journal.set_bell(Waker::from(Arc::new(bell)));
        }
        Self { journal, twin, taken, left: usize::MAX, portions: 0 }
    }

    /// After so many more portions it hangs.
    pub(crate) fn hang_after(&mut self, portions: usize) {
        self.left = portions;
    }

    /// Makes the next portion durable. False: there is none, or the disk hangs.
    pub(crate) fn commit(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        let mut taken = self.taken.lock().unwrap();
        taken.extend(self.journal.take());
        let Some(portion) = taken.pop_front() else { return false };
        drop(taken);
        self.left -= 1;
        self.portions += 1;
        let (upto, bytes) = (portion.upto, portion.bytes());
        portion.records.iter().for_each(|record| self.twin.apply(record));
        self.journal.settle(upto, bytes);
        true
    }
}
