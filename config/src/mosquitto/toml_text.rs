//! Writes the raw tree as our TOML.

use crate::raw::{Node, Table, Value};
use crate::schema::Section;
use std::fmt::Write as _;

/// The tree as TOML, tables in the order of the documentation, with `head` as comment lines before it.
pub(super) fn write(root: &Table, head: &[String]) -> String {
    let mut out = String::new();
    for line in head {
        out.push_str("# ");
        // A comment ends with its line, whatever the text holds.
        out.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
        out.push('\n');
    }
    for section in Section::ALL {
        let Some(entry) = root.get(section.name()) else { continue };
        match &entry.node.value {
            Value::List(tables) => tables.iter().for_each(|node| table(&mut out, section, node)),
            _ => table(&mut out, section, &entry.node),
        }
    }
    out
}

fn table(out: &mut String, section: Section, node: &Node) {
    let Value::Table(table) = &node.value else { return };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\n{}", section.header());
    for entry in &table.entries {
        let _ = writeln!(out, "{} = {}", entry.name, value(&entry.node.value));
    }
}

fn value(from: &Value) -> String {
    match from {
        Value::Text(text) => string(text),
        Value::Integer(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::List(nodes) => {
            format!("[{}]", nodes.iter().map(|node| value(&node.value)).collect::<Vec<_>>().join(", "))
        }
        Value::Table(_) | Value::Other(_) => String::new(),
    }
}

/// A TOML basic string.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::At;
    use std::path::Path;

    #[test]
    fn a_string_survives_whatever_it_contains() {
        for text in ["plain", "a\"b", "a\\b", "line\nfeed", "\u{7f}\u{85}", "ö 1"] {
            let mut table = Table::default();
            table.set("file", Value::Text(text.to_owned()), &At::default());
            let mut root = Table::default();
            root.set("acl", Value::Table(table), &At::default());
            let (read, problems) = crate::raw::parse(&write(&root, &[]), Path::new("x"));
            assert!(problems.is_empty(), "{text:?}: {problems:?}");
            let Value::Table(acl) = &read.get("acl").unwrap().node.value else { panic!("no table") };
            assert!(
                matches!(&acl.get("file").unwrap().node.value, Value::Text(back) if back == text),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_comment_stays_one_line() {
        let text = write(&Table::default(), &["a\nb = 1".to_owned()]);
        assert_eq!(text, "# a b = 1\n");
    }
}
