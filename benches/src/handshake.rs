//! CPU time per connect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::broker::Running;
use crate::cli::Measure;
use crate::client::Client;
use crate::pki::{Device, Pki};
use crate::progress;
use crate::report::Record;

/// Connects before the measurement, so that start-up costs do not count.
const WARM_UP: usize = 20;
/// For the broker's work behind the last close.
const SETTLE: Duration = Duration::from_millis(200);

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Full connects to measure.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) connects: u32,
    /// How many at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) concurrency: u32,
    /// Every device has connected before: what the broker remembers of its certificate counts.
    #[arg(long)]
    pub(crate) returning: bool,
}

impl Measure for Load {
    fn devices(&self) -> usize {
        self.connects as usize + WARM_UP
    }

    fn connections(&self) -> usize {
        self.concurrency as usize
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let (warm_up, devices) = pki.devices(self.devices()).split_at(WARM_UP);
        connect_all(broker, warm_up, self.concurrency, "warm-up").await?;
        if self.returning {
            connect_all(broker, devices, self.concurrency, "first visits").await?;
        }
        tokio::time::sleep(SETTLE).await;
        let (cpu, start) = (broker.cpu_time()?, Instant::now());
        connect_all(broker, devices, self.concurrency, broker.kind.name()).await?;
        let elapsed = start.elapsed();
        tokio::time::sleep(SETTLE).await;
        let cpu = broker.cpu_time()? - cpu;
        let connects = f64::from(self.connects);
        let results = BTreeMap::from([
            ("cpu_per_connect_us", cpu.as_secs_f64() * 1e6 / connects),
            ("connects_per_second", connects / elapsed.as_secs_f64()),
        ]);
        let scenario = if self.returning { "handshake-returning" } else { "handshake" };
        Record::on(broker, pki, scenario, self, results)
    }
}

/// Connects and disconnects every device once.
async fn connect_all(broker: &Running, devices: &[Device], concurrency: u32, what: &str) -> Result<()> {
    let address = broker.address;
    let devices: Arc<[Device]> = devices.into();
    let next = Arc::new(AtomicUsize::new(0));
    let bar = progress::bar(what, devices.len());
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (devices, next, bar) = (Arc::clone(&devices), Arc::clone(&next), bar.clone());
        workers.spawn(async move {
            while let Some(device) = devices.get(next.fetch_add(1, Ordering::Relaxed)) {
                Client::connect(address, device, &device.name).await?.disconnect().await?;
                bar.inc(1);
            }
            anyhow::Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    bar.finish_and_clear();
    ensure!(next.load(Ordering::Relaxed) >= devices.len(), "not every device has connected");
    Ok(())
}
