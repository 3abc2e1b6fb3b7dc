//! Raw tree to checked settings: every problem is noted and the check goes on with the default, so that one run
//! reports them all.

mod authority;
mod doors;
mod events;
mod https;
mod provisioning;
mod read;
mod sections;
mod standing;
mod store;

use crate::Checked;
use crate::keys::KEYS;
use crate::problem::Problem;
use crate::raw::{At, Table, Value};
use crate::schema::Section;
use read::View;
use std::collections::HashSet;
use std::path::Path;

/// Checks a whole configuration. Relative paths are relative to `base`.
///
/// `syntax` are the problems that reading the text gave. When there are any, what seems to be missing may be what could not be
/// read, and a second problem on the same line is most likely the same mistake: neither is reported.
pub(crate) fn check(
    root: &Table,
    file: &Path,
    base: &Path,
    syntax: Vec<Problem>,
) -> Result<Checked, Vec<Problem>> {
    let mut checker =
        Checker { file, base, incomplete: !syntax.is_empty(), problems: Vec::new(), warnings: Vec::new() };
    checker.root_keys(root);
    let listeners = checker.listeners(root);
    let identity = checker.identity(root, &listeners);
    let registry = checker.registry(root);
    let ca = checker.ca(root, &registry);
    let https = checker.https(root, ca.as_ref(), &listeners);
    let clones = checker.clones(root, &registry);
    let est_labels = checker.est_labels(root, &https);
    let checked = Checked {
        file: file.to_owned(),
        acl: checker.acl(root),
        identity,
        limits: checker.limits(root),
        admin: checker.admin(root),
        log: checker.log(root),
        store: checker.store(root),
        ca,
        https,
        est_labels,
        revocation: checker.revocation(root),
        standing: checker.standing(root),
        clones,
        provisioning: checker.provisioning(root),
        events: checker.events(root),
        registry,
        system: checker.system(root),
        listeners,
        warnings: std::mem::take(&mut checker.warnings),
    };
    let mut problems = checker.problems;
    let line_of = |problem: &Problem| (problem.file.as_os_str().to_owned(), problem.line);
    let broken: HashSet<_> = syntax.iter().map(line_of).collect();
    problems.retain(|problem| !broken.contains(&line_of(problem)));
    problems.splice(..0, syntax);
    if problems.is_empty() {
        return Ok(checked);
    }
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Err(problems)
}

/// What one run collects.
pub(crate) struct Checker<'a> {
    file: &'a Path,
    base: &'a Path,
    /// The text had syntax errors: absence proves nothing.
    incomplete: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Checker<'_> {
    fn note(&self, at: &At, message: String, hint: Option<String>) -> Problem {
        let file = at.file.as_deref().unwrap_or(self.file).to_owned();
        Problem { file, line: at.line, column: at.column, message, hint }
    }

    fn problem(&mut self, at: &At, message: impl Into<String>) {
        let problem = self.note(at, message.into(), None);
        self.problems.push(problem);
    }

    fn problem_with_hint(&mut self, at: &At, message: impl Into<String>, hint: impl Into<String>) {
        let problem = self.note(at, message.into(), Some(hint.into()));
        self.problems.push(problem);
    }

    fn warning(&mut self, at: &At, message: impl Into<String>, hint: impl Into<String>) {
        let problem = self.note(at, message.into(), Some(hint.into()));
        self.warnings.push(problem);
    }

    /// Something is not there that must be.
    fn missing(&mut self, at: &At, message: impl Into<String>, hint: impl Into<String>) {
        if !self.incomplete {
            self.problem_with_hint(at, message, hint);
        }
    }

    fn root_keys(&mut self, root: &Table) {
        for entry in &root.entries {
            if Section::ALL.iter().any(|section| section.name() == entry.name) {
                continue;
            }
            let tables = Section::ALL.map(Section::name);
            let hint = match nearest(&entry.name, tables.into_iter()) {
                Some(name) => Some(format!("did you mean {}?", header_of(name))),
                None => home_of(&entry.name, None),
            };
            let what = if matches!(entry.node.value, Value::Table(_)) { "table" } else { "key" };
            let problem = self.note(&entry.at, format!("unknown {what} \"{}\"", entry.name), hint);
            self.problems.push(problem);
        }
    }

    /// The one table of that section, its keys looked at; a view of nothing when it is absent.
    fn section<'t>(&mut self, root: &'t Table, section: Section) -> View<'t> {
        let Some(entry) = root.get(section.name()) else {
            return View { section, at: At::default(), table: None };
        };
        match &entry.node.value {
            Value::Table(table) => self.view(section, &entry.node.at, table),
            other => {
                let message = format!("\"{}\" must be a table, not {}", entry.name, other.kind());
                self.problem_with_hint(&entry.at, message, format!("write {} once", section.header()));
                View { section, at: entry.at.clone(), table: None }
            }
        }
    }

    /// A table of that section, its unknown keys reported and its required ones missed.
    fn view<'t>(&mut self, section: Section, at: &At, table: &'t Table) -> View<'t> {
        for entry in &table.entries {
            if crate::schema::find(section, &entry.name).is_some() {
                continue;
            }
            let message = format!("unknown key \"{}\" in {}", entry.name, section.header());
            let hint = unknown_key_hint(section, &entry.name);
            let problem = self.note(&entry.at, message, hint);
            self.problems.push(problem);
        }
        for key in section.keys().filter(|key| key.required) {
            if table.get(key.name).is_none() {
                self.missing(at, format!("{} has no \"{}\"", section.header(), key.name), key.about);
            }
        }
        View { section, at: at.clone(), table: Some(table) }
    }
}

