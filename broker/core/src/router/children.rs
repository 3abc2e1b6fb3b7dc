//! The literal branches below a node of the trie: none, a few in an array, or many in a sharded map.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smol_str::SmolStr;

use super::Subscriber;
use super::matches::Matches;
use super::set::Set;
use super::table::{Place, Table};
use super::trie::{Ends, Links, Node, Visit};

/// Up to so many children a node is copied as a whole when one of them changes.
const FEW_MAX: usize = 16;
/// A wide map begins with so many shards ...
const SHARDS_MIN: usize = 4;
/// ... and gets this times more ...
const SHARDS_GROWTH: usize = 16;
/// ... until it has so many. A shard takes 64 bytes.
const SHARDS_MAX: usize = 1024;
/// Children per shard above which a map with more shards is built. A shard that grows moves its children while readers
/// of that shard wait: this keeps it to some ten microseconds up to half a million children, and to some hundred for ten
/// million.
const SHARD_LEN_MAX: usize = 512;
/// A map whose children would fill one in so many places of a map with fewer shards gives its shards back. One that shrinks and
/// grows again about a bound is not built anew each time.
const SHRINKS_BELOW: usize = 4;

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
    map: Table<Branch<S>>,
    /// Written by the trie's one writer; counting the map's shards would lock each.
    len: AtomicUsize,
}

/// A child of a wide node. It takes 96 bytes: so aligned each lies in two cache lines, and none in three.
#[repr(align(32))]
struct Branch<S> {
    level: SmolStr,
    child: Child<S>,
}

impl<S> Place for Branch<S> {
    fn key(&self) -> &[u8] {
        self.level.as_bytes()
    }
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
                    nodes.extend(wide.map.into_places().filter_map(|branch| match branch.child {
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
            Self::Wide(wide) => {
                wide.map.read(level.as_bytes(), |branch| branch.child.clone()).map(Child::into_node)
            }
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
        let (map, mut len) = (Table::new(shards), 0);
        for (level, child) in children {
            len += usize::from(map.file(Branch { level, child }).is_none());
        }
        Self { shards, map, len: AtomicUsize::new(len) }
    }

    /// Sets or removes a child in place; gives the children in another form when this one no longer fits them.
    pub(super) fn set(&self, level: &str, child: Option<Node<S>>) -> Option<Children<S>> {
        // What is replaced is dropped when its shard is free again.
        let (replaced, len) = match child {
            Some(child) => {
                let replaced = self.map.file(Branch { level: level.into(), child: Child::new(child) });
                let new = usize::from(replaced.is_none());
                (replaced, self.len.fetch_add(new, Ordering::Relaxed) + new)
            }
            None => {
                let removed = self.map.remove(level.as_bytes());
                let gone = usize::from(removed.is_some());
                (removed, self.len.fetch_sub(gone, Ordering::Relaxed) - gone)
            }
        };
        drop(replaced);
        if len <= FEW_MAX / 2 {
            let few = self.all().into_iter().map(|(level, child)| (level, child.into_node()));
            return Some(Children::Few(few.collect()));
        }
        let shards = shards_for(len, self.shards);
        (shards != self.shards).then(|| Children::Wide(Arc::new(Self::new(shards, self.all().into_iter()))))
    }

    fn all(&self) -> Vec<(SmolStr, Child<S>)> {
        let mut all = Vec::with_capacity(self.len.load(Ordering::Relaxed));
        self.map.for_each(|branch| all.push((branch.level.clone(), branch.child.clone())));
        all
    }
}

/// How many shards a map of `shards` that has so many children now is to have.
fn shards_for(children: usize, shards: usize) -> usize {
    let fewer = shards / SHARDS_GROWTH;
    if children > shards * SHARD_LEN_MAX && shards < SHARDS_MAX {
        shards * SHARDS_GROWTH
    } else if fewer >= SHARDS_MIN && children * SHRINKS_BELOW < fewer * SHARD_LEN_MAX {
        fewer
    } else {
        shards
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
        let below = self.map.read(level.as_bytes(), |branch| match &branch.child {
            Child::Node(node) => Below::Node(Arc::clone(node)),
            Child::Leaf(ends) => Below::Ends(match ends.behind_run(rest) {
                Some(rest) => ends.collect(rest, publisher, out).map(Option::<&Arc<_>>::cloned),
                None => [None, None],
            }),
        });
        // The shard is free again.
        match below? {
            Below::Node(node) => Some(node),
            Below::Ends(large) => {
                large.iter().flatten().for_each(|set| set.collect(publisher, out));
                None
            }
        }
    }
}

/// What a look-up goes on with behind a wide node.
enum Below<S> {
    Node(Arc<Node<S>>),
    /// The large sets of a child with nothing below.
    Ends([Option<Arc<Set<S>>>; 2]),
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

    fn shards(children: &Children<Arc<u64>>) -> usize {
        match children {
            Children::Empty | Children::Few(_) => 0,
            Children::Wide(wide) => wide.shards,
        }
    }

    #[test]
    fn a_map_that_has_shrunk_gives_its_shards_back_and_is_not_built_anew_each_time_about_a_bound() {
        let mut children: Children<Arc<u64>> = Children::default();
        let node = || Some(Node::default());
        let label = |n: usize| format!("device-{n}");
        let grown = SHARDS_MIN * SHARD_LEN_MAX + 1;
        (0..grown).for_each(|n| children.set(&label(n), node()));
        assert_eq!(shards(&children), SHARDS_MIN * SHARDS_GROWTH);
        let shrunk = SHARDS_MIN * SHARD_LEN_MAX / SHRINKS_BELOW;
        (shrunk..grown).for_each(|n| children.set(&label(n), None));
        assert_eq!(shards(&children), SHARDS_MIN * SHARDS_GROWTH);
        children.set(&label(0), None);
        assert_eq!(shards(&children), SHARDS_MIN);
        assert!((1..shrunk).all(|n| children.get(&label(n)).is_some()), "they are all there");
        assert!(children.get(&label(0)).is_none() && children.get(&label(shrunk)).is_none());
        (0..grown - 1).for_each(|n| children.set(&label(n), node()));
        assert_eq!(shards(&children), SHARDS_MIN, "it has four times as many now, and still does not grow");
        (9..grown).for_each(|n| children.set(&label(n), None));
        assert_eq!(shards(&children), SHARDS_MIN);
        children.set(&label(8), None);
        assert_eq!(shards(&children), 0, "few are looked through");
    }

    #[test]
    fn shards_are_between_the_least_and_the_most() {
        assert_eq!(shards_for(usize::MAX / SHRINKS_BELOW, SHARDS_MAX), SHARDS_MAX);
        assert_eq!(shards_for(FEW_MAX, SHARDS_MIN), SHARDS_MIN);
        let (middle, bound) = (SHARDS_MIN * SHARDS_GROWTH, SHARDS_MIN * SHARDS_GROWTH * SHARD_LEN_MAX);
        assert_eq!((shards_for(bound, middle), shards_for(bound + 1, middle)), (middle, SHARDS_MAX));
        let below = bound / SHRINKS_BELOW;
        assert_eq!((shards_for(below, SHARDS_MAX), shards_for(below - 1, SHARDS_MAX)), (SHARDS_MAX, middle));
    }

    #[test]
    fn a_device_below_a_wide_node_takes_96_bytes_in_the_map() {
        assert_eq!(size_of::<Option<Branch<Arc<u64>>>>(), 96);
    }
}
