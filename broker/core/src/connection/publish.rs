//! PUBLISH from the client.

use std::sync::Arc;

use signet_wire::{Ack, Packet, PacketId, Publish, QoS, QosId, ReasonCode, Version};

use crate::action::{Action, Actions};
use crate::close::{CloseReason, Violation};
use crate::connection::Open;
use crate::connection::room::content_bytes;
use crate::counters::{count, count_by};
use crate::event::{DeniedAccess, Event, Quota};
use crate::hub::{Draft, Hub, Pressure, Routed, SendError, routed_reason};
use crate::journal::{Record, Ticket};
use crate::provisioning::RequestTopic;
use crate::session::{Session, SessionRef, Unreleased};
use crate::time::Now;

/// Whether a QoS 2 message is to be routed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    First,
    /// Its identifier is not released: it was routed before (`[MQTT5-4.3.3-10]`).
    Again,
    /// Memory runs short: nothing is remembered of it.
    Shed,
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
        let request = RequestTopic::parse(&topic);
        let takes_room = hub.pressure() != Pressure::None
            && request.is_none()
            // Clearing a retained message gives memory back.
            && !(publish.retain && publish.payload.is_empty());
        let room = if takes_room {
            self.room(hub, &topic, publish.retain, content_bytes(&publish))
        } else {
            Ok(None)
        };
        let mut received = Ticket::NONE;
        // Goes before `_together` does.
        let mut arriving = None;
        if let QosId::ExactlyOnce(id) = publish.qos {
            let (arrival, ticket) = self.arrival(hub, id, room.is_err())?;
            match arrival {
                Arrival::Again => {
                    hub.hold(ticket, out);
                    return self.send(hub, Packet::PubRec(Ack::success(id)), out);
                }
                Arrival::First => {
                    arriving = Some(Arriving { cell: Arc::clone(&self.cell), link: self.link.number, id });
                }
                Arrival::Shed => {}
            }
            received = ticket;
        }
        let (receivers, sheds) = room.map_or((None, true), |receivers| (receivers, false));
        let mut draft = Draft {
            topic,
            payload: publish.payload,
            qos: publish.qos.qos(),
            retain: publish.retain,
            properties: publish.properties,
            can_be_refused: self.version == Version::V5 && publish.qos.qos() != QoS::AtMostOnce,
            receivers,
        };
        if let Some(request) = request {
            return self.request(hub, (publish.qos, received), draft, request, out);
        }
        if sheds {
            return self.shed(hub, publish.qos, &draft, out);
        }
        let scratch = self.scratch.get_or_insert_default();
        let sent = hub.send(&mut draft, &self.author, self.cell.number, scratch, now);
        if sent.is_ok() {
            // Everybody has it: should anything behind this panic, it stays known, and is not routed again.
            drop(arriving.take());
        }
        self.acknowledge(hub, (publish.qos, received), &draft, sent, out)
    }

    /// Remembers the identifier of a QoS 2 message before it is routed: if another connection of the session receives
    /// it again at this moment, that one does not route it. With the ticket that PUBREC waits for.
    ///
    /// One that memory has no room for (`sheds`) is never remembered: if it were for a moment, another connection of the
    /// session could acknowledge in that moment what is nowhere.
    fn arrival(&mut self, hub: &Hub, id: PacketId, sheds: bool) -> Result<(Arrival, Ticket), CloseReason> {
        let mut state = self.state()?;
        let me = self.link.number;
        let known = state.unreleased.get(&id).copied();
        let mine = known.is_some_and(|known| known.link == me);
        // `[MQTT5-3.3.4-7]`: what an earlier connection left over does not count. Nothing is remembered of a message that
        // is refused: the client sends it again on its next connection.
        let too_many = !mine && self.unreleased >= self.receive_max;
        let full = state.unreleased.len() >= hub.limits.load().unreleased_qos2_max.max(self.receive_max);
        if too_many || (known.is_none() && full) {
            return Err(CloseReason::Violation(Violation::ReceiveMaximumExceeded));
        }
        if sheds && known.is_none() {
            return Ok((Arrival::Shed, Ticket::NONE));
        }
        if known.is_some_and(|known| !known.routed) {
            // An earlier connection of the session is in the middle of it, and may refuse it yet.
            return Err(CloseReason::Unsettled);
        }
        state.unreleased.insert(id, Unreleased { link: me, routed: known.is_some() });
        let arrival = if known.is_some() { Arrival::Again } else { Arrival::First };
        let ticket = match (&state.log, arrival) {
            (None, _) | (_, Arrival::Shed) => Ticket::NONE,
            (Some(log), Arrival::First) => log.add(|session| Record::Received(session, id)),
            // What the first time has recorded, on an earlier connection perhaps, may not be settled yet.
            (Some(log), Arrival::Again) => log.latest(),
        };
        drop(state);
        self.unreleased += usize::from(!mine);
        Ok((arrival, ticket))
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
            Ok(routed) => {
                if routed.unretained {
                    count(&self.counters(hub).quota_retained);
                    out.push(Action::Note(Event::QuotaReached(Quota::Retained)));
                }
                (routed_reason(routed), None)
            }
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

    /// A QoS 2 message was refused after all. Its identifier is free also when another connection has the session by now: or what
    /// was never routed would be acknowledged there.
    fn forget(&mut self, id: PacketId) -> Result<(), CloseReason> {
        let me = self.link.number;
        let mut state = self.cell.state.lock();
        self.unreleased = self.unreleased.saturating_sub(usize::from(forget(&mut state, id, me)));
        if state.owner == Some(me) { Ok(()) } else { Err(CloseReason::TakenOver) }
    }

    /// Frees the identifier of a QoS 2 message: the number of the link that last sent it, if it was in use, and the ticket
    /// that PUBCOMP waits for.
    fn free(&self, id: PacketId) -> Result<(Option<u64>, Ticket), CloseReason> {
        let mut state = self.state()?;
        let known = state.unreleased.remove(&id).map(|known| known.link);
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

/// A QoS 2 message between the moment at which its identifier is remembered and the one at which it is routed. Meanwhile nobody
/// acknowledges it, another connection of its session neither.
///
/// Should that end in a panic, it was not acknowledged, and is routed when it comes again: rather twice for some than never. So
/// its identifier is forgotten, and before [`Hub::together`] lets go: the journal has both or neither, and a process that ends
/// at this moment leaves no identifier behind of what was never routed.
struct Arriving {
    cell: SessionRef,
    /// The number of the connection that it came on.
    link: u64,
    id: PacketId,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        // Whoever holds the session's lock is no caller of this one: in a panic those have gone by it. Whose the session is by
        // now is no matter.
        let mut state = self.cell.state.lock();
        if std::thread::panicking() {
            forget(&mut state, self.id, self.link);
        } else if let Some(known) = state.unreleased.get_mut(&self.id)
            && known.link == self.link
        {
            known.routed = true;
        }
    }
}

/// Frees the identifier of a QoS 2 message that was not routed, unless it is that of another one by now, which another connection
/// than `link` has received; whether it did.
fn forget(state: &mut Session, id: PacketId, link: u64) -> bool {
    let mine = state.unreleased.get(&id).is_some_and(|known| known.link == link);
    if mine {
        state.unreleased.remove(&id);
        if let Some(log) = &state.log {
            log.add(|session| Record::Freed(session, id));
        }
    }
    mine
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use bytes::Bytes;
    use parking_lot::Mutex;
    use signet_acl::{ParseOptions, Policy};
    use signet_identity::{CertificateId, Principal, ThingName};
    use signet_wire::{
        ClientId, Connect, ConnectProperties, Publish, Requested, Subscribe, SubscribeOptions,
        SubscriptionFilter, Text, TopicName,
    };

    use super::*;
    use crate::action::Input;
    use crate::connection::{Connection, ListenerRules, Peer, Phase};
    use crate::journal::{Durability, Journal};
    use crate::limits::Limits;
    use crate::router::SubOptions;
    use crate::time::{Mono, Wall};

    const NOW: Now = Now { mono: Mono::START, wall: Wall(1_800_000_000_000) };

    const AT_MOST_ONCE: SubOptions = SubOptions {
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        subscription_id: None,
    };

    fn hub() -> Arc<Hub> {
        let policy =
            Policy::parse("role device\ntopic write #\n", "test", &ParseOptions::default()).unwrap().0;
        Hub::new(Limits::default(), Arc::new(policy))
    }

    /// Another connection of the one session.
    fn connected(hub: &Arc<Hub>) -> Connection {
        connected_as(hub, "dev", Waker::noop().clone())
    }

    fn connected_as(hub: &Arc<Hub>, name: &str, waker: Waker) -> Connection {
        let peer = Peer {
            principal: Principal::device(
                ThingName::try_from(name).unwrap(),
                CertificateId::of(name.as_bytes()),
                Vec::new(),
            ),
            address: "192.0.2.1:40000".parse().unwrap(),
            rules: ListenerRules::default(),
        };
        let mut connection = Connection::new(Arc::clone(hub), peer, waker, NOW);
        let connect = Connect {
            version: Version::V5,
            clean_start: false,
            keep_alive_secs: 0,
            client_id: Some(ClientId::try_from(name).unwrap()),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties { session_expiry_secs: Some(100), ..ConnectProperties::default() },
        };
        connection.handle(Input::Connect(Ok(connect)), NOW, &mut Actions::new());
        connection
    }

    fn open(connection: &mut Connection) -> &mut Open {
        match &mut connection.phase {
            Phase::Open(open) => open,
            _ => panic!("not open"),
        }
    }

    fn draft() -> Draft {
        Draft {
            topic: TopicName::try_from("t").unwrap(),
            payload: Bytes::from_static(b"x"),
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: None,
            can_be_refused: true,
            receivers: None,
        }
    }

    fn first(id: PacketId) -> Packet {
        Packet::Publish(Publish {
            dup: true,
            qos: QosId::ExactlyOnce(id),
            retain: false,
            topic: Some(TopicName::try_from("t").unwrap()),
            properties: None,
            payload: Bytes::from_static(b"x"),
        })
    }

    #[test]
    fn a_qos_2_message_refused_while_its_session_is_taken_over_is_routed_when_it_comes_again() {
        let (hub, id) = (hub(), PacketId::MIN);
        let mut old = connected(&hub);
        // The old connection's thread is inside PUBLISH when the client connects anew.
        let (arrival, ticket) = open(&mut old).arrival(&hub, id, false).unwrap();
        assert!(arrival == Arrival::First);
        let mut new = connected(&hub);
        assert_eq!(open(&mut new).arrival(&hub, id, false).err(), Some(CloseReason::Unsettled));
        let (qos, refused) = (QosId::ExactlyOnce(id), Err(SendError::RetainedQuota));
        let ended = open(&mut old).acknowledge(&hub, (qos, ticket), &draft(), refused, &mut Actions::new());
        assert_eq!(ended, Err(CloseReason::TakenOver));
        assert!(open(&mut new).arrival(&hub, id, false).unwrap().0 == Arrival::First);
    }

    #[test]
    fn what_the_old_connection_is_routing_at_this_moment_is_not_acknowledged_on_the_new_one() {
        let (hub, id) = (hub(), PacketId::MIN);
        let mut old = connected(&hub);
        open(&mut old).arrival(&hub, id, false).unwrap();
        let mut new = connected(&hub);
        let mut out = Actions::new();
        new.handle(Input::Packet(first(id)), NOW, &mut out);
        let actions: Vec<_> = out.drain().collect();
        assert!(new.is_closed(), "it comes again, and then it is known what became of it: {actions:?}");
        assert!(!actions.iter().any(|action| matches!(action, Action::Send(Packet::PubRec(_)))));
        // It is refused there in the end, and was never routed.
        assert_eq!(open(&mut old).forget(id), Err(CloseReason::TakenOver));
        let mut newest = connected(&hub);
        assert!(open(&mut newest).arrival(&hub, id, false).unwrap().0 == Arrival::First);
    }

    #[test]
    fn what_the_old_connection_has_routed_is_acknowledged_on_the_new_one_and_not_routed_again() {
        let (hub, id) = (hub(), PacketId::MIN);
        let mut old = connected(&hub);
        old.handle(Input::Packet(first(id)), NOW, &mut Actions::new());
        let mut new = connected(&hub);
        for _ in 0..2 {
            assert!(open(&mut new).arrival(&hub, id, false).unwrap().0 == Arrival::Again);
        }
        assert_eq!(open(&mut old).forget(id), Err(CloseReason::TakenOver));
        assert!(open(&mut new).arrival(&hub, id, false).unwrap().0 == Arrival::Again);
    }

    #[test]
    fn who_was_found_while_memory_was_asked_for_is_not_looked_for_again() {
        let policy = Policy::parse("role device\ntopic readwrite #\n", "test", &ParseOptions::default());
        let hub = Hub::new(Limits::default(), Arc::new(policy.unwrap().0));
        hub.set_fair_share(0);
        let mut reader = connected_as(&hub, "reader", Waker::noop().clone());
        let filter = SubscriptionFilter::parse(Text::try_from("t").unwrap()).unwrap();
        hub.index.subscribe(Arc::clone(&open(&mut reader).cell), &filter, AT_MOST_ONCE);
        // What waits for itself puts its name above its share, and the reader has nothing.
        let mut writer = connected(&hub);
        open(&mut writer).cell.usage.queue(1);
        hub.set_pressure(Pressure::Tight);
        let topic = TopicName::try_from("t").unwrap();
        let receivers = open(&mut writer).room(&hub, &topic, false, 1).unwrap();
        assert!(hub.index.unsubscribe(open(&mut reader).cell.number, &filter));
        let mut draft = Draft { retain: false, receivers, ..draft() };
        let open = open(&mut writer);
        let mut scratch = open.scratch.take().unwrap();
        let sent = hub.send(&mut draft, &open.author, open.cell.number, &mut scratch, NOW);
        assert!(sent.unwrap().somebody, "it is where it was found");
        let again = hub.send(&mut self::draft(), &open.author, open.cell.number, &mut scratch, NOW);
        assert!(!again.unwrap().somebody, "but the next one is not");
    }

    /// Whoever is called by it finds a defect there, for as long as it has one.
    #[derive(Default)]
    struct Defect(AtomicBool);

    impl Wake for Defect {
        fn wake(self: Arc<Self>) {
            assert!(!self.0.load(Ordering::SeqCst), "a defect");
        }
    }

    #[test]
    fn a_qos_2_message_whose_routing_panicked_is_known_to_no_process_and_routed_when_it_comes_again() {
        let policy = Policy::parse("role device\ntopic readwrite #\n", "test", &ParseOptions::default());
        let journal = Arc::new(Journal::new(1 << 20));
        let policy = Arc::new(policy.unwrap().0);
        let hub = Hub::with_journal(Limits::default(), policy, Arc::clone(&journal), Durability::Strict);
        let defect = Arc::new(Defect::default());
        let mut reader = connected_as(&hub, "reader", Waker::from(Arc::clone(&defect)));
        let filter = SubscriptionFilter::parse(Text::try_from("#").unwrap());
        let subscribe = Subscribe {
            packet_id: PacketId::MIN,
            subscription_id: None,
            user_properties: Vec::new(),
            filters: vec![Requested { filter, options: SubscribeOptions::default() }],
        };
        reader.handle(Input::Packet(Packet::Subscribe(Box::new(subscribe))), NOW, &mut Actions::new());
        let (mut old, id) = (connected(&hub), PacketId::MIN);
        defect.0.store(true, Ordering::SeqCst);
        let sent = AssertUnwindSafe(|| old.handle(Input::Packet(first(id)), NOW, &mut Actions::new()));
        assert!(catch_unwind(sent).is_err());
        // If the process ends here, this is all that the next one knows.
        let known = journal.take().unwrap().records.iter().fold(false, |known, record| match record {
            Record::Received(_, received) if *received == id => true,
            Record::Freed(_, freed) if *freed == id => false,
            _ => known,
        });
        assert!(!known, "it was not routed to everybody");
        // It did not end.
        defect.0.store(false, Ordering::SeqCst);
        old.handle(Input::PeerClosed, NOW, &mut Actions::new());
        let mut new = connected(&hub);
        for (times, delivered) in [(2, "by the first one, and by the second"), (0, "it is known now")] {
            new.handle(Input::Packet(first(id)), NOW, &mut Actions::new());
            let mut out = Actions::new();
            reader.handle(Input::Wake, NOW, &mut out);
            let count = out.drain().filter(|action| matches!(action, Action::Deliver(_))).count();
            assert_eq!(count, times, "{delivered}");
        }
        assert!(open(&mut new).arrival(&hub, id, false).unwrap().0 == Arrival::Again);
    }

    /// Whoever is called by it takes the publisher's session over, and sends the message again there. Then it finds a defect.
    struct Takeover {
        hub: Arc<Hub>,
        ended: Mutex<Vec<Option<CloseReason>>>,
    }

    impl Wake for Takeover {
        fn wake(self: Arc<Self>) {
            let arrival = open(&mut connected(&self.hub)).arrival(&self.hub, PacketId::MIN, false);
            self.ended.lock().push(arrival.err());
            panic!("a defect");
        }
    }

    #[test]
    fn what_comes_again_on_another_connection_in_the_moment_of_a_panic_is_not_acknowledged_there() {
        let policy = Policy::parse("role device\ntopic readwrite #\n", "test", &ParseOptions::default());
        let hub = Hub::new(Limits::default(), Arc::new(policy.unwrap().0));
        let takeover = Arc::new(Takeover { hub: Arc::clone(&hub), ended: Mutex::default() });
        let mut reader = connected_as(&hub, "reader", Waker::from(Arc::clone(&takeover)));
        let filter = SubscriptionFilter::parse(Text::try_from("t").unwrap()).unwrap();
        hub.index.subscribe(Arc::clone(&open(&mut reader).cell), &filter, AT_MOST_ONCE);
        let mut old = connected(&hub);
        let sent =
            AssertUnwindSafe(|| old.handle(Input::Packet(first(PacketId::MIN)), NOW, &mut Actions::new()));
        assert!(catch_unwind(sent).is_err());
        assert_eq!(*takeover.ended.lock(), [Some(CloseReason::Unsettled)]);
        let mut newest = connected(&hub);
        assert!(open(&mut newest).arrival(&hub, PacketId::MIN, false).unwrap().0 == Arrival::First);
    }

    #[test]
    fn what_memory_has_no_room_for_is_never_remembered_and_what_was_routed_is_acknowledged_again() {
        let (hub, id) = (hub(), PacketId::MIN);
        let mut connection = connected(&hub);
        assert!(open(&mut connection).arrival(&hub, id, true).unwrap().0 == Arrival::Shed);
        assert!(open(&mut connection).state().unwrap().unreleased.is_empty());
        connection.handle(Input::Packet(first(id)), NOW, &mut Actions::new());
        hub.set_pressure(Pressure::Shed);
        let mut out = Actions::new();
        connection.handle(Input::Packet(first(id)), NOW, &mut out);
        let answers: Vec<_> = out.drain().collect();
        assert!(
            matches!(&answers[..], [Action::Send(Packet::PubRec(ack))] if !ack.reason.is_failure()),
            "{answers:?}"
        );
    }
}
