//! The retained messages: the last message of a topic, kept for those who subscribe later.
//!
//! One sharded map from topic to message; updating a topic locks its shard and its publisher's account, nothing else.
//! Beside it lies an ordered snapshot of the topics, which only a topic that comes or goes changes: a search with
//! wildcards walks it without a lock, seeks over what cannot match (`seek`), and holds up no publisher.
//!
//! Lock order: a topic's shard, then the publisher's account, then the topic order, then the schedule.

mod seek;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry};
use foldhash::quality::RandomState;
use imbl::OrdSet;
use parking_lot::Mutex;
use signet_identity::PrincipalKey;
use signet_wire::{ReasonCode, TopicFilter, TopicName};

use crate::journal::{Journal, Record, Ticket};
use crate::message::{Author, Message, properties_bytes};
use crate::time::Mono;
use seek::{Verdict, literal_prefix, verdict};

/// A shard that grows moves its messages while others wait for it; a shard takes 128 bytes.
const SHARDS: usize = 256;
/// What a topic takes beside its message: entries of the map, the order, the schedule and its publisher's account.
const ENTRY_OVERHEAD_BYTES: usize = 192;
/// Messages that one [`RetainedStore::expire`] removes.
const EXPIRE_BATCH_MAX: usize = 1024;
/// So many topics are passed one by one before a search seeks in the order: a seek costs about as much.
const STEPS_BEFORE_SEEK: usize = 8;

/// How much may be retained. A change concerns what is set later; nothing is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedBounds {
    /// Messages in the broker.
    pub count_max: usize,
    /// Bytes of messages in the broker: [`Message::bytes`], the topic and 192 per message.
    pub bytes_max: usize,
    /// Messages of one principal.
    pub publisher_count_max: usize,
    /// Bytes of messages of one principal.
    pub publisher_bytes_max: usize,
}

/// Which bound a message does not fit in. What was retained on its topic before still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetainedFull {
    /// [`RetainedBounds::count_max`].
    #[error(
        "the broker retains as many messages as it may; clear topics that nobody needs or raise the bound"
    )]
    Count,
    /// [`RetainedBounds::bytes_max`].
    #[error("the broker retains as many bytes as it may; clear topics that nobody needs or raise the bound")]
    Bytes,
    /// [`RetainedBounds::publisher_count_max`].
    #[error("the publisher retains as many messages as one principal may")]
    PublisherCount,
    /// [`RetainedBounds::publisher_bytes_max`].
    #[error("the publisher retains as many bytes as one principal may")]
    PublisherBytes,
}

impl RetainedFull {
    /// What a 5.0 publisher is told.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        ReasonCode::QuotaExceeded
    }

    /// A bounded label for a counter.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::PublisherCount => "publisher-count",
            Self::PublisherBytes => "publisher-bytes",
        }
    }
}

/// The retained messages of the broker.
pub struct RetainedStore {
    topics: DashMap<Arc<str>, Kept, RandomState>,
    /// All keys of `topics`. Written under `order_writer`.
    order: ArcSwap<OrdSet<Arc<str>>>,
    order_writer: Mutex<()>,
    accounts: DashMap<PrincipalKey, Account, RandomState>,
    /// At most one entry per topic, no later than its message expires.
    schedule: Mutex<BTreeSet<(Mono, Arc<str>)>>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    bounds: ArcSwap<RetainedBounds>,
    /// Where what clients have published is recorded, under the topic's shard.
    journal: Option<Arc<Journal>>,
}

struct Kept {
    message: Arc<Message>,
    /// The topic's entry in the schedule.
    scheduled: Option<Mono>,
}

/// What one principal retains.
#[derive(Default)]
struct Account {
    topics: HashSet<Arc<str>, RandomState>,
    bytes: usize,
}

impl RetainedStore {
    /// An empty store.
    #[must_use]
    pub fn new(bounds: RetainedBounds) -> Self {
        Self::with_journal(bounds, None)
    }

    /// An empty store that records what clients publish. What the broker itself publishes it makes anew each time.
    pub(crate) fn with_journal(bounds: RetainedBounds, journal: Option<Arc<Journal>>) -> Self {
        Self {
            journal,
            topics: DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS),
            order: ArcSwap::default(),
            order_writer: Mutex::new(()),
            accounts: DashMap::with_hasher(RandomState::default()),
            schedule: Mutex::default(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            bounds: ArcSwap::from_pointee(bounds),
        }
    }

    /// Changes the bounds for what is set from now on.
    pub fn set_bounds(&self, bounds: RetainedBounds) {
        self.bounds.store(Arc::new(bounds));
    }

