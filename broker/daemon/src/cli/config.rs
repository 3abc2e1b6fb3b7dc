//! `signet check` and `signet import`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use signet_config::mosquitto;
use signet_registry::Wall;

use super::args::CheckArgs;
use super::config_source;
use super::out::{Failure, Outcome, say, say_json};
use crate::ca::Authority;
use crate::clock::{Clock, Judge};
use crate::lists::Memory;
use crate::start;
use crate::state;

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct CheckReport {
    problems: Vec<String>,
    warnings: Vec<String>,
}

/// Every problem of a configuration and of every file that it names.
pub fn check(args: &CheckArgs) -> Result<Outcome, Failure> {
    let source = config_source(&args.source)?;
    let mut report = CheckReport { problems: Vec::new(), warnings: Vec::new() };
    match start::read(&source) {
        Err(problems) => report.problems.extend(problems.iter().map(ToString::to_string)),
        Ok(config) => {
            report.warnings.extend(config.warnings.iter().map(ToString::to_string));
            let seen = Memory::open(&config).unwrap_or_else(|error| {
                report.problems.push(error.to_string());
                Memory::default()
            });
            match state::build(&config, None, seen.editions(), &Arc::new(Judge::new(Clock::start()))) {
                Ok(built) => report.warnings.extend(built.warnings),
                Err(error) => report.problems.extend(error.problems),
            }
            if let Some(ca) = &config.ca
                && let Err(error) = Authority::load(ca, Wall(crate::clock::wall().0))
            {
                report.problems.push(error.to_string());
            }
        }
    }
    if args.json {
        say_json(&report)?;
    } else {
        let mut text = String::new();
        for problem in &report.problems {
            let _ = writeln!(text, "error: {problem}");
        }
        for warning in &report.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        match report.problems.len() {
            0 => text.push_str("the configuration is good\n"),
            1 => text.push_str("1 problem\n"),
            many => {
                let _ = writeln!(text, "{many} problems");
            }
        }
        say(&text);
    }
    Ok(if report.problems.is_empty() { Outcome::Done } else { Outcome::Found })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ImportReport {
    options: Vec<ImportedOption>,
    remarks: Vec<String>,
    problems: Vec<String>,
    toml: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ImportedOption {
    file: String,
    line: u32,
    option: String,
    value: String,
    verdict: &'static str,
    stops_the_start: bool,
    note: String,
}

/// How each option of a mosquitto.conf is understood, and the same as TOML.
pub fn import_mosquitto(file: &Path, output: Option<&Path>, json: bool) -> Result<Outcome, Failure> {
    let import = mosquitto::load(file, &working_directory()?)
        .map_err(|problem| Failure::usage(problem.to_string()))?;
    let report = ImportReport {
        options: import
            .lines
            .iter()
            .map(|line| ImportedOption {
                file: line.file.display().to_string(),
                line: line.line,
                option: line.option.clone(),
                value: line.value.clone(),
                verdict: line.verdict.as_str(),
                stops_the_start: line.stops,
                note: line.note.clone(),
            })
            .collect(),
        remarks: import.remarks.clone(),
        problems: match &import.config {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        },
        toml: import.toml.clone(),
    };
    if let Some(path) = output {
        std::fs::File::create_new(path)
            .and_then(|mut out| out.write_all(report.toml.as_bytes()))
            .map_err(|error| Failure::usage(format!("{} cannot be written: {error}", path.display())))?;
    }
    let outcome = if report.problems.is_empty() { Outcome::Done } else { Outcome::Found };
    if json {
        say_json(&report)?;
        return Ok(outcome);
    }
    // As comments, so that the report and the TOML together are still a configuration file.
    let mut text: String = import.report().lines().map(|line| format!("# {line}\n")).collect();
    for problem in &report.problems {
        for line in problem.lines() {
            let _ = writeln!(text, "# error: {line}");
        }
    }
    if output.is_none() {
        let _ = write!(text, "\n{}", report.toml);
    }
    say(&text);
    Ok(outcome)
}

/// The folder that relative paths in a mosquitto.conf are relative to.
pub(crate) fn working_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::usage(format!("the working directory is unknown: {error}")))
}
