//! What one decision of the access policy costs, at 10, 10 000 and 1 000 000 identities.
//!
//! `patterns` is the ordinary policy: a few pattern rules for every device. `sections` is the worst one for the
//! engine: a section of its own for each identity. In `hot` a thousand identities (ten of ten) ask in turn, as on a
//! busy broker; in `cold` all of them do, so that nothing is in the processor's caches and the cost of main memory
//! shows.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use signet_acl::{ParseOptions, Policy, Subject};
use signet_identity::{CertificateId, Principal, ThingName};
use signet_wire::TopicName;

const IDENTITIES: [usize; 3] = [10, 10_000, 1_000_000];
const HOT: usize = 1000;

const PATTERNS: &str = "\
pattern write devices/%u/telemetry/#
pattern write devices/%u/status
pattern read devices/%u/commands/#
user admin
topic read #
topic write devices/+/commands/#
";

fn sections(identities: usize) -> String {
    let mut text = String::new();
    for id in 0..identities {
        let written = write!(
            text,
            "user sensor-{id:07}\n\
             topic write devices/sensor-{id:07}/telemetry/#\n\
             topic write devices/sensor-{id:07}/status\n\
             topic read devices/sensor-{id:07}/commands/#\n"
        );
        written.expect("a String takes everything");
    }
    text
}

fn parse(text: &str) -> Policy {
    match Policy::parse(text, "bench.acl", &ParseOptions::default()) {
        Ok((policy, _)) => policy,
        Err(errors) => panic!("{errors:?}"),
    }
}

/// An identity and the topics that it asks about: allowed, and refused.
struct Asking {
    principal: Principal,
    own: TopicName,
    other: TopicName,
}

/// `count` of `identities`, spread evenly, in an order that the processor cannot foresee.
fn asking(identities: usize, count: usize) -> Vec<Asking> {
    let topic = |text: String| TopicName::try_from(text).expect("a topic");
    (0..count)
        .map(|index| {
            // The multiplier is prime, so every identity of a full set is met once.
            let id = (index * (identities / count)) * 7_368_787 % identities;
            let name = format!("sensor-{id:07}");
            let other = format!("devices/sensor-{:07}/telemetry/temperature", (id + 1) % identities);
            Asking {
                own: topic(format!("devices/{name}/telemetry/temperature")),
                other: topic(other),
                principal: Principal::device(
                    ThingName::try_from(name.as_str()).expect("a name"),
                    CertificateId::of(name.as_bytes()),
                    Vec::new(),
                ),
            }
        })
        .collect()
}

fn decisions(criterion: &mut Criterion) {
    for (policy_name, text_of) in
        [("patterns", (|_| PATTERNS.to_owned()) as fn(usize) -> String), ("sections", sections)]
    {
        let mut group = criterion.benchmark_group(format!("acl/{policy_name}"));
        for identities in IDENTITIES {
            let policy = parse(&text_of(identities));
            for (temperature, count) in [("hot", identities.min(HOT)), ("cold", identities)] {
                let all = asking(identities, count);
                let mut turn = all.iter().cycle();
                let mut ask = |own: bool| {
                    let Some(Asking { principal, own: mine, other }) = turn.next() else { return };
                    let who = Subject { principal, client_id: principal.name() };
                    let answer = policy.may_publish(&who, if own { mine } else { other });
                    assert_eq!(black_box(answer).is_ok(), own);
                };
                group.bench_function(
                    BenchmarkId::new(format!("allowed/{temperature}"), identities),
                    |bencher| {
                        bencher.iter(|| ask(true));
                    },
                );
                group.bench_function(
                    BenchmarkId::new(format!("refused/{temperature}"), identities),
                    |bencher| {
                        bencher.iter(|| ask(false));
                    },
                );
            }
        }
        group.finish();
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
