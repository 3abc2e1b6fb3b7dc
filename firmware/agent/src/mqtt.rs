//! One MQTT 5 connection: the device's actions out, the broker's packets in.

use alloc::vec::Vec;
use core::cell::Cell;

use embedded_io_async::{Read, Write};
use rust_mqtt::buffer::AllocBuffer;
use rust_mqtt::client::event::Event as Packet;
use rust_mqtt::client::options::{
    ConnectOptions, DisconnectOptions, PublicationOptions, RetainHandling, SubscriptionOptions,
    TopicReference, WillOptions,
};
use rust_mqtt::client::{Client, MqttError};
use rust_mqtt::config::KeepAlive;
use rust_mqtt::header::FixedHeader;
use rust_mqtt::types::{MqttBinary, MqttString, PacketIdentifier, ReasonCode, TopicFilter, TopicName};
use signet_device_core::{Connect, Failure, Input, Message, Publish, Refusal};

use crate::watched::Watched;

/// Filters that wait for their SUBACK.
const SUBSCRIBES: usize = 8;
/// Messages from the broker that are being acknowledged.
const RECEIVES: usize = 8;
/// Messages to the broker that wait for their PUBACK. What is more waits in the device.
pub(crate) const SENDS: usize = 8;
/// What is said about a packet beyond its meaning is not kept.
const PROPERTIES: usize = 0;
/// The largest packet that is taken, in bytes: a part of a firmware image and its topic.
const PACKET_BYTES_MAX: core::num::NonZeroU32 = core::num::NonZeroU32::new(8 * 1024).unwrap();

type Mqtt<'c, S> =
    Client<'c, 'c, Watched<'c, S>, AllocBuffer, SUBSCRIBES, RECEIVES, SENDS, 1, PROPERTIES, 0, 0>;

/// A connection that the broker accepted.
pub(crate) struct Session<'c, S: Read + Write> {
    client: Mqtt<'c, S>,
    judged: &'c Cell<Option<Failure>>,
    publishes: Vec<(PacketIdentifier, u32)>,
    subscribe: Option<Subscribing>,
}

/// A SUBSCRIBE of the device, filter by filter.
struct Subscribing {
    id: u32,
    waiting: Vec<PacketIdentifier>,
    granted: Vec<bool>,
}

impl<'c, S: Read + Write> Session<'c, S> {
    /// Sends CONNECT and waits for CONNACK.
    pub(crate) async fn open(
        buffer: &'c mut AllocBuffer,
        stream: Watched<'c, S>,
        with: &Connect,
    ) -> Result<Self, Failure> {
        let judged = stream.judged();
        let mut client = Mqtt::new(buffer);
        let keep_alive = core::num::NonZeroU16::new(with.keep_alive_secs);
        let mut options = ConnectOptions::new()
            .clean_start()
            .keep_alive(keep_alive.map_or(KeepAlive::Infinite, KeepAlive::Seconds))
            .maximum_packet_size(PACKET_BYTES_MAX);
        if let Some(will) = &with.will {
            let topic = TopicName::new(text(&will.topic)?).ok_or(Failure::Unreachable)?;
            let payload = MqttBinary::try_from(will.payload.as_bytes()).map_err(|_| Failure::Unreachable)?;
            options = options.will(WillOptions::new(topic, payload).at_least_once().retain());
        }
        match client.connect(stream, &options, Some(text(&with.client_id)?)).await {
            Ok(_) => Ok(Self { client, judged, publishes: Vec::new(), subscribe: None }),
            Err(MqttError::Disconnect { reason, .. }) => Err(refused(reason)),
            Err(_) => Err(judged.get().unwrap_or(Failure::Unreachable)),
        }
    }

    /// Subscribes at QoS 1 without the messages of before.
    pub(crate) async fn subscribe(
        &mut self,
        id: u32,
        filters: &[alloc::string::String],
    ) -> Result<(), Failure> {
        let options = SubscriptionOptions::new().at_least_once().retain_handling(RetainHandling::NeverSend);
        let mut waiting = Vec::with_capacity(filters.len());
        for filter in filters {
            let filter = TopicFilter::new(text(filter)?).ok_or(Failure::Lost)?;
            waiting.push(self.client.subscribe(filter, &options).await.map_err(|_| Failure::Lost)?);
        }
        let granted = alloc::vec![false; waiting.len()];
        self.subscribe = Some(Subscribing { id, waiting, granted });
        Ok(())
    }

    /// Whether another message can be published before an acknowledgement.
    pub(crate) fn has_room(&self) -> bool {
        self.publishes.len() < SENDS
    }

