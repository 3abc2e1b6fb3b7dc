//! Memory per idle connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::BytesMut;
use clap::Args;
use mqttbytes::QoS;
use mqttbytes::v4::{Packet, Publish};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::{Client, codec};
use crate::pki::{Counts, Device, Pki};
use crate::process::Memory;
use crate::progress;
use crate::report::Record;

/// Connections before the first look, so that what exists once does not count.
const WARM_UP: usize = 20;
/// For buffers that a broker gives back a while after their last use.
const SETTLE: Duration = Duration::from_secs(3);
/// Messages that each connection has published before it is idle.
const PUBLISHES: u16 = 10;
/// Connects at once.
const CONCURRENCY: usize = 8;

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Connections to hold open.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) connections: u32,
}

impl Measure for Load {
    fn need(&self) -> Need {
        let devices = self.connections as usize + WARM_UP;
        Need {
            counts: Counts { devices, ..Counts::default() },
            setup: Setup { connections: devices, ..Setup::default() },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let all = pki.devices(self.connections as usize + WARM_UP)?;
        let (warm_up, devices) = all.split_at(WARM_UP);
        let mut held = Vec::with_capacity(all.len());
        open(broker, warm_up, &mut held).await?;
        let before = settled(broker).await?;
        let (cpu, start) = (broker.cpu_time()?, Instant::now());
        open(broker, devices, &mut held).await?;
        let (opening_cpu, opening) = (broker.cpu_time()? - cpu, start.elapsed());
        let after = settled(broker).await?;
        let each = |before: u64, after: u64| (after as f64 - before as f64) / f64::from(self.connections);
        let results = BTreeMap::from([
            ("rss_per_connection_kib", each(before.rss_kib, after.rss_kib)),
            ("pss_per_connection_kib", each(before.pss_kib, after.pss_kib)),
            ("rss_before_kib", before.rss_kib as f64),
            ("rss_after_kib", after.rss_kib as f64),
            ("opening_cpu_per_connection_us", opening_cpu.as_secs_f64() * 1e6 / f64::from(self.connections)),
            ("opening_seconds", opening.as_secs_f64()),
        ]);
        ensure!(held.len() == all.len(), "a connection was lost");
        Record::on(broker, pki, "idle", self, results)
    }
}

async fn settled(broker: &Running) -> Result<Memory> {
    tokio::time::sleep(SETTLE).await;
    broker.memory()
}

/// Connects the devices; each subscribes to its commands and publishes a few messages.
async fn open(broker: &Running, devices: &[Device], held: &mut Vec<Client>) -> Result<()> {
    let bar = progress::bar(broker.kind.name(), devices.len());
    let mut opening = JoinSet::new();
    for device in devices.iter().cloned() {
        if opening.len() >= CONCURRENCY
            && let Some(opened) = opening.join_next().await
        {
            held.push(opened??);
            bar.inc(1);
        }
        let address = broker.address;
        opening.spawn(async move {
            let mut client = Client::connect(address, &device, &device.name).await?;
            client.subscribe(&format!("devices/{}/commands/#", device.name), QoS::AtLeastOnce).await?;
            publish_some(&mut client, &device.name).await?;
            anyhow::Ok(client)
        });
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn publish_some(client: &mut Client, name: &str) -> Result<()> {
    let mut out = BytesMut::new();
    for pkid in 1..=PUBLISHES {
        let mut publish = Publish::new(format!("devices/{name}/telemetry/t"), QoS::AtLeastOnce, [0; 64]);
        publish.pkid = pkid;
        out.clear();
        publish.write(&mut out).map_err(codec)?;
        client.write(&out).await?;
        let ack = client.read().await?;
        ensure!(matches!(&ack, Packet::PubAck(ack) if ack.pkid == pkid), "expected a PUBACK: {ack:?}");
    }
    Ok(())
}
