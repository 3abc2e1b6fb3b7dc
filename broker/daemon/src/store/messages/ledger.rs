//! What the store has, what it should have, and the shortest way from the one to the other.
//!
//! Records are taken in as they come. A message that was queued and is done with before the next [`Ledger::render`] leaves
//! nothing to do; of what is overwritten only the last counts. The store itself is not read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::quality::RandomState;
use signet_core::journal::{QueuedEntry, Record, SessionNumber, StoredSession};
use signet_core::router::SubOptions;
use signet_core::{Message, Now};
use signet_wire::{PacketId, TopicName};

use super::key::{BodyNumber, Key, filter_text, session_prefix, text_in_key};
use super::row::{self, Exchange};
use super::store::{Batch, Change};

/// A batch of so many bytes gets no further messages that are replayed from the retained store: one SUBSCRIBE can make a
/// replay of all of that.
pub(super) const REPLAY_BATCH_BYTES_MAX: usize = 4 << 20;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Sessions and waiting messages as the store has them, and what is to be changed.
#[derive(Debug, Default)]
pub struct Ledger {
    sessions: Map<SessionNumber, Session>,
    bodies: Map<BodyNumber, Body>,
    /// The bodies by where the message is in memory. `bodies` keeps it there.
    by_address: Map<usize, BodyNumber>,
    next_body: BodyNumber,
    staged: Staged,
    counts: Counts,
}

/// What was spared and what could not be done, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were taken in.
    pub records: u64,
    /// Messages that were queued and done with before they were written.
    pub spared: u64,
    /// Rows that could not be written as they are.
    pub unwritable: u64,
}

/// A session with rows in the store, or that will have some.
#[derive(Debug, Default)]
struct Session {
    /// The store has rows of it.
    stored: bool,
    entries: BTreeMap<u64, Entry>,
    /// The identifiers of QoS 2 messages that are not released, and whether the store has the row.
    received: BTreeMap<PacketId, bool>,
}

#[derive(Debug, Default)]
struct Entry {
    /// What is to be written; `None`: it is written, or gone.
    queued: Option<Box<QueuedEntry>>,
    /// The body that the row in the store names.
    stored: Option<BodyNumber>,
    exchange: Option<Exchange>,
    exchange_stored: bool,
}

/// A message that waits for at least one session in the store.
#[derive(Debug)]
struct Body {
    message: Arc<Message>,
    /// Rows in the store that name it.
    count: u32,
}

/// What the store does not know yet.
#[derive(Debug, Default)]
struct Staged {
    sessions: BTreeMap<SessionNumber, Box<StoredSession>>,
    /// By the text of the filter; `None`: no such subscription any more.
    subscriptions: BTreeMap<(SessionNumber, Vec<u8>), Option<SubOptions>>,
    entries: BTreeSet<(SessionNumber, u64)>,
    received: BTreeSet<(SessionNumber, PacketId)>,
    ended: Vec<Ended>,
    /// `None`: cleared.
    retained: Map<TopicName, Option<Arc<Message>>>,
    /// Keys of rows that belong to nothing.
    strays: Vec<Vec<u8>>,
}

/// A session of which the store has rows, and the bodies that they name.
#[derive(Debug)]
struct Ended {
    number: SessionNumber,
    bodies: Vec<BodyNumber>,
}

impl Ledger {
    /// Of an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Sessions that the store has rows of, or will have.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Messages that wait for sessions in the store.
    #[must_use]
    pub fn body_count(&self) -> usize {
        self.bodies.len()
    }

