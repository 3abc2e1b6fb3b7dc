//! The store on disk: one keyspace of fjall, one journal, one sync for each batch.
//!
//! fjall checks a checksum over every batch of its journal and over every block of its tables. What it does not notice, a
//! journal that lost its end, the number of the last commit shows, which is noted beside it.
//!
//! After a failed write fjall takes no more, and what the operating system still has of the failed write may never reach
//! the disk though it can be read. So a store that is opened again writes all that its journal has into tables, and syncs
//! them, before the next batch counts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::MessagesError;
use super::journal_end;
use super::key::Key;
use super::place::{Head, Place};
use super::row::{self, Row};
use super::store::{Batch, Change, EachRow, MessageStore, Snapshot, StoreSize};

/// The layout that this program writes.
pub const SCHEMA: u32 = 1;

/// The one keyspace.
const KEYSPACE: &str = "rows";
/// Rows in memory before they go to a table, in bytes, unless [`DiskStore::open_bounded`] is told less.
pub const MEMTABLE_BYTES: usize = 16 << 20;
/// So many times the bound of one table of rows are in memory: more wait until some of it is written. A single batch may be longer.
const TABLES_IN_MEMORY_MAX: usize = 3;
/// Blocks that are kept in memory, in bytes: rows are read at the start only.
const CACHE_BYTES: u64 = 1 << 20;
/// Files of tables that are kept open, in descriptors. The engine would keep 900, and with short tables a store has many.
pub const TABLE_FILES_MAX: usize = 32;
/// Threads of the engine: one may write a table while the other rearranges.
const WORKERS: usize = 2;
/// Journals on disk, in bytes.
const JOURNALS_BYTES_MAX: u64 = 256 << 20;
/// With more tables that wait to be written, or more runs that wait to be merged, a batch waits. The engine itself waits at 4 and
/// at 30, and would not notice that nobody works any more.
const TABLES_WAITING_MAX: usize = 1;
const RUNS_WAITING_MAX: usize = 16;
/// Between two looks at what a batch waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long a batch waits before it is an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to do with a store that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Say so and do nothing.
    Refuse,
    /// Move it aside and begin with an empty one.
    MoveAside,
}

/// The rows of one broker on disk. No other process has them.
pub struct DiskStore {
    place: Place,
    head: Head,
    engine: Option<Engine>,
    commit: u64,
    /// The bound of one table in memory, in bytes,
    table_bytes: usize,
    /// and what came into it since the last was handed on.
    in_table: usize,
}

struct Engine {
    // Dropped in this order.
    rows: Keyspace,
    database: Database,
    /// Whether it was said that rows cannot leave memory.
    told: Once,
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStore")
            .field("place", &self.place)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: DiskStore,
    /// A damaged store was here, and is there now; what was wrong with it.
    pub moved_aside: Option<(PathBuf, MessagesError)>,
}

impl DiskStore {
    /// Opens the store in `directory`, which this process alone has from then on; makes it when there is none.
    ///
    /// # Errors
    /// [`MessagesError`] with what to do. Nothing that is there is changed by a refusal.
    pub fn open(directory: &Path, damaged: Damaged) -> Result<Opened, MessagesError> {
        Self::open_bounded(directory, damaged, MEMTABLE_BYTES)
    }

