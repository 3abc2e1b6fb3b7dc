//! What clients say and hear: the exchanges of MQTT, each to its end.

use super::{Who, World};
use crate::dial::*;
use bytes::BytesMut;
use signet_core::provisioning::Request;
use signet_core::{CloseReason, Event, Input};
use signet_wire::{
    Ack, ConnAck, Disconnect, EncodeError, Packet, Publish, QoS, QosId, ReasonCode, Requested, SubAck,
    Subscribe, SubscriptionFilter, Text, UnsubAck, Unsubscribe, encode,
};

impl World {
    /// Sends CONNECT and gives the CONNACK, or `None` when the connection was closed without.
    pub(crate) fn dial(&mut self, dial: Dial) -> (Who, Option<ConnAck>) {
        let who = self.open(dial.principal, dial.rules);
        self.client(who).version = dial.connect.version;
        let mut bytes = BytesMut::new();
        encode(&Packet::Connect(Box::new(dial.connect.clone())), dial.connect.version, &mut bytes).unwrap();
        self.send_bytes(who, &bytes);
        let connack = match self.client(who).heard.pop_front() {
            Some(Packet::ConnAck(connack)) => Some(*connack),
            Some(other) => panic!("{other:?} instead of CONNACK"),
            None => None,
        };
        (who, connack)
    }

    /// Connects, expecting success.
    pub(crate) fn connect(&mut self, dial: Dial) -> Who {
        let (who, connack) = self.dial(dial);
        assert_eq!(connack.expect("a CONNACK").reason, ReasonCode::Success);
        who
    }

    /// Connects, expecting success, and says whether a session was present.
    pub(crate) fn reconnect(&mut self, dial: Dial) -> (Who, bool) {
        let (who, connack) = self.dial(dial);
        let connack = connack.expect("a CONNACK");
        assert_eq!(connack.reason, ReasonCode::Success);
        (who, connack.session_present)
    }

    /// Raw bytes from the client, as many packets as they are.
    pub(crate) fn send_bytes(&mut self, who: Who, bytes: &[u8]) {
        let now = self.now;
        let client = self.client(who);
        let mut inbound = BytesMut::from(bytes);
        while client.closed.is_none() {
            let Some(connection) = &mut client.connection else { break };
            let Some(input) = connection.next_input(&mut inbound) else { break };
            client.input(input, now);
        }
        self.drive();
    }

    pub(crate) fn send(&mut self, who: Who, packet: Packet) {
        let mut bytes = BytesMut::new();
        match encode(&packet, self.client(who).version, &mut bytes) {
            Ok(()) => self.send_bytes(who, &bytes),
            // A filter that is none can be decoded, to be refused alone, but not encoded.
            Err(EncodeError::Contradiction(_)) => self.input(who, Input::Packet(packet)),
            Err(error) => panic!("{packet:?}: {error}"),
        }
    }

    /// Any input that is not a packet.
    pub(crate) fn input(&mut self, who: Who, input: Input) {
        let now = self.now;
        self.client(who).input(input, now);
        self.drive();
    }

    /// The network connection breaks.
    pub(crate) fn drop_connection(&mut self, who: Who) {
        self.input(who, Input::PeerClosed);
        self.client(who).output.clear();
    }

    /// The connection's task fails: the connection is dropped without a word.
    pub(crate) fn lose(&mut self, who: Who) {
        self.client(who).connection = None;
        self.client(who).output.clear();
        self.drive();
    }

    pub(crate) fn disconnect(&mut self, who: Who) {
        self.send(who, Packet::Disconnect(Disconnect::default()));
    }

    /// From now on the client's socket takes nothing, or something again.
    pub(crate) fn stall(&mut self, who: Who, stalled: bool) {
        self.client(who).stalled = stalled;
        self.drive();
    }

    /// `hook` runs in the middle of what wakes `who` next.
    pub(crate) fn when_woken(&mut self, who: Who, hook: impl FnOnce() + Send + 'static) {
        *self.client(who).flag.1.lock().unwrap() = Some(Box::new(hook));
    }

    /// A packet identifier that no other packet of the world has.
    pub(crate) fn packet_id(&mut self) -> u16 {
        self.next_packet_id = self.next_packet_id % u16::MAX + 1;
        self.next_packet_id
    }

    /// Subscribes to one filter, expecting that it is granted as asked.
    pub(crate) fn subscribe(&mut self, who: Who, text: &str, qos: u8) {
        let suback = self.subscribe_to(who, vec![filter(text, qos)], None);
        assert_eq!(suback.reasons.iter().map(|reason| *reason as u8).collect::<Vec<_>>(), [qos], "{text}");
    }

    /// Sends SUBSCRIBE and gives its SUBACK. What else arrived stays.
    pub(crate) fn subscribe_to(
        &mut self,
        who: Who,
        filters: Vec<Requested>,
        subscription_id: Option<u32>,
    ) -> SubAck {
        let packet_id = id(self.packet_id());
        let subscribe = Subscribe { packet_id, subscription_id, user_properties: Vec::new(), filters };
        self.send(who, Packet::Subscribe(Box::new(subscribe)));
        let heard = &mut self.client(who).heard;
        let place = heard.iter().position(|packet| matches!(packet, Packet::SubAck(_))).expect("a SUBACK");
        match heard.remove(place) {
            Some(Packet::SubAck(suback)) if suback.packet_id == packet_id => *suback,
            other => panic!("{other:?} instead of SUBACK {packet_id}"),
        }
    }

