//! The registry on disk: decide, store, apply.
//!
//! [`RegistryService`] keeps a [`Registry`](signet_registry::Registry) in memory and its events in SQLite. One thread
//! writes: it takes the commands that wait, decides each against a working copy, stores the events of all of them in one
//! transaction that is on disk before anything else happens, publishes the new registry, tells who keeps connections, and
//! answers. So a command that was answered is durable, and one that was not stored has had no effect.
//!
//! Questions of connections are answered from the published registry, without a query and without a lock.

mod access;
mod copy;
mod database;
mod error;
pub mod messages;
mod place;
mod restore;
mod schema;
mod seen;
mod service;
mod writer;

#[cfg(test)]
mod tests;

pub use access::{AUDIT_ROWS_MAX, AuditQuery, Recorded};
pub use copy::Copied;
pub use database::{read_registry, verify_file};
pub use error::{ExecuteError, StoreError};
pub use restore::{Restored, restore};
pub use service::{Applied, Options, Pending, QUEUE_COMMANDS_MAX, RegistryService, Stats};
