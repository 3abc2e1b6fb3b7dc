//! Single values: present or default, of the right kind, within the bounds of the table of keys.

use super::Checker;
use crate::keys::KEYS;
use crate::raw::{self, At, Node, Table, Value};
use crate::schema::{Key, Kind, Section, quoted};
use crate::value::{duration, show_duration, show_size, size};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// One table of the file, or its absence.
pub(super) struct View<'t> {
    pub(super) section: Section,
    pub(super) at: At,
    pub(super) table: Option<&'t Table>,
}

impl View<'_> {
    /// Whether the key was written.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.get(name).is_some())
    }

    /// Where the key's value was written, or else the table.
    pub(super) fn place(&self, name: &str) -> At {
        let entry = self.table.and_then(|table| table.get(name));
        entry.map_or_else(|| self.at.clone(), |entry| entry.node.at.clone())
    }

    /// Whether the key was written as a list without elements.
    pub(super) fn is_empty_list(&self, name: &str) -> bool {
        self.written(name).is_some_and(|node| matches!(&node.value, Value::List(nodes) if nodes.is_empty()))
    }

    fn key(&self, name: &str) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.key.section == self.section && known.key.name == name)
    }

    fn written(&self, name: &str) -> Option<&Node> {
        self.table.and_then(|table| table.get(name)).map(|entry| &entry.node)
    }
}

/// A key, and its default as it would be read from a file.
struct Known {
    key: &'static Key,
    default: Option<Node>,
}

/// Every key. The defaults are read once: most keys of most tables are not written, and a file may have thousands of
/// tables.
static KNOWN: LazyLock<Vec<Known>> =
    LazyLock::new(|| KEYS.iter().map(|key| Known { key, default: default_of(key) }).collect());

/// The default of a key as a node; `None` for keys that have none.
fn default_of(key: &Key) -> Option<Node> {
    if key.default.is_empty() {
        return None;
    }
    let (mut table, _) = raw::parse(&format!("v = {}", key.default), Path::new(""));
    table.entries.pop().map(|entry| entry.node)
}