    /// As [`Self::open`], with tables of about `table_bytes`, and no more than [`MEMTABLE_BYTES`]: in memory, and, in a store that
    /// is made now, on disk. Where tables are merged, the engine has one of those on disk in memory at a time.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_bounded(
        directory: &Path,
        damaged: Damaged,
        table_bytes: usize,
    ) -> Result<Opened, MessagesError> {
        let table_bytes = table_bytes.min(MEMTABLE_BYTES);
        let place = Place::take(directory)?;
        let mut head = place.head()?;
        let known = head.read()?;
        match open_rows(&place.rows(), known, table_bytes) {
            Ok((engine, commit)) => {
                tell_of_long_tables(&place.rows(), &engine, table_bytes);
                let store = Self::new(place, head, engine, commit, table_bytes);
                Ok(Opened { store, moved_aside: None })
            }
            Err(error @ MessagesError::Corrupt { .. }) if damaged == Damaged::MoveAside => {
                Self::begin_anew(place, error, table_bytes)
            }
            Err(error) => Err(error),
        }
    }

    /// Moves what is there aside because of `why`, and begins with an empty store.
    fn begin_anew(place: Place, why: MessagesError, table_bytes: usize) -> Result<Opened, MessagesError> {
        let moved = place.move_aside(crate::clock::wall().0)?;
        let head = place.head()?;
        let (engine, commit) = open_rows(&place.rows(), 0, table_bytes)?;
        let store = Self::new(place, head, engine, commit, table_bytes);
        Ok(Opened { store, moved_aside: moved.map(|path| (path, why)) })
    }

    fn new(place: Place, head: Head, engine: Engine, commit: u64, table_bytes: usize) -> Self {
        // What the journal had is in memory again. One that was never written has its schema only.
        let in_table = if commit == 0 { 0 } else { engine.active_bytes() };
        let mut store = Self { place, head, engine: Some(engine), commit, table_bytes, in_table };
        if in_table > table_bytes {
            store.hand_table_on();
        }
        store
    }

    /// Moves this store aside because of `why`, which its rows showed, and begins with an empty one.
    ///
    /// # Errors
    /// [`MessagesError`] when the operating system refuses.
    pub fn replace(self, why: MessagesError) -> Result<Opened, MessagesError> {
        let Self { place, engine, table_bytes, .. } = self;
        drop(engine);
        Self::begin_anew(place, why, table_bytes)
    }

    /// The number of the last commit.
    #[must_use]
    pub fn last_commit(&self) -> u64 {
        self.commit
    }

    fn engine(&self) -> Result<&Engine, MessagesError> {
        self.engine.as_ref().ok_or(MessagesError::Closed)
    }

    /// What is in memory goes to a table, which a thread of the engine writes.
    fn hand_table_on(&mut self) {
        self.in_table = 0;
        let Some(engine) = &self.engine else { return };
        let path = self.place.rows();
        let handed = guarded_write(&path, || {
            engine.rows.rotate_memtable().map_err(|error| MessagesError::engine(&path, error))
        });
        if let Err(error) = handed {
            // The rows are in the journal: the next commit says what is wrong.
            tracing::debug!(%error, "a table of the message store could not be handed on");
        }
    }

    fn write(&self, batch: &Batch, number: u64) -> Result<(), MessagesError> {
        let path = self.place.rows();
        let engine = self.engine()?;
        let fail = |error| MessagesError::engine(&path, error);
        engine.wait_for_room(batch.bytes(), self.table_bytes).map_err(fail)?;
        let mut writing = engine.database.batch().durability(Some(PersistMode::SyncData));
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => writing.insert(&engine.rows, key.as_slice(), value.clone()),
                Change::Delete(key) => writing.remove(&engine.rows, key.as_slice()),
                Change::DeletePrefix(prefix) => {
                    for row in engine.rows.prefix(prefix) {
                        writing.remove(&engine.rows, row.key().map_err(fail)?);
                    }
                }
            }
        }
        writing.insert(&engine.rows, Key::Commit.encode(), row::put_commit(number));
        writing.commit().map_err(fail)
    }
}

impl MessageStore for DiskStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), MessagesError> {
        let number = self.commit + 1;
        if self.in_table > 0 && self.in_table + batch.bytes() > self.table_bytes {
            self.hand_table_on();
        }
        let written = guarded_write(&self.place.rows(), || self.write(batch, number));
        if let Err(error) = written {
            // It takes nothing more until it is opened again.
            self.engine = None;
            return Err(error);
        }
        self.commit = number;
        self.in_table += batch.bytes();
        if self.in_table > self.table_bytes {
            self.hand_table_on();
        }
        if let Err(error) = self.head.write(number) {
            // It only makes an older copy of the rows show; the rows themselves are well.
            tracing::debug!(%error, "the last commit could not be noted beside the message store");
        }
        Ok(())
    }

    fn for_each(&self, each: &mut EachRow<'_>) -> Result<(), MessagesError> {
        let engine = self.engine()?;
        let path = self.place.rows();
        guarded(&path, || read(&path, &engine.database.snapshot(), &engine.rows, each))
    }

    fn reopen(&mut self) -> Result<(), MessagesError> {
        self.engine = None;
        let path = self.place.rows();
        let (engine, commit) = open_rows(&path, self.commit, self.table_bytes)?;
        guarded_write(&path, || engine.flush().map_err(|error| MessagesError::engine(&path, error)))?;
        self.engine = Some(engine);
        self.commit = commit;
        self.in_table = 0;
        Ok(())
    }

    fn rest(&mut self) {
        let Some(engine) = &self.engine else { return };
        let path = self.place.rows();
        let let_go = || {
            engine.let_go();
            Ok(())
        };
        if let Err(error) = guarded_write(&path, let_go) {
            tracing::debug!(%error, "what the message store had written stays in memory");
        }
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, MessagesError> {
        let engine = self.engine()?;
        Ok(Box::new(Moment {
            snapshot: engine.database.snapshot(),
            rows: engine.rows.clone(),
            path: self.place.rows(),
        }))
    }

    fn size(&self) -> StoreSize {
        let Some(engine) = &self.engine else { return StoreSize::default() };
        StoreSize {
            disk_bytes: engine.database.disk_space().unwrap_or_default(),
            tables: engine.rows.table_count() as u64,
            memory_bytes: engine.rows.tree.version_memtable_size_sum(),
            compactions: engine.database.compactions_completed() as u64,
        }
    }
}

