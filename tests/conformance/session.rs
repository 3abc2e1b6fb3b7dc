//! Sections 3.1.2.4, 3.1.2.11.2 and 4.1: session state.

use signet_tests::prelude::*;

/// [MQTT3-3.1.2-4] [MQTT3-3.1.2-5] [MQTT3-3.1.3-2] [MQTT3-3.1.4-3] [MQTT3-4.1.0-1] [MQTT5-3.1.2-5] [MQTT5-3.1.2-23]
/// [MQTT5-3.1.3-2] [MQTT5-3.1.4-4]
#[test]
fn subscriptions_and_messages_wait_for_a_client_that_is_away() {
    in_both(|broker, version| {
        let client = broker.persistent(version, "a");
        client.subscribe("c/#", 2);
        client.disconnect();
        let sender = broker.client(version, "sender");
        sender.send(publish(version, "c/1", "x").qos1(1).bytes());
        sender.send(publish(version, "c/2", "x").qos2(2).bytes());
        let (again, accepted) = broker.connected(&connect(version, "a").persistent(), version);
        assert!(accepted.session_present);
        let first = again.expect_publish("c/1", "x");
        let second = again.expect_publish("c/2", "x");
        assert_eq!((first.qos, first.dup, second.qos, second.dup), (1, false, 2, false));
        sender.send(publish(version, "c/3", "live").bytes());
        let _ = again.expect_publish("c/3", "live");
    });
}

/// [MQTT3-3.1.2-6] [MQTT3-3.1.4-3] [MQTT5-3.1.2-4] [MQTT5-3.1.4-4]
#[test]
fn clean_start_discards_subscriptions_queue_and_inflight() {
    in_both(|broker, version| {
        let client = broker.persistent(version, "a");
        client.subscribe("c/#", 2);
        let sender = broker.client(version, "sender");
        sender.send(publish(version, "c/1", "inflight").qos1(1).bytes());
        let _ = client.expect_publish("c/1", "inflight");
        client.drop_connection();
        sender.send(publish(version, "c/2", "queued").qos1(2).bytes());
        let cleaned = broker.client(version, "a");
        cleaned.expect_nothing();
        sender.send(publish(version, "c/3", "live").bytes());
        cleaned.expect_nothing();
        cleaned.disconnect();
        let (_, accepted) = broker.connected(&connect(version, "a").persistent(), version);
        assert!(!accepted.session_present, "what was discarded stays discarded");
    });
}

/// [MQTT3-3.1.2-6]
#[test]
fn clean_session_ends_with_its_connection() {
    for drop in [true, false] {
        let broker = VirtualBroker::new();
        let client = broker.client(V311, "a");
        client.subscribe("c/a", 1);
        if drop {
            client.drop_connection();
        } else {
            client.disconnect();
        }
        broker.client(V311, "sender").send(publish(V311, "c/a", "x").qos1(1).bytes());
        let (again, accepted) = broker.connected(&connect(V311, "a").clean(false), V311);
        assert!(!accepted.session_present);
        again.expect_nothing();
    }
}

/// [MQTT3-3.1.2-4]
#[test]
fn session_of_3_1_1_waits_for_weeks() {
    let broker = VirtualBroker::new();
    let client = broker.persistent(V311, "a");
    client.drop_connection();
    broker.advance_secs(60 * 24 * 3600);
    let (_, accepted) = broker.connected(&connect(V311, "a").clean(false), V311);
    assert!(accepted.session_present);
}

/// [MQTT5-4.1.0-2] [MQTT5-3.1.2-23]
#[test]
fn session_ends_when_its_expiry_has_passed_and_not_before() {
    let broker = VirtualBroker::new();
    let open = || connect(V5, "a").clean(false).expiry(10);
    let (client, _) = broker.connected(&open(), V5);
    // The clock starts at the disconnect, however long the connection was open.
    broker.advance_secs(1000);
    client.drop_connection();
    broker.advance(Duration::from_millis(9_900));
    let (client, accepted) = broker.connected(&open(), V5);
    assert!(accepted.session_present);
    client.drop_connection();
    broker.advance(Duration::from_millis(10_100));
    let (_, accepted) = broker.connected(&open(), V5);
    assert!(!accepted.session_present);
}

