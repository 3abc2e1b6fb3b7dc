//! The raw tree: every key and value with the place it was written at, and nothing judged.
//!
//! It is built from TOML by [`parse`] and from `mosquitto.conf` by the importer, so that both are checked by the same
//! code and a problem always points at the line that the operator wrote.

use crate::Problem;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct At {
    /// The file, when it is not the one being checked (an included one).
    pub(crate) file: Option<PathBuf>,
    /// From 1; 0 for the file as a whole.
    pub(crate) line: u32,
    /// In characters, from 1; 0 for the line as a whole.
    pub(crate) column: u32,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What a value can be. Floats and dates have no use here; they keep their TOML name for the message.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    Other(&'static str),
}

impl Value {
    /// What it is, with its article, for messages.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// A key and its place, and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) at: At,
    pub(crate) node: Node,
}

/// Keys and values in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

impl Table {
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Sets `name`, replacing an earlier value.
    pub(crate) fn set(&mut self, name: &str, value: Value, at: &At) {
        let node = Node { at: at.clone(), value };
        match self.entries.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => {
                entry.at = at.clone();
                entry.node = node;
            }
            None => self.entries.push(Entry { name: name.to_owned(), at: at.clone(), node }),
        }
    }
}

/// Reads TOML. What could be understood of it comes back beside the syntax errors, so that the rest of the file can
/// be checked in the same run.
pub(crate) fn parse(text: &str, file: &Path) -> (Table, Vec<Problem>) {
    let places = Places::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let problems = errors
        .iter()
        .map(|error| {
            let at = places.at(error.span().map_or(0, |span| span.start));
            let message = format!("not valid TOML: {}", error.message().replace('\n', ", "));
            Problem { file: file.to_owned(), line: at.line, column: at.column, message, hint: None }
        })
        .collect();
    (table(root.get_ref(), &places), problems)
}

fn table(from: &DeTable<'_>, places: &Places<'_>) -> Table {
    let mut ordered: Vec<_> = from.iter().collect();
    ordered.sort_by_key(|(name, _)| name.span().start);
    let entries = ordered
        .into_iter()
        .map(|(name, value)| Entry {
            name: name.get_ref().to_string(),
            at: places.at(name.span().start),
            node: node(value, places),
        })
        .collect();
    Table { entries }
}

fn node(from: &Spanned<DeValue<'_>>, places: &Places<'_>) -> Node {
    let value = match from.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("an integer of more than 64 bits"), Value::Integer),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Array(items) => Value::List(items.iter().map(|item| node(item, places)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, places)),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
    };
    Node { at: places.at(from.span().start), value }
}

/// The bytes of a text whose characters are counted together.
const BLOCK_BYTES: usize = 64;

/// Turns byte offsets into lines and columns, each in a time that does not depend on how long the line is: a file may
/// be one line with half a million values.
struct Places<'a> {
    text: &'a [u8],
    line_starts: Vec<usize>,
    /// How many characters begin before each block, and before the end of the text.
    chars_before: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let text = text.as_bytes();
        let mut before = 0;
        let counted = text.chunks(BLOCK_BYTES).map(|block| {
            before += first_bytes(block);
            before
        });
        let chars_before = std::iter::once(0).chain(counted).collect();
        Self { text, line_starts, chars_before }
    }

    fn at(&self, offset: usize) -> At {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let column = self.chars_to(offset).saturating_sub(self.chars_to(start)) + 1;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        At { file: None, line: count(line), column: count(column) }
    }

    /// How many characters begin before `offset`, which is taken for the end of the text when it is behind it.
    fn chars_to(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        let block = offset / BLOCK_BYTES;
        let begun = self.text.get(block * BLOCK_BYTES..offset).map_or(0, first_bytes);
        self.chars_before.get(block).copied().unwrap_or(0) + begun
    }
}

/// How many characters of UTF-8 begin in `bytes`.
fn first_bytes(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_not_bytes() {
        let places = Places::new("a = 1\nä = 'ö' x\n");
        let at = places.at("a = 1\nä = 'ö' ".len());
        assert_eq!((at.line, at.column), (2, 9));
    }

    #[test]
    fn a_column_is_the_same_however_far_into_a_line_it_is() {
        let text = format!("a = 1\nb = '{}'\n\nc = 2", "xöö€".repeat(50));
        let places = Places::new(&text);
        let mut expected = (1, 1);
        for (offset, character) in text.char_indices() {
            let at = places.at(offset);
            assert_eq!((at.line, at.column), expected, "at byte {offset}");
            expected = if character == '\n' { (expected.0 + 1, 1) } else { (expected.0, expected.1 + 1) };
        }
        let end = places.at(text.len());
        assert_eq!((end.line, end.column), expected);
    }

    #[test]
    fn an_offset_at_the_end_of_the_text_is_on_the_last_line() {
        let at = Places::new("a\nb").at(3);
        assert_eq!((at.line, at.column), (2, 2));
    }

    #[test]
    fn entries_keep_the_order_of_the_file() {
        let (root, problems) = parse("b = 1\na = 2\n", Path::new("x.toml"));
        assert!(problems.is_empty());
        let names: Vec<_> = root.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
