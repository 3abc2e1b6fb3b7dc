//! The folder of the message store: who may see it, which process has it, and how far the store had come.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::MessagesError;

/// The rows.
const ROWS: &str = "messages";
/// The lock of the process that has it.
const LOCK: &str = "messages.lock";
/// How far the store had come.
const HEAD: &str = "messages.head";
/// Where rows are made before they take their place.
const STAGING: &str = "messages.restore";
/// Commits between two syncs of the head.
const SYNCED_EACH: u64 = 64;
/// Between a name and the moment at which what had it was moved aside, in milliseconds.
const ASIDE: &str = ".aside-";

/// A folder that this process alone has, of mode 0700. The lock goes with the value, also when the process is killed.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    /// The lock of the operating system hangs on this descriptor.
    _lock: File,
}

impl Place {
    /// Takes the folder, and makes it when it does not exist.
    pub(super) fn take(directory: &Path) -> Result<Self, MessagesError> {
        let fail = |error| MessagesError::io(directory, error);
        match std::fs::metadata(directory) {
            Ok(found) => {
                let mode = found.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(MessagesError::Exposed { path: directory.to_owned(), mode });
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
            }
            Err(error) => return Err(fail(error)),
        }
        let path = directory.join(LOCK);
        let lock = private().open(&path).map_err(|error| MessagesError::io(&path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(MessagesError::InUse(directory.to_owned())),
            Err(TryLockError::Error(error)) => Err(MessagesError::io(&path, error)),
        }
    }

    /// Where the rows are.
    pub(super) fn rows(&self) -> PathBuf {
        self.directory.join(ROWS)
    }

    pub(super) fn head(&self) -> Result<Head, MessagesError> {
        let path = self.directory.join(HEAD);
        let file = private().open(&path).map_err(|error| MessagesError::io(&path, error))?;
        Ok(Head { path, file })
    }

    /// Renames the rows and the note of how far they had come; where the rows are then. `None`: there were none.
    pub(super) fn move_aside(&self, moment_ms: u64) -> Result<Option<PathBuf>, MessagesError> {
        let mut moved = None;
        for name in [HEAD, ROWS] {
            let from = self.directory.join(name);
            let to = self.directory.join(format!("{name}{ASIDE}{moment_ms}"));
            match std::fs::rename(&from, &to) {
                Ok(()) => moved = Some(to).filter(|_| name == ROWS),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(MessagesError::io(&from, error)),
            }
        }
        self.sync()?;
        Ok(moved)
    }

    /// An empty place for rows beside those that are there.
    pub(super) fn staging(&self) -> Result<PathBuf, MessagesError> {
        let path = self.directory.join(STAGING);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(MessagesError::io(&path, error)),
            _ => Ok(path),
        }
    }

    /// Puts the rows at `staged` in place of those that are there, which are moved aside; where they are then.
    pub(super) fn put_in_place(
        &self,
        staged: &Path,
        moment_ms: u64,
    ) -> Result<Option<PathBuf>, MessagesError> {
        let rows = self.rows();
        let aside = self.directory.join(format!("{ROWS}{ASIDE}{moment_ms}"));
        let replaced = match std::fs::rename(&rows, &aside) {
            Ok(()) => Some(aside),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(MessagesError::io(&rows, error)),
        };
        std::fs::rename(staged, &rows).map_err(|error| MessagesError::io(&rows, error))?;
        self.sync()?;
        Ok(replaced)
    }

    /// Makes what was renamed in the folder durable.
    pub(super) fn sync(&self) -> Result<(), MessagesError> {
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| MessagesError::io(&self.directory, error))
    }
}

/// Notes the last commit outside of the rows, after it is durable there. So rows that end before it have lost something,
/// or are an older copy. It is synced now and then: after a power failure it may lag behind by [`SYNCED_EACH`] commits, and
/// it never runs ahead.
#[derive(Debug)]
pub(super) struct Head {
    path: PathBuf,
    file: File,
}

impl Head {
    pub(super) fn write(&mut self, commit: u64) -> std::io::Result<()> {
        // Always of the same length, so that a later one covers an earlier one.
        let line = format!("{commit:020} {:020}\n", !commit);
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(line.as_bytes())?;
        if commit.is_multiple_of(SYNCED_EACH) { self.file.sync_data() } else { Ok(()) }
    }

    /// The commit that is known to have been made; 0 when nothing is known. What was cut off by a power failure in the middle of
    /// writing it is as if it were not there.
    pub(super) fn read(&mut self) -> Result<u64, MessagesError> {
        let mut text = String::new();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_string(&mut text));
        match read {
            Err(error) if error.kind() != ErrorKind::InvalidData => {
                return Err(MessagesError::io(&self.path, error));
            }
            _ => {}
        }
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>().ok());
        Ok(match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(commit), Some(check)) if check == !commit => commit,
            _ => 0,
        })
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}
