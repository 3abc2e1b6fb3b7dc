//! What every message costs takes no memory from the allocator: framing and decoding of PUBLISH and its acknowledgements, and
//! writing into a buffer that is large enough.

mod common;

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use common::wire;
use signet_wire::*;

/// Packets as one read brings them.
fn read_buffer(packets: &[&str]) -> BytesMut {
    let mut buf = BytesMut::with_capacity(4096);
    for packet in packets {
        buf.extend_from_slice(&wire(packet));
    }
    // The first split makes a buffer shareable, once in its life.
    drop(buf.split_to(0));
    buf
}

fn allocations_to_decode(packets: &[&str], version: Version) -> u64 {
    let mut buf = read_buffer(packets);
    let mut decoded = 0;
    let count = measure(|| {
        while let Ok(Some(frame)) = frame(&mut buf, PACKET_BYTES_MAX) {
            decoded += usize::from(decode_from_client(frame, version).is_ok());
        }
    });
    assert_eq!(decoded, packets.len());
    count.count_total
}

#[test]
fn decoding_messages_and_acknowledgements_allocates_nothing() {
    let first = "30 | s'devices/sensor-001/telemetry' 'payload'";
    let v311 = [
        "32 | s'a/b' #7 'payload'",
        "3D | s'a/b' #8 'payload'",
        "40 | #7",
        "50 | #7",
        "62 | #7",
        "70 | #7",
        "C0 |",
    ];
    assert_eq!(allocations_to_decode(&[&[first], &v311[..]].concat(), Version::V311), 0);
    let first = "30 | s'devices/sensor-001/telemetry' {} 'payload'";
    let v5 = ["32 | s'a/b' #7 {} 'payload'", "40 | #7", "50 | #7", "62 | #7 92", "70 | #7 00", "C0 |"];
    assert_eq!(allocations_to_decode(&[&[first], &v5[..]].concat(), Version::V5), 0);
}

#[test]
fn properties_cost_one_allocation_and_each_list_another() {
    let publish = "30 | s't' { 01 01 02 0000000A 08 s'reply' 09 s'id' } 'p'";
    assert_eq!(allocations_to_decode(&[publish], Version::V5), 1);
    let publish = "30 | s't' { 01 01 26 s'k' s'v' 26 s'k' s'v' } 'p'";
    assert_eq!(allocations_to_decode(&[publish], Version::V5), 2);
}

#[test]
fn writing_into_a_buffer_with_room_allocates_nothing() {
    let topic = TopicName::try_from("devices/sensor-001/telemetry").unwrap();
    let payload = Bytes::from_static(b"payload");
    let properties =
        PublishProperties { payload_format: Some(PayloadFormat::Utf8), ..PublishProperties::default() };
    let id = PacketId::new(7).unwrap();
    let publish = Packet::Publish(Publish {
        dup: false,
        retain: false,
        qos: QosId::AtLeastOnce(id),
        topic: Some(topic.clone()),
        properties: Some(Box::new(properties.clone())),
        payload: payload.clone(),
    });
    let mut out = BytesMut::with_capacity(4096);
    for version in [Version::V311, Version::V5] {
        let template = PublishTemplate::new(version, &topic, Some(&properties), &payload);
        let patch = Patch {
            dup: false,
            retain: false,
            qos: QosId::ExactlyOnce(id),
            expiry_secs: Some(5),
            alias: None,
            subscription_ids: &[1, 2],
        };
        let before = out.len();
        let count = measure(|| {
            template.write(&patch, &mut out);
            encode(&publish, version, &mut out).unwrap();
            encode(&Packet::PubAck(Ack::success(id)), version, &mut out).unwrap();
        });
        assert!(out.len() > before);
        assert_eq!(count.count_total, 0, "{version}");
    }
}