/// Where a key that is not in this table might have been meant to be.
fn unknown_key_hint(section: Section, name: &str) -> Option<String> {
    if let Some(home) = home_of(name, Some(section)) {
        return Some(home);
    }
    nearest(name, section.keys().map(|key| key.name)).map(|key| format!("did you mean \"{key}\"?"))
}

/// The other table that has a key of exactly that name.
fn home_of(name: &str, not_in: Option<Section>) -> Option<String> {
    let key = KEYS.iter().find(|key| key.name == name && Some(key.section) != not_in)?;
    Some(format!("\"{name}\" belongs in {}", key.section.header()))
}

fn header_of(table: &str) -> &'static str {
    Section::ALL.iter().find(|section| section.name() == table).map_or("", |section| section.header())
}

/// The candidate that a typing mistake would turn into `name`, if there is one.
///
/// Each mistake adds or takes away one character at most, so candidates whose length is further away are passed over: the distance takes
/// a step for each pair of characters, which a name of a megabyte would make expensive. So are those that have more letters that `name`
/// has not, or the other way round: every line of a file may be a name that is none.
pub(crate) fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let length = name.chars().count();
    let written = name.to_ascii_lowercase().replace('_', "-");
    let letters = letters_of(&written);
    candidates
        .map(|candidate| (mistakes_max(candidate), candidate))
        .filter(|(allowed, candidate)| length.abs_diff(candidate.chars().count()) <= *allowed)
        .filter(|(allowed, candidate)| {
            let wanted = letters_of(candidate);
            let (missing, extra) = (wanted & !letters, letters & !wanted);
            missing.count_ones().max(extra.count_ones()) as usize <= *allowed
        })
        .filter_map(|(allowed, candidate)| {
            let distance = strsim::osa_distance(&written, &candidate.replace('_', "-"));
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Which characters there are: one bit for each, `_` as `-`, and some share one, so that two texts differ in as many bits as in
/// characters at most.
fn letters_of(text: &str) -> u64 {
    let bit = |letter: char| 1u64 << (u32::from(if letter == '_' { '-' } else { letter }) & 0x3f);
    text.chars().fold(0, |letters, letter| letters | bit(letter))
}

/// How many mistakes in `candidate` are still taken for typing mistakes.
fn mistakes_max(candidate: &str) -> usize {
    (candidate.len() / 3).clamp(1, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without passing anything over.
    fn nearest_of_all(name: &str) -> Option<&'static str> {
        let written = name.to_ascii_lowercase().replace('_', "-");
        KEYS.iter()
            .map(|key| (strsim::osa_distance(&written, key.name), key.name))
            .filter(|(distance, candidate)| *distance <= mistakes_max(candidate))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, candidate)| candidate)
    }

    #[test]
    fn what_is_passed_over_is_never_what_was_meant() {
        let mut spoiled = 0;
        for (key, other) in KEYS.iter().zip(KEYS.iter().rev()) {
            for at in 0..key.name.len() {
                let (head, tail) = key.name.split_at(at);
                let (one, rest) = tail.split_at(1);
                let half = other.name.get(..at).unwrap_or(other.name);
                for name in [
                    format!("{head}{rest}"),
                    format!("{head}€{tail}"),
                    format!("{head}Q€{rest}"),
                    format!("{rest}{one}{head}"),
                    format!("{head}{one}{half}").replace('-', "_"),
                ] {
                    let found = nearest(&name, KEYS.iter().map(|key| key.name));
                    assert_eq!(found, nearest_of_all(&name), "{name}");
                    spoiled += usize::from(found.is_some());
                }
            }
        }
        assert!(spoiled > KEYS.len());
    }
}
