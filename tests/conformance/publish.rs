//! Section 3.3: PUBLISH.

use signet_tests::prelude::*;

/// [MQTT3-3.3.1-4] [MQTT5-3.3.1-4]
#[test]
fn both_qos_bits_close() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "x").qos(3, 1).bytes());
        client.expect_closed_with(0x81);
    });
}

/// [MQTT3-3.3.1-2] [MQTT5-3.3.1-2]
#[test]
fn dup_in_qos0_from_a_client_closes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "x").dup().bytes());
        client.expect_closed_with_any(&[0x81, 0x82]);
    });
}

/// [MQTT3-3.3.2-2] [MQTT3-4.7.1-1] [MQTT5-3.3.2-2] [MQTT5-4.7.0-1]
#[test]
fn wildcard_in_a_topic_name_closes() {
    for topic in ["#", "+", "c/#", "c/+", "c/+/a", "c/a+", "c/a#b"] {
        in_both(|broker, version| {
            let client = broker.client(version, "a");
            client.send(publish(version, topic, "x").bytes());
            client.expect_closed_with_any(&[0x81, 0x82, 0x90]);
        });
    }
}

/// [MQTT3-4.7.3-1] [MQTT5-4.7.3-1]
#[test]
fn empty_topic_name_closes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(publish(version, "", "x").bytes());
        client.expect_closed_with_any(&[0x81, 0x82, 0x90]);
    });
}

/// [MQTT3-3.3.2-1] [MQTT3-3.3.4-1] [MQTT3-2.3.1-6] [MQTT3-4.3.2-2] [MQTT3-4.3.3-2] [MQTT5-3.3.2-1] [MQTT5-3.3.4-1]
/// [MQTT5-2.2.1-5] [MQTT5-4.3.2-4] [MQTT5-4.3.3-8] [MQTT5-4.3.3-11]
#[test]
fn publish_is_answered_as_its_qos_asks() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "x").bytes());
        client.expect_nothing();
        client.send(publish(version, "c/a", "x").qos1(0x1234).bytes());
        client.expect_puback(0x1234, 0);
        client.send(publish(version, "c/a", "x").qos2(0xFFFF).bytes());
        client.expect_pubrec(0xFFFF, 0);
        client.send(pubrel(0xFFFF));
        client.expect_pubcomp(0xFFFF, 0);
        client.expect_nothing();
    });
}

/// [MQTT3-3.3.1-3] [MQTT3-3.3.1-2] [MQTT3-4.3.1-1] [MQTT5-3.3.1-3] [MQTT5-3.3.1-2] [MQTT5-4.3.1-1]
#[test]
fn dup_of_a_publisher_is_not_passed_on() {
    in_both(|broker, version| {
        let subscriber = broker.client(version, "sub");
        let client = broker.client(version, "a");
        for granted in 0..3 {
            subscriber.subscribe("c/a", granted);
            client.send(publish(version, "c/a", "x").qos1(1).dup().bytes());
            client.expect_puback(1, 0);
            let got = subscriber.expect_publish("c/a", "x");
            assert!(!got.dup);
            assert_eq!(got.qos, granted.min(1));
            if got.qos == 1 {
                subscriber.send(puback(got.packet_id));
            }
        }
    });
}

/// [MQTT3-3.3.5-2] [MQTT5-3.4.2-1] [MQTT5-3.5.2-1]
#[test]
fn publish_without_permission_is_routed_nowhere_and_answered() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("#", 0);
        let client = broker.client(version, "a");
        let refused = if version == V5 { 0x87 } else { 0 };
        client.send(publish(version, "d/a", "x").bytes());
        client.send(publish(version, "d/a", "x").qos1(1).retain().bytes());
        client.expect_puback(1, refused);
        client.send(publish(version, "d/a", "x").qos2(2).bytes());
        client.expect_pubrec(2, refused);
        watcher.expect_nothing();
        // The nearest thing that is allowed.
        client.send(publish(version, "c/a", "y").qos1(3).bytes());
        client.expect_puback(3, 0);
        let _ = watcher.expect_publish("c/a", "y");
    });
}

/// [MQTT5-4.3.3-9]
#[test]
fn identifier_of_a_refused_qos2_publish_is_free_for_a_new_message() {
    let broker = VirtualBroker::new();
    let watcher = broker.client(V5, "watcher");
    watcher.subscribe("#", 0);
    let client = broker.client(V5, "a");
    client.send(publish(V5, "d/a", "x").qos2(2).bytes());
    client.expect_pubrec(2, 0x87);
    client.send(publish(V5, "c/a", "new").qos2(2).bytes());
    client.expect_pubrec(2, 0);
    let _ = watcher.expect_publish("c/a", "new");
}

