//! Sections 3.1.2.5 and 3.1.3.2: the will.

use signet_core::CloseReason;
use signet_tests::prelude::*;

/// A client that watches `c/w`, and one with this will.
fn watched(broker: &VirtualBroker, version: Version, connect: &Connect) -> (Client, Client) {
    let watcher = broker.client(version, "watcher");
    watcher.subscribe("c/w", 2);
    let (client, _) = broker.connected(connect, version);
    (watcher, client)
}

/// [MQTT3-3.1.2-8] [MQTT5-3.1.2-7] [MQTT5-3.1.2-8]
#[test]
fn will_is_published_when_the_connection_breaks_and_not_before() {
    in_both(|broker, version| {
        let (watcher, client) = watched(&broker, version, &connect(version, "a").will(will("c/w", "gone")));
        broker.advance_secs(1000);
        watcher.expect_nothing();
        client.drop_connection();
        let _ = watcher.expect_publish("c/w", "gone");
        watcher.expect_nothing();
    });
}

/// [MQTT3-3.14.4-3] [MQTT3-3.1.2-10] [MQTT5-3.14.4-3] [MQTT5-3.1.2-10]
#[test]
fn disconnect_discards_the_will() {
    in_both(|broker, version| {
        let (watcher, client) = watched(&broker, version, &connect(version, "a").will(will("c/w", "gone")));
        client.disconnect();
        broker.advance_secs(1000);
        watcher.expect_nothing();
        // A later connection without a will does not bring it back.
        broker.client(version, "a").drop_connection();
        watcher.expect_nothing();
    });
}

/// [MQTT5-3.1.2-8] [MQTT5-3.14.4-3]
#[test]
fn disconnect_with_another_code_sends_the_will() {
    for code in [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        let broker = VirtualBroker::new();
        let (watcher, client) = watched(&broker, V5, &connect(V5, "a").will(will("c/w", "gone")));
        client.send(disconnect_with(code, &Props::new()));
        client.expect_closed();
        let _ = watcher.expect_publish("c/w", "gone");
    }
}

/// [MQTT3-3.1.2-8] [MQTT3-3.14.1-1] [MQTT5-3.1.2-8]
#[test]
fn protocol_error_sends_the_will() {
    in_both(|broker, version| {
        let errors = [packet(0xE1, &[]), publish(version, "c/#", "x").bytes(), connect(version, "a").bytes()];
        for bytes in errors {
            let (watcher, client) =
                watched(&broker, version, &connect(version, "a").will(will("c/w", "gone")));
            client.send(bytes);
            assert!(client.is_closed());
            let _ = watcher.expect_publish("c/w", "gone");
        }
    });
}

/// [MQTT3-3.1.2-8] [MQTT5-3.1.2-8]
#[test]
fn connection_that_the_server_ends_sends_the_will() {
    for reason in
        [CloseReason::ServerShuttingDown, CloseReason::Administrative, CloseReason::CertificateExpired]
    {
        in_both(|broker, version| {
            let (watcher, client) =
                watched(&broker, version, &connect(version, "a").will(will("c/w", "gone")));
            client.close_from_daemon(reason);
            assert!(client.is_closed());
            let _ = watcher.expect_publish("c/w", "gone");
        });
    }
}

/// [MQTT3-3.1.2-8] [MQTT3-3.1.4-2] [MQTT5-3.1.2-8] [MQTT5-3.1.4-3]
#[test]
fn takeover_sends_the_will_of_the_connection_that_is_closed() {
    in_both(|broker, version| {
        for clean in [true, false] {
            let old = connect(version, "a").persistent().clean(clean).will(will("c/w", "old"));
            let (watcher, first) = watched(&broker, version, &old);
            let (second, _) = broker.connected(&connect(version, "a").clean(clean), version);
            first.expect_closed_with(0x8E);
            let _ = watcher.expect_publish("c/w", "old");
            second.disconnect();
            watcher.expect_nothing();
        }
    });
}

/// [MQTT3-3.1.2-12] [MQTT3-3.1.2-11]
#[test]
fn no_will_is_sent_where_none_was_given() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("#", 0);
        broker.client(version, "a").drop_connection();
        broker.advance_secs(1000);
        watcher.expect_nothing();
    });
}

