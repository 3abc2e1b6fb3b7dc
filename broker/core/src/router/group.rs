//! Shared subscriptions: each message goes to one member of the group.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use signet_wire::SubscriptionFilter;

use super::set::Entry;
use super::{SubOptions, Subscriber};

/// The members of `$share/NAME/FILTER` (`[MQTT5-4.8.2-3]`, `[MQTT5-4.8.2-4]`).
///
/// The same name with another filter is another group. Members take turns; a member joins behind those who are there.
pub struct SharedGroup<S> {
    name: Arc<str>,
    filter: SubscriptionFilter,
    turn: AtomicUsize,
    members: RwLock<Members<S>>,
}

struct Members<S> {
    order: Vec<Entry<S>>,
    /// Session id to its place in `order`.
    places: HashMap<u64, usize, RandomState>,
}

impl<S> SharedGroup<S> {
    pub(super) fn new(name: Arc<str>, filter: SubscriptionFilter) -> Self {
        Self {
            name,
            filter,
            turn: AtomicUsize::new(0),
            members: RwLock::new(Members { order: Vec::new(), places: HashMap::default() }),
        }
    }

    /// The share name, without `$share/` and the filter.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the group subscribes to, with its name.
    pub fn filter(&self) -> &SubscriptionFilter {
        &self.filter
    }

    /// How many sessions are members, connected or not.
    pub fn len(&self) -> usize {
        self.members.read().order.len()
    }

    /// True once the last member has left; such a group is no longer in the index.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Subscriber> SharedGroup<S> {
    /// The member whose turn it is and the options of its subscription, passing over those that `usable` refuses;
    /// `None` if it refuses all. Among the usable members the turns are strictly in order.
    ///
    /// `usable` is asked at most once per member, and must not subscribe or unsubscribe: the group is locked for
    /// reading meanwhile.
    pub fn pick(&self, usable: impl Fn(&S) -> bool) -> Option<(S, SubOptions)> {
        let members = self.members.read();
        let count = members.order.len();
        if count == 0 {
            return None;
        }
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        let (ahead, behind) = members.order.split_at(start);
        let (passed, entry) =
            behind.iter().chain(ahead).enumerate().find(|(_, entry)| usable(&entry.subscriber))?;
        if passed > 0 {
            // Otherwise the one behind an unusable member would get that member's share on top of its own.
            self.turn.fetch_add(passed, Ordering::Relaxed);
        }
        Some((entry.subscriber.clone(), entry.options()))
    }

    /// Whether any member is as asked for. As with [`Self::pick`], `wanted` must not subscribe or unsubscribe.
    pub fn any(&self, mut wanted: impl FnMut(&S) -> bool) -> bool {
        self.members.read().order.iter().any(|entry| wanted(&entry.subscriber))
    }

    pub(super) fn join(&self, entry: Entry<S>) -> bool {
        let Members { order, places } = &mut *self.members.write();
        match places.get(&entry.id).and_then(|place| order.get_mut(*place)) {
            Some(present) => {
                *present = entry;
                false
            }
            None => {
                places.insert(entry.id, order.len());
                order.push(entry);
                true
            }
        }
    }

    pub(super) fn leave(&self, id: u64) -> bool {
        let Members { order, places } = &mut *self.members.write();
        let Some(place) = places.remove(&id) else { return false };
        order.swap_remove(place);
        if let Some(moved) = order.get(place) {
            places.insert(moved.id, place);
        }
        true
    }
}

impl<S> fmt::Debug for SharedGroup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedGroup").field("name", &self.name).field("members", &self.len()).finish()
    }
}
