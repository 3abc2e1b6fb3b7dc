//! The subscription index: which sessions get a message with this topic.
//!
//! Filters without a wildcard lie in a hash map, the others in a trie (`trie`). Publishing threads look up both
//! without a lock that they all share: the hash map is sharded by the topic, and the trie is an immutable snapshot.
//! Peers choose the topics: so the table's hashes are seeded with what the operating system says is random (`table`).
//!
//! With a million devices a subscription takes about 200 bytes without a wildcard (`devices/d0000001/commands`) and 275 with one
//! (`devices/d0000001/commands/#`), what the allocator keeps included. What look-ups and changes cost is measured by the micro-bench `router` of `signet-bench`.

mod children;
mod group;
mod key;
mod matches;
mod set;
mod table;
#[cfg(test)]
mod tests;
mod trie;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signet_wire::{QoS, SubscriptionFilter, TopicFilter, TopicName};

pub use group::SharedGroup;
pub use matches::{Hit, Matches};

use crate::provisioning::is_below_aws;
use key::Exact;
use set::{Entry, Slot};
use table::Table;
use trie::Trie;

/// Shards of the map of exact filters: a shard that grows moves its entries while others that want it wait, and with a
/// million filters that is a thousand entries. A shard takes 64 bytes.
const EXACT_SHARDS: usize = 1024;

/// A cheap handle of a session, such as an `Arc`.
pub trait Subscriber: Clone {
    /// Tells sessions apart; the same for all handles of one session for as long as the index knows it.
    fn id(&self) -> u64;
}

/// What a subscription asked for, as far as it concerns live messages (`[MQTT5-3.8.3.1]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubOptions {
    /// The granted maximum QoS.
    pub qos: QoS,
    /// Do not send the session its own messages back `[MQTT5-3.8.3-3]`. Not legal on a shared subscription.
    pub no_local: bool,
    /// Keep the RETAIN flag as it was published `[MQTT5-3.3.1-13]`.
    pub retain_as_published: bool,
    /// 1 to 268 435 455; zero counts as none.
    pub subscription_id: Option<u32>,
}

/// All subscriptions of the broker, in memory.
///
/// Changes are seen by every look-up that begins after they return. A look-up that runs at the same time sees a
/// change or not, and sees everything that does not change.
///
/// The index has no bound of its own: who subscribes bounds the number of subscriptions per session, and the levels
/// of a filter. A look-up visits at most `min(2^(levels + 1), nodes of the trie)` nodes, each on the way to a filter
/// that agrees with the topic so far, so that many sessions are needed to make it slow: filters such as
/// `a/+/+/+/#` share their nodes.
pub struct Index<S> {
    exact: Table<Exact<S>>,
    wild: Trie<S>,
    plain: AtomicUsize,
    shared: AtomicUsize,
    /// Of both, those below `$aws/`.
    aws: AtomicUsize,
}

impl<S: Subscriber> Default for Index<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Subscriber> Index<S> {
    /// An empty index: about 65 KB.
    pub fn new() -> Self {
        Self {
            exact: Table::new(EXACT_SHARDS),
            wild: Trie::new(),
            plain: AtomicUsize::new(0),
            shared: AtomicUsize::new(0),
            aws: AtomicUsize::new(0),
        }
    }

    /// Adds a subscription, or replaces the options of the session's subscription with the identical filter
    /// `[MQTT5-3.8.4-3]`. True if it was new.
    pub fn subscribe(&self, subscriber: S, filter: &SubscriptionFilter, options: SubOptions) -> bool {
        let entry = Entry::new(subscriber, options);
        let new = self.insert(filter.filter(), |slot| match filter.group() {
            None => slot.insert(entry),
            Some(group) => slot.join(group, filter, entry),
        });
        if new {
            self.count(filter).fetch_add(1, Ordering::Relaxed);
            self.aws.fetch_add(usize::from(is_below_aws(filter.filter())), Ordering::Relaxed);
        }
        new
    }

    /// Removes a session's subscription with the identical filter `[MQTT5-3.10.4-1]`; false if it has none, which is
    /// reason code 0x11.
    pub fn unsubscribe(&self, id: u64, filter: &SubscriptionFilter) -> bool {
        let found = self.remove(filter.filter(), |slot| match filter.group() {
            None => slot.remove(id),
            Some(group) => slot.leave(group, id),
        });
        if found {
            self.count(filter).fetch_sub(1, Ordering::Relaxed);
            self.aws.fetch_sub(usize::from(is_below_aws(filter.filter())), Ordering::Relaxed);
        }
        found
    }

    /// Fills `out` with everybody who gets a message with this topic that the session `publisher` publishes.
    ///
    /// `publisher` counts for No Local only; give an id that no session has when the publisher has no session.
    pub fn matches(&self, topic: &TopicName, publisher: u64, out: &mut Matches<S>) {
        out.clear();
        let topic: &str = topic;
        // The shard is free again before a set is read, however long it is.
        let set = self.exact.read(topic.as_bytes(), |exact| exact.slot.collect_one(publisher, out).cloned());
        if let Some(set) = set.flatten() {
            set.collect(publisher, out);
        }
        self.wild.collect(topic, publisher, out);
    }

    /// The group of a shared subscription, to find another member for a message whose member has left.
    pub fn shared_group(&self, group: &str, filter: &TopicFilter) -> Option<Arc<SharedGroup<S>>> {
        if filter.has_wildcard() {
            self.wild.get(filter)?.group(group).cloned()
        } else {
            self.exact.read(filter.as_bytes(), |exact| exact.slot.group(group).cloned())?
        }
    }

    /// How many subscriptions there are, shared ones included.
    pub fn subscriptions(&self) -> usize {
        self.plain.load(Ordering::Relaxed) + self.shared_subscriptions()
    }

    /// How many of them are shared: one per member of a group.
    pub fn shared_subscriptions(&self) -> usize {
        self.shared.load(Ordering::Relaxed)
    }

    /// Whether anybody could get a message on a topic below `$aws/`: no wildcard stands for that level
    /// (`[MQTT5-4.7.2-1]`). Costs one load.
    pub fn reaches_aws(&self) -> bool {
        self.aws.load(Ordering::Relaxed) > 0
    }

    fn count(&self, filter: &SubscriptionFilter) -> &AtomicUsize {
        if filter.group().is_some() { &self.shared } else { &self.plain }
    }

    fn insert(&self, filter: &TopicFilter, edit: impl FnOnce(&mut Slot<S>) -> bool) -> bool {
        if filter.has_wildcard() {
            return self.wild.insert(filter, edit);
        }
        self.exact.edit_or_file(filter.as_bytes(), || Exact::new(filter), |exact| edit(&mut exact.slot))
    }

    fn remove(&self, filter: &TopicFilter, edit: impl FnOnce(&mut Slot<S>) -> bool) -> bool {
        if filter.has_wildcard() {
            return self.wild.remove(filter, edit);
        }
        let edited = self.exact.edit_or_remove(filter.as_bytes(), |exact| {
            let found = edit(&mut exact.slot);
            (found, exact.slot.is_empty())
        });
        edited.is_some_and(|(found, _)| found)
    }
}

impl<S> fmt::Debug for Index<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("plain", &self.plain)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}
