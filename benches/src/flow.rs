//! CPU time per message: pairs of publisher and subscriber, one publisher with many subscribers, or many publishers with one subscriber.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use clap::{Args, ValueEnum};
use mqttbytes::QoS;
use mqttbytes::v4::{Packet, PubAck, PubComp, PubRec, PubRel, Publish};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::{Client, codec};
use crate::pki::{Counts, Device, Pki};
use crate::progress;
use crate::report::Record;

/// A run that makes no progress for so long has lost a message.
const STALL: Duration = Duration::from_secs(20);
/// For the broker's work behind the last delivery.
const SETTLE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(crate) enum Qos {
    #[value(name = "0")]
    #[serde(rename = "0")]
    Zero,
    #[value(name = "1")]
    #[serde(rename = "1")]
    One,
    #[value(name = "2")]
    #[serde(rename = "2")]
    Two,
}

impl From<Qos> for QoS {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::Zero => Self::AtMostOnce,
            Qos::One => Self::AtLeastOnce,
            Qos::Two => Self::ExactlyOnce,
        }
    }
}

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// QoS of the messages and of the subscriptions.
    #[arg(long, value_enum, default_value_t = Qos::Zero)]
    pub(crate) qos: Qos,
    /// Publishers, each a device of its own.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) publishers: u32,
    /// Subscribers of each publisher's topic.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) fan_out: u32,
    /// One subscriber gets the messages of all publishers.
    #[arg(long, conflicts_with = "fan_out")]
    pub(crate) fan_in: bool,
    /// Messages of each publisher.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) messages: u32,
    /// Bytes of payload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) payload: u32,
    /// Messages of one publisher that are under way at once. Mosquitto's own default for QoS 1 and 2 is 20.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) window: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            qos: Qos::Zero,
            publishers: 10,
            fan_out: 1,
            fan_in: false,
            messages: 10_000,
            payload: 64,
            window: 20,
        }
    }
}

