//! Section 3.14: DISCONNECT, and closing with a code (4.13).

use signet_core::CloseReason;
use signet_tests::prelude::*;

/// [MQTT3-3.14.4-3] [MQTT5-3.14.4-1] [MQTT5-3.14.4-2]
#[test]
fn disconnect_is_answered_with_the_close_alone() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(disconnect());
        client.expect_closed();
    });
}

/// [MQTT5-3.14.4-2]
#[test]
fn disconnect_is_read_in_each_of_its_lengths() {
    let props = Props::new().text(id::REASON_STRING, "done").user("a", "b");
    for bytes in
        [disconnect(), packet(0xE0, &[0]), disconnect_with(0, &Props::new()), disconnect_with(0, &props)]
    {
        let broker = VirtualBroker::new();
        let watcher = broker.client(V5, "watcher");
        watcher.subscribe("c/w", 0);
        let (client, _) = broker.connected(&connect(V5, "a").will(will("c/w", "gone")), V5);
        client.send(bytes);
        client.expect_closed();
        watcher.expect_nothing();
    }
}

/// [MQTT3-3.14.1-1] [MQTT5-3.14.1-1]
#[test]
fn disconnect_with_reserved_flags_closes_as_malformed() {
    in_both(|broker, version| {
        for flags in [1, 2, 4, 8, 15] {
            let client = broker.client(version, "a");
            client.send([0xE0 | flags, 0]);
            client.expect_closed_with(0x81);
        }
    });
}

/// [MQTT5-3.14.2-1]
#[test]
fn disconnect_with_a_code_that_no_client_may_send_closes_with_an_error() {
    for code in [0x01, 0x18, 0x10, 0x8B, 0x8D, 0x8E, 0x86, 0xFF] {
        let client = VirtualBroker::new().client(V5, "a");
        client.send(disconnect_with(code, &Props::new()));
        client.expect_closed_with_any(&[0x81, 0x82]);
    }
}

/// [MQTT5-3.14.2-1] [MQTT5-3.14.2-2] [MQTT5-3.14.4-1] [MQTT5-3.14.4-2] [MQTT5-4.13.2-1]
#[test]
fn server_says_why_it_closes_and_nothing_more() {
    let reasons = [
        (CloseReason::ServerShuttingDown, 0x8B),
        (CloseReason::Administrative, 0x98),
        (CloseReason::CertificateExpired, 0xA0),
        (CloseReason::CertificateRevoked, 0x98),
        (CloseReason::NotAuthorized, 0x87),
    ];
    for (reason, code) in reasons {
        in_both(|broker, version| {
            let (client, _) = broker.connected(&connect(version, "a").persistent(), version);
            client.subscribe("c/a", 0);
            client.close_from_daemon(reason);
            client.expect_closed_with(code);
            broker.client(version, "sender").send(publish(version, "c/a", "x").bytes());
            client.expect_closed();
        });
    }
}

/// [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
#[test]
fn error_of_one_connection_leaves_the_others_alone() {
    in_both(|broker, version| {
        let good = broker.client(version, "good");
        good.subscribe("c/a", 0);
        for n in 0..20 {
            let bad = broker.client(version, &format!("bad{n}"));
            bad.send([0xF8, 0xFF, 0xFF, 0xFF, 0xFF]);
            assert!(bad.is_closed());
        }
        good.send(publish(version, "c/a", "x").bytes());
        let _ = good.expect_publish("c/a", "x");
        good.expect_alive();
    });
}

/// [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
#[test]
fn nothing_behind_an_error_is_processed() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/#", 0);
        let client = broker.client(version, "a");
        client.send(join(&[
            &publish(version, "c/a", "before").bytes(),
            &packet(0xC1, &[]),
            &publish(version, "c/a", "behind").bytes(),
        ]));
        client.expect_closed_with(0x81);
        let _ = watcher.expect_publish("c/a", "before");
        watcher.expect_nothing();
    });
}

/// [MQTT3-3.14.4-3] [MQTT5-3.14.4-3]
#[test]
fn nothing_behind_disconnect_is_processed() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/#", 0);
        let client = broker.client(version, "a");
        client.send(join(&[&disconnect(), &publish(version, "c/a", "behind").bytes()]));
        client.expect_closed();
        watcher.expect_nothing();
    });
}

/// [MQTT3-4.8.0-2]
#[test]
fn client_that_does_not_read_is_cut_off_and_slows_no_other() {
    in_both(|_, version| {
        let broker = VirtualBroker::with_limits(|limits| {
            limits.outbox_bytes_max = 10_000;
            limits.inflight_max = 1.try_into().expect("not 0");
        });
        let slow = broker.client(version, "slow");
        slow.subscribe("c/a", 1);
        let good = broker.client(version, "good");
        good.subscribe("c/a", 0);
        let client = broker.client(version, "a");
        for n in 0..30_u16 {
            client.send(publish(version, "c/a", "x".repeat(1000)).qos1(n + 1).bytes());
            client.expect_puback(n + 1, 0);
            let _ = good.expect_publish("c/a", "x".repeat(1000));
        }
        assert!(slow.is_closed());
    });
}

/// [MQTT5-3.14.2-3]
#[test]
fn reason_string_is_left_out_of_a_disconnect_that_has_no_room_for_it() {
    let broker = VirtualBroker::new();
    let (client, _) = broker.connected(&connect(V5, "a").maximum_packet_size(40), V5);
    client.send(publish(V5, "c/a", "x").with(|p| p.varint(id::SUBSCRIPTION_ID, 1)).bytes());
    let sent = client.take_bytes();
    assert!(sent.len() <= 40 && sent[0] == 0xE0 && sent[2] == 0x82, "{sent:02x?}");
    assert!(client.is_closed());
}
