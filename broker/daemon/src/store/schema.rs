//! The database's form, and opening one without ever making it anew by mistake.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::place::{Place, create_private, not_exposed};

/// Marks a database as a registry: the letters `Sgnt`.
const APPLICATION_ID: i64 = 0x5367_6e74;

/// What turns a database of version n into one of version n + 1, from 0, the empty one. What is here is never changed, only
/// added to.
pub(super) const MIGRATIONS: &[&str] = &[
    // 1: `event` is the truth and the audit trail. Its columns after `hash` are derived from the text for searching and are
    // not covered by the hash. `head` is the last event; `seen` is neither audited nor decided upon.
    "CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        event TEXT NOT NULL,
        previous BLOB NOT NULL,
        hash BLOB NOT NULL,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT,
        certificate BLOB
    ) STRICT;
    CREATE INDEX event_name ON event (name, seq) WHERE name IS NOT NULL;
    CREATE INDEX event_certificate ON event (certificate, seq) WHERE certificate IS NOT NULL;
    CREATE TABLE head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    CREATE TABLE seen (
        certificate BLOB PRIMARY KEY,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        address TEXT NOT NULL,
        tls TEXT NOT NULL,
        connects INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;",
];

/// How long a statement waits for an operator's `sqlite3` that holds a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the database of `place` for writing; makes it when there has never been one.
pub(super) fn open(place: &Place) -> Result<Connection, StoreError> {
    let path = place.database();
    match std::fs::metadata(&path) {
        Ok(found) => {
            not_exposed(&path, found.permissions().mode())?;
            if found.len() == 0 {
                return Err(StoreError::Corrupt { path, what: "the file is empty".to_owned() });
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create(place, &path)?,
        Err(error) => return Err(StoreError::io(&path, error)),
    }
    let mut connection = connect(&path)?;
    judge(&connection, &path)?;
    prepare(&connection, &path)?;
    check(&connection, &path)?;
    migrate(&mut connection, &path, MIGRATIONS)?;
    Ok(connection)
}

/// Opens a database that is there, only for reading. One that this process writes at the same time can be read so.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    if !path.is_file() {
        return Err(StoreError::NoRegistry(path.to_owned()));
    }
    let connection = connect(path)?;
    judge(&connection, path)?;
    connection.pragma_update(None, "query_only", true).map_err(|error| StoreError::reading(path, &error))?;
    Ok(connection)
}

/// Makes a database beside its place and moves it there when it is whole.
fn create(place: &Place, path: &Path) -> Result<(), StoreError> {
    if let Some(known) = place.known_head()? {
        return Err(StoreError::Missing { path: path.to_owned(), known });
    }
    for left in ["-wal", "-journal"] {
        let left = beside(path, left);
        if left.exists() {
            let what = format!("{} is there without it", left.display());
            return Err(StoreError::Corrupt { path: path.to_owned(), what });
        }
    }
    let unfinished = beside(path, ".new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(StoreError::io(&unfinished, error)),
        _ => create_private(&unfinished)?,
    }
    let mut connection = connect(&unfinished)?;
    connection
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(|error| StoreError::reading(&unfinished, &error))?;
    migrate(&mut connection, &unfinished, MIGRATIONS)?;
    connection.close().map_err(|(_, error)| StoreError::reading(&unfinished, &error))?;
    std::fs::rename(&unfinished, path).map_err(|error| StoreError::io(path, error))?;
    place.sync()
}

/// `path` with something appended to its last component.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// How SQLite reaches files: the index of the write-ahead log is in this process's memory. In a mapped file, as it is by
/// default, a write that the disk refuses would end the process (SIGBUS) where an error is wanted. The price is that no other
/// process can have the database open, which the folder's lock keeps it from anyway.
const FILES: &str = "unix-excl";

/// Opens a file that is there.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let set_up = || {
        let connection = Connection::open_with_flags_and_vfs(path, flags, FILES)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // A database that somebody prepared must not be able to run anything.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        Ok(connection)
    };
    set_up().map_err(|error: rusqlite::Error| StoreError::reading(path, &error))
}

/// Whether this is a registry, of a version that is understood.
fn judge(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let read = |pragma| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|error| StoreError::reading(path, &error))
    };
    if read("application_id")? != APPLICATION_ID {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    let found = read("user_version")?;
    let supported = version(MIGRATIONS);
    if found > supported {
        return Err(StoreError::Newer { path: path.to_owned(), found, supported });
    }
    Ok(())
}

/// How it is written: to a write-ahead log, which is on disk when a transaction has ended.
fn prepare(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let reading = |error: rusqlite::Error| StoreError::reading(path, &error);
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(reading)?;
    if mode != "wal" {
        let refused = std::io::Error::other(format!("the file system allows no write-ahead log, but {mode}"));
        return Err(StoreError::io(path, refused));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(reading)
}

/// Whether SQLite finds its own structures whole.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found: String = connection
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(|error| StoreError::reading(path, &error))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Corrupt { path: path.to_owned(), what: found }) }
}

/// Brings a database to the version that `migrations` end with, each step whole or not at all.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let fail = |error: rusqlite::Error| StoreError::reading(path, &error);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    let done = usize::try_from(found).unwrap_or(0);
    for (step, sql) in migrations.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(fail)?;
        transaction.execute_batch(sql).map_err(fail)?;
        transaction
            .pragma_update(None, "user_version", version(migrations.get(..=step).unwrap_or(&[])))
            .map_err(fail)?;
        transaction.commit().map_err(fail)?;
    }
    Ok(())
}

/// The version that `migrations` lead to.
fn version(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}