impl Measure for Load {
    fn need(&self) -> Need {
        Need {
            counts: Counts { devices: self.publishers as usize, ..Counts::default() },
            setup: Setup {
                connections: self.publishers as usize * (1 + self.fan_out as usize),
                ..Setup::default()
            },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let mut tasks = JoinSet::new();
        let devices = pki.devices(self.publishers as usize)?;
        let lanes = self.subscribe(broker, pki, &devices, &mut tasks).await?;
        let mut publishers = Vec::with_capacity(devices.len());
        for (device, lane) in devices.iter().zip(lanes) {
            let client = Client::connect(broker.address, device, &device.name).await?;
            publishers.push((client, self.stencil(device)?, lane));
        }

        tokio::time::sleep(SETTLE).await;
        let (cpu, start) = (broker.cpu_time()?, Instant::now());
        for (client, stencil, lane) in publishers {
            let publisher = Publisher {
                client,
                stencil,
                lane,
                total: u64::from(self.messages),
                fan_out: u64::from(self.fan_out),
                window: u64::from(self.window),
                sent: 0,
                acknowledged: 0,
            };
            tasks.spawn(publisher.run());
        }
        let deliveries = f64::from(self.messages) * f64::from(self.publishers) * f64::from(self.fan_out);
        let bar = progress::bar(broker.kind.name(), tasks.len());
        // The clients are kept until the end: a close is no part of a message.
        let mut done = Vec::with_capacity(tasks.len());
        while let Some(client) = tasks.join_next().await {
            done.push(client??);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let elapsed = start.elapsed();
        tokio::time::sleep(SETTLE).await;
        let cpu = (broker.cpu_time()? - cpu).as_secs_f64() * 1e6;
        drop(done);
        let results = BTreeMap::from([
            (if self.fan_out == 1 { "cpu_per_message_us" } else { "cpu_per_delivery_us" }, cpu / deliveries),
            ("deliveries_per_second", deliveries / elapsed.as_secs_f64()),
        ]);
        Record::on(broker, pki, "flow", self, results)
    }
}

impl Load {
    /// Connects the subscribers, which begin to receive; gives each publisher's lane.
    async fn subscribe(
        &self,
        broker: &Running,
        pki: &Pki,
        devices: &[Device],
        tasks: &mut JoinSet<Result<Client>>,
    ) -> Result<Vec<Arc<Lane>>> {
        let (admin, messages) = (pki.admin()?, u64::from(self.messages));
        let lanes: Vec<Arc<Lane>> = devices.iter().map(|_| Arc::new(Lane::default())).collect();
        if self.fan_in {
            let mut client = Client::connect(broker.address, &admin, "sub").await?;
            client.subscribe("devices/+/telemetry/#", self.qos.into()).await?;
            let by_topic = devices.iter().map(topic).zip(lanes.iter().cloned()).collect::<HashMap<_, _>>();
            tasks.spawn(subscribe(client, Lanes::Many(by_topic), messages * devices.len() as u64));
            return Ok(lanes);
        }
        let bar = progress::bar(broker.kind.name(), devices.len() * self.fan_out as usize);
        for (number, (device, lane)) in devices.iter().zip(&lanes).enumerate() {
            for subscriber in 0..self.fan_out {
                let id = format!("sub-{number}-{subscriber}");
                let mut client = Client::connect(broker.address, &admin, &id).await?;
                client.subscribe(&format!("devices/{}/telemetry/#", device.name), self.qos.into()).await?;
                tasks.spawn(subscribe(client, Lanes::One(Arc::clone(lane)), messages));
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(lanes)
    }

    /// A device's PUBLISH, encoded once.
    fn stencil(&self, device: &Device) -> Result<Stencil> {
        let mut publish = Publish::new(topic(device), self.qos.into(), vec![b'x'; self.payload as usize]);
        publish.pkid = 1;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).map_err(codec)?;
        let id_end = bytes.len() - self.payload as usize;
        let id = (self.qos != Qos::Zero).then(|| id_end - 2..id_end);
        Ok(Stencil { bytes, id })
    }
}

fn topic(device: &Device) -> String {
    format!("devices/{}/telemetry/t", device.name)
}

/// An encoded PUBLISH in which only the packet identifier changes.
struct Stencil {
    bytes: BytesMut,
    /// Where the packet identifier is, for QoS 1 and 2.
    id: Option<Range<usize>>,
}

impl Stencil {
    fn with_id(&mut self, number: u64) -> Result<&[u8]> {
        if let Some(id) = self.id.clone() {
            let value = u16::try_from(number % u64::from(u16::MAX))? + 1;
            self.bytes.get_mut(id).context("no packet identifier")?.copy_from_slice(&value.to_be_bytes());
        }
        Ok(&self.bytes)
    }
}

/// What a publisher and its subscribers tell each other.
#[derive(Default)]
struct Lane {
    deliveries: AtomicU64,
    news: Notify,
}

/// Whose messages a subscriber gets.
enum Lanes {
    One(Arc<Lane>),
    Many(HashMap<String, Arc<Lane>>),
}

impl Lanes {
    fn delivered(&self, publish: &Publish) -> Result<()> {
        let lane = match self {
            Self::One(lane) => lane,
            Self::Many(lanes) => lanes.get(&publish.topic).context("a message of nobody")?,
        };
        lane.deliveries.fetch_add(1, Ordering::Release);
        lane.news.notify_one();
        Ok(())
    }
}

struct Publisher {
    client: Client,
    stencil: Stencil,
    lane: Arc<Lane>,
    total: u64,
    fan_out: u64,
    window: u64,
    sent: u64,
    acknowledged: u64,
}

impl Publisher {
    /// Publishes all messages, each in a TLS record of its own as devices do, with a window under way.
    async fn run(mut self) -> Result<Client> {
        let wants_acks = self.stencil.id.is_some();
        while self.sent < self.total || (wants_acks && self.acknowledged < self.total) {
            let settled = self.lane.deliveries.load(Ordering::Acquire) / self.fan_out;
            let settled = if wants_acks { settled.min(self.acknowledged) } else { settled };
            if self.sent < self.total && self.sent - settled.min(self.sent) < self.window {
                let packet = self.stencil.with_id(self.sent)?;
                self.client.write(packet).await?;
                self.sent += 1;
                continue;
            }
            let lane = Arc::clone(&self.lane);
            let waited = timeout(STALL, async {
                tokio::select! {
                    packet = self.client.read(), if wants_acks => packet.map(Some),
                    () = lane.news.notified() => Ok(None),
                }
            });
            if let Some(packet) = waited.await.context("no acknowledgement and no delivery")?? {
                self.acknowledge(packet).await?;
            }
        }
        Ok(self.client)
    }

    async fn acknowledge(&mut self, first: Packet) -> Result<()> {
        let mut out = BytesMut::new();
        let mut next = Some(first);
        while let Some(packet) = next {
            match packet {
                Packet::PubAck(_) | Packet::PubComp(_) => self.acknowledged += 1,
                Packet::PubRec(received) => drop(PubRel::new(received.pkid).write(&mut out).map_err(codec)?),
                other => bail!("unexpected at a publisher: {other:?}"),
            }
            next = self.client.buffered()?;
        }
        if out.is_empty() { Ok(()) } else { self.client.write(&out).await }
    }
}

/// Receives so many messages, and acknowledges what arrived together in one record.
async fn subscribe(mut client: Client, lanes: Lanes, messages: u64) -> Result<Client> {
    let (mut received, mut released, mut out) = (0, 0, BytesMut::new());
    let mut exactly_once = false;
    while received < messages || (exactly_once && released < messages) {
        let mut next = Some(
            timeout(STALL, client.read())
                .await
                .with_context(|| format!("{received} of {messages} messages arrived"))??,
        );
        while let Some(packet) = next {
            match packet {
                Packet::Publish(publish) => {
                    received += 1;
                    lanes.delivered(&publish)?;
                    match publish.qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => drop(PubAck::new(publish.pkid).write(&mut out).map_err(codec)?),
                        QoS::ExactlyOnce => {
                            exactly_once = true;
                            PubRec::new(publish.pkid).write(&mut out).map_err(codec)?;
                        }
                    }
                }
                Packet::PubRel(release) => {
                    released += 1;
                    PubComp::new(release.pkid).write(&mut out).map_err(codec)?;
                }
                other => bail!("unexpected at a subscriber: {other:?}"),
            }
            next = client.buffered()?;
        }
        if !out.is_empty() {
            client.write(&out).await?;
            out.clear();
        }
    }
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_identifier_of_a_stencil_is_never_zero_and_nothing_else_changes() {
        let mut stencil = Stencil { bytes: BytesMut::from(&b"ab\0\x01xyz"[..]), id: Some(2..4) };
        for number in [0, 1, 65_533, 65_534, 65_535, 131_069] {
            let bytes = stencil.with_id(number).unwrap();
            assert_ne!(bytes[2..4], [0, 0], "{number}");
            assert_eq!((&bytes[..2], &bytes[4..]), (&b"ab"[..], &b"xyz"[..]));
        }
    }

    #[test]
    fn at_qos_0_there_is_no_packet_identifier() {
        let mut stencil = Stencil { bytes: BytesMut::from(&b"abcd"[..]), id: None };
        assert_eq!(stencil.with_id(7).unwrap(), b"abcd");
    }
}
