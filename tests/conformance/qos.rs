//! Section 4.3: the delivery protocols of QoS 1 and 2, with the broker as receiver and as sender.

use signet_tests::prelude::*;

/// [MQTT3-4.3.2-2] [MQTT5-4.3.2-5]
#[test]
fn qos1_identifier_again_after_puback_is_a_new_message_whatever_dup_says() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/a", 0);
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "1").qos1(5).bytes());
        client.send(publish(version, "c/a", "2").qos1(5).dup().bytes());
        client.expect_puback(5, 0);
        client.expect_puback(5, 0);
        let _ = watcher.expect_publish("c/a", "1");
        let _ = watcher.expect_publish("c/a", "2");
    });
}

/// [MQTT3-4.3.3-2] [MQTT5-4.3.3-8] [MQTT5-4.3.3-10] [MQTT5-4.3.3-11] [MQTT5-4.3.3-12]
#[test]
fn qos2_duplicate_before_pubrel_is_acknowledged_and_not_routed_twice() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/a", 0);
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "1").qos2(5).bytes());
        client.expect_pubrec(5, 0);
        client.send(publish(version, "c/a", "1").qos2(5).dup().bytes());
        client.expect_pubrec(5, 0);
        client.send(publish(version, "c/a", "1").qos2(5).bytes());
        client.expect_pubrec(5, 0);
        client.send(pubrel(5));
        client.expect_pubcomp(5, 0);
        let _ = watcher.expect_publish("c/a", "1");
        watcher.expect_nothing();
        client.send(publish(version, "c/a", "2").qos2(5).bytes());
        client.expect_pubrec(5, 0);
        client.send(pubrel(5));
        client.expect_pubcomp(5, 0);
        let _ = watcher.expect_publish("c/a", "2");
        watcher.expect_nothing();
    });
}

/// [MQTT3-4.3.3-2] [MQTT5-4.3.3-11] [MQTT5-3.7.2-1]
#[test]
fn pubrel_for_an_unknown_identifier_is_answered_with_pubcomp() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(pubrel(77));
        client.expect_pubcomp(77, if version == V5 { 0x92 } else { 0 });
        client.expect_alive();
    });
}

/// [MQTT3-4.3.3-2] [MQTT5-4.3.3-10]
#[test]
fn repeated_pubrel_is_answered_each_time() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "1").qos2(5).bytes());
        client.expect_pubrec(5, 0);
        client.send(pubrel(5));
        client.expect_pubcomp(5, 0);
        client.send(pubrel(5));
        client.expect_pubcomp(5, if version == V5 { 0x92 } else { 0 });
    });
}

/// [MQTT3-4.3.2-1] [MQTT3-2.3.1-4] [MQTT5-4.3.2-1] [MQTT5-4.3.2-2] [MQTT5-2.2.1-4]
#[test]
fn qos1_is_first_sent_with_dup_0_and_an_unused_identifier() {
    in_both(|broker, version| {
        let subscriber = broker.client(version, "sub");
        subscriber.subscribe("c/a", 1);
        let client = broker.client(version, "a");
        let mut unacknowledged = std::collections::HashSet::new();
        for id in 1..=50 {
            client.send(publish(version, "c/a", [id as u8]).qos1(id).bytes());
            let got = subscriber.expect_publish("c/a", [id as u8]);
            assert!(!got.dup && got.qos == 1);
            assert!(unacknowledged.insert(got.packet_id), "identifier {} is in use", got.packet_id);
        }
    });
}

/// [MQTT3-4.3.3-1] [MQTT3-2.3.1-4] [MQTT5-4.3.3-1] [MQTT5-4.3.3-2] [MQTT5-4.3.3-4] [MQTT5-2.2.1-4] [MQTT5-2.2.1-5]
#[test]
fn qos2_goes_through_its_four_packets_under_one_unused_identifier() {
    in_both(|broker, version| {
        let subscriber = broker.client(version, "sub");
        subscriber.subscribe("c/a", 2);
        let client = broker.client(version, "a");
        let mut unacknowledged = std::collections::HashSet::new();
        for id in 1..=50 {
            client.send(publish(version, "c/a", [id as u8]).qos2(id).bytes());
            let got = subscriber.expect_publish("c/a", [id as u8]);
            assert!(!got.dup && got.qos == 2);
            assert!(unacknowledged.insert(got.packet_id), "identifier {} is in use", got.packet_id);
            subscriber.send(pubrec(got.packet_id));
            subscriber.expect_pubrel(got.packet_id, 0);
            if id % 2 == 0 {
                subscriber.send(pubcomp(got.packet_id));
                subscriber.expect_nothing();
                unacknowledged.remove(&got.packet_id);
            }
        }
    });
}

