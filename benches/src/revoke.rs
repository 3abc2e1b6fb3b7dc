//! How long a device that was revoked stays connected, and what the others notice.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::behind::Place;
use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::Client;
use crate::crowd;
use crate::latency::Latencies;
use crate::operator::Operator;
use crate::pki::{Counts, Device, Next, Pki};
use crate::progress;
use crate::report::{Record, Results};
use crate::steady::Steady;

/// How long the steady pairs are watched before anybody is revoked, and after.
const CALM: Duration = Duration::from_secs(3);
/// A revoked device that is connected for longer is an error.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How devices are revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// As `signet device revoke` does it, in the broker's registry.
    Registry,
    /// A new revocation list takes the place of the old one, and a reload is asked for, as `signet reload` does.
    Crl,
    /// A new revocation list takes the place of the old one, which the broker has to notice.
    File,
}

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Connected devices that are revoked at once.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) devices: u32,
    /// How they are revoked.
    #[arg(long, value_enum, default_value_t = By::Registry)]
    pub(crate) by: By,
    /// Devices that are revoked one by one before, each when the one before is gone.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) one_by_one: u32,
    /// Pairs that go on meanwhile.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) pairs: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { devices: 1000, by: By::Registry, one_by_one: 20, pairs: 10 }
    }
}

/// Connections that wait for their end.
struct Watched(JoinSet<(usize, Instant)>);

impl Watched {
    fn new(clients: Vec<Client>) -> Self {
        let mut closes = JoinSet::new();
        for (number, mut client) in clients.into_iter().enumerate() {
            closes.spawn(async move {
                client.until_closed().await;
                (number, Instant::now())
            });
        }
        Self(closes)
    }

    /// Waits for the next one to close: which, and when.
    async fn next(&mut self) -> Result<(usize, Instant)> {
        let closed = timeout(CLOSE_TIMEOUT, self.0.join_next()).await;
        let closed = closed.with_context(|| format!("not closed {CLOSE_TIMEOUT:?} after it was revoked"))?;
        Ok(closed.context("all are closed already")??)
    }
}

/// How a run revokes.
struct Means<'a> {
    by: By,
    operator: Operator,
    broker: &'a Running,
    pki: &'a Pki,
    /// The number of the list in force.
    number: u64,
    /// The devices on it, or on the last one that is ready.
    listed: Vec<usize>,
    /// Lists that are signed and will be put in their place one after the other.
    ready: VecDeque<Next>,
}

impl Means<'_> {
    /// Revokes one device; when it was said, and when that was done.
    async fn one(&mut self, name: &str) -> Result<(Instant, Instant)> {
        if self.by == By::Registry {
            return self.command(json!({ "name": name })).await;
        }
        let next = self.ready.pop_front().context("no list was made ready for this device")?;
        self.put(next).await
    }

    /// Signs the lists for devices that will be revoked one by one, in this order. Whoever signs lists is elsewhere, and is no
    /// part of what is measured.
    fn make_ready(&mut self, devices: impl Iterator<Item = usize>) -> Result<()> {
        for number in devices {
            self.listed.push(number);
            let next = self.sign()?;
            self.ready.push_back(next);
        }
        Ok(())
    }

    /// Revokes the first `count` devices, which are all that are left.
    async fn all(&mut self, count: usize) -> Result<(Instant, Instant)> {
        if self.by == By::Registry {
            let issuer = self.broker.imported.get(1).context("the second authority was not imported")?;
            return self.command(json!({ "issuer": issuer })).await;
        }
        self.listed.extend(0..count);
        let next = self.sign()?;
        self.put(next).await
    }

    async fn command(&mut self, select: Value) -> Result<(Instant, Instant)> {
        let begun = Instant::now();
        self.operator.post("/registry/standing", &json!({ "action": "revoke", "select": select })).await?;
        Ok((begun, Instant::now()))
    }

    fn sign(&mut self) -> Result<Next> {
        let crls = self.broker.crls.as_ref().context("no revocation lists")?;
        self.number += 1;
        self.pki.next_list(crls, self.number, self.listed.iter().copied())
    }

    async fn put(&mut self, next: Next) -> Result<(Instant, Instant)> {
        let begun = Instant::now();
        next.put()?;
        if self.by == By::Crl {
            self.operator.post("/reload", &json!({})).await?;
        }
        Ok((begun, Instant::now()))
    }
}

impl Load {
    fn victims(&self) -> usize {
        (self.devices + self.one_by_one) as usize
    }

