//! From the handshake to CONNACK.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signet_identity::Role;
use signet_wire::{
    ClientId, ConnAck, ConnAckProperties, Connect, ConnectError, Packet, ReasonCode, Text, Version, Will,
};

use crate::action::{Action, Actions, Input};
use crate::close::{CloseReason, Refusal, Violation};
use crate::connection::alias::{InboundAliases, OutboundAliases};
use crate::connection::{ClientIdRule, Connection, ListenerRules, Open, Phase, fits};
use crate::counters::count;
use crate::event::{DeniedAccess, Event};
use crate::hub::{Attach, Attached};
use crate::limits::Limits;
use crate::message::Author;
use crate::provisioning::is_below_aws;
use crate::session::{ArmedWill, Expiry, SessionKey, SessionRef};
use crate::time::{Mono, Now};

/// What CONNECT and the limits agree on.
struct Terms {
    client_id: ClientId,
    /// The client did not choose it.
    assigned: bool,
    keep_alive_secs: u16,
    expiry_secs: u32,
}

impl Connection {
    /// The first packet must be CONNECT (`[MQTT5-3.1.0-1]`, `[MQTT3-3.1.0-1]`), and in time.
    pub(super) fn await_connect(
        &mut self,
        input: Input,
        until: Mono,
        now: Now,
        out: &mut Actions,
    ) -> Result<Option<Box<Open>>, CloseReason> {
        self.link.take_signals();
        if let Some(reason) = self.link.close_reason() {
            return Err(reason);
        }
        match input {
            Input::Connect(Ok(connect)) => {
                self.decoded(until, connect.version);
                count(&self.hub.counters.shard(self.link.number).packets_received);
                self.admit(&connect, now, out).map(Some)
            }
            Input::Connect(Err(error)) => Err(self.bad_connect(error, until, out)),
            Input::Deadline if now.mono >= until => Err(CloseReason::ConnectTimeout),
            Input::Deadline | Input::Wake => Ok(None),
            Input::Packet(_) => Err(CloseReason::Violation(Violation::UnexpectedPacket)),
            Input::Undecodable(error) => Err(CloseReason::Undecodable(error)),
            Input::Unframable(error) => Err(CloseReason::Unframable(error)),
            Input::PeerClosed => Err(CloseReason::PeerClosed),
            Input::Close(reason) => Err(reason),
        }
    }

    /// From here on the caller knows in which version to encode.
    fn decoded(&mut self, until: Mono, version: Version) {
        self.phase = Phase::AwaitConnect { until, version: Some(version) };
    }

    fn bad_connect(&mut self, error: ConnectError, until: Mono, out: &mut Actions) -> CloseReason {
        if let Some((version, reason)) = error.answer() {
            self.decoded(until, version);
            self.refuse(reason, &error.to_string(), None, out);
        }
        CloseReason::BadConnect(error)
    }

    /// CONNACK with a failure: no session present (`[MQTT5-3.2.2-6]`), and nothing behind it (`[MQTT5-3.2.2-7]`).
    fn refuse(&self, reason: ReasonCode, why: &str, max: Option<NonZeroU32>, out: &mut Actions) {
        count(&self.hub.counters.shard(self.link.number).connects_refused);
        let version = self.version().unwrap_or(Version::V5);
        let with = |reason_string| {
            let properties = Box::new(ConnAckProperties { reason_string, ..ConnAckProperties::default() });
            Packet::ConnAck(Box::new(ConnAck { session_present: false, reason, properties }))
        };
        let within = |packet: &Packet| max.is_none_or(|max| fits(packet, version, max));
        if let Some(packet) = [with(Text::try_from(why).ok()), with(None)].into_iter().find(within) {
            count(&self.hub.counters.shard(self.link.number).packets_sent);
            out.push(Action::Send(packet));
        }
    }

    fn admit(&mut self, connect: &Connect, now: Now, out: &mut Actions) -> Result<Box<Open>, CloseReason> {
        let max = connect.properties.packet_bytes_max;
        self.try_admit(connect, now, out).map_err(|refusal| {
            self.refuse(refusal.reason(), &refusal.to_string(), max, out);
            CloseReason::Refused(refusal)
        })
    }

