//! The subscriptions that hang on one filter: nobody, one session (by far the most frequent case), or many.

use std::num::NonZeroU32;
use std::sync::Arc;

use imbl::OrdMap;
use signet_wire::{QoS, SubscriptionFilter};

use super::group::SharedGroup;
use super::matches::Matches;
use super::{SubOptions, Subscriber};

/// Up to here plain subscribers lie in one sorted array, which is copied on write when a reader holds it.
/// Above, in a persistent B-tree, so that the 100 000th subscriber of a topic costs what the 40th does.
const ARRAY_MAX: usize = 32;

/// One session's subscription to one filter.
#[derive(Clone)]
pub(super) struct Entry<S> {
    pub(super) id: u64,
    pub(super) subscriber: S,
    subscription_id: Option<NonZeroU32>,
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
}

impl<S: Subscriber> Entry<S> {
    pub(super) fn new(subscriber: S, options: SubOptions) -> Self {
        Self {
            id: subscriber.id(),
            subscriber,
            subscription_id: options.subscription_id.and_then(NonZeroU32::new),
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
        }
    }

    pub(super) fn options(&self) -> SubOptions {
        SubOptions {
            qos: self.qos,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            subscription_id: self.subscription_id.map(NonZeroU32::get),
        }
    }

    /// `[MQTT5-3.8.3-3]`: with No Local a message is not sent back over the session that published it.
    fn hears(&self, publisher: u64) -> bool {
        !(self.no_local && self.id == publisher)
    }
}

/// What hangs on one filter. 24 bytes for `S = Arc<_>`, so that a million per-device filters need no second allocation each.
#[derive(Clone, Default)]
pub(super) enum Slot<S> {
    #[default]
    Empty,
    One(Entry<S>),
    Many(Arc<Set<S>>),
}

/// Several plain subscribers, or at least one shared group.
#[derive(Clone)]
pub(super) struct Set<S> {
    plain: Plain<S>,
    groups: OrdMap<Arc<str>, Arc<SharedGroup<S>>>,
}

/// Plain subscribers, ordered by session id.
#[derive(Clone)]
enum Plain<S> {
    Array(Vec<Entry<S>>),
    Tree(OrdMap<u64, Entry<S>>),
}

impl<S> Slot<S> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl<S: Subscriber> Slot<S> {
    /// Adds a plain subscription or replaces the options of an existing one; true if it was new.
    pub(super) fn insert(&mut self, entry: Entry<S>) -> bool {
        match self {
            Self::Empty => {
                *self = Self::One(entry);
                true
            }
            Self::One(only) if only.id == entry.id => {
                *only = entry;
                false
            }
            Self::One(_) | Self::Many(_) => self.edit_set(|set| set.plain.insert(entry)),
        }
    }

