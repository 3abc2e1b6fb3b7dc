//! `signet device add --from`: many devices, in parts, and again from where it stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use signet_identity::ThingName;

use super::args::AddArgs;
use super::folder::Folder;
use crate::admin::registry::api::{AddDevice, AddDevices, Added};
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};

/// Devices in one request: few enough to be answered soon, enough to share the waits for the disk.
const DEVICES_AT_ONCE: usize = 100;
/// The largest list that is read, in bytes: some hundred thousand devices.
const LIST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Problems shown in the table of lines that cannot be used.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// What came of it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    /// Devices that got a certificate now.
    added: usize,
    /// Devices that had one for this key at the broker, and got it again.
    fetched: usize,
    /// Devices whose folder was complete before.
    complete: usize,
    /// Devices that were refused.
    refused: Vec<Refusal>,
}

#[derive(Debug, Serialize)]
struct Refusal {
    name: String,
    problem: String,
}

pub(super) fn add(args: &AddArgs) -> Result<Outcome, Failure> {
    let (Some(from), Some(out)) = (&args.from, &args.out) else {
        return Err(Failure::usage("--from needs --out"));
    };
    let devices = read(from, args)?;
    let bar = if args.admin.json { ProgressBar::hidden() } else { ProgressBar::new(devices.len() as u64) };
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {pos}/{len} devices, {per_sec}, {eta} left {msg}")
    {
        bar.set_style(style);
    }
    let mut report = Report::default();
    for part in devices.chunks(DEVICES_AT_ONCE) {
        let done = add_part(args, out, part, &mut report);
        if let Err(failure) = done {
            bar.abandon_with_message("stopped: the same command goes on from here");
            return Err(failure);
        }
        bar.inc(part.len() as u64);
    }
    bar.finish();
    let outcome = if report.refused.is_empty() { Outcome::Done } else { Outcome::Found };
    if args.admin.json {
        say_json(&report)?;
        return Ok(outcome);
    }
    let mut text = format!(
        "{} devices got a certificate, {} fetched theirs again, {} were complete\n",
        report.added, report.fetched, report.complete
    );
    for Refusal { name, problem } in &report.refused {
        let _ = writeln!(text, "refused: {name}: {problem}");
    }
    say(&text);
    Ok(outcome)
}

fn add_part(args: &AddArgs, out: &Path, part: &[AddDevice], report: &mut Report) -> Result<(), Failure> {
    let mut asked = Vec::new();
    let mut folders = BTreeMap::new();
    for device in part {
        let folder = Folder::of(out, &device.name)?;
        if folder.is_complete() {
            report.complete += 1;
            continue;
        }
        let public_key = Some(folder.key()?);
        asked.push(AddDevice { public_key, ..device.clone() });
        folders.insert(device.name.clone(), folder);
    }
    if asked.is_empty() {
        return Ok(());
    }
    let wanted = AddDevices { devices: asked };
    let added: Added = call(&args.admin, Method::POST, "/registry/devices/add", Some(&wanted))?;
    for device in added.devices {
        match (device.problem, device.certificate, folders.get(&device.name)) {
            (None, Some(certificate), Some(folder)) => {
                folder.store(&device.name, &certificate, added.issuer.as_deref())?;
                if certificate.already { report.fetched += 1 } else { report.added += 1 }
            }
            (problem, ..) => {
                let problem = problem.unwrap_or_else(|| "the broker gave no certificate".to_owned());
                report.refused.push(Refusal { name: device.name, problem });
            }
        }
    }
    Ok(())
}

/// Reads the list whole, so that a mistake in its last line shows before anything is done.
fn read(path: &Path, args: &AddArgs) -> Result<Vec<AddDevice>, Failure> {
    let unreadable = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > LIST_BYTES_MAX {
        return Err(unreadable(format!("a list has at most {} MiB: divide it", LIST_BYTES_MAX >> 20)));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let (devices, problems) = parse(&text, args);
    if problems.is_empty() {
        return Ok(devices);
    }
    let mut said = String::new();
    for problem in problems.iter().take(PROBLEMS_SHOWN_MAX) {
        let _ = writeln!(said, "{}:{problem}", path.display());
    }
    if problems.len() > PROBLEMS_SHOWN_MAX {
        let _ = writeln!(said, "and {} more", problems.len() - PROBLEMS_SHOWN_MAX);
    }
    said.push_str("nothing was done");
    Err(Failure::found(said))
}

/// The devices of a list; and its problems, each beginning with the number of the line.
fn parse(text: &str, args: &AddArgs) -> (Vec<AddDevice>, Vec<String>) {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return (Vec::new(), vec![format!("1: {error}")]),
    };
    let Some(name_column) = header.iter().position(|column| matches!(column, "name" | "serial")) else {
        return (
            Vec::new(),
            vec!["1: the first line must name the columns, one of them `name` or `serial`".to_owned()],
        );
    };
    let mut devices = Vec::new();
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                problems.push(format!("{line}: {error}"));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let mut device = AddDevice {
            thing_type: args.thing_type.clone(),
            groups: args.groups.clone(),
            ..AddDevice::default()
        };
        for (index, (column, value)) in header.iter().zip(&record).enumerate() {
            match column {
                _ if index == name_column => device.name = value.to_owned(),
                _ if value.is_empty() => {}
                "type" => device.thing_type = Some(value.to_owned()),
                "groups" => device.groups.extend(value.split_whitespace().map(str::to_owned)),
                other => {
                    device.attributes.insert(other.to_owned(), value.to_owned());
                }
            }
        }
        match ThingName::try_from(device.name.as_str()) {
            Err(error) => problems.push(format!("{line}: {:?} cannot be a name: {error}", device.name)),
            Ok(name) if !names.insert(name.clone()) => problems.push(format!("{line}: {name} comes twice")),
            Ok(_) => devices.push(device),
        }
    }
    (devices, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(line: &str) -> AddArgs {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: AddArgs,
        }
        Line::try_parse_from(line.split(' ')).unwrap().args
    }

    fn plain() -> AddArgs {
        args("add --from list.csv --out o --socket s")
    }

    #[test]
    fn columns_become_type_groups_and_attributes() {
        let text = "serial,type,groups,site\nsn-1,esp32, outdoor spare ,\"hall 3, north\"\nsn-2,,,\n";
        let (devices, problems) =
            parse(text, &args("add --from l --out o --socket s --group fleet --type plain"));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(devices[0].name, "sn-1");
        assert_eq!(devices[0].thing_type.as_deref(), Some("esp32"));
        assert_eq!(devices[0].groups, ["fleet", "outdoor", "spare"]);
        assert_eq!(devices[0].attributes["site"], "hall 3, north");
        assert_eq!(devices[1].thing_type.as_deref(), Some("plain"));
        assert!(devices[1].attributes.is_empty());
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let (_, problems) = parse("name,site\nsn-1,a\nsn-1,b\n../x,c\nsn-2\n", &plain());
        let lines: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
        assert_eq!(lines, ["3", "4", "5"], "{problems:?}");
    }

    #[test]
    fn a_list_without_a_name_column_is_refused() {
        let (devices, problems) = parse("sn-1\nsn-2\n", &plain());
        assert!(devices.is_empty());
        assert!(problems[0].contains("`name` or `serial`"), "{problems:?}");
    }
}
