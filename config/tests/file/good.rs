//! A configuration that is right, to be extended and to be spoiled.

use signet_config::{Checked, Problem, parse};
use std::path::Path;

/// `[[listener]]` on lines 1 to 5, and `[acl]` on lines 6 and 7.
pub(crate) const GOOD: &str = "[[listener]]
address = \"127.0.0.1:8883\"
certificate = \"server.pem\"
private-key = \"server.key\"
client-ca = [\"ca.pem\"]
[acl]
file = \"acl.conf\"
";

/// What is read from the text as `/etc/signet/signet.toml`.
pub(crate) fn parsed(text: &str) -> Result<Checked, Vec<Problem>> {
    parse(text, Path::new("/etc/signet/signet.toml"))
}

pub(crate) fn problems(text: &str) -> Vec<Problem> {
    parsed(text).expect_err(text)
}

/// The good configuration with `tail` after it, which begins on line 8.
pub(crate) fn with(tail: &str) -> String {
    format!("{GOOD}{tail}\n")
}

/// The good configuration with `old` replaced.
pub(crate) fn instead(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replace(old, new)
}

/// What is read from the good configuration with `more` after it.
pub(crate) fn read(more: &str) -> Result<Checked, Vec<Problem>> {
    parsed(&with(more))
}

/// The only thing wrong with the good configuration with `more` after it.
pub(crate) fn refusal(more: &str) -> Problem {
    let mut problems = problems(&with(more));
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}
