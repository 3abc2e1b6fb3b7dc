//! The filters of all sections of a policy, as tries over topic levels in shared tables.
//!
//! A decision walks down from the root of one section with the levels of the topic. It visits only nodes whose path
//! matches, at most the section's own, and allocates nothing; so its cost depends neither on the number of sections
//! (one per named principal) nor on the number of principals.

use std::collections::BTreeMap;

use crate::decision::Values;
use crate::levels::{Shape, Variable, is_no_topic, split};

/// No node, no rule.
pub(crate) const NONE: u32 = u32::MAX;

/// A position in one of the tables. All of them are smaller than the text of the policy, whose length is bounded.
pub(crate) fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NONE)
}

/// What a rule does when its filter matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Deny,
    Allow { read: bool, write: bool },
}

/// The first rule, in the order of the file, for each effect.
#[derive(Debug, Clone, Copy)]
struct Rules {
    deny: u32,
    read: u32,
    write: u32,
}

impl Rules {
    const EMPTY: Self = Self { deny: NONE, read: NONE, write: NONE };

    fn add(&mut self, effect: Effect, rule: u32) {
        let slots = match effect {
            Effect::Deny => [Some(&mut self.deny), None],
            Effect::Allow { read, write } => {
                [read.then_some(&mut self.read), write.then_some(&mut self.write)]
            }
        };
        for slot in slots.into_iter().flatten() {
            *slot = rule.min(*slot);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The edges to plain levels, sorted by label: a range of [`Trie::edges`].
    edges: u32,
    edges_len: u32,
    /// Index into [`Trie::branches`], or [`NONE`].
    branches: u32,
    /// Rules whose filter ends here: index into [`Trie::rules`], or [`NONE`].
    here: u32,
    /// Rules whose filter goes on with `#`: index into [`Trie::rules`], or [`NONE`].
    below: u32,
}

/// An edge to a plain level; its label is a part of the policy's text.
#[derive(Debug, Clone, Copy)]
struct Edge {
    start: u32,
    len: u32,
    node: u32,
}

/// The edges of `+` and of variables.
#[derive(Debug, Clone, Copy)]
struct Branches {
    plus: u32,
    variables: [u32; 4],
}

const VARIABLES: [Variable; 4] = [Variable::User, Variable::Client, Variable::Thing, Variable::Template];

/// The first matching rule, in the order of the file, that denies, and that allows what was asked; or [`NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hits {
    pub(crate) deny: u32,
    pub(crate) allow: u32,
}

impl Hits {
    pub(crate) const NONE: Self = Self { deny: NONE, allow: NONE };

    pub(crate) fn and(self, other: Self) -> Self {
        Self { deny: self.deny.min(other.deny), allow: self.allow.min(other.allow) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    branches: Vec<Branches>,
    rules: Vec<Rules>,
}

/// What one walk is about.
struct Walk<'a> {
    trie: &'a Trie,
    source: &'a str,
    asked: &'a str,
    values: &'a Values<'a>,
    write: bool,
    hits: Hits,
}

impl Trie {
    /// The first rules below `root` whose filter covers `asked`, a topic or a filter: every topic that `asked`
    /// stands for is matched by the rule.
    pub(crate) fn walk(
        &self,
        source: &str,
        root: u32,
        asked: &str,
        write: bool,
        values: &Values<'_>,
    ) -> Hits {
        let mut walk = Walk { trie: self, source, asked, values, write, hits: Hits::NONE };
        walk.descend(root, Some(asked), 0);
        walk.hits
    }

    /// Adds the filters of one section. Returns its root.
    pub(crate) fn add_section<'a>(
        &mut self,
        source: &'a str,
        rules: impl Iterator<Item = (u32, Shape<'a>, Effect)>,
    ) -> u32 {
        let mut draft = Draft::default();
        for (rule, shape, effect) in rules {
            draft.add(rule, shape, effect);
        }
        let base = self.nodes.len();
        for node in draft.nodes {
            let edges = index(self.edges.len());
            for (label, child) in &node.plain {
                self.edges.push(Edge {
                    // The label is a slice of the source, so the difference of the addresses is its place there.
                    start: index(label.as_ptr().addr() - source.as_ptr().addr()),
                    len: index(label.len()),
                    node: index(base + child),
                });
            }
            let branches = self.add_branches(&node, base);
            let here = self.add_rules(node.here);
            let below = self.add_rules(node.below);
            self.nodes.push(Node { edges, edges_len: index(node.plain.len()), branches, here, below });
        }
        index(base)
    }

