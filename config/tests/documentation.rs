//! The configuration page says what the table of keys says, key by key.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use signet_config::{KEYS, Key, Section};
use std::fmt::Write as _;
use std::path::Path;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/docs/configuration.md");
    std::fs::read_to_string(path).unwrap()
}

fn row(key: &Key) -> String {
    let default = match (key.required, key.default) {
        (true, _) => "required".to_owned(),
        (false, "") => "none".to_owned(),
        (false, default) => format!("`{default}`"),
    };
    format!("| `{}` | {} | {default} | {} | {} |", key.name, key.bounds(), key.takes_effect, key.about)
}

fn table(section: Section) -> String {
    let mut text = String::from("| key | value | default | changes at | meaning |\n|---|---|---|---|---|\n");
    for key in section.keys() {
        writeln!(text, "{}", row(key)).unwrap();
    }
    text
}

#[test]
fn every_table_of_keys_stands_in_the_page_as_the_code_has_it() {
    let page = page();
    for section in Section::ALL {
        let expected = table(section);
        assert!(
            page.contains(&expected),
            "broker/docs/configuration.md: {} should be\n\n{expected}",
            section.header()
        );
        assert!(page.contains(&format!("## `{}`", section.header())), "no heading for {}", section.header());
    }
}

#[test]
fn the_page_has_no_row_for_a_key_that_does_not_exist() {
    let page = page();
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 4);
    let mut count = 0;
    for line in rows {
        assert!(KEYS.iter().any(|key| row(key) == line), "no key is described by\n{line}");
        count += 1;
    }
    assert_eq!(count, KEYS.len());
}