    /// Whether the store is as it should be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let Staged { sessions, subscriptions, entries, received, ended, retained, strays } = &self.staged;
        sessions.is_empty()
            && subscriptions.is_empty()
            && entries.is_empty()
            && received.is_empty()
            && ended.is_empty()
            && retained.is_empty()
            && strays.is_empty()
    }

    /// Takes in what became true, in order.
    pub fn take_in(&mut self, record: Record) {
        self.counts.records += 1;
        match record {
            Record::Session(number, session) => {
                self.sessions.entry(number).or_default();
                self.staged.sessions.insert(number, session);
            }
            Record::Ended(number) => self.end(number),
            Record::Subscribed(number, filter, options) => {
                self.staged.subscriptions.insert((number, filter_text(&filter)), Some(options));
            }
            Record::Unsubscribed(number, filter) => {
                self.staged.subscriptions.insert((number, filter_text(&filter)), None);
            }
            Record::Queued(number, queued) => {
                let entry = queued.number;
                let entries = &mut self.sessions.entry(number).or_default().entries;
                entries.insert(entry, Entry { queued: Some(queued), ..Entry::default() });
                self.staged.entries.insert((number, entry));
            }
            Record::Sent(number, entry, packet_id) => {
                self.edit(number, entry, |it| it.exchange = Some(Exchange { packet_id, released: false }));
            }
            Record::Released(number, entry) => self.edit(number, entry, |it| {
                it.queued = None;
                if let Some(exchange) = &mut it.exchange {
                    exchange.released = true;
                }
            }),
            Record::Done(number, entry) => self.done(number, entry),
            Record::Received(number, id) => {
                self.sessions.entry(number).or_default().received.entry(id).or_insert(false);
                self.restage_received(number, id, true);
            }
            Record::Freed(number, id) => self.restage_received(number, id, false),
            Record::Retained(message) => {
                self.staged.retained.insert(message.topic.clone(), Some(message));
            }
            Record::Cleared(topic) => {
                self.staged.retained.insert(topic, None);
            }
        }
    }

    fn edit(&mut self, session: SessionNumber, number: u64, edit: impl FnOnce(&mut Entry)) {
        let entry = self.sessions.get_mut(&session).and_then(|session| session.entries.get_mut(&number));
        if let Some(entry) = entry {
            edit(entry);
            self.staged.entries.insert((session, number));
        }
    }

    fn done(&mut self, session: SessionNumber, number: u64) {
        let Some(entries) = self.sessions.get_mut(&session).map(|session| &mut session.entries) else {
            return;
        };
        let Some(entry) = entries.get_mut(&number) else { return };
        if entry.stored.is_none() && !entry.exchange_stored {
            // The store never heard of it.
            entries.remove(&number);
            self.staged.entries.remove(&(session, number));
            self.counts.spared += 1;
        } else {
            entry.queued = None;
            entry.exchange = None;
            self.staged.entries.insert((session, number));
        }
    }

    fn restage_received(&mut self, session: SessionNumber, id: PacketId, wanted: bool) {
        let Some(received) = self.sessions.get_mut(&session).map(|session| &mut session.received) else {
            return;
        };
        let Some(stored) = received.get(&id).copied() else { return };
        if stored == wanted {
            self.staged.received.remove(&(session, id));
        } else {
            self.staged.received.insert((session, id));
        }
        if !stored && !wanted {
            received.remove(&id);
        }
    }

    fn end(&mut self, number: SessionNumber) {
        let staged = &mut self.staged;
        staged.sessions.remove(&number);
        let from = (number, Vec::new());
        let filters: Vec<_> = staged
            .subscriptions
            .range(from..)
            .take_while(|((session, _), _)| *session == number)
            .map(|(key, _)| key.clone())
            .collect();
        let has_subscriptions = !filters.is_empty();
        for filter in filters {
            staged.subscriptions.remove(&filter);
        }
        let Some(session) = self.sessions.remove(&number) else {
            // Nothing but subscriptions was ever heard of it: they may be in the store.
            if has_subscriptions {
                staged.ended.push(Ended { number, bodies: Vec::new() });
            }
            return;
        };
        for entry in session.entries.keys() {
            staged.entries.remove(&(number, *entry));
        }
        for id in session.received.keys() {
            staged.received.remove(&(number, *id));
        }
        if session.stored {
            let bodies = session.entries.values().filter_map(|entry| entry.stored).collect();
            staged.ended.push(Ended { number, bodies });
        } else {
            self.counts.spared += session.entries.len() as u64;
        }
    }

    /// The changes that make the store what it should be, or the next of them: then [`Self::is_settled`] is false afterwards,
    /// and they are whole only with those that further calls give. What is put off are waiting messages of replays, which
    /// nothing else has to be in one batch with. The changes count as made from now on: the caller gives them to the store
    /// until it has them, in order.
    pub fn render(&mut self, now: Now) -> Batch {
        let mut batch = Batch::default();
        let staged = std::mem::take(&mut self.staged);
        staged.strays.into_iter().for_each(|key| batch.delete(key));
        for ended in staged.ended {
            batch.push(Change::DeletePrefix(session_prefix(ended.number)));
            for body in ended.bodies {
                self.forget_body(body, &mut batch);
            }
        }
        for (number, stored) in staged.sessions {
            match row::put_session(&stored) {
                Some(value) => {
                    batch.put(Key::Session(number).encode(), value);
                    self.sessions.entry(number).or_default().stored = true;
                }
                None => self.unwritable("a session's will", &stored.principal),
            }
        }
        for ((number, filter), options) in staged.subscriptions {
            let key = Key::Subscription(number, &text_in_key(&filter)).encode();
            match options {
                Some(options) => batch.put(key, row::put_subscription(&filter, &options)),
                None => batch.delete(key),
            }
            self.sessions.entry(number).or_default().stored = true;
        }
        let (replays, joined): (BTreeSet<_>, BTreeSet<_>) =
            staged.entries.into_iter().partition(|(session, number)| self.is_new_replay(*session, *number));
        for (session, number) in joined {
            self.render_entry(session, number, now, &mut batch);
        }
        for (number, id) in staged.received {
            self.render_received(number, id, &mut batch);
        }
        for (topic, message) in staged.retained {
            let key = Key::Retained(&text_in_key(topic.as_bytes())).encode();
            match message {
                None => batch.delete(key),
                Some(message) => match row::put_body(&message, now) {
                    Some(value) => batch.put(key, value),
                    None => self.unwritable("the retained message of", &&*topic),
                },
            }
        }
        for (session, number) in replays {
            if batch.bytes() < REPLAY_BATCH_BYTES_MAX {
                self.render_entry(session, number, now, &mut batch);
            } else {
                self.staged.entries.insert((session, number));
            }
        }
        batch
    }

    /// Whether it is a replayed message that the store has nothing of.
    fn is_new_replay(&self, session: SessionNumber, number: u64) -> bool {
        let entry = self.sessions.get(&session).and_then(|session| session.entries.get(&number));
        entry.is_some_and(|entry| {
            let new = entry.stored.is_none() && !entry.exchange_stored;
            new && entry.queued.as_ref().is_some_and(|queued| queued.replay)
        })
    }

    fn render_entry(&mut self, session: SessionNumber, number: u64, now: Now, batch: &mut Batch) {
        let Some(entry) = self.sessions.get_mut(&session).and_then(|it| it.entries.get_mut(&number)) else {
            return;
        };
        let queued = entry.queued.take();
        let released = entry.exchange.is_some_and(|exchange| exchange.released);
        let gone = queued.is_none() && entry.exchange.is_none();
        let forgotten = entry.stored.take_if(|_| released || gone);
        if forgotten.is_some() {
            batch.delete(Key::Entry(session, number).encode());
        }
        let key = Key::Exchange(session, number).encode();
        match entry.exchange {
            Some(exchange) => batch.put(key, row::put_exchange(exchange)),
            None if entry.exchange_stored => batch.delete(key),
            None => {}
        }
        entry.exchange_stored = entry.exchange.is_some();
        if let Some(body) = forgotten {
            self.forget_body(body, batch);
        }
        if let Some(queued) = queued {
            let body = self.keep_body(&queued.message, now, batch);
            if let Some(body) = body {
                batch.put(Key::Entry(session, number).encode(), row::put_waiting(body, &queued));
            }
            let owner = self.sessions.entry(session).or_default();
            owner.stored = true;
            owner.entries.entry(number).or_default().stored = body;
        } else if gone && let Some(owner) = self.sessions.get_mut(&session) {
            owner.entries.remove(&number);
        }
    }

    fn render_received(&mut self, number: SessionNumber, id: PacketId, batch: &mut Batch) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let Some(stored) = session.received.get_mut(&id) else { return };
        let key = Key::Received(number, id).encode();
        if *stored {
            batch.delete(key);
            session.received.remove(&id);
        } else {
            batch.put(key, row::put_received());
            *stored = true;
            session.stored = true;
        }
    }

    /// The number of the message's body, which is written now if it was not before. `None`: it cannot be.
    fn keep_body(&mut self, message: &Arc<Message>, now: Now, batch: &mut Batch) -> Option<BodyNumber> {
        let address = Arc::as_ptr(message).addr();
        if let Some(number) = self.by_address.get(&address)
            && let Some(body) = self.bodies.get_mut(number)
        {
            body.count += 1;
            return Some(*number);
        }
        let Some(value) = row::put_body(message, now) else {
            self.unwritable("a message on", &&*message.topic);
            return None;
        };
        let number = self.next_body;
        self.next_body += 1;
        batch.put(Key::Body(number).encode(), value);
        self.bodies.insert(number, Body { message: Arc::clone(message), count: 1 });
        self.by_address.insert(address, number);
        Some(number)
    }

    fn forget_body(&mut self, number: BodyNumber, batch: &mut Batch) {
        let Some(body) = self.bodies.get_mut(&number) else { return };
        body.count = body.count.saturating_sub(1);
        if body.count > 0 {
            return;
        }
        self.by_address.remove(&Arc::as_ptr(&body.message).addr());
        self.bodies.remove(&number);
        batch.delete(Key::Body(number).encode());
    }

    fn unwritable(&mut self, what: &str, whose: &dyn std::fmt::Display) {
        self.counts.unwritable += 1;
        tracing::error!("{what} {whose} cannot be stored: it is larger than a packet can be");
    }

    /// Notes a body that the store has.
    pub(super) fn has_body(&mut self, number: BodyNumber, message: &Arc<Message>) {
        self.next_body = self.next_body.max(number.saturating_add(1));
        self.by_address.insert(Arc::as_ptr(message).addr(), number);
        self.bodies.insert(number, Body { message: Arc::clone(message), count: 0 });
    }

    /// The message of a body that the store has.
    pub(super) fn message(&self, number: BodyNumber) -> Option<&Arc<Message>> {
        self.bodies.get(&number).map(|body| &body.message)
    }

    /// Notes a session that the store has.
    pub(super) fn has_session(&mut self, number: SessionNumber) {
        self.sessions.entry(number).or_default().stored = true;
    }

    /// Notes a waiting message that the store has.
    pub(super) fn has_entry(&mut self, session: SessionNumber, number: u64, body: BodyNumber) {
        if let Some(body) = self.bodies.get_mut(&body) {
            body.count += 1;
        }
        let entries = &mut self.sessions.entry(session).or_default().entries;
        entries.entry(number).or_default().stored = Some(body);
    }

    /// Notes an exchange that the store has.
    pub(super) fn has_exchange(&mut self, session: SessionNumber, number: u64, exchange: Exchange) {
        let entries = &mut self.sessions.entry(session).or_default().entries;
        let entry = entries.entry(number).or_default();
        entry.exchange = Some(exchange);
        entry.exchange_stored = true;
    }

    /// Notes an identifier in use that the store has.
    pub(super) fn has_received(&mut self, session: SessionNumber, id: PacketId) {
        self.sessions.entry(session).or_default().received.insert(id, true);
    }

    /// Notes a row of the store that belongs to nothing: it is deleted with the next changes.
    pub(super) fn has_stray(&mut self, key: &[u8]) {
        self.staged.strays.push(key.to_vec());
    }

    /// All rows are noted: bodies that none of them names are deleted with the next changes. How many rows that are, with
    /// those that belong to nothing.
    pub(super) fn end_of_rows(&mut self) -> usize {
        let unused: Vec<_> =
            self.bodies.iter().filter(|(_, body)| body.count == 0).map(|(number, _)| *number).collect();
        for number in unused {
            if let Some(body) = self.bodies.remove(&number) {
                self.by_address.remove(&Arc::as_ptr(&body.message).addr());
            }
            self.staged.strays.push(Key::Body(number).encode());
        }
        self.staged.strays.len()
    }
}