/// [MQTT3-4.3.2-1] [MQTT3-4.3.3-1] [MQTT5-4.4.0-1]
#[test]
fn nothing_is_sent_again_while_the_connection_lives() {
    in_both(|broker, version| {
        let subscriber = broker.client(version, "sub");
        subscriber.subscribe("c/#", 2);
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "1").qos1(1).bytes());
        client.send(publish(version, "c/a", "2").qos2(2).bytes());
        let _ = subscriber.expect_publish("c/a", "1");
        let second = subscriber.expect_publish("c/a", "2");
        broker.advance_secs(100_000);
        subscriber.expect_nothing();
        subscriber.send(pubrec(second.packet_id));
        subscriber.expect_pubrel(second.packet_id, 0);
        broker.advance_secs(100_000);
        subscriber.expect_alive();
    });
}

/// [MQTT3-4.3.2-1] [MQTT5-4.3.2-3]
#[test]
fn qos1_stays_unacknowledged_until_its_own_puback() {
    in_both(|broker, version| {
        let subscriber = broker.persistent(version, "sub");
        subscriber.subscribe("c/a", 1);
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "1").qos1(1).bytes());
        client.send(publish(version, "c/a", "2").qos1(2).bytes());
        let first = subscriber.expect_publish("c/a", "1");
        let second = subscriber.expect_publish("c/a", "2");
        subscriber.send(puback(first.packet_id));
        subscriber.drop_connection();
        let again = broker.persistent(version, "sub");
        let repeated = again.expect_publish("c/a", "2");
        assert!(repeated.dup);
        assert_eq!(repeated.packet_id, second.packet_id);
        again.expect_nothing();
        again.send(puback(repeated.packet_id));
        again.drop_connection();
        broker.persistent(version, "sub").expect_nothing();
    });
}

/// [MQTT3-4.3.3-1] [MQTT3-4.4.0-1] [MQTT3-3.3.1-1] [MQTT5-4.3.3-3] [MQTT5-4.4.0-1] [MQTT5-3.3.1-1]
#[test]
fn qos2_publish_without_pubrec_is_sent_again_on_resume() {
    in_both(|broker, version| {
        let subscriber = broker.persistent(version, "sub");
        subscriber.subscribe("c/a", 2);
        broker.client(version, "a").send(publish(version, "c/a", "1").qos2(1).bytes());
        let first = subscriber.expect_publish("c/a", "1");
        assert!(!first.dup);
        subscriber.drop_connection();
        let again = broker.persistent(version, "sub");
        let repeated = again.expect_publish("c/a", "1");
        assert!(repeated.dup);
        assert_eq!((repeated.packet_id, repeated.qos), (first.packet_id, 2));
        again.expect_nothing();
    });
}

/// [MQTT3-4.3.3-1] [MQTT3-4.4.0-1] [MQTT5-4.3.3-5] [MQTT5-4.3.3-6] [MQTT5-4.4.0-1]
#[test]
fn after_pubrec_only_pubrel_is_sent_again_on_resume() {
    in_both(|broker, version| {
        let subscriber = broker.persistent(version, "sub");
        subscriber.subscribe("c/a", 2);
        broker.client(version, "a").send(publish(version, "c/a", "1").qos2(1).bytes());
        let first = subscriber.expect_publish("c/a", "1");
        subscriber.send(pubrec(first.packet_id));
        subscriber.expect_pubrel(first.packet_id, 0);
        subscriber.drop_connection();
        for _ in 0..2 {
            let again = broker.persistent(version, "sub");
            again.expect_pubrel(first.packet_id, 0);
            again.expect_nothing();
            again.drop_connection();
        }
        let last = broker.persistent(version, "sub");
        last.expect_pubrel(first.packet_id, 0);
        last.send(pubcomp(first.packet_id));
        last.drop_connection();
        broker.persistent(version, "sub").expect_nothing();
    });
}