    fn try_admit(&self, connect: &Connect, now: Now, out: &mut Actions) -> Result<Box<Open>, Refusal> {
        if let Some(refusal) = self.rules.refusal {
            return Err(refusal);
        }
        let limits = self.hub.limits.load();
        let terms = self.agree(connect, &limits, now)?;
        let author =
            Arc::new(Author { principal: self.link.principal.clone(), client_id: terms.client_id.clone() });
        if connect.will.as_ref().is_some_and(|will| self.hub.too_deep(&will.topic)) {
            return Err(Refusal::WillTopicTooDeep);
        }
        if connect.will.as_ref().is_some_and(|will| self.is_claim() || is_below_aws(&will.topic)) {
            return Err(Refusal::WillNotAllowed);
        }
        let mut connack = ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: Box::new(offer(connect, &terms, &limits, &self.rules, &author)),
        };
        if self.sheds(&terms) {
            count(&self.hub.counters.shard(self.link.number).shed_connects);
            return Err(Refusal::Overloaded);
        }
        if terms.expiry_secs > 0 && self.hub.is_behind() {
            return Err(Refusal::StoreBehind);
        }
        let max = connect.properties.packet_bytes_max;
        if max.is_some_and(|max| !fits(&Packet::ConnAck(Box::new(connack.clone())), connect.version, max)) {
            return Err(Refusal::ConnAckTooLarge);
        }
        let ask = self.attach_request(connect, &terms, &author);
        let attached = self.hub.attach(&self.link, ask, now)?;
        let _ = self.link.admitted.set((terms.client_id.clone(), connect.version));
        let counters = self.hub.counters.shard(self.link.number);
        count(&counters.connects);
        count(&counters.packets_sent);
        let Attached { cell, session_present, took_over, ticket } = attached;
        connack.session_present = session_present;
        self.hub.hold(ticket, out);
        out.push(Action::Send(Packet::ConnAck(Box::new(connack))));
        out.push(Action::Note(Event::Connected { session_present, took_over }));
        if let Some(event) = self.will_denied(connect, &author) {
            out.push(Action::Note(event));
        }
        Ok(Box::new(self.opened(connect, &terms, &limits, author, (cell, session_present), now)))
    }

    /// While memory runs short, nobody new gets in. Who has a session comes for what waits there, which makes room.
    fn sheds(&self, terms: &Terms) -> bool {
        if !self.hub.sheds_newcomer(self.link.principal.key()) {
            return false;
        }
        let principal = self.link.principal.key().clone();
        !self.hub.has_session(&SessionKey { principal, client_id: terms.client_id.clone() })
    }

    fn is_claim(&self) -> bool {
        self.link.principal.role() == Role::Claim
    }

    fn attach_request(&self, connect: &Connect, terms: &Terms, author: &Arc<Author>) -> Attach {
        Attach {
            key: SessionKey {
                principal: self.link.principal.key().clone(),
                client_id: terms.client_id.clone(),
            },
            author: Arc::clone(author),
            clean_start: connect.clean_start,
            expiry: Expiry::from_secs(terms.expiry_secs),
            will: connect
                .will
                .as_deref()
                .map(|will| Box::new(ArmedWill { will: own_will(will), author: Arc::clone(author) })),
        }
    }

    /// A will that would be refused if it were sent now, for the log: it is judged again when it is sent.
    fn will_denied(&self, connect: &Connect, author: &Author) -> Option<Event> {
        let will = connect.will.as_deref()?;
        let denied = self.hub.policy_slot().policy.may_publish(&author.subject(), &will.topic).err()?;
        Some(Event::Denied { access: DeniedAccess::Will(will.topic.detached()), cause: denied.because })
    }

    fn opened(
        &self,
        connect: &Connect,
        terms: &Terms,
        limits: &Limits,
        author: Arc<Author>,
        (cell, resumed): (SessionRef, bool),
        now: Now,
    ) -> Open {
        let version = connect.version;
        let alias_out_max = connect.properties.topic_alias_max.min(limits.topic_alias_out_max);
        let client_receive_max = connect.properties.receive_max.map_or(u16::MAX, NonZeroU16::get);
        // A 3.1.1 client is told neither of these two.
        let (receive_max, alias_in_max) = match version {
            Version::V5 => (limits.receive_max.get().into(), limits.topic_alias_in_max),
            Version::V311 => (limits.unreleased_qos2_max, 0),
        };
        Open {
            cell,
            author,
            link: Arc::clone(&self.link),
            version,
            silence_max: silence(terms.keep_alive_secs),
            last_received: now.mono,
            request_problem_info: connect.properties.request_problem_info,
            expiry_was_zero: connect.properties.session_expiry_secs.unwrap_or(0) == 0,
            packet_bytes_max: limits.packet_bytes_max,
            peer_packet_bytes_max: connect.properties.packet_bytes_max,
            window: limits.inflight_max.get().min(client_receive_max).into(),
            receive_max,
            unreleased: 0,
            releases_due: resumed,
            inbound_aliases: InboundAliases::new(alias_in_max),
            outbound_aliases: (alias_out_max > 0).then(|| Box::new(OutboundAliases::new(alias_out_max))),
            more: resumed,
            held_back: false,
            requests: 0,
            answers_due: false,
            verdict: None,
            scratch: None,
        }
    }

    fn agree(&self, connect: &Connect, limits: &Limits, now: Now) -> Result<Terms, Refusal> {
        if connect.properties.auth_method.is_some() {
            return Err(Refusal::AuthenticationMethod);
        }
        let (client_id, assigned) = self.client_id_for(connect, limits, now)?;
        let keep_alive_secs = match limits.keep_alive_secs_max {
            Some(max) if connect.keep_alive_secs == 0 || connect.keep_alive_secs > max.get() => {
                match connect.version {
                    Version::V5 => max.get(),
                    Version::V311 => return Err(Refusal::KeepAliveTooLong),
                }
            }
            _ => connect.keep_alive_secs,
        };
        let expiry_secs = self.expiry_secs(connect, limits);
        Ok(Terms { client_id, assigned, keep_alive_secs, expiry_secs })
    }

    /// Whether its session would outlive the connection, so that it has to be recorded.
    pub fn would_be_stored(&self, connect: &Connect) -> bool {
        self.expiry_secs(connect, &self.hub.limits.load()) > 0
    }

    fn expiry_secs(&self, connect: &Connect, limits: &Limits) -> u32 {
        let wanted_secs = match (connect.version, connect.clean_start) {
            (Version::V5, _) => connect.properties.session_expiry_secs.unwrap_or(0),
            (Version::V311, true) => 0,
            (Version::V311, false) => u32::MAX,
        };
        // Many devices share a claim. Nothing of it is kept: no answer waits for whoever comes next.
        if self.is_claim() { 0 } else { wanted_secs.min(limits.session_expiry_secs_max) }
    }

    /// The client identifier of the session, and whether it is of our making.
    fn client_id_for(
        &self,
        connect: &Connect,
        limits: &Limits,
        now: Now,
    ) -> Result<(ClientId, bool), Refusal> {
        let name = self.link.principal.name().as_str();
        let rule = self.rules.client_id_rule;
        let Some(client_id) = &connect.client_id else {
            // `[MQTT3-3.1.3-8]`
            if connect.version == Version::V311 && !connect.clean_start {
                return Err(Refusal::ClientIdEmpty);
            }
            // The wall clock tells this process from an earlier one, the number one connection from another.
            let unique = format!("auto-{:x}-{:x}", now.wall.0, self.link.number);
            let made = match rule {
                ClientIdRule::Any => unique,
                ClientIdRule::Identity => name.to_owned(),
                ClientIdRule::IdentityPrefix => format!("{name}/{unique}"),
            };
            return Ok((ClientId::try_from(made).map_err(|_| Refusal::ClientIdEmpty)?, true));
        };
        if client_id.len() > limits.client_id_bytes_max {
            return Err(Refusal::ClientIdTooLong);
        }
        let owned = match (rule, client_id.strip_prefix(name)) {
            (ClientIdRule::Any, _) | (_, Some("")) => true,
            (ClientIdRule::IdentityPrefix, Some(rest)) => rest.starts_with('/'),
            (ClientIdRule::Identity | ClientIdRule::IdentityPrefix, _) => false,
        };
        if owned { Ok((client_id.detached(), false)) } else { Err(Refusal::ClientIdNotOwned) }
    }
}

