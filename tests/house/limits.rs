//! The page of limits names every bound that there is, with its default.

use crate::root;
use signet_config::{KEYS, Section};
use std::fs;
use std::path::{Path, PathBuf};

/// The cells of each row of the table.
fn rows() -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("broker/docs/limits.md")).expect("the page is there");
    let (_, table) = page.split_once("| bound | unit | default |").expect("the page has its table");
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    table.lines().skip(2).filter(|line| line.starts_with('|')).map(cells).collect()
}

/// Whether something that ends like this bounds what others can make grow.
fn bounds(name: &str) -> bool {
    name.ends_with("-max") || name.starts_with("max-") || name.ends_with("-timeout") || name.contains("-per-")
}

#[test]
fn every_row_has_a_unit_a_default_what_happens_and_a_counter() {
    let rows = rows();
    assert!(rows.len() > 100, "{} rows", rows.len());
    for row in rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

#[test]
fn every_key_that_bounds_something_stands_in_the_table_with_its_default() {
    let rows = rows();
    for key in KEYS {
        let name = match key.section {
            Section::Limits => format!("`{}`", key.name),
            _ if bounds(key.name) => format!("`{}` of `{}`", key.name, key.section.header()),
            _ => continue,
        };
        let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
        let row = rows.iter().find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("broker/docs/limits.md has no row for {name}"));
        assert_eq!(row[2], default, "{name}");
    }
    let known = |name: &str| KEYS.iter().any(|key| name.starts_with(&format!("`{}`", key.name)));
    for row in rows.iter().filter(|row| !row[0].contains('(')) {
        assert!(known(&row[0]), "there is no key {}", row[0]);
    }
}

#[test]
fn every_limit_of_the_core_is_a_key_or_stands_in_the_table() {
    /// Of the size of things that are kept, and no bound.
    const INNER: &str = "payload_copy_bytes_max";
    let limits = format!("{:#?}", signet_core::Limits::default());
    let fields = limits.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(": "));
    let fields: Vec<_> = fields.map(|(name, _)| name).filter(|name| !name.starts_with(' ')).collect();
    assert!(fields.len() > 25, "{fields:?}");
    for field in fields.into_iter().filter(|field| *field != INNER) {
        // Keys do not say the unit of a time.
        let key = field.replace("_secs", "").replace('_', "-");
        let found = KEYS.iter().any(|known| known.section == Section::Limits && known.name == key);
        assert!(found, "{field} of the core's limits has no key {key}");
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_constant_that_is_a_bound_stands_in_the_table_with_its_value() {
    let broker = root().join("broker");
    let mut files = Vec::new();
    for part in ["wire", "identity", "core", "registry", "daemon"] {
        sources(&broker.join(part).join("src"), &mut files);
    }
    let rows = rows();
    let mut count = 0;
    for file in files {
        let place = file.strip_prefix(&broker).expect("it is below").display().to_string();
        // What a command prints or reads is bounded too, and is no business of the running broker.
        if place.contains("/cli/") || place.contains("tests") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file");
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in text.lines() {
            let Some((_, constant)) = line.split_once("const ") else { continue };
            let Some((name, rest)) = constant.split_once(": ") else { continue };
            let is_name =
                name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
            if !is_name || !name.ends_with("_MAX") || line.trim_start().starts_with("//") {
                continue;
            }
            let Some((_, value)) = rest.split_once(" = ") else { continue };
            let value = value.trim_end_matches(';');
            let wanted = format!("`{name}` (`{place}`)");
            let row = rows.iter().find(|row| row[0] == wanted);
            let row = row.unwrap_or_else(|| panic!("broker/docs/limits.md has no row for {wanted}"));
            assert_eq!(row[2], format!("`{value}`"), "{wanted}");
            count += 1;
        }
    }
    assert!(count > 60, "{count} constants");
}

#[test]
fn every_counter_of_an_event_that_the_page_names_is_one_of_the_core() {
    let counts = signet_core::Counts::default();
    let known: Vec<&str> = counts.named().map(|(name, _)| name).collect();
    let mut count = 0;
    for row in rows() {
        for named in row[4].split("event=\"").skip(1) {
            let name = named.split('"').next().unwrap_or_default();
            assert!(known.contains(&name), "there is no counter {name}");
            count += 1;
        }
    }
    assert!(count > 8, "{count} counters");
}
