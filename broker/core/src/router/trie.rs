//! The trie of filters with a wildcard.
//!
//! Nodes never change. A writer copies the path to what it edits and publishes a new root; readers load the root once
//! and walk without waiting for anybody. Runs of literal levels without a branch lie in one node ([`Node::run`]), so
//! that `devices/ID/commands/#` takes one node per device and not three.
//!
//! The exception is a node with many children, such as the one behind `devices/`: copying it for every new device
//! would cost more the larger the fleet. its children lie in a wide map, sharded behind short locks and edited in
//! place, and the walk below it holds its own references.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::Subscriber;
use super::children::Children;
use super::matches::Matches;
use super::set::{Set, Slot};

pub(super) struct Trie<S> {
    root: ArcSwap<Node<S>>,
    /// One writer at a time. Matching never takes it.
    writer: Mutex<()>,
}

pub(super) struct Node<S> {
    pub(super) ends: Ends<S>,
    pub(super) links: Links<S>,
}

/// What ends at a node. A node with nothing below is nothing but this.
pub(super) struct Ends<S> {
    /// Literal levels, joined by '/', that follow the level that leads here before anything else of this node counts.
    /// `Some("")` is one empty level. Always `None` in the root.
    run: Option<SmolStr>,
    /// Subscriptions to the filter that ends here.
    here: Slot<S>,
    /// Subscriptions to the filter that ends with '#' below here; it matches here as well `[MQTT5-4.7.1-2]`.
    hash: Slot<S>,
}

/// What lies below a node: the branch of '+', and the branches of the literal levels.
pub(super) struct Links<S> {
    plus: Option<Arc<Node<S>>>,
    children: Children<S>,
}

/// Which slot of a node a filter ends in.
#[derive(Clone, Copy)]
enum End {
    Here,
    Hash,
}

/// How the walk to a filter's node leaves a node.
enum Step<'f> {
    Plus,
    Level(&'f str),
}

/// The way to a filter's slot, from the root down.
struct Path<'f, S> {
    above: Vec<(Arc<Node<S>>, Step<'f>)>,
    node: Arc<Node<S>>,
    end: End,
}

/// A node on a reader's way: borrowed from the root that it loaded, or owned below a wide node.
/// Borrowing keeps threads from contending for the reference counts of the topmost nodes.
pub(super) enum Visit<'r, S> {
    Borrowed(&'r Arc<Node<S>>),
    Owned(Arc<Node<S>>),
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self { ends: Ends::default(), links: Links::default() }
    }
}

impl<S: Clone> Clone for Node<S> {
    fn clone(&self) -> Self {
        Self { ends: self.ends.clone(), links: self.links.clone() }
    }
}

impl<S> Default for Ends<S> {
    fn default() -> Self {
        Self { run: None, here: Slot::Empty, hash: Slot::Empty }
    }
}

impl<S: Clone> Clone for Ends<S> {
    fn clone(&self) -> Self {
        Self { run: self.run.clone(), here: self.here.clone(), hash: self.hash.clone() }
    }
}

impl<S> Default for Links<S> {
    fn default() -> Self {
        Self { plus: None, children: Children::Empty }
    }
}

impl<S> Clone for Links<S> {
    fn clone(&self) -> Self {
        Self { plus: self.plus.clone(), children: self.children.clone() }
    }
}

/// The compiler's drop would recurse once per level, and a filter may have 32 768 of them.
impl<S> Drop for Links<S> {
    fn drop(&mut self) {
        let mut doomed: Vec<Arc<Node<S>>> = Vec::new();
        self.give_up(&mut doomed);
        while let Some(node) = doomed.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                node.links.give_up(&mut doomed);
            }
        }
    }
}

impl<S> Links<S> {
    fn give_up(&mut self, nodes: &mut Vec<Arc<Node<S>>>) {
        nodes.extend(self.plus.take());
        std::mem::take(&mut self.children).give_up(nodes);
    }
}

impl<S: Subscriber> Trie<S> {
    pub(super) fn new() -> Self {
        Self { root: ArcSwap::from_pointee(Node::default()), writer: Mutex::new(()) }
    }

