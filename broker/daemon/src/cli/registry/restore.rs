//! `signet restore`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use signet_config::Store;
use signet_registry::{Actor, Line};

use super::args::RestoreArgs;
use super::audit::of_store;
use crate::admin::backup::messages_beside;
use crate::cli::out::{Failure, Outcome, say, say_json};
use crate::kept::table_bytes;
use crate::memory::ceiling_of;
use crate::store::messages::{MessagesError, RestoredMessages, restore_copy, verify_copy};
use crate::store::{ExecuteError, StoreError};

/// What `signet restore` did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RestoreReport {
    #[serde(flatten)]
    registry: Option<RegistryReport>,
    messages: Option<MessagesReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryReport {
    directory: PathBuf,
    head: String,
    replaced: Option<PathBuf>,
    events_lost: u64,
    revocations_kept: usize,
    revocations_unknown: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct MessagesReport {
    directory: PathBuf,
    rows: u64,
    sessions: u64,
    retained: u64,
    replaced: Option<PathBuf>,
}

/// Where the copies go.
struct Targets {
    registry: Option<PathBuf>,
    messages: Option<Messages>,
}

/// Where the messages go.
struct Messages {
    directory: PathBuf,
    /// How long the tables of the store become, in bytes.
    table_bytes: usize,
}

impl Targets {
    fn of(args: &RestoreArgs) -> Result<Self, Failure> {
        match (&args.config, &args.directory) {
            (_, Some(directory)) => Ok(Self { registry: Some(directory.clone()), messages: None }),
            (Some(path), None) => {
                let config = signet_config::load(path)
                    .map_err(|problems| Failure::found(signet_config::render(&problems)))?;
                let messages = match &config.store {
                    Store::Disk(disk) => Some(Messages {
                        directory: disk.directory.clone(),
                        table_bytes: table_bytes(ceiling_of(&config)),
                    }),
                    Store::Memory => None,
                };
                let registry = config.registry.directory().map(Path::to_owned);
                if registry.is_none() && messages.is_none() {
                    return Err(Failure::found(format!(
                        "{}: [registry] mode is off and [store] has no directory, so there is nothing to restore",
                        path.display()
                    )));
                }
                Ok(Self { registry, messages })
            }
            (None, None) => Err(Failure::usage("give --config FILE or --directory DIR")),
        }
    }
}

/// `signet restore`.
pub fn restore(args: &RestoreArgs) -> Result<Outcome, Failure> {
    let targets = Targets::of(args)?;
    let beside = messages_beside(&args.file);
    // A copy of messages that is no good is said before anything is changed; so is a store that is in the way.
    let messages = targets.messages.filter(|_| beside.exists());
    if let Some(Messages { directory, .. }) = &messages {
        verify_copy(&beside).map_err(|error| of_messages(&error))?;
        if !args.replace && directory.join("messages").exists() {
            return Err(of_messages(&MessagesError::Exists(directory.join("messages"))));
        }
    }
    let mut report = RestoreReport { registry: None, messages: None };
    if let Some(directory) = targets.registry {
        report.registry = Some(restore_registry(args, directory)?);
    }
    if let Some(Messages { directory, table_bytes }) = messages {
        let restored = restore_copy(&beside, &directory, args.replace, table_bytes)
            .map_err(|error| of_messages(&error))?;
        let RestoredMessages { rows, sessions, retained, replaced } = restored;
        report.messages = Some(MessagesReport { directory, rows, sessions, retained, replaced });
    }
    if report.registry.is_none() && report.messages.is_none() {
        return Err(Failure::usage(format!("{}: there is no such copy", beside.display())));
    }
    if args.json {
        say_json(&report)?;
    } else {
        say(&text(&report));
    }
    Ok(Outcome::Done)
}

fn restore_registry(args: &RestoreArgs, directory: PathBuf) -> Result<RegistryReport, Failure> {
    let actor = Actor::Local(Line::new(&format!("uid {} restores", rustix::process::getuid().as_raw())));
    let restored = crate::store::restore(&args.file, &directory, args.replace, &actor).map_err(|error| match error {
        ExecuteError::Store(StoreError::Exists(path)) => Failure::found(format!(
            "{}: there is a registry here\n  hint: --replace moves it aside; what was revoked, suspended or in quarantine there stays so",
            path.display()
        )),
        ExecuteError::Store(error) => of_store(&error),
        ExecuteError::Refused(refused) => Failure::found(refused.to_string()),
    })?;
    Ok(RegistryReport {
        directory,
        head: restored.head.to_string(),
        replaced: restored.replaced,
        events_lost: restored.events_lost,
        revocations_kept: restored.revocations_kept,
        revocations_unknown: restored.revocations_unknown,
    })
}

fn of_messages(error: &MessagesError) -> Failure {
    match error {
        MessagesError::Io { .. } | MessagesError::InUse(_) => Failure::usage(error.to_string()),
        MessagesError::Exists(path) => Failure::found(format!(
            "{}: there is a message store here\n  hint: --replace moves it aside",
            path.display()
        )),
        _ => Failure::found(error.to_string()),
    }
}

fn text(report: &RestoreReport) -> String {
    let mut text = String::new();
    if let Some(registry) = &report.registry {
        let _ = writeln!(text, "{} is restored up to row {}", registry.directory.display(), registry.head);
        if let Some(replaced) = &registry.replaced {
            let _ = writeln!(text, "what was there is now {}", replaced.display());
        }
        if registry.events_lost > 0 {
            let _ = writeln!(
                text,
                "{} later events are not in it; {} revocations, suspensions and quarantines among them were made again",
                registry.events_lost, registry.revocations_kept
            );
        }
        if registry.revocations_unknown {
            text.push_str(
                "what was there cannot be read: whatever was revoked after the copy was made must be revoked again\n",
            );
        }
    }
    if let Some(messages) = &report.messages {
        let _ = writeln!(
            text,
            "{}: {} sessions and {} retained messages are restored",
            messages.directory.display(),
            messages.sessions,
            messages.retained
        );
        if let Some(replaced) = &messages.replaced {
            let _ = writeln!(text, "what was there is now {}", replaced.display());
        }
    }
    text
}
