//! Why the registry cannot be opened, read or written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_WRITE;
use signet_registry::RegistryError;
use signet_registry::audit::{Broken, Head};

/// What to do about a registry that is damaged.
const RESTORE: &str =
    "restore a backup with `signet restore`; nothing was changed, and nothing is made anew by itself";

/// Why the store of the registry failed. It displays what is wrong and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused something.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Another process has the registry open.
    #[error("{}: another process has this registry open\n  hint: stop the broker that runs with it, or speak to it through its admin socket", .0.display())]
    InUse(PathBuf),
    /// Others can read or change the registry.
    #[error("{}: others may read or change it (mode {mode:04o})\n  hint: chmod {} it", path.display(), if path.is_dir() { "700" } else { "600" })]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There was a registry here, and its database is gone.
    #[error("{}: the database is gone, but this folder has held one up to event {}\n  hint: {RESTORE}", path.display(), known.seq)]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// The last event that was stored in it.
        known: Head,
    },
    /// There is no registry where one was expected.
    #[error("{}: there is no registry here", .0.display())]
    NoRegistry(PathBuf),
    /// The file is something else.
    #[error("{}: this is a database of another program\n  hint: is [registry] directory right?", .0.display())]
    Foreign(PathBuf),
    /// A newer version of this program wrote it.
    #[error("{}: the registry has schema version {found}, this program reads up to {supported}\n  hint: use the newer program; it cannot be downgraded", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that is understood.
        supported: i64,
    },
    /// The file is damaged.
    #[error("{}: the database is damaged: {what}\n  hint: {RESTORE}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An event is not what was stored, or is gone.
    #[error("{}: {broken}\n  hint: {RESTORE}", path.display())]
    Audit {
        /// The database.
        path: PathBuf,
        /// Where the chain is broken.
        broken: Broken,
    },
    /// The database is an older one than the one that was here.
    #[error("{}: the database ends at event {found}, but event {} was stored here: an older copy was put in place, or its -wal file was removed\n  hint: put the newer one back, or use `signet restore`, which keeps later revocations", path.display(), known.seq)]
    OlderCopy {
        /// The database.
        path: PathBuf,
        /// The number of its last event.
        found: u64,
        /// The last event that was stored.
        known: Head,
    },
    /// A file that would be overwritten.
    #[error("{}: it exists, and nothing is overwritten", .0.display())]
    Exists(PathBuf),
    /// Too many commands wait.
    #[error("more than {0} commands wait for the registry: try again")]
    Busy(usize),
    /// The transaction failed. Nothing has changed.
    #[error("the registry could not be written, and nothing has changed: {0}")]
    NotStored(String),
    /// The disk failed in the middle. Whether the change is stored shows at the next start; until then nothing more is
    /// written.
    #[error(
        "the registry's disk failed: {0}\n  hint: whether the last change is stored shows after a restart; look at the disk, then restart the broker"
    )]
    DiskFailed(String),
    /// The broker is stopping, or the writer has ended.
    #[error("the registry is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source: Arc::new(source) }
    }

    /// What SQLite says while a database is opened or read.
    pub(super) fn reading(path: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse(path.to_owned()),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
                Self::io(path, io::Error::other(error.to_string()))
            }
            _ => Self::Corrupt { path: path.to_owned(), what: error.to_string() },
        }
    }

    /// What SQLite says while something is written.
    pub(super) fn writing(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // With these SQLite has not written, or has undone what it wrote.
            Some(
                ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::TooBig
                | ErrorCode::ConstraintViolation
                | ErrorCode::ReadOnly,
            ) => Self::NotStored(error.to_string()),
            // A write that is refused, as by a file system that has become read-only, leaves no whole transaction in the
            // write-ahead log. What a failed sync leaves is not known.
            _ if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_WRITE) => {
                Self::NotStored(error.to_string())
            }
            _ => Self::DiskFailed(error.to_string()),
        }
    }

    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::InUse(_) => "in_use",
            Self::Exposed { .. } => "exposed",
            Self::Missing { .. } => "missing",
            Self::NoRegistry(_) => "no_registry",
            Self::Foreign(_) => "foreign",
            Self::Newer { .. } => "newer",
            Self::Corrupt { .. } => "corrupt",
            Self::Audit { .. } => "audit",
            Self::OlderCopy { .. } => "older_copy",
            Self::Exists(_) => "exists",
            Self::Busy(_) => "busy",
            Self::NotStored(_) => "not_stored",
            Self::DiskFailed(_) => "disk_failed",
            Self::Closed => "closed",
        }
    }
}

/// Why a command had no effect, or, for [`StoreError::DiskFailed`], perhaps had one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError {
    /// The registry refused it.
    #[error(transparent)]
    Refused(#[from] RegistryError),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ExecuteError {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.metric_label(),
            Self::Store(store) => store.metric_label(),
        }
    }
}