/// [MQTT3-3.1.2-10] [MQTT5-3.1.2-10]
#[test]
fn will_is_sent_once() {
    in_both(|broker, version| {
        let open = connect(version, "a").persistent().will(will("c/w", "gone"));
        let (watcher, client) = watched(&broker, version, &open);
        client.drop_connection();
        let _ = watcher.expect_publish("c/w", "gone");
        let again = broker.persistent(version, "a");
        again.drop_connection();
        broker.advance_secs(1_000_000);
        watcher.expect_nothing();
    });
}

/// [MQTT3-3.1.2-9] [MQTT5-3.1.2-9]
#[test]
fn will_has_its_qos_and_any_payload() {
    in_both(|broker, version| {
        for qos in 0..3 {
            let open = connect(version, "a").will(will("c/w", [0, 255, qos]).qos(qos));
            let (watcher, client) = watched(&broker, version, &open);
            client.drop_connection();
            assert_eq!(watcher.expect_publish("c/w", [0, 255, qos]).qos, qos);
        }
        let (watcher, client) = watched(&broker, version, &connect(version, "a").will(will("c/w", "")));
        client.drop_connection();
        let _ = watcher.expect_publish("c/w", "");
    });
}

/// [MQTT3-3.1.2-16] [MQTT3-3.1.2-17] [MQTT5-3.1.2-14] [MQTT5-3.1.2-15]
#[test]
fn will_is_retained_if_and_only_if_it_asks_for_it() {
    in_both(|broker, version| {
        let plain = connect(version, "a").will(will("c/w", "plain"));
        let (watcher, client) = watched(&broker, version, &plain);
        client.drop_connection();
        assert!(!watcher.expect_publish("c/w", "plain").retain);
        let late = broker.client(version, "late");
        late.subscribe("c/w", 0);
        late.expect_nothing();
        let retained = connect(version, "a").will(will("c/w", "kept").retain());
        let (watcher, client) = watched(&broker, version, &retained);
        client.drop_connection();
        assert!(!watcher.expect_publish("c/w", "kept").retain, "an established subscription");
        let late = broker.client(version, "late");
        late.subscribe("c/w", 0);
        assert!(late.expect_publish("c/w", "kept").retain);
    });
}

/// [MQTT3-3.1.2-8] [MQTT3-4.5.0-1] [MQTT5-4.5.0-1]
#[test]
fn will_waits_for_a_subscriber_that_is_away() {
    in_both(|broker, version| {
        let away = broker.persistent(version, "away");
        away.subscribe("c/w", 1);
        away.disconnect();
        let (client, _) = broker.connected(&connect(version, "a").will(will("c/w", "gone").qos(1)), version);
        client.drop_connection();
        let _ = broker.persistent(version, "away").expect_publish("c/w", "gone");
    });
}

/// [MQTT3-3.3.2-2] [MQTT3-4.7.3-1] [MQTT5-3.3.2-2] [MQTT5-4.7.3-1]
#[test]
fn will_topic_that_is_no_topic_name_is_not_accepted() {
    for topic in ["", "#", "c/+", "c/#"] {
        in_both(|broker, version| {
            let client = broker.open(version);
            client.send(connect(version, "a").will(will(topic, "x")).bytes());
            client.expect_not_accepted();
        });
    }
}

/// [MQTT5-3.1.3-10] [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]
#[test]
fn will_properties_are_passed_on_with_user_properties_in_order() {
    let props = Props::new()
        .user("b", "1")
        .u8(id::PAYLOAD_FORMAT, 1)
        .user("a", "2")
        .text(id::CONTENT_TYPE, "text")
        .text(id::RESPONSE_TOPIC, "c/answer")
        .text(id::CORRELATION_DATA, [1, 0])
        .u32(id::MESSAGE_EXPIRY, 60)
        .user("b", "0");
    let broker = VirtualBroker::new();
    let (watcher, client) = watched(&broker, V5, &connect(V5, "a").will(will("c/w", "gone").props(props)));
    broker.advance_secs(1000);
    client.drop_connection();
    let got = watcher.expect_publish("c/w", "gone");
    assert_eq!(got.props.user(), [("b", "1"), ("a", "2"), ("b", "0")]);
    assert_eq!(got.props.number(id::PAYLOAD_FORMAT), Some(1));
    assert_eq!(got.props.text(id::CONTENT_TYPE), Some("text"));
    assert_eq!(got.props.text(id::RESPONSE_TOPIC), Some("c/answer"));
    assert_eq!(got.props.bytes(id::CORRELATION_DATA), Some(&[1, 0][..]));
    assert_eq!(got.props.number(id::MESSAGE_EXPIRY), Some(60), "the will expires from when it is sent");
    assert!(!got.props.has(id::WILL_DELAY));
}

