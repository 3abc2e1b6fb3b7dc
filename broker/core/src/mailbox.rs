//! The queue between those who publish and the connection that delivers.
//!
//! Publishers push under a short lock; the session's owner takes in batches. QoS 0 waits apart from QoS 1 and 2, so
//! that a client which does not acknowledge still gets QoS 0, and a number per entry keeps the order across both
//! while nothing is held back.

use std::collections::VecDeque;
use std::sync::Arc;

use signet_wire::QoS;
use smallvec::SmallVec;

use crate::action::SubscriptionIds;
use crate::hub::{Inflight, Usage};
use crate::journal::{Log, QueuedEntry, Record, Ticket};
use crate::limits::{Limits, SlowConsumer};
use crate::link::Link;
use crate::message::Message;
use crate::router::SharedGroup;
use crate::session::SessionRef;
use crate::time::Mono;

/// The group of a shared subscription.
pub(crate) type Group = Arc<SharedGroup<SessionRef>>;

/// So many entries leave under one lock.
const BATCH_ENTRIES: usize = 16;
/// What an entry takes beside its message, in bytes, with the room that its queue has for more.
pub(crate) const ENTRY_BYTES: usize = 160;
/// So many entries of a queue say what part of its bytes is its own.
const SAMPLE_ENTRIES: usize = 64;
/// Room for so many entries is kept when a queue runs empty.
const KEPT_ENTRIES: usize = 64;

/// A batch on its way from the mailbox to the connection.
pub(crate) type Batch = SmallVec<[Entry; BATCH_ENTRIES]>;

/// One message for one session.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its place in the session: later ones are higher. Given by the mailbox.
    pub(crate) number: u64,
    pub(crate) message: Arc<Message>,
    /// The lower of the published and the granted quality of service.
    pub(crate) qos: QoS,
    /// RETAIN as the client is to see it.
    pub(crate) retain: bool,
    /// From the retained store, not live.
    pub(crate) replay: bool,
    pub(crate) subscription_ids: SubscriptionIds,
    /// The group whose turn this session had: where the message goes when the session ends first.
    pub(crate) group: Option<Group>,
}

impl Entry {
    /// The part of its message's bytes that is this entry's: whoever holds the message too, another queue or the retained
    /// store, has as much of it. What is replayed is all the retained store's, as long as that may have it.
    fn own_bytes(&self) -> usize {
        match (self.replay, Arc::strong_count(&self.message)) {
            (_, 0 | 1) => self.message.bytes,
            (true, _) => 0,
            (false, holders) => self.message.bytes.div_ceil(holders),
        }
    }

    /// As it is recorded.
    fn queued(&self) -> QueuedEntry {
        QueuedEntry {
            number: self.number,
            message: Arc::clone(&self.message),
            qos: self.qos,
            retain: self.retain,
            replay: self.replay,
            subscription_ids: self.subscription_ids.clone(),
            shared: self.group.as_ref().map(|group| group.filter().clone()),
        }
    }
}

/// What a session holds, so far as it is given back when its connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// About how many bytes are given back: of each message the part that is this session's, and the entries.
    pub(crate) given_back: usize,
    /// About how many bytes the client has to take before they are gone, those of the messages that others have too included.
    pub(crate) to_take: usize,
}

