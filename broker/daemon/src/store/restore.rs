//! Putting a copy back in place of the registry, without giving back what was taken away since.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use signet_registry::audit::Head;
use signet_registry::{
    Actor, CaId, Command, KeyHash, Limits, Line, Registry, RevocationReason, Selector, SerialNumber, Status,
    Topic,
};

use super::database::load;
use super::place::{Place, database_in};
use super::schema::{self, beside};
use super::{ExecuteError, RegistryService, StoreError, copy};

/// Where a copy becomes a registry before it takes the place of the one that is there.
const STAGING: &str = ".restore";

/// A copy that was put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The last event of the copy.
    pub head: Head,
    /// Where the database that was there is now.
    pub replaced: Option<PathBuf>,
    /// How many events the old database had that the copy does not have.
    pub events_lost: u64,
    /// Revocations, suspensions and quarantines that the copy did not have and that were made again.
    pub revocations_kept: usize,
    /// Whether the old database could not be read, so that its later revocations are lost.
    pub revocations_unknown: bool,
}

/// Puts the copy `from` in place of the registry in `directory`, of which no broker may be running.
///
/// What is there is moved aside, and only with `replace`. Whoever was revoked, suspended or put into quarantine there and is not so
/// in the copy, is so again, as `actor`, before the copy takes its place: a power cut at any moment leaves the old registry, or none
/// that a broker would start with, or the whole new one.
///
/// # Errors
/// [`ExecuteError`]. When the copy is no good, nothing has changed.
pub fn restore(
    from: &Path,
    directory: &Path,
    replace: bool,
    actor: &Actor,
) -> Result<Restored, ExecuteError> {
    let place = Place::take(directory)?;
    let path = place.database();
    if !replace && (path.exists() || place.known_head()?.is_some()) {
        return Err(StoreError::Exists(path).into());
    }
    let source = schema::open_to_read(from)?;
    let (copied, _) = load(&source, from, Limits::default(), None)?;
    let old_path = if path.exists() { Some(path.clone()) } else { moved_aside_before(&path)? };
    let old = old_path.as_deref().and_then(|path| old_registry(path, place.known_head().ok().flatten()));

    let staging = directory.join(STAGING);
    clear(&staging)?;
    let staged = database_in(&staging);
    drop(Place::take(&staging)?);
    let head = copy::copy(&source, from, &staged)?.head;
    drop(source);
    let service = RegistryService::open(&staging)?;
    let note = Line::new(&format!("restored from a copy that ends at {head}"));
    service.execute(Command::Note { topic: Topic::Backup, text: note }, actor.clone())?;
    let mut restored = Restored {
        head,
        events_lost: 0,
        revocations_kept: 0,
        revocations_unknown: old_path.is_some() && old.is_none(),
        replaced: None,
    };
    if let Some(old) = &old {
        restored.events_lost = old.events_applied().saturating_sub(copied.events_applied());
        restored.revocations_kept = take_away_again(&service, old, actor)?;
    }
    let reached = service.head();
    // The writer closes the database with it, and its log goes into the file.
    drop(service);

    restored.replaced = move_aside(&path)?;
    std::fs::rename(&staged, &path).map_err(|error| StoreError::io(&path, error))?;
    place.head_file()?.write(&reached).map_err(|error| StoreError::io(directory, error))?;
    place.sync()?;
    clear(&staging)?;
    Ok(restored)
}

/// Removes what an earlier attempt left.
fn clear(staging: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(staging) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io(staging, error)),
        _ => Ok(()),
    }
}

/// The registry that was there; `None` when it cannot be read, which is why one restores.
fn old_registry(path: &Path, known: Option<Head>) -> Option<Registry> {
    let connection = schema::open_to_read(path).ok()?;
    load(&connection, path, Limits::default(), known).map(|(registry, _)| registry).ok()
}

