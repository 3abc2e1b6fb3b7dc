//! `Cargo.lock` keeps the house rules of `deny.toml`, also where `cargo deny` is not installed.

use std::collections::BTreeMap;
use std::path::Path;
use toml::Value;

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse::<toml::Table>().map(Value::Table).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Each crate of the lock file with its versions and where they come from.
fn locked() -> BTreeMap<String, Vec<(String, Option<String>)>> {
    let mut crates: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for package in read("Cargo.lock")["package"].as_array().expect("packages") {
        let text = |key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
        let (name, version) = (text("name").expect("a name"), text("version").expect("a version"));
        crates.entry(name).or_default().push((version, text("source")));
    }
    crates
}

#[test]
fn no_banned_crate_is_locked() {
    let (crates, rules) = (locked(), read("deny.toml"));
    let banned = rules["bans"]["deny"].as_array().expect("a list of banned crates");
    assert!(banned.iter().any(|rule| rule["name"].as_str() == Some("ring")), "ring must stay banned");
    for rule in banned {
        let name = rule["name"].as_str().expect("a name");
        assert!(!crates.contains_key(name), "Cargo.lock has {name}: {}", rule["reason"]);
    }
}

#[test]
fn what_must_be_there_once_is_locked_once() {
    let (crates, rules) = (locked(), read("deny.toml"));
    let single = rules["bans"]["deny-multiple-versions"].as_array();
    for name in single.expect("a list of crates").iter().filter_map(Value::as_str) {
        let versions = crates.get(name).map_or(0, Vec::len);
        assert!(versions <= 1, "Cargo.lock has {versions} versions of {name}");
    }
    assert_eq!(crates.get("rustls").map(Vec::len), Some(1), "rustls is the TLS stack");
}

#[test]
fn every_crate_is_ours_or_of_the_public_registry() {
    for (name, versions) in locked() {
        for (version, source) in versions {
            let known = match &source {
                None => name.starts_with("signet"),
                Some(source) => source.starts_with("registry+"),
            };
            assert!(known, "{name} {version} comes from {source:?}");
        }
    }
}