impl Held {
    /// Of so many `entries`, the messages of which have `bytes` together. `place` gives one of them, `None`: it is another's.
    pub(crate) fn of<'a>(
        entries: usize,
        bytes: usize,
        place: impl FnMut(usize) -> Option<&'a Entry>,
    ) -> Self {
        // Where none of them was seen, they are few: then all of it is taken for this session's.
        let all = Self { given_back: bytes, to_take: bytes };
        let messages = Self::of_messages(entries, bytes, place).unwrap_or(all);
        Self { given_back: entries * ENTRY_BYTES, to_take: 0 }.and(messages)
    }

    /// As [`Self::of`], of the messages alone; `None`: none of them was seen. What is looked at is a bounded number of them, evenly
    /// spread, since publishers wait for the lock meanwhile.
    fn of_messages<'a>(
        entries: usize,
        bytes: usize,
        mut place: impl FnMut(usize) -> Option<&'a Entry>,
    ) -> Option<Self> {
        if bytes == 0 {
            return None;
        }
        let looks = entries.min(SAMPLE_ENTRIES);
        let (mut whole, mut own, mut content) = (0, 0, 0);
        for entry in (0..looks).filter_map(|look| place(look * entries / looks)) {
            whole += entry.message.bytes;
            own += entry.own_bytes();
            content += entry.message.content_bytes();
        }
        let scaled = |part: usize| bytes.saturating_mul(part).checked_div(whole);
        Some(Self { given_back: scaled(own)?, to_take: scaled(content)? })
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { given_back: self.given_back + other.given_back, to_take: self.to_take + other.to_take }
    }
}

/// What became of a pushed entry.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It waits; the link is to be woken, unless somebody has done so since the last batch.
    Queued(Option<Arc<Link>>, Ticket),
    /// A bound is reached.
    Dropped,
    /// A bound is reached and the client is to be closed for it. Whether the entry was kept for the session.
    TooSlow { link: Arc<Link>, kept: Option<Ticket> },
    /// Nobody will ever take it: the session has ended, or it is QoS 0 and nobody is connected.
    Unwanted,
}

/// Whether a mailbox would take another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// No.
    None,
    /// For a client that is not connected, or whose connection is to close.
    Later,
    /// For a connected client.
    Now,
}

/// What is left after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing that could be taken now. `held_back`: QoS 1 and 2 messages wait for free slots.
    Nothing { held_back: bool },
    /// More, which the owner must come for by itself.
    More,
}

/// How full a mailbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    link: Option<Arc<Link>>,
    ended: bool,
    /// The owner knows that there is something, or will come without being called.
    woken: bool,
    /// The owner has no slot for QoS 1 and 2, and will come by itself when it has.
    stalled: bool,
    next: u64,
    at_most_once: VecDeque<Entry>,
    acknowledged: VecDeque<Entry>,
    at_most_once_bytes: usize,
    /// Of the entries in `acknowledged` that are not replayed; those that are share their bytes with the retained
    /// store.
    acknowledged_live: Fill,
    replayed: usize,
    replayed_bytes: usize,
    /// Those of them that wait in `at_most_once`.
    replayed_bytes_at_most_once: usize,
    /// What all queues of the principal hold.
    usage: Arc<Usage>,
    /// Nothing in `acknowledged` expires before; `None`: nothing expires.
    expires_first: Option<Mono>,
    /// Where `acknowledged` is recorded, if it is.
    log: Option<Log>,
}

impl Mailbox {
    /// An empty one, which counts what it holds in `usage` too.
    pub(crate) fn new(usage: Arc<Usage>) -> Self {
        Self { usage, ..Self::default() }
    }

    /// Bytes of live messages that wait, QoS 0 included.
    pub(crate) fn bytes_waiting(&self) -> usize {
        self.at_most_once_bytes + self.acknowledged_live.bytes
    }

    /// What the end of this queue gives back, and what is to be taken first: of QoS 0, and with `all` of QoS 1 and 2 too.
    pub(crate) fn held(&self, all: bool) -> Held {
        let of = |queue: &VecDeque<Entry>, live: usize, replayed: usize| {
            let at = |place: usize, replay: bool| queue.get(place).filter(|entry| entry.replay == replay);
            let messages = Held::of_messages(queue.len(), replayed, |place| at(place, true));
            // Where none of them was seen, the retained store may have them.
            let messages = messages.unwrap_or(Held { given_back: 0, to_take: replayed });
            Held::of(queue.len(), live, |place| at(place, false)).and(messages)
        };
        let replayed = self.replayed_bytes_at_most_once;
        let lost = of(&self.at_most_once, self.at_most_once_bytes, replayed);
        if !all {
            return lost;
        }
        lost.and(of(&self.acknowledged, self.acknowledged_live.bytes, self.replayed_bytes - replayed))
    }