    fn add_branches(&mut self, node: &DraftNode<'_>, base: usize) -> u32 {
        if node.plus.is_none() && node.variables.iter().all(Option::is_none) {
            return NONE;
        }
        let place = |child: Option<usize>| child.map_or(NONE, |child| index(base + child));
        self.branches.push(Branches { plus: place(node.plus), variables: node.variables.map(place) });
        index(self.branches.len() - 1)
    }

    fn add_rules(&mut self, rules: Option<Rules>) -> u32 {
        let Some(rules) = rules else { return NONE };
        self.rules.push(rules);
        index(self.rules.len() - 1)
    }

    pub(crate) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.edges.shrink_to_fit();
        self.branches.shrink_to_fit();
        self.rules.shrink_to_fit();
    }
}

impl Walk<'_> {
    /// Visits `node`, `depth` levels below the root, with the levels that are left. The recursion is as deep as the
    /// deepest rule at most ([`LEVELS_MAX`](crate::LEVELS_MAX)), however deep the topic is.
    fn descend(&mut self, node: u32, rest: Option<&str>, depth: u32) {
        let Some(&Node { edges, edges_len, branches, here, below }) = self.trie.nodes.get(node as usize)
        else {
            return;
        };
        let reserved = depth == 0 && self.asked.starts_with('$');
        if !reserved {
            self.hit(below);
        }
        let Some(text) = rest else {
            self.hit(here);
            return;
        };
        let (level, rest) = split(text);
        let branches = self.trie.branches.get(branches as usize);
        if level == "#" {
            // Covered by `#` alone, which was seen above, or by `+/#` where the levels before are no topic.
            if let (true, Some(branches)) = (is_no_topic(self.asked, depth), branches)
                && let Some(plus) = self.trie.nodes.get(branches.plus as usize)
            {
                self.hit(plus.below);
            }
            return;
        }
        if level != "+"
            && let Some(child) = self.edge(edges, edges_len, level)
        {
            self.descend(child, rest, depth + 1);
        }
        let Some(branches) = branches else { return };
        if reserved {
            return;
        }
        self.descend(branches.plus, rest, depth + 1);
        for (variable, child) in VARIABLES.into_iter().zip(branches.variables) {
            if child != NONE && variable.is(level, self.values) {
                self.descend(child, rest, depth + 1);
            }
        }
    }

    fn hit(&mut self, rules: u32) {
        if let Some(rules) = self.trie.rules.get(rules as usize) {
            let allow = if self.write { rules.write } else { rules.read };
            self.hits = self.hits.and(Hits { deny: rules.deny, allow });
        }
    }

    fn edge(&self, start: u32, len: u32, level: &str) -> Option<u32> {
        let edges = self.trie.edges.get(start as usize..)?.get(..len as usize)?;
        let label = |edge: &Edge| {
            let from = edge.start as usize;
            self.source.as_bytes().get(from..from + edge.len as usize).unwrap_or_default()
        };
        let found = edges.binary_search_by(|edge| label(edge).cmp(level.as_bytes())).ok()?;
        edges.get(found).map(|edge| edge.node)
    }
}

#[derive(Default)]
struct DraftNode<'a> {
    plain: BTreeMap<&'a str, usize>,
    plus: Option<usize>,
    variables: [Option<usize>; 4],
    here: Option<Rules>,
    below: Option<Rules>,
}

/// One section while it is built.
struct Draft<'a> {
    nodes: Vec<DraftNode<'a>>,
}

impl Default for Draft<'_> {
    fn default() -> Self {
        Self { nodes: vec![DraftNode::default()] }
    }
}

impl<'a> Draft<'a> {
    fn add(&mut self, rule: u32, shape: Shape<'a>, effect: Effect) {
        let mut at = 0;
        for level in shape.filter.split('/') {
            if level == "#" {
                self.nodes[at].below.get_or_insert(Rules::EMPTY).add(effect, rule);
                return;
            }
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            let child = match shape.variable(level) {
                Some(variable) => node.variables[variable as usize].get_or_insert(next),
                None if level == "+" => node.plus.get_or_insert(next),
                None => node.plain.entry(level).or_insert(next),
            };
            at = *child;
            if at == next {
                self.nodes.push(DraftNode::default());
            }
        }
        self.nodes[at].here.get_or_insert(Rules::EMPTY).add(effect, rule);
    }
}
