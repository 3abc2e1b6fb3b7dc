//! What goes into a connection and what comes out of it.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::BytesMut;
use signet_wire::{Alias, Connect, ConnectError, DecodeError, FrameError, Packet, Patch, QosId, Version};
use smallvec::SmallVec;

use crate::close::CloseReason;
use crate::event::Event;
use crate::journal::Ticket;
use crate::message::Message;
use crate::provisioning::{Reply, Request};

/// The subscription identifiers that a message carries to one client (`[MQTT5-3.3.4-3]`).
pub type SubscriptionIds = SmallVec<[u32; 4]>;

/// One thing that happens to a connection.
#[derive(Debug)]
pub enum Input {
    /// The first packet, decoded or not: [`crate::Connection::next_input`].
    Connect(Result<Connect, ConnectError>),
    /// Any later packet.
    Packet(Packet),
    /// A later packet that could not be decoded.
    Undecodable(DecodeError),
    /// The stream cannot be cut into packets any more.
    Unframable(FrameError),
    /// The waker was called, or [`crate::Connection::wants_drain`] and the output has room. The only input that hands
    /// out [`Action::Deliver`], but for the last batch before a stop.
    Wake,
    /// [`crate::Connection::next_deadline`] has passed. Harmless when early.
    Deadline,
    /// The peer is gone.
    PeerClosed,
    /// The caller ends the connection.
    Close(CloseReason),
}

/// One thing to do, in order.
#[derive(Debug)]
pub enum Action {
    /// What follows and goes to the client leaves only once [`crate::journal::Journal::is_settled`] says so of this ticket.
    /// What does not go to the client does not wait. Never given out by a hub without a journal.
    Hold(Ticket),
    /// Encode and write this packet.
    Send(Packet),
    /// Write this message with [`Delivery::write`].
    Deliver(Delivery),
    /// Serve this request for a certificate, and answer through [`crate::Hub::answer`].
    Enrol(Box<Request>),
    /// Write this answer with [`Reply::write`].
    Answer(Box<Reply>),
    /// For the log and the audit trail; the connection goes on.
    Note(Event),
    /// Flush and close. Nothing follows.
    Close(CloseReason),
}

/// The actions of one or more inputs, in order. Reused by its owner, so that a packet costs no allocation.
#[derive(Debug, Default)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// Without room yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends one.
    pub fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    /// Takes all, in order, and keeps the room.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Action> {
        self.0.drain(..)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives memory beyond `actions` actions back.
    pub fn shrink_to(&mut self, actions: usize) {
        self.0.shrink_to(actions);
    }
}

/// One message on its way to one client: the shared message and what differs per receiver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Shared with every other receiver.
    pub message: Arc<Message>,
    /// Quality of service and packet identifier towards this client.
    pub qos: QosId,
    /// A re-delivery after a resumed session (`[MQTT5-3.3.1-1]`).
    pub dup: bool,
    /// RETAIN as this client is to see it.
    pub retain: bool,
    /// The remaining Message Expiry Interval, in seconds.
    pub expiry_secs: Option<u32>,
    /// The topic alias, and whether the client knows its topic already.
    pub alias: Option<(NonZeroU16, bool)>,
    /// Of all subscriptions of this client that matched.
    pub subscription_ids: SubscriptionIds,
}

impl Delivery {
    fn patch(&self) -> Patch<'_> {
        Patch {
            dup: self.dup,
            retain: self.retain,
            qos: self.qos,
            expiry_secs: self.expiry_secs,
            alias: self.alias.map(|(value, topic_known)| Alias { value, topic_known }),
            subscription_ids: &self.subscription_ids,
        }
    }

    /// The size of the whole PUBLISH, in bytes.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> usize {
        self.message.template(version).encoded_len(&self.patch())
    }

    /// Appends the PUBLISH to `out`.
    pub fn write(&self, version: Version, out: &mut BytesMut) {
        self.message.template(version).write(&self.patch(), out);
    }
}