impl Engine {
    /// Waits until the engine's own threads are not behind, and there is room for a batch of so many bytes beside the rows in memory.
    fn wait_for_room(&self, bytes: usize, table_bytes: usize) -> fjall::Result<()> {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            self.let_go();
            let waiting = self.rows.sealed_memtable_count();
            let held = self.rows.tree.version_memtable_size_sum() + bytes as u64;
            // What waits to be written makes room when it is; a batch that is longer than the bound goes in alone.
            let crowded = waiting > 0 && held > (TABLES_IN_MEMORY_MAX * table_bytes) as u64;
            if !crowded && waiting <= TABLES_WAITING_MAX && self.rows.l0_table_count() <= RUNS_WAITING_MAX {
                return Ok(());
            }
            // Says so when one of those threads failed.
            self.database.persist(PersistMode::Buffer)?;
            if std::time::Instant::now() > end {
                return Err(fjall::Error::Io(std::io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets go of rows in memory that are in a table by now. The engine keeps them, for whoever might read as of an earlier
    /// moment, until the next rows are handed on: with nothing more to write, for ever. Nobody reads so while there is no
    /// snapshot, and snapshots are only taken by the thread that has the store.
    ///
    /// That it fails here takes memory and no rows, and no commit fails for it. The engine's own threads do the same when they merge
    /// tables, and close the store when they cannot: then commits fail until the files can be removed.
    fn let_go(&self) {
        let tree = &self.rows.tree;
        if tree.version_free_list_len() == 0 || self.database.supervisor.snapshot_tracker.open_snapshots() > 0
        {
            return;
        }
        let now = self.database.visible_seqno();
        let Err(error) = tree.get_version_history_lock().maintenance(self.rows.path(), now) else { return };
        let store = self.rows.path().display();
        self.told.call_once(|| {
            tracing::warn!(
                %error, %store,
                "an earlier list of the tables of the message store cannot be removed, so rows that are on disk stay in memory too; it is \
                 tried again with each batch, and this is said once; when tables are merged next and it still cannot be removed, nothing more \
                 can be stored\n  hint: see that the broker may delete files in this folder, and that the disk is well"
            );
        });
    }

    /// What the rows take that came into memory since the last table was handed on, in bytes.
    fn active_bytes(&self) -> usize {
        usize::try_from(self.rows.tree.active_memtable().size()).unwrap_or(usize::MAX)
    }

    /// How long a table on disk becomes, in bytes, as the store was made. `None`: the engine does not say.
    fn table_bytes(&self) -> Option<u64> {
        let told = self.rows.config.compaction_strategy.get_config();
        let (_, bytes) = told.iter().find(|(key, _)| **key == *b"leveled_target_size")?;
        Some(u64::from_le_bytes((**bytes).try_into().ok()?))
    }

    /// Writes all that is in memory and in the journal to tables that are synced.
    fn flush(&self) -> fjall::Result<()> {
        self.rows.rotate_memtable()?;
        let end = std::time::Instant::now() + PATIENCE;
        while self.rows.sealed_memtable_count() > 0 {
            self.database.persist(PersistMode::Buffer)?;
            if std::time::Instant::now() > end {
                return Err(fjall::Error::Io(std::io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.database.persist(PersistMode::SyncAll)
    }
}

/// A store that is made beside the one that is there, to take its place.
pub(super) struct Staged<'a> {
    place: &'a Place,
    path: PathBuf,
    engine: Engine,
    table_bytes: usize,
    commits: u64,
}

impl<'a> Staged<'a> {
    /// With tables as [`DiskStore::open_bounded`] says.
    pub(super) fn new(place: &'a Place, table_bytes: usize) -> Result<Self, MessagesError> {
        let table_bytes = table_bytes.min(MEMTABLE_BYTES);
        let path = place.staging()?;
        let (engine, commits) = open_rows(&path, 0, table_bytes)?;
        Ok(Self { place, path, engine, table_bytes, commits })
    }

    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), MessagesError> {
        let fail = |error| MessagesError::engine(&self.path, error);
        self.engine.wait_for_room(batch.bytes(), self.table_bytes).map_err(fail)?;
        let mut writing = self.engine.database.batch();
        for change in batch.changes() {
            if let Change::Put(key, value) = change {
                writing.insert(&self.engine.rows, key.as_slice(), value.clone());
            }
        }
        self.commits += 1;
        writing.insert(&self.engine.rows, Key::Commit.encode(), row::put_commit(self.commits));
        writing.commit().map_err(fail)
    }

    /// Moves what is there aside, and this in its place; where the other one is then.
    pub(super) fn put_in_place(self) -> Result<Option<PathBuf>, MessagesError> {
        let Self { place, path, engine, commits, .. } = self;
        engine.flush().map_err(|error| MessagesError::engine(&path, error))?;
        drop(engine);
        let replaced = place.put_in_place(&path, crate::clock::wall().0)?;
        // Until this is written the rows are not those that were here: no broker starts with them.
        place.head()?.write(commits).map_err(|error| MessagesError::io(&path, error))?;
        place.sync()?;
        Ok(replaced)
    }
}

struct Moment {
    snapshot: fjall::Snapshot,
    rows: Keyspace,
    path: PathBuf,
}

impl Snapshot for Moment {
    fn for_each(&self, each: &mut EachRow<'_>) -> Result<(), MessagesError> {
        guarded(&self.path, || read(&self.path, &self.snapshot, &self.rows, each))
    }
}

fn read(
    path: &Path,
    snapshot: &fjall::Snapshot,
    rows: &Keyspace,
    each: &mut EachRow<'_>,
) -> Result<(), MessagesError> {
    for row in snapshot.iter(rows) {
        let (key, value) = row.into_inner().map_err(|error| MessagesError::engine(path, error))?;
        each(&key, &value)?;
    }
    Ok(())
}

/// The engine panics over some damage that it does not expect while it reads: that is damage as any other.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, MessagesError>) -> Result<T, MessagesError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(MessagesError::corrupt(path, "the storage engine gave up over what it found"))
    })
}

/// As [`guarded`], while rows are written: a panic is no damage of what is there, and no reason to move it aside.
fn guarded_write<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, MessagesError>,
) -> Result<T, MessagesError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(MessagesError::Failed(path.to_owned())))
}