/// [MQTT5-4.1.0-2]
#[test]
fn session_without_expiry_ends_with_its_connection() {
    for with_zero in [false, true] {
        let broker = VirtualBroker::new();
        let open = connect(V5, "a").clean(false);
        let (client, _) = broker.connected(&if with_zero { open.expiry(0) } else { open }, V5);
        client.subscribe("c/a", 1);
        client.drop_connection();
        broker.client(V5, "sender").send(publish(V5, "c/a", "x").qos1(1).bytes());
        let (again, accepted) = broker.connected(&connect(V5, "a").clean(false), V5);
        assert!(!accepted.session_present);
        again.expect_nothing();
    }
}

/// [MQTT5-3.1.2-23]
#[test]
fn session_expiry_of_all_ones_never_ends() {
    let broker = VirtualBroker::new();
    let (client, _) = broker.connected(&connect(V5, "a").expiry(u32::MAX), V5);
    client.drop_connection();
    broker.advance(Duration::from_secs(200 * 365 * 24 * 3600));
    let (_, accepted) = broker.connected(&connect(V5, "a").clean(false), V5);
    assert!(accepted.session_present);
}

/// [MQTT5-4.1.0-2]
#[test]
fn new_expiry_of_a_resuming_connect_counts() {
    let broker = VirtualBroker::new();
    let (client, _) = broker.connected(&connect(V5, "a").expiry(1000), V5);
    client.drop_connection();
    let (client, accepted) = broker.connected(&connect(V5, "a").clean(false).expiry(5), V5);
    assert!(accepted.session_present);
    client.drop_connection();
    broker.advance_secs(6);
    let (_, accepted) = broker.connected(&connect(V5, "a").clean(false), V5);
    assert!(!accepted.session_present);
}

/// [MQTT3-4.1.0-2] [MQTT5-4.1.0-1]
#[test]
fn session_lives_as_long_as_its_connection_whatever_its_expiry() {
    let broker = VirtualBroker::new();
    for (name, open) in
        [("a", connect(V5, "a").expiry(1)), ("b", connect(V5, "b")), ("c", connect(V311, "c"))]
    {
        let version = if name == "c" { V311 } else { V5 };
        let (client, _) = broker.connected(&open, version);
        client.subscribe("c/a", 1);
        broker.advance_secs(100_000);
        broker.client(V5, "sender").send(publish(V5, "c/a", "x").qos1(1).bytes());
        let _ = client.expect_publish("c/a", "x");
    }
}

/// [MQTT5-4.1.0-2]
#[test]
fn disconnect_may_change_the_session_expiry() {
    let broker = VirtualBroker::new();
    let after_disconnect_with = |secs: u32, wait: u64| {
        let (client, _) = broker.connected(&connect(V5, "a").expiry(100), V5);
        client.send(disconnect_with(0, &Props::new().u32(id::SESSION_EXPIRY, secs)));
        client.expect_closed();
        broker.advance_secs(wait);
        broker.connected(&connect(V5, "a").clean(false), V5).1.session_present
    };
    assert!(after_disconnect_with(1000, 999), "prolonged");
    assert!(!after_disconnect_with(10, 11), "shortened");
    assert!(!after_disconnect_with(0, 0), "ended");
}

/// [MQTT5-4.1.0-2] [MQTT5-4.13.1-1]
#[test]
fn disconnect_may_not_revive_a_session_that_was_to_end() {
    let broker = VirtualBroker::new();
    let watcher = broker.client(V5, "watcher");
    watcher.subscribe("c/w", 0);
    let (client, _) = broker.connected(&connect(V5, "a").will(will("c/w", "gone")), V5);
    client.send(disconnect_with(0, &Props::new().u32(id::SESSION_EXPIRY, 10)));
    client.expect_closed_with(0x82);
    let _ = watcher.expect_publish("c/w", "gone");
    let (_, accepted) = broker.connected(&connect(V5, "a").clean(false), V5);
    assert!(!accepted.session_present);
}

