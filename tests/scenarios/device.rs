//! A client as the specification wants it: what it has sent and received outlives its connections.

use std::collections::HashSet;

use bytes::BytesMut;
use signet_wire::{
    Ack, ClientId, Connect, ConnectProperties, Packet, PacketId, Publish, QoS, QosId, Requested, Subscribe,
    SubscribeOptions, SubscriptionFilter, Text, TopicName, Version, decode_from_server, encode, frame,
};

use crate::history::{History, Number};

/// A message that the device has sent and that is not acknowledged to the end.
#[derive(Debug)]
struct Sent {
    packet_id: PacketId,
    number: Number,
    topic: TopicName,
    qos: QoS,
    retain: bool,
    /// PUBREC came, and PUBREL is out.
    released: bool,
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Offline,
    /// CONNECT is out.
    Asking,
    /// CONNACK came.
    Online,
}

/// What a device is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) version: Version,
    /// Filters with the QoS that is asked for.
    pub(crate) filters: Vec<(String, QoS)>,
}

/// A client with a lasting session, on its side of the network.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) plan: Plan,
    /// Its place in the history.
    pub(crate) place: usize,
    stage: Stage,
    /// The broker has acknowledged something of this session, so it has it from then on.
    known: bool,
    subscribed: bool,
    subscribing: Option<PacketId>,
    next_id: u16,
    sent: Vec<Sent>,
    /// QoS 2 messages from PUBLISH to PUBREL.
    unreleased: HashSet<PacketId>,
    inbound: BytesMut,
    /// What it wants to say.
    pub(crate) outbound: BytesMut,
}

impl Device {
    pub(crate) fn new(plan: Plan, place: usize) -> Self {
        Self {
            plan,
            place,
            stage: Stage::Offline,
            known: false,
            subscribed: false,
            subscribing: None,
            next_id: 0,
            sent: Vec::new(),
            unreleased: HashSet::new(),
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
        }
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.stage == Stage::Offline
    }

    pub(crate) fn is_online(&self) -> bool {
        self.stage == Stage::Online && self.subscribed
    }

    /// Nothing of its own is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_online() && self.sent.is_empty() && self.unreleased.is_empty()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// The network connection is gone: what was on its way is too.
    pub(crate) fn lose_connection(&mut self) {
        self.stage = Stage::Offline;
        self.inbound.clear();
        self.outbound.clear();
        self.subscribing = None;
    }

