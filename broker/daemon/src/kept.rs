//! Sessions and messages that outlive the process: opened, judged by what holds now, and handed to the core.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use signet_config::{Corrupt, Durability, Store};
use signet_core::journal::{self, Journal};
use signet_core::{Consequences, Now};
use signet_identity::Principal;
use signet_registry::{Actor, Command, KeyHash, Line, SerialNumber, Standing, Topic};

use crate::listed;
use crate::server::Broker;
use crate::standing;
use crate::store::messages::{
    Committer, Damaged, DiskStore, Left, Loaded, MEMTABLE_BYTES, MessagesError, Opened, Pace, Snapshot,
    StoreMetrics, load,
};

/// What is kept of one broker; empty until it is restored, and when nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept(RwLock<Option<Committer>>);

impl Kept {
    /// Why nothing can be written now.
    pub(crate) fn trouble(&self) -> Option<MessagesError> {
        self.0.read().as_ref().and_then(Committer::trouble)
    }

    /// Everything that is kept, as of now. `None`: nothing is kept.
    pub(crate) fn snapshot(&self) -> Option<Result<Box<dyn Snapshot>, MessagesError>> {
        self.0.read().as_ref().map(Committer::snapshot)
    }

    /// Writes what is left, and ends.
    pub(crate) fn stop(&self) {
        drop(self.0.write().take());
    }
}

/// What waits to be written takes no more than one in so many bytes of the ceiling,
const JOURNAL_SHARE: u64 = 16;
/// and a table of rows one in so many: there may be three of them in memory on their way to the disk, and one that others are
/// merged into.
const TABLE_SHARE: u64 = 32;
/// Less than this is no bound that anything could work with, in bytes.
const SHARE_BYTES_MIN: usize = 1 << 20;

/// `most` bytes, or a `share`th of the ceiling where that is less.
fn share(most: usize, ceiling: Option<u64>, share: u64) -> usize {
    let Some(ceiling) = ceiling else { return most };
    most.min(usize::try_from(ceiling / share).unwrap_or(usize::MAX).max(SHARE_BYTES_MIN))
}

/// The journal that the settings ask for, and how much waits for it. `ceiling` is that of resident memory.
pub(crate) fn journal(store: &Store, ceiling: Option<u64>) -> Option<(Arc<Journal>, journal::Durability)> {
    let Store::Disk(disk) = store else { return None };
    let durability = match disk.durability {
        Durability::Strict { .. } => journal::Durability::Strict,
        Durability::Batched { .. } => journal::Durability::Batched,
    };
    Some((Arc::new(Journal::new(share(disk.journal_bytes_max, ceiling, JOURNAL_SHARE))), durability))
}

/// Opens the store that the settings ask for, to be below this ceiling of resident memory. `None`: they ask for none.
pub(crate) fn open(store: &Store, ceiling: Option<u64>) -> Result<Option<Opened>, MessagesError> {
    let Store::Disk(disk) = store else { return Ok(None) };
    let damaged = match disk.corrupt {
        Corrupt::Refuse => Damaged::Refuse,
        Corrupt::Quarantine => Damaged::MoveAside,
    };
    DiskStore::open_bounded(&disk.directory, damaged, table_bytes(ceiling)).map(Some)
}

/// How long a table of the store may be below this ceiling of resident memory, in bytes.
pub(crate) fn table_bytes(ceiling: Option<u64>) -> usize {
    share(MEMTABLE_BYTES, ceiling, TABLE_SHARE)
}

/// Hands what the store has to the core, and starts what writes from now on. Before anybody connects.
pub(crate) fn restore(broker: &Arc<Broker>, opened: Option<Opened>) -> Result<(), RestoreError> {
    let config = broker.config.load_full();
    let (Some(opened), Store::Disk(disk), Some(journal)) = (opened, &config.store, broker.hub().journal())
    else {
        tracing::info!(
            "sessions and retained messages are kept in memory and end with the process: [store] directory keeps them"
        );
        return Ok(());
    };
    let started = Instant::now();
    let metrics = StoreMetrics::new(broker.metrics.registry())
        .map_err(|error| RestoreError::Threads(error.to_string()))?;
    let (store, ledger, lefts, loaded) = read(broker, opened, &disk.directory, disk.corrupt)?;
    hand_over(broker, lefts);
    let pace = match disk.durability {
        Durability::Strict { linger } => Pace { linger },
        Durability::Batched { interval } => Pace { linger: interval },
    };
    let committer =
        Committer::start(Arc::clone(journal), Box::new(store), ledger, broker.clock, pace, metrics)
            .map_err(|error| RestoreError::Threads(error.to_string()))?;
    *broker.kept.0.write() = Some(committer);
    tracing::info!(
        directory = %disk.directory.display(), sessions = loaded.sessions, subscriptions = loaded.subscriptions,
        waiting = loaded.waiting, retained = loaded.retained, ms = started.elapsed().as_millis(),
        "sessions and retained messages are back"
    );
    Ok(())
}

/// Why what is kept could not be brought back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error(transparent)]
    Store(#[from] MessagesError),
    #[error("{0}")]
    Threads(String),
}

type Everything = (DiskStore, crate::store::messages::Ledger, Vec<Left>, Loaded);

