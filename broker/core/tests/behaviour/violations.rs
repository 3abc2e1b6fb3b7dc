//! Packets that must not be sent (MQTT5 §4.13), and what the peer is told.

use signet_core::{CloseReason, Input};
use signet_wire::{Ack, Packet, ReasonCode};

use crate::world::{World, id, say, v3, v5};

/// Bytes that no client may send after CONNECT, with the reason that a 5.0 client is told.
const FORBIDDEN: [(&[u8], ReasonCode); 9] = [
    // PINGREQ with a body, and with flags.
    (&[0xC0, 0x01, 0x00], ReasonCode::MalformedPacket),
    (&[0xC1, 0x00], ReasonCode::MalformedPacket),
    // The reserved type.
    (&[0x00, 0x00], ReasonCode::MalformedPacket),
    // QoS 3.
    (&[0x36, 0x07, 0x00, 0x01, b't', 0x00, 0x01, 0x00, b'x'], ReasonCode::MalformedPacket),
    // Packet identifier 0.
    (&[0x32, 0x07, 0x00, 0x01, b't', 0x00, 0x00, 0x00, b'x'], ReasonCode::ProtocolError),
    // SUBSCRIBE without a filter.
    (&[0x82, 0x03, 0x00, 0x01, 0x00], ReasonCode::ProtocolError),
    // A topic with a wildcard.
    (&[0x30, 0x05, 0x00, 0x02, b't', b'#', 0x00], ReasonCode::TopicNameInvalid),
    // PINGRESP, which only a server sends.
    (&[0xD0, 0x00], ReasonCode::ProtocolError),
    // A remaining length of five bytes.
    (&[0xC0, 0x80, 0x80, 0x80, 0x80, 0x01], ReasonCode::MalformedPacket),
];

