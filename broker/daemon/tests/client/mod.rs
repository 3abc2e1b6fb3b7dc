//! A client of MQTT 5.0 that keeps its half of a session, whatever becomes of its connections and of the broker.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use signet_wire::{
    Ack, ClientId, Connect, ConnectProperties, Packet, PacketId, Publish, QoS, QosId, Requested,
    RetainHandling, Subscribe, SubscribeOptions, Text, TopicName, Version,
};

use crate::peer::credentials;
use crate::setup::Setup;

/// Nothing that is waited for here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client's half of a session.
#[derive(Default)]
pub(crate) struct Flow {
    last_id: u16,
    /// What was published and is not acknowledged to the end, in order of publishing.
    out: BTreeMap<u64, Sent>,
    published: u64,
    /// QoS 2 messages that came and are not released.
    received: BTreeSet<PacketId>,
}

struct Sent {
    packet: Publish,
    id: PacketId,
    /// What the caller calls it.
    number: u64,
    /// PUBREC came.
    released: bool,
}

impl Flow {
    /// Messages that are not acknowledged to the end.
    pub(crate) fn in_flight(&self) -> usize {
        self.out.len()
    }

    fn place(&self, id: PacketId) -> Option<u64> {
        self.out.iter().find(|(_, sent)| sent.id == id).map(|(place, _)| *place)
    }
}

/// What the broker said.
pub(crate) enum Said {
    /// A message that was published here is acknowledged: PUBACK or PUBREC.
    Acknowledged(u64),
    /// A message that did not come before.
    Message { topic: String, payload: Bytes, qos: QoS },
    /// Something else.
    Other,
}

/// One connection. Whatever fails on it is the end of it: `None`.
pub(crate) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: BytesMut,
}

