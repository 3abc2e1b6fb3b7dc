//! `[store]`: where sessions, queues and retained messages are kept.

use std::path::PathBuf;
use std::time::Duration;

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In memory: they end with the process.
    Memory,
    /// On disk: they outlive it.
    Disk(DiskStore),
}

/// How they are kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskStore {
    /// The folder, which one process at a time can have.
    pub directory: PathBuf,
    /// When they are written, and what waits for that.
    pub durability: Durability,
    /// So many bytes that are not on disk yet may be in memory.
    pub journal_bytes_max: usize,
    /// What a damaged store means.
    pub corrupt: Corrupt,
}

/// When what changes is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged.
    Strict {
        /// How long a change waits for others that share its write, or undo it.
        linger: Duration,
    },
    /// Sooner or later after it is acknowledged.
    Batched {
        /// After so long at the latest, while the disk is well.
        interval: Duration,
    },
}

/// What a damaged store means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrupt {
    /// The broker does not start.
    Refuse,
    /// It is moved aside, and the broker begins with an empty one.
    Quarantine,
}
