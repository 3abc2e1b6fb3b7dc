//! Who gains and who loses what between two policies.

use std::collections::BTreeSet;
use std::fmt;

use signet_identity::{PrincipalKey, Role};

use crate::claim;
use crate::decision::{Access, Subject, Values};
use crate::grammar::AccessWord;
use crate::levels::{Shape, intersection, substituted};
use crate::policy::{Policy, is_dangerous};

/// The most filters that are compared for one principal. Beyond it a [`Diff`] is marked as incomplete.
const CANDIDATES_MAX: usize = 100_000;

/// Which way a right changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// All of the filter is allowed by the new policy, and was not by the old one.
    Gains,
    /// All of the filter was allowed by the old policy, and is not by the new one.
    Loses,
}

/// A right that changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Whose.
    pub principal: PrincipalKey,
    /// Gained or lost.
    pub direction: Direction,
    /// Whether it is a right to write (publish); otherwise to read.
    pub write: bool,
    /// The topics, as a filter.
    pub filter: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Gains => "gains",
            Direction::Loses => "loses",
        };
        let access = if self.write { Access::Write } else { Access::Read };
        write!(f, "{} {direction} {access} {}", self.principal, self.filter)
    }
}

/// The rights that changed between two policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// The changes, principal by principal. A change that another one of the same kind covers is left out.
    pub changes: Vec<Change>,
    /// Principals with so many rules that not every combination of them was compared.
    pub incomplete: Vec<PrincipalKey>,
}

/// Compares what `old` and `new` allow to each of `subjects`.
///
/// Every topic that one policy allows to a subject and the other refuses is matched by the filter of a [`Change`].
/// A filter that is lost may still be allowed in part.
#[must_use]
pub fn diff<'a>(old: &Policy, new: &Policy, subjects: impl IntoIterator<Item = Subject<'a>>) -> Diff {
    let mut diff = Diff::default();
    for who in subjects {
        compare(old, new, &who, &mut diff);
    }
    diff
}

fn compare(old: &Policy, new: &Policy, who: &Subject<'_>, diff: &mut Diff) {
    let mut filters = Filters::default();
    filters.collect(old, who);
    filters.collect(new, who);
    let (candidates, complete) = filters.candidates();
    let key = who.principal.key();
    if !complete {
        diff.incomplete.push(key.clone());
    }
    for write in [false, true] {
        let access = if write { Access::Write } else { Access::Read };
        let mut changes: Vec<(Direction, &String)> = Vec::new();
        for filter in &candidates {
            let allowed = |policy: &Policy| policy.decide(who, access, filter).is_ok();
            match (allowed(old), allowed(new)) {
                (false, true) => changes.push((Direction::Gains, filter)),
                (true, false) => changes.push((Direction::Loses, filter)),
                _ => {}
            }
        }
        let widest = changes.iter().filter(|(direction, filter)| {
            !changes.iter().any(|(other, wider)| {
                direction == other && filter != wider && plain(wider).covers(filter, &NOBODY)
                    // Of two filters that cover each other (`#` and `+/#`) the first stays.
                    && (wider < filter || !plain(filter).covers(wider, &NOBODY))
            })
        });
        diff.changes.extend(widest.map(|(direction, filter)| Change {
            principal: key.clone(),
            direction: *direction,
            write,
            filter: (*filter).clone(),
        }));
    }
}

const NOBODY: Values<'_> = Values { user: "", client: "", thing: "", templates: &[] };

fn plain(filter: &str) -> Shape<'_> {
    Shape { filter, pattern: false, built_in: false }
}

/// The filters of the rules that apply to a subject, variables replaced.
#[derive(Default)]
struct Filters {
    allow: BTreeSet<String>,
    deny: BTreeSet<String>,
}

impl Filters {
    fn collect(&mut self, policy: &Policy, who: &Subject<'_>) {
        let values = who.values();
        let sections = &policy.sections;
        if who.principal.role() == Role::Claim {
            let built_in = claim::policy();
            self.add(policy, sections.role(Role::Claim), &values);
            self.add(built_in, built_in.sections.role(Role::Claim), &values);
            return;
        }
        self.add(policy, sections.users.get(who.principal.name().as_str()).copied(), &values);
        self.add(policy, sections.of_roles(who.principal), &values);
        self.add(policy, sections.patterns.filter(|_| !is_dangerous(&values)), &values);
    }

    fn add(
        &mut self,
        policy: &Policy,
        sections: impl IntoIterator<Item = crate::policy::Section>,
        values: &Values<'_>,
    ) {
        for section in sections {
            for (_, rule) in policy.rules_of(section) {
                let filters = substituted(policy.shape(rule), values);
                let list = if rule.access == AccessWord::Deny { &mut self.deny } else { &mut self.allow };
                list.extend(filters);
            }
        }
    }

    /// Filters such that every difference between two policies of these rules shows on one of them as a whole: a
    /// topic that one policy allows by rule A and the other denies by rule D shows on what A and D have in common;
    /// one that no rule of the other allows shows on A.
    fn candidates(&self) -> (BTreeSet<String>, bool) {
        let mut candidates: BTreeSet<String> = self.allow.union(&self.deny).cloned().collect();
        let mut complete = true;
        // The one topic below $SYS that a client may publish to.
        let bridge = "$SYS/broker/connection/+/state".to_owned();
        for allow in &self.allow {
            for deny in self.deny.iter().chain([&bridge]) {
                if candidates.len() >= CANDIDATES_MAX {
                    complete = false;
                    break;
                }
                candidates.extend(intersection(allow, deny));
            }
        }
        // Below $SYS the three of them can meet.
        let below: Vec<String> = candidates.iter().filter(|c| c.starts_with("$SYS")).cloned().collect();
        candidates.extend(below.iter().filter_map(|filter| intersection(filter, &bridge)));
        (candidates, complete)
    }
}