    /// Adds everybody whose filter matches `topic` to `out`.
    ///
    /// Each visited node lies on the way of at least one stored filter that agrees with the topic so far, and at most
    /// two nodes are entered per node and level: at most `min(2^(levels + 1), nodes stored)` visits.
    pub(super) fn collect(&self, topic: &str, publisher: u64, out: &mut Matches<S>) {
        let root = self.root.load();
        let mut waiting: SmallVec<[(Visit<'_, S>, Option<&str>); 16]> = SmallVec::new();
        if topic.starts_with('$') {
            // [MQTT5-4.7.2-1]: neither '#' nor '+' matches a first level that begins with '$'.
            let (level, rest) = first_level(topic);
            if let Some(child) = root.links.children.enter(level, rest, publisher, out) {
                waiting.push((child, rest));
            }
        } else {
            waiting.push((Visit::Borrowed(&root), Some(topic)));
        }
        while let Some((visit, rest)) = waiting.pop() {
            let node = visit.node();
            let Some(rest) = node.ends.behind_run(rest) else { continue };
            for set in node.ends.collect(rest, publisher, out).into_iter().flatten() {
                set.collect(publisher, out);
            }
            let Some(rest) = rest else { continue };
            let (level, rest) = first_level(rest);
            let (plus, child) = match &visit {
                Visit::Borrowed(node) => {
                    let Links { plus, children } = &node.links;
                    (plus.as_ref().map(Visit::Borrowed), children.enter(level, rest, publisher, out))
                }
                Visit::Owned(node) => {
                    let Links { plus, children } = &node.links;
                    let child = children.enter(level, rest, publisher, out).map(Visit::into_owned);
                    (plus.clone().map(Visit::Owned), child.map(Visit::Owned))
                }
            };
            if let Some(plus) = plus {
                waiting.push((plus, rest));
            }
            if let Some(child) = child {
                waiting.push((child, rest));
            }
        }
    }

    /// Edits the slot of `filter`, which is made if there is none, and publishes the result.
    pub(super) fn insert(&self, filter: &str, edit: impl FnOnce(&mut Slot<S>) -> bool) -> bool {
        let _writer = self.writer.lock();
        let path = self.grow_to(filter);
        let mut node = (*path.node).clone();
        let result = edit(node.slot_mut(path.end));
        self.publish(path.above, node);
        result
    }

    /// Edits the slot of `filter` if there is one. When `edit` says false it has not changed anything.
    pub(super) fn remove(&self, filter: &str, edit: impl FnOnce(&mut Slot<S>) -> bool) -> bool {
        let _writer = self.writer.lock();
        let Some(path) = self.find(filter) else { return false };
        let mut node = (*path.node).clone();
        let result = edit(node.slot_mut(path.end));
        if result {
            self.publish(path.above, node);
        }
        result
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let root = self.root.load();
        root.ends.hash.is_empty() && root.is_leaf()
    }

    /// A copy of what `filter` has now.
    pub(super) fn get(&self, filter: &str) -> Option<Slot<S>> {
        self.find(filter).map(|path| path.node.slot(path.end).clone())
    }

    fn find<'f>(&self, filter: &'f str) -> Option<Path<'f, S>> {
        let mut node = self.root.load_full();
        let mut above = Vec::new();
        let mut rest = Some(filter);
        loop {
            rest = node.ends.behind_run(rest)?;
            let (step, behind) = match next_step(rest) {
                Ok(step) => step,
                Err(end) => return Some(Path { above, node, end }),
            };
            let child = node.child(&step)?;
            above.push((node, step));
            (node, rest) = (child, behind);
        }
    }

    /// Like [`Self::find`], with new nodes on the way where there are none. They are not published.
    fn grow_to<'f>(&self, filter: &'f str) -> Path<'f, S> {
        let mut node = self.root.load_full();
        let mut above = Vec::new();
        let mut rest = Some(filter);
        loop {
            rest = match node.ends.behind_run(rest) {
                Some(rest) => rest,
                None => {
                    let (upper, behind) = node.split(rest);
                    node = Arc::new(upper);
                    behind
                }
            };
            let (step, behind) = match next_step(rest) {
                Ok(step) => step,
                Err(end) => return Path { above, node, end },
            };
            let child = node.child(&step).unwrap_or_else(|| {
                let ends = Ends { run: literal_run(behind).map(SmolStr::new), ..Ends::default() };
                Arc::new(Node { ends, links: Links::default() })
            });
            above.push((node, step));
            (node, rest) = (child, behind);
        }
    }

    /// Puts `node` at the end of the path, bottom up, until a place that can be edited without copying what is above.
    fn publish(&self, above: Vec<(Arc<Node<S>>, Step<'_>)>, node: Node<S>) {
        let mut below = node;
        for (parent, step) in above.into_iter().rev() {
            let child = below.tidied();
            below = match (step, &parent.links.children) {
                // All above is published already: only a node with few children can be the result of a split.
                (Step::Level(level), Children::Wide(wide)) => match wide.set(level, child) {
                    Some(children) => {
                        let links = Links { plus: parent.links.plus.clone(), children };
                        Node { ends: parent.ends.clone(), links }
                    }
                    None => return,
                },
                (Step::Level(level), _) => {
                    let mut copy = (*parent).clone();
                    copy.links.children.set(level, child);
                    copy
                }
                (Step::Plus, _) => {
                    let mut copy = (*parent).clone();
                    copy.links.plus = child.map(Arc::new);
                    copy
                }
            };
        }
        self.root.store(Arc::new(below));
    }
}

