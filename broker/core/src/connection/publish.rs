//! PUBLISH from the client.

use signet_wire::{Ack, Packet, PacketId, Publish, QoS, QosId, ReasonCode, Version};

use crate::action::{Action, Actions};
use crate::close::{CloseReason, Violation};
use crate::connection::Open;
use crate::counters::{count, count_by};
use crate::event::{DeniedAccess, Event, Quota};
use crate::hub::{Draft, Hub, Routed, SendError, may_be_lost, routed_reason};
use crate::journal::{Record, Ticket};
use crate::provisioning::RequestTopic;
use crate::time::Now;

/// Whether a QoS 2 message is to be routed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    First,
    /// Its identifier is not released: it was routed before (`[MQTT5-4.3.3-10]`).
    Again,
}

impl Open {
    pub(super) fn publish(
        &mut self,
        hub: &Hub,
        mut publish: Publish,
        now: Now,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
        let counters = self.counters(hub);
        count(&counters.publish_received);
        count_by(&counters.publish_bytes_received, publish.payload.len());
        let properties = publish.properties.as_deref();
        if properties.is_some_and(|properties| !properties.subscription_ids.is_empty()) {
            return Err(CloseReason::Violation(Violation::SubscriptionIdFromClient));
        }
        let alias = properties.and_then(|properties| properties.topic_alias);
        let topic =
            self.inbound_aliases.resolve(publish.topic.take(), alias).map_err(CloseReason::Violation)?;
        if hub.too_deep(&topic) {
            return Err(CloseReason::Violation(Violation::TopicTooDeep));
        }
        // That the message came and where it went is known to the next process together, or not at all: then the client
        // sends it again, and it is routed once.
        let _together = (publish.qos.qos() == QoS::ExactlyOnce).then(|| hub.together(self.cell.number));
        let mut received = Ticket::NONE;
        if let QosId::ExactlyOnce(id) = publish.qos {
            let (arrival, ticket) = self.arrival(hub, id)?;
            if arrival == Arrival::Again {
                hub.hold(ticket, out);
                return self.send(hub, Packet::PubRec(Ack::success(id)), out);
            }
            received = ticket;
        }
        let mut draft = Draft {
            topic,
            payload: publish.payload,
            qos: publish.qos.qos(),
            retain: publish.retain,
            properties: publish.properties,
        };
        if let Some(request) = RequestTopic::parse(&draft.topic) {
            return self.request(hub, (publish.qos, received), draft, request, out);
        }
        let scratch = self.scratch.get_or_insert_default();
        if hub.sheds_publish(draft.retain, draft.payload.is_empty()) {
            return self.shed(hub, (publish.qos, received), &draft, out);
        }
        let sent = hub.send(&mut draft, &self.author, self.cell.number, scratch, now);
        self.acknowledge(hub, (publish.qos, received), &draft, sent, out)
    }

    /// Remembers the identifier of a QoS 2 message before it is routed: if another connection of the session receives
    /// it again at this moment, that one does not route it. With the ticket that PUBREC waits for.
    fn arrival(&mut self, hub: &Hub, id: PacketId) -> Result<(Arrival, Ticket), CloseReason> {
        let mut state = self.state()?;
        let me = self.link.number;
        let known = state.unreleased.get(&id).copied();
        // `[MQTT5-3.3.4-7]`: what an earlier connection left over does not count. Nothing is remembered of a message that
        // is refused: the client sends it again on its next connection.
        let too_many = known != Some(me) && self.unreleased >= self.receive_max;
        let full = state.unreleased.len() >= hub.limits.load().unreleased_qos2_max.max(self.receive_max);
        if too_many || (known.is_none() && full) {
            return Err(CloseReason::Violation(Violation::ReceiveMaximumExceeded));
        }
        state.unreleased.insert(id, me);
        let arrival = if known.is_some() { Arrival::Again } else { Arrival::First };
        let ticket = match (&state.log, arrival) {
            (None, _) => Ticket::NONE,
            (Some(log), Arrival::First) => log.add(|session| Record::Received(session, id)),
            // What the first time has recorded, on an earlier connection perhaps, may not be settled yet.
            (Some(log), Arrival::Again) => log.latest(),
        };
        drop(state);
        self.unreleased += usize::from(known != Some(me));
        Ok((arrival, ticket))
    }

    /// Memory runs short. QoS 0 is lost; a 5.0 client is told that its message was not taken; a 3.1.1 client cannot be
    /// told, and must not be acknowledged what is nowhere, so it is closed and sends it again.
    fn shed(
        &mut self,
        hub: &Hub,
        (qos, received): (QosId, Ticket),
        draft: &Draft,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
        let counters = self.counters(hub);
        if may_be_lost(qos.qos()) {
            count(&counters.shed_qos0);
            return Ok(());
        }
        if self.version == Version::V311 {
            count(&counters.shed_publish);
            if let QosId::ExactlyOnce(id) = qos {
                self.forget(id)?;
            }
            return Err(CloseReason::Overloaded);
        }
        self.acknowledge(hub, (qos, received), draft, Err(SendError::Overloaded), out)
    }