/// Says so where a store was made with longer tables than it would have now.
fn tell_of_long_tables(path: &Path, engine: &Engine, table_bytes: usize) {
    if let Some(made) = engine.table_bytes().filter(|made| *made > table_bytes as u64) {
        tracing::warn!(
            store = %path.display(), made, now = table_bytes,
            "the message store was made with longer tables than it would have now (a 32nd of the memory ceiling, 16 MiB at most), by an \
             earlier build or under a higher ceiling, and keeps them: whenever tables are merged the broker may take so many bytes \
             more\n  hint: `signet backup`, then `signet restore --replace` with the broker stopped, makes the store anew; where the \
             ceiling is only that of the service's control group, in which `signet restore` does not run, set [limits] memory-max first"
        );
    }
}

/// Opens the rows, which go up to the commit `known` at least; the number of their last commit. Where they are made, their tables
/// on disk are of about `table_bytes` for ever.
fn open_rows(path: &Path, known: u64, table_bytes: usize) -> Result<(Engine, u64), MessagesError> {
    let new = !path.join("version").exists();
    if new && known > 0 {
        let what = format!("its files are gone, but it has held {known} commits");
        return Err(MessagesError::corrupt(path, what));
    }
    let engine = open_whole(path, new, known, table_bytes)?;
    guarded(path, || {
        let fail = |error| MessagesError::engine(path, error);
        let mut decoder = row::Decoder::new(signet_core::Now::default());
        let mut meta = |key: Key<'_>| {
            let key = key.encode();
            let value = engine.rows.get(&key).map_err(fail)?;
            let row = value.map(|value| decoder.row(&key, &value));
            row.transpose().map_err(|error| MessagesError::row(path, &key, &error))
        };
        let commit = match meta(Key::Commit)? {
            Some(Row::Commit(commit)) => commit,
            _ => 0,
        };
        match meta(Key::Schema)? {
            Some(Row::Schema(found)) if found > SCHEMA => {
                return Err(MessagesError::Newer { path: path.to_owned(), found, supported: SCHEMA });
            }
            Some(Row::Schema(found)) => migrate(&engine, found).map_err(fail)?,
            _ if commit > 0 || known > 0 => {
                return Err(MessagesError::corrupt(path, "it does not say which schema version it has"));
            }
            _ => {
                // A new one, or one that was cut off while it was made.
                let mut first = engine.database.batch().durability(Some(PersistMode::SyncAll));
                first.insert(&engine.rows, Key::Schema.encode(), row::put_schema(SCHEMA));
                first.commit().map_err(fail)?;
            }
        }
        if commit < known {
            let what = format!("it ends at commit {commit}, but commit {known} was made here");
            return Err(MessagesError::corrupt(path, what));
        }
        Ok((engine, commit))
    })
}