    /// Revokes the devices behind the first ones one by one, each when the one before is gone: how long each was connected after
    /// that was begun, and after it was done.
    async fn one_by_one(
        &self,
        means: &mut Means<'_>,
        victims: &[Device],
        watched: &mut Watched,
    ) -> Result<(Latencies, Latencies)> {
        let (mut from_begin, mut from_return) = (Vec::new(), Vec::new());
        for (number, device) in victims.iter().enumerate().skip(self.devices as usize) {
            let (begun, returned) = means.one(&device.name).await?;
            let (closed, at) = watched.next().await?;
            ensure!(closed == number, "another device was closed than was revoked");
            from_begin.push(at.saturating_duration_since(begun));
            from_return.push(at.saturating_duration_since(returned));
        }
        Ok((from_begin.into_iter().collect(), from_return.into_iter().collect()))
    }
}

impl Measure for Load {
    fn need(&self) -> Need {
        let (others, devices) = (self.victims(), self.pairs as usize);
        Need {
            counts: Counts { devices, others, ..Counts::default() },
            setup: Setup {
                connections: others + 2 * devices,
                crl_entries: (self.by != By::Registry).then_some(0),
                issuing_anchors: self.by != By::Registry,
                registry: self.by == By::Registry,
                ..Setup::default()
            },
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let victims = pki.others(self.victims())?;
        let clients = crowd::gather(broker.address, &victims, broker.kind.name()).await?;
        let mut watched = Watched::new(clients);
        let pairs = pki.devices(self.pairs as usize)?;
        let steady = Steady::start(broker.address, pairs, pki.admin()?, 50, Place::Among).await?;
        let operator = Operator::connect(&broker.directory().join("signet.sock")).await?;
        let (listed, ready) = Default::default();
        let mut means = Means { by: self.by, operator, broker, pki, number: 1, listed, ready };
        if self.by != By::Registry {
            means.make_ready(self.devices as usize..self.victims())?;
        }
        let calm = Instant::now();
        tokio::time::sleep(CALM).await;
        let before = (calm, Instant::now());
        let begun_singly = Instant::now();
        let (single_from_begin, single) = self.one_by_one(&mut means, &victims, &mut watched).await?;
        let singly = (begun_singly, Instant::now());

        let cpu = broker.cpu_time()?;
        let closing = async {
            let bar = progress::bar("revoked", self.devices as usize);
            let mut closed = Vec::with_capacity(self.devices as usize);
            while !watched.0.is_empty() {
                closed.push(watched.next().await?.1);
                bar.inc(1);
            }
            bar.finish_and_clear();
            anyhow::Ok(closed)
        };
        let ((begun, returned), closed) = tokio::try_join!(means.all(self.devices as usize), closing)?;
        let cpu = broker.cpu_time()? - cpu;
        let ended = closed.iter().copied().max().context("nobody was closed")?;
        tokio::time::sleep(CALM).await;
        let seen = steady.finish().await?;
        let (before, during) = (seen.between(before.0, before.1), seen.between(begun, ended.max(returned)));
        let singly = seen.between(singly.0, singly.1);
        let since = |moment: Instant| -> Latencies {
            closed.iter().map(|at| at.saturating_duration_since(moment)).collect()
        };
        let (from_return, from_begin) = (since(returned), since(begun));
        let mut results: Results = BTreeMap::from([
            ("command_ms", (returned - begun).as_secs_f64() * 1e3),
            ("from_return_p50_ms", from_return.ms(50.0)),
            ("from_return_p99_ms", from_return.ms(99.0)),
            ("from_return_max_ms", from_return.ms(100.0)),
            ("from_begin_p50_ms", from_begin.ms(50.0)),
            ("from_begin_p99_ms", from_begin.ms(99.0)),
            ("from_begin_max_ms", from_begin.ms(100.0)),
            ("cpu_per_device_us", cpu.as_secs_f64() * 1e6 / f64::from(self.devices)),
            ("steady_before_p50_ms", before.ms(50.0)),
            ("steady_during_p50_ms", during.ms(50.0)),
            ("steady_before_p99_ms", before.ms(99.0)),
            ("steady_during_p99_ms", during.ms(99.0)),
        ]);
        if single.len() > 0 {
            results.insert("single_from_begin_p50_ms", single_from_begin.ms(50.0));
            results.insert("single_from_begin_p99_ms", single_from_begin.ms(99.0));
            results.insert("single_from_begin_max_ms", single_from_begin.ms(100.0));
            results.insert("single_from_return_p50_ms", single.ms(50.0));
            results.insert("single_from_return_p99_ms", single.ms(99.0));
            results.insert("single_from_return_max_ms", single.ms(100.0));
            results.insert("steady_during_single_p50_ms", singly.ms(50.0));
            results.insert("steady_during_single_p99_ms", singly.ms(99.0));
        }
        Ok(Record::on(broker, pki, "revoke", self, results)?.with("from-begin", &from_begin))
    }
}
