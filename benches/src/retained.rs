//! What a new subscriber costs that gets many retained messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use mqttbytes::QoS;
use mqttbytes::v4::Packet;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::Client;
use crate::latency::Latencies;
use crate::pki::{Counts, Device, Pki};
use crate::progress;
use crate::report::Record;

/// A subscriber that gets nothing for so long has lost a message.
const STALL: Duration = Duration::from_secs(20);
/// For the broker's work behind the last delivery.
const SETTLE: Duration = Duration::from_millis(200);
const PAYLOAD: [u8; 64] = [b'x'; 64];

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Devices that have retained messages.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) devices: u32,
    /// Retained messages of each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) messages: u32,
    /// Subscribers that get them all, one after the other.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) subscribers: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { devices: 100, messages: 100, subscribers: 20 }
    }
}

impl Measure for Load {
    fn need(&self) -> Need {
        let devices = self.devices as usize;
        Need {
            counts: Counts { devices, ..Counts::default() },
            setup: Setup { connections: devices + 1, ..Setup::default() },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let memory = broker.memory()?;
        let cpu = broker.cpu_time()?;
        let mut storing = JoinSet::new();
        let bar = progress::bar("retained", self.devices as usize);
        for device in pki.devices(self.devices as usize)? {
            storing.spawn(store(broker.address, device, self.messages));
        }
        while let Some(stored) = storing.join_next().await {
            stored??;
            bar.inc(1);
        }
        bar.finish_and_clear();
        tokio::time::sleep(SETTLE).await;
        let stored = f64::from(self.devices * self.messages);
        let kept = (broker.memory()?.rss_kib as f64 - memory.rss_kib as f64) * 1024.0 / stored;
        let storing_cpu = broker.cpu_time()? - cpu;

        let (admin, mut took) = (pki.admin()?, Vec::new());
        let cpu = broker.cpu_time()?;
        for number in 0..self.subscribers {
            let mut client = Client::connect(broker.address, &admin, &format!("late-{number}")).await?;
            let start = Instant::now();
            client.subscribe("devices/+/telemetry/#", QoS::AtMostOnce).await?;
            for received in 0..self.devices * self.messages {
                let packet = timeout(STALL, client.read()).await;
                match packet
                    .with_context(|| format!("{received} of {stored} retained messages arrived"))??
                {
                    Packet::Publish(publish) if publish.retain => {}
                    other => bail!("unexpected at a subscriber: {other:?}"),
                }
            }
            took.push(start.elapsed());
            client.disconnect().await?;
        }
        tokio::time::sleep(SETTLE).await;
        let cpu = (broker.cpu_time()? - cpu).as_secs_f64() * 1e6;
        let took: Latencies = took.into_iter().collect();
        let results = BTreeMap::from([
            ("cpu_per_delivery_us", cpu / stored / f64::from(self.subscribers)),
            ("cpu_per_stored_us", storing_cpu.as_secs_f64() * 1e6 / stored),
            ("rss_per_message_bytes", kept),
            ("until_last_p50_ms", took.ms(50.0)),
        ]);
        Record::on(broker, pki, "retained", self, results)
    }
}

async fn store(address: std::net::SocketAddr, device: Device, messages: u32) -> Result<()> {
    let mut client = Client::connect(address, &device, &device.name).await?;
    for number in 0..messages {
        client.publish(&format!("devices/{}/telemetry/{number}", device.name), &PAYLOAD, true).await?;
    }
    client.disconnect().await
}
