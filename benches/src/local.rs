//! What needs no network: decisions of the access policy, and look-ups in the subscription index, in CPU time of the thread.
//!
//! The micro-benches `acl` and `router` of criterion look closer; these give one figure for the report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use signet_acl::{ParseOptions, Policy, Subject};
use signet_core::router::{Index, Matches, SubOptions, Subscriber};
use signet_identity::{CertificateId, Principal, ThingName};
use signet_wire::{QoS, SubscriptionFilter, Text, TopicName};

use crate::process::{memory, own_thread_time};
use crate::report::{Record, median};

/// Relatively prime to every number of devices that ends in zeros: steps of so many visit all of them, each far from the last.
const STRIDE: usize = 104_729;
/// Devices that ask in turn while everything is in a cache.
const WARM: usize = 1000;
/// Devices that ask in turn while little is.
const COLD: usize = 62_500;
const ROUNDS: usize = 7;
/// Look-ups of a round.
const PER_ROUND: usize = 200_000;
/// No session has this id.
const NOBODY: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PolicyKind {
    /// A few pattern rules for all: the ordinary policy.
    Patterns,
    /// A section of its own for each device: the worst one for the engine.
    Sections,
}

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct AclLoad {
    /// Devices.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10..=2_000_000))]
    pub(crate) identities: u32,
    /// The kind of policy.
    #[arg(long, value_enum, default_value_t = PolicyKind::Patterns)]
    pub(crate) policy: PolicyKind,
}

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct MatchLoad {
    /// Devices, each with one subscription.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
    pub(crate) subscriptions: u32,
    /// Subscriptions to `devices/ID/commands/#` instead of `devices/ID/commands`.
    #[arg(long)]
    pub(crate) wildcard: bool,
}

/// The median of some rounds, in nanoseconds per call, of work on one thing after the other.
fn each_ns<T>(things: &[T], mut work: impl FnMut(&T) -> Result<()>) -> Result<f64> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut turn = things.iter().cycle();
    for _ in 0..ROUNDS {
        let before = own_thread_time();
        for thing in turn.by_ref().take(PER_ROUND) {
            work(thing)?;
        }
        rounds.push((own_thread_time() - before).as_secs_f64() * 1e9 / PER_ROUND as f64);
    }
    median(&rounds).context("no rounds")
}

fn policy_text(kind: PolicyKind, identities: u32) -> Result<String> {
    let mut text = "pattern write devices/%u/telemetry/#\npattern write devices/%u/status\n\
                    pattern read devices/%u/commands/#\n"
        .to_owned();
    if kind == PolicyKind::Sections {
        text.clear();
        for id in 0..identities {
            writeln!(
                text,
                "user d{id:07}\ntopic write devices/d{id:07}/telemetry/#\n\
                 topic write devices/d{id:07}/status\ntopic read devices/d{id:07}/commands/#"
            )?;
        }
    }
    text.push_str("user admin\ntopic read #\ntopic write devices/+/commands/#\n");
    Ok(text)
}

fn topic(text: String) -> Result<TopicName> {
    TopicName::try_from(text).map_err(|error| anyhow::anyhow!("{error}"))
}

/// One decision for a device's own topic and one for somebody else's, with all that is needed in a cache and with little of it.
pub(crate) fn acl(load: &AclLoad) -> Result<Record> {
    let policy = match Policy::parse(
        &policy_text(load.policy, load.identities)?,
        "bench.acl",
        &ParseOptions::default(),
    ) {
        Ok((policy, _)) => policy,
        Err(errors) => bail!("{errors:?}"),
    };
    let all = load.identities as usize;
    let mut results = BTreeMap::new();
    for (count, allowed, refused) in
        [(WARM, "allowed_warm_ns", "refused_warm_ns"), (COLD, "allowed_cold_ns", "refused_cold_ns")]
    {
        let mut asking = Vec::new();
        for number in 0..count.min(all) {
            let id = number * STRIDE % all;
            let name = format!("d{id:07}");
            let own = topic(format!("devices/{name}/telemetry/temperature"))?;
            let other = topic(format!("devices/d{:07}/telemetry/temperature", (id + 1) % all))?;
            let name = ThingName::try_from(name.as_str()).map_err(|error| anyhow::anyhow!("{error}"))?;
            let certificate = CertificateId::of(name.as_bytes());
            asking.push((Principal::device(name, certificate, Vec::new()), own, other));
        }
        let own = each_ns(&asking, |(principal, own, _)| {
            let who = Subject { principal, client_id: principal.name() };
            ensure!(black_box(policy.may_publish(&who, own)).is_ok(), "refused its own topic");
            Ok(())
        })?;
        let other = each_ns(&asking, |(principal, _, other)| {
            let who = Subject { principal, client_id: principal.name() };
            ensure!(black_box(policy.may_publish(&who, other)).is_err(), "allowed another's topic");
            Ok(())
        })?;
        results.extend([(allowed, own), (refused, other)]);
    }
    Record::alone("acl", load, results)
}

#[derive(Clone)]
struct Session(Arc<u64>);

impl Subscriber for Session {
    fn id(&self) -> u64 {
        *self.0
    }
}

fn filter(text: String) -> Result<SubscriptionFilter> {
    let text = Text::try_from(text).map_err(|error| anyhow::anyhow!("{error}"))?;
    SubscriptionFilter::parse(text).map_err(|error| anyhow::anyhow!("{error}"))
}

/// Look-ups in an index with one subscription per device and a few of a back end.
pub(crate) fn matching(load: &MatchLoad) -> Result<Record> {
    const OPTIONS: SubOptions = SubOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        subscription_id: None,
    };
    let all = load.subscriptions as usize;
    let own = if load.wildcard { "/#" } else { "" };
    let hit = if load.wildcard { "/set" } else { "" };
    let index = Index::new();
    let sessions: Vec<Session> = (0..all).map(|id| Session(Arc::new(id as u64))).collect();
    let before = memory(std::process::id())?.rss_kib;
    for (number, session) in sessions.iter().enumerate() {
        index.subscribe(session.clone(), &filter(format!("devices/d{number:07}/commands{own}"))?, OPTIONS);
    }
    let bytes = (memory(std::process::id())?.rss_kib - before) as f64 * 1024.0 / all as f64;
    for text in ["devices/+/telemetry/#", "devices/+/status", "$SYS/#", "alerts/#"] {
        index.subscribe(Session(Arc::new(all as u64)), &filter(text.to_owned())?, OPTIONS);
    }
    let mut results = BTreeMap::from([("bytes_per_subscription", bytes)]);
    let look_ups = [
        ("device_warm_ns", WARM, format!("commands{hit}"), 1),
        ("device_cold_ns", COLD, format!("commands{hit}"), 1),
        ("telemetry_warm_ns", WARM, "telemetry/temperature".to_owned(), 1),
        ("nobody_cold_ns", COLD, "other".to_owned(), 0),
    ];
    let mut out = Matches::new();
    for (name, count, tail, hits) in look_ups {
        let topics = (0..count.min(all))
            .map(|number| topic(format!("devices/d{:07}/{tail}", number * STRIDE % all)))
            .collect::<Result<Vec<_>>>()?;
        let ns = each_ns(&topics, |topic| {
            index.matches(black_box(topic), NOBODY, &mut out);
            ensure!(out.plain().len() == hits, "{} subscriptions match {}", out.plain().len(), &**topic);
            Ok(())
        })?;
        results.insert(name, ns);
    }
    Record::alone("match", load, results)
}