/// [MQTT3-4.3.3-2] [MQTT5-4.3.3-10]
#[test]
fn qos2_identifier_is_remembered_over_a_reconnect() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/a", 0);
        let client = broker.persistent(version, "a");
        client.send(publish(version, "c/a", "1").qos2(5).bytes());
        client.expect_pubrec(5, 0);
        client.drop_connection();
        let again = broker.persistent(version, "a");
        again.send(publish(version, "c/a", "1").qos2(5).dup().bytes());
        again.expect_pubrec(5, 0);
        again.send(pubrel(5));
        again.expect_pubcomp(5, 0);
        let _ = watcher.expect_publish("c/a", "1");
        watcher.expect_nothing();
    });
}

/// [MQTT3-3.1.2-6] [MQTT5-3.1.2-4]
#[test]
fn clean_start_forgets_the_qos2_identifiers_of_the_client() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/a", 0);
        let client = broker.persistent(version, "a");
        client.send(publish(version, "c/a", "1").qos2(5).bytes());
        client.expect_pubrec(5, 0);
        client.drop_connection();
        let again = broker.client(version, "a");
        again.send(publish(version, "c/a", "2").qos2(5).dup().bytes());
        again.expect_pubrec(5, 0);
        let _ = watcher.expect_publish("c/a", "1");
        let _ = watcher.expect_publish("c/a", "2");
    });
}

/// [MQTT3-4.5.0-1] [MQTT5-4.5.0-1]
#[test]
fn onward_delivery_does_not_wait_for_pubrel() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/a", 2);
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "1").qos2(5).bytes());
        client.expect_pubrec(5, 0);
        let _ = watcher.expect_publish("c/a", "1");
    });
}

/// [MQTT5-4.4.0-2]
#[test]
fn negative_puback_ends_the_delivery() {
    let broker = VirtualBroker::new();
    let subscriber = broker.persistent(V5, "sub");
    subscriber.subscribe("c/a", 1);
    broker.client(V5, "a").send(publish(V5, "c/a", "1").qos1(1).bytes());
    let got = subscriber.expect_publish("c/a", "1");
    subscriber.send(ack_with_code(0x40, got.packet_id, 0x80));
    subscriber.drop_connection();
    broker.persistent(V5, "sub").expect_nothing();
}

/// [MQTT5-4.4.0-2] [MQTT5-4.3.3-4]
#[test]
fn negative_pubrec_ends_the_delivery_without_pubrel() {
    for code in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        let broker = VirtualBroker::new();
        let subscriber = broker.persistent(V5, "sub");
        subscriber.subscribe("c/a", 2);
        broker.client(V5, "a").send(publish(V5, "c/a", "1").qos2(1).bytes());
        let got = subscriber.expect_publish("c/a", "1");
        subscriber.send(ack_with_code(0x50, got.packet_id, code));
        subscriber.expect_nothing();
        subscriber.drop_connection();
        broker.persistent(V5, "sub").expect_nothing();
    }
}

/// [MQTT5-3.6.2-1]
#[test]
fn pubrec_for_an_unknown_identifier_is_answered_with_pubrel_not_found() {
    let client = VirtualBroker::new().client(V5, "a");
    client.send(pubrec(123));
    client.expect_pubrel(123, 0x92);
    client.expect_alive();
}

/// [MQTT3-4.3.3-1]
#[test]
fn pubrec_for_an_unknown_identifier_does_not_hang_a_3_1_1_client() {
    let client = VirtualBroker::new().client(V311, "a");
    client.send(pubrec(123));
    client.expect_pubrel(123, 0);
    client.expect_alive();
}

/// [MQTT3-4.5.0-1] [MQTT5-4.5.0-1]
#[test]
fn puback_and_pubcomp_for_unknown_identifiers_change_nothing() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(puback(123));
        client.send(pubcomp(124));
        client.expect_alive();
    });
}
