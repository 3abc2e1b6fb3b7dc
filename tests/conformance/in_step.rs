//! The list of statements and the tests name each other, and the list of gaps can only shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct List {
    /// How many reasons may start with `gap:`. Lower it when a gap is closed.
    gaps_max: usize,
    statement: Vec<Statement>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    id: String,
    says: String,
    #[serde(default)]
    tests: Vec<String>,
    reason: Option<String>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

fn list() -> List {
    let text = fs::read_to_string(directory().join("statements.toml")).expect("the list of statements");
    toml::from_str(&text).expect("the list of statements parses")
}

/// The tests of this directory, each with the statements that its doc comment names.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory()).expect("the directory of the tests") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "rs") || path.ends_with("in_step.rs") {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source file");
        let mut named = BTreeSet::new();
        let mut is_test = false;
        for line in source.lines() {
            if let Some(doc) = line.strip_prefix("/// ") {
                named.extend(statements_in(doc));
            } else if line == "#[test]" {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
                let name = rest.split('(').next().expect("a name").to_owned();
                assert!(!all.contains_key(&name), "two tests are called {name}");
                all.insert(name, std::mem::take(&mut named));
                is_test = false;
            } else {
                named.clear();
            }
        }
    }
    all
}

fn statements_in(doc: &str) -> Vec<String> {
    let starts_an_id = |part: &&str| part.starts_with("MQTT3-") || part.starts_with("MQTT5-");
    doc.split(['[', ']']).filter(starts_an_id).map(str::to_owned).collect()
}

#[test]
fn each_statement_has_tests_or_a_reason_and_is_said_once() {
    let mut seen = BTreeSet::new();
    for statement in list().statement {
        let Statement { id, says, tests, reason } = statement;
        assert!(seen.insert(id.clone()), "{id} is listed twice");
        assert!(says.ends_with('.'), "{id} says a sentence");
        let reason = reason.unwrap_or_default();
        assert!(tests.is_empty() != reason.is_empty(), "{id} has either tests or a reason");
        assert!(tests.iter().collect::<BTreeSet<_>>().len() == tests.len(), "{id} names a test twice");
    }
    let of = |version: &str| seen.iter().filter(|id| id.starts_with(version)).count();
    assert_eq!((of("MQTT3-"), of("MQTT5-")), (141, 251), "every statement of both specifications");
}

#[test]
fn each_test_that_the_list_names_exists_and_names_the_statement() {
    let tests = tests();
    for statement in list().statement {
        for name in &statement.tests {
            let named =
                tests.get(name).unwrap_or_else(|| panic!("{}: there is no test {name}", statement.id));
            assert!(
                named.contains(&statement.id),
                "{name} does not name {} in its doc comment",
                statement.id
            );
        }
    }
}

#[test]
fn each_conformance_test_is_named_by_the_statements_it_names() {
    let listed: BTreeMap<String, Vec<String>> =
        list().statement.into_iter().map(|s| (s.id, s.tests)).collect();
    for (name, named) in tests() {
        assert!(!named.is_empty(), "{name} names no statement");
        for id in named {
            let tests = listed.get(&id).unwrap_or_else(|| panic!("{name} names {id}, which is not listed"));
            assert!(tests.contains(&name), "statements.toml: {id} lacks the test {name}");
        }
    }
}

#[test]
fn gaps_only_become_fewer() {
    let list = list();
    let gaps =
        list.statement.iter().filter(|s| s.reason.as_ref().is_some_and(|r| r.starts_with("gap:"))).count();
    assert_eq!(gaps, list.gaps_max, "gaps-max is the number of gaps: lower it with them, never raise it");
}