    /// Retains a message in place of the one that its topic had `[MQTT5-3.3.1-5]`. With an empty payload the topic is
    /// cleared `[MQTT5-3.3.1-6]`, `[MQTT5-3.3.1-7]`. Gives what must be settled before that outlives the process.
    ///
    /// The message should own its bytes: a slice of a read buffer keeps the whole buffer in memory.
    ///
    /// # Errors
    /// [`RetainedFull`] when a bound would be exceeded. What the broker itself publishes counts, but is never refused.
    pub fn set(&self, message: Arc<Message>) -> Result<Ticket, RetainedFull> {
        if message.payload.is_empty() {
            self.clear(&message.topic);
            // Also when there was nothing: an earlier request to clear it may not be settled, and this one repeats it.
            return Ok(self.journal.as_deref().map_or(Ticket::NONE, Journal::last));
        }
        if let Some(mut kept) = self.topics.get_mut(&*message.topic) {
            let topic = Arc::clone(kept.key());
            return self.replace(&topic, kept.value_mut(), message);
        }
        match self.topics.entry(Arc::from(&*message.topic)) {
            Entry::Occupied(mut kept) => {
                let topic = Arc::clone(kept.key());
                self.replace(&topic, kept.get_mut(), message)
            }
            Entry::Vacant(place) => {
                let topic = Arc::clone(place.key());
                self.charge(&topic, None, &message)?;
                self.edit_order(|order| order.insert(Arc::clone(&topic)));
                let ticket = self.record(None, &message);
                let mut kept = Kept { message, scheduled: None };
                self.reschedule(&topic, &mut kept);
                place.insert(kept);
                Ok(ticket)
            }
        }
    }

    /// Forgets the message of a topic; false if there was none.
    pub fn clear(&self, topic: &TopicName) -> bool {
        self.remove_if(topic, |_| true)
    }

    /// The message of a topic, unless it has expired.
    #[must_use]
    pub fn get(&self, topic: &TopicName, now: Mono) -> Option<Arc<Message>> {
        self.live(topic, now)
    }

    /// Calls `f` with the messages that a new subscription with this filter gets `[MQTT5-3.3.1-9]`, in the byte order
    /// of their topics and without those that have expired.
    ///
    /// No lock is held meanwhile. A message that is set or cleared at the same time is met or not. Topics below other
    /// literal levels than the filter's are not looked at.
    pub fn for_each_matching(&self, filter: &TopicFilter, now: Mono, mut f: impl FnMut(&Arc<Message>)) {
        if !filter.has_wildcard() {
            if let Some(message) = self.live(filter, now) {
                f(&message);
            }
            return;
        }
        let order = self.order.load_full();
        let from = |start: &str| order.range::<_, str>((Bound::Included(start), Bound::Unbounded));
        let mut topics = from(literal_prefix(filter));
        let mut next = topics.next();
        while let Some(topic) = next {
            next = match verdict(filter, topic) {
                Verdict::Match => {
                    if let Some(message) = self.live(topic, now) {
                        f(&message);
                    }
                    topics.next()
                }
                Verdict::Next => topics.next(),
                Verdict::Seek(target) => {
                    match topics.by_ref().take(STEPS_BEFORE_SEEK).find(|t| ***t >= *target) {
                        Some(topic) => Some(topic),
                        None => {
                            topics = from(&target);
                            topics.next()
                        }
                    }
                }
                Verdict::End => None,
            };
        }
    }

    /// Removes messages that have expired, at most 1024 in one call `[MQTT5-3.3.2-5]`; gives how many.
    /// While [`Self::next_expiry`] is not in the future there are more.
    pub fn expire(&self, now: Mono) -> usize {
        let mut expired = 0;
        for _ in 0..EXPIRE_BATCH_MAX {
            let Some((due, topic)) = self.pop_due(now) else { break };
            if self.remove_if(&topic, |kept| kept.message.is_expired(now)) {
                expired += 1;
            } else if let Some(mut kept) = self.topics.get_mut(&*topic)
                && kept.scheduled == Some(due)
            {
                kept.scheduled = None;
                self.reschedule(&topic, &mut kept);
            }
        }
        expired
    }

