//! Why the message store cannot be opened, read or written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::row::RowError;

/// What to do about a store that is damaged.
const DAMAGED: &str = "restore a backup with `signet restore`, or write corrupt = \"quarantine\" in [store] to move it \
                       aside and begin with an empty one; nothing was changed";

/// Why the store of sessions and messages failed. It displays what is wrong and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MessagesError {
    /// The operating system refused something.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Another process has the store open.
    #[error("{}: another process has this message store open\n  hint: stop the broker that runs with it", .0.display())]
    InUse(PathBuf),
    /// Others can read or change the store.
    #[error("{}: others may read or change it (mode {mode:04o})\n  hint: chmod 700 it", path.display())]
    Exposed {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A newer version of this program wrote it.
    #[error("{}: the message store has schema version {found}, this program reads up to {supported}\n  hint: use the newer program; it cannot be downgraded", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// The store is damaged.
    #[error("{}: the message store is damaged: {what}\n  hint: {DAMAGED}", path.display())]
    Corrupt {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The storage engine panicked while it wrote. What it has confirmed is there, so that is no damage.
    #[error("{}: the storage engine failed in the middle of a write, and is opened again\n  hint: report the panic in the log", .0.display())]
    Failed(PathBuf),
    /// A file is no backup of messages, or not whole.
    #[error("{}: this is not a whole backup of sessions and messages: {what}", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What should be made is there already.
    #[error("{}: it exists already", .0.display())]
    Exists(PathBuf),
    /// A commit failed before, and the store was not reopened yet.
    #[error("the message store is closed after a failure and is not open again yet")]
    Closed,
}

impl MessagesError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source: Arc::new(source) }
    }

    pub(super) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn row(path: &Path, key: &[u8], error: &RowError) -> Self {
        let shown: String = key.iter().take(24).map(|byte| format!("{byte:02x}")).collect();
        Self::corrupt(path, format!("the row {shown} cannot be read: {error}"))
    }

    /// What the engine says about the store in `path`.
    pub(super) fn engine(path: &Path, error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(source) => Self::of_io(path, source),
            fjall::Error::Storage(fjall::LsmError::Io(source)) => Self::of_io(path, source),
            fjall::Error::Locked => Self::InUse(path.to_owned()),
            fjall::Error::Poisoned => Self::Closed,
            other => Self::corrupt(path, format!("{other:?}")),
        }
    }

    /// A file that is shorter than it says is damage, not the operating system.
    fn of_io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                Self::corrupt(path, source.to_string())
            }
            _ => Self::io(path, source),
        }
    }

    /// Whether the disk has no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }

    /// A bounded label for a metric.
    #[must_use]
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Io { .. } if self.is_full() => "full",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => "read-only",
            Self::Io { .. } => "io",
            Self::InUse(_) => "in-use",
            Self::Exposed { .. } => "exposed",
            Self::Newer { .. } => "newer",
            Self::Corrupt { .. } => "corrupt",
            Self::Failed(_) => "failed",
            Self::NotABackup { .. } => "not-a-backup",
            Self::Exists(_) => "exists",
            Self::Closed => "closed",
        }
    }
}
