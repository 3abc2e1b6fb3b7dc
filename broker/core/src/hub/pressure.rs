//! What the broker takes on while its memory runs short. How short it is, its owner says; what follows is decided here.
//!
//! What was acknowledged is never given up for it: queues of QoS 1 and 2 and retained messages stay. What is new is
//! refused, what may be lost is lost first.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use signet_identity::PrincipalKey;
use signet_wire::{QoS, TopicName};

use crate::close::CloseReason;
use crate::hub::usage::SUBSCRIPTION_BYTES;
use crate::hub::{Hub, Scratch, Usage};
use crate::mailbox::{ENTRY_BYTES, Held};
use crate::message::Author;
use crate::router::Matches;
use crate::session::{Expiry, SessionCell, SessionRef};

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// What [`Self::Shed`] refuses to everybody is refused to those whose name holds more than [`Hub::set_fair_share`] says; of
    /// messages, those that make what such a name holds more. All others notice nothing.
    Tight,
    /// Nothing new is taken on: QoS 0 is dropped, QoS 1 and 2 and new subscriptions are refused with 0x97, and whoever has
    /// no session yet gets CONNACK 0x89.
    Shed,
    /// As before. The owner closes those who hold the most, and lets few in at a time: who comes for what waits in its
    /// session makes room.
    Full,
}

/// What so many short subscriptions of a name take does not count in its share, in bytes: a service that reconnects asks for a few
/// dozen at once, and is nobody of whom memory is short.
const UNCOUNTED_BYTES: usize = 128 * SUBSCRIPTION_BYTES;

/// The state of one broker.
#[derive(Debug)]
pub(crate) struct Load {
    pressure: AtomicU8,
    growth: AtomicUsize,
    fair_share: AtomicUsize,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            pressure: AtomicU8::default(),
            growth: AtomicUsize::default(),
            fair_share: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Pressure {
    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::None,
            1 => Self::Tight,
            2 => Self::Shed,
            _ => Self::Full,
        }
    }
}

/// What of a message says whether memory has room for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outline<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) retain: bool,
    /// Bytes of its payload and its properties.
    pub(crate) content_bytes: usize,
}

/// Memory has no room for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// What waits for one connected session and is given back when its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// [`crate::Connection::number`] of the connection that owns it.
    pub connection: u64,
    /// About how many bytes its queues take: QoS 0, and QoS 1 and 2, those in flight included, only where the session ends with the
    /// connection. Of a message that waits in several queues each has its part, since the end of one of them gives back
    /// no more: together they have it once. The place in the queue is each one's own.
    pub bytes: usize,
    /// About how many bytes the client has to take, and to acknowledge, before they are given back without its end: the topics,
    /// payloads and properties of the same messages, undivided. Retained messages that wait for it count here, and in [`Self::bytes`]
    /// only once nobody else has them.
    pub to_take: usize,
}

