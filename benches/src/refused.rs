//! What the broker spends on a peer that it refuses, beside one that it lets in.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::Client;
use crate::handshake::{Manner, connect_all};
use crate::pki::{Counts, Device, Pki};
use crate::report::Record;

/// Who comes again and again, of each kind.
const HAMMERING: usize = 8;
/// Connects of each before the measurement: more than are answered in full before a certificate is barred.
const WARM_UP: usize = 10;
/// For the broker's work behind the last close.
const SETTLE: Duration = Duration::from_millis(200);

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Connects of each kind to measure.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connects: u32,
    /// How many at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) concurrency: u32,
    /// Every refusal is answered in full (`refused-pause-max = 0`), as the first of a certificate are.
    #[arg(long)]
    pub(crate) in_full: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self { connects: 2000, concurrency: 4, in_full: false }
    }
}

impl Load {
    /// CPU time of the broker for one connect of such devices, in microseconds.
    async fn cost(
        &self,
        broker: &Running,
        devices: &[Device],
        trusted: bool,
        what: &'static str,
    ) -> Result<f64> {
        let manner = Manner { bare: false, concurrency: self.concurrency };
        let times =
            |count: usize| devices.iter().cycle().take(count).map(|one| (one.clone(), trusted)).collect();
        connect_all(broker.address, times(devices.len() * WARM_UP), manner, what).await?;
        tokio::time::sleep(SETTLE).await;
        let cpu = broker.cpu_time()?;
        let outcome = connect_all(broker.address, times(self.connects as usize), manner, what).await?;
        tokio::time::sleep(SETTLE).await;
        let cpu = broker.cpu_time()? - cpu;
        let refused = outcome.refused.into_inner();
        ensure!(
            refused == if trusted { 0 } else { self.connects as usize },
            "{what}: {refused} were refused"
        );
        Ok(cpu.as_secs_f64() * 1e6 / f64::from(self.connects))
    }
}

impl Measure for Load {
    fn need(&self) -> Need {
        Need {
            counts: Counts { devices: HAMMERING + 1, others: HAMMERING, strangers: HAMMERING },
            setup: Setup {
                connections: 64,
                registry: true,
                // Barred and not kept waiting: what is measured is what a refusal costs, not how seldom one comes.
                refused_pause: Some(if self.in_full { "0s" } else { "1ms" }),
                ..Setup::default()
            },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let mut good = pki.devices(HAMMERING + 1)?;
        let stays = good.split_off(HAMMERING);
        let revoked = pki.others(HAMMERING)?;
        let manner = Manner { bare: false, concurrency: self.concurrency };
        let known = revoked.iter().map(|device| (device.clone(), true)).collect();
        connect_all(broker.address, known, manner, "who will be revoked").await?;
        for device in &revoked {
            broker.operate(&["device", "revoke", &device.name]).await?;
        }
        // An address at which nobody is good gets fewer connections in, and those would cost next to nothing.
        let mut neighbours = Vec::new();
        for device in &stays {
            neighbours.push(Client::connect(broker.address, device, &device.name).await?);
        }
        let good = self.cost(broker, &good, true, "good").await?;
        let revoked = self.cost(broker, &revoked, false, "revoked").await?;
        let strangers = self.cost(broker, &pki.strangers(HAMMERING)?, false, "strangers").await?;
        for neighbour in neighbours {
            neighbour.disconnect().await?;
        }
        let results = BTreeMap::from([
            ("good_us", good),
            ("revoked_us", revoked),
            ("stranger_us", strangers),
            ("revoked_of_good", revoked / good),
            ("stranger_of_good", strangers / good),
        ]);
        Record::on(broker, pki, "refused", self, results)
    }
}
