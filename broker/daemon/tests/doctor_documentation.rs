//! The page about the doctor says what the table of findings says, row by row.

use std::fmt::Write as _;
use std::path::Path;

use signet::cli::doctor::{Finding, Kind};

fn row(kind: &Kind) -> String {
    let openssl = kind.openssl.map_or_else(String::new, |known| format!("{}, {}", known.number, known.name));
    // A bar ends a cell.
    let cell = |text: &str| text.replace('|', "\\|");
    format!(
        "| `{}` | {} | {openssl} | {} | {} |",
        kind.code,
        kind.severity.as_str(),
        cell(kind.about),
        cell(kind.advice)
    )
}

#[test]
fn every_finding_stands_in_the_page_as_the_code_has_it_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/doctor.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut expected = String::from(
        "| code | severity | `openssl verify` | what it means | what to do |\n|---|---|---|---|---|\n",
    );
    for kind in Finding::KINDS {
        writeln!(expected, "{}", row(kind)).unwrap();
    }
    let (_, found) = page.split_once("## Every finding\n\n").unwrap();
    assert_eq!(found, expected, "the table at the end of broker/docs/doctor.md should be\n\n{expected}");
}
