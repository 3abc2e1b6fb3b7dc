//! A store in memory: for tests, and the model of what the one on disk does.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::store::{Batch, Change, EachRow, MessageStore, Snapshot, StoreSize};
use super::{MessagesError, row};

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// Rows in memory. A clone sees the same rows, as a second process would after the first has ended.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    rows: Arc<Mutex<Rows>>,
    /// What the next commits and reopenings fail with.
    failures: Arc<Mutex<Vec<Failure>>>,
    broken: bool,
}

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing of the batch is there afterwards.
    Lost(std::io::ErrorKind),
    /// The batch is there afterwards, though nobody was told.
    Made(std::io::ErrorKind),
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        let store = Self::default();
        let schema = super::key::Key::Schema.encode();
        store.rows.lock().insert(schema, row::put_schema(super::SCHEMA).into());
        store
    }

    /// Makes the next commits or reopenings fail, the first one in the list first.
    pub fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        let mut waiting = self.failures.lock();
        waiting.extend(failures);
        waiting.reverse();
    }

    /// How many failures have not happened yet.
    #[must_use]
    pub fn failures_left(&self) -> usize {
        self.failures.lock().len()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.lock().len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn change(&self, batch: &Batch) {
        let mut rows = self.rows.lock();
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => {
                    rows.insert(key.clone(), value.clone());
                }
                Change::Delete(key) => {
                    rows.remove(key);
                }
                Change::DeletePrefix(prefix) => rows.retain(|key, _| !key.starts_with(prefix)),
            }
        }
    }
}

fn failed(kind: std::io::ErrorKind) -> MessagesError {
    MessagesError::Io { path: "memory".into(), source: Arc::new(kind.into()) }
}

impl MessageStore for MemoryStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), MessagesError> {
        if self.broken {
            return Err(MessagesError::Closed);
        }
        match self.failures.lock().pop() {
            None => {
                self.change(batch);
                Ok(())
            }
            Some(Failure::Lost(kind)) => {
                self.broken = true;
                Err(failed(kind))
            }
            Some(Failure::Made(kind)) => {
                self.change(batch);
                self.broken = true;
                Err(failed(kind))
            }
        }
    }

    fn for_each(&self, each: &mut EachRow<'_>) -> Result<(), MessagesError> {
        let rows = self.rows.lock().clone();
        rows.into_iter().try_for_each(|(key, value)| each(&key, &value))
    }

    fn reopen(&mut self) -> Result<(), MessagesError> {
        match self.failures.lock().pop() {
            None => {
                self.broken = false;
                Ok(())
            }
            Some(Failure::Lost(kind) | Failure::Made(kind)) => Err(failed(kind)),
        }
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, MessagesError> {
        Ok(Box::new(Self { rows: Arc::new(Mutex::new(self.rows.lock().clone())), ..Self::default() }))
    }

    fn size(&self) -> StoreSize {
        let rows = self.rows.lock();
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        StoreSize { disk_bytes: bytes as u64, ..StoreSize::default() }
    }
}

impl Snapshot for MemoryStore {
    fn for_each(&self, each: &mut EachRow<'_>) -> Result<(), MessagesError> {
        MessageStore::for_each(self, each)
    }
}
