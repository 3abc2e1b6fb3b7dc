//! All devices drop at once and come back, as after a power failure, while a few pairs go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::behind::Place;
use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::Client;
use crate::crowd::{self, enter};
use crate::latency::Latencies;
use crate::pki::{Counts, Device, Pki};
use crate::progress;
use crate::report::Record;
use crate::steady::Steady;

/// How long the steady pairs are watched before the storm.
const CALM: Duration = Duration::from_secs(3);
/// A device that was turned away waits so long before it tries again, twice as long each time ...
const RETRY: Duration = Duration::from_millis(200);
/// ... up to this.
const RETRY_MAX: Duration = Duration::from_secs(3);
/// A device that has not come back after so many attempts is an error.
const ATTEMPTS_MAX: u32 = 40;

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Devices that drop and return.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub(crate) devices: u32,
    /// Pairs that go on meanwhile.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) pairs: u32,
    /// Messages per second of each pair.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) per_second: u32,
    /// The devices' work goes behind that of the broker and the pairs, as if it were done on other machines. Takes root, and a
    /// machine without other work.
    #[arg(long)]
    pub(crate) behind: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self { devices: 2000, pairs: 10, per_second: 50, behind: false }
    }
}

/// How a device came back.
struct Return {
    client: Client,
    at: Instant,
    attempts: u32,
}

impl Measure for Load {
    fn need(&self) -> Need {
        let devices = (self.devices + self.pairs) as usize;
        Need {
            counts: Counts { devices, ..Counts::default() },
            setup: Setup { connections: devices + self.pairs as usize, ..Setup::default() },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let mut storming = pki.devices((self.devices + self.pairs) as usize)?;
        let steady = storming.split_off(self.devices as usize);
        let crowd = crowd::gather(broker.address, &storming, broker.kind.name()).await?;
        let place = if self.behind { Place::Behind } else { Place::Among };
        let steady = Steady::start(broker.address, steady, pki.admin()?, self.per_second, place).await?;
        let calm = Instant::now();
        tokio::time::sleep(CALM).await;

        let (cpu, dropped) = (broker.cpu_time()?, Instant::now());
        drop(crowd);
        let bar = progress::bar("storm", storming.len());
        let mut returning = JoinSet::new();
        for (number, device) in (0..).zip(storming) {
            returning.spawn(come_back(broker.address, device, number));
        }
        let mut returned = Vec::with_capacity(returning.len());
        while let Some(back) = returning.join_next().await {
            returned.push(back??);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let all_back = Instant::now();
        let cpu = broker.cpu_time()? - cpu;
        let seen = steady.finish().await?;
        let (before, during) = (seen.between(calm, dropped), seen.between(dropped, all_back));
        let returns: Latencies = returned.iter().map(|back| back.at - dropped).collect();
        let attempts: u32 = returned.iter().map(|back| back.attempts).sum();
        drop(returned.into_iter().map(|back| back.client).collect::<Vec<_>>());
        let devices = f64::from(self.devices);
        let results = BTreeMap::from([
            ("all_back_seconds", (all_back - dropped).as_secs_f64()),
            ("back_p50_ms", returns.ms(50.0)),
            ("back_p99_ms", returns.ms(99.0)),
            ("attempts_per_device", f64::from(attempts) / devices),
            ("cpu_per_return_us", cpu.as_secs_f64() * 1e6 / devices),
            ("steady_before_p99_ms", before.ms(99.0)),
            ("steady_during_p50_ms", during.ms(50.0)),
            ("steady_during_p99_ms", during.ms(99.0)),
            ("steady_during_max_ms", during.ms(100.0)),
            ("steady_during_messages", during.len() as f64),
        ]);
        Ok(Record::on(broker, pki, "storm", self, results)?
            .with("steady-before", &before)
            .with("steady-during", &during)
            .with("returns", &returns))
    }
}

/// Tries until the device is back.
async fn come_back(address: SocketAddr, device: Device, number: u32) -> Result<Return> {
    let mut pause = RETRY;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match enter(address, device.clone()).await {
            Ok(client) => return Ok(Return { client, at: Instant::now(), attempts }),
            Err(error) if attempts == ATTEMPTS_MAX => {
                return Err(error).with_context(|| format!("{} did not come back", device.name));
            }
            // Spread evenly between half and all of the pause.
            Err(_) => tokio::time::sleep(pause / 2 + pause / 2 * (number % 64) / 64).await,
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}
