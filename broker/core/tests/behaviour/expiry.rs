//! Message expiry (MQTT5 §3.3.2.3.3).

use std::time::Duration;

use signet_wire::{Ack, Packet, Publish};

use crate::world::{World, id, ids, say, texts, v3, v5};

fn expiry(message: &Publish) -> Option<u32> {
    message.properties.as_ref().and_then(|properties| properties.message_expiry_secs)
}

#[test]
fn the_interval_is_counted_down_by_the_time_spent_waiting() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "live").qos(1).expiry(60));
    let [live] = w.messages(reader).try_into().unwrap();
    assert_eq!(expiry(&live), Some(60));
    w.acknowledge(reader, &live);
    w.drop_connection(reader);
    w.publish(writer, say("t", "queued").qos(1).expiry(60));
    w.advance_secs(20);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(expiry(&w.messages(reader)[0]), Some(40));
}

#[test]
fn a_message_that_expired_in_the_queue_is_dropped() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 2);
    w.drop_connection(reader);
    let writer = w.connect(v3("old"));
    w.publish(writer, say("t", "forever").qos(1));
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "10").qos(1).expiry(10));
    w.publish(writer, say("t", "11").qos(2).expiry(11));
    w.advance_secs(10);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(texts(&w.messages(reader)), ["forever", "11"]);
    assert_eq!(w.counts().dropped_expired, 1);
}

#[test]
fn expired_messages_do_not_hold_up_those_behind_them() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").receive_max(1));
    w.subscribe(reader, "t", 1);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "first").qos(1));
    for _ in 0..40 {
        w.publish(writer, say("t", "stale").qos(1).expiry(1));
    }
    w.publish(writer, say("t", "last").qos(1));
    w.advance_secs(5);
    assert_eq!(w.payloads(reader), ["first", "last"]);
}

#[test]
fn a_delivery_that_began_is_finished_after_the_expiry() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "x").qos(2).expiry(10));
    let sent = ids(&w.messages(reader));
    w.drop_connection(reader);
    w.advance_secs(100);
    let reader = w.connect(v5("reader").lasting());
    let [again] = w.messages(reader).try_into().unwrap();
    assert_eq!((ids(std::slice::from_ref(&again)), again.dup), (sent.clone(), true));
    w.send(reader, Packet::PubRec(Ack::success(id(sent[0]))));
    assert_eq!(w.heard(reader), [Packet::PubRel(Ack::success(id(sent[0])))]);
}

#[test]
fn a_retained_message_counts_down_and_expires() {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "x").retain().expiry(60));
    let remaining = |w: &mut World| {
        let reader = w.connect(v5("reader"));
        w.subscribe(reader, "t", 0);
        w.messages(reader).first().map(expiry)
    };
    assert_eq!(remaining(&mut w), Some(Some(60)));
    w.advance(Duration::from_millis(500));
    assert_eq!(remaining(&mut w), Some(Some(60)), "part of a second does not count");
    w.advance(Duration::from_millis(58_600));
    assert_eq!(remaining(&mut w), Some(Some(1)));
    w.advance_secs(1);
    assert_eq!(remaining(&mut w), None);
    w.advance_secs(10);
    assert_eq!(w.hub.retained_fill(), (0, 0), "swept");
}

#[test]
fn an_interval_of_zero_reaches_nobody_who_has_to_wait() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "x").qos(1).expiry(0));
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.messages(reader), []);
}

#[test]
fn a_3_1_1_reader_gets_the_message_without_the_interval_and_not_after_it() {
    let mut w = World::new();
    let reader = w.connect(v3("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "short").qos(1).expiry(5));
    w.publish(writer, say("t", "long").qos(1).expiry(50));
    w.advance_secs(10);
    let reader = w.connect(v3("reader").lasting());
    let messages = w.messages(reader);
    assert_eq!(texts(&messages), ["long"]);
    assert_eq!(messages[0].properties, None);
}
