//! CPU time per connect.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::Client;
use crate::pki::{Counts, Device, Pki};
use crate::progress;
use crate::report::Record;

/// Connects before the measurement, so that start-up costs do not count.
const WARM_UP: usize = 20;
/// For the broker's work behind the last close.
const SETTLE: Duration = Duration::from_millis(200);
/// Strangers that take turns.
const STRANGERS: usize = 32;

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Connects to measure.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connects: u32,
    /// How many at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) concurrency: u32,
    /// Every device has connected before: what the broker remembers of its certificate counts.
    #[arg(long)]
    pub(crate) returning: bool,
    /// Every device has connected before and resumes its TLS session.
    #[arg(long, conflicts_with = "returning")]
    pub(crate) resumed: bool,
    /// TCP and TLS alone: the client says nothing of MQTT.
    #[arg(long)]
    pub(crate) bare: bool,
    /// A revocation list with so many entries is in force; 0: none is.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) crl: u32,
    /// The devices' authority is a trust anchor beside the root, as it must be in Signet for its revocation list to be believed.
    #[arg(long)]
    pub(crate) issuing_anchor: bool,
    /// So many percent of further connects come with certificates that nobody trusts, and must be refused.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=500))]
    pub(crate) strangers: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            connects: 1000,
            concurrency: 8,
            returning: false,
            resumed: false,
            bare: false,
            crl: 0,
            issuing_anchor: false,
            strangers: 0,
        }
    }
}

/// How a connect is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) bare: bool,
    pub(crate) concurrency: u32,
}

/// What came of some connects.
#[derive(Default)]
pub(crate) struct Outcome {
    resumed: AtomicUsize,
    pub(crate) refused: AtomicUsize,
}

impl Measure for Load {
    fn need(&self) -> Need {
        Need {
            counts: Counts {
                devices: self.connects as usize + WARM_UP,
                strangers: if self.strangers > 0 { STRANGERS } else { 0 },
                ..Counts::default()
            },
            setup: Setup {
                // Signet remembers as many sessions as it may have connections. Each device has one, and gets another.
                connections: if self.resumed { 2 * self.connects } else { self.concurrency } as usize,
                tickets: u8::from(self.resumed),
                crl_entries: (self.crl > 0).then_some(self.crl),
                issuing_anchors: self.issuing_anchor || self.crl > 0,
                registry: false,
                refused_pause: None,
                ..Setup::default()
            },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let counts = self.need().counts;
        let mut devices = pki.devices(counts.devices)?;
        if self.resumed {
            devices = devices.iter().map(Device::resuming).collect();
        }
        let devices_after = devices.split_off(WARM_UP);
        let greet = Manner { bare: false, concurrency: self.concurrency };
        let address = broker.address;
        connect_all(address, plan(devices, &[], 0), greet, "warm-up").await?;
        if self.returning || self.resumed {
            connect_all(address, plan(devices_after.clone(), &[], 0), greet, "first visits").await?;
        }
        let all = plan(devices_after, &pki.strangers(counts.strangers)?, self.strangers as usize);
        let strangers = all.iter().filter(|(_, trusted)| !trusted).count();
        tokio::time::sleep(SETTLE).await;
        let (cpu, start) = (broker.cpu_time()?, Instant::now());
        let outcome =
            connect_all(address, all, Manner { bare: self.bare, ..greet }, broker.kind.name()).await?;
        let elapsed = start.elapsed();
        tokio::time::sleep(SETTLE).await;
        let cpu = broker.cpu_time()? - cpu;
        let connects = f64::from(self.connects) + strangers as f64;
        let resumed = outcome.resumed.into_inner();
        ensure!(!self.resumed || resumed > 0, "the broker resumed no session");
        let results = BTreeMap::from([
            ("cpu_per_connect_us", cpu.as_secs_f64() * 1e6 / connects),
            ("connects_per_second", connects / elapsed.as_secs_f64()),
            ("resumed_percent", resumed as f64 * 100.0 / connects),
            ("refused_percent", outcome.refused.into_inner() as f64 * 100.0 / connects),
        ]);
        Record::on(broker, pki, "handshake", self, results)
    }
}

/// The devices, with so many percent of strangers among them.
fn plan(devices: Vec<Device>, strangers: &[Device], percent: usize) -> Vec<(Device, bool)> {
    let mut all = Vec::with_capacity(devices.len() * (100 + percent) / 100);
    let mut stranger = strangers.iter().cycle();
    let mut due = 0;
    for device in devices {
        all.push((device, true));
        due += percent;
        while due >= 100 {
            due -= 100;
            all.extend(stranger.next().map(|device| (device.clone(), false)));
        }
    }
    all
}

/// Connects and disconnects every device once. Those that are not trusted must be refused, and only those.
pub(crate) async fn connect_all(
    address: SocketAddr,
    devices: Vec<(Device, bool)>,
    manner: Manner,
    what: &str,
) -> Result<Outcome> {
    let devices: Arc<[(Device, bool)]> = devices.into();
    let (next, outcome) = (Arc::new(AtomicUsize::new(0)), Arc::new(Outcome::default()));
    let bar = progress::bar(what, devices.len());
    let mut workers = JoinSet::new();
    for _ in 0..manner.concurrency {
        let (devices, next, bar) = (Arc::clone(&devices), Arc::clone(&next), bar.clone());
        let outcome = Arc::clone(&outcome);
        workers.spawn(async move {
            while let Some((device, trusted)) = devices.get(next.fetch_add(1, Ordering::Relaxed)) {
                visit(address, device, *trusted, manner.bare, &outcome).await?;
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
    Arc::into_inner(outcome).ok_or_else(|| anyhow::anyhow!("a connect is not finished"))
}

async fn visit(
    address: SocketAddr,
    device: &Device,
    trusted: bool,
    bare: bool,
    outcome: &Outcome,
) -> Result<()> {
    if !trusted {
        // With TLS 1.3 the refusal comes behind the handshake, so only CONNACK would say that somebody was let in.
        ensure!(
            Client::connect(address, device, &device.name).await.is_err(),
            "{} was let in, whom nobody trusts",
            device.name
        );
        outcome.refused.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let client = if bare {
        Client::handshake(address, device).await?
    } else {
        Client::connect(address, device, &device.name).await?
    };
    if client.is_resumed() {
        outcome.resumed.fetch_add(1, Ordering::Relaxed);
    }
    if bare { client.close().await } else { client.disconnect().await }
}
