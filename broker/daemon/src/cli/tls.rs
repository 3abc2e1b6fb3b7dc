//! `signet tls failures`: who could not connect, why, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hyper::Method;
use signet_registry::Wall;

use super::args::{AdminArgs, FailuresArgs, GroupBy};
use super::operate::call;
use super::out::{Failure, Outcome, say, say_json, still_read};
use crate::admin::api::{FailureGroupRow, FailureReport, FailureRow};

/// How long one question of `--follow` waits at the broker, in seconds.
const WAIT_SECS: u64 = 25;

/// Carries out `signet tls failures`.
pub fn failures(args: &FailuresArgs) -> Result<Outcome, Failure> {
    if args.follow {
        return follow(&args.admin);
    }
    let report: FailureReport = call(&args.admin, Method::GET, "/tls/failures", None::<&()>)?;
    if args.admin.json {
        say_json(&report)?;
        return Ok(Outcome::Done);
    }
    if report.total == 0 {
        say("no handshake has failed since the broker was started\n");
        return Ok(Outcome::Done);
    }
    let mut text = match (args.each, args.by) {
        (true, _) => report.records.iter().map(one).collect(),
        (false, GroupBy::Cause) => by_cause(&report.groups),
        (false, GroupBy::Device) => by_device(&report.groups),
    };
    let _ =
        writeln!(text, "{} failures since the start, {} records kept", report.total, report.records.len());
    text.push_str(&not_kept(&report, report.not_kept));
    if report.groups_forgotten > 0 {
        let _ = writeln!(
            text,
            "{} groups of a cause and a device made room for newer ones",
            report.groups_forgotten
        );
    }
    say(&text);
    Ok(Outcome::Done)
}

/// Each failure as it happens, until the command is interrupted, its reader goes away, or the broker ends.
fn follow(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let ask = |after: u64, wait: u64| -> Result<FailureReport, Failure> {
        let path = format!("/tls/failures?after={after}&wait-seconds={wait}");
        call(admin, Method::GET, &path, None::<&()>)
    };
    // From now on: what was before is what the command shows without --follow.
    let mut last = ask(0, 0)?;
    if !admin.json {
        say("waiting for handshakes that fail; Ctrl-C ends\n");
    }
    loop {
        let report = ask(last.newest, WAIT_SECS)?;
        let text = if admin.json { as_lines(&report)? } else { news(&report, &last) };
        if !text.is_empty() {
            say(&text);
        }
        if !still_read() {
            return Ok(Outcome::Done);
        }
        last = FailureReport { records: Vec::new(), ..report };
    }
}

