//! What an earlier process left, as a hub takes it back. See [`crate::Hub::restore`].

use signet_wire::{PacketId, SubscriptionFilter};

use crate::journal::record::{QueuedEntry, SessionNumber, StoredSession};
use crate::router::SubOptions;

/// A session with all that belongs to it.
#[derive(Debug)]
pub struct RestoredSession {
    /// Its number: that of its records.
    pub number: SessionNumber,
    /// As the last [`crate::journal::Record::Session`] said.
    pub stored: StoredSession,
    /// Subscribed and not unsubscribed, in any order.
    pub subscriptions: Vec<(SubscriptionFilter, SubOptions)>,
    /// Queued and not done, in the order of their numbers.
    pub entries: Vec<RestoredEntry>,
    /// Received and not freed, in any order.
    pub unreleased: Vec<PacketId>,
}

/// A message that waits for a session, and how far it came.
#[derive(Debug)]
pub enum RestoredEntry {
    /// It has no [`crate::journal::Record::Sent`]: it was never sent, or is QoS 1.
    Waiting(QueuedEntry),
    /// [`crate::journal::Record::Sent`] was the last.
    Sent(QueuedEntry, PacketId),
    /// [`crate::journal::Record::Released`] was the last: its number, and its identifier.
    Released(u64, PacketId),
}

impl RestoredEntry {
    /// Its place in the session.
    #[must_use]
    pub const fn number(&self) -> u64 {
        match self {
            Self::Waiting(entry) | Self::Sent(entry, _) => entry.number,
            Self::Released(number, _) => *number,
        }
    }
}