/// [MQTT5-3.3.4-6]
#[test]
fn subscription_identifier_from_a_client_closes() {
    let client = VirtualBroker::new().client(V5, "a");
    client.send(publish(V5, "c/a", "x").with(|p| p.varint(id::SUBSCRIPTION_ID, 1)).bytes());
    client.expect_closed_with(0x82);
}

/// [MQTT5-3.3.2-14]
#[test]
fn wildcard_in_a_response_topic_closes() {
    for topic in ["c/+", "c/#", "#", "+"] {
        let client = VirtualBroker::new().client(V5, "a");
        client.send(publish(V5, "c/a", "x").with(|p| p.text(id::RESPONSE_TOPIC, topic)).bytes());
        client.expect_closed_with_any(&[0x81, 0x82, 0x90]);
    }
}

/// A PUBLISH with every property that a server passes on.
fn rich(topic: &str) -> Publish {
    publish(V5, topic, "text").with(|p| {
        p.user("b", "1")
            .u8(id::PAYLOAD_FORMAT, 1)
            .text(id::CONTENT_TYPE, "text/plain; \u{e9}")
            .user("a", "2")
            .text(id::RESPONSE_TOPIC, "c/answer/\u{20ac}")
            .text(id::CORRELATION_DATA, [0, 1, 2, 255])
            .user("a", "2")
            .user("", "")
            .user("b", "0")
    })
}

#[track_caller]
fn assert_rich(got: &Published) {
    assert_eq!(got.props.number(id::PAYLOAD_FORMAT), Some(1));
    assert_eq!(got.props.text(id::CONTENT_TYPE), Some("text/plain; \u{e9}"));
    assert_eq!(got.props.text(id::RESPONSE_TOPIC), Some("c/answer/\u{20ac}"));
    assert_eq!(got.props.bytes(id::CORRELATION_DATA), Some(&[0, 1, 2, 255][..]));
    assert_eq!(got.props.user(), [("b", "1"), ("a", "2"), ("a", "2"), ("", ""), ("b", "0")]);
}

/// [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]
#[test]
fn properties_are_passed_on_unaltered_and_in_order() {
    let broker = VirtualBroker::new();
    let subscriber = broker.client(V5, "sub");
    subscriber.subscribe("c/#", 2);
    let client = broker.client(V5, "a");
    client.send(rich("c/a").bytes());
    assert_rich(&subscriber.expect_publish("c/a", "text"));
    client.send(rich("c/b").qos1(1).bytes());
    assert_rich(&subscriber.expect_publish("c/b", "text"));
    client.send(rich("c/c").qos2(2).bytes());
    assert_rich(&subscriber.expect_publish("c/c", "text"));
}

/// [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]
#[test]
fn properties_are_kept_with_retained_and_queued_messages() {
    let broker = VirtualBroker::new();
    let away = broker.persistent(V5, "away");
    away.subscribe("c/#", 1);
    away.disconnect();
    broker.client(V5, "a").send(rich("c/a").qos1(1).retain().bytes());
    let back = broker.persistent(V5, "away");
    assert_rich(&back.expect_publish("c/a", "text"));
    let late = broker.client(V5, "late");
    late.subscribe("c/a", 0);
    assert_rich(&late.expect_publish("c/a", "text"));
}

/// [MQTT5-3.3.2-4]
#[test]
fn absent_properties_stay_absent() {
    let broker = VirtualBroker::new();
    let client = broker.client(V5, "a");
    client.subscribe("c/#", 0);
    client.send(publish(V5, "c/a", "x").bytes());
    assert!(client.expect_publish("c/a", "x").props.is_empty());
}

/// [MQTT3-3.3.2-3] [MQTT5-3.3.2-3]
#[test]
fn message_crosses_versions_with_topic_and_payload_intact() {
    for (from, to) in [(V311, V5), (V5, V311)] {
        let broker = VirtualBroker::new();
        let subscriber = broker.client(to, "sub");
        subscriber.subscribe("c/+/x", 2);
        let client = broker.client(from, "a");
        let bytes = match from {
            V5 => rich("c/a/x").qos2(1).retain().bytes(),
            V311 => publish(V311, "c/a/x", "text").qos2(1).retain().bytes(),
        };
        client.send(&bytes);
        assert_eq!(subscriber.expect_publish("c/a/x", "text").qos, 2);
        let late = broker.client(to, "late");
        late.subscribe("c/a/#", 0);
        assert!(late.expect_publish("c/a/x", "text").retain);
    }
}