/// One object a line, for a program that reads a stream.
fn as_lines(report: &FailureReport) -> Result<String, Failure> {
    let mut text = String::new();
    for row in &report.records {
        let line = serde_json::to_string(row).map_err(|error| Failure::usage(error.to_string()))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

fn news(report: &FailureReport, last: &FailureReport) -> String {
    let mut text: String = report.records.iter().map(one).collect();
    if report.missed > 0 {
        let _ = writeln!(text, "{} records came faster than they could be shown", report.missed);
    }
    text.push_str(&not_kept(report, report.not_kept.saturating_sub(last.not_kept)));
    text
}

fn not_kept(report: &FailureReport, count: u64) -> String {
    if count == 0 {
        return String::new();
    }
    format!(
        "limited to {} records per address, and one more every {} s; {count} more not kept\n",
        report.records_per_address, report.refill_seconds
    )
}

/// One record for people.
fn one(row: &FailureRow) -> String {
    let who = row.subject.as_deref().unwrap_or("no certificate");
    let mut text = format!("{} {} {who}: {}\n", Wall(row.at_ms), row.peer, row.cause);
    let _ = writeln!(text, "  {}", row.reason);
    if let (Some(issuer), Some(serial)) = (&row.issuer, &row.serial) {
        let _ = writeln!(text, "  serial {serial} of {issuer}");
    }
    if row.not_kept_before > 0 {
        let _ = writeln!(text, "  {} before it from this address were not kept", row.not_kept_before);
    }
    let _ = writeln!(text, "  alert {}; hint: {}", row.alert.as_deref().unwrap_or("none"), row.hint);
    text
}

fn by_cause(groups: &[FailureGroupRow]) -> String {
    let mut causes: BTreeMap<&str, Vec<&FailureGroupRow>> = BTreeMap::new();
    for group in groups {
        causes.entry(&group.cause).or_default().push(group);
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    let times = |groups: &[&FailureGroupRow]| groups.iter().map(|group| group.count).sum::<u64>();
    causes.sort_by_key(|(_, groups)| std::cmp::Reverse(times(groups)));
    let mut text = String::new();
    for (cause, groups) in &causes {
        let _ = writeln!(
            text,
            "{cause}: {}, {}",
            many(times(groups), "time"),
            many(groups.len() as u64, "device")
        );
        if let Some(first) = groups.first() {
            let _ = writeln!(text, "  hint: {}", first.last.hint);
        }
        for group in groups {
            let _ = writeln!(text, "  {}{}", group.device, identity(group));
            let _ = writeln!(text, "    {}\n    {}", tally(group), group.last.reason);
        }
    }
    text
}

fn by_device(groups: &[FailureGroupRow]) -> String {
    let mut devices: BTreeMap<(&str, Option<&str>), Vec<&FailureGroupRow>> = BTreeMap::new();
    for group in groups {
        devices.entry((&group.device, group.last.certificate.as_deref())).or_default().push(group);
    }
    let mut text = String::new();
    for ((device, _), groups) in &devices {
        let serial = groups.first().map_or_else(String::new, |group| identity(group));
        let _ = writeln!(text, "{device}{serial}");
        for group in groups {
            let _ = writeln!(text, "  {}: {}\n    {}", group.cause, tally(group), group.last.reason);
            let _ = writeln!(text, "    hint: {}", group.last.hint);
        }
    }
    text
}

/// What tells two devices of one name apart.
fn identity(group: &FailureGroupRow) -> String {
    group.last.serial.as_ref().map_or_else(String::new, |serial| format!(" (serial {serial})"))
}

fn tally(group: &FailureGroupRow) -> String {
    let mut text = many(group.count, "time");
    if group.first_ms == group.last_ms {
        let _ = write!(text, ", {}", Wall(group.last_ms));
    } else {
        let _ = write!(text, ", first {}, last {}", Wall(group.first_ms), Wall(group.last_ms));
    }
    let _ = write!(text, ", last from {}", group.last.peer);
    if group.kept < group.count {
        let _ = write!(text, "; {} of them without a record", group.count - group.kept);
    }
    text
}

fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(cause: &str, device: &str, count: u64, kept: u64) -> FailureGroupRow {
        let last = FailureRow {
            number: None,
            not_kept_before: 0,
            at_ms: 1_767_225_600_000,
            peer: "192.0.2.1:1234".into(),
            listener: "127.0.0.1:8883".into(),
            sni: None,
            version: None,
            client: None,
            subject: Some(device.into()),
            issuer: Some("CN=CA".into()),
            serial: Some("0a".into()),
            validity: None,
            certificate: Some("00".into()),
            cause: cause.into(),
            reason: format!("why {cause}"),
            alert: None,
            hint: format!("do {cause}"),
        };
        let (first_ms, last_ms) = (1_767_225_600_000, 1_767_225_660_000);
        FailureGroupRow { cause: cause.into(), device: device.into(), count, kept, first_ms, last_ms, last }
    }

    #[test]
    fn the_most_frequent_cause_comes_first_with_one_hint_and_its_devices() {
        let groups = [group("b", "CN=x", 7, 5), group("a", "CN=x", 1, 1), group("b", "CN=y", 2, 2)];
        let text = by_cause(&groups);
        assert!(text.starts_with("b: 9 times, 2 devices\n  hint: do b\n  CN=x (serial 0a)\n"), "{text}");
        assert!(text.contains("7 times, first 2026-01-01T00:00:00Z, last 2026-01-01T00:01:00Z"), "{text}");
        assert!(text.contains("; 2 of them without a record"), "{text}");
        assert!(text.contains("a: 1 time, 1 device\n"), "{text}");
        assert_eq!(text.matches("hint:").count(), 2);
    }

    #[test]
    fn a_device_has_its_causes_together() {
        let groups = [group("b", "CN=x", 7, 5), group("a", "CN=y", 1, 1), group("a", "CN=x", 2, 2)];
        let text = by_device(&groups);
        assert_eq!(text.matches("CN=x").count(), 1, "{text}");
        let (x, y) = (text.find("CN=x").unwrap(), text.find("CN=y").unwrap());
        let both = &text[x..y];
        assert!(both.contains("b: 7 times") && both.contains("a: 2 times"), "{text}");
    }
}
