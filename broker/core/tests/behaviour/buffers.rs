//! What of a read buffer stays in memory with a message.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use signet_core::Input;
use signet_wire::{Packet, Publish, Version, encode};

use crate::world::{Who, World, say, v5};

const KIB: usize = 1024;

fn large(topic: &str, qos: u8, bytes: usize) -> Publish {
    Publish { payload: Bytes::from(vec![b'x'; bytes]), ..say(topic, "").qos(qos).packet(1) }
}

/// Reads `packets` as they come out of one buffer of `room` bytes, and gives the last one's payload and where the buffer was.
fn read(w: &World, who: Who, room: usize, packets: &[Publish]) -> (Bytes, Range<usize>) {
    let mut inbound = BytesMut::with_capacity(room);
    for packet in packets {
        encode(&Packet::Publish(packet.clone()), Version::V5, &mut inbound).unwrap();
    }
    let begin = inbound.as_ptr().addr();
    let buffer = begin..begin + inbound.capacity();
    let mut last = None;
    while let Some(input) = w.connection(who).next_input(&mut inbound) {
        let Input::Packet(Packet::Publish(publish)) = input else { panic!("{input:?}") };
        last = Some(publish.payload);
    }
    assert!(inbound.is_empty());
    (last.unwrap(), buffer)
}

fn lies_in(payload: &Bytes, buffer: &Range<usize>) -> bool {
    buffer.contains(&payload.as_ptr().addr())
}

#[test]
fn a_packet_that_fills_its_buffer_is_not_copied() {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    let (payload, buffer) = read(&w, writer, 256 * KIB, &[large("t", 0, 200 * KIB)]);
    assert!(lies_in(&payload, &buffer));
}

#[test]
fn a_packet_keeps_no_buffer_that_is_much_larger_than_itself() {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    let (payload, buffer) = read(&w, writer, 512 * KIB, &[large("t", 1, 17 * KIB)]);
    assert!(!lies_in(&payload, &buffer), "most of it is free behind it");
    let packets = [large("nobody", 0, 255 * KIB), large("t", 1, 17 * KIB)];
    let (payload, buffer) = read(&w, writer, 280 * KIB, &packets);
    assert_eq!(payload.len(), 17 * KIB);
    assert!(!lies_in(&payload, &buffer), "most of it was another packet's");
}

/// Whether the broker keeps the payload's own memory when it was published.
fn is_kept(w: &mut World, writer: Who, qos: u8) -> bool {
    let publish = large("t", qos, 17 * KIB);
    let payload = publish.payload.clone();
    w.input(writer, Input::Packet(Packet::Publish(publish)));
    !payload.is_unique()
}

#[test]
fn what_waits_for_somebody_who_is_away_waits_in_memory_of_its_own() {
    let mut w = World::new();
    let (reader, writer) = (w.connect(v5("reader").lasting()), w.connect(v5("writer")));
    w.subscribe(reader, "t", 1);
    w.stall(reader, true);
    assert!(is_kept(&mut w, writer, 1), "who is connected takes it from there");
    w.stall(reader, false);
    w.messages(reader);
    w.disconnect(reader);
    assert!(!is_kept(&mut w, writer, 1));
    assert!(!is_kept(&mut w, writer, 0), "nobody gets it");
    let (reader, _) = w.reconnect(v5("reader").lasting());
    assert!(w.messages(reader).iter().any(|message| message.payload.len() == 17 * KIB));
}

#[test]
fn what_a_group_gets_waits_in_memory_of_its_own() {
    let mut w = World::new();
    let (reader, writer) = (w.connect(v5("reader").lasting()), w.connect(v5("writer")));
    w.subscribe(reader, "$share/g/t", 1);
    w.stall(reader, true);
    assert!(!is_kept(&mut w, writer, 1), "a member that is away may be the one");
    assert!(is_kept(&mut w, writer, 0), "who is away does not get it");
}
