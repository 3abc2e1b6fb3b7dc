//! Sessions, queued and retained messages on disk.
//!
//! The core records what became true in a [`Journal`](signet_core::journal::Journal). The [`Committer`], one thread, takes
//! the records, finds the shortest way from what the store has to what it should have ([`Ledger`]), and gives it to a
//! [`MessageStore`] as one [`Batch`] with one sync. At the start [`load`] reads everything back.
//!
//! The store is a list of rows ([`Row`]) in the order of their keys. [`DiskStore`] keeps them with fjall; [`MemoryStore`] is
//! its twin for tests.

mod bytes;
mod committer;
mod copy;
mod disk;
mod error;
mod journal_end;
mod key;
mod ledger;
mod load;
mod memory;
mod metrics;
mod place;
mod row;
mod store;

#[cfg(test)]
mod tests;

pub use committer::{Committer, Pace};
pub use copy::{CopiedMessages, RestoredMessages, restore_copy, verify_copy, write_copy};
pub use disk::{Damaged, DiskStore, MEMTABLE_BYTES, Opened, SCHEMA, TABLE_FILES_MAX};
pub use error::MessagesError;
pub use ledger::{Counts, Ledger};
pub use load::{Left, Loaded, load};
pub use memory::{Failure, MemoryStore};
pub use metrics::StoreMetrics;
pub use row::{Exchange, Row, RowError, Waiting, decode};
pub use store::{Batch, Change, EachRow, MessageStore, Snapshot, StoreSize};