    pub(crate) fn dial(&mut self) {
        self.lose_connection();
        self.stage = Stage::Asking;
        let connect = Connect {
            version: self.plan.version,
            clean_start: false,
            keep_alive_secs: 0,
            client_id: Some(ClientId::try_from(self.plan.client_id.as_str()).expect("an identifier")),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_secs: (self.plan.version == Version::V5).then_some(u32::MAX),
                ..ConnectProperties::default()
            },
        };
        self.say(&Packet::Connect(Box::new(connect)));
    }

    /// Publishes a new message.
    pub(crate) fn publish(&mut self, topic: &str, qos: QoS, retain: bool, history: &mut History) {
        let topic = TopicName::try_from(topic).expect("a topic");
        let number = history.published(self.place, &topic, qos, retain);
        let packet_id = self.packet_id();
        let sent = Sent { packet_id, number, topic, qos, retain, released: false };
        self.say(&Packet::Publish(sent.packet(false)));
        if qos != QoS::AtMostOnce {
            self.sent.push(sent);
        }
    }

    fn packet_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id % 500 + 1;
            let id = PacketId::new(self.next_id).expect("not zero");
            if self.sent.iter().all(|sent| sent.packet_id != id) && self.subscribing != Some(id) {
                return id;
            }
        }
    }

    fn say(&mut self, packet: &Packet) {
        trace(&self.plan.name, "says", packet);
        encode(packet, self.plan.version, &mut self.outbound).expect("a packet that can be encoded");
    }

    /// Bytes from the broker.
    pub(crate) fn hear(&mut self, bytes: &[u8], history: &mut History) {
        self.inbound.extend_from_slice(bytes);
        while let Some(frame) = frame(&mut self.inbound, u32::MAX).expect("whole packets") {
            let packet = decode_from_server(frame, self.plan.version).expect("a packet that can be read");
            self.take(packet, history);
        }
    }

    fn take(&mut self, packet: Packet, history: &mut History) {
        trace(&self.plan.name, "hears", &packet);
        match packet {
            Packet::ConnAck(connack) => {
                if connack.reason.is_failure() {
                    return self.lose_connection();
                }
                if self.known {
                    assert!(connack.session_present, "{}: the session is lost", self.plan.name);
                }
                self.stage = Stage::Online;
                self.resume();
            }
            Packet::SubAck(suback) if self.subscribing == Some(suback.packet_id) => {
                assert!(suback.reasons.iter().all(|reason| !reason.is_failure()), "{suback:?}");
                self.subscribing = None;
                self.known = true;
                self.subscribed = true;
                history.subscribed(self.place);
            }
            Packet::Publish(publish) => self.receive(&publish, history),
            Packet::PubRel(ack) => {
                self.unreleased.remove(&ack.packet_id);
                self.say(&Packet::PubComp(Ack::success(ack.packet_id)));
            }
            Packet::PubAck(ack) => self.finish(&ack, QoS::AtLeastOnce, history),
            Packet::PubComp(ack) => self.finish(&ack, QoS::ExactlyOnce, history),
            Packet::PubRec(ack) => self.received(&ack, history),
            Packet::Disconnect(_) => self.lose_connection(),
            other => panic!("{}: {other:?}", self.plan.name),
        }
    }

    /// Everything that is not acknowledged goes out again, in order (MQTT5 §4.4).
    fn resume(&mut self) {
        let packets: Vec<Packet> = self
            .sent
            .iter()
            .map(|sent| {
                if sent.released {
                    Packet::PubRel(Ack::success(sent.packet_id))
                } else {
                    Packet::Publish(sent.packet(true))
                }
            })
            .collect();
        for packet in packets {
            self.say(&packet);
        }
        if !self.subscribed {
            let packet_id = self.packet_id();
            self.subscribing = Some(packet_id);
            let filters = self
                .plan
                .filters
                .iter()
                .map(|(filter, qos)| Requested {
                    filter: SubscriptionFilter::parse(Text::try_from(filter.as_str()).expect("a text")),
                    options: SubscribeOptions { qos: *qos, ..SubscribeOptions::default() },
                })
                .collect();
            let subscribe =
                Subscribe { packet_id, subscription_id: None, user_properties: Vec::new(), filters };
            self.say(&Packet::Subscribe(Box::new(subscribe)));
        }
    }

    fn receive(&mut self, publish: &Publish, history: &mut History) {
        let topic = publish.topic.as_ref().expect("a topic");
        match publish.qos {
            QosId::AtMostOnce => history.delivered(self.place, topic, &publish.payload, QoS::AtMostOnce),
            QosId::AtLeastOnce(id) => {
                history.delivered(self.place, topic, &publish.payload, QoS::AtLeastOnce);
                self.say(&Packet::PubAck(Ack::success(id)));
            }
            QosId::ExactlyOnce(id) => {
                if self.unreleased.insert(id) {
                    history.delivered(self.place, topic, &publish.payload, QoS::ExactlyOnce);
                }
                self.say(&Packet::PubRec(Ack::success(id)));
            }
        }
    }

    fn received(&mut self, ack: &Ack, history: &mut History) {
        let Some(at) = self.sent.iter().position(|sent| sent.packet_id == ack.packet_id) else {
            // A repeated PUBREC: the exchange is over on this side.
            return self.say(&Packet::PubRel(Ack::success(ack.packet_id)));
        };
        if ack.reason.is_failure() {
            let sent = self.sent.remove(at);
            return history.refused(sent.number);
        }
        self.sent[at].released = true;
        // From here on the broker owns the message, and knows of the session.
        self.known = true;
        history.acknowledged(self.sent[at].number);
        self.say(&Packet::PubRel(Ack::success(ack.packet_id)));
    }

    fn finish(&mut self, ack: &Ack, qos: QoS, history: &mut History) {
        let wanted = |sent: &Sent| sent.packet_id == ack.packet_id && sent.qos == qos;
        let Some(at) = self.sent.iter().position(wanted) else { return };
        let sent = self.sent.remove(at);
        self.known = true;
        if ack.reason.is_failure() && qos == QoS::AtLeastOnce {
            history.refused(sent.number);
        } else {
            history.acknowledged(sent.number);
        }
    }
}

impl Sent {
    fn packet(&self, dup: bool) -> Publish {
        let qos = match self.qos {
            QoS::AtMostOnce => QosId::AtMostOnce,
            QoS::AtLeastOnce => QosId::AtLeastOnce(self.packet_id),
            QoS::ExactlyOnce => QosId::ExactlyOnce(self.packet_id),
        };
        Publish {
            dup: dup && self.qos != QoS::AtMostOnce,
            retain: self.retain,
            qos,
            topic: Some(self.topic.clone()),
            properties: None,
            payload: self.number.to_string().into_bytes().into(),
        }
    }
}

/// Prints what happens in a run that is made again with `SIGNET_SCENARIO_TRACE` set.
#[expect(clippy::print_stderr, reason = "that is what it is for")]
pub(crate) fn trace(who: &str, does: &str, what: &dyn std::fmt::Debug) {
    static WANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *WANTED.get_or_init(|| std::env::var_os("SIGNET_SCENARIO_TRACE").is_some()) {
        eprintln!("{who} {does} {what:?}");
    }
}
