//! What the committer asks of a store.

use bytes::Bytes;

use super::MessagesError;

/// Changes that are made all or not at all. In order: a later one wins over an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This key has this value from now on.
    Put(Vec<u8>, Bytes),
    /// This key has no value any more. It may have had none.
    Delete(Vec<u8>),
    /// No key that begins with this has a value any more. No earlier change of the batch concerns such a key.
    DeletePrefix(Vec<u8>),
}

impl Batch {
    /// The changes, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a change.
    pub fn push(&mut self, change: Change) {
        self.bytes += match &change {
            Change::Put(key, value) => key.len() + value.len(),
            Change::Delete(key) | Change::DeletePrefix(key) => key.len(),
        };
        self.changes.push(change);
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.push(Change::Put(key, value.into()));
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.push(Change::Delete(key));
    }
}

/// What a store takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Files of rows.
    pub tables: u64,
    /// Bytes of rows in memory, those that are in a file already but not let go of included.
    pub memory_bytes: u64,
    /// Rearrangements in the background that are done since it was opened.
    pub compactions: u64,
}

/// Called with the key and the value of each row, in the order of the keys.
pub type EachRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), MessagesError> + 'a;

/// Where sessions, queued and retained messages outlive the process. One thread has it.
pub trait MessageStore: Send {
    /// Makes the changes. When it returns, they outlive a power failure. After an error they are made, or not, or will be seen at
    /// the next [`Self::reopen`]; the same batch may be given again, and must be before another one.
    ///
    /// # Errors
    /// Nothing more is written until [`Self::reopen`] succeeds.
    fn commit(&mut self, batch: &Batch) -> Result<(), MessagesError>;

    /// Reads every row as of the last commit.
    ///
    /// # Errors
    /// What the store or `each` says; then no more rows are read.
    fn for_each(&self, each: &mut EachRow<'_>) -> Result<(), MessagesError>;

    /// Makes it usable again after a failed commit, with everything that was committed durable.
    ///
    /// # Errors
    /// It is not usable yet, or damaged.
    fn reopen(&mut self) -> Result<(), MessagesError>;

    /// There is nothing to write now: whatever takes memory and is not needed any more may go. Called every few seconds.
    fn rest(&mut self) {}

    /// The rows as they are after the last commit, to be read by another thread while the store goes on.
    ///
    /// # Errors
    /// The store is not usable now.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, MessagesError>;

    /// What it takes; cheap.
    fn size(&self) -> StoreSize;
}

/// All rows of one moment.
pub trait Snapshot: Send {
    /// Reads every row, in the order of the keys.
    ///
    /// # Errors
    /// What the store or `each` says; then no more rows are read.
    fn for_each(&self, each: &mut EachRow<'_>) -> Result<(), MessagesError>;
}
