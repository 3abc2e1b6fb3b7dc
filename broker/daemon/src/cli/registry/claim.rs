//! `signet claim`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use signet_registry::{DEVICE_SERIAL_BYTES_MAX, SERIALS_AT_ONCE_MAX};

use super::device::{details, say_changed, word};
use super::folder::Folder;
use super::provision_args::{ClaimCommand, CreateClaimArgs};
use super::{left, moment};
use crate::admin::registry::api::{
    AddSerials, ChangeClaim, Changed, ClaimAction, ClaimRow, ClaimShown, CreateClaim, CreatedClaim,
    SerialsAdded, ShowClaim,
};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};

/// The largest list that is read, in bytes: more than a million serial numbers.
const LIST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Problems shown of a list that cannot be used.
const PROBLEMS_SHOWN_MAX: usize = 20;

pub(super) fn claim(command: ClaimCommand) -> Result<Outcome, Failure> {
    match command {
        ClaimCommand::Create(args) => create(&args),
        ClaimCommand::List(admin) => list(&admin),
        ClaimCommand::Show { name, serials, admin } => show(&admin, name, serials),
        ClaimCommand::Suspend { name, admin } => change(&admin, name, ClaimAction::Suspend, None),
        ClaimCommand::Resume { name, admin } => change(&admin, name, ClaimAction::Resume, None),
        ClaimCommand::Revoke { name, reason, admin } => {
            change(&admin, name, ClaimAction::Revoke, Some(word(&reason)))
        }
        ClaimCommand::AddSerials { name, file, admin } => {
            let serials = read_serials(&file)?;
            let added = add_serials(&admin, &name, &serials)?;
            if admin.json {
                say_json(&added)?;
            } else {
                say(&format!(
                    "{} serial numbers are new, {} are in the list now\n",
                    added.added, added.serials
                ));
            }
            Ok(Outcome::Done)
        }
    }
}

fn create(args: &CreateClaimArgs) -> Result<Outcome, Failure> {
    let admin = &args.admin;
    // Whole, so that a mistake in its last line shows before anything is done.
    let serials = args.serials.as_deref().map(read_serials).transpose()?;
    let folder = Folder::of(&args.out, &args.name)?;
    let wanted = CreateClaim {
        name: args.name.clone(),
        templates: args.templates.clone(),
        devices_max: args.max,
        until_ms: args.until.map(|until| until.0),
        valid_seconds: args.valid.map(|valid| valid.as_secs()),
        from: args.from.clone(),
        listed_only: serials.is_some(),
        keys: args.keys,
        public_key: folder.key()?,
    };
    let mut created: CreatedClaim = call(admin, Method::POST, "/registry/claims/create", Some(&wanted))?;
    folder.store(&args.name, &created.certificate, created.issuer.as_deref())?;
    if let Some(serials) = &serials {
        created.claim.serials = add_serials(admin, &args.name, serials)?.serials;
    }
    if admin.json {
        say_json(&created)?;
        return Ok(Outcome::Done);
    }
    let there = if created.certificate.already { " (it was there already)" } else { "" };
    let mut text = format!("the claim {} is made{there}\n", created.claim.name);
    let _ = writeln!(
        text,
        "certificate {}, ends in {}\nwritten to {}",
        created.certificate.id,
        left(created.certificate.not_after),
        folder.path().display()
    );
    if serials.is_some() {
        let _ = writeln!(text, "{} serial numbers are let in", created.claim.serials);
    }
    say(&text);
    Ok(Outcome::Done)
}