impl Checker<'_> {
    /// Reads the written value with `read`; what is not written, or not readable, is the default.
    fn read<T>(
        &mut self,
        view: &View<'_>,
        name: &str,
        read: impl Fn(&mut Self, &Key, &Node) -> Option<T>,
    ) -> Option<T> {
        let Known { key, default } = view.key(name)?;
        let written = view.written(name).and_then(|node| read(self, key, node));
        written.or_else(|| default.as_ref().and_then(|node| read(self, key, node)))
    }

    fn wrong_kind(&mut self, key: &Key, node: &Node, wanted: &str) {
        let message = format!("\"{}\" must be {wanted}, not {}", key.name, node.value.kind());
        self.problem(&node.at, message);
    }

    fn out_of_bounds(&mut self, key: &Key, at: &At, value: &str) {
        let message = format!("\"{}\" must be {}, not {value}", key.name, key.bounds());
        self.problem(at, message);
    }

    pub(super) fn flag(&mut self, view: &View<'_>, name: &str) -> bool {
        let read = |checker: &mut Self, key: &Key, node: &Node| match node.value {
            Value::Bool(flag) => Some(flag),
            _ => {
                checker.wrong_kind(key, node, "true or false");
                None
            }
        };
        self.read(view, name, read).unwrap_or_default()
    }

    /// The text of a string value that is not empty.
    fn string(&mut self, key: &Key, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) if text.is_empty() => {
                self.problem(&node.at, format!("\"{}\" is empty", key.name));
                None
            }
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_kind(key, node, "a string");
                None
            }
        }
    }

    /// The elements of a list, each read by `item`; `None` when one of them is wrong.
    pub(super) fn list<T>(
        &mut self,
        key: &Key,
        node: &Node,
        mut item: impl FnMut(&mut Self, &Key, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(nodes) = &node.value else {
            self.wrong_kind(key, node, "a list");
            return None;
        };
        let items: Vec<_> = nodes.iter().map(|node| item(self, key, node)).collect();
        items.into_iter().collect()
    }

    pub(super) fn characters(&mut self, view: &View<'_>, name: &str) -> String {
        let read = |checker: &mut Self, key: &Key, node: &Node| match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                checker.wrong_kind(key, node, "a string");
                None
            }
        };
        self.read(view, name, read).unwrap_or_default()
    }

    /// A list of strings, none of them empty.
    pub(super) fn texts(&mut self, view: &View<'_>, name: &str) -> Vec<String> {
        self.read(view, name, |checker, key, node| checker.list(key, node, Self::string)).unwrap_or_default()
    }

    fn path(&mut self, key: &Key, node: &Node) -> Option<PathBuf> {
        let text = self.string(key, node)?;
        if text.contains('\0') {
            self.problem(&node.at, format!("\"{}\" is not a path: it contains U+0000", key.name));
            return None;
        }
        Some(self.base.join(text))
    }

    pub(super) fn file(&mut self, view: &View<'_>, name: &str) -> PathBuf {
        self.read(view, name, Self::path).unwrap_or_default()
    }

    pub(super) fn files(&mut self, view: &View<'_>, name: &str) -> Vec<PathBuf> {
        self.read(view, name, |checker, key, node| checker.list(key, node, Self::path)).unwrap_or_default()
    }

    pub(super) fn address(&mut self, view: &View<'_>, name: &str) -> Option<SocketAddr> {
        self.read(view, name, |checker, key, node| {
            let text = checker.string(key, node)?;
            let parsed = text.parse().ok();
            if parsed.is_none() {
                let message = format!("\"{name}\" must be an IP address and a port, not {text:?}");
                checker.problem_with_hint(
                    &node.at,
                    message,
                    "for example \"0.0.0.0:8883\", \"[::]:8883\" or \"127.0.0.1:8883\"",
                );
            }
            parsed
        })
    }

    /// A listener's address; a placeholder that is never used when it is missing or wrong.
    pub(super) fn listen_address(&mut self, view: &View<'_>) -> SocketAddr {
        self.address(view, "address").unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// The chosen word, which is one of the table's.
    pub(super) fn choice(&mut self, view: &View<'_>, name: &str) -> &'static str {
        self.read(view, name, |checker, key, node| {
            let Kind::Choice(words) = key.kind else { return None };
            checker.word(key, node, words)
        })
        .unwrap_or_default()
    }

    pub(super) fn choices(&mut self, view: &View<'_>, name: &str) -> Vec<&'static str> {
        self.read(view, name, |checker, key, node| {
            let Kind::Choices(words) = key.kind else { return None };
            let chosen = checker.list(key, node, |checker, key, node| checker.word(key, node, words))?;
            if chosen.is_empty() {
                checker.problem(&node.at, format!("\"{}\" is empty", key.name));
                return None;
            }
            Some(chosen)
        })
        .unwrap_or_default()
    }

    /// A table of names and chosen words, in the order of the file.
    pub(super) fn choice_of(&mut self, view: &View<'_>, name: &str) -> Vec<(String, &'static str)> {
        self.read(view, name, |checker, key, node| {
            let Kind::ChoiceOf(words) = key.kind else { return None };
            let Value::Table(table) = &node.value else {
                checker.wrong_kind(key, node, "a table");
                return None;
            };
            let entries = table.entries.iter();
            Some(
                entries
                    .filter_map(|entry| {
                        checker.word(key, &entry.node, words).map(|word| (entry.name.clone(), word))
                    })
                    .collect(),
            )
        })
        .unwrap_or_default()
    }

    fn word(&mut self, key: &Key, node: &Node, words: &'static [&'static str]) -> Option<&'static str> {
        let text = self.string(key, node)?;
        let found = words.iter().copied().find(|word| *word == text);
        if found.is_none() {
            let message = format!("\"{}\" must be {}, not {text:?}", key.name, quoted(words, " or "));
            match super::nearest(&text, words.iter().copied()) {
                Some(word) => self.problem_with_hint(&node.at, message, format!("did you mean \"{word}\"?")),
                None => self.problem(&node.at, message),
            }
        }
        found
    }

    /// A count within its bounds.
    pub(super) fn count(&mut self, view: &View<'_>, name: &str) -> u64 {
        self.read(view, name, |checker, key, node| {
            let Kind::Count { min, max, .. } = key.kind else { return None };
            let Value::Integer(number) = node.value else {
                checker.wrong_kind(key, node, "an integer");
                return None;
            };
            let within = u64::try_from(number).ok().filter(|number| (min..=max).contains(number));
            if within.is_none() {
                checker.out_of_bounds(key, &node.at, &number.to_string());
            }
            within
        })
        .unwrap_or_default()
    }

    pub(super) fn count_u32(&mut self, view: &View<'_>, name: &str) -> u32 {
        u32::try_from(self.count(view, name)).unwrap_or(u32::MAX)
    }

    pub(super) fn count_u16(&mut self, view: &View<'_>, name: &str) -> u16 {
        u16::try_from(self.count(view, name)).unwrap_or(u16::MAX)
    }

    /// A count whose bounds begin at 1.
    pub(super) fn some_u32(&mut self, view: &View<'_>, name: &str) -> NonZeroU32 {
        NonZeroU32::new(self.count_u32(view, name)).unwrap_or(NonZeroU32::MIN)
    }

    /// A count whose bounds begin at 1.
    pub(super) fn some_u16(&mut self, view: &View<'_>, name: &str) -> NonZeroU16 {
        NonZeroU16::new(self.count_u16(view, name)).unwrap_or(NonZeroU16::MIN)
    }

    /// A number of bytes within its bounds.
    pub(super) fn bytes(&mut self, view: &View<'_>, name: &str) -> u64 {
        self.read(view, name, |checker, key, node| {
            let Kind::Bytes { min, max, .. } = key.kind else { return None };
            let (bytes, shown) = match &node.value {
                Value::Integer(number) => (u64::try_from(*number).ok(), number.to_string()),
                Value::Text(text) => {
                    let Some(bytes) = size(text) else {
                        let message = format!("\"{}\" must be a size, not {text:?}", key.name);
                        checker.problem_with_hint(
                            &node.at,
                            message,
                            "bytes as an integer, or a string with B, KiB, MiB or GiB, such as \"256KiB\"",
                        );
                        return None;
                    };
                    (Some(bytes), show_size(bytes))
                }
                _ => {
                    checker.wrong_kind(key, node, "a number of bytes or a string such as \"256KiB\"");
                    return None;
                }
            };
            let within = bytes.filter(|bytes| (min..=max).contains(bytes));
            if within.is_none() {
                checker.out_of_bounds(key, &node.at, &shown);
            }
            within
        })
        .unwrap_or_default()
    }

    /// A duration within its bounds; `None` for "never", where that is allowed.
    pub(super) fn time_or_never(&mut self, view: &View<'_>, name: &str) -> Option<Duration> {
        self.read(view, name, |checker, key, node| {
            let Kind::Time { min_ms, max_ms, never, .. } = key.kind else { return None };
            let (value, shown) = match &node.value {
                Value::Text(text) if never && text == "never" => return Some(None),
                Value::Integer(secs) => {
                    (u64::try_from(*secs).ok().map(Duration::from_secs), format!("{secs}s"))
                }
                Value::Text(text) => {
                    let Some(value) = duration(text) else {
                        let message = format!("\"{}\" must be a duration, not {text:?}", key.name);
                        checker.problem_with_hint(
                            &node.at,
                            message,
                            "seconds as an integer, or a string with ms, s, m, h, d or w, such as \"10s\"",
                        );
                        return None;
                    };
                    (Some(value), show_duration(value))
                }
                _ => {
                    checker.wrong_kind(key, node, "a number of seconds or a string such as \"10s\"");
                    return None;
                }
            };
            let bounds = Duration::from_millis(min_ms)..=Duration::from_millis(max_ms);
            let within = value.filter(|value| bounds.contains(value));
            if within.is_none() {
                checker.out_of_bounds(key, &node.at, &shown);
            }
            within.map(Some)
        })
        .flatten()
    }

    /// A duration of a key that has no "never".
    pub(super) fn time(&mut self, view: &View<'_>, name: &str) -> Duration {
        self.time_or_never(view, name).unwrap_or_default()
    }
}
