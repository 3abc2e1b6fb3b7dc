//! `signet device rotate`.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::args::duration;
use super::{moment, short};
use crate::admin::registry::api::{
    ChangeRotation, RotationAction, RotationRow, RotationShown, ShowRotation, StartRotation,
};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};

/// Devices shown of a rotation, those that failed before the others.
const DEVICES_SHOWN_MAX: usize = 50;

/// Reads `5%`.
fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<u8>();
    number
        .ok()
        .filter(|number| (1..=99).contains(number))
        .ok_or_else(|| "a part is written as 5%, from 1% to 99%".to_owned())
}

/// `signet device rotate`.
#[derive(Debug, Args)]
#[group(id = "rotate-mode", multiple = false, args = ["status", "cancel", "go_on"])]
pub struct RotateArgs {
    /// The devices.
    #[arg(conflicts_with_all = ["expiring", "group", "thing_type", "all"])]
    pub names: Vec<String>,
    /// Devices whose newest certificate ends within this time, as in 30d.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "all")]
    pub expiring: Option<Duration>,
    /// Only devices in this group.
    #[arg(long, value_name = "GROUP", conflicts_with = "all")]
    pub group: Option<String>,
    /// Only devices of this type.
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "all")]
    pub thing_type: Option<String>,
    /// Every device that has a certificate in force.
    #[arg(long)]
    pub all: bool,
    /// Tell them one after the other over this time, as in 6h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub spread: Option<Duration>,
    /// Tell this part of them first, and the others when all of the first are through.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub canary: Option<u8>,
    /// Give up those that are not through after this time.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7d")]
    pub within: Duration,
    /// Tell a device again that has not begun after this time, three times in all.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    pub ask_again: Duration,
    /// The template of the kind rotation that the devices are told to ask for.
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// Show how far the rotations have come; with an id, or `latest`, how far each device has.
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["names", "expiring", "group", "thing_type", "all", "spread", "canary", "template"])]
    pub status: Option<String>,
    /// Tell nobody any more.
    #[arg(long, value_name = "ID", conflicts_with_all = ["names", "expiring", "group", "thing_type", "all", "spread", "canary", "template"])]
    pub cancel: Option<String>,
    /// Tell the others too, whatever became of the first devices.
    #[arg(long = "continue", value_name = "ID", conflicts_with_all = ["names", "expiring", "group", "thing_type", "all", "spread", "canary", "template"])]
    pub go_on: Option<String>,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

pub(super) fn rotate(args: RotateArgs) -> Result<Outcome, Failure> {
    match (&args.status, &args.cancel, &args.go_on) {
        (Some(id), _, _) if id.is_empty() => list(&args.admin),
        (Some(id), _, _) => show(&args.admin, id),
        (_, Some(id), _) => change(&args.admin, id, RotationAction::Cancel),
        (_, _, Some(id)) => change(&args.admin, id, RotationAction::Continue),
        _ => start(args),
    }
}

fn start(args: RotateArgs) -> Result<Outcome, Failure> {
    let wanted = StartRotation {
        names: args.names,
        expiring_within_seconds: args.expiring.map(|within| within.as_secs()),
        group: args.group,
        thing_type: args.thing_type,
        all: args.all,
        spread_seconds: args.spread.unwrap_or_default().as_secs(),
        canary_percent: args.canary.unwrap_or(0),
        within_seconds: args.within.as_secs(),
        ask_again_seconds: args.ask_again.as_secs(),
        template: args.template,
    };
    let shown: RotationShown = call(&args.admin, Method::POST, "/registry/rotations/start", Some(&wanted))?;
    if args.admin.json {
        say_json(&shown.rotation)?;
        return Ok(Outcome::Done);
    }
    let row = &shown.rotation;
    let mut text =
        format!("rotation {}: {} devices are told to renew their certificates", row.id, row.devices);
    if row.canaries > 0 {
        let _ = write!(text, ", {} of them first", row.canaries);
    }
    let _ = write!(text, "\nsee how far they come: signet device rotate --status {}\n", row.id);
    say(&text);
    Ok(Outcome::Done)
}