    /// Publishes at QoS 1.
    pub(crate) async fn publish(&mut self, publish: &Publish) -> Result<(), Failure> {
        let topic = TopicName::new(text(&publish.topic)?).ok_or(Failure::Lost)?;
        let mut options = PublicationOptions::new(TopicReference::Name(topic)).at_least_once();
        if publish.retain {
            options = options.retain();
        }
        let sent = self.client.publish(&options, publish.payload.as_slice().into()).await;
        if let Some(packet) = sent.map_err(|_| Failure::Lost)? {
            self.publishes.push((packet, publish.id));
        }
        Ok(())
    }

    /// Sends PINGREQ.
    pub(crate) async fn ping(&mut self) -> Result<(), Failure> {
        self.client.ping().await.map_err(|_| Failure::Lost)
    }

    /// Says goodbye. The will is not sent.
    pub(crate) async fn close(mut self) {
        // The connection is given up either way.
        let _ = self.client.disconnect(&DisconnectOptions::new()).await;
    }

    /// Waits for the beginning of a packet. Dropping the future is harmless.
    pub(crate) async fn header(&mut self) -> Result<FixedHeader, Failure> {
        match self.client.poll_header().await {
            Ok(header) => Ok(header),
            Err(_) => Err(self.judged.get().unwrap_or(Failure::Lost)),
        }
    }

    /// Reads the rest of a packet and tells the device, through `hear`, what it means to it. To many it means nothing.
    pub(crate) async fn body(
        &mut self,
        header: FixedHeader,
        hear: impl FnOnce(Input<'_>),
    ) -> Result<(), Failure> {
        let packet = match self.client.poll_body(header).await {
            Ok(packet) => packet,
            Err(MqttError::Disconnect { reason, .. }) => return Err(ended(reason)),
            Err(_) => return Err(self.judged.get().unwrap_or(Failure::Lost)),
        };
        let input = match &packet {
            Packet::Publish(publish) => publish.topic.name().map(|topic| {
                Input::Message(Message {
                    topic: topic.as_ref().as_str(),
                    payload: publish.message.as_bytes(),
                    retained: publish.retain,
                })
            }),
            Packet::Suback(suback) => self.granted(suback.packet_identifier, suback.reason_code.is_success()),
            Packet::PublishAcknowledged(puback) => self.acknowledged(puback.packet_identifier, true),
            Packet::PublishRejected(rejected) => self.acknowledged(rejected.packet_identifier, false),
            _ => None,
        };
        if let Some(input) = input {
            hear(input);
        }
        Ok(())
    }

    fn acknowledged(&mut self, packet: PacketIdentifier, accepted: bool) -> Option<Input<'static>> {
        let place = self.publishes.iter().position(|(waiting, _)| *waiting == packet)?;
        let (_, id) = self.publishes.remove(place);
        Some(Input::Acknowledged { id, accepted })
    }

    fn granted(&mut self, packet: PacketIdentifier, granted: bool) -> Option<Input<'static>> {
        let subscribe = self.subscribe.as_mut()?;
        let place = subscribe.waiting.iter().position(|waiting| *waiting == packet)?;
        *subscribe.granted.get_mut(place)? = granted;
        // SUBACKs come in the order of their SUBSCRIBEs: the last one completes the answer.
        if place + 1 < subscribe.waiting.len() {
            return None;
        }
        self.subscribe.take().map(|Subscribing { id, granted, .. }| Input::Subscribed { id, granted })
    }
}

fn text(text: &str) -> Result<MqttString<'_>, Failure> {
    MqttString::from_str(text).map_err(|_| Failure::Unreachable)
}

/// What a CONNACK with a reason code of failure means. Only what is said of the credential counts against it: a broker in trouble
/// must not drive a fleet back to its claims.
fn refused(reason: ReasonCode) -> Failure {
    match reason {
        ReasonCode::NotAuthorized
        | ReasonCode::Banned
        | ReasonCode::BadUserNameOrPassword
        | ReasonCode::ClientIdentifierNotValid => Failure::Refused(Refusal::ConnAck(reason.value())),
        _ => Failure::Busy,
    }
}

/// What a DISCONNECT of the broker means. Whether it concerns the credential, the next CONNACK will say.
fn ended(reason: ReasonCode) -> Failure {
    match reason {
        ReasonCode::ServerBusy | ReasonCode::ServerShuttingDown | ReasonCode::QuotaExceeded => Failure::Busy,
        _ => Failure::Lost,
    }
}
