//! One thing that became true.

use std::sync::Arc;

use signet_identity::PrincipalKey;
use signet_wire::{ClientId, PacketId, QoS, SubscriptionFilter, TopicName, Will};

use crate::action::SubscriptionIds;
use crate::message::{Author, Message, properties_bytes};
use crate::router::SubOptions;
use crate::time::Wall;

/// The number of a session: never used twice by one process. The next one begins behind the highest that is stored: a number that
/// it gives again has no row, since what ends a session deletes its rows in the same portion.
pub type SessionNumber = u64;

/// One change of what must outlive the process. Only sessions that outlive their connection have records.
#[derive(Clone, Debug)]
pub enum Record {
    /// A session came to be, or is now like this.
    Session(SessionNumber, Box<StoredSession>),
    /// A session is over, with all that belongs to it: subscriptions, entries, identifiers.
    Ended(SessionNumber),
    /// A subscription came to be, or has other options.
    Subscribed(SessionNumber, SubscriptionFilter, SubOptions),
    /// A subscription is over.
    Unsubscribed(SessionNumber, SubscriptionFilter),
    /// A message waits for a session.
    Queued(SessionNumber, Box<QueuedEntry>),
    /// A waiting QoS 2 message is about to be sent for the first time, with this identifier. From now on a second
    /// sending has the same one (`[MQTT5-4.4.0-1]`).
    Sent(SessionNumber, u64, PacketId),
    /// PUBREC came: only the identifier counts from here on (`[MQTT5-4.3.3-6]`).
    Released(SessionNumber, u64),
    /// A message no longer waits: acknowledged to the end, expired, dropped or taken away.
    Done(SessionNumber, u64),
    /// A QoS 2 message of the session's client was routed; its identifier is in use (`[MQTT5-4.3.3-10]`).
    Received(SessionNumber, PacketId),
    /// That identifier is free again.
    Freed(SessionNumber, PacketId),
    /// A topic has this retained message.
    Retained(Arc<Message>),
    /// A topic has no retained message.
    Cleared(TopicName),
}

/// What a session is beside its subscriptions and messages.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// Whose it is.
    pub principal: PrincipalKey,
    /// Its client identifier.
    pub client_id: ClientId,
    /// As it was admitted last.
    pub author: Arc<Author>,
    /// How long it outlives its connection, in seconds; `u32::MAX`: it never expires. Never 0.
    pub expiry_secs: u32,
    /// When it ends; `None` while connected, and for one that never expires.
    pub ends: Option<Wall>,
    /// A will that is to be sent, with its author.
    pub will: Option<(Will, Arc<Author>)>,
    /// When the will is sent; only while not connected.
    pub will_due: Option<Wall>,
}

/// A message that waits for a session.
#[derive(Clone, Debug)]
pub struct QueuedEntry {
    /// Its place in the session: later ones are higher.
    pub number: u64,
    /// Shared with the other sessions that it waits for.
    pub message: Arc<Message>,
    /// QoS 1 or 2.
    pub qos: QoS,
    /// RETAIN as the client is to see it.
    pub retain: bool,
    /// From the retained store, not live: its publisher's right is judged again at delivery.
    pub replay: bool,
    /// Of all subscriptions of the client that matched.
    pub subscription_ids: SubscriptionIds,
    /// The filter of the shared subscription whose turn it was, with its group.
    pub shared: Option<SubscriptionFilter>,
}

impl Record {
    /// What it keeps in memory until it is durable, in bytes, beside its own size. It is asked once for each record, with
    /// the number of the portion that the record will be in: a message counts for the first of its records there, also one
    /// that comes from the retained store, since it is written once more.
    pub(super) fn bytes(&self, portion: u64) -> usize {
        match self {
            Self::Session(_, session) => {
                256 + session.client_id.len() + session.will.as_ref().map_or(0, |(will, _)| will_bytes(will))
            }
            Self::Subscribed(_, filter, _) | Self::Unsubscribed(_, filter) => filter.filter().len(),
            Self::Queued(_, entry) => entry.message.bytes_in(portion),
            Self::Retained(message) => message.bytes_in(portion),
            Self::Cleared(topic) => topic.len(),
            Self::Ended(_)
            | Self::Sent(..)
            | Self::Released(..)
            | Self::Done(..)
            | Self::Received(..)
            | Self::Freed(..) => 0,
        }
    }
}

fn will_bytes(will: &Will) -> usize {
    will.payload.len() + will.topic.len() + will.properties.as_deref().map_or(0, properties_bytes)
}
