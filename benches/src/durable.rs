//! What it costs a publisher that its messages survive a crash: QoS 1 to persistent subscribers, connected or away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use clap::{Args, ValueEnum};
use mqttbytes::QoS;
use mqttbytes::v4::{Packet, PubAck, Publish};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::broker::{Keep, Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::{Client, codec};
use crate::latency::Latencies;
use crate::pki::{Counts, Device, Pki};
use crate::progress;
use crate::report::Record;

/// A publisher or subscriber that hears nothing for so long has lost a message.
const STALL: Duration = Duration::from_secs(30);
/// For the broker's work behind the last acknowledgement.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Acknowledged when it is on disk. Mosquitto has no such thing: its persistence is switched on.
    Strict,
    /// On disk some time after it is acknowledged. Mosquitto saves every second.
    Batched,
    /// Not on disk.
    Memory,
}

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// What an acknowledgement promises.
    #[arg(long, value_enum, default_value_t = Durability::Strict)]
    pub(crate) durability: Durability,
    /// The subscribers are away, so that every message is kept for them.
    #[arg(long)]
    pub(crate) away: bool,
    /// Publishers, each a device of its own.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) publishers: u32,
    /// Messages of each publisher.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) messages: u32,
    /// Bytes of payload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) payload: u32,
    /// Messages of one publisher that are under way at once.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) window: u32,
}

impl Measure for Load {
    fn need(&self) -> Need {
        let keep = match self.durability {
            Durability::Strict => Keep::Strict,
            Durability::Batched => Keep::Batched,
            Durability::Memory => Keep::Memory,
        };
        Need {
            counts: Counts { devices: self.publishers as usize, ..Counts::default() },
            setup: Setup {
                connections: 2 * self.publishers as usize,
                keep,
                deep_queues: true,
                ..Setup::default()
            },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let devices = pki.devices(self.publishers as usize)?;
        let admin = pki.admin()?;
        let mut subscribers = JoinSet::new();
        for (number, device) in devices.iter().enumerate() {
            let mut client =
                Client::connect_persistent(broker.address, &admin, &format!("sub-{number}")).await?;
            client.subscribe(&format!("devices/{}/telemetry/#", device.name), QoS::AtLeastOnce).await?;
            if self.away {
                client.disconnect().await?;
            } else {
                subscribers.spawn(hear(client, self.messages));
            }
        }
        let mut publishers = Vec::new();
        for device in devices {
            publishers.push((Client::connect(broker.address, &device, &device.name).await?, device));
        }
        tokio::time::sleep(SETTLE).await;
        let (cpu, written, start) = (broker.cpu_time()?, broker.bytes_written()?, Instant::now());
        let mut tasks = JoinSet::new();
        for (client, device) in publishers {
            tasks.spawn(publish(client, device, self.clone()));
        }
        let bar = progress::bar(broker.kind.name(), tasks.len());
        let mut took = Vec::new();
        // The clients are kept until the end: a close is no part of a message.
        let mut done = Vec::new();
        while let Some(published) = tasks.join_next().await {
            let (client, latencies) = published??;
            took.extend(latencies);
            done.push(client);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let elapsed = start.elapsed();
        while let Some(heard) = subscribers.join_next().await {
            done.push(heard??);
        }
        tokio::time::sleep(SETTLE).await;
        let messages = f64::from(self.messages) * f64::from(self.publishers);
        let cpu = (broker.cpu_time()? - cpu).as_secs_f64() * 1e6;
        let written = broker.bytes_written()? - written;
        drop(done);
        let took: Latencies = took.into_iter().collect();
        let results = BTreeMap::from([
            ("acknowledged_per_second", messages / elapsed.as_secs_f64()),
            ("cpu_per_message_us", cpu / messages),
            ("written_per_message_bytes", written as f64 / messages),
            ("acknowledged_p50_ms", took.ms(50.0)),
            ("acknowledged_p99_ms", took.ms(99.0)),
        ]);
        Ok(Record::on(broker, pki, "durable", self, results)?.with("acknowledged", &took))
    }
}

/// Publishes all messages with a window under way; how long each acknowledgement took.
async fn publish(mut client: Client, device: Device, load: Load) -> Result<(Client, Vec<Duration>)> {
    let mut publish = Publish::new(
        format!("devices/{}/telemetry/t", device.name),
        QoS::AtLeastOnce,
        vec![b'x'; load.payload as usize],
    );
    let mut under_way: BTreeMap<u16, Instant> = BTreeMap::new();
    let mut took = Vec::with_capacity(load.messages as usize);
    let mut sent = 0;
    while took.len() < load.messages as usize {
        let mut out = BytesMut::new();
        while sent < load.messages && under_way.len() < load.window as usize {
            publish.pkid = u16::try_from(sent % 60_000)? + 1;
            publish.write(&mut out).map_err(codec)?;
            under_way.insert(publish.pkid, Instant::now());
            sent += 1;
        }
        if !out.is_empty() {
            client.write(&out).await?;
        }
        let mut next = Some(timeout(STALL, client.read()).await.context("no acknowledgement")??);
        while let Some(packet) = next {
            match packet {
                Packet::PubAck(ack) => {
                    let sent = under_way.remove(&ack.pkid).context("acknowledged twice")?;
                    took.push(sent.elapsed());
                }
                other => bail!("unexpected at a publisher: {other:?}"),
            }
            next = client.buffered()?;
        }
    }
    Ok((client, took))
}

/// Receives so many messages, and acknowledges what arrived together in one record.
async fn hear(mut client: Client, messages: u32) -> Result<Client> {
    let mut received = 0;
    while received < messages {
        let mut out = BytesMut::new();
        let mut next = Some(
            timeout(STALL, client.read())
                .await
                .with_context(|| format!("{received} of {messages} messages arrived"))??,
        );
        while let Some(packet) = next {
            match packet {
                Packet::Publish(publish) => {
                    received += 1;
                    PubAck::new(publish.pkid).write(&mut out).map_err(codec)?;
                }
                other => bail!("unexpected at a subscriber: {other:?}"),
            }
            next = client.buffered()?;
        }
        client.write(&out).await?;
    }
    Ok(client)
}
