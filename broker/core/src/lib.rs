//! Decides everything, touches nothing: the server half of MQTT 3.1.1 and 5.0 without sockets, clocks, disks or
//! tasks.
//!
//! A [`Hub`] is what a broker's connections share. Each network connection has a [`Connection`] in its own task.
//! Inputs and the time go in, actions come out:
//!
//! 1. Call [`Connection::handle`] with an [`Input`]; carry out and drain the [`Actions`], in order.
//! 2. Arm a timer at [`Connection::next_deadline`] (it only has to fire, not to be moved at every packet: a deadline
//!    that comes early is harmless) and give [`Input::Deadline`] when it fires.
//! 3. When the waker was called, or whenever it is convenient: while [`Connection::wants_drain`] and the output has
//!    room, give [`Input::Wake`]. When [`Connection::is_summoned`], give it at once, room or not: somebody wants the
//!    connection closed.
//!
//! The hub needs [`Hub::tick`] at [`Hub::next_deadline`], and [`Hub::publish_sys`] at a regular interval.
//!
//! Messages do not pass through a common task: the publisher's connection looks its topic up, puts one shared
//! [`Message`] into each receiver's mailbox and wakes it; the receiver's connection judges it by the policy of that
//! moment and hands it out as a [`Delivery`]. An acknowledgement comes out only after its message is in every mailbox
//! and, when retained, in the store.
//!
//! A hub with a [`journal`] says what must outlive the process. [`Action::Hold`] then stands before every acknowledgement
//! of something that does not yet; [`Hub::restore`] takes back what an earlier process left.
//!
//! Where the specification leaves a choice:
//!
//! - QoS 2 messages are routed when PUBLISH arrives, and their identifier is remembered until PUBREL (MQTT5 §4.3.3,
//!   method B).
//! - Overlapping subscriptions give one copy, at the highest QoS, with all subscription identifiers
//!   (`[MQTT5-3.3.4-2]`).
//! - A denied PUBLISH is answered with 0x87; 3.1.1, which cannot say it, gets the normal acknowledgement, as from
//!   Mosquitto.
//! - A publisher other than an operator that names a response topic which it may not read is refused with 0x87: the
//!   responder would otherwise publish there with rights that the publisher does not have.
//! - A retained message that a bound refuses is not routed either where its publisher can be told: 5.0 with QoS 1 or 2,
//!   0x97. Where it cannot (3.1.1, QoS 0, a will), those who subscribe now get it, and it is not retained.
//! - PUBLISH packets to a client wait for nothing but its Receive Maximum; QoS 0 does not wait for that.
//! - Nothing is routed to or from the provisioning topics below `$aws/`: see [`provisioning`].
//! - A will is judged when it is sent. One that would be refused already at CONNECT is reported as an [`Event`].

mod action;
mod close;
mod connection;
mod counters;
mod event;
mod hub;
pub mod journal;
mod limits;
mod link;
mod mailbox;
mod message;
mod outbound;
pub mod provisioning;
pub mod retained;
pub mod router;
mod session;
mod time;

pub use action::{Action, Actions, Delivery, Input, SubscriptionIds};
pub use close::{CloseReason, Refusal, Violation};
pub use connection::{ClientIdRule, Connection, ListenerRules, Peer};
pub use counters::{Counters, Counts};
pub use event::{AnswerDropped, DeniedAccess, Event, Quota};
pub use hub::{
    Backlog, Condemned, ConnectionInfo, Consequences, Hears, Hub, Pressure, Purged, Restored, Restoring,
    RetainedTaken, SessionInfo,
};
pub use limits::{Limits, SlowConsumer};
pub use message::{Author, Message, Publisher};
pub use time::{Mono, Now, Wall};