    /// Removes a session's plain subscription; false if there was none.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        match self {
            Self::Empty => false,
            Self::One(only) => {
                let found = only.id == id;
                if found {
                    *self = Self::Empty;
                }
                found
            }
            Self::Many(set) => {
                let found = set.plain.contains(id) && Arc::make_mut(set).plain.remove(id);
                self.shrink();
                found
            }
        }
    }

    /// Adds a member to the shared group `name` of `filter`, or replaces its options; true if it was new.
    pub(super) fn join(&mut self, name: &str, filter: &SubscriptionFilter, entry: Entry<S>) -> bool {
        if let Some(group) = self.group(name) {
            return group.join(entry);
        }
        let name: Arc<str> = name.into();
        let group = SharedGroup::new(Arc::clone(&name), filter.clone());
        group.join(entry);
        self.edit_set(|set| set.groups.insert(name, Arc::new(group)));
        true
    }

    /// Removes a member from the shared group `name`, and the group with its last member; false if it was no member.
    pub(super) fn leave(&mut self, name: &str, id: u64) -> bool {
        let Some(group) = self.group(name) else { return false };
        let found = group.leave(id);
        if group.is_empty()
            && let Self::Many(set) = self
        {
            Arc::make_mut(set).groups.remove(name);
            self.shrink();
        }
        found
    }

    /// The shared group of this name.
    pub(super) fn group(&self, name: &str) -> Option<&Arc<SharedGroup<S>>> {
        match self {
            Self::Many(set) => set.groups.get(name),
            Self::Empty | Self::One(_) => None,
        }
    }

    /// Adds who is here to `out`. When there are many, they are given back instead, since the caller may hold a lock that
    /// is not to be held for long.
    #[must_use]
    pub(super) fn collect_one(&self, publisher: u64, out: &mut Matches<S>) -> Option<&Arc<Set<S>>> {
        match self {
            Self::Empty => None,
            Self::One(entry) => {
                if entry.hears(publisher) {
                    out.begin_set(1);
                    out.push(entry);
                }
                None
            }
            Self::Many(set) => Some(set),
        }
    }

    /// Edits the set behind this slot, which is made from what is here if there is none yet.
    fn edit_set<R>(&mut self, edit: impl FnOnce(&mut Set<S>) -> R) -> R {
        let with = |entries| Arc::new(Set { plain: Plain::Array(entries), groups: OrdMap::new() });
        let mut set = match std::mem::take(self) {
            Self::Empty => with(Vec::new()),
            Self::One(only) => with(vec![only]),
            Self::Many(set) => set,
        };
        let result = edit(Arc::make_mut(&mut set));
        *self = Self::Many(set);
        result
    }

    /// Gives a set's memory back when one plain subscription or nothing is left.
    fn shrink(&mut self) {
        let Self::Many(set) = self else { return };
        if !set.groups.is_empty() {
            return;
        }
        match set.plain.single() {
            Err(()) => {}
            Ok(None) => *self = Self::Empty,
            Ok(Some(only)) => *self = Self::One(only),
        }
    }
}

impl<S: Subscriber> Set<S> {
    pub(super) fn collect(&self, publisher: u64, out: &mut Matches<S>) {
        match &self.plain {
            Plain::Array(entries) => {
                out.begin_set(entries.len());
                entries.iter().filter(|entry| entry.hears(publisher)).for_each(|entry| out.push(entry));
            }
            Plain::Tree(entries) => {
                out.begin_set(entries.len());
                entries.values().filter(|entry| entry.hears(publisher)).for_each(|entry| out.push(entry));
            }
        }
        self.groups.values().for_each(|group| out.push_group(group));
    }
}

impl<S: Subscriber> Plain<S> {
    fn contains(&self, id: u64) -> bool {
        match self {
            Self::Array(entries) => entries.binary_search_by_key(&id, |entry| entry.id).is_ok(),
            Self::Tree(entries) => entries.contains_key(&id),
        }
    }

    fn insert(&mut self, entry: Entry<S>) -> bool {
        match self {
            Self::Array(entries) => match entries.binary_search_by_key(&entry.id, |entry| entry.id) {
                Ok(at) => {
                    entries[at] = entry;
                    false
                }
                Err(at) => {
                    entries.insert(at, entry);
                    if entries.len() > ARRAY_MAX {
                        *self = Self::Tree(entries.drain(..).map(|entry| (entry.id, entry)).collect());
                    }
                    true
                }
            },
            Self::Tree(entries) => entries.insert(entry.id, entry).is_none(),
        }
    }

    fn remove(&mut self, id: u64) -> bool {
        match self {
            Self::Array(entries) => match entries.binary_search_by_key(&id, |entry| entry.id) {
                Ok(at) => {
                    entries.remove(at);
                    true
                }
                Err(_) => false,
            },
            Self::Tree(entries) => {
                let found = entries.remove(&id).is_some();
                // Half the limit, so that one session that comes and goes does not convert back and forth.
                if entries.len() <= ARRAY_MAX / 2 {
                    *self = Self::Array(entries.values().cloned().collect());
                }
                found
            }
        }
    }

    /// The only entry, nothing if empty, or `Err` when there are more.
    fn single(&self) -> Result<Option<Entry<S>>, ()> {
        match self {
            Self::Array(entries) if entries.len() <= 1 => Ok(entries.first().cloned()),
            Self::Array(_) | Self::Tree(_) => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_for_an_arc_takes_24_bytes() {
        assert_eq!(size_of::<Slot<Arc<u64>>>(), 24);
    }
}
