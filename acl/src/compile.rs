//! From the text of a policy to its compiled form.

use std::collections::HashMap;
use std::sync::Arc;

use signet_identity::{NAME_LEN_MAX, Role};

use crate::grammar::{self, AccessWord, Line, RuleLine, SectionRole};
use crate::levels::Variable;
use crate::policy::{Policy, Rule, Section, SectionKey, Sections};
use crate::problem::{AclError, AclErrorKind, Bounded, Warning, WarningKind, shortened};
use crate::trie::{NONE, Trie, index};

/// The longest text of a policy, in bytes: 256 MiB, which holds sections for several million names.
pub const POLICY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How a text is read, and how the policy behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseOptions {
    /// Whether a SUBSCRIBE is refused when its filter is not covered by what the principal may read. Without it
    /// every subscription is granted, as Mosquitto does, and only delivery is filtered. Default: true.
    pub subscribe_check: bool,
    /// Whether a `pattern` without a variable is a warning, as in Mosquitto, and not an error. Default: false.
    pub allow_pattern_without_variable: bool,
    /// Whether `%u` or `%c` as a part of a level is a warning, as in Mosquitto 2.1, where such a rule matches
    /// only the literal text, and not an error. Default: false.
    pub allow_mid_level_variable: bool,
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self { subscribe_check: true, allow_pattern_without_variable: false, allow_mid_level_variable: false }
    }
}

/// A rule before the rules are brought into the order of their sections.
struct Draft<'a> {
    section: usize,
    line: u32,
    text: &'a str,
    rule: RuleLine<'a>,
}

struct Compiler<'a> {
    file: Arc<str>,
    options: ParseOptions,
    /// The claim policy of this crate: `role claim` may allow, and `%template` is a variable.
    built_in: bool,
    errors: Bounded<AclError>,
    warnings: Bounded<Warning>,
    sections: Vec<SectionKey>,
    known: HashMap<Key<'a>, usize, foldhash::fast::RandomState>,
    rules: Vec<Draft<'a>>,
}

#[derive(PartialEq, Eq, Hash, Clone, Copy)]
enum Key<'a> {
    Anonymous,
    Patterns,
    User(&'a str),
    Role(SectionRole<'a>),
}

/// Where the rules that follow belong.
#[derive(Clone, Copy)]
struct Current<'a> {
    key: Key<'a>,
    section: usize,
}

/// A line and where it stands.
#[derive(Clone, Copy)]
struct At<'a> {
    number: u32,
    text: &'a str,
}

impl At<'_> {
    /// The column of `part`, which is a slice of the line.
    fn column(self, part: &str) -> u32 {
        let bytes = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let before = self.text.get(..bytes).unwrap_or_default();
        index(before.chars().count() + 1)
    }
}

pub(crate) fn parse(
    text: &str,
    file: &str,
    options: &ParseOptions,
    built_in: bool,
) -> Result<(Policy, Vec<Warning>), Vec<AclError>> {
    let file: Arc<str> = file.into();
    let whole_file = |kind| vec![AclError { file: Arc::clone(&file), line: 1, column: 1, kind }];
    if text.len() > POLICY_BYTES_MAX {
        return Err(whole_file(AclErrorKind::TooLong { bytes: text.len() }));
    }
    if text.starts_with('\u{feff}') {
        return Err(whole_file(AclErrorKind::ByteOrderMark));
    }
    // Rules are slices of this copy, which the policy keeps.
    let source: Box<str> = text.into();
    let mut compiler = Compiler {
        file: Arc::clone(&file),
        options: *options,
        built_in,
        errors: Bounded::new(),
        warnings: Bounded::new(),
        sections: Vec::new(),
        known: HashMap::default(),
        rules: Vec::new(),
    };
    compiler.read(&source);
    if !compiler.errors.items.is_empty() {
        return Err(compiler.errors.into_errors(&file));
    }
    let compiled = compiler.compile(&source);
    Ok((
        Policy {
            source,
            file: Arc::clone(&file),
            options: *options,
            built_in,
            rules: compiled.rules,
            trie: compiled.trie,
            sections: compiled.sections,
            uses_client_id: compiled.uses_client_id,
            rotation: std::sync::RwLock::default(),
            recovery: None,
        },
        compiled.warnings.into_warnings(&file),
    ))
}

struct Compiled {
    rules: Box<[Rule]>,
    trie: Trie,
    sections: Sections,
    uses_client_id: bool,
    warnings: Bounded<Warning>,
}

impl<'a> Compiler<'a> {
    fn read(&mut self, source: &'a str) {
        let mut current = self.enter(Key::Anonymous);
        for (number, text) in source.split('\n').enumerate() {
            let at = At { number: index(number + 1), text };
            match grammar::line(text) {
                Ok(Line::Nothing) => {}
                Ok(Line::User(name)) => {
                    current = self.enter(Key::User(name));
                    self.judge_user(at, name);
                }
                Ok(Line::Role(role)) => current = self.enter(Key::Role(role)),
                Ok(Line::Rule(rule)) => self.rule(at, current, rule),
                Err((part, kind)) => self.error(at, part, kind),
            }
        }
        if self.rules.is_empty() {
            self.warn(At { number: 1, text: "" }, "", WarningKind::Empty);
        }
    }