fn list(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let rotations: Vec<RotationRow> = call(admin, Method::GET, "/registry/rotations", None::<&()>)?;
    if admin.json {
        say_json(&rotations)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<13} {:<10} {:<20} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "ID", "PHASE", "SINCE", "DEVICES", "WAITING", "OFFLINE", "ASKED", "ROTATING", "DONE", "FAILED"
    );
    for row in &rotations {
        let count = |word: &str| row.states.get(word).copied().unwrap_or(0);
        let _ = writeln!(
            text,
            "{:<13} {:<10} {:<20} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            row.id,
            row.phase,
            moment(row.created_ms),
            row.devices,
            count("waiting"),
            count("offline"),
            count("asked"),
            count("rotating"),
            count("done"),
            count("failed")
        );
    }
    let _ = writeln!(text, "{} rotations", rotations.len());
    say(&text);
    Ok(Outcome::Done)
}

fn show(admin: &AdminArgs, id: &str) -> Result<Outcome, Failure> {
    let id = (id != "latest").then(|| id.to_owned());
    let mut wanted = ShowRotation { id, ..ShowRotation::default() };
    let mut shown: RotationShown = call(admin, Method::POST, "/registry/rotations/show", Some(&wanted))?;
    // The one that was meant, should a newer one begin meanwhile.
    wanted.id = Some(shown.rotation.id.clone());
    while let Some(after) = shown.next.take() {
        wanted.after = Some(after);
        let page: RotationShown = call(admin, Method::POST, "/registry/rotations/show", Some(&wanted))?;
        shown.devices.extend(page.devices);
        shown.next = page.next;
    }
    say_shown(admin, &shown)
}

fn change(admin: &AdminArgs, id: &str, action: RotationAction) -> Result<Outcome, Failure> {
    let wanted = ChangeRotation { id: id.to_owned(), action };
    let shown: RotationShown = call(admin, Method::POST, "/registry/rotations/change", Some(&wanted))?;
    if admin.json {
        say_json(&shown.rotation)?;
    } else {
        say(&format!("rotation {}: {}\n", shown.rotation.id, shown.rotation.phase));
    }
    Ok(Outcome::Done)
}

/// Exit code 1 when a device has failed, so that a script notices.
fn say_shown(admin: &AdminArgs, shown: &RotationShown) -> Result<Outcome, Failure> {
    let row = &shown.rotation;
    let failed = row.states.get("failed").copied().unwrap_or(0) > 0;
    let outcome = if failed || row.phase == "held" { Outcome::Found } else { Outcome::Done };
    if admin.json {
        say_json(shown)?;
        return Ok(outcome);
    }
    let mut text = String::new();
    let _ = writeln!(text, "rotation      {}, {}", row.id, row.phase);
    if let Some(why) = &row.held_because {
        let _ = writeln!(
            text,
            "held because  {why}\n              go on with `signet device rotate --continue {}`, or end it with --cancel",
            row.id
        );
    }
    let _ = writeln!(text, "commanded     {} by {}", moment(row.created_ms), row.by);
    let _ = writeln!(text, "deadline      {}", moment(row.deadline_ms));
    let counts: Vec<_> = row.states.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let _ = writeln!(text, "devices       {}: {}", row.devices, counts.join(", "));
    let mut devices: Vec<_> = shown.devices.iter().collect();
    devices.sort_by_key(|device| device.state != "failed");
    for device in devices.iter().take(DEVICES_SHOWN_MAX) {
        let first = if device.canary { " (first)" } else { "" };
        let more = match (&device.why, &device.new, device.asked_ms, device.turn_ms) {
            (Some(why), ..) => why.clone(),
            (_, Some(new), ..) => format!("{} takes the place of {}", short(new), short(&device.old)),
            (_, _, Some(asked), _) => format!("told {} times, last {}", device.asked, moment(asked)),
            (_, _, _, Some(turn)) if device.state == "waiting" => format!("its turn is {}", moment(turn)),
            _ => String::new(),
        };
        let _ = writeln!(text, "  {:<24} {:<9} {more}{first}", device.name, device.state);
    }
    if devices.len() > DEVICES_SHOWN_MAX {
        let _ = writeln!(text, "  and {} more; --json shows all", devices.len() - DEVICES_SHOWN_MAX);
    }
    say(&text);
    Ok(outcome)
}
