//! `signet audit` and `signet backup`.

use std::fmt::Write as _;
use std::path::Path;

use hyper::Method;
use signet_registry::audit::Head;

use super::args::{AuditCommand, BackupArgs};
use super::device::say_changed;
use super::moment;
use crate::admin::registry::api::{
    AuditLine, BackedUp, Changed, ListAudit, MakeBackup, Verified, VerifyAudit, WriteNote,
};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};
use crate::store::{StoreError, verify_file};

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
pub(super) fn of_store(error: &StoreError) -> Failure {
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
    let made: BackedUp = call(&args.admin, Method::POST, "/backup", Some(&wanted))?;
    if args.admin.json {
        say_json(&made)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    if let Some(registry) = &made.registry {
        let _ = writeln!(
            text,
            "{} ({} bytes), verified; its last row is\n{}",
            registry.file, registry.bytes, registry.head
        );
    }
    if let Some(messages) = &made.messages {
        let _ = writeln!(
            text,
            "{} ({} bytes): {} rows of sessions and messages",
            messages.file, messages.bytes, messages.rows
        );
    }
    say(&text);
    Ok(Outcome::Done)
}
