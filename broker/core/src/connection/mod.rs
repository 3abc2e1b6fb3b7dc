//! One network connection: phases as types, one input at a time.

mod acknowledge;
mod alias;
mod connect;
mod deliver;
mod enrol;
mod inbound;
mod publish;
mod room;
mod subscribe;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::MutexGuard;
use signet_identity::{Principal, Role};
use signet_wire::{
    AckProperties, ClientId, Disconnect, DisconnectProperties, Packet, ReasonCode, Text, Version, encoded_len,
};

use crate::action::{Action, Actions, Input};
use crate::close::{CloseReason, Refusal, Violation};
use crate::counters::{Shard, count};
use crate::hub::{Hub, Scratch};
use crate::link::{Link, SIGNAL_ANSWER, SIGNAL_CLOSE, SIGNAL_POLICY};
use crate::message::Author;
use crate::session::{Session, SessionRef};
use crate::time::{Mono, Now};
use alias::{InboundAliases, OutboundAliases};
use deliver::Verdict;

/// What a listener asks of client identifiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientIdRule {
    /// Any: every principal has a name space of its own.
    #[default]
    Any,
    /// The principal's name and nothing else. A client that sends none gets it.
    Identity,
    /// The principal's name, or its name and `/` and more. No name contains `/`, so nobody can have another's
    /// identifier; and no `%c` in an access rule stands for one with a `/`.
    IdentityPrefix,
}

/// What a listener asks of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerRules {
    /// Which client identifiers are admitted.
    pub client_id_rule: ClientIdRule,
    /// What a client that asks for Response Information gets, with `/` and the principal's name behind it (MQTT5
    /// §3.2.2.3.15); `None`: nothing.
    pub response_prefix: Option<Text>,
    /// Why CONNECT is refused, whatever it says: the peer's certificate is good and not in force. `None`: it is judged as
    /// usual.
    pub refusal: Option<Refusal>,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From the verified certificate.
    pub principal: Principal,
    /// For lists and logs.
    pub address: SocketAddr,
    /// Of the listener that accepted the connection.
    pub rules: ListenerRules,
}

/// One network connection behind its handshake. Its owner drives it as the crate's documentation says.
///
/// Dropping it while it is open ends it as if the peer had gone, at the time of its last input.
pub struct Connection {
    hub: Arc<Hub>,
    link: Arc<Link>,
    rules: ListenerRules,
    phase: Phase,
    last: Now,
}

/// What exists in each phase of a connection.
enum Phase {
    AwaitConnect { until: Mono, version: Option<Version> },
    Open(Box<Open>),
    Closed { version: Option<Version> },
}

/// A connection whose CONNECT was accepted.
struct Open {
    cell: SessionRef,
    author: Arc<Author>,
    link: Arc<Link>,
    version: Version,
    /// One and a half times the keep alive.
    silence_max: Option<Duration>,
    last_received: Mono,
    request_problem_info: bool,
    /// The session expiry interval of CONNECT was 0 or absent.
    expiry_was_zero: bool,
    /// What the client was told as our Maximum Packet Size.
    packet_bytes_max: NonZeroU32,
    /// The client's Maximum Packet Size.
    peer_packet_bytes_max: Option<NonZeroU32>,
    /// QoS 1 and 2 messages in flight to the client, at most.
    window: usize,
    /// What the client was told as our Receive Maximum; a 3.1.1 client is told nothing and has `unreleased_qos2_max`.
    receive_max: usize,
    /// QoS 2 messages that came on this connection and are not released.
    unreleased: usize,
    /// The session goes on from an earlier connection, and its PUBREL packets are not sent again yet.
    releases_due: bool,
    inbound_aliases: InboundAliases,
    outbound_aliases: Option<Box<OutboundAliases>>,
    /// More can be delivered without anybody calling.
    more: bool,
    /// QoS 1 and 2 messages wait for an acknowledgement.
    held_back: bool,
    /// Requests for certificates that wait for their answers.
    requests: usize,
    /// Some of them were answered.
    answers_due: bool,
    /// The policy's last answer about a delivery.
    verdict: Option<Box<Verdict>>,
    scratch: Option<Box<Scratch>>,
}

