//! The dependencies keep the house rules of `deny.toml`, also where `cargo deny` is not installed.
//!
//! `Cargo.lock` alone cannot tell: it names optional crates that no feature of ours turns on. `cargo tree` does.

mod architecture;
mod limits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use toml::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> Value {
    let path = root().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse::<toml::Table>().map(Value::Table).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The crates that are really built, tests and build scripts included, each with its versions.
fn built() -> BTreeMap<String, Vec<String>> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--locked", "--edges", "all", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let mut crates: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&tree.stdout).lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next().filter(|word| word.starts_with('v')))
        {
            let versions = crates.entry(name.to_owned()).or_default();
            if !versions.iter().any(|known| known == version) {
                versions.push(version.to_owned());
            }
        }
    }
    assert!(crates.contains_key("rustls"), "rustls is the TLS stack; did cargo tree change its output?");
    crates
}

#[test]
fn no_banned_crate_is_built() {
    let (crates, rules) = (built(), read("deny.toml"));
    let banned = rules["bans"]["deny"].as_array().expect("a list of banned crates");
    assert!(banned.iter().any(|rule| rule["name"].as_str() == Some("ring")), "ring must stay banned");
    for rule in banned {
        let name = rule["name"].as_str().expect("a name");
        assert!(!crates.contains_key(name), "{name} is built: {}", rule["reason"]);
    }
}

#[test]
fn what_must_be_there_once_is_built_once() {
    let (crates, rules) = (built(), read("deny.toml"));
    let single = rules["bans"]["deny-multiple-versions"].as_array();
    for name in single.expect("a list of crates").iter().filter_map(Value::as_str) {
        let versions = crates.get(name).map_or(&[][..], Vec::as_slice);
        assert!(versions.len() <= 1, "{name} is built in several versions: {versions:?}");
    }
}

#[test]
fn every_crate_is_ours_or_of_the_public_registry() {
    for package in read("Cargo.lock")["package"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let known = match package.get("source").and_then(Value::as_str) {
            None => name.starts_with("signet"),
            Some(source) => source.starts_with("registry+"),
        };
        assert!(known, "{name} comes from {:?}", package.get("source"));
    }
}
