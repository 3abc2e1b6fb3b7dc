//! Rules that are correct and probably not meant.

use std::sync::Arc;

use crate::decision::Values;
use crate::grammar::AccessWord;
use crate::levels::{intersection, substituted};
use crate::policy::{Policy, Rule, Section};
use crate::problem::{Bounded, Warning, WarningKind};
use crate::trie::{Effect, NONE};

/// Looks for rules that never decide anything, that an earlier rule makes superfluous, and for grants of a user's
/// or role's section that a `deny` pattern does not reach (see the order of evaluation).
///
/// These are findings about rules as they stand to each other; [`Policy::parse`] gives those about single lines.
#[must_use]
pub fn lint(policy: &Policy) -> Vec<Warning> {
    let mut found = Linter { policy, warnings: Bounded::new() };
    let sections = &policy.sections;
    let users = sections.users.iter().map(|(name, section)| (name.as_ref(), *section));
    let roles = sections.roles.iter().flatten().chain(sections.groups.values());
    let mut all: Vec<(&str, Section)> = users.chain(roles.map(|section| ("", *section))).collect();
    all.sort_by_key(|(_, section)| section.start);
    for (name, section) in &all {
        found.within(*section);
        found.beside_patterns(*section, name);
    }
    if let Some(patterns) = sections.patterns {
        found.within(patterns);
    }
    found.warnings.items.sort_by_key(|warning| warning.line);
    found.warnings.into_warnings(&policy.file)
}

struct Linter<'a> {
    policy: &'a Policy,
    warnings: Bounded<Warning>,
}

/// Variables stand for themselves, so that patterns compare with patterns.
const SYMBOLIC: Values<'_> = Values { user: "%u", client: "%c", thing: "%t", templates: &[] };

impl Linter<'_> {
    /// Rules that an earlier decision of their own section hides or repeats.
    fn within(&mut self, section: Section) {
        for (id, rule) in self.policy.rules_of(section) {
            let filter = self.policy.shape(rule).filter;
            let walk =
                |write| self.policy.trie.walk(&self.policy.source, section.root, filter, write, &SYMBOLIC);
            let (read, write) = (walk(false), walk(true));
            let kind = match rule.effect() {
                Effect::Deny if read.deny < id.0 => WarningKind::Redundant { by: self.line(read.deny) },
                Effect::Allow { .. } if read.deny != NONE => WarningKind::Denied { by: self.line(read.deny) },
                Effect::Allow { read: reads, write: writes }
                    if (!reads || read.allow < id.0) && (!writes || write.allow < id.0) =>
                {
                    let by = if reads { read.allow } else { write.allow };
                    WarningKind::Redundant { by: self.line(by) }
                }
                Effect::Deny | Effect::Allow { .. } => continue,
            };
            self.warn(rule, kind);
        }
    }

    /// Rules of a section that are decided before a pattern could deny.
    fn beside_patterns(&mut self, section: Section, name: &str) {
        let Some(patterns) = self.policy.sections.patterns else { return };
        let values = Values { user: name, client: "", thing: "", templates: &[] };
        let denies: Vec<(u32, String)> = (self.policy.rules_of(patterns))
            .filter(|(_, rule)| rule.access == AccessWord::Deny)
            .flat_map(|(_, rule)| {
                // A variable whose value is not known here may stand for any level.
                let open = |level| if matches!(level, "%u" | "%c" | "%t") { "+" } else { level };
                let known = substituted(self.policy.shape(rule), &values);
                let filter =
                    self.policy.shape(rule).filter.split('/').map(open).collect::<Vec<_>>().join("/");
                let filters = if known.is_empty() { vec![filter] } else { known };
                filters.into_iter().map(|filter| (rule.line, filter))
            })
            .collect();
        if denies.is_empty() {
            return;
        }
        for (_, rule) in self.policy.rules_of(section) {
            if rule.access == AccessWord::Deny {
                continue;
            }
            let filter = self.policy.shape(rule).filter;
            if let Some((pattern, _)) = denies.iter().find(|(_, deny)| intersection(filter, deny).is_some()) {
                self.warn(rule, WarningKind::BeatsPatternDeny { pattern: *pattern });
            }
        }
    }

    fn line(&self, rule: u32) -> u32 {
        self.policy.rules.get(rule as usize).map_or(0, |rule| rule.line)
    }

    fn warn(&mut self, rule: &Rule, kind: WarningKind) {
        self.warnings.push(Warning { file: Arc::clone(&self.policy.file), line: rule.line, column: 1, kind });
    }
}