    fn enter(&mut self, key: Key<'a>) -> Current<'a> {
        let section = *self.known.entry(key).or_insert_with(|| {
            self.sections.push(match key {
                Key::Anonymous => SectionKey::Anonymous,
                Key::Patterns => SectionKey::Patterns,
                Key::User(name) => SectionKey::User(name.into()),
                Key::Role(SectionRole::Role(role)) => SectionKey::Role(role),
                Key::Role(SectionRole::Group(name)) => SectionKey::Group(name.into()),
            });
            self.sections.len() - 1
        });
        Current { key, section }
    }

    fn rule(&mut self, at: At<'a>, current: Current<'a>, rule: RuleLine<'a>) {
        let claim = current.key == Key::Role(SectionRole::Role(Role::Claim));
        if claim && rule.access != AccessWord::Deny && !self.built_in {
            self.error(at, at.text, AclErrorKind::ClaimGrant);
            return;
        }
        self.judge_rule(at, current, &rule);
        let section = match current.key {
            Key::User(_) | Key::Anonymous | Key::Patterns if rule.pattern => {
                self.enter(Key::Patterns).section
            }
            _ => current.section,
        };
        self.rules.push(Draft { section, line: at.number, text: at.text.trim(), rule });
    }

    /// Errors and warnings about the parts of a rule that is well-formed.
    fn judge_rule(&mut self, at: At<'a>, current: Current<'a>, rule: &RuleLine<'a>) {
        let filter = rule.filter;
        if rule.pattern {
            self.judge_variables(at, filter);
            if matches!(current.key, Key::User(_)) {
                self.warn(at, at.text, WarningKind::PatternInUserSection);
            }
        } else {
            let variable =
                ["%u", "%c", "%t"].into_iter().find(|v| filter.split('/').any(|level| level == *v));
            if let Some(variable) = variable {
                self.warn(at, filter, WarningKind::LiteralVariable { variable });
            }
            if current.key == Key::Anonymous {
                self.warn(at, at.text, WarningKind::AnonymousRule);
            }
        }
        if rule.topic_is_access_word {
            self.warn(at, filter, WarningKind::AccessWordIsTopic { word: filter.to_owned() });
        }
        if filter.starts_with("$share") {
            self.warn(at, filter, WarningKind::Share);
        }
        let writes = matches!(rule.access, AccessWord::Write | AccessWord::ReadWrite);
        let reserved = filter.starts_with("$SYS") || filter.starts_with("$CONTROL/");
        if writes && reserved && !filter.starts_with("$SYS/broker/connection/") {
            self.warn(at, filter, WarningKind::ReservedWrite);
        }
    }

    fn judge_variables(&mut self, at: At<'a>, filter: &'a str) {
        let whole = filter.split('/').any(|level| Variable::of(level, self.built_in).is_some());
        let contains = |level: &&str| {
            let part = level.contains("%u") || level.contains("%c");
            part && Variable::of(level, self.built_in).is_none()
        };
        let part = filter.split('/').find(contains);
        if let Some(level) = part {
            let shown = shortened(level);
            if self.options.allow_mid_level_variable {
                self.warn(at, level, WarningKind::MidLevelVariable { level: shown });
            } else {
                self.error(at, level, AclErrorKind::MidLevelVariable { level: shown });
            }
        } else if !whole {
            if self.options.allow_pattern_without_variable {
                self.warn(at, filter, WarningKind::PatternWithoutVariable);
            } else {
                self.error(at, filter, AclErrorKind::PatternWithoutVariable);
            }
        }
    }

    /// A name that no rule for names admits, however configuration widens it.
    fn judge_user(&mut self, at: At<'a>, name: &'a str) {
        let possible = name.len() <= NAME_LEN_MAX
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_graphic() && !"/+#$%".contains(c));
        if !possible {
            self.warn(at, name, WarningKind::ImpossibleUser { name: shortened(name) });
        }
    }

    fn error(&mut self, at: At<'_>, part: &str, kind: AclErrorKind) {
        let file = Arc::clone(&self.file);
        self.errors.push(AclError { file, line: at.number, column: at.column(part), kind });
    }

    fn warn(&mut self, at: At<'_>, part: &str, kind: WarningKind) {
        let file = Arc::clone(&self.file);
        self.warnings.push(Warning { file, line: at.number, column: at.column(part), kind });
    }

    fn compile(mut self, source: &'a str) -> Compiled {
        // A stable sort: within a section the rules keep the order of the file.
        self.rules.sort_by_key(|draft| draft.section);
        let place = |part: &str| index(part.as_ptr().addr() - source.as_ptr().addr());
        let rules: Box<[Rule]> = (self.rules.iter())
            .map(|draft| Rule {
                line: draft.line,
                text: (place(draft.text), index(draft.text.len())),
                filter: (place(draft.rule.filter), index(draft.rule.filter.len())),
                access: draft.rule.access,
                pattern: draft.rule.pattern,
            })
            .collect();
        let mut trie = Trie::default();
        let mut sections = Sections::default();
        let mut uses_client_id = false;
        let mut start = 0;
        for (number, key) in self.sections.into_iter().enumerate() {
            let after = rules.len();
            let end = (self.rules.get(start..).unwrap_or_default().iter())
                .position(|draft| draft.section != number)
                .map_or(after, |length| start + length);
            if start == end {
                continue;
            }
            let shape = |rule: &Rule| rule.shape(source, self.built_in);
            let of_section = (start..end).zip(&rules[start..end]);
            let used = |rule: &Rule| shape(rule).variables().any(|variable| variable == Variable::Client);
            uses_client_id |= rules[start..end].iter().any(used);
            let root = if key == SectionKey::Anonymous {
                NONE
            } else {
                trie.add_section(source, of_section.map(|(id, rule)| (index(id), shape(rule), rule.effect())))
            };
            sections.insert(key, Section { root, start: index(start), end: index(end) });
            start = end;
        }
        trie.shrink();
        Compiled { rules, trie, sections, uses_client_id, warnings: self.warnings }
    }
}