/// Reads all rows. Nothing reaches the core before all of them could be read.
fn read(broker: &Broker, opened: Opened, path: &Path, corrupt: Corrupt) -> Result<Everything, MessagesError> {
    let Opened { store, moved_aside } = opened;
    if let Some((aside, why)) = moved_aside {
        tell_moved_aside(broker, &aside, &why);
    }
    let mut lefts = Vec::new();
    let read = load(&store, path, broker.clock.now(), &mut |left| lefts.push(left));
    match read {
        Ok((ledger, loaded)) => Ok((store, ledger, lefts, loaded)),
        Err(why @ MessagesError::Corrupt { .. }) if corrupt == Corrupt::Quarantine => {
            drop(lefts);
            let replaced = store.replace(why)?;
            self::read(broker, replaced, path, Corrupt::Refuse)
        }
        Err(error) => Err(error),
    }
}

fn tell_moved_aside(broker: &Broker, aside: &Path, why: &MessagesError) {
    tracing::error!(
        aside = %aside.display(),
        "ALARM: the message store was damaged and is moved aside: all sessions, queued and retained messages in it are missing from \
         now on ({why})"
    );
    if let Some(registry) = broker.registry() {
        let text = format!("a damaged message store was moved aside to {}", aside.display());
        let note = Command::Note { topic: Topic::Alarm, text: Line::new(&text) };
        drop(registry.submit(note, Actor::Broker));
    }
}

/// What has become of somebody while the broker was not running.
enum Fate {
    /// Is this principal now.
    Stands(Principal),
    /// May not speak for a while, or is not known.
    Silent,
    /// Is revoked.
    Gone,
}

fn fate(broker: &Broker, was: &Principal) -> Fate {
    if let Some(now) = standing::author_now(broker, was) {
        return Fate::Stands(now);
    }
    let Some(registry) = broker.registry() else { return Fate::Silent };
    let (known, now) = (registry.registry(), registry.now());
    let own = match was.lineage().iter().next() {
        Some(issued) => SerialNumber::new(issued.serial).map(|serial| {
            known.standing(was.certificate(), &KeyHash::from_bytes(*issued.issuer), &serial, now)
        }),
        None => known.certificate(was.certificate()).map(|record| known.standing_of(record, now)),
    };
    let others = known.certificates_of_holder(was.key()).iter().filter(|id| *id != was.certificate());
    let others = others.filter_map(|id| known.certificate(id).map(|record| known.standing_of(record, now)));
    let standings: Vec<Standing> = own.into_iter().chain(others).collect();
    let waits = |standing: &Standing| matches!(standing, Standing::Inactive(_) | Standing::Pending { .. });
    // Who was in force is not forgotten before it is revoked. Whom the registry does not know was here before there was one,
    // and may be let in by its authority's policy, or be registered.
    let revoked = |standing: &Standing| matches!(standing, Standing::Revoked { .. });
    if standings.iter().any(revoked) && !standings.iter().any(waits) { Fate::Gone } else { Fate::Silent }
}

/// Gives all of it to the core: who lost its standing meanwhile loses what the settings say.
fn hand_over(broker: &Broker, lefts: Vec<Left>) {
    let now = broker.clock.now();
    let consequences = broker.consequences.load_full();
    // Nobody is left out here; who is gone is dealt with as at a revocation, by the sweep below.
    let now_is = |was: &Principal| match fate(broker, was) {
        Fate::Stands(principal) => Some(principal),
        Fate::Silent | Fate::Gone => Some(was.clone()),
    };
    let mut restoring = broker.hub().restore(now, any_number(now), &now_is);
    for left in lefts {
        match left {
            Left::Retained(message) => restoring.retained(message),
            Left::Session(mut session) => {
                if let Some((_, author)) = &session.stored.will
                    && !may_send_will(&fate(broker, &author.principal), &consequences)
                {
                    session.stored.will = None;
                    session.stored.will_due = None;
                }
                restoring.session(*session);
            }
        }
    }
    restoring.finish();
    // What those who are gone left is taken once everything is back.
    listed::sweep_at_start(broker, |principal| matches!(fate(broker, principal), Fate::Gone));
}

/// Another number for each process, also where the clock begins at 1970 each time.
fn any_number(now: Now) -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => now.wall.0,
    }
}

fn may_send_will(fate: &Fate, consequences: &Consequences) -> bool {
    match fate {
        Fate::Stands(_) => true,
        Fate::Silent => false,
        Fate::Gone => consequences.send_will,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_written_is_a_share_of_the_ceiling_and_never_more_than_was_asked_for() {
        const MIB: usize = 1 << 20;
        assert_eq!(share(64 * MIB, None, JOURNAL_SHARE), 64 * MIB);
        assert_eq!(share(64 * MIB, Some(64 << 20), JOURNAL_SHARE), 4 * MIB);
        assert_eq!(share(2 * MIB, Some(64 << 20), JOURNAL_SHARE), 2 * MIB);
        assert_eq!(share(MEMTABLE_BYTES, Some(64 << 20), TABLE_SHARE), 2 * MIB);
        assert_eq!(share(MEMTABLE_BYTES, Some(8 << 30), TABLE_SHARE), MEMTABLE_BYTES);
        assert_eq!(share(MEMTABLE_BYTES, Some(1), TABLE_SHARE), MIB);
    }
}
