//! Last-seen data on its way to disk: late, in small parts, and never in the way of a command.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use signet_identity::CertificateId;
use signet_registry::Seen;

use super::StoreError;
use super::database::Database;
use super::service::Shared;

/// Between two collections of what changed.
const COLLECT_INTERVAL: Duration = Duration::from_secs(5);
/// The most rows of one transaction: a command waits no longer than these take.
const ROWS_AT_ONCE: usize = 256;

#[derive(Debug)]
pub(super) struct SeenWriter {
    waiting: Vec<(CertificateId, Seen)>,
    next: Instant,
}

impl Default for SeenWriter {
    fn default() -> Self {
        Self { waiting: Vec::new(), next: Instant::now() + COLLECT_INTERVAL }
    }
}

impl SeenWriter {
    /// Whether there is something to write now.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty() && Instant::now() >= self.next
    }

    /// Writes one part, when it is time.
    pub(super) fn write_some(&mut self, shared: &Shared, database: &mut Database) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        if self.waiting.is_empty() {
            self.waiting = shared.seen.take_changed();
            if self.waiting.is_empty() {
                self.next = now + COLLECT_INTERVAL;
                return;
            }
        }
        if let Err(error) = self.write_part(shared, database) {
            tracing::warn!(%error, waiting = self.waiting.len(), "last-seen data could not be written; it is tried again");
            self.next = now + COLLECT_INTERVAL;
        } else if self.waiting.is_empty() {
            self.next = now + COLLECT_INTERVAL;
        }
    }

    /// Writes all that there is, at the end.
    pub(super) fn write_all(&mut self, shared: &Shared, database: &mut Database) {
        self.waiting.extend(shared.seen.take_changed());
        while !self.waiting.is_empty() {
            if let Err(error) = self.write_part(shared, database) {
                tracing::warn!(%error, lost = self.waiting.len(), "last-seen data could not be written");
                return;
            }
        }
    }

    fn write_part(&mut self, shared: &Shared, database: &mut Database) -> Result<(), StoreError> {
        let from = self.waiting.len().saturating_sub(ROWS_AT_ONCE);
        // Those that were deleted meanwhile stay so.
        let registry = shared.snapshot.load();
        let part: Vec<_> = self
            .waiting
            .iter()
            .skip(from)
            .filter(|(id, _)| registry.certificate(id).is_some())
            .copied()
            .collect();
        database.store_seen(&part).map_err(|error| StoreError::writing(&error))?;
        shared.counters.seen.fetch_add(part.len() as u64, Ordering::Relaxed);
        self.waiting.truncate(from);
        Ok(())
    }
}