impl Hub {
    /// How short memory is, by the last [`Self::set_pressure`].
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        Pressure::from_u8(self.load.pressure.load(Ordering::Relaxed))
    }

    /// Says how short memory is, for what happens from now on. Any thread may.
    pub fn set_pressure(&self, pressure: Pressure) {
        self.load.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    /// How many bytes a name may hold and still be served under [`Pressure::Tight`]; any number before this is called.
    pub fn set_fair_share(&self, bytes: usize) {
        self.load.fair_share.store(bytes, Ordering::Relaxed);
    }

    /// About how many bytes the core has taken since the last [`Self::reset_growth`]; what it gave back is not counted.
    /// It says when to look again at how much memory there is.
    #[must_use]
    pub fn growth(&self) -> usize {
        self.load.growth.load(Ordering::Relaxed)
    }

    /// Begins to count anew.
    pub fn reset_growth(&self) {
        self.load.growth.store(0, Ordering::Relaxed);
    }

    pub(crate) fn grow(&self, bytes: usize) {
        self.load.growth.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether what is new is refused to a name that has `usage` now.
    pub(crate) fn sheds(&self, name: &PrincipalKey, usage: &Usage) -> bool {
        match self.pressure() {
            Pressure::None => false,
            Pressure::Tight => self.is_above_share(name, usage),
            Pressure::Shed | Pressure::Full => true,
        }
    }

    /// As [`Self::sheds`], of a name that may have nothing here.
    pub(crate) fn sheds_newcomer(&self, name: &PrincipalKey) -> bool {
        if self.pressure() == Pressure::None {
            return false;
        }
        // Not with the table locked.
        let usage = self.usage_of(name);
        self.sheds(name, &usage.unwrap_or_default())
    }

    /// Whether what a name keeps in queues, in flight, subscribed to and retained is more than its share.
    fn is_above_share(&self, name: &PrincipalKey, usage: &Usage) -> bool {
        let share = self.load.fair_share.load(Ordering::Relaxed);
        let subscribed = usage.subscribed_bytes().saturating_sub(UNCOUNTED_BYTES);
        let held = usage.queued_bytes() + usage.replayed_bytes() + subscribed;
        held > share || held + self.retained.bytes_of(name) > share
    }

    /// Whether memory has no room for a message of a session, the name of which holds more than its share: it makes somebody's share
    /// larger that is above it already. That is its own name's where the message would be retained and is longer than what that has
    /// retained on the topic, and otherwise a receiver's. Where there is room, the receivers that were found.
    ///
    /// One that its author may not publish goes nowhere: who listens there is not for it to know. `scratch` is the
    /// session's, while nothing is in it.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn room_beside_hoards(
        &self,
        session: &SessionCell,
        author: &Author,
        message: &Outline<'_>,
        scratch: &mut Scratch,
    ) -> Result<Option<Matches<SessionRef>>, NoRoom> {
        let slot = self.policy_slot();
        if slot.policy.may_publish(&author.subject(), message.topic).is_err() {
            return Ok(None);
        }
        let name = &session.key.principal;
        if message.retain && self.retained.content_bytes_of(name, message.topic) < message.content_bytes {
            return Err(NoRoom);
        }
        let adds = |receiver: &SessionRef| {
            self.is_above_share(&receiver.key.principal, &receiver.usage)
                && slot.policy.may_receive(&receiver.author.load().subject(), message.topic).is_ok()
        };
        self.index.matches(message.topic, session.number, &mut scratch.matches);
        // Who of a group gets it is not known.
        if scratch.matches.plain().iter().any(|hit| adds(&hit.subscriber))
            || scratch.matches.shared().iter().any(|group| group.any(adds))
        {
            scratch.matches.clear();
            return Err(NoRoom);
        }
        Ok(Some(std::mem::take(&mut scratch.matches)))
    }

    /// The connected sessions that something waits for which the end of the connection gives back, in no particular order.
    #[must_use]
    pub fn backlogs(&self) -> Vec<Backlog> {
        let waiting = |cell: &SessionRef| {
            let (ends, inflight) = {
                let state = cell.state.lock();
                let ends = state.expiry == Expiry::AtClose;
                (ends, if ends { state.outbound.held() } else { Held::default() })
            };
            let mailbox = cell.mailbox.lock();
            let connection = mailbox.link()?.number;
            let Held { given_back: bytes, to_take } = mailbox.held(ends).and(inflight);
            (bytes > 0).then_some(Backlog { connection, bytes, to_take })
        };
        self.cells(|_| true).iter().filter_map(waiting).collect()
    }

    /// Closes a connection with 0x97 because it takes too slowly what waits for it. False: there is none.
    pub fn close_slow(&self, number: u64) -> bool {
        self.close_connection(number, CloseReason::SlowConsumer)
    }
}

/// What a message takes that was put into `queues`.
pub(crate) const fn taken_by(message_bytes: usize, queues: usize) -> usize {
    message_bytes + queues * ENTRY_BYTES
}

/// Whether a message of this quality may be lost without anybody being told.
pub(crate) fn may_be_lost(qos: QoS) -> bool {
    qos == QoS::AtMostOnce
}