/// [MQTT3-3.1.2-4] [MQTT5-3.1.2-5]
#[test]
fn session_is_resumed_across_versions() {
    for (from, to) in [(V311, V5), (V5, V311)] {
        let broker = VirtualBroker::new();
        let client = broker.persistent(from, "a");
        client.subscribe("c/a", 1);
        client.drop_connection();
        broker.client(V5, "sender").send(publish(V5, "c/a", "x").qos1(1).bytes());
        let (again, accepted) = broker.connected(&connect(to, "a").persistent(), to);
        assert!(accepted.session_present);
        assert_eq!(again.expect_publish("c/a", "x").qos, 1);
    }
}

/// [MQTT3-3.1.4-2] [MQTT3-3.1.2-4] [MQTT5-3.1.4-3] [MQTT5-3.1.2-5]
#[test]
fn takeover_resumes_the_session_with_its_inflight() {
    in_both(|broker, version| {
        let first = broker.persistent(version, "a");
        first.subscribe("c/a", 1);
        broker.client(version, "sender").send(publish(version, "c/a", "x").qos1(1).bytes());
        let sent = first.expect_publish("c/a", "x");
        let (second, accepted) = broker.connected(&connect(version, "a").persistent(), version);
        assert!(accepted.session_present);
        first.expect_closed_with(0x8E);
        let repeated = second.expect_publish("c/a", "x");
        assert!(repeated.dup);
        assert_eq!(repeated.packet_id, sent.packet_id);
        second.expect_nothing();
    });
}

/// [MQTT3-3.1.2-6] [MQTT5-3.1.2-4] [MQTT5-3.2.2-2]
#[test]
fn takeover_with_clean_start_discards_the_session() {
    in_both(|broker, version| {
        let first = broker.persistent(version, "a");
        first.subscribe("c/a", 1);
        let (second, accepted) = broker.connected(&connect(version, "a").clean(true), version);
        assert!(!accepted.session_present);
        first.expect_closed_with(0x8E);
        broker.client(version, "sender").send(publish(version, "c/a", "x").qos1(1).bytes());
        second.expect_nothing();
    });
}

/// [MQTT3-3.1.2-5]
#[test]
fn qos0_messages_of_the_absence_are_not_made_qos1() {
    in_both(|broker, version| {
        let client = broker.persistent(version, "a");
        client.subscribe("c/a", 1);
        client.drop_connection();
        let sender = broker.client(version, "sender");
        sender.send(publish(version, "c/a", "0").bytes());
        sender.send(publish(version, "c/a", "1").qos1(1).bytes());
        let again = broker.persistent(version, "a");
        let mut stored = Vec::new();
        while let Some(Received::Publish(p)) = again.try_receive() {
            stored.push((p.payload, p.qos));
        }
        // Whether QoS 0 is stored is the server's choice, its QoS is not.
        stored.retain(|(payload, _)| payload != b"0");
        assert_eq!(stored, [(b"1".to_vec(), 1)]);
    });
}

/// [MQTT3-2.3.1-4] [MQTT5-2.2.1-4]
#[test]
fn identifiers_in_use_before_a_reconnect_are_not_given_to_new_messages() {
    in_both(|broker, version| {
        let client = broker.persistent(version, "a");
        client.subscribe("c/a", 2);
        let sender = broker.client(version, "sender");
        let mut used = Vec::new();
        for n in 1..=10_u8 {
            sender.send(publish(version, "c/a", [n]).qos2(u16::from(n)).bytes());
            let got = client.expect_publish("c/a", [n]);
            used.push(got.packet_id);
        }
        client.drop_connection();
        let again = broker.persistent(version, "a");
        for n in 1..=10_u8 {
            let got = again.expect_publish("c/a", [n]);
            assert_eq!(got.packet_id, used[usize::from(n) - 1]);
        }
        for n in 11..=20_u8 {
            sender.send(publish(version, "c/a", [n]).qos1(u16::from(n)).bytes());
            let got = again.expect_publish("c/a", [n]);
            assert!(!used.contains(&got.packet_id));
            used.push(got.packet_id);
        }
    });
}