impl Client {
    /// Connects a device in the folder `out` of the setup, and takes up what was in flight. Whether the broker had the
    /// session. `fresh`: with a session of its own, which ends with the connection.
    pub(crate) fn connect(setup: &Setup, name: &str, flow: &mut Flow, fresh: bool) -> Option<(Self, bool)> {
        let folder = setup.path("out").join(name);
        let config = credentials(&setup.path("pki/root-ca.crt"), &folder);
        let ready = std::fs::read_to_string(setup.path("ready")).unwrap();
        let socket = TcpStream::connect(ready.lines().next().unwrap()).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        let mut client = Self { stream: StreamOwned::new(tls, socket), buffer: BytesMut::new() };
        let id = if fresh { "fresh" } else { name };
        client.send(&Packet::Connect(Box::new(Connect {
            version: Version::V5,
            clean_start: fresh,
            keep_alive_secs: 60,
            client_id: Some(ClientId::try_from(id).unwrap()),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_secs: (!fresh).then_some(3600),
                ..ConnectProperties::default()
            },
        })))?;
        let Packet::ConnAck(answer) = client.packet()? else { panic!("no CONNACK") };
        assert!(!answer.reason.is_failure(), "{name}: {answer:?}");
        if !answer.session_present {
            flow.received.clear();
        }
        for sent in flow.out.values() {
            let packet = if sent.released {
                Packet::PubRel(Ack::success(sent.id))
            } else {
                Packet::Publish(Publish { dup: true, ..sent.packet.clone() })
            };
            client.send(&packet)?;
        }
        Some((client, answer.session_present))
    }

    /// SUBSCRIBE; whether it was granted.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> Option<bool> {
        let options = SubscribeOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        };
        self.send(&Packet::Subscribe(Box::new(Subscribe {
            packet_id: PacketId::MIN,
            subscription_id: None,
            user_properties: Vec::new(),
            filters: vec![Requested {
                filter: Ok(signet_wire::SubscriptionFilter::parse(Text::try_from(filter).unwrap()).unwrap()),
                options,
            }],
        })))?;
        match self.packet()? {
            Packet::SubAck(answer) => Some(answer.reasons.iter().all(|reason| !reason.is_failure())),
            other => panic!("{other:?}"),
        }
    }

    /// PUBLISH, which stays in flight until it is acknowledged.
    pub(crate) fn publish(
        &mut self,
        flow: &mut Flow,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        number: u64,
    ) -> Option<()> {
        let id = loop {
            flow.last_id = flow.last_id.wrapping_add(1);
            match PacketId::new(flow.last_id) {
                Some(id) if flow.place(id).is_none() => break id,
                _ => {}
            }
        };
        let packet = Publish {
            dup: false,
            retain,
            qos: if qos == QoS::ExactlyOnce { QosId::ExactlyOnce(id) } else { QosId::AtLeastOnce(id) },
            topic: Some(TopicName::try_from(topic).unwrap()),
            properties: None,
            payload: Bytes::copy_from_slice(payload),
        };
        flow.published += 1;
        flow.out.insert(flow.published, Sent { packet: packet.clone(), id, number, released: false });
        self.send(&Packet::Publish(packet))
    }

    /// [`Self::next`], within so long. The connection is of no further use when nothing came in the middle of a packet.
    pub(crate) fn next_within(&mut self, flow: &mut Flow, within: Duration) -> Option<Said> {
        self.stream.sock.set_read_timeout(Some(within)).unwrap();
        let said = self.next(flow);
        self.stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        said
    }

    /// The next packet, answered as it must be.
    pub(crate) fn next(&mut self, flow: &mut Flow) -> Option<Said> {
        match self.packet()? {
            Packet::PubAck(ack) => {
                let sent = flow.place(ack.packet_id).and_then(|place| flow.out.remove(&place));
                Some(sent.map_or(Said::Other, |sent| Said::Acknowledged(sent.number)))
            }
            Packet::PubRec(ack) => {
                let place = flow.place(ack.packet_id);
                let Some(sent) = place.and_then(|place| flow.out.get_mut(&place)) else {
                    self.send(&Packet::PubRel(Ack::success(ack.packet_id)))?;
                    return Some(Said::Other);
                };
                sent.released = true;
                let number = sent.number;
                // The caller learns of it even when the answer cannot be sent.
                let _ = self.send(&Packet::PubRel(Ack::success(ack.packet_id)));
                Some(Said::Acknowledged(number))
            }
            Packet::PubComp(ack) => {
                if let Some(place) = flow.place(ack.packet_id) {
                    flow.out.remove(&place);
                }
                Some(Said::Other)
            }
            Packet::PubRel(ack) => {
                flow.received.remove(&ack.packet_id);
                self.send(&Packet::PubComp(Ack::success(ack.packet_id)))?;
                Some(Said::Other)
            }
            Packet::Publish(publish) => Some(self.message(flow, publish)),
            Packet::Disconnect(_) => None,
            _ => Some(Said::Other),
        }
    }

    fn message(&mut self, flow: &mut Flow, publish: Publish) -> Said {
        // The message is here even when the answer cannot be sent.
        let new = match publish.qos {
            QosId::AtMostOnce => true,
            QosId::AtLeastOnce(id) => {
                let _ = self.send(&Packet::PubAck(Ack::success(id)));
                true
            }
            QosId::ExactlyOnce(id) => {
                let new = flow.received.insert(id);
                let _ = self.send(&Packet::PubRec(Ack::success(id)));
                new
            }
        };
        if !new {
            return Said::Other;
        }
        let topic = publish.topic.map(|topic| topic.to_string()).unwrap_or_default();
        Said::Message { topic, payload: publish.payload, qos: publish.qos.qos() }
    }

    fn send(&mut self, packet: &Packet) -> Option<()> {
        let mut bytes = BytesMut::new();
        signet_wire::encode(packet, Version::V5, &mut bytes).unwrap();
        self.stream.write_all(&bytes).ok()?;
        self.stream.flush().ok()
    }

    fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some(frame) = signet_wire::frame(&mut self.buffer, 1 << 20).unwrap() {
                return Some(signet_wire::decode_from_server(frame, Version::V5).unwrap());
            }
            let mut bytes = [0; 16 * 1024];
            let read = self.stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
            self.buffer.extend_from_slice(&bytes[..read]);
        }
    }
}