impl<S> Ends<S> {
    /// What of `rest` is left behind the run; `None` if the run is not there.
    pub(super) fn behind_run<'t>(&self, rest: Option<&'t str>) -> Option<Option<&'t str>> {
        let Some(run) = &self.run else { return Some(rest) };
        match rest?.strip_prefix(run.as_str())? {
            "" => Some(None),
            behind => behind.strip_prefix('/').map(Some),
        }
    }
}

impl<S: Subscriber> Ends<S> {
    /// Adds the subscribers of filters that end here, of a topic of which `rest` is left behind the run, but for large sets,
    /// which are given back.
    pub(super) fn collect(
        &self,
        rest: Option<&str>,
        publisher: u64,
        out: &mut Matches<S>,
    ) -> [Option<&Arc<Set<S>>>; 2] {
        let hash = self.hash.collect_one(publisher, out);
        let here = if rest.is_none() { self.here.collect_one(publisher, out) } else { None };
        [hash, here]
    }
}

impl<S> Node<S> {
    fn slot(&self, end: End) -> &Slot<S> {
        match end {
            End::Here => &self.ends.here,
            End::Hash => &self.ends.hash,
        }
    }

    fn slot_mut(&mut self, end: End) -> &mut Slot<S> {
        match end {
            End::Here => &mut self.ends.here,
            End::Hash => &mut self.ends.hash,
        }
    }

    /// Whether filters go on below.
    pub(super) fn is_leaf(&self) -> bool {
        self.links.plus.is_none() && matches!(self.links.children, Children::Empty)
    }
}

impl<S: Clone> Node<S> {
    fn child(&self, step: &Step<'_>) -> Option<Arc<Node<S>>> {
        match step {
            Step::Plus => self.links.plus.clone(),
            Step::Level(level) => self.links.children.get(level),
        }
    }

    /// Cuts the run where `rest` leaves it: a node with what both have in common, whose only child has the remainder;
    /// and what of `rest` lies behind the common part. Only for a `rest` that does leave the run.
    fn split<'f>(&self, mut rest: Option<&'f str>) -> (Self, Option<&'f str>) {
        let run = self.ends.run.as_deref().unwrap_or_default();
        let (mut left, mut common) = (run, 0);
        while let Some((wanted, behind_wanted)) = rest.map(first_level) {
            match first_level(left) {
                (level, Some(behind)) if level == wanted => {
                    (left, rest, common) = (behind, behind_wanted, common + level.len() + 1);
                }
                _ => break,
            }
        }
        let (label, lower_run) = first_level(left);
        let mut lower = self.clone();
        lower.ends.run = lower_run.map(SmolStr::new);
        let mut upper = Self::default();
        upper.ends.run = common.checked_sub(1).map(|end| SmolStr::new(&run[..end]));
        upper.links.children.set(label, Some(lower));
        (upper, rest)
    }

    /// Nothing if the node holds nothing; joined with its only child if it has nothing else.
    fn tidied(self) -> Option<Self> {
        if !self.ends.here.is_empty() || !self.ends.hash.is_empty() || self.links.plus.is_some() {
            return Some(self);
        }
        match &self.links.children {
            Children::Empty => None,
            Children::Few(few) if few.len() == 1 => few.first().map(|(label, child)| {
                let levels = [self.ends.run.as_deref(), Some(label), child.ends.run.as_deref()];
                let mut joined = (**child).clone();
                joined.ends.run = Some(levels.into_iter().flatten().collect::<Vec<_>>().join("/").into());
                joined
            }),
            Children::Few(_) | Children::Wide(_) => Some(self),
        }
    }
}

impl<S> Visit<'_, S> {
    fn node(&self) -> &Node<S> {
        match self {
            Self::Borrowed(node) => node,
            Self::Owned(node) => node,
        }
    }

    fn into_owned(self) -> Arc<Node<S>> {
        match self {
            Self::Borrowed(node) => Arc::clone(node),
            Self::Owned(node) => node,
        }
    }
}

/// The first level, and what lies behind its '/', if there is one.
fn first_level(text: &str) -> (&str, Option<&str>) {
    // Levels are short: looking at each byte beats preparing a search.
    match text.bytes().position(|byte| byte == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// How a filter leaves a node, and what is left of it behind; or in which slot of the node it ends.
fn next_step(rest: Option<&str>) -> Result<(Step<'_>, Option<&str>), End> {
    let Some(rest) = rest else { return Err(End::Here) };
    match first_level(rest) {
        ("#", _) => Err(End::Hash),
        ("+", behind) => Ok((Step::Plus, behind)),
        (level, behind) => Ok((Step::Level(level), behind)),
    }
}

/// The literal levels at the beginning of `rest`.
fn literal_run(rest: Option<&str>) -> Option<&str> {
    let text = rest?;
    let mut end = None;
    let mut at = 0;
    for level in text.split('/') {
        if matches!(level, "+" | "#") {
            break;
        }
        end = Some(at + level.len());
        at += level.len() + 1;
    }
    end.map(|end| &text[..end])
}