    /// Acknowledges, now that the message is where it has to be. 3.1.1 cannot say no: a refused message is
    /// acknowledged and gone, as with Mosquitto. `received` is what the identifier of a QoS 2 message waits for.
    pub(super) fn acknowledge(
        &mut self,
        hub: &Hub,
        (qos, received): (QosId, Ticket),
        draft: &Draft,
        sent: Result<Routed, SendError>,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
        let ticket = received.max(sent.map_or(Ticket::NONE, |routed| routed.ticket));
        let (reason, why) = match sent {
            Ok(routed) => (routed_reason(routed), None),
            Err(error) => {
                let (reason, why, event) = self.refused(hub, draft, error);
                out.push(Action::Note(event));
                (reason, Some(why))
            }
        };
        let Some(packet_id) = qos.packet_id() else { return Ok(()) };
        let reason = if self.version == Version::V311 { ReasonCode::Success } else { reason };
        let ack = Ack { packet_id, reason, properties: why.and_then(|why| self.explain(why)) };
        hub.hold(ticket, out);
        if qos.qos() == QoS::AtLeastOnce {
            return self.send(hub, Packet::PubAck(ack), out);
        }
        if reason.is_failure() {
            // `[MQTT5-4.3.3-9]`: PUBREC with a failure ends the exchange, and the identifier is free.
            self.forget(packet_id)?;
        }
        self.send(hub, Packet::PubRec(ack), out)
    }

    fn forget(&mut self, id: PacketId) -> Result<(), CloseReason> {
        let (removed, _) = self.free(id)?;
        if removed == Some(self.link.number) {
            self.unreleased = self.unreleased.saturating_sub(1);
        }
        Ok(())
    }

    /// Frees the identifier of a QoS 2 message: the number of the link that last sent it, if it was in use, and the ticket
    /// that PUBCOMP waits for.
    fn free(&self, id: PacketId) -> Result<(Option<u64>, Ticket), CloseReason> {
        let mut state = self.state()?;
        let known = state.unreleased.remove(&id);
        let ticket = match (&state.log, known) {
            (None, _) => Ticket::NONE,
            (Some(log), Some(_)) => log.add(|session| Record::Freed(session, id)),
            // What freed it, on an earlier connection perhaps, may not be settled yet.
            (Some(log), None) => log.latest(),
        };
        Ok((known, ticket))
    }

    fn refused(&self, hub: &Hub, draft: &Draft, error: SendError) -> (ReasonCode, &'static str, Event) {
        let counters = self.counters(hub);
        match error {
            SendError::Denied(cause) => {
                count(&counters.denied_publish);
                let access = DeniedAccess::Publish(draft.topic.detached());
                (
                    ReasonCode::NotAuthorized,
                    "the access policy refuses this topic",
                    Event::Denied { access, cause },
                )
            }
            SendError::ResponseTopic(cause) => {
                count(&counters.denied_response_topic);
                let topic =
                    draft.properties.as_deref().and_then(|properties| properties.response_topic.as_ref());
                let access = DeniedAccess::ResponseTopic(topic.unwrap_or(&draft.topic).detached());
                let why = "the publisher may not read its own response topic";
                (ReasonCode::NotAuthorized, why, Event::Denied { access, cause })
            }
            SendError::Overloaded => {
                count(&counters.shed_publish);
                let why = "the broker has no memory to spare; try again later";
                (ReasonCode::QuotaExceeded, why, Event::QuotaReached(Quota::Memory))
            }
            SendError::RetainedQuota => {
                count(&counters.quota_retained);
                let why = "no more messages can be retained";
                (ReasonCode::QuotaExceeded, why, Event::QuotaReached(Quota::Retained))
            }
        }
    }

    /// PUBREL: the client will not send this message again, and its identifier is free (`[MQTT5-4.3.3-11]`). It may use the
    /// identifier for another message as soon as it sees PUBCOMP, so by then nobody may take that for this one.
    pub(super) fn pubrel(&mut self, hub: &Hub, ack: &Ack, out: &mut Actions) -> Result<(), CloseReason> {
        let (known, ticket) = self.free(ack.packet_id)?;
        if known == Some(self.link.number) {
            self.unreleased = self.unreleased.saturating_sub(1);
        }
        let reason = match (known, self.version) {
            (Some(_), _) | (None, Version::V311) => ReasonCode::Success,
            (None, Version::V5) => ReasonCode::PacketIdentifierNotFound,
        };
        hub.hold(ticket, out);
        self.send(hub, Packet::PubComp(Ack::new(ack.packet_id, reason)), out)
    }
}
