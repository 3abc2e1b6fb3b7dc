//! The answer of a look-up: who gets the message, once per session and once per shared group.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::quality::RandomState;
use signet_wire::QoS;
use smallvec::SmallVec;

use super::Subscriber;
use super::group::SharedGroup;
use super::set::Entry;

/// So many sessions' room is kept between look-ups; what a large fan-out needed beyond is given back.
const KEPT_HITS_MAX: usize = 1024;
/// Up to so many comparisons per session of a set, looking through the earlier hits beats hashing them.
const SCAN_MAX: usize = 16;

/// One session that gets the message: all its plain subscriptions that match, merged to one copy.
///
/// `[MQTT5-3.3.4-2]`: one copy at the maximum QoS of the overlapping subscriptions; `[MQTT5-3.3.4-4]`: with the
/// subscription identifiers of all of them.
#[derive(Clone, Debug)]
pub struct Hit<S> {
    /// Whose session.
    pub subscriber: S,
    /// The highest QoS granted to any matching subscription.
    pub qos: QoS,
    /// Whether any matching subscription asked to keep the RETAIN flag as published.
    pub retain_as_published: bool,
    /// The identifiers of the matching subscriptions that have one, in no particular order.
    pub subscription_ids: SmallVec<[u32; 4]>,
    id: u64,
}

/// A reusable buffer for the result of [`Index::matches`](super::Index::matches).
///
/// It holds handles of subscribers until it is cleared, refilled or dropped.
pub struct Matches<S> {
    plain: Vec<Hit<S>>,
    shared: Vec<Arc<SharedGroup<S>>>,
    /// Hits that earlier sets of this look-up gave: only these can be met again, since a set names a session once.
    earlier: usize,
    /// How a session of the current set is looked up among the earlier hits.
    search: Search,
    places: HashMap<u64, usize, RandomState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    Scan,
    Hash,
}

impl<S> Default for Matches<S> {
    fn default() -> Self {
        Self {
            plain: Vec::new(),
            shared: Vec::new(),
            earlier: 0,
            search: Search::Scan,
            places: HashMap::default(),
        }
    }
}

impl<S> Matches<S> {
    /// An empty buffer; allocates at the first hit.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sessions with at least one matching plain subscription, each once.
    pub fn plain(&self) -> &[Hit<S>] {
        &self.plain
    }

    /// The matching shared groups: each of them gets one copy, whatever the plain hits are.
    pub fn shared(&self) -> &[Arc<SharedGroup<S>>] {
        &self.shared
    }

    /// Takes the plain hits out, leaving the room for the next look-up.
    pub fn drain_plain(&mut self) -> std::vec::Drain<'_, Hit<S>> {
        self.plain.drain(..)
    }

    /// Nobody gets the message: reason code 0x10 for a 5.0 publisher at QoS 1 and 2.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.shared.is_empty()
    }

    /// Lets go of all handles; keeps a bounded part of the memory.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.plain.shrink_to(KEPT_HITS_MAX);
        self.shared.clear();
        self.shared.shrink_to(KEPT_HITS_MAX);
        // Nearly no look-up uses it, and each would look through it.
        if self.places.capacity() > 0 {
            self.places.clear();
            self.places.shrink_to(KEPT_HITS_MAX);
        }
        self.earlier = 0;
        self.search = Search::Scan;
    }
}

impl<S: Subscriber> Matches<S> {
    /// Another set of `len` distinct sessions follows.
    pub(super) fn begin_set(&mut self, len: usize) {
        self.earlier = self.plain.len();
        self.search =
            if self.earlier <= SCAN_MAX || len <= SCAN_MAX / 4 { Search::Scan } else { Search::Hash };
        if self.search == Search::Hash {
            let known = self.places.len();
            self.places.extend(self.plain.iter().enumerate().skip(known).map(|(place, hit)| (hit.id, place)));
        }
    }

    pub(super) fn push(&mut self, entry: &Entry<S>) {
        let options = entry.options();
        let earlier = match self.search {
            Search::Scan => self.plain.iter().take(self.earlier).position(|hit| hit.id == entry.id),
            Search::Hash => self.places.get(&entry.id).copied(),
        };
        if let Some(hit) = earlier.and_then(|place| self.plain.get_mut(place)) {
            hit.qos = hit.qos.max(options.qos);
            hit.retain_as_published |= options.retain_as_published;
            hit.subscription_ids.extend(options.subscription_id);
            return;
        }
        self.plain.push(Hit {
            subscriber: entry.subscriber.clone(),
            qos: options.qos,
            retain_as_published: options.retain_as_published,
            subscription_ids: options.subscription_id.into_iter().collect(),
            id: entry.id,
        });
    }

    pub(super) fn push_group(&mut self, group: &Arc<SharedGroup<S>>) {
        self.shared.push(Arc::clone(group));
    }
}

impl<S> fmt::Debug for Matches<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matches")
            .field("plain", &self.plain.len())
            .field("shared", &self.shared.len())
            .finish()
    }
}
