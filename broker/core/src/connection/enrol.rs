//! Requests for certificates, and their answers. What is asked and how it is answered: [`crate::provisioning`].

use signet_acl::{Authorized, DenyCause, Topical, authorize_broker};
use signet_wire::{Publish, PublishProperties, QoS, QosId, TopicName};

use crate::action::{Action, Actions};
use crate::close::CloseReason;
use crate::connection::{Open, fits};
use crate::counters::count;
use crate::event::{AnswerDropped, Event, Quota};
use crate::hub::{Draft, Hub, Routed, SendError};
use crate::journal::Ticket;
use crate::link::Answered;
use crate::provisioning::{
    Answer, ErrorCode, REQUESTS_IN_FLIGHT_MAX, Reply, ReplyTo, Request, RequestTopic, read_payload,
};
use crate::session::Session;

impl Topical for Answered {
    fn topic(&self) -> &TopicName {
        &self.topic
    }
}

impl Answered {
    /// The document of an answer, for the topic that goes with it. `None` when there is no such topic, which cannot be.
    pub(crate) fn new(topic: &RequestTopic, answer: &Answer) -> Option<Self> {
        Some(Self {
            topic: topic.answer(answer.is_accepted())?,
            payload: answer.encode(topic.format),
            secret: answer.is_secret(),
        })
    }
}

/// How an answer reaches this client.
struct Way {
    qos: QoS,
    subscription_ids: Vec<u32>,
}

impl Open {
    /// A PUBLISH to a provisioning topic. It is acknowledged as any other; whether the request succeeds is in the answer alone,
    /// since clients that see a failure in the acknowledgement never look at the answer.
    pub(super) fn request(
        &mut self,
        hub: &Hub,
        qos: (QosId, Ticket),
        mut draft: Draft,
        topic: RequestTopic,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
        let allowed = hub.policy_slot().policy.authorize(&self.author.subject(), &mut draft).map(drop);
        if let Err(denied) = allowed {
            let denied = Err(SendError::Denied(denied.because));
            return self.acknowledge(hub, qos, &draft, denied, out);
        }
        self.acknowledge(hub, qos, &draft, Ok(Routed { somebody: true, ..Routed::default() }), out)?;
        let payload = if draft.retain {
            Err(ErrorCode::InvalidPayload.because("A request must not be retained."))
        } else {
            read_payload(&topic.operation, topic.format, &draft.payload)
        };
        if self.requests >= REQUESTS_IN_FLIGHT_MAX {
            out.push(Action::Note(Event::QuotaReached(Quota::Requests)));
            let rejection = ErrorCode::Throttling.because("Too many requests wait for their answers.");
            return match Answered::new(&topic, &Answer::Rejected(rejection)) {
                Some(answered) => self.hand_out_answer(hub, answered, out),
                None => Ok(()),
            };
        }
        self.requests += 1;
        count(&self.counters(hub).enrol_requests);
        let reply_to = ReplyTo { connection: self.link.number, topic };
        let client_id = self.author.client_id.clone();
        out.push(Action::Enrol(Box::new(Request { payload, client_id, reply_to })));
        Ok(())
    }

    /// Hands out the answers that have come.
    pub(super) fn hand_out_answers(&mut self, hub: &Hub, out: &mut Actions) -> Result<(), CloseReason> {
        for answered in self.link.take_answers() {
            self.requests = self.requests.saturating_sub(1);
            self.hand_out_answer(hub, answered, out)?;
        }
        Ok(())
    }

    fn hand_out_answer(
        &mut self,
        hub: &Hub,
        answered: Answered,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
        let topic = answered.topic.clone();
        let reply = match authorize_broker(answered) {
            Err(denied) => Err(AnswerDropped::Denied(denied.because)),
            Ok(answered) => self.addressed(hub, answered)?,
        };
        match reply {
            Ok(reply) => {
                let counters = self.counters(hub);
                count(&counters.enrol_answers);
                count(&counters.packets_sent);
                count(&counters.publish_sent);
                out.push(Action::Answer(Box::new(reply)));
            }
            Err(why) => {
                count(&self.counters(hub).enrol_answers_dropped);
                out.push(Action::Note(Event::AnswerDropped { topic, why }));
            }
        }
        Ok(())
    }

    /// The answer as this client gets it, if its subscriptions, its rights and its Maximum Packet Size let it.
    fn addressed(
        &self,
        hub: &Hub,
        answered: Authorized<Answered>,
    ) -> Result<Result<Reply, AnswerDropped>, CloseReason> {
        let Answered { topic, payload, secret } = answered.into_inner();
        if let Err(cause) = self.may_be_answered(hub, &topic) {
            return Ok(Err(AnswerDropped::Denied(cause)));
        }
        let mut state = self.state()?;
        let Some(way) = self.way_to(&state, &topic) else { return Ok(Err(AnswerDropped::NotSubscribed)) };
        let id = state.outbound.next_id();
        let qos = match way.qos {
            QoS::AtLeastOnce | QoS::ExactlyOnce => QosId::AtLeastOnce(id),
            QoS::AtMostOnce => QosId::AtMostOnce,
        };
        let properties = (!way.subscription_ids.is_empty()).then(|| {
            let subscription_ids = way.subscription_ids.into_iter().collect();
            Box::new(PublishProperties { subscription_ids, ..PublishProperties::default() })
        });
        let publish = Publish { dup: false, retain: false, qos, topic: Some(topic), properties, payload };
        let packet = signet_wire::Packet::Publish(publish);
        if self.peer_packet_bytes_max.is_some_and(|max| !fits(&packet, self.version, max)) {
            return Ok(Err(AnswerDropped::TooLarge));
        }
        let signet_wire::Packet::Publish(publish) = packet else { return Ok(Err(AnswerDropped::TooLarge)) };
        if qos.packet_id().is_some() {
            state.outbound.begin_answer(id);
        }
        Ok(Ok(Reply { publish, secret }))
    }

    fn may_be_answered(&self, hub: &Hub, topic: &TopicName) -> Result<(), DenyCause> {
        match hub.policy_slot().policy.may_receive(&self.author.subject(), topic) {
            Ok(_) => Ok(()),
            Err(denied) => Err(denied.because),
        }
    }

    /// At which quality of service, at most 1, and with which identifiers the client subscribes to `topic`; `None` when it does
    /// not. With no room for one more exchange the answer goes out at 0 instead of waiting behind what the client has not
    /// acknowledged.
    fn way_to(&self, state: &Session, topic: &TopicName) -> Option<Way> {
        let mut way: Option<Way> = None;
        for (filter, options) in &state.subscriptions {
            if filter.group().is_some() || !filter.filter().matches(topic) {
                continue;
            }
            let way = way.get_or_insert(Way { qos: QoS::AtMostOnce, subscription_ids: Vec::new() });
            way.qos = way.qos.max(options.qos).min(QoS::AtLeastOnce);
            way.subscription_ids.extend(options.subscription_id);
        }
        let mut way = way?;
        if state.outbound.has_unsent() || state.outbound.used() >= self.window {
            way.qos = QoS::AtMostOnce;
        }
        Some(way)
    }
}
