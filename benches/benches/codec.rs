//! What it costs to read and write the packets of the hot paths, both versions.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use signet_wire::{
    Ack, ClientId, Connect, ConnectProperties, Packet, PacketId, Patch, Publish, PublishTemplate, QosId,
    TopicName, Version, decode_connect, decode_from_client, encode, frame,
};

const TOPIC: &str = "devices/d0000001/telemetry/temperature";
const PACKET_BYTES_MAX: u32 = 1 << 20;
const VERSIONS: [(&str, Version); 2] = [("3.1.1", Version::V311), ("5.0", Version::V5)];

fn encoded(packet: &Packet, version: Version) -> Bytes {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).expect("a packet that can be written");
    out.freeze()
}

fn publish(payload: usize) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        retain: false,
        qos: QosId::AtLeastOnce(PacketId::new(7).expect("not zero")),
        topic: Some(TopicName::try_from(TOPIC).expect("a topic")),
        properties: None,
        payload: Bytes::from(vec![b'x'; payload]),
    })
}

fn connect(version: Version) -> Packet {
    Packet::Connect(Box::new(Connect {
        version,
        clean_start: true,
        keep_alive_secs: 60,
        client_id: Some(ClientId::try_from("d0000001").expect("a client id")),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }))
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/decode");
    for (name, version) in VERSIONS {
        let packets = [
            ("publish-64", publish(64)),
            ("publish-16384", publish(16_384)),
            ("puback", Packet::PubAck(Ack::success(PacketId::new(7).expect("not zero")))),
            ("pingreq", Packet::PingReq),
        ];
        for (what, packet) in packets {
            let bytes = encoded(&packet, version);
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            let mut buffer = BytesMut::with_capacity(1 << 16);
            group.bench_function(format!("{what}/{name}"), |bencher| {
                bencher.iter(|| {
                    buffer.extend_from_slice(&bytes);
                    let frame = frame(&mut buffer, PACKET_BYTES_MAX).expect("a frame").expect("a whole one");
                    black_box(decode_from_client(frame, version).expect("a packet"))
                });
            });
        }
        let bytes = encoded(&connect(version), version);
        let mut buffer = BytesMut::with_capacity(1 << 12);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("connect/{name}"), |bencher| {
            bencher.iter(|| {
                buffer.extend_from_slice(&bytes);
                let frame = frame(&mut buffer, PACKET_BYTES_MAX).expect("a frame").expect("a whole one");
                black_box(decode_connect(frame).expect("a CONNECT"))
            });
        });
    }
    group.finish();
}

/// A message is encoded once for all receivers of a version, and patched for each.
fn deliver(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/deliver");
    for (name, version) in VERSIONS {
        let topic = TopicName::try_from(TOPIC).expect("a topic");
        let payload = Bytes::from(vec![b'x'; 64]);
        group.bench_function(format!("template/{name}"), |bencher| {
            bencher.iter(|| black_box(PublishTemplate::new(version, &topic, None, &payload)));
        });
        let template = PublishTemplate::new(version, &topic, None, &payload);
        let patch = Patch {
            dup: false,
            retain: false,
            qos: QosId::AtLeastOnce(PacketId::new(7).expect("not zero")),
            expiry_secs: None,
            alias: None,
            subscription_ids: &[],
        };
        let mut out = BytesMut::with_capacity(1 << 12);
        group.bench_function(format!("write/{name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                template.write(black_box(&patch), &mut out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, deliver);
criterion_main!(benches);