/// Hands the serial numbers over in parts. Those that are there already change nothing, so it can be done again.
fn add_serials(admin: &AdminArgs, name: &str, serials: &[String]) -> Result<SerialsAdded, Failure> {
    let bar = if admin.json { ProgressBar::hidden() } else { ProgressBar::new(serials.len() as u64) };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} serial numbers, {eta} left {msg}") {
        bar.set_style(style);
    }
    let mut total = SerialsAdded { added: 0, serials: 0 };
    for part in serials.chunks(SERIALS_AT_ONCE_MAX) {
        let wanted = AddSerials { name: name.to_owned(), serials: part.to_vec() };
        let done: Result<SerialsAdded, Failure> =
            call(admin, Method::POST, "/registry/claims/serials", Some(&wanted));
        match done {
            Ok(done) => total = SerialsAdded { added: total.added + done.added, serials: done.serials },
            Err(failure) => {
                bar.abandon_with_message("stopped: the same command goes on from here");
                return Err(failure);
            }
        }
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Ok(total)
}

fn read_serials(path: &Path) -> Result<Vec<String>, Failure> {
    let unreadable = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > LIST_BYTES_MAX {
        return Err(unreadable(format!("a list has at most {} MiB: divide it", LIST_BYTES_MAX >> 20)));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let (serials, problems) = parse_serials(&text);
    if problems.is_empty() && !serials.is_empty() {
        return Ok(serials);
    }
    let mut said = String::new();
    if problems.is_empty() {
        let _ = writeln!(said, "{}: there is no serial number in it", path.display());
    }
    for problem in problems.iter().take(PROBLEMS_SHOWN_MAX) {
        let _ = writeln!(said, "{}:{problem}", path.display());
    }
    if problems.len() > PROBLEMS_SHOWN_MAX {
        let _ = writeln!(said, "and {} more", problems.len() - PROBLEMS_SHOWN_MAX);
    }
    said.push_str("nothing was done");
    Err(Failure::found(said))
}

/// The serial numbers of a list, in order; and its problems, each beginning with the number of the line. A list whose first
/// line names a column `serial` is CSV; else each line is one, and lines that begin with `#` are remarks.
fn parse_serials(text: &str) -> (Vec<String>, Vec<String>) {
    let header = text.lines().next().unwrap_or_default();
    let column = header.split(',').position(|name| name.trim().trim_matches('"') == "serial");
    let mut found = Vec::new();
    let mut problems = Vec::new();
    match column {
        None => {
            for (index, line) in text.lines().enumerate() {
                let line = line.trim();
                if !line.is_empty() && !line.starts_with('#') {
                    found.push((index as u64 + 1, line.to_owned()));
                }
            }
        }
        Some(column) => {
            let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
            for record in reader.records() {
                match record {
                    Ok(record) => {
                        let line = record.position().map_or(0, csv::Position::line);
                        found.push((line, record.get(column).unwrap_or_default().to_owned()));
                    }
                    Err(error) => {
                        problems
                            .push(format!("{}: {error}", error.position().map_or(0, csv::Position::line)));
                    }
                }
            }
        }
    }
    let mut known = BTreeSet::new();
    let mut serials = Vec::new();
    for (line, serial) in found {
        if !(1..=DEVICE_SERIAL_BYTES_MAX).contains(&serial.len()) {
            problems.push(format!("{line}: a serial number has 1 to {DEVICE_SERIAL_BYTES_MAX} bytes"));
        } else if serial.contains(char::is_control) {
            problems.push(format!("{line}: {serial:?} has control characters"));
        } else if known.insert(serial.clone()) {
            serials.push(serial);
        } else {
            problems.push(format!("{line}: {serial} comes twice"));
        }
    }
    (serials, problems)
}

fn list(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let claims: Vec<ClaimRow> = call(admin, Method::GET, "/registry/claims", None::<&()>)?;
    if admin.json {
        say_json(&claims)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<24} {:<20} {:>16} {:>8} {:>9} {:<20} {:<24}",
        "NAME", "STATE", "DEVICES", "PENDING", "SERIALS", "UNTIL", "TEMPLATES"
    );
    for row in &claims {
        let _ = writeln!(
            text,
            "{:<24} {:<20} {:>16} {:>8} {:>9} {:<20} {:<24}",
            row.name,
            row.state,
            devices(row),
            row.pending,
            if row.listed_only { row.serials.to_string() } else { "any".to_owned() },
            row.until_ms.map_or_else(|| "-".to_owned(), moment),
            row.templates.join(",")
        );
    }
    let _ = writeln!(text, "{} claims", claims.len());
    say(&text);
    Ok(Outcome::Done)
}