/// Opens the engine. What it cuts off the end of its journal, or is cut off so that it opens, is copied aside first.
fn open_whole(path: &Path, new: bool, known: u64, table_bytes: usize) -> Result<Engine, MessagesError> {
    let moment_ms = crate::clock::wall().0;
    if !new && let Some(copy) = journal_end::keep_damaged(path, known, moment_ms)? {
        tracing::warn!(
            copy = %copy.display(),
            "the journal of the message store ends in something that is no part of it, which is cut off: it was copied first"
        );
    }
    let error = match guarded(path, || open_engine(path, table_bytes)) {
        Err(error @ MessagesError::Corrupt { .. }) => error,
        opened => return opened,
    };
    let Some(copy) = journal_end::cut_unfinished(path, known, moment_ms)? else { return Err(error) };
    tracing::warn!(
        %error, copy = %copy.display(),
        "the last commit of the message store was cut off in the middle, and is taken back: as far as is known it was never \
         confirmed. The journal as it was before is kept as a copy"
    );
    guarded(path, || open_engine(path, table_bytes))
}

/// Brings the rows of an older schema up to this one, in one batch. There is no older one yet.
fn migrate(engine: &Engine, found: u32) -> fjall::Result<()> {
    if found == SCHEMA {
        return Ok(());
    }
    let mut batch = engine.database.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(&engine.rows, Key::Schema.encode(), row::put_schema(SCHEMA));
    batch.commit()
}

fn open_engine(path: &Path, table_bytes: usize) -> Result<Engine, MessagesError> {
    let fail = |error| MessagesError::engine(path, error);
    let database = Database::builder(path)
        .worker_threads(WORKERS)
        .cache_size(CACHE_BYTES)
        .max_cached_files(Some(TABLE_FILES_MAX))
        .max_journaling_size(JOURNALS_BYTES_MAX)
        .manual_journal_persist(true)
        .open()
        .map_err(fail)?;
    // While tables are merged the engine keeps the key of each block of the table that it writes, and with it the whole block that the
    // key was read from: all of that table is in memory until it is done. So it may not become long.
    let tables = Arc::new(Leveled::default().with_table_target_size(table_bytes as u64));
    // What it is told here it keeps for ever: the bound of rows in memory follows the ceiling, and is this store's own.
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES as u64)
            .manual_journal_persist(true)
            .compaction_strategy(tables)
    };
    let rows = database.keyspace(KEYSPACE, options).map_err(fail)?;
    Ok(Engine { rows, database, told: Once::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_on_disk_are_as_long_as_they_were_to_be_when_the_store_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(open_engine(&path, 1 << 20).unwrap().table_bytes(), Some(1 << 20));
        assert_eq!(open_engine(&path, 2 << 20).unwrap().table_bytes(), Some(1 << 20), "for ever");
    }

    #[test]
    fn a_panic_is_damage_while_rows_are_read_and_none_while_they_are_written() {
        let path = Path::new("data");
        assert!(matches!(guarded::<()>(path, || panic!("read")), Err(MessagesError::Corrupt { .. })));
        assert!(matches!(guarded_write::<()>(path, || panic!("written")), Err(MessagesError::Failed(_))));
        assert!(guarded_write(path, || Ok(())).is_ok());
    }
}
