//! Reads a `mosquitto.conf`, so that a broker with mutual TLS can be replaced by this one on the same files.
//!
//! Every option of mosquitto.conf(5), 2.0 and 2.1, has a [`Verdict`] and a sentence. An option that we cannot honour
//! and whose loss would admit or trust somebody whom the author did not mean, or lock everybody out, stops the start
//! ([`Line::stops`]); the loss of any other one is a warning.

mod importer;
mod options;
mod settings;
mod toml_text;

use crate::{Checked, Problem};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The most files that an `include_dir` may add.
const INCLUDED_FILES_MAX: usize = 1000;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// What Mosquitto does without being told and was therefore set here too, and what it cannot tell us: a sentence
    /// each.
    pub remarks: Vec<String>,
    /// The settings it comes to; or every reason why the broker must not start on it, lines that
    /// [stop](Line::stops) included.
    pub config: Result<Checked, Vec<Problem>>,
    /// The same settings in our TOML. When the file stops, what could be understood of it, to be completed by hand.
    pub toml: String,
}

impl Import {
    /// The lines that an operator should know about though the broker starts: changed and unsupported ones.
    pub fn warnings(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| !line.stops && line.verdict >= Verdict::Changed)
    }

    /// The whole report for people: each line with its verdict, then the remarks.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let stops = if line.stops { " (stops the start)" } else { "" };
            let (verdict, file) = (line.verdict.as_str(), line.file.display());
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{verdict:<11} {} {}{stops}\n            {file}:{}: {}",
                line.option, line.value, line.line, line.note
            );
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "remark      {remark}");
        }
        text
    }
}

/// Understands `text`, the content of `file`. As in Mosquitto, relative paths are relative to `working_directory`.
/// The files of an `include_dir` are not read, and the line stops: use [`load`] to follow it.
#[must_use]
pub fn import(text: &str, file: &Path, working_directory: &Path) -> Import {
    importer::run(text, file, working_directory, &mut |_| {
        Err("the folder is only read when the file itself is loaded".to_owned())
    })
}

/// Reads and understands the file at `path` and the `*.conf` files of its `include_dir`.
///
/// # Errors
/// When the file cannot be read. What is wrong inside it, an unreadable `include_dir` included, is in
/// [`Import::config`].
pub fn load(path: &Path, working_directory: &Path) -> Result<Import, Problem> {
    let text = crate::read(path)?;
    Ok(importer::run(&text, path, working_directory, &mut included))
}

/// The `*.conf` files of a folder with their texts, in the order in which Mosquitto reads them: by name, upper and lower
/// case alike.
fn included(folder: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
        if files.len() > INCLUDED_FILES_MAX {
            return Err(format!("it has more than {INCLUDED_FILES_MAX} *.conf files"));
        }
    }
    files.sort_by_cached_key(|path| path.to_string_lossy().to_ascii_lowercase());
    files
        .into_iter()
        .map(|path| crate::read(&path).map(|text| (path, text)).map_err(|problem| problem.to_string()))
        .collect()
}
