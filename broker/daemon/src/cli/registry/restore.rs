//! `signet restore`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use signet_config::{Checked, MemoryMax, Store};
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
    #[serde(flatten)]
    tables: Tables,
}

/// How long the tables of the new store become, for ever, and why.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Tables {
    /// In bytes.
    table_bytes: usize,
    ceiling: Ceiling,
}

/// Where the memory ceiling came from that decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Ceiling {
    /// `[limits] memory-max`, which the broker has too.
    MemoryMax,
    /// The control group in which this runs, which need not be the broker's.
    ControlGroup,
    /// There is none here, and the broker may have that of its control group.
    None,
    /// `[limits] memory-max = 0`: the broker has none either.
    Unbounded,
}

impl Tables {
    fn of(config: &Checked) -> Self {
        let bytes = ceiling_of(config);
        let ceiling = match config.limits.memory_max {
            MemoryMax::Bytes(_) => Ceiling::MemoryMax,
            MemoryMax::Unbounded => Ceiling::Unbounded,
            MemoryMax::ControlGroup if bytes.is_some() => Ceiling::ControlGroup,
            MemoryMax::ControlGroup => Ceiling::None,
        };
        Self { table_bytes: table_bytes(bytes), ceiling }
    }

    fn text(self) -> String {
        let hint = "\n  hint: where the service of the broker has a ceiling that is not seen here, set [limits] memory-max to it, and \
                    restore again with --replace";
        let (ceiling, hint) = match self.ceiling {
            Ceiling::MemoryMax => ("[limits] memory-max", ""),
            Ceiling::ControlGroup => ("the control group that this ran in", hint),
            Ceiling::None => ("no memory ceiling", hint),
            Ceiling::Unbounded => ("no memory ceiling", ""),
        };
        format!("its tables have about {} bytes at most, as for {ceiling}{hint}\n", self.table_bytes)
    }
}

/// Where the copies go.
struct Targets {
    registry: Option<PathBuf>,
    messages: Option<Messages>,
}

/// Where the messages go.
struct Messages {
    directory: PathBuf,
    tables: Tables,
}

impl Targets {
    fn of(args: &RestoreArgs) -> Result<Self, Failure> {
        match (&args.config, &args.directory) {
            (_, Some(directory)) => Ok(Self { registry: Some(directory.clone()), messages: None }),
            (Some(path), None) => {
                let config = signet_config::load(path)
                    .map_err(|problems| Failure::found(signet_config::render(&problems)))?;
                let messages = match &config.store {
                    Store::Disk(disk) => {
                        Some(Messages { directory: disk.directory.clone(), tables: Tables::of(&config) })
                    }
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
    if let Some(Messages { directory, tables }) = messages {
        let restored = restore_copy(&beside, &directory, args.replace, tables.table_bytes)
            .map_err(|error| of_messages(&error))?;
        let RestoredMessages { rows, sessions, retained, replaced } = restored;
        report.messages = Some(MessagesReport { directory, rows, sessions, retained, replaced, tables });
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
        text.push_str(&messages.tables.text());
        if let Some(replaced) = &messages.replaced {
            let _ = writeln!(text, "what was there is now {}", replaced.display());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_go_by_the_ceiling_that_is_set_and_otherwise_it_is_told_that_the_broker_may_have_another() {
        let tables = |limits: &str| {
            let text = format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"a\"\nprivate-key = \"b\"\nclient-ca = [\"c\"]\n\
                 [acl]\nfile = \"acl.conf\"\n[limits]\n{limits}"
            );
            Tables::of(&signet_config::parse(&text, Path::new("signet.toml")).unwrap())
        };
        let own = tables("memory-max = \"64MiB\"");
        assert_eq!((own.table_bytes, own.ceiling), (2 << 20, Ceiling::MemoryMax));
        assert_eq!(own.text(), "its tables have about 2097152 bytes at most, as for [limits] memory-max\n");
        let unbounded = tables("memory-max = 0");
        assert_eq!(unbounded.ceiling, Ceiling::Unbounded);
        assert!(!unbounded.text().contains("hint"));
        // Where this runs there may be one or not.
        let seen = tables("");
        assert!(matches!(seen.ceiling, Ceiling::ControlGroup | Ceiling::None), "{seen:?}");
        for ceiling in [Ceiling::ControlGroup, Ceiling::None] {
            let other = Tables { ceiling, ..seen }.text();
            assert!(other.contains("hint: ") && other.contains("set [limits] memory-max to it"), "{other}");
        }
    }
}