/// The database that an earlier restore moved aside before it was cut off: the last one.
fn moved_aside_before(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let Some(directory) = path.parent() else { return Ok(None) };
    let prefix = beside(path, REPLACED);
    let prefix = prefix.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut last: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(directory).map_err(|error| StoreError::io(directory, error))? {
        let entry = entry.map_err(|error| StoreError::io(directory, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let moved_at = name.strip_prefix(&prefix).and_then(|moment| moment.parse().ok());
        if let Some(moment) = moved_at
            && last.as_ref().is_none_or(|(other, _)| *other < moment)
        {
            last = Some((moment, entry.path()));
        }
    }
    Ok(last.map(|(_, path)| path))
}

/// Between a database's name and the moment at which it was moved aside, in milliseconds.
const REPLACED: &str = ".replaced-";

/// Renames the database and what belongs to it. The name says when.
fn move_aside(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let suffix = format!("{REPLACED}{}", crate::clock::wall().0);
    let mut replaced = None;
    for part in ["", "-wal", "-shm"] {
        let from = beside(path, part);
        if from.exists() {
            let to = beside(&beside(path, &suffix), part);
            std::fs::rename(&from, &to).map_err(|error| StoreError::io(&from, error))?;
            replaced.get_or_insert(to);
        }
    }
    Ok(replaced)
}

/// Something that was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Revoked {
    Ca(CaId, RevocationReason),
    Serial(KeyHash, SerialNumber, RevocationReason),
}

fn revoked(registry: &Registry) -> BTreeSet<Revoked> {
    let now = registry.last_event_at();
    let cas = registry.cas().filter_map(|ca| Some(Revoked::Ca(ca.id, ca.revoked?.1)));
    let serials = registry.cas().flat_map(|ca| {
        let key = ca.key;
        registry.revocations(&key, now).map(move |(serial, _, reason)| Revoked::Serial(key, serial, reason))
    });
    // Also those whose authority is no longer there.
    let certificates = registry.certificates().filter_map(|certificate| match certificate.status {
        Status::Revoked { reason, .. } => {
            Some(Revoked::Serial(certificate.facts.issuer, certificate.facts.serial, reason))
        }
        _ => None,
    });
    cas.chain(serials).chain(certificates).collect()
}

/// What somebody took away in `registry` and could give back: the commands that take it away.
fn held_back(registry: &Registry) -> Vec<Command> {
    let mut commands = Vec::new();
    for ca in registry.cas().filter(|ca| !ca.settings.connect && ca.revoked.is_none()) {
        commands.push(Command::Suspend(Selector::Ca(ca.id)));
    }
    for claim in registry.claims().filter(|claim| claim.suspended) {
        commands.push(Command::SuspendClaim { claim: claim.spec.name.clone(), suspended: true });
    }
    for certificate in registry.certificates() {
        if matches!(certificate.status, Status::Inactive { .. }) {
            commands.push(Command::Suspend(Selector::Certificate(*certificate.id())));
        }
    }
    for thing in registry.things(None) {
        if let Some(quarantine) = &thing.quarantine {
            commands
                .push(Command::Quarantine { thing: thing.spec.name.clone(), why: quarantine.why.clone() });
        }
    }
    commands
}

/// Revokes, suspends and puts into quarantine what is so in `old` and not in the registry of `service`; how many that was.
fn take_away_again(service: &RegistryService, old: &Registry, actor: &Actor) -> Result<usize, ExecuteError> {
    let here = revoked(&service.registry());
    let then = revoked(old);
    let revocations = then.difference(&here).map(|entry| match *entry {
        Revoked::Ca(ca, reason) => Command::Revoke { selector: Selector::Ca(ca), reason },
        Revoked::Serial(issuer, serial, reason) => {
            Command::Revoke { selector: Selector::Serial { issuer: Some(issuer), serial }, reason }
        }
    });
    let held_here = held_back(&service.registry());
    let held = held_back(old).into_iter().filter(|command| !held_here.contains(command));
    let mut kept = 0;
    for command in revocations.chain(held) {
        match service.execute(command, actor.clone()) {
            Ok(_) => kept += 1,
            // Who is not in the copy cannot connect by it.
            Err(ExecuteError::Refused(refused)) => {
                tracing::warn!("what the copy does not know could not be taken away again: {refused}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(kept)
}
