//! PUBLISH from the client.

use signet_wire::{Ack, Packet, PacketId, Publish, QoS, QosId, ReasonCode, Version};

use crate::action::{Action, Actions};
use crate::close::{CloseReason, Violation};
use crate::connection::Open;
use crate::counters::{count, count_by};
use crate::event::{DeniedAccess, Event, Quota};
use crate::hub::{Draft, Hub, Routed, SendError, routed_reason};
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
        if let QosId::ExactlyOnce(id) = publish.qos
            && self.arrival(hub, id)? == Arrival::Again
        {
            return self.send(hub, Packet::PubRec(Ack::success(id)), out);
        }
        let mut draft = Draft {
            topic,
            payload: publish.payload,
            qos: publish.qos.qos(),
            retain: publish.retain,
            properties: publish.properties,
        };
        if let Some(request) = RequestTopic::parse(&draft.topic) {
            return self.request(hub, publish.qos, draft, request, out);
        }
        let scratch = self.scratch.get_or_insert_default();
        let sent = hub.send(&mut draft, &self.author, self.cell.number, scratch, now);
        self.acknowledge(hub, publish.qos, &draft, sent, out)
    }

    /// Remembers the identifier of a QoS 2 message before it is routed: if another connection of the session receives
    /// it again at this moment, that one does not route it.
    fn arrival(&mut self, hub: &Hub, id: PacketId) -> Result<Arrival, CloseReason> {
        let mut state = self.state()?;
        let me = self.link.number;
        let (arrival, on_this_connection) = match state.unreleased.get_mut(&id) {
            Some(link) => {
                let here = *link == me;
                *link = me;
                (Arrival::Again, here)
            }
            None => {
                let full =
                    state.unreleased.len() >= hub.limits.load().unreleased_qos2_max.max(self.receive_max);
                if full {
                    return Err(CloseReason::Violation(Violation::ReceiveMaximumExceeded));
                }
                state.unreleased.insert(id, me);
                (Arrival::First, false)
            }
        };
        drop(state);
        if !on_this_connection {
            // `[MQTT5-3.3.4-7]`: what an earlier connection left over does not count.
            if self.unreleased >= self.receive_max {
                return Err(CloseReason::Violation(Violation::ReceiveMaximumExceeded));
            }
            self.unreleased += 1;
        }
        Ok(arrival)
    }

    /// Acknowledges, now that the message is where it has to be. 3.1.1 cannot say no: a refused message is
    /// acknowledged and gone, as with Mosquitto.
    pub(super) fn acknowledge(
        &mut self,
        hub: &Hub,
        qos: QosId,
        draft: &Draft,
        sent: Result<Routed, SendError>,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
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
        let removed = self.state()?.unreleased.remove(&id);
        if removed == Some(self.link.number) {
            self.unreleased = self.unreleased.saturating_sub(1);
        }
        Ok(())
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
            SendError::RetainedQuota => {
                count(&counters.quota_retained);
                let why = "no more messages can be retained";
                (ReasonCode::QuotaExceeded, why, Event::QuotaReached(Quota::Retained))
            }
        }
    }

    /// PUBREL: the client will not send this message again, and its identifier is free (`[MQTT5-4.3.3-11]`).
    pub(super) fn pubrel(&mut self, hub: &Hub, ack: &Ack, out: &mut Actions) -> Result<(), CloseReason> {
        let known = self.state()?.unreleased.remove(&ack.packet_id);
        if known == Some(self.link.number) {
            self.unreleased = self.unreleased.saturating_sub(1);
        }
        let reason = match (known, self.version) {
            (Some(_), _) | (None, Version::V311) => ReasonCode::Success,
            (None, Version::V5) => ReasonCode::PacketIdentifierNotFound,
        };
        self.send(hub, Packet::PubComp(Ack::new(ack.packet_id, reason)), out)
    }
}