    /// When [`Self::expire`] has something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Mono> {
        self.schedule.lock().first().map(|(due, _)| *due)
    }

    /// Removes what of a principal's messages `taken` says, such as when its certificate was revoked; gives how many.
    pub fn remove_by_publisher(&self, publisher: &PrincipalKey, taken: impl Fn(&Message) -> bool) -> usize {
        let Some(topics) = self.accounts.get(publisher).map(|account| account.topics.clone()) else {
            return 0;
        };
        let theirs = |kept: &Kept| publisher_of(&kept.message) == Some(publisher) && taken(&kept.message);
        topics.iter().filter(|topic| self.remove_if(topic, theirs)).count()
    }

    /// Calls `f` with the author of every message; a part of the store is locked meanwhile.
    pub(crate) fn for_each_author(&self, mut f: impl FnMut(&Author)) {
        for kept in &self.topics {
            kept.message.publisher.author().into_iter().for_each(|author| f(author));
        }
    }

    /// Takes back a message of an earlier process, beyond all bounds, unless it has expired. Searches do not find its
    /// topic, which this gives, before [`Self::restore_order`].
    pub(crate) fn restore(&self, message: Arc<Message>, now: Mono) -> Option<Arc<str>> {
        if message.is_expired(now) {
            self.record_cleared(&message);
            return None;
        }
        let Entry::Vacant(place) = self.topics.entry(Arc::from(&*message.topic)) else { return None };
        let topic = Arc::clone(place.key());
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(cost(&message), Ordering::Relaxed);
        if let Some(publisher) = publisher_of(&message) {
            let mut account = self.accounts.entry(publisher.clone()).or_default();
            account.topics.insert(Arc::clone(&topic));
            account.bytes += cost(&message);
        }
        let mut kept = Kept { message, scheduled: None };
        self.reschedule(&topic, &mut kept);
        place.insert(kept);
        Some(topic)
    }

    /// Lets searches find the topics of restored messages. All at once: to add a million one by one takes minutes.
    pub(crate) fn restore_order(&self, mut topics: Vec<Arc<str>>) {
        topics.sort_unstable();
        self.edit_order(|order| order.extend(topics));
    }

    /// How many messages are retained.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// What they count for in [`RetainedBounds::bytes_max`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What those of one principal count for in [`RetainedBounds::publisher_bytes_max`].
    #[must_use]
    pub fn bytes_of(&self, publisher: &PrincipalKey) -> usize {
        self.accounts.get(publisher).map_or(0, |account| account.bytes)
    }

    /// Bytes of payload and properties of what a principal has retained on a topic; 0: nothing, or another has.
    pub(crate) fn content_bytes_of(&self, publisher: &PrincipalKey, topic: &TopicName) -> usize {
        let own = |kept: &Kept| publisher_of(&kept.message) == Some(publisher);
        self.topics.get(&**topic).filter(|kept| own(kept)).map_or(0, |kept| {
            let message = &kept.message;
            message.payload.len() + message.properties.as_deref().map_or(0, properties_bytes)
        })
    }

    fn live(&self, topic: &str, now: Mono) -> Option<Arc<Message>> {
        self.topics
            .get(topic)
            .filter(|kept| !kept.message.is_expired(now))
            .map(|kept| Arc::clone(&kept.message))
    }

    /// With the topic's shard locked.
    fn replace(
        &self,
        topic: &Arc<str>,
        kept: &mut Kept,
        message: Arc<Message>,
    ) -> Result<Ticket, RetainedFull> {
        self.charge(topic, Some(&kept.message), &message)?;
        let ticket = self.record(Some(&kept.message), &message);
        kept.message = message;
        self.reschedule(topic, kept);
        Ok(ticket)
    }

    /// With the topic's shard locked: `new` is there instead of `old`.
    fn record(&self, old: Option<&Message>, new: &Arc<Message>) -> Ticket {
        let Some(journal) = &self.journal else { return Ticket::NONE };
        if publisher_of(new).is_some() {
            return journal.append(Record::Retained(Arc::clone(new)));
        }
        old.map_or(Ticket::NONE, |old| self.record_cleared(old))
    }

    /// With the topic's shard locked: `old` is there no longer.
    fn record_cleared(&self, old: &Message) -> Ticket {
        match &self.journal {
            Some(journal) if publisher_of(old).is_some() => {
                journal.append(Record::Cleared(old.topic.clone()))
            }
            _ => Ticket::NONE,
        }
    }

    fn remove_if(&self, topic: &str, condemned: impl Fn(&Kept) -> bool) -> bool {
        let removed = self.topics.remove_if(topic, |topic, kept| {
            let remove = condemned(kept);
            if remove {
                self.record_cleared(&kept.message);
                self.discharge(topic, &kept.message);
                self.edit_order(|order| order.remove(&**topic));
                if let Some(due) = kept.scheduled {
                    self.schedule.lock().remove(&(due, Arc::clone(topic)));
                }
            }
            remove
        });
        removed.is_some()
    }

    /// Counts `new` in place of `old`, or nothing at all.
    fn charge(&self, topic: &Arc<str>, old: Option<&Message>, new: &Message) -> Result<(), RetainedFull> {
        let bounds = **self.bounds.load();
        let publisher = publisher_of(new);
        let added = cost(new);
        let released = old.map_or(0, cost);
        let count = self.count.fetch_add(usize::from(old.is_none()), Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(added, Ordering::Relaxed);
        let checked = match publisher {
            None => Ok(()),
            Some(_) if old.is_none() && count >= bounds.count_max => Err(RetainedFull::Count),
            // What gets smaller is welcome however full the store is.
            Some(_) if added > released && bytes + added - released.min(bytes) > bounds.bytes_max => {
                Err(RetainedFull::Bytes)
            }
            Some(publisher) => {
                let own = old.filter(|old| publisher_of(old) == Some(publisher)).map_or(0, cost);
                self.accounts.entry(publisher.clone()).or_default().charge(topic, own, added, &bounds)
            }
        };
        if let Err(full) = checked {
            self.count.fetch_sub(usize::from(old.is_none()), Ordering::Relaxed);
            self.bytes.fetch_sub(added, Ordering::Relaxed);
            if let Some(publisher) = publisher {
                self.accounts.remove_if(publisher, |_, account| account.topics.is_empty());
            }
            return Err(full);
        }
        if let Some(old) = old {
            self.bytes.fetch_sub(released, Ordering::Relaxed);
            if publisher_of(old) != publisher {
                self.discharge_account(topic, old);
            }
        }
        Ok(())
    }

    fn discharge(&self, topic: &Arc<str>, message: &Message) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(cost(message), Ordering::Relaxed);
        self.discharge_account(topic, message);
    }

    fn discharge_account(&self, topic: &Arc<str>, message: &Message) {
        let Some(publisher) = publisher_of(message) else { return };
        if let Some(mut account) = self.accounts.get_mut(publisher)
            && account.topics.remove(topic)
        {
            account.bytes -= cost(message);
        }
        self.accounts.remove_if(publisher, |_, account| account.topics.is_empty());
    }

    fn edit_order<R>(&self, edit: impl FnOnce(&mut OrdSet<Arc<str>>) -> R) {
        let _writer = self.order_writer.lock();
        let mut order = OrdSet::clone(&self.order.load());
        edit(&mut order);
        self.order.store(Arc::new(order));
    }

    /// Sees to it that the schedule has the topic no later than its message expires. An earlier entry stays, so that a
    /// topic that is updated with the same interval again and again does not lock the schedule each time.
    fn reschedule(&self, topic: &Arc<str>, kept: &mut Kept) {
        let Some(expires) = kept.message.expires else { return };
        if kept.scheduled.is_some_and(|due| due <= expires) {
            return;
        }
        let mut schedule = self.schedule.lock();
        if let Some(due) = kept.scheduled.replace(expires) {
            schedule.remove(&(due, Arc::clone(topic)));
        }
        schedule.insert((expires, Arc::clone(topic)));
    }

    fn pop_due(&self, now: Mono) -> Option<(Mono, Arc<str>)> {
        let mut schedule = self.schedule.lock();
        let due = schedule.first().is_some_and(|(due, _)| *due <= now);
        if due { schedule.pop_first() } else { None }
    }
}

impl Account {
    /// Counts a message of `added` bytes on a topic where this account already has `own`.
    fn charge(
        &mut self,
        topic: &Arc<str>,
        own: usize,
        added: usize,
        bounds: &RetainedBounds,
    ) -> Result<(), RetainedFull> {
        if !self.topics.contains(topic) && self.topics.len() >= bounds.publisher_count_max {
            return Err(RetainedFull::PublisherCount);
        }
        let bytes = self.bytes - own + added;
        if added > own && bytes > bounds.publisher_bytes_max {
            return Err(RetainedFull::PublisherBytes);
        }
        self.topics.insert(Arc::clone(topic));
        self.bytes = bytes;
        Ok(())
    }
}

fn cost(message: &Message) -> usize {
    message.bytes + message.topic.len() + ENTRY_OVERHEAD_BYTES
}

fn publisher_of(message: &Message) -> Option<&PrincipalKey> {
    message.publisher.author().map(|author| author.principal.key())
}

impl fmt::Debug for RetainedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetainedStore")
            .field("count", &self.count)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