    /// From now on what waits is recorded, or no longer.
    pub(crate) fn set_log(&mut self, log: Option<Log>) {
        self.log = log;
    }

    /// Takes back what an earlier process kept, behind what is here. It has its number, and is not recorded again.
    pub(crate) fn restore(&mut self, entry: Entry) {
        self.next = self.next.max(entry.number + 1);
        self.insert(entry);
    }

    /// Numbers up to this one are taken.
    pub(crate) fn number_after(&mut self, number: u64) {
        self.next = self.next.max(number + 1);
    }

    pub(crate) fn link(&self) -> Option<&Arc<Link>> {
        self.link.as_ref()
    }

    /// Puts another owner in place and returns the one that was there. The new owner comes by itself for what waits.
    pub(crate) fn attach(&mut self, link: Arc<Link>) -> Option<Arc<Link>> {
        self.woken = !self.at_most_once.is_empty() || !self.acknowledged.is_empty();
        self.stalled = false;
        self.link.replace(link)
    }

    /// Nobody is connected any more: what is QoS 0 is gone.
    pub(crate) fn detach(&mut self) {
        self.link = None;
        self.woken = false;
        for entry in std::mem::take(&mut self.at_most_once).into_iter().filter(|entry| entry.replay) {
            self.forget_replay(&entry);
        }
        self.usage.unqueue(std::mem::take(&mut self.at_most_once_bytes));
        self.acknowledged.shrink_to_fit();
    }

    /// Ends the mailbox and hands out everything that waited.
    pub(crate) fn end(&mut self) -> impl Iterator<Item = Entry> + use<> {
        let waiting = std::mem::take(&mut self.acknowledged);
        self.usage.unqueue(self.bytes_waiting());
        self.usage.unreplay(self.replayed_bytes);
        *self = Self { ended: true, ..Self::default() };
        waiting.into_iter()
    }

    /// All that waits for a connected client; `None`: nobody is connected.
    pub(crate) fn outgoing(&self) -> Option<Fill> {
        self.link.as_ref()?;
        let messages = self.at_most_once.len() + self.acknowledged.len();
        Some(Fill { messages, bytes: self.bytes_waiting() + self.replayed_bytes })
    }

    /// Messages of QoS 1 and 2 that wait.
    pub(crate) fn fill(&self) -> Fill {
        Fill { messages: self.acknowledged.len(), bytes: self.acknowledged_live.bytes }
    }

    /// Whether another message would be taken, and when.
    pub(crate) fn room(&self, qos: QoS, bytes: usize, inflight: &Inflight, limits: &Limits) -> Room {
        // One that is to close is no better than none: what goes to it waits until it has closed, or is lost.
        let connected = self.link.as_ref().is_some_and(|link| link.close_reason().is_none());
        let bytes_max = if self.link.is_some() { limits.outbox_bytes_max } else { limits.queued_bytes_max };
        let can_wait = connected || qos != QoS::AtMostOnce;
        // One that is trusted no more is worse: its session may end with it.
        if self.link.as_ref().is_some_and(|link| link.condemned().is_some()) {
            return Room::None;
        }
        match (!self.ended && can_wait && self.fits(qos, bytes, bytes_max, inflight, limits), connected) {
            (false, _) => Room::None,
            (true, true) => Room::Now,
            (true, false) => Room::Later,
        }
    }

