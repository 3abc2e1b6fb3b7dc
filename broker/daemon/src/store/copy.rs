//! Copies of the registry: while it is in use, whole, and verified before they count.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use signet_registry::audit::Head;

use super::database::walk;
use super::place::{create_private, sync_directory};
use super::schema::{self, beside};
use super::{RegistryService, StoreError};

/// Pages copied at once.
const PAGES_AT_ONCE: i32 = 1000;

/// A copy that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Where.
    pub path: PathBuf,
    /// Its last event. Noted elsewhere, it shows whether this trail was ever rewritten.
    pub head: Head,
    /// Its size in bytes.
    pub bytes: u64,
}

impl RegistryService {
    /// Writes a copy of the registry as it is at this moment to the file `to`, which must not exist, of mode 0600. Commands
    /// and questions go on. The copy is verified and on disk when this returns. Not for threads that carry traffic.
    ///
    /// # Errors
    /// [`StoreError`]; then there is no file at `to`.
    pub fn backup(&self, to: &Path) -> Result<Copied, StoreError> {
        let source = schema::open_to_read(&self.database_path())?;
        copy(&source, &self.database_path(), to)
    }
}

/// Copies the database that `source` has open to the file `to`, which must not exist.
pub(super) fn copy(source: &Connection, from: &Path, to: &Path) -> Result<Copied, StoreError> {
    if to.exists() {
        return Err(StoreError::Exists(to.to_owned()));
    }
    let part = beside(to, ".part");
    create_private(&part)?;
    let copied = fill(source, from, &part).and_then(|head| {
        // A link fails when the name was taken meanwhile, where a rename would overwrite.
        std::fs::hard_link(&part, to).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => StoreError::Exists(to.to_owned()),
            _ => StoreError::io(to, error),
        })?;
        let bytes = std::fs::metadata(to).map_err(|error| StoreError::io(to, error))?.len();
        Ok(Copied { path: to.to_owned(), head, bytes })
    });
    let removed = std::fs::remove_file(&part).map_err(|error| StoreError::io(&part, error));
    let copied = copied?;
    removed?;
    sync_directory(match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    })?;
    Ok(copied)
}

/// Fills the empty file `part`, verifies it, and brings it to disk.
fn fill(source: &Connection, from: &Path, part: &Path) -> Result<Head, StoreError> {
    let reading = |error: rusqlite::Error| StoreError::reading(from, &error);
    let mut target = schema::connect(part)?;
    {
        // As long as this is open, what is copied does not change, however much is written meanwhile.
        let snapshot = source.unchecked_transaction().map_err(reading)?;
        snapshot.query_row("SELECT count(*) FROM head", [], |_| Ok(())).map_err(reading)?;
        let backup = Backup::new(&snapshot, &mut target).map_err(reading)?;
        while backup.step(PAGES_AT_ONCE).map_err(reading)? != StepResult::Done {}
    }
    // One file, without a write-ahead log beside it.
    let writing = |error: rusqlite::Error| StoreError::reading(part, &error);
    target
        .pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))
        .map_err(writing)?;
    schema::check(&target, part)?;
    let head = walk(&target, part, &[], |_| Ok(()))?;
    target.close().map_err(|(_, error)| writing(error))?;
    let file = std::fs::File::open(part).map_err(|error| StoreError::io(part, error))?;
    file.sync_all().map_err(|error| StoreError::io(part, error))?;
    Ok(head)
}
