//! A disk that fails, below the real rows of the store, in memory or in real files.
//!
//! A commit may fail and be made all the same, or be lost; the power may fail while one is under way. Then its bytes reached
//! the files whole, in part, with a hole in the middle, or not at all. What a commit said is durable stays.

use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use signet::store::messages::{Batch, Damaged, DiskStore, Ledger, Left, MemoryStore, MessageStore, load};
use signet_core::journal::{Record, Ticket};
use signet_core::{Hub, Now};
use tempfile::TempDir;

/// The unit in which a file reaches the disk, in bytes.
const PAGE: usize = 4096;

/// Where the rows are.
enum Place {
    Memory(MemoryStore),
    /// `None` only while the power fails.
    Files(TempDir, Option<DiskStore>),
}

impl Place {
    fn store(&mut self) -> &mut dyn MessageStore {
        match self {
            Self::Memory(store) => store,
            Self::Files(_, store) => store.as_mut().expect("a store that is open"),
        }
    }
}

/// A store and what is to be written to it.
pub(crate) struct Disk {
    place: Place,
    ledger: Ledger,
    /// Rendered and not committed yet, and what may be said once it is.
    batch: Option<(Batch, Vec<(Ticket, usize)>)>,
    /// What may be said once the next batch is committed.
    promises: Vec<(Ticket, usize)>,
    kept: Vec<(Ticket, usize)>,
    rng: Rng,
    /// One commit in so many fails; 0: none.
    fails_one_in: u32,
}

impl Disk {
    /// An empty disk, in real files or in memory.
    pub(crate) fn new(rng: Rng, fails_one_in: u32, real: bool) -> Self {
        let place = if real {
            let folder = tempfile::tempdir().expect("a folder");
            let store = open(&folder);
            Place::Files(folder, Some(store))
        } else {
            Place::Memory(MemoryStore::new())
        };
        Self::with(place, rng, fails_one_in)
    }

    fn with(place: Place, rng: Rng, fails_one_in: u32) -> Self {
        Self {
            place,
            ledger: Ledger::new(),
            batch: None,
            promises: Vec::new(),
            kept: Vec::new(),
            rng,
            fails_one_in,
        }
    }

    /// Gives the hub what is on the disk.
    pub(crate) fn restore(&mut self, hub: &Hub, now: Now) {
        let mut restoring = hub.restore(now, now.wall.0, &|author| Some(author.clone()));
        let (ledger, loaded) = load(self.place.store(), Path::new("the disk"), now, &mut |left| match left {
            Left::Session(session) => restoring.session(*session),
            Left::Retained(message) => restoring.retained(message),
        })
        .expect("a store that can be read");
        restoring.finish();
        assert_eq!(loaded.strays, 0, "rows that belong to nothing: {loaded:?}");
        self.ledger = ledger;
    }

    pub(crate) fn take_in(&mut self, records: Vec<Record>) {
        for record in records {
            self.ledger.take_in(record);
        }
    }

    pub(crate) fn promise(&mut self, upto: Ticket, bytes: usize) {
        self.promises.push((upto, bytes));
    }

    pub(crate) fn kept_promises(&mut self) -> Vec<(Ticket, usize)> {
        std::mem::take(&mut self.kept)
    }

    pub(crate) fn heal(&mut self) {
        self.fails_one_in = 0;
    }

    /// Writes what there is. False: the disk refuses.
    pub(crate) fn commit(&mut self, now: Now) -> bool {
        if self.batch.is_none() {
            self.batch = Some((self.ledger.render(now), std::mem::take(&mut self.promises)));
        }
        let Some((batch, promises)) = &mut self.batch else { return true };
        if !batch.is_empty() {
            let fails = self.fails_one_in > 0 && self.rng.u32(..self.fails_one_in) == 0;
            // A commit that fails may have been made all the same.
            if !fails || self.rng.bool() {
                self.place.store().commit(batch).expect("a commit");
            }
            if fails {
                // The next attempt, with the same batch, finds it usable again.
                self.place.store().reopen().expect("a store that can be opened again");
                return false;
            }
        }
        self.kept.append(promises);
        self.batch = None;
        true
    }

    /// What is left when the power fails, perhaps in the middle of a commit.
    pub(crate) fn after_power_failure(mut self) -> Self {
        let under_way =
            self.batch.take().map(|(batch, _)| batch).filter(|batch| !batch.is_empty() && self.rng.bool());
        match &mut self.place {
            Place::Memory(store) => {
                if let Some(batch) = under_way {
                    // It reached the disk, and nobody was told.
                    store.commit(&batch).expect("a commit");
                }
            }
            Place::Files(folder, store) => {
                let before = Written::of(folder.path());
                if let (Some(batch), Some(store)) = (&under_way, store.as_mut()) {
                    store.commit(batch).expect("a commit");
                }
                drop(store.take());
                if under_way.is_some() {
                    before.tear(&mut self.rng);
                }
                *store = Some(open(folder));
            }
        }
        Self::with(self.place, self.rng.fork(), self.fails_one_in)
    }
}

fn open(folder: &TempDir) -> DiskStore {
    DiskStore::open(&folder.path().join("data"), Damaged::Refuse).expect("a store that can be opened").store
}

/// The files of a store before a commit: the journal up to where it was synced, and what the store noted of its commits.
struct Written {
    journal: PathBuf,
    end: usize,
    head: (PathBuf, Vec<u8>),
}

impl Written {
    fn of(folder: &Path) -> Self {
        let journals = fs::read_dir(folder.join("data/messages")).expect("a folder");
        let journal = journals
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|end| end == "jnl"))
            .max()
            .expect("a journal");
        let head = folder.join("data/messages.head");
        let noted = fs::read(&head).expect("the head");
        Self { end: end_of(&fs::read(&journal).expect("a journal")), journal, head: (head, noted) }
    }

    /// Lets only a part of what was written since reach the disk: to a point, all but a page, or all of it unnoted.
    fn tear(self, rng: &mut Rng) {
        // The engine may have begun another journal; then nothing of this one is loose.
        let Ok(mut bytes) = fs::read(&self.journal) else { return };
        let end = end_of(&bytes);
        if end <= self.end {
            return;
        }
        fs::write(&self.head.0, &self.head.1).expect("the head");
        match rng.u32(..4) {
            0 => {}
            1 => bytes[rng.usize(self.end..end)..].fill(0),
            2 => bytes.truncate(rng.usize(self.end..end)),
            _ => {
                let page = rng.usize(self.end..end) / PAGE * PAGE;
                bytes[page.max(self.end)..(page + PAGE).min(end)].fill(0);
            }
        }
        fs::write(&self.journal, bytes).expect("a journal");
    }
}

/// The journal is longer than what is in it: zeros follow.
fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