fn devices(row: &ClaimRow) -> String {
    row.devices_max.map_or_else(|| row.devices.to_string(), |max| format!("{} of {max}", row.devices))
}

fn show(admin: &AdminArgs, name: String, all_serials: bool) -> Result<Outcome, Failure> {
    let mut wanted = ShowClaim { name, after: None };
    let mut shown: ClaimShown = call(admin, Method::POST, "/registry/claims/show", Some(&wanted))?;
    while all_serials && shown.next.is_some() {
        wanted.after = shown.next.take();
        let page: ClaimShown = call(admin, Method::POST, "/registry/claims/show", Some(&wanted))?;
        shown.serials.extend(page.serials);
        shown.next = page.next;
    }
    if !all_serials {
        shown.serials.clear();
        shown.next = None;
    }
    if admin.json {
        say_json(&shown)?;
        return Ok(Outcome::Done);
    }
    let row = &shown.claim;
    let mut text = String::new();
    let _ = writeln!(text, "claim         {}, {}", row.name, row.state);
    let _ = writeln!(text, "templates     {}", row.templates.join(" "));
    let _ = writeln!(text, "devices       {}, and {} pending", devices(row), row.pending);
    let listed = if row.listed_only { "only these are let in" } else { "any serial number is let in" };
    let _ = writeln!(text, "serials       {}; {listed}", row.serials);
    let from = if row.from.is_empty() { "anywhere".to_owned() } else { row.from.join(" ") };
    let _ = writeln!(text, "from          {from}");
    let _ = writeln!(text, "makes keys    {}", row.keys);
    let _ = writeln!(text, "added         {}", moment(row.added_ms));
    if let Some(until) = row.until_ms {
        let _ = writeln!(text, "until         {}", moment(until));
    }
    for certificate in &shown.certificates {
        details(&mut text, certificate);
    }
    if !shown.serials.is_empty() {
        text.push('\n');
    }
    for serial in &shown.serials {
        let _ = writeln!(text, "serial        {serial}");
    }
    say(&text);
    Ok(Outcome::Done)
}

fn change(
    admin: &AdminArgs,
    name: String,
    action: ClaimAction,
    reason: Option<String>,
) -> Result<Outcome, Failure> {
    let wanted = ChangeClaim { name, action, reason };
    let changed: Changed = call(admin, Method::POST, "/registry/claims/change", Some(&wanted))?;
    say_changed(admin, &changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_serial_numbers_is_lines_or_a_column() {
        let (serials, problems) = parse_serials("# batch 7\nSN-1\n\n  SN-2  \n");
        assert_eq!((serials, problems), (vec!["SN-1".to_owned(), "SN-2".to_owned()], Vec::new()));
        let (serials, problems) = parse_serials("batch,serial,note\n7,SN-1,\"a, b\"\n7,SN-2,\n");
        assert_eq!((serials, problems), (vec!["SN-1".to_owned(), "SN-2".to_owned()], Vec::new()));
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let long = "x".repeat(DEVICE_SERIAL_BYTES_MAX + 1);
        let (serials, problems) = parse_serials(&format!("SN-1\nSN-1\n{long}\nSN\u{1}\nSN-2\n"));
        assert_eq!(serials, ["SN-1", "SN-2"]);
        let lines: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
        assert_eq!(lines, ["2", "3", "4"], "{problems:?}");
        let (serials, problems) = parse_serials("serial,note\nSN-1\n,x\n");
        assert_eq!((serials.len(), problems.len()), (0, 2), "{serials:?} {problems:?}");
    }
}
