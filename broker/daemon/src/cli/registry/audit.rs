//! `signet audit`, `signet backup` and `signet restore`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Serialize;
use signet_registry::audit::Head;
use signet_registry::{Actor, Line};

use super::args::{AuditCommand, BackupArgs, RestoreArgs};
use super::device::say_changed;
use super::moment;
use crate::admin::registry::api::{
    AuditLine, Changed, ListAudit, MadeBackup, MakeBackup, Verified, VerifyAudit, WriteNote,
};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};
use crate::store::{ExecuteError, StoreError, verify_file};

pub(super) fn audit(command: AuditCommand) -> Result<Outcome, Failure> {
    match command {
        AuditCommand::Verify { expect, database: Some(path), admin } => {
            say_verified(&admin, &verify_offline(&path, expect.as_deref())?)
        }
        AuditCommand::Verify { expect, database: None, admin } => {
            let verified: Verified =
                call(&admin, Method::POST, "/registry/audit/verify", Some(&VerifyAudit { expect }))?;
            say_verified(&admin, &verified)
        }
        AuditCommand::List { after, name, certificate, kind, limit, admin } => {
            list(&admin, &ListAudit { after, name, certificate, kind, limit: Some(limit) })
        }
        AuditCommand::Note { text, admin } => {
            let changed: Changed =
                call(&admin, Method::POST, "/registry/audit/note", Some(&WriteNote { text }))?;
            say_changed(&admin, &changed)
        }
        AuditCommand::AcceptClock(admin) => {
            let changed: Changed = call(&admin, Method::POST, "/registry/audit/accept-clock", None::<&()>)?;
            say_changed(&admin, &changed)
        }
    }
}

fn verify_offline(path: &Path, expect: Option<&str>) -> Result<Verified, Failure> {
    let known = expect.map(str::parse::<Head>).transpose();
    let known = known.map_err(|_| Failure::usage("--expect is written as NUMBER:HASH"))?;
    let head = verify_file(path, known).map_err(|error| of_store(&error))?;
    Ok(Verified { head: head.to_string(), rows: head.seq })
}

/// What is wrong with the database was found; that it cannot be reached is another matter.
fn of_store(error: &StoreError) -> Failure {
    match error {
        StoreError::Io { .. } | StoreError::NoRegistry(_) | StoreError::InUse(_) => {
            Failure::usage(error.to_string())
        }
        _ => Failure::found(error.to_string()),
    }
}

fn say_verified(admin: &AdminArgs, verified: &Verified) -> Result<Outcome, Failure> {
    if admin.json {
        say_json(verified)?;
    } else {
        say(&format!(
            "{} rows, none edited, removed or reordered\nnote this elsewhere, to find later whether all of it was rewritten:\n{}\n",
            verified.rows, verified.head
        ));
    }
    Ok(Outcome::Done)
}

fn list(admin: &AdminArgs, wanted: &ListAudit) -> Result<Outcome, Failure> {
    let rows: Vec<AuditLine> = call(admin, Method::POST, "/registry/audit/list", Some(wanted))?;
    if admin.json {
        say_json(&rows)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    for row in &rows {
        let _ = writeln!(text, "{:>8} {} {}: {}", row.seq, moment(row.at_ms), row.actor, row.text);
    }
    say(&text);
    Ok(Outcome::Done)
}

/// `signet backup`.
pub fn backup(args: &BackupArgs) -> Result<Outcome, Failure> {
    // The broker writes it, and has another working directory.
    let to = std::path::absolute(&args.file).map_err(|error| Failure::usage(error.to_string()))?;
    let wanted = MakeBackup { to: to.display().to_string() };
    let made: MadeBackup = call(&args.admin, Method::POST, "/registry/backup", Some(&wanted))?;
    if args.admin.json {
        say_json(&made)?;
    } else {
        say(&format!("{} ({} bytes), verified; its last row is\n{}\n", made.file, made.bytes, made.head));
    }
    Ok(Outcome::Done)
}

/// What `signet restore` did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RestoreReport {
    directory: PathBuf,
    head: String,
    replaced: Option<PathBuf>,
    events_lost: u64,
    revocations_kept: usize,
    revocations_unknown: bool,
}

/// `signet restore`.
pub fn restore(args: &RestoreArgs) -> Result<Outcome, Failure> {
    let directory = match (&args.config, &args.directory) {
        (_, Some(directory)) => directory.clone(),
        (Some(path), None) => {
            let config = signet_config::load(path)
                .map_err(|problems| Failure::found(signet_config::render(&problems)))?;
            config.registry.directory().map(Path::to_owned).ok_or_else(|| {
                Failure::found(format!(
                    "{}: [registry] mode is off, so there is nothing to restore",
                    path.display()
                ))
            })?
        }
        (None, None) => return Err(Failure::usage("give --config FILE or --directory DIR")),
    };
    let actor = Actor::Local(Line::new(&format!("uid {} restores", rustix::process::getuid().as_raw())));
    let restored = crate::store::restore(&args.file, &directory, args.replace, &actor).map_err(|error| match error {
        ExecuteError::Store(StoreError::Exists(path)) => Failure::found(format!(
            "{}: there is a registry here\n  hint: --replace moves it aside; what was revoked, suspended or in quarantine there stays so",
            path.display()
        )),
        ExecuteError::Store(error) => of_store(&error),
        ExecuteError::Refused(refused) => Failure::found(refused.to_string()),
    })?;
    let report = RestoreReport {
        directory,
        head: restored.head.to_string(),
        replaced: restored.replaced,
        events_lost: restored.events_lost,
        revocations_kept: restored.revocations_kept,
        revocations_unknown: restored.revocations_unknown,
    };
    if args.json {
        say_json(&report)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("{} is restored up to row {}\n", report.directory.display(), report.head);
    if let Some(replaced) = &report.replaced {
        let _ = writeln!(text, "what was there is now {}", replaced.display());
    }
    if report.events_lost > 0 {
        let _ = writeln!(
            text,
            "{} later events are not in it; {} revocations, suspensions and quarantines among them were made again",
            report.events_lost, report.revocations_kept
        );
    }
    if report.revocations_unknown {
        text.push_str(
            "what was there cannot be read: whatever was revoked after the copy was made must be revoked again\n",
        );
    }
    say(&text);
    Ok(Outcome::Done)
}
