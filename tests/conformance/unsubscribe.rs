//! Sections 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK.

use signet_tests::prelude::*;

/// [MQTT3-3.10.3-2] [MQTT5-3.10.3-2]
#[test]
fn unsubscribe_without_a_filter_closes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(unsubscribe(version, 1, &[]));
        client.expect_closed_with_any(&[0x81, 0x82]);
    });
}

/// [MQTT3-3.10.4-2] [MQTT3-3.10.4-4] [MQTT3-2.3.1-7] [MQTT5-3.10.4-2] [MQTT5-3.10.4-4] [MQTT5-2.2.1-6]
#[test]
fn unsubscribed_filter_delivers_no_more() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("c/a", 1);
        client.subscribe("c/b", 1);
        client.send(unsubscribe(version, 0xABCD, &["c/a"]));
        client.expect_unsuback(0xABCD, &[0]);
        let sender = broker.client(version, "sender");
        sender.send(publish(version, "c/a", "x").bytes());
        sender.send(publish(version, "c/b", "x").bytes());
        let _ = client.expect_publish("c/b", "x");
        client.expect_nothing();
    });
}

/// [MQTT3-3.10.4-5] [MQTT5-3.10.4-5] [MQTT5-3.11.3-2]
#[test]
fn unsubscribe_of_an_unknown_filter_is_answered() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(unsubscribe(version, 5, &["c/never"]));
        client.expect_unsuback(5, &[0x11]);
        client.expect_alive();
    });
}

/// [MQTT3-3.10.4-1] [MQTT5-3.10.4-1]
#[test]
fn filters_are_compared_character_by_character() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("c/+", 0);
        for other in ["c/#", "c/a", "c/", "C/+", "c/+/", "+/+", "c/++"] {
            client.send(unsubscribe(version, 1, &[other]));
            assert!(matches!(client.receive(), Received::UnsubAck { packet_id: 1, .. }), "{other}");
        }
        client.send(publish(version, "c/a", "x").bytes());
        let _ = client.expect_publish("c/a", "x");
        client.send(unsubscribe(version, 2, &["c/+"]));
        client.expect_unsuback(2, &[0]);
        client.send(publish(version, "c/a", "x").bytes());
        client.expect_nothing();
    });
}

/// [MQTT3-3.10.4-6] [MQTT5-3.10.4-6] [MQTT5-3.11.3-1] [MQTT5-3.11.3-2]
#[test]
fn several_filters_get_one_unsuback_with_codes_in_their_order() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("c/a", 0);
        client.subscribe("c/b", 0);
        client.send(unsubscribe(version, 3, &["c/x", "c/a", "c/y", "c/b", "c/a"]));
        client.expect_unsuback(3, &[0x11, 0, 0x11, 0, 0x11]);
        client.expect_nothing();
        client.send(publish(version, "c/a", "x").bytes());
        client.send(publish(version, "c/b", "x").bytes());
        client.expect_nothing();
    });
}

/// [MQTT3-3.10.4-3] [MQTT5-3.10.4-3]
#[test]
fn delivery_that_was_begun_is_completed() {
    in_both(|broker, version| {
        let client = broker.persistent(version, "a");
        client.subscribe("c/#", 2);
        let sender = broker.client(version, "sender");
        sender.send(publish(version, "c/a", "1").qos1(1).bytes());
        sender.send(publish(version, "c/a", "2").qos2(2).bytes());
        let first = client.expect_publish("c/a", "1");
        let second = client.expect_publish("c/a", "2");
        client.send(unsubscribe(version, 3, &["c/#"]));
        client.expect_unsuback(3, &[0]);
        client.drop_connection();
        let again = broker.persistent(version, "a");
        assert_eq!(again.expect_publish("c/a", "1").packet_id, first.packet_id);
        assert_eq!(again.expect_publish("c/a", "2").packet_id, second.packet_id);
        again.send(puback(first.packet_id));
        again.send(pubrec(second.packet_id));
        again.expect_pubrel(second.packet_id, 0);
        again.send(pubcomp(second.packet_id));
        again.expect_nothing();
    });
}

/// [MQTT5-3.10.4-1]
#[test]
fn shared_and_plain_subscription_are_unsubscribed_apart() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("c/a", 0);
        client.subscribe("$share/g/c/a", 0);
        client.send(unsubscribe(version, 1, &["$share/other/c/a"]));
        client.expect_unsuback(1, &[0x11]);
        client.send(unsubscribe(version, 1, &["$share/g/c/a"]));
        client.expect_unsuback(1, &[0]);
        client.send(publish(version, "c/a", "x").bytes());
        let _ = client.expect_publish("c/a", "x");
        client.expect_nothing();
    });
}
