//! CPU time per message when every device speaks rarely: no message finds another one in the socket before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use clap::Args;
use mqttbytes::QoS;
use mqttbytes::v4::{Packet, PubAck, Publish};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::{Client, codec};
use crate::crowd;
use crate::flow::Qos;
use crate::latency::Latencies;
use crate::pki::{Counts, Pki};
use crate::report::Record;
use crate::steady::{stamp, stamped, told_to_stop};

/// Until every device has its beat.
const RAMP: Duration = Duration::from_secs(2);
/// For messages under way at the end.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Devices that publish.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub(crate) connections: u32,
    /// Milliseconds between two messages of a device.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub(crate) period_ms: u32,
    /// QoS of messages and subscriptions: 0 or 1.
    #[arg(long, value_enum, default_value_t = Qos::Zero)]
    pub(crate) qos: Qos,
    /// Subscribers that share the devices among them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) consumers: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { connections: 5000, period_ms: 1000, qos: Qos::Zero, consumers: 1, seconds: 10 }
    }
}

impl Measure for Load {
    fn need(&self) -> Need {
        let (devices, consumers) = (self.connections as usize, self.consumers as usize);
        Need {
            counts: Counts { devices, ..Counts::default() },
            setup: Setup { connections: devices + consumers, ..Setup::default() },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        ensure!(self.qos != Qos::Two, "this scenario knows QoS 0 and 1");
        let devices = pki.devices(self.connections as usize)?;
        let names: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
        let (stop, stopped) = watch::channel(false);
        let epoch = Instant::now();
        let received = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for consumer in self.consumers(broker, pki, &names).await? {
            tasks.spawn(consume(consumer, epoch, Arc::clone(&received), stopped.clone()));
        }
        let clients = crowd::gather(broker.address, &devices, broker.kind.name()).await?;
        let period = Duration::from_millis(u64::from(self.period_ms));
        let start = tokio::time::Instant::now();
        for (number, (client, name)) in (0..self.connections).zip(clients.into_iter().zip(names)) {
            // In an order that is none of the connections, evenly over the period.
            let first = period * (number.wrapping_mul(7919) % self.connections) / self.connections;
            let speaker = Speaker { client, name, qos: self.qos, epoch };
            tasks.spawn(speaker.run(start + first, period, stopped.clone()));
        }
        tokio::time::sleep(RAMP).await;
        let (cpu, from) = (broker.cpu_time()?, Instant::now());
        tokio::time::sleep(Duration::from_secs(u64::from(self.seconds))).await;
        let (cpu, to) = ((broker.cpu_time()? - cpu).as_secs_f64() * 1e6, Instant::now());
        stop.send(true)?;
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let received = received.lock().unwrap_or_else(PoisonError::into_inner);
        let latencies: Latencies =
            received.iter().filter(|(sent, _)| (from..to).contains(sent)).map(|(_, took)| *took).collect();
        ensure!(latencies.len() > 0, "no message arrived");
        let messages = latencies.len() as f64;
        let results = BTreeMap::from([
            ("cpu_per_message_us", cpu / messages),
            ("messages_per_second", messages / (to - from).as_secs_f64()),
            ("latency_p50_ms", latencies.ms(50.0)),
            ("latency_p99_ms", latencies.ms(99.0)),
        ]);
        Ok(Record::on(broker, pki, "sparse", self, results)?.with("latency", &latencies))
    }
}

impl Load {
    async fn consumers(&self, broker: &Running, pki: &Pki, names: &[String]) -> Result<Vec<Client>> {
        let (admin, mut consumers) = (pki.admin()?, Vec::new());
        for number in 0..self.consumers {
            let mut client = Client::connect(broker.address, &admin, &format!("consumer-{number}")).await?;
            if self.consumers == 1 {
                client.subscribe("devices/+/telemetry/#", self.qos.into()).await?;
            } else {
                for name in names.iter().skip(number as usize).step_by(self.consumers as usize) {
                    client.subscribe(&format!("devices/{name}/telemetry/#"), self.qos.into()).await?;
                }
            }
            consumers.push(client);
        }
        Ok(consumers)
    }
}

struct Speaker {
    client: Client,
    name: String,
    qos: Qos,
    epoch: Instant,
}

impl Speaker {
    async fn run(
        mut self,
        start: tokio::time::Instant,
        period: Duration,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<()> {
        let mut ticks = tokio::time::interval_at(start, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let topic = format!("devices/{}/telemetry/t", self.name);
        loop {
            tokio::select! {
                biased;
                told = told_to_stop(&mut stopped) => {
                    told?;
                    // Those who still listen hear the last messages.
                    tokio::time::sleep(SETTLE).await;
                    return Ok(());
                }
                _ = ticks.tick() => {}
            }
            let mut payload = [0; 64];
            stamp(&mut payload, self.epoch);
            match self.qos {
                Qos::Zero => {
                    let mut out = BytesMut::new();
                    Publish::new(&topic, QoS::AtMostOnce, payload).write(&mut out).map_err(codec)?;
                    self.client.write(&out).await?;
                }
                Qos::One | Qos::Two => self.client.publish(&topic, &payload, false).await?,
            }
        }
    }
}

async fn consume(
    mut client: Client,
    epoch: Instant,
    received: Arc<Mutex<Vec<(Instant, Duration)>>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    let mut out = BytesMut::new();
    loop {
        let first = tokio::select! {
            biased;
            packet = client.read() => packet?,
            told = told_to_stop(&mut stopped) => return told,
        };
        let now = Instant::now();
        let mut next = Some(first);
        let mut some = Vec::new();
        while let Some(packet) = next {
            let Packet::Publish(publish) = packet else { bail!("unexpected at a subscriber: {packet:?}") };
            let sent = stamped(&publish.payload, epoch).context("a message of somebody else")?;
            some.push((sent, now.saturating_duration_since(sent)));
            if publish.qos == QoS::AtLeastOnce {
                PubAck::new(publish.pkid).write(&mut out).map_err(codec)?;
            }
            next = client.buffered()?;
        }
        received.lock().unwrap_or_else(PoisonError::into_inner).append(&mut some);
        if !out.is_empty() {
            client.write(&out).await?;
            out.clear();
        }
    }
}