    fn fits(&self, qos: QoS, bytes: usize, bytes_max: usize, inflight: &Inflight, limits: &Limits) -> bool {
        let held = self.usage.queued_bytes() + bytes;
        if held > limits.queued_bytes_per_principal_max && !self.has_own_share(held, bytes, inflight, limits)
        {
            return false;
        }
        let waiting = self.bytes_waiting();
        match qos {
            QoS::AtMostOnce => waiting + bytes <= bytes_max,
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                self.acknowledged_live.messages < limits.queued_messages_max
                    && self.acknowledged_live.bytes + bytes <= bytes_max
            }
        }
    }

    /// The sessions of a name have one bound, `held` is above it, and some of them may be away for days: who is connected has
    /// as much of its own as is handed out at once. Somebody who has nothing gets a larger message too, while the name has
    /// less than twice its bound.
    fn has_own_share(&self, held: usize, bytes: usize, inflight: &Inflight, limits: &Limits) -> bool {
        if self.link.is_none() {
            return false;
        }
        let (waiting, inflight) = (self.bytes_waiting(), inflight.bytes());
        waiting + inflight + bytes <= limits.drain_bytes_max
            || (waiting == 0
                && inflight < Inflight::GRAIN_BYTES
                && held <= limits.queued_bytes_per_principal_max.saturating_mul(2))
    }

    /// Where `entry` finds no room, removes what has expired by the time it was accepted. Returns how many.
    pub(crate) fn make_room(&mut self, entry: &Entry, inflight: &Inflight, limits: &Limits) -> usize {
        let now = entry.message.accepted;
        let bytes_max = if self.link.is_some() { limits.outbox_bytes_max } else { limits.queued_bytes_max };
        let some_expired = self.expires_first.is_some_and(|at| at <= now);
        if !some_expired || self.fits(entry.qos, entry.message.bytes, bytes_max, inflight, limits) {
            return 0;
        }
        let removed = self.remove(|entry| !entry.message.is_expired(now)).len();
        self.expires_first = self.acknowledged.iter().filter_map(|entry| entry.message.expires).min();
        removed
    }

    /// Appends a live message, within the bounds.
    pub(crate) fn push(&mut self, entry: Entry, inflight: &Inflight, limits: &Limits) -> Pushed {
        let qos = entry.qos;
        if self.ended || (self.link.is_none() && qos == QoS::AtMostOnce) {
            return Pushed::Unwanted;
        }
        let bytes = entry.message.bytes;
        let bytes_max = if self.link.is_some() { limits.outbox_bytes_max } else { limits.queued_bytes_max };
        if self.fits(qos, bytes, bytes_max, inflight, limits) {
            let ticket = self.append(entry);
            return Pushed::Queued(self.call(qos), ticket);
        }
        let overrun = self.acknowledged_live.bytes + bytes > bytes_max;
        match &self.link {
            Some(link)
                if qos != QoS::AtMostOnce && overrun && limits.slow_consumer == SlowConsumer::Close =>
            {
                let link = Arc::clone(link);
                let fits = self.fits(qos, bytes, limits.queued_bytes_max, inflight, limits);
                let kept = fits.then(|| self.append(entry));
                Pushed::TooSlow { link, kept }
            }
            _ => Pushed::Dropped,
        }
    }

    /// Whether [`Self::replay`] would drop.
    pub(crate) fn replay_is_full(&self, limits: &Limits) -> bool {
        self.replayed >= limits.retained_replay_max
    }

    /// Appends a retained message for a new subscription of the session's connected client. Its bytes are those of
    /// the retained store; the bound is `retained_replay_max`. `None`: dropped.
    pub(crate) fn replay(&mut self, entry: Entry, limits: &Limits) -> Option<Ticket> {
        (!self.replay_is_full(limits)).then(|| self.append(entry))
    }

    fn append(&mut self, mut entry: Entry) -> Ticket {
        entry.number = self.next;
        self.next += 1;
        let ticket = match &self.log {
            Some(log) if entry.qos != QoS::AtMostOnce => {
                let queued = Box::new(entry.queued());
                log.add(|session| Record::Queued(session, queued))
            }
            _ => Ticket::NONE,
        };
        self.insert(entry);
        ticket
    }

    fn insert(&mut self, entry: Entry) {
        let bytes = entry.message.bytes;
        if entry.replay {
            self.replayed += 1;
            self.replayed_bytes += bytes;
            self.usage.replay(bytes);
        } else {
            self.usage.queue(bytes);
        }
        match (entry.qos, entry.replay) {
            (QoS::AtMostOnce, replay) => {
                let of_its_kind =
                    if replay { &mut self.replayed_bytes_at_most_once } else { &mut self.at_most_once_bytes };
                *of_its_kind += bytes;
                self.at_most_once.push_back(entry);
            }
            (QoS::AtLeastOnce | QoS::ExactlyOnce, replay) => {
                if !replay {
                    self.acknowledged_live.messages += 1;
                    self.acknowledged_live.bytes += bytes;
                }
                self.expires_first = self.expires_first.into_iter().chain(entry.message.expires).min();
                self.acknowledged.push_back(entry);
            }
        }
    }

    /// The link to wake, once per batch.
    fn call(&mut self, qos: QoS) -> Option<Arc<Link>> {
        if self.woken || (self.stalled && qos != QoS::AtMostOnce) {
            return None;
        }
        self.woken = true;
        self.link.clone()
    }

    /// Moves entries into `batch`, oldest first: at most as many of QoS 1 and 2 as there are `slots`, and until
    /// `bytes` is reached.
    pub(crate) fn take(&mut self, batch: &mut Batch, mut slots: usize, bytes: usize) -> Left {
        let mut taken = 0;
        while batch.len() < BATCH_ENTRIES && taken < bytes {
            let Some(entry) = self.pop(slots) else { break };
            taken += entry.message.bytes;
            slots -= usize::from(entry.qos != QoS::AtMostOnce);
            batch.push(entry);
        }
        self.stalled = false;
        let ready = !self.at_most_once.is_empty() || (slots > 0 && !self.acknowledged.is_empty());
        if ready {
            return Left::More;
        }
        self.woken = false;
        if self.at_most_once.capacity() > KEPT_ENTRIES {
            self.at_most_once.shrink_to(KEPT_ENTRIES);
        }
        if self.acknowledged.is_empty() && self.acknowledged.capacity() > KEPT_ENTRIES {
            self.acknowledged.shrink_to(KEPT_ENTRIES);
        }
        self.stalled = !self.acknowledged.is_empty();
        Left::Nothing { held_back: self.stalled }
    }

    fn pop(&mut self, slots: usize) -> Option<Entry> {
        let first = self.at_most_once.front().map(|entry| entry.number);
        let second = self.acknowledged.front().map(|entry| entry.number).filter(|_| slots > 0);
        let from_first = match (first, second) {
            (None, None) => return None,
            (Some(first), Some(second)) => first < second,
            (first, None) => first.is_some(),
            (None, Some(_)) => false,
        };
        let entry = if from_first { self.at_most_once.pop_front() } else { self.acknowledged.pop_front() }?;
        self.forget(&entry);
        Some(entry)
    }

    /// Takes an entry that is no longer in a queue out of the bounds.
    fn forget(&mut self, entry: &Entry) {
        let bytes = entry.message.bytes;
        if !entry.replay {
            self.usage.unqueue(bytes);
        }
        match (entry.replay, entry.qos) {
            (true, _) => self.forget_replay(entry),
            (false, QoS::AtMostOnce) => self.at_most_once_bytes -= bytes,
            (false, QoS::AtLeastOnce | QoS::ExactlyOnce) => {
                self.acknowledged_live.messages -= 1;
                self.acknowledged_live.bytes -= bytes;
            }
        }
    }

    fn forget_replay(&mut self, entry: &Entry) {
        let bytes = entry.message.bytes;
        self.replayed -= 1;
        self.replayed_bytes -= bytes;
        if entry.qos == QoS::AtMostOnce {
            self.replayed_bytes_at_most_once -= bytes;
        }
        self.usage.unreplay(bytes);
    }

    /// Takes out every waiting QoS 1 and 2 entry that `keep` refuses.
    pub(crate) fn remove(&mut self, mut keep: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let mut removed = Vec::new();
        for entry in std::mem::take(&mut self.acknowledged) {
            if keep(&entry) {
                self.acknowledged.push_back(entry);
            } else {
                self.forget(&entry);
                if let Some(log) = &self.log {
                    log.add(|session| Record::Done(session, entry.number));
                }
                removed.push(entry);
            }
        }
        removed
    }
}