/// [MQTT5-3.1.2-8]
#[test]
fn will_waits_for_its_delay() {
    let broker = VirtualBroker::new();
    let open = connect(V5, "a").expiry(1000).will(will("c/w", "gone").delay(10));
    let (watcher, client) = watched(&broker, V5, &open);
    client.drop_connection();
    broker.advance(Duration::from_millis(9_900));
    watcher.expect_nothing();
    broker.advance(Duration::from_millis(200));
    let _ = watcher.expect_publish("c/w", "gone");
    watcher.expect_nothing();
}

/// [MQTT5-3.1.2-8] [MQTT5-4.1.0-2]
#[test]
fn end_of_the_session_sends_a_delayed_will() {
    let broker = VirtualBroker::new();
    let open = connect(V5, "a").expiry(5).will(will("c/w", "gone").delay(1000));
    let (watcher, client) = watched(&broker, V5, &open);
    client.drop_connection();
    broker.advance(Duration::from_millis(4_900));
    watcher.expect_nothing();
    broker.advance(Duration::from_millis(200));
    let _ = watcher.expect_publish("c/w", "gone");
}

/// [MQTT5-3.1.2-8]
#[test]
fn delay_means_nothing_for_a_session_that_ends_with_the_connection() {
    let broker = VirtualBroker::new();
    let (watcher, client) = watched(&broker, V5, &connect(V5, "a").will(will("c/w", "gone").delay(1000)));
    client.drop_connection();
    let _ = watcher.expect_publish("c/w", "gone");
}

/// [MQTT5-3.1.3-9] [MQTT5-3.1.2-8]
#[test]
fn resuming_within_the_delay_cancels_the_will() {
    let broker = VirtualBroker::new();
    let open = connect(V5, "a").clean(false).expiry(1000).will(will("c/w", "gone").delay(10));
    let (watcher, client) = watched(&broker, V5, &open);
    client.drop_connection();
    broker.advance_secs(9);
    let (again, _) = broker.connected(&connect(V5, "a").clean(false).expiry(1000), V5);
    broker.advance_secs(100_000);
    watcher.expect_nothing();
    again.drop_connection();
    broker.advance_secs(100_000);
    watcher.expect_nothing();
}

/// [MQTT5-3.1.2-8] [MQTT5-3.1.2-4]
#[test]
fn clean_start_within_the_delay_ends_the_session_and_sends_the_will() {
    let broker = VirtualBroker::new();
    let open = connect(V5, "a").expiry(1000).will(will("c/w", "gone").delay(10));
    let (watcher, client) = watched(&broker, V5, &open);
    client.drop_connection();
    broker.advance_secs(5);
    watcher.expect_nothing();
    let _ = broker.client(V5, "a");
    let _ = watcher.expect_publish("c/w", "gone");
    broker.advance_secs(100);
    watcher.expect_nothing();
}

/// [MQTT5-3.1.3-9]
#[test]
fn takeover_that_continues_the_session_cancels_a_delayed_will() {
    let broker = VirtualBroker::new();
    let open = connect(V5, "a").clean(false).expiry(1000).will(will("c/w", "old").delay(10));
    let (watcher, first) = watched(&broker, V5, &open);
    let (_second, _) = broker.connected(&connect(V5, "a").clean(false).expiry(1000), V5);
    first.expect_closed_with(0x8E);
    broker.advance_secs(1000);
    watcher.expect_nothing();
}

/// [MQTT5-3.1.2-8] [MQTT5-3.1.2-4]
#[test]
fn takeover_that_ends_the_session_sends_a_delayed_will_at_once() {
    let broker = VirtualBroker::new();
    let open = connect(V5, "a").expiry(1000).will(will("c/w", "old").delay(10));
    let (watcher, first) = watched(&broker, V5, &open);
    let _second = broker.client(V5, "a");
    first.expect_closed_with(0x8E);
    let _ = watcher.expect_publish("c/w", "old");
}

/// [MQTT5-3.1.2-10]
#[test]
fn each_connection_has_the_will_of_its_own_connect() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/+", 0);
        let (client, _) =
            broker.connected(&connect(version, "a").persistent().will(will("c/1", "1")), version);
        client.disconnect();
        let (client, _) =
            broker.connected(&connect(version, "a").persistent().will(will("c/2", "2")), version);
        client.drop_connection();
        let _ = watcher.expect_publish("c/2", "2");
        watcher.expect_nothing();
    });
}