impl Connection {
    /// A connection that has done its handshake and sent nothing. `waker` is called, from any thread, when there is
    /// something to do.
    #[must_use]
    pub fn new(hub: Arc<Hub>, peer: Peer, waker: Waker, now: Now) -> Self {
        let link = Arc::new(Link::new(hub.next_number(), peer.principal, peer.address, now, waker));
        hub.register(&link);
        count(&hub.counters.shard(link.number).sockets);
        let until = now.mono.after(hub.limits.load().connect_timeout);
        Self { hub, link, rules: peer.rules, phase: Phase::AwaitConnect { until, version: None }, last: now }
    }

    /// Applies one input. Drain `out` before the next call, or later: the order stays.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Actions) {
        self.last = now;
        if self.is_closed() {
            return;
        }
        self.link.begin();
        self.apply(input, now, out);
        self.link.done();
    }

    fn apply(&mut self, input: Input, now: Now, out: &mut Actions) {
        let result = match &mut self.phase {
            Phase::Closed { .. } => return,
            Phase::AwaitConnect { until, .. } => {
                let until = *until;
                self.await_connect(input, until, now, out).map(|open| {
                    if let Some(open) = open {
                        self.phase = Phase::Open(open);
                    }
                })
            }
            Phase::Open(open) => open.handle(&self.hub, input, now, out),
        };
        if let Err(reason) = result {
            self.close(reason, now, out);
        }
    }

    /// When [`Input::Deadline`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        match &self.phase {
            Phase::AwaitConnect { until, .. } => Some(*until),
            Phase::Open(open) => open.silence_max.map(|max| open.last_received.after(max)),
            Phase::Closed { .. } => None,
        }
    }

    /// The limit for the next packet from the peer, in bytes with the fixed header.
    #[must_use]
    pub fn packet_bytes_max(&self) -> u32 {
        let limits = self.hub.limits.load();
        match &self.phase {
            Phase::AwaitConnect { .. } => limits.connect_packet_bytes_max.get(),
            Phase::Open(open) => open.packet_bytes_max.get(),
            Phase::Closed { .. } => limits.packet_bytes_max.get(),
        }
    }

    /// The protocol version, once a CONNECT was decoded.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match &self.phase {
            Phase::AwaitConnect { version, .. } | Phase::Closed { version } => *version,
            Phase::Open(open) => Some(open.version),
        }
    }

    /// Whether [`Input::Wake`] has something to do: messages to hand out, or a summons.
    #[must_use]
    pub fn wants_drain(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => open.more || self.link.signals() != 0,
            Phase::AwaitConnect { .. } => self.link.signals() != 0,
            Phase::Closed { .. } => false,
        }
    }

    /// Whether [`Input::Wake`] has something to do that cannot wait for room in the output: somebody wants the
    /// connection closed, or the policy changed.
    #[must_use]
    pub fn is_summoned(&self) -> bool {
        !matches!(self.phase, Phase::Closed { .. })
            && self.link.signals() & (SIGNAL_CLOSE | SIGNAL_POLICY) != 0
    }

    /// Whether the packet that begins with these bytes had better wait: memory runs short, and there is no other answer to it than
    /// to close. That is so of PUBLISH of QoS 1 and 2 and SUBSCRIBE from a 3.1.1 client, which cannot be told to try again later.
    #[must_use]
    pub fn should_wait(&mut self, packet: &[u8]) -> bool {
        match &mut self.phase {
            Phase::Open(open) if open.version == Version::V311 && room::takes_memory(packet) => {
                open.is_shed(&self.hub) && !open.may_publish_nonetheless(&self.hub, packet)
            }
            Phase::Open(_) | Phase::AwaitConnect { .. } | Phase::Closed { .. } => false,
        }
    }

    /// The connection's number, never used twice while the broker runs.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.link.number
    }

    /// What it shares with the others.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Who is at the other end.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.link.principal
    }

    /// The client identifier, once CONNECT was accepted.
    #[must_use]
    pub fn client_id(&self) -> Option<&ClientId> {
        self.link.admitted.get().map(|(client_id, _)| client_id)
    }

    /// Whether the peer is to have nothing more of the output that was made before it closed for `reason`: somebody has taken
    /// from it the right to have that. An operator who only ends a connection takes none.
    #[must_use]
    pub fn withholds_output(&self, reason: CloseReason) -> bool {
        reason == CloseReason::CertificateRevoked || self.is_withheld()
    }

    /// Whether somebody has taken from the peer the right to what was not written yet. That may come after
    /// [`Action::Close`], while the last words are on their way: then the waker is called.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        self.link.is_withheld()
    }

    /// Whether [`Action::Close`] was given out.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    fn close(&mut self, reason: CloseReason, now: Now, out: &mut Actions) {
        let version = self.version();
        if let Phase::Open(open) = std::mem::replace(&mut self.phase, Phase::Closed { version }) {
            open.say_goodbye(&self.hub, reason, out);
            self.hub.release(&self.link, &open.cell, reason, now);
            if let Some(consequences) = self.link.condemned() {
                self.hub.take_back(&open.author, consequences);
            }
        }
        self.hub.unregister(&self.link);
        out.push(Action::Close(reason));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.is_closed() {
            self.close(CloseReason::Abandoned, self.last, &mut Actions::new());
        }
        // Should an input have ended in a panic.
        self.link.done();
        self.hub.forget_parting(&self.link);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("link", &self.link)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Open {
    fn handle(&mut self, hub: &Hub, input: Input, now: Now, out: &mut Actions) -> Result<(), CloseReason> {
        if let Err(reason) = self.heed_signals(hub) {
            // What was acknowledged to its publisher and waits here would be lost with the process.
            if reason == CloseReason::ServerShuttingDown {
                self.drain(hub, now, out)?;
            }
            return Err(reason);
        }
        if std::mem::take(&mut self.answers_due) {
            self.hand_out_answers(hub, out)?;
        }
        match input {
            Input::Packet(packet) => {
                self.last_received = now.mono;
                count(&self.counters(hub).packets_received);
                self.packet(hub, packet, now, out)
            }
            Input::Wake => self.drain(hub, now, out),
            Input::Deadline => self.check_keep_alive(now),
            Input::Undecodable(error) => Err(CloseReason::Undecodable(error)),
            Input::Unframable(error) => Err(CloseReason::Unframable(error)),
            Input::PeerClosed => Err(CloseReason::PeerClosed),
            Input::Close(reason) => {
                if reason == CloseReason::ServerShuttingDown {
                    // What its publisher was acknowledged leaves first: the mailbox does not outlive the process.
                    self.drain(hub, now, out)?;
                }
                Err(reason)
            }
            Input::Connect(_) => Err(CloseReason::Violation(Violation::UnexpectedPacket)),
        }
    }

    /// What others want of this connection comes before what its client wants.
    fn heed_signals(&mut self, hub: &Hub) -> Result<(), CloseReason> {
        let signals = self.link.take_signals();
        if signals == 0 {
            return Ok(());
        }
        if signals & SIGNAL_CLOSE != 0
            && let Some(reason) = self.link.close_reason()
        {
            return Err(reason);
        }
        self.more = true;
        self.answers_due |= signals & SIGNAL_ANSWER != 0;
        if signals & SIGNAL_POLICY != 0 {
            let _together = hub.together(self.cell.number);
            let judged = {
                let mut state = self.state()?;
                hub.reauthorise(&self.cell, &mut state)
            };
            hub.redistribute(judged.orphans);
            if judged.revoked > 0 {
                return Err(CloseReason::NotAuthorized);
            }
        }
        Ok(())
    }

    fn packet(&mut self, hub: &Hub, packet: Packet, now: Now, out: &mut Actions) -> Result<(), CloseReason> {
        match packet {
            Packet::Publish(publish) => self.publish(hub, publish, now, out),
            Packet::PubAck(ack) => self.puback(hub, &ack),
            Packet::PubRec(ack) => self.pubrec(hub, &ack, out),
            Packet::PubRel(ack) => self.pubrel(hub, &ack, out),
            Packet::PubComp(ack) => self.pubcomp(hub, &ack),
            Packet::Subscribe(subscribe) => self.subscribe(hub, *subscribe, now, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(hub, *unsubscribe, out),
            Packet::PingReq => self.send(hub, Packet::PingResp, out),
            Packet::Disconnect(disconnect) => Err(self.disconnect(hub, &disconnect)),
            Packet::Auth(_) => Err(CloseReason::Violation(Violation::AuthWithoutMethod)),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => Err(CloseReason::Violation(Violation::UnexpectedPacket)),
        }
    }

    /// `[MQTT5-3.1.2-22]`, `[MQTT3-3.1.2-24]`: only packets from the client count.
    fn check_keep_alive(&self, now: Now) -> Result<(), CloseReason> {
        match self.silence_max {
            Some(max) if now.mono.since(self.last_received) >= max => Err(CloseReason::KeepAliveTimeout),
            _ => Ok(()),
        }
    }

    /// The client's own end of the connection.
    fn disconnect(&self, hub: &Hub, disconnect: &Disconnect) -> CloseReason {
        let expiry = disconnect.properties.as_ref().and_then(|properties| properties.session_expiry_secs);
        // A claim keeps no session, whatever it says.
        let keeps = self.author.principal.role() != Role::Claim;
        if let Some(secs) = expiry.filter(|_| keeps) {
            if self.expiry_was_zero && secs != 0 {
                return CloseReason::Violation(Violation::SessionExpiryFromZero);
            }
            match self.state() {
                Ok(mut state) => {
                    hub.prolong(&self.cell, &mut state, connect::session_expiry(secs, &hub.limits.load()));
                }
                Err(reason) => return reason,
            }
        }
        match disconnect.reason {
            ReasonCode::NORMAL_DISCONNECTION => CloseReason::Disconnected,
            other => CloseReason::DisconnectedWithWill(other),
        }
    }

    /// Whether memory has no room for what is new of this client.
    fn is_shed(&self, hub: &Hub) -> bool {
        hub.sheds(&self.cell.key.principal, &self.cell.usage)
    }

    /// The session's state, unless another connection owns it by now.
    fn state(&self) -> Result<MutexGuard<'_, Session>, CloseReason> {
        let state = self.cell.state.lock();
        if state.owner == Some(self.link.number) { Ok(state) } else { Err(CloseReason::TakenOver) }
    }

    fn counters<'a>(&self, hub: &'a Hub) -> &'a Shard {
        hub.counters.shard(self.link.number)
    }

    /// Sends a packet, within the client's Maximum Packet Size (`[MQTT5-3.1.2-24]`): first without what only
    /// explains, and if that does not help the connection ends.
    fn send(&self, hub: &Hub, mut packet: Packet, out: &mut Actions) -> Result<(), CloseReason> {
        if let Some(max) = self.peer_packet_bytes_max
            && !fits(&packet, self.version, max)
        {
            strip(&mut packet);
            if !fits(&packet, self.version, max) {
                return Err(CloseReason::PeerPacketLimit);
            }
        }
        count(&self.counters(hub).packets_sent);
        out.push(Action::Send(packet));
        Ok(())
    }

    /// An explanation for a person, unless the client asked for none (`[MQTT5-3.1.2-29]`) or speaks 3.1.1, which has
    /// no place for it.
    fn explain(&self, text: &'static str) -> Option<Box<AckProperties>> {
        if self.version == Version::V311 || !self.request_problem_info {
            return None;
        }
        Some(Box::new(AckProperties {
            reason_string: Some(Text::from_static(text)),
            user_properties: Vec::new(),
        }))
    }

    /// DISCONNECT with the reason, to 5.0 clients (MQTT5 §3.14, §4.13).
    fn say_goodbye(&self, hub: &Hub, reason: CloseReason, out: &mut Actions) {
        let (Version::V5, Some(code)) = (self.version, reason.v5_code()) else { return };
        let properties = Text::try_from(reason.to_string()).ok().map(|text| {
            Box::new(DisconnectProperties { reason_string: Some(text), ..DisconnectProperties::default() })
        });
        // Without room even for the bare packet it is not sent (`[MQTT5-3.14.2-3]`).
        let _ = self.send(hub, Packet::Disconnect(Disconnect { reason: code, properties }), out);
    }
}

fn fits(packet: &Packet, version: Version, max: NonZeroU32) -> bool {
    u32::try_from(encoded_len(packet, version)).is_ok_and(|len| len <= max.get())
}

/// Takes reason strings and user properties away (`[MQTT5-3.4.2-2]` and its like).
fn strip(packet: &mut Packet) {
    match packet {
        Packet::ConnAck(ack) => {
            ack.properties.reason_string = None;
            ack.properties.user_properties.clear();
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.properties = None;
        }
        Packet::SubAck(ack) => ack.properties = None,
        Packet::UnsubAck(ack) => ack.properties = None,
        Packet::Disconnect(disconnect) => disconnect.properties = None,
        Packet::Connect(_)
        | Packet::Publish(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp
        | Packet::Auth(_) => {}
    }
}