    pub(crate) fn unsubscribe(&mut self, who: Who, text: &str) -> UnsubAck {
        let packet_id = id(self.packet_id());
        let filters = vec![SubscriptionFilter::parse(Text::try_from(text).unwrap())];
        self.send(
            who,
            Packet::Unsubscribe(Box::new(Unsubscribe { packet_id, user_properties: Vec::new(), filters })),
        );
        let heard = &mut self.client(who).heard;
        let place =
            heard.iter().position(|packet| matches!(packet, Packet::UnsubAck(_))).expect("an UNSUBACK");
        match heard.remove(place) {
            Some(Packet::UnsubAck(unsuback)) if unsuback.packet_id == packet_id => *unsuback,
            other => panic!("{other:?} instead of UNSUBACK {packet_id}"),
        }
    }

    /// Publishes and completes the exchange; gives the reason code of PUBACK or PUBREC, success at QoS 0.
    pub(crate) fn publish(&mut self, who: Who, say: Say) -> ReasonCode {
        self.publish_ack(who, say).map_or(ReasonCode::Success, |ack| ack.reason)
    }

    /// Publishes and completes the exchange; gives PUBACK or PUBREC.
    pub(crate) fn publish_ack(&mut self, who: Who, say: Say) -> Option<Ack> {
        let packet_id = self.packet_id();
        let qos = say.qos;
        self.send(who, Packet::Publish(say.packet(packet_id)));
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(self.expect_ack(who, packet_id, |packet| match packet {
                Packet::PubAck(ack) => Some(ack),
                _ => None,
            })),
            QoS::ExactlyOnce => {
                let pubrec = self.expect_ack(who, packet_id, |packet| match packet {
                    Packet::PubRec(ack) => Some(ack),
                    _ => None,
                });
                if !pubrec.reason.is_failure() {
                    self.send(who, Packet::PubRel(Ack::success(id(packet_id))));
                    let pubcomp = self.expect_ack(who, packet_id, |packet| match packet {
                        Packet::PubComp(ack) => Some(ack),
                        _ => None,
                    });
                    assert_eq!(pubcomp.reason, ReasonCode::Success);
                }
                Some(pubrec)
            }
        }
    }

    fn expect_ack(&mut self, who: Who, packet_id: u16, of: impl Fn(&Packet) -> Option<&Ack>) -> Ack {
        let heard = &mut self.client(who).heard;
        let wanted = |packet: &Packet| of(packet).is_some_and(|ack| ack.packet_id == id(packet_id));
        let place = heard.iter().position(wanted);
        let place = place.unwrap_or_else(|| panic!("no acknowledgement of {packet_id} in {heard:?}"));
        of(&heard.remove(place).unwrap()).unwrap().clone()
    }

    /// Everything that the client heard since it was last asked.
    pub(crate) fn heard(&mut self, who: Who) -> Vec<Packet> {
        self.client(who).heard.drain(..).collect()
    }

    /// The messages that the client heard; nothing else may have come.
    pub(crate) fn messages(&mut self, who: Who) -> Vec<Publish> {
        self.heard(who)
            .into_iter()
            .map(|packet| match packet {
                Packet::Publish(publish) => publish,
                other => panic!("{other:?} among the messages"),
            })
            .collect()
    }

    /// The payloads of the messages that the client heard, which it acknowledges to the end.
    pub(crate) fn payloads(&mut self, who: Who) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            let messages = self.messages(who);
            if messages.is_empty() {
                return payloads;
            }
            for message in messages {
                payloads.push(text(&message));
                self.acknowledge(who, &message);
            }
        }
    }

    /// Acknowledges a message to the end. Other messages that come meanwhile stay.
    pub(crate) fn acknowledge(&mut self, who: Who, message: &Publish) {
        match message.qos {
            QosId::AtMostOnce => {}
            QosId::AtLeastOnce(id) => self.send(who, Packet::PubAck(Ack::success(id))),
            QosId::ExactlyOnce(id) => {
                self.send(who, Packet::PubRec(Ack::success(id)));
                let pubrel = self.expect_ack(who, id.get(), |packet| match packet {
                    Packet::PubRel(ack) => Some(ack),
                    _ => None,
                });
                assert_eq!(pubrel.reason, ReasonCode::Success);
                self.send(who, Packet::PubComp(Ack::success(id)));
            }
        }
    }

    /// Why the connection was closed, if it was.
    pub(crate) fn closed(&mut self, who: Who) -> Option<CloseReason> {
        self.client(who).closed
    }

    /// The last thing the client heard is DISCONNECT with `reason`, and it was closed. Takes all it heard.
    #[track_caller]
    pub(crate) fn assert_disconnected(&mut self, who: Who, reason: ReasonCode) {
        assert!(self.closed(who).is_some(), "the connection is open");
        match self.heard(who).pop() {
            Some(Packet::Disconnect(disconnect)) => assert_eq!(disconnect.reason, reason),
            other => panic!("{other:?} instead of DISCONNECT {reason}"),
        }
    }

    #[track_caller]
    pub(crate) fn assert_open(&mut self, who: Who) {
        assert_eq!(self.closed(who), None);
    }

    pub(crate) fn notes(&mut self, who: Who) -> Vec<Event> {
        std::mem::take(&mut self.client(who).notes)
    }

    /// The requests for certificates that the client's connection handed on since it was last asked.
    pub(crate) fn requests(&mut self, who: Who) -> Vec<Request> {
        std::mem::take(&mut self.client(who).requests)
    }
}
