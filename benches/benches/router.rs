//! The subscription index with a million subscriptions: what a look-up, a SUBSCRIBE and an UNSUBSCRIBE cost, in CPU time of the thread
//! that does it, and the memory of a subscription (on standard error, before the first figure).
//!
//! Each look-up is for another device, in an order without locality, so the index is met as cold as a large fleet meets it: most of the time
//! is spent waiting for memory. `device-warm` is the same for a thousand devices that come again and again.

#![expect(clippy::print_stderr, reason = "criterion has no place for a figure of memory")]

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};
use signet_core::router::{Index, Matches, SubOptions, Subscriber};
use signet_wire::{QoS, SubscriptionFilter, Text, TopicName};

const DEVICES: usize = 1_000_000;
/// Relatively prime to `DEVICES`: steps of so many devices visit all of them, each far from the last.
const STRIDE: usize = 104_729;
/// Devices that are looked up in turn: more than a cache holds ...
const COLD: usize = DEVICES / 16;
/// ... and few enough that what a look-up needs is still in one.
const WARM: usize = 1000;
/// No session has this id.
const NOBODY: u64 = u64::MAX;
const OPTIONS: SubOptions =
    SubOptions { qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false, subscription_id: None };

/// CPU time of the thread, so that a busy machine does not count.
struct ThreadTime;

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

#[derive(Clone)]
struct Session(Arc<u64>);

impl Subscriber for Session {
    fn id(&self) -> u64 {
        *self.0
    }
}

fn session(id: usize) -> Session {
    Session(Arc::new(id as u64))
}

fn filter(text: String) -> SubscriptionFilter {
    Text::try_from(text).ok().and_then(|text| SubscriptionFilter::parse(text).ok()).expect("a filter")
}

fn topic(text: String) -> TopicName {
    TopicName::try_from(text).expect("a topic")
}

fn resident_kib() -> f64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let rss = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or_default();
    rss.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or_default()
}

/// One subscription per device, and what a back end subscribes to.
struct Fleet {
    name: &'static str,
    index: Index<Session>,
    /// The device's own subscription.
    own: fn(usize) -> String,
    /// A topic that it matches.
    hit: fn(usize) -> String,
}

impl Fleet {
    fn new(name: &'static str, own: fn(usize) -> String, hit: fn(usize) -> String) -> Self {
        let index = Index::new();
        let sessions: Vec<Session> = (0..DEVICES).map(session).collect();
        let before = resident_kib();
        for device in (0..DEVICES).map(|n| n * STRIDE % DEVICES) {
            index.subscribe(sessions[device].clone(), &filter(own(device)), OPTIONS);
        }
        let bytes = (resident_kib() - before) * 1024.0 / DEVICES as f64;
        eprintln!("{name}: {bytes:.0} bytes per subscription");
        for text in ["devices/+/telemetry/#", "devices/+/status", "$SYS/#", "alerts/#"] {
            index.subscribe(session(DEVICES), &filter(text.to_owned()), OPTIONS);
        }
        Self { name, index, own, hit }
    }
}

/// Topics of so many devices, all over the fleet.
fn topics(devices: usize, of: impl Fn(usize) -> String) -> Vec<TopicName> {
    (0..devices).map(|n| topic(of(n * STRIDE % DEVICES))).collect()
}

fn look_ups(criterion: &mut Criterion<ThreadTime>) {
    let fleets: [fn() -> Fleet; 2] = [
        || {
            Fleet::new(
                "exact",
                |n| format!("devices/d{n:07}/commands"),
                |n| format!("devices/d{n:07}/commands"),
            )
        },
        || {
            Fleet::new(
                "wildcard",
                |n| format!("devices/d{n:07}/commands/#"),
                |n| format!("devices/d{n:07}/commands/set"),
            )
        },
    ];
    for fleet in fleets {
        let fleet = fleet();
        let mut group = criterion.benchmark_group(format!("match/1M-{}", fleet.name));
        group.throughput(Throughput::Elements(1));
        let mut look_up = |name: &str, topics: &[TopicName], hits: usize| {
            let mut out = Matches::new();
            let mut next = topics.iter().cycle();
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    if let Some(topic) = next.next() {
                        fleet.index.matches(black_box(topic), NOBODY, &mut out);
                    }
                    assert_eq!(out.plain().len(), hits);
                });
            });
        };
        look_up("device", &topics(COLD, fleet.hit), 1);
        look_up("device-warm", &topics(WARM, fleet.hit), 1);
        look_up("telemetry", &topics(COLD, |n| format!("devices/d{n:07}/telemetry/temperature")), 1);
        look_up("nobody", &topics(COLD, |n| format!("devices/d{n:07}/other")), 0);
        look_up("elsewhere", &topics(COLD, |n| format!("plant/p{n:07}/line/4")), 0);
        group.bench_function("subscribe-and-unsubscribe", |bencher| {
            let mut next = (0..DEVICES).cycle();
            let someone = session(DEVICES + 1);
            bencher.iter(|| {
                let device = next.next().unwrap_or_default() * STRIDE % DEVICES;
                let filter = filter((fleet.own)(device));
                fleet.index.subscribe(someone.clone(), &filter, OPTIONS);
                assert!(fleet.index.unsubscribe(DEVICES as u64 + 1, &filter));
            });
        });
        group.finish();
    }
}

fn fan_out(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("match/fan-out");
    for subscribers in [10_usize, 500, 10_000] {
        let index = Index::new();
        for id in 0..subscribers {
            index.subscribe(session(id), &filter("news/+".to_owned()), OPTIONS);
        }
        let topic = topic("news/world".to_owned());
        let mut out = Matches::new();
        group.throughput(Throughput::Elements(subscribers as u64));
        group.bench_function(subscribers.to_string(), |bencher| {
            bencher.iter(|| {
                index.matches(black_box(&topic), NOBODY, &mut out);
                assert_eq!(out.plain().len(), subscribers);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime).sample_size(20);
    targets = look_ups, fan_out
}
criterion_main!(benches);
