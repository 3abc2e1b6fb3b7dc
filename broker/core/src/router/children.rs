//! The literal branches below a node of the trie: none, a few in an array, or many in a sharded map.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use foldhash::quality::RandomState;

use super::trie::{Node, Visit};

/// Up to so many children a node is copied as a whole when one of them changes.
const FEW_MAX: usize = 16;
/// A wide map begins with so many shards ...
const SHARDS_MIN: usize = 4;
/// ... and gets this times more ...
const SHARDS_GROWTH: usize = 16;
/// ... until it has so many. A shard takes 128 bytes.
const SHARDS_MAX: usize = 1024;
/// Children per shard above which a map with more shards is built. A shard that grows moves its children while readers
/// of that shard wait: this keeps it to some ten microseconds.
const SHARD_LEN_MAX: usize = 512;

pub(super) enum Children<S> {
    Empty,
    /// In no particular order, looked through: lengths first.
    Few(Vec<(Arc<str>, Arc<Node<S>>)>),
    /// Shared by all copies of the node, and edited in place.
    Wide(Arc<Wide<S>>),
}

pub(super) struct Wide<S> {
    shards: usize,
    map: DashMap<Box<str>, Arc<Node<S>>, RandomState>,
    /// Written by the trie's one writer; counting the map's shards would lock each.
    len: AtomicUsize,
}

impl<S> Default for Children<S> {
    fn default() -> Self {
        Self::Empty
    }
}

impl<S> Clone for Children<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Few(few) => Self::Few(few.clone()),
            Self::Wide(wide) => Self::Wide(Arc::clone(wide)),
        }
    }
}

impl<S> Children<S> {
    pub(super) fn get(&self, level: &str) -> Option<Arc<Node<S>>> {
        match self {
            Self::Empty => None,
            Self::Few(few) => {
                few.iter().find(|(label, _)| **label == *level).map(|(_, child)| Arc::clone(child))
            }
            Self::Wide(wide) => wide.get(level),
        }
    }

    /// Like [`Self::get`], without a reference count where that is possible.
    pub(super) fn visit(&self, level: &str) -> Option<Visit<'_, S>> {
        match self {
            Self::Empty => None,
            Self::Few(few) => {
                few.iter().find(|(label, _)| **label == *level).map(|(_, child)| Visit::Borrowed(&**child))
            }
            Self::Wide(wide) => wide.get(level).map(Visit::Owned),
        }
    }

    /// Sets or removes a child. A wide map is edited for all who share it.
    pub(super) fn set(&mut self, level: &str, child: Option<Arc<Node<S>>>) {
        match self {
            Self::Empty => {
                if let Some(child) = child {
                    *self = Self::Few(vec![(level.into(), child)]);
                }
            }
            Self::Few(few) => {
                match (few.iter().position(|(label, _)| **label == *level), child) {
                    (Some(at), Some(child)) => few[at].1 = child,
                    (Some(at), None) => drop(few.swap_remove(at)),
                    (None, Some(child)) => few.push((level.into(), child)),
                    (None, None) => {}
                }
                if few.is_empty() {
                    *self = Self::Empty;
                } else if few.len() > FEW_MAX {
                    let children = few.iter().map(|(label, child)| (Box::from(&**label), Arc::clone(child)));
                    *self = Self::Wide(Arc::new(Wide::new(SHARDS_MIN, children)));
                }
            }
            Self::Wide(wide) => {
                if let Some(children) = wide.set(level, child) {
                    *self = children;
                }
            }
        }
    }

    /// Hands the children over to somebody who drops them without recursion.
    pub(super) fn give_up(self, nodes: &mut Vec<Arc<Node<S>>>) {
        match self {
            Self::Empty => {}
            Self::Few(few) => nodes.extend(few.into_iter().map(|(_, child)| child)),
            Self::Wide(wide) => {
                if let Some(wide) = Arc::into_inner(wide) {
                    nodes.extend(wide.map.into_iter().map(|(_, child)| child));
                }
            }
        }
    }
}

impl<S> Wide<S> {
    fn new(shards: usize, children: impl Iterator<Item = (Box<str>, Arc<Node<S>>)>) -> Self {
        let map = DashMap::with_hasher_and_shard_amount(RandomState::default(), shards);
        for (label, child) in children {
            map.insert(label, child);
        }
        let len = AtomicUsize::new(map.len());
        Self { shards, map, len }
    }

    fn get(&self, level: &str) -> Option<Arc<Node<S>>> {
        self.map.get(level).map(|child| Arc::clone(&child))
    }

    /// Sets or removes a child in place; gives the children in another form when this one no longer fits them.
    pub(super) fn set(&self, level: &str, child: Option<Arc<Node<S>>>) -> Option<Children<S>> {
        // What is replaced is dropped behind the lock of its shard.
        let (replaced, len) = match child {
            Some(child) => {
                let replaced = self.replace(level, child);
                let new = usize::from(replaced.is_none());
                (replaced, self.len.fetch_add(new, Ordering::Relaxed) + new)
            }
            None => {
                let removed = self.map.remove(level).map(|(_, child)| child);
                let gone = usize::from(removed.is_some());
                (removed, self.len.fetch_sub(gone, Ordering::Relaxed) - gone)
            }
        };
        drop(replaced);
        if len <= FEW_MAX / 2 {
            let few = self.map.iter().map(|entry| (Arc::from(&**entry.key()), Arc::clone(entry.value())));
            Some(Children::Few(few.collect()))
        } else if len > self.shards * SHARD_LEN_MAX && self.shards < SHARDS_MAX {
            let children = self.map.iter().map(|entry| (entry.key().clone(), Arc::clone(entry.value())));
            Some(Children::Wide(Arc::new(Self::new(self.shards * SHARDS_GROWTH, children))))
        } else {
            None
        }
    }

    fn replace(&self, level: &str, child: Arc<Node<S>>) -> Option<Arc<Node<S>>> {
        if let Some(mut present) = self.map.get_mut(level) {
            return Some(std::mem::replace(&mut *present, child));
        }
        self.map.insert(level.into(), child)
    }
}