#[test]
fn a_5_0_client_is_told_and_closed() {
    for (bytes, reason) in FORBIDDEN {
        let mut w = World::new();
        let who = w.connect(v5("dev"));
        w.send_bytes(who, bytes);
        let heard = w.heard(who);
        match heard.as_slice() {
            [Packet::Disconnect(disconnect)] => {
                let reasons = [reason, ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
                assert!(reasons.contains(&disconnect.reason), "{bytes:02x?}: {disconnect:?}");
            }
            other => panic!("{bytes:02x?}: {other:?}"),
        }
        assert!(w.closed(who).is_some());
    }
}

#[test]
fn a_3_1_1_client_is_closed_without_a_word() {
    let forbidden: [&[u8]; 5] =
        [&[0xC0, 0x01, 0x00], &[0xC1, 0x00], &[0x00, 0x00], &[0xD0, 0x00], &[0x40, 0x03, 0x00, 0x01, 0x00]];
    for bytes in forbidden {
        let mut w = World::new();
        let who = w.connect(v3("dev"));
        w.send_bytes(who, bytes);
        assert!(w.closed(who).is_some(), "{bytes:02x?}");
        assert_eq!(w.heard(who), []);
    }
}

#[test]
fn a_violation_harms_nobody_else() {
    let mut w = World::new();
    let good = w.connect(v5("good"));
    w.subscribe(good, "t", 1);
    let bad = w.connect(v5("bad"));
    w.send_bytes(bad, &[0xC0, 0x01, 0x00]);
    w.assert_open(good);
    w.publish(good, say("t", "x").qos(1));
    assert_eq!(w.payloads(good), ["x"]);
}

#[test]
fn a_packet_above_the_limit_closes_with_0x95() {
    let mut w = World::new();
    let max = w.hub.limits().packet_bytes_max.get();
    let who = w.connect(v5("dev"));
    let mut header = vec![0x30];
    let mut remaining = max;
    while remaining > 0 {
        header.push((remaining % 128) as u8 | if remaining >= 128 { 0x80 } else { 0 });
        remaining /= 128;
    }
    w.send_bytes(who, &header);
    w.assert_disconnected(who, ReasonCode::PacketTooLarge);
}

#[test]
fn a_large_connect_is_cut_off_before_it_is_buffered() {
    let mut w = World::new();
    let dial = v5("dev");
    let who = w.open(dial.principal, dial.rules);
    assert_eq!(w.connection(who).packet_bytes_max(), w.hub.limits().connect_packet_bytes_max.get());
    // A CONNECT that announces 256 MiB.
    w.send_bytes(who, &[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert!(matches!(w.closed(who), Some(CloseReason::Unframable(_))));
    assert_eq!(w.heard(who), []);
}

#[test]
fn a_subscription_identifier_from_a_client_is_a_protocol_error() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    // PUBLISH "t" with the property 11 (Subscription Identifier) = 1.
    w.send_bytes(who, &[0x30, 0x06, 0x00, 0x01, b't', 0x02, 0x0B, 0x01]);
    w.assert_disconnected(who, ReasonCode::ProtocolError);
}

#[test]
fn packets_of_the_server_are_refused() {
    let packets = [
        Packet::PingResp,
        Packet::SubAck(Box::new(signet_wire::SubAck {
            packet_id: id(1),
            reasons: vec![ReasonCode::Success],
            properties: None,
        })),
        Packet::ConnAck(Box::new(signet_wire::ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: Box::default(),
        })),
    ];
    for packet in packets {
        let mut w = World::new();
        let who = w.connect(v5("dev"));
        // Past the decoder, which refuses them too.
        w.input(who, Input::Packet(packet));
        w.assert_disconnected(who, ReasonCode::ProtocolError);
    }
}

#[test]
fn qos_2_beyond_the_receive_maximum_closes_with_0x93() {
    let mut w = World::limited(|limits| limits.receive_max = 3.try_into().unwrap());
    let who = w.connect(v5("dev"));
    for n in 1..=3 {
        w.send(who, Packet::Publish(say("t", "x").qos(2).packet(n)));
    }
    w.assert_open(who);
    w.send(who, Packet::Publish(say("t", "x").qos(2).packet(4)));
    w.assert_disconnected(who, ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn a_released_identifier_makes_room_and_a_repeated_one_takes_none() {
    let mut w = World::limited(|limits| limits.receive_max = 2.try_into().unwrap());
    let who = w.connect(v5("dev"));
    for n in 1..50 {
        for _ in 0..3 {
            w.send(who, Packet::Publish(say("t", "x").qos(2).packet(n)));
        }
        w.send(who, Packet::PubRel(Ack::success(id(n))));
    }
    w.assert_open(who);
}

#[test]
fn what_an_earlier_connection_left_unreleased_does_not_count() {
    let mut w = World::limited(|limits| limits.receive_max = 2.try_into().unwrap());
    let who = w.connect(v5("dev").lasting());
    for n in 1..=2 {
        w.send(who, Packet::Publish(say("t", "x").qos(2).packet(n)));
    }
    w.drop_connection(who);
    let who = w.connect(v5("dev").lasting());
    for n in 3..=4 {
        w.send(who, Packet::Publish(say("t", "x").qos(2).packet(n)));
    }
    w.assert_open(who);
    w.send(who, Packet::Publish(say("t", "x").qos(2).packet(5)));
    w.assert_disconnected(who, ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn qos_1_is_acknowledged_at_once_and_never_counts() {
    let mut w = World::limited(|limits| limits.receive_max = 1.try_into().unwrap());
    let who = w.connect(v5("dev"));
    for n in 1..100 {
        w.send(who, Packet::Publish(say("t", "x").qos(1).packet(n)));
    }
    w.assert_open(who);
}

#[test]
fn a_3_1_1_client_has_a_bound_of_unreleased_messages_too() {
    let mut w = World::limited(|limits| limits.unreleased_qos2_max = 150);
    let who = w.connect(v3("dev"));
    for n in 1..=150 {
        w.send(who, Packet::Publish(say("t", "x").qos(2).packet(n)));
    }
    w.assert_open(who);
    w.send(who, Packet::Publish(say("t", "x").qos(2).packet(151)));
    assert!(w.closed(who).is_some());
}

#[test]
fn a_topic_with_too_many_levels_closes_with_0x90() {
    let mut w = World::limited(|limits| limits.topic_levels_max = 4);
    let who = w.connect(v5("dev"));
    w.publish(who, say("a/b/c/d", "x"));
    w.assert_open(who);
    w.send(who, Packet::Publish(say("a/b/c/d/e", "x").packet(1)));
    w.assert_disconnected(who, ReasonCode::TopicNameInvalid);
}
