//! Reads a `mosquitto.conf`, so that a broker with mutual TLS can be replaced by this one on the same files.
//!
//! Every option of mosquitto.conf(5), 2.0 and 2.1, has a [`Verdict`] and a sentence. An option that we cannot honour
//! and whose loss would admit or trust somebody whom the author did not mean, or lock everybody out, stops the start
//! ([`Line::stops`]); the loss of any other one is a warning.

use crate::{Checked, Problem};
use std::path::{Path, PathBuf};

/// What became of one line of a `mosquitto.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file that the line is in (an `include_dir` adds files).
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The option's name, as written.
    pub option: String,
    /// The rest of the line, trimmed.
    pub value: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Whether the broker does not start on this file because of this line.
    pub stops: bool,
    /// What it means here, or what to do instead, in a sentence.
    pub note: String,
}

/// What became of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It means here exactly what it means in Mosquitto, or is true here without being said.
    Kept,
    /// One of our settings does the same.
    Mapped,
    /// One of our settings does nearly the same; the note says the difference.
    Changed,
    /// There is nothing like it.
    Unsupported,
}

impl Verdict {
    /// The word in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Mapped => "mapped",
            Self::Changed => "changed",
            Self::Unsupported => "unsupported",
        }
    }
}

/// A `mosquitto.conf`, understood.
#[derive(Debug, Clone)]
pub struct Import {
    /// Every line that says something, in order.
    pub lines: Vec<Line>,
    /// The settings it comes to; or every reason why the broker must not start on it, lines that
    /// [stop](Line::stops) included.
    pub config: Result<Checked, Vec<Problem>>,
    /// The same settings in our TOML. When the file stops, what could be understood of it, to be completed by hand.
    pub toml: String,
}

/// Understands `text`, the content of `file`. As in Mosquitto, relative paths are relative to `working_directory`.
/// An `include_dir` is reported as a problem: use [`load`] to follow it.
#[must_use]
pub fn import(_text: &str, _file: &Path, _working_directory: &Path) -> Import {
    todo!()
}

/// Reads and understands the file at `path` and what its `include_dir` names.
///
/// # Errors
/// When a file cannot be read. What is wrong inside a file is in [`Import::config`].
pub fn load(_path: &Path, _working_directory: &Path) -> Result<Import, Problem> {
    todo!()
}
