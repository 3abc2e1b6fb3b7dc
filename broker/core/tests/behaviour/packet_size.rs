//! The client's Maximum Packet Size (MQTT5 §3.1.2.11.4).

use signet_core::CloseReason;
use signet_wire::{ReasonCode, Requested};

use crate::world::{World, filter, reason_string, say, texts, v5};

/// PUBLISH "t" with a QoS 1 payload of `n` bytes: 2 + 3 + 2 + 1 + n.
fn payload(packet_bytes: usize) -> String {
    "x".repeat(packet_bytes - 8)
}

#[test]
fn a_message_of_exactly_the_maximum_arrives_and_one_byte_more_does_not() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").packet_max(100));
    w.subscribe(reader, "t", 1);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", &payload(101)).qos(1));
    w.publish(writer, say("t", &payload(100)).qos(1));
    assert_eq!(w.payloads(reader), [payload(100)]);
    w.assert_open(reader);
    assert_eq!(w.counts().dropped_too_large, 1);
}

#[test]
fn a_dropped_message_takes_no_slot() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").packet_max(100).receive_max(1));
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer"));
    for _ in 0..40 {
        w.publish(writer, say("t", &payload(200)).qos(2));
    }
    w.publish(writer, say("t", "small").qos(2));
    assert_eq!(w.payloads(reader), ["small"]);
}

#[test]
fn the_queued_path_drops_too() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", &payload(101)).qos(1));
    w.publish(writer, say("t", "small").qos(1));
    let reader = w.connect(v5("reader").lasting().packet_max(100));
    assert_eq!(w.payloads(reader), ["small"]);
}

#[test]
fn the_retained_path_drops_too() {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t/1", &payload(200)).retain());
    w.publish(writer, say("t/2", "small").retain());
    let reader = w.connect(v5("reader").packet_max(100));
    w.subscribe(reader, "t/#", 0);
    assert_eq!(texts(&w.messages(reader)), ["small"]);
}

#[test]
fn a_message_in_flight_that_no_longer_fits_is_completed() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", &payload(200)).qos(2));
    w.publish(writer, say("t", "small").qos(2));
    assert_eq!(w.messages(reader).len(), 2);
    w.drop_connection(reader);
    let reader = w.connect(v5("reader").lasting().packet_max(100).receive_max(1));
    assert_eq!(w.payloads(reader), ["small"]);
    assert!(w.hub.sessions().iter().all(|session| session.inflight == 0));
}

#[test]
fn an_alias_is_not_introduced_where_it_would_not_fit() {
    let mut w = World::new();
    // PUBLISH "topic": 2 + 7 + 1 + n; three bytes more with an alias.
    let reader = w.connect(v5("reader").packet_max(100).alias_max(5));
    w.subscribe(reader, "topic", 0);
    let writer = w.connect(v5("writer"));
    let full = "x".repeat(90);
    for _ in 0..2 {
        w.publish(writer, say("topic", &full));
    }
    w.publish(writer, say("topic", "small"));
    let aliases: Vec<bool> = w
        .messages(reader)
        .iter()
        .map(|message| message.properties.as_ref().is_some_and(|properties| properties.topic_alias.is_some()))
        .collect();
    assert_eq!(aliases, [false, false, true]);
}

#[test]
fn explanations_are_left_out_when_they_do_not_fit() {
    let policy = "user dev\ntopic read mine\n";
    let mut w = World::under(policy);
    let roomy = w.connect(v5("dev").client_id("roomy"));
    let ack = w.publish_ack(roomy, say("t", "x").qos(1)).unwrap();
    assert!(reason_string(ack.properties.as_deref()).is_some());
    // The CONNACK of a success takes 3 + 1 + 3 (receive maximum) + 5 (packet size) + 3 (alias maximum) bytes and its
    // header.
    let tight = w.connect(v5("dev").client_id("tight").packet_max(20));
    let ack = w.publish_ack(tight, say("t", "x").qos(1)).unwrap();
    assert_eq!((ack.reason, ack.properties), (ReasonCode::NotAuthorized, None));
}

#[test]
fn an_answer_that_cannot_be_sent_ends_the_connection() {
    let mut w = World::new();
    let who = w.connect(v5("dev").packet_max(20));
    let filters: Vec<Requested> = (0..50).map(|n| filter(&format!("t/{n}"), 0)).collect();
    let subscribe = signet_wire::Subscribe {
        packet_id: crate::world::id(1),
        subscription_id: None,
        user_properties: Vec::new(),
        filters,
    };
    w.send(who, signet_wire::Packet::Subscribe(Box::new(subscribe)));
    assert_eq!(w.closed(who), Some(CloseReason::PeerPacketLimit));
    assert_eq!(w.heard(who), []);
}
