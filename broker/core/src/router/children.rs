//! The literal branches below a node of the trie: none, a few in an array, or many in a sharded map.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use foldhash::quality::RandomState;
use smol_str::SmolStr;

use super::Subscriber;
use super::matches::Matches;
use super::trie::{Ends, Links, Node, Visit};

/// Up to so many children a node is copied as a whole when one of them changes.
const FEW_MAX: usize = 16;
/// A wide map begins with so many shards ...
const SHARDS_MIN: usize = 4;
/// ... and gets this times more ...
const SHARDS_GROWTH: usize = 16;
/// ... until it has so many. A shard takes 128 bytes.
const SHARDS_MAX: usize = 1024;
/// Children per shard above which a map with more shards is built. A shard that grows moves its children while readers
/// of that shard wait: this keeps it to some ten microseconds up to half a million children, and to some hundred for ten
/// million.
const SHARD_LEN_MAX: usize = 512;

#[derive(Default)]
pub(super) enum Children<S> {
    #[default]
    Empty,
    /// In no particular order, looked through.
    Few(Vec<(SmolStr, Arc<Node<S>>)>),
    /// Shared by all copies of the node, and edited in place.
    Wide(Arc<Wide<S>>),
}

pub(super) struct Wide<S> {
    shards: usize,
    map: DashMap<SmolStr, Child<S>, RandomState>,
    /// Written by the trie's one writer; counting the map's shards would lock each.
    len: AtomicUsize,
}

/// A child with nothing below, which in a fleet is nearly every one, lies in the map itself: a look-up waits for memory
/// less often.
enum Child<S> {
    Leaf(Ends<S>),
    Node(Arc<Node<S>>),
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

impl<S: Clone> Clone for Child<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(ends) => Self::Leaf(ends.clone()),
            Self::Node(node) => Self::Node(Arc::clone(node)),
        }
    }
}

impl<S> Children<S> {
    /// Hands the children over to somebody who drops them without recursion.
    pub(super) fn give_up(self, nodes: &mut Vec<Arc<Node<S>>>) {
        match self {
            Self::Empty => {}
            Self::Few(few) => nodes.extend(few.into_iter().map(|(_, child)| child)),
            Self::Wide(wide) => {
                if let Some(wide) = Arc::into_inner(wide) {
                    nodes.extend(wide.map.into_iter().filter_map(|(_, child)| match child {
                        Child::Leaf(_) => None,
                        Child::Node(node) => Some(node),
                    }));
                }
            }
        }
    }
}

impl<S: Clone> Children<S> {
    pub(super) fn get(&self, level: &str) -> Option<Arc<Node<S>>> {
        match self {
            Self::Empty => None,
            Self::Few(few) => {
                few.iter().find(|(label, _)| label == level).map(|(_, child)| Arc::clone(child))
            }
            Self::Wide(wide) => wide.map.get(level).map(|child| child.clone().into_node()),
        }
    }

    /// Sets or removes a child. A wide map is edited for all who share it.
    pub(super) fn set(&mut self, level: &str, child: Option<Node<S>>) {
        match self {
            Self::Empty => {
                if let Some(child) = child {
                    *self = Self::Few(vec![(level.into(), Arc::new(child))]);
                }
            }
            Self::Few(few) => {
                match (few.iter_mut().position(|(label, _)| label == level), child) {
                    (Some(at), Some(child)) => few[at].1 = Arc::new(child),
                    (Some(at), None) => drop(few.swap_remove(at)),
                    (None, Some(child)) => few.push((level.into(), Arc::new(child))),
                    (None, None) => {}
                }
                if few.is_empty() {
                    *self = Self::Empty;
                } else if few.len() > FEW_MAX {
                    let children =
                        few.iter().map(|(label, child)| (label.clone(), Child::new((**child).clone())));
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
}

impl<S: Subscriber> Children<S> {
    /// Goes down to a child with a topic of which `rest` is left there. A child with nothing below adds its subscribers
    /// to `out` at once.
    pub(super) fn enter(
        &self,
        level: &str,
        rest: Option<&str>,
        publisher: u64,
        out: &mut Matches<S>,
    ) -> Option<Visit<'_, S>> {
        match self {
            Self::Empty => None,
            Self::Few(few) => {
                few.iter().find(|(label, _)| label == level).map(|(_, child)| Visit::Borrowed(child))
            }
            Self::Wide(wide) => wide.enter(level, rest, publisher, out).map(Visit::Owned),
        }
    }
}

impl<S: Clone> Wide<S> {
    fn new(shards: usize, children: impl Iterator<Item = (SmolStr, Child<S>)>) -> Self {
        let map = DashMap::with_hasher_and_shard_amount(RandomState::default(), shards);
        for (label, child) in children {
            map.insert(label, child);
        }
        let len = AtomicUsize::new(map.len());
        Self { shards, map, len }
    }

    /// Sets or removes a child in place; gives the children in another form when this one no longer fits them.
    pub(super) fn set(&self, level: &str, child: Option<Node<S>>) -> Option<Children<S>> {
        // What is replaced is dropped when its shard is free again.
        let (replaced, len) = match child {
            Some(child) => {
                let replaced = self.replace(level, Child::new(child));
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
            let few = self.map.iter().map(|entry| (entry.key().clone(), entry.value().clone().into_node()));
            Some(Children::Few(few.collect()))
        } else if len > self.shards * SHARD_LEN_MAX && self.shards < SHARDS_MAX {
            let children = self.map.iter().map(|entry| (entry.key().clone(), entry.value().clone()));
            Some(Children::Wide(Arc::new(Self::new(self.shards * SHARDS_GROWTH, children))))
        } else {
            None
        }
    }

    fn replace(&self, level: &str, child: Child<S>) -> Option<Child<S>> {
        if let Some(mut present) = self.map.get_mut(level) {
            return Some(std::mem::replace(&mut *present, child));
        }
        self.map.insert(level.into(), child)
    }
}

impl<S: Subscriber> Wide<S> {
    fn enter(
        &self,
        level: &str,
        rest: Option<&str>,
        publisher: u64,
        out: &mut Matches<S>,
    ) -> Option<Arc<Node<S>>> {
        let large = match &*self.map.get(level)? {
            Child::Node(node) => return Some(Arc::clone(node)),
            Child::Leaf(ends) => {
                let rest = ends.behind_run(rest)?;
                ends.collect(rest, publisher, out).map(Option::<&Arc<_>>::cloned)
            }
        };
        // The shard is free again.
        large.iter().flatten().for_each(|set| set.collect(publisher, out));
        None
    }
}

impl<S: Clone> Child<S> {
    fn new(node: Node<S>) -> Self {
        if node.is_leaf() { Self::Leaf(node.ends) } else { Self::Node(Arc::new(node)) }
    }

    fn into_node(self) -> Arc<Node<S>> {
        match self {
            Self::Leaf(ends) => Arc::new(Node { ends, links: Links::default() }),
            Self::Node(node) => node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_below_a_wide_node_takes_96_bytes_in_the_map() {
        assert_eq!(size_of::<(SmolStr, Child<Arc<u64>>)>(), 96);
    }
}
