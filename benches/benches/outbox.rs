//! The way of a message through the core, without sockets: from the publisher's bytes into each subscriber's mailbox, and out of it.

#[path = "../src/endpoint.rs"]
mod endpoint;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use endpoint::Endpoint;
use mqttbytes::QoS;

const DEVICE: &str = "bench-00000";

/// A publisher and so many subscribers of its topic.
fn world(subscribers: usize, qos: QoS) -> (Endpoint, Vec<Endpoint>) {
    let hub = endpoint::hub().expect("a hub");
    let publisher = Endpoint::connected(&hub, DEVICE, DEVICE).expect("connected");
    let receivers = (0..subscribers).map(|number| {
        let mut receiver = Endpoint::connected(&hub, "admin", &format!("sub-{number}")).expect("connected");
        receiver.subscribe("devices/+/telemetry/#", qos).expect("subscribed");
        receiver
    });
    (publisher, receivers.collect())
}

fn one_to_many(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox/qos0");
    let packet = endpoint::publish(DEVICE, QoS::AtMostOnce).expect("a packet");
    for subscribers in [1, 10, 500] {
        let (mut publisher, mut receivers) = world(subscribers, QoS::AtMostOnce);
        group.throughput(Throughput::Elements(subscribers as u64));
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| {
            bencher.iter(|| {
                publisher.receive(&packet);
                for receiver in &mut receivers {
                    receiver.drain();
                    assert!(receiver.discard() > 0);
                }
            });
        });
    }
    group.finish();
}

/// Sixteen messages wait in the mailbox before the receiver has its turn.
fn batches(criterion: &mut Criterion) {
    const MESSAGES: usize = 16;
    let mut group = criterion.benchmark_group("outbox/batch-of-16");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    let packet = endpoint::publish(DEVICE, QoS::AtMostOnce).expect("a packet");
    let all = packet.repeat(MESSAGES);
    let (mut publisher, mut receivers) = world(1, QoS::AtMostOnce);
    group.bench_function("qos0", |bencher| {
        bencher.iter(|| {
            publisher.receive(&all);
            receivers[0].drain();
            assert_eq!(receivers[0].discard(), all.len());
        });
    });
    group.finish();
}

/// With the acknowledgements of both sides.
fn acknowledged(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox/qos1");
    group.throughput(Throughput::Elements(1));
    let packet = endpoint::publish(DEVICE, QoS::AtLeastOnce).expect("a packet");
    let (mut publisher, mut receivers) = world(1, QoS::AtLeastOnce);
    let identifier = packet.len() - 66..packet.len() - 64;
    group.bench_function("1", |bencher| {
        bencher.iter(|| {
            publisher.receive(&packet);
            assert_eq!(publisher.discard(), 4);
            receivers[0].drain();
            let delivered = receivers[0].output();
            let id = &delivered[identifier.clone()];
            receivers[0].receive(&[0x40, 2, id[0], id[1]]);
        });
    });
    group.finish();
}

criterion_group!(benches, one_to_many, batches, acknowledged);
criterion_main!(benches);
