//! The cache of verified chains: what has been verified once under the same trust anchors need not be again
//! while its certificates are valid.
//!
//! It is sound because path validation is a pure function of the bytes presented, the anchors and rules, and
//! the time: an entry is found by the hash of *all* bytes presented, bound to the hash of the anchors and
//! rules, and used only inside the common validity of the path. Only successes are kept. Neither revocation
//! nor the proof that the client has the key is ever cached.
//!
//! There is one entry per leaf, so that a device that sends its chain with ever other certificates behind it
//! replaces its own entry and no other's.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use signet_identity::ThingName;

use super::crl::PathId;
use super::issuers::Issuers;

/// How many locks the entries are spread over.
const SHARDS: usize = 16;

/// A chain that was verified: what was presented, under which trust, and what the path is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VerifiedPath {
    /// SHA-256 of the leaf.
    pub(super) leaf: [u8; 32],
    /// SHA-256 over everything presented.
    pub(super) chain: [u8; 32],
    /// [`Trust::anchors_hash`](super::Trust::anchors_hash) at the time.
    pub(super) anchors: [u8; 32],
    /// The common validity of the path, anchor included, in Unix seconds, both ends included.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// The last second of the authorities' common validity.
    pub(super) authorities_until: i64,
    /// The last second at which the path is judged good, which the rules may put behind `not_after`.
    pub(super) usable_until: i64,
    /// The anchor in which the path ends, named by hash.
    pub(super) anchor: [u8; 32],
    /// Whether the leaf has an extended key usage.
    pub(super) has_eku: bool,
    /// Whether the leaf is of X.509 version 1.
    pub(super) version_one: bool,
    /// Leaf and intermediates of the path, leaf first.
    pub(super) ids: Box<[PathId]>,
    /// The leaf's one common name, when there is a rule that admits it.
    pub(super) common_name: Option<ThingName>,
}

impl VerifiedPath {
    /// Until when the path is good under rules with `grace` seconds for the leaf.
    pub(super) fn until(&self, grace: i64) -> i64 {
        if self.not_after >= self.authorities_until || self.version_one {
            return self.not_after;
        }
        self.not_after.saturating_add(grace).min(self.authorities_until)
    }
}

#[derive(Default)]
struct Shard {
    entries: HashMap<[u8; 32], (Arc<VerifiedPath>, bool)>,
    /// Leaves in the order in which they are looked at for eviction.
    order: VecDeque<[u8; 32]>,
}

/// A bounded cache of verified chains; see the module's text for why it is sound.
pub struct ChainCache {
    shards: [Mutex<Shard>; SHARDS],
    /// Issuers of leaves that have been verified, for the leaves that have not.
    pub(super) issuers: Issuers,
    entries_per_shard_max: usize,
}

impl ChainCache {
    /// Entries kept by [`ChainCache::default`]; about 300 bytes each.
    pub const ENTRIES_MAX: usize = 65_536;

    /// A cache of at most about `entries_max` chains, one per leaf; 0 switches it off, and the memory of
    /// issuers with it.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self {
            shards: Default::default(),
            issuers: Issuers::new(if entries_max == 0 { 0 } else { Issuers::ENTRIES_MAX }),
            entries_per_shard_max: entries_max.div_ceil(SHARDS),
        }
    }

    /// How many chains are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries.len()).sum()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, leaf: &[u8; 32]) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(leaf[0]) % SHARDS)
    }

    pub(super) fn get(
        &self,
        leaf: &[u8; 32],
        chain: &[u8; 32],
        anchors: &[u8; 32],
        now: i64,
    ) -> Option<Arc<VerifiedPath>> {
        let mut shard = self.shard(leaf)?.lock();
        let (path, used) = shard.entries.get_mut(leaf)?;
        let fits = path.chain == *chain
            && path.anchors == *anchors
            && (path.not_before..=path.usable_until).contains(&now);
        *used |= fits;
        fits.then(|| Arc::clone(path))
    }

    pub(super) fn insert(&self, path: &Arc<VerifiedPath>) {
        let Some(shard) = self.shard(&path.leaf) else { return };
        if self.entries_per_shard_max == 0 {
            return;
        }
        let shard = &mut *shard.lock();
        if let Some(entry) = shard.entries.get_mut(&path.leaf) {
            *entry = (Arc::clone(path), true);
            return;
        }
        // Second chance: what was used since it was last looked at goes to the back once more. The marks are
        // cleared on the way, so this ends after one round at the latest.
        while shard.entries.len() >= self.entries_per_shard_max
            && let Some(oldest) = shard.order.pop_front()
        {
            match shard.entries.get_mut(&oldest) {
                Some((_, used)) if *used => {
                    *used = false;
                    shard.order.push_back(oldest);
                }
                _ => {
                    shard.entries.remove(&oldest);
                }
            }
        }
        shard.entries.insert(path.leaf, (Arc::clone(path), false));
        shard.order.push_back(path.leaf);
    }
}

impl Default for ChainCache {
    fn default() -> Self {
        Self::new(Self::ENTRIES_MAX)
    }
}

impl std::fmt::Debug for ChainCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainCache").field("entries", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(leaf: u16, chain: u8) -> Arc<VerifiedPath> {
        let mut hash = [0; 32];
        // One shard for all, so that the bound of a shard is what is tested.
        hash[1..3].copy_from_slice(&leaf.to_be_bytes());
        Arc::new(VerifiedPath {
            leaf: hash,
            chain: [chain; 32],
            anchors: [7; 32],
            not_before: 100,
            not_after: 200,
            authorities_until: 200,
            usable_until: 200,
            anchor: [0; 32],
            has_eku: true,
            version_one: false,
            ids: Box::new([]),
            common_name: None,
        })
    }

    fn hit(cache: &ChainCache, path: &VerifiedPath, now: i64) -> bool {
        cache.get(&path.leaf, &path.chain, &path.anchors, now).is_some()
    }

    #[test]
    fn an_entry_is_found_inside_its_window_only() {
        let cache = ChainCache::new(16);
        let path = path(1, 1);
        cache.insert(&path);
        let hits: Vec<_> = [99, 100, 200, 201].map(|now| hit(&cache, &path, now)).into();
        assert_eq!(hits, [false, true, true, false]);
    }

    #[test]
    fn another_chain_or_other_anchors_find_nothing() {
        let cache = ChainCache::new(16);
        let known = path(1, 1);
        cache.insert(&known);
        assert!(!hit(&cache, &path(1, 2), 150));
        assert!(cache.get(&known.leaf, &known.chain, &[8; 32], 150).is_none());
    }

    #[test]
    fn a_leaf_with_ever_other_chains_takes_one_entry() {
        let cache = ChainCache::new(160);
        let neighbour = path(2, 0);
        cache.insert(&neighbour);
        for chain in 0..=255 {
            cache.insert(&path(1, chain));
        }
        assert_eq!(cache.len(), 2);
        assert!(hit(&cache, &neighbour, 150) && hit(&cache, &path(1, 255), 150));
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let cache = ChainCache::new(10 * SHARDS);
        let favourite = path(9_999, 0);
        cache.insert(&favourite);
        for leaf in 0..1_000 {
            assert!(hit(&cache, &favourite, 150), "evicted before leaf {leaf}");
            cache.insert(&path(leaf, 0));
            assert!(cache.len() <= 10);
        }
    }

    #[test]
    fn a_cache_of_none_keeps_nothing() {
        let cache = ChainCache::new(0);
        cache.insert(&path(1, 1));
        assert!(cache.is_empty());
    }
}
