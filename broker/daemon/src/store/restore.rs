//! Putting a copy back in place of the registry, without bringing back what was revoked since.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use signet_registry::audit::Head;
use signet_registry::{
    Actor, CaId, Command, KeyHash, Limits, Line, Registry, RevocationReason, Selector, SerialNumber, Status,
    Topic,
};

use super::database::load;
use super::place::Place;
use super::schema::{self, beside};
use super::{ExecuteError, RegistryService, StoreError, copy};

/// A copy that was put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The last event of the copy.
    pub head: Head,
    /// Where the database that was there is now.
    pub replaced: Option<PathBuf>,
    /// How many events the old database had that the copy does not have.
    pub events_lost: u64,
    /// Revocations that the copy did not have and that were made again.
    pub revocations_kept: usize,
    /// Whether the old database could not be read, so that its later revocations are lost.
    pub revocations_unknown: bool,
}

/// Puts the copy `from` in place of the registry in `directory`, of which no broker may be running.
///
/// What is there is moved aside, and only with `replace`. Certificates, serial numbers and authorities that were revoked there and
/// are not in the copy are revoked again, as `actor`.
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
    let incoming = beside(&path, ".restore");
    if incoming.exists() {
        std::fs::remove_file(&incoming).map_err(|error| StoreError::io(&incoming, error))?;
    }
    let source = schema::open_to_read(from)?;
    let (copied, _) = load(&source, from, Limits::default(), None)?;
    let head = copy::copy(&source, from, &incoming)?.head;
    drop(source);
    let old = old_registry(&path, place.known_head()?);
    let replaced = move_aside(&path)?;
    std::fs::rename(&incoming, &path).map_err(|error| StoreError::io(&path, error))?;
    place.head_file()?.write(&head).map_err(|error| StoreError::io(directory, error))?;
    place.sync()?;
    drop(place);

    let service = RegistryService::open(directory)?;
    let note = Line::new(&format!("restored from a copy that ends at {head}"));
    service.execute(Command::Note { topic: Topic::Backup, text: note }, actor.clone())?;
    let mut restored = Restored {
        head,
        events_lost: 0,
        revocations_kept: 0,
        revocations_unknown: replaced.is_some() && old.is_none(),
        replaced,
    };
    if let Some(old) = &old {
        restored.events_lost = old.events_applied().saturating_sub(copied.events_applied());
        restored.revocations_kept = revoke_again(&service, old, actor)?;
    }
    Ok(restored)
}

/// The registry that was there; `None` when it cannot be read, which is why one restores.
fn old_registry(path: &Path, known: Option<Head>) -> Option<Registry> {
    let connection = schema::open_to_read(path).ok()?;
    load(&connection, path, Limits::default(), known).map(|(registry, _)| registry).ok()
}

/// Renames the database and what belongs to it. The name says when.
fn move_aside(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let suffix = format!(".replaced-{}", crate::clock::wall().0);
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

/// Revokes what is revoked in `old` and not in the registry of `service`; how many that was.
fn revoke_again(service: &RegistryService, old: &Registry, actor: &Actor) -> Result<usize, ExecuteError> {
    let here = revoked(&service.registry());
    let mut kept = 0;
    for entry in revoked(old).difference(&here) {
        let (selector, reason) = match *entry {
            Revoked::Ca(ca, reason) => (Selector::Ca(ca), reason),
            Revoked::Serial(issuer, serial, reason) => {
                (Selector::Serial { issuer: Some(issuer), serial }, reason)
            }
        };
        match service.execute(Command::Revoke { selector, reason }, actor.clone()) {
            Ok(_) => kept += 1,
            // An authority that the copy does not know has no certificates here that could connect.
            Err(ExecuteError::Refused(refused)) => {
                tracing::warn!("a revocation that is not in the copy could not be made again: {refused}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(kept)
}
