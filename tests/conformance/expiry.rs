//! Section 3.3.2.3.3: message expiry.

use signet_tests::prelude::*;

fn expiring(topic: &str, payload: &str, seconds: u32) -> Publish {
    publish(V5, topic, payload).with(|p| p.u32(id::MESSAGE_EXPIRY, seconds))
}

/// A subscriber to `c/a` that is away.
fn away(broker: &VirtualBroker, qos: u8) {
    let subscriber = broker.persistent(V5, "sub");
    subscriber.subscribe("c/a", qos);
    subscriber.disconnect();
}

/// [MQTT5-3.3.2-5]
#[test]
fn message_that_expired_in_the_queue_is_not_delivered() {
    let broker = VirtualBroker::new();
    away(&broker, 1);
    let client = broker.client(V5, "a");
    client.send(expiring("c/a", "short", 5).qos1(1).bytes());
    client.send(expiring("c/a", "long", 50).qos1(2).bytes());
    client.send(publish(V5, "c/a", "ever").qos1(3).bytes());
    broker.advance_secs(10);
    let back = broker.persistent(V5, "sub");
    let long = back.expect_publish("c/a", "long");
    assert_eq!(long.props.number(id::MESSAGE_EXPIRY), Some(40));
    let _ = back.expect_publish("c/a", "ever");
    back.expect_nothing();
}

/// [MQTT5-3.3.2-6]
#[test]
fn live_message_carries_its_whole_expiry() {
    let broker = VirtualBroker::new();
    let subscriber = broker.client(V5, "sub");
    subscriber.subscribe("c/a", 0);
    broker.client(V5, "a").send(expiring("c/a", "x", 100).bytes());
    assert_eq!(subscriber.expect_publish("c/a", "x").props.number(id::MESSAGE_EXPIRY), Some(100));
}

/// [MQTT5-3.3.2-6]
#[test]
fn waiting_for_a_quota_counts_too() {
    let broker = VirtualBroker::new();
    let (subscriber, _) = broker.connected(&connect(V5, "sub").receive_maximum(1), V5);
    subscriber.subscribe("c/a", 1);
    let client = broker.client(V5, "a");
    client.send(publish(V5, "c/a", "first").qos1(1).bytes());
    client.send(expiring("c/a", "long", 100).qos1(2).bytes());
    client.send(expiring("c/a", "short", 10).qos1(3).bytes());
    let first = subscriber.expect_publish("c/a", "first");
    broker.advance_secs(30);
    subscriber.send(puback(first.packet_id));
    let long = subscriber.expect_publish("c/a", "long");
    assert_eq!(long.props.number(id::MESSAGE_EXPIRY), Some(70));
    subscriber.send(puback(long.packet_id));
    subscriber.expect_nothing();
}

/// [MQTT5-3.3.2-5] [MQTT5-3.3.2-6]
#[test]
fn retained_message_counts_down_and_expires() {
    let broker = VirtualBroker::new();
    broker.client(V5, "a").send(expiring("c/a", "x", 10).retain().bytes());
    broker.advance_secs(4);
    let reader = broker.client(V5, "reader");
    reader.subscribe("c/a", 0);
    assert_eq!(reader.expect_publish("c/a", "x").props.number(id::MESSAGE_EXPIRY), Some(6));
    broker.advance_secs(7);
    let late = broker.client(V5, "late");
    late.subscribe("c/a", 0);
    late.expect_nothing();
    let late = broker.client(V311, "late");
    late.subscribe("c/a", 0);
    late.expect_nothing();
}

/// [MQTT5-3.3.2-5]
#[test]
fn message_for_a_3_1_1_client_expires_too() {
    let broker = VirtualBroker::new();
    let subscriber = broker.persistent(V311, "sub");
    subscriber.subscribe("c/a", 1);
    subscriber.disconnect();
    let client = broker.client(V5, "a");
    client.send(expiring("c/a", "short", 5).qos1(1).bytes());
    client.send(expiring("c/a", "long", 50).qos1(2).bytes());
    broker.advance_secs(10);
    let back = broker.persistent(V311, "sub");
    let _ = back.expect_publish("c/a", "long");
    back.expect_nothing();
}

/// [MQTT5-4.3.3-7] [MQTT5-4.3.3-13]
#[test]
fn qos2_message_that_was_sent_does_not_expire() {
    let broker = VirtualBroker::new();
    let subscriber = broker.persistent(V5, "sub");
    subscriber.subscribe("c/a", 2);
    broker.client(V5, "a").send(expiring("c/a", "x", 5).qos2(1).bytes());
    let first = subscriber.expect_publish("c/a", "x");
    subscriber.drop_connection();
    broker.advance_secs(100);
    let again = broker.persistent(V5, "sub");
    let repeated = again.expect_publish("c/a", "x");
    assert!(repeated.dup);
    assert_eq!(repeated.packet_id, first.packet_id);
    broker.advance_secs(100);
    again.send(pubrec(first.packet_id));
    again.expect_pubrel(first.packet_id, 0);
    again.send(pubcomp(first.packet_id));
    again.expect_nothing();
}

/// [MQTT5-4.3.3-13]
#[test]
fn publisher_completes_qos2_of_a_message_that_expired_meanwhile() {
    let broker = VirtualBroker::new();
    away(&broker, 2);
    let client = broker.client(V5, "a");
    client.send(expiring("c/a", "x", 1).qos2(1).bytes());
    client.expect_pubrec(1, 0);
    broker.advance_secs(100);
    client.send(pubrel(1));
    client.expect_pubcomp(1, 0);
    broker.persistent(V5, "sub").expect_nothing();
}

/// [MQTT5-3.3.2-5]
#[test]
fn expired_messages_do_not_hold_a_place_in_the_queue() {
    let broker = VirtualBroker::with_limits(|limits| limits.queued_messages_max = 2);
    away(&broker, 1);
    let client = broker.client(V5, "a");
    for id in 1..=2 {
        client.send(expiring("c/a", "old", 5).qos1(id).bytes());
    }
    broker.advance_secs(10);
    client.send(publish(V5, "c/a", "new").qos1(3).bytes());
    let back = broker.persistent(V5, "sub");
    let _ = back.expect_publish("c/a", "new");
    back.expect_nothing();
}