/// What the client is told; nothing of it reaches a 3.1.1 client.
fn offer(
    connect: &Connect,
    terms: &Terms,
    limits: &Limits,
    rules: &ListenerRules,
    author: &Author,
) -> ConnAckProperties {
    let wanted_expiry = connect.properties.session_expiry_secs.unwrap_or(0);
    let response_information =
        rules.response_prefix.as_ref().filter(|_| connect.properties.request_response_info);
    ConnAckProperties {
        session_expiry_secs: (terms.expiry_secs != wanted_expiry).then_some(terms.expiry_secs),
        receive_max: Some(limits.receive_max),
        packet_bytes_max: Some(limits.packet_bytes_max),
        assigned_client_id: terms.assigned.then(|| terms.client_id.clone()),
        topic_alias_max: limits.topic_alias_in_max,
        server_keep_alive_secs: (terms.keep_alive_secs != connect.keep_alive_secs)
            .then_some(terms.keep_alive_secs),
        response_information: response_information
            .and_then(|prefix| Text::try_from(format!("{prefix}/{}", author.principal.name())).ok()),
        ..ConnAckProperties::default()
    }
}

/// The session expiry interval that a client gets when it asks for `secs`.
pub(super) fn session_expiry(secs: u32, limits: &Limits) -> Expiry {
    Expiry::from_secs(secs.min(limits.session_expiry_secs_max))
}

/// One and a half times the keep alive; `None` for 0, which turns it off.
fn silence(keep_alive_secs: u16) -> Option<Duration> {
    (keep_alive_secs > 0).then(|| Duration::from_millis(u64::from(keep_alive_secs) * 1500))
}

/// The will in memory of its own: it lives as long as the connection, its CONNECT's read buffer should not.
fn own_will(will: &Will) -> Will {
    Will {
        topic: will.topic.detached(),
        payload: Bytes::copy_from_slice(&will.payload),
        qos: will.qos,
        retain: will.retain,
        delay_secs: will.delay_secs,
        properties: will.properties.as_ref().map(|properties| Box::new(properties.detached())),
    }
}
