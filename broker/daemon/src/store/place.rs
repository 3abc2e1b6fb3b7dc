//! The folder of the registry: who may see it, which process has it, and how far its database had come.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use signet_registry::audit::Head;

use super::StoreError;

/// The database in the folder.
const DATABASE: &str = "registry.db";
/// The lock of the process that has it.
const LOCK: &str = "registry.lock";
/// How far the database had come.
const HEAD: &str = "registry.head";

/// A folder that this process alone has, of mode 0700. The lock goes with the value, also when the process is killed.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    /// The lock of the operating system hangs on this descriptor.
    _lock: File,
}

impl Place {
    /// Takes the folder, and makes it when it does not exist.
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        let fail = |error| StoreError::io(directory, error);
        match std::fs::metadata(directory) {
            Ok(found) => not_exposed(directory, found.permissions().mode())?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
            }
            Err(error) => return Err(fail(error)),
        }
        let path = directory.join(LOCK);
        let lock = private().open(&path).map_err(|error| StoreError::io(&path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(directory.to_owned())),
            Err(TryLockError::Error(error)) => Err(StoreError::io(&path, error)),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn database(&self) -> PathBuf {
        database_in(&self.directory)
    }

    /// The last event that is known to have been stored here. What cannot be read, after a power failure in the middle of writing
    /// it, is as if it were not there.
    pub(super) fn known_head(&self) -> Result<Option<Head>, StoreError> {
        let path = self.directory.join(HEAD);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
            Err(error) => Err(StoreError::io(&path, error)),
        }
    }

    /// The file that the last event is noted in.
    pub(super) fn head_file(&self) -> Result<HeadFile, StoreError> {
        let path = self.directory.join(HEAD);
        let file = private().open(&path).map_err(|error| StoreError::io(&path, error))?;
        Ok(HeadFile { file })
    }

    /// Makes what was renamed in the folder durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_directory(&self.directory)
    }
}

/// Where the database of a registry's folder is.
pub(super) fn database_in(directory: &Path) -> PathBuf {
    directory.join(DATABASE)
}

/// Makes what was renamed in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| StoreError::io(directory, error))
}

/// Notes the last stored event outside of the database, after it is durable there. So a database that ends before it is an
/// older copy, or has lost its write-ahead log. It is not synced: it may lag behind, and never runs ahead.
#[derive(Debug)]
pub(super) struct HeadFile {
    file: File,
}

impl HeadFile {
    pub(super) fn write(&mut self, head: &Head) -> std::io::Result<()> {
        // Always of the same length, so that a later one covers an earlier one.
        let line = format!("{:020}:{}\n", head.seq, head.hash);
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(line.as_bytes())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

/// Makes an empty file that only this user can read; it must not exist.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(StoreError::Exists(path.to_owned())),
        Err(error) => Err(StoreError::io(path, error)),
    }
}

/// That others can neither read nor change `path`.
pub(super) fn not_exposed(path: &Path, mode: u32) -> Result<(), StoreError> {
    let mode = mode & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Exposed { path: path.to_owned(), mode }) }
}
