//! Sections 3.1.2.10 and 3.12: keep alive and PINGREQ.

use signet_tests::prelude::*;

/// [MQTT3-3.12.4-1] [MQTT5-3.12.4-1]
#[test]
fn pingreq_is_answered() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(join(&[&pingreq(), &pingreq()]));
        assert_eq!(client.take_bytes(), [0xD0, 0, 0xD0, 0]);
    });
}

/// [MQTT3-3.1.2-24] [MQTT5-3.1.2-22]
#[test]
fn silence_of_one_and_a_half_keep_alives_closes_and_not_less() {
    in_both(|broker, version| {
        let (client, _) = broker.connected(&connect(version, "a").keep_alive(10), version);
        broker.advance(Duration::from_millis(14_900));
        client.expect_nothing();
        broker.advance(Duration::from_millis(200));
        client.expect_closed_with(0x8D);
    });
}

/// [MQTT3-3.1.2-24] [MQTT5-3.1.2-22]
#[test]
fn keep_alive_of_one_second_is_met_to_the_tick() {
    in_both(|broker, version| {
        let (client, _) = broker.connected(&connect(version, "a").keep_alive(1), version);
        broker.advance(Duration::from_millis(1_400));
        client.expect_nothing();
        broker.advance(Duration::from_millis(200));
        client.expect_closed_with(0x8D);
    });
}

/// [MQTT3-3.1.2-24] [MQTT5-3.1.2-22]
#[test]
fn every_packet_from_the_client_counts() {
    in_both(|broker, version| {
        let (client, _) = broker.connected(&connect(version, "a").keep_alive(10), version);
        let packets = [
            pingreq(),
            publish(version, "c/a", "x").bytes(),
            publish(version, "c/a", "x").qos1(1).bytes(),
            publish(version, "c/a", "x").qos2(2).bytes(),
            pubrel(2),
            subscribe(version, 3, &[sub("c/b", 0)]),
            unsubscribe(version, 4, &["c/b"]),
        ];
        for bytes in packets {
            broker.advance_secs(14);
            client.send(bytes);
            assert!(!client.is_closed());
        }
        let _ = client.take_bytes();
        broker.advance_secs(16);
        client.expect_closed_with(0x8D);
    });
}

/// [MQTT3-3.1.2-24] [MQTT5-3.1.2-22]
#[test]
fn packets_to_the_client_do_not_count() {
    in_both(|broker, version| {
        let (client, _) = broker.connected(&connect(version, "a").keep_alive(10), version);
        client.subscribe("c/a", 0);
        let sender = broker.client(version, "sender");
        for _ in 0..5 {
            broker.advance_secs(2);
            sender.send(publish(version, "c/a", "x").bytes());
        }
        broker.advance_secs(6);
        for _ in 0..5 {
            let _ = client.expect_publish("c/a", "x");
        }
        client.expect_closed_with(0x8D);
    });
}

/// [MQTT3-3.1.2-24] [MQTT5-3.1.2-22]
#[test]
fn part_of_a_packet_does_not_count() {
    in_both(|broker, version| {
        let (client, _) = broker.connected(&connect(version, "a").keep_alive(10), version);
        let bytes = publish(version, "c/a", "0123456789").bytes();
        for byte in &bytes[..10] {
            broker.advance_secs(2);
            client.send([*byte]);
        }
        assert!(client.is_closed(), "trickled bytes are no packet");
    });
}

/// [MQTT3-3.1.2-24] [MQTT5-3.1.2-22]
#[test]
fn keep_alive_0_never_closes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        broker.advance(Duration::from_secs(365 * 24 * 3600));
        client.expect_alive();
    });
}

/// [MQTT3-3.1.2-24] [MQTT5-3.1.2-22]
#[test]
fn each_connection_has_its_own_timer() {
    in_both(|broker, version| {
        let (short, _) = broker.connected(&connect(version, "a").keep_alive(10), version);
        let (long, _) = broker.connected(&connect(version, "b").keep_alive(100), version);
        broker.advance_secs(20);
        short.expect_closed_with(0x8D);
        long.expect_alive();
    });
}

/// [MQTT3-3.1.2-24] [MQTT3-3.1.2-8] [MQTT5-3.1.2-22] [MQTT5-3.1.2-8]
#[test]
fn will_follows_a_keep_alive_that_ran_out() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/w", 0);
        let (_, _) =
            broker.connected(&connect(version, "a").keep_alive(10).will(will("c/w", "gone")), version);
        broker.advance_secs(14);
        watcher.expect_nothing();
        broker.advance_secs(2);
        let _ = watcher.expect_publish("c/w", "gone");
    });
}

/// [MQTT5-3.2.2-22]
#[test]
fn server_keep_alive_is_returned_and_is_what_counts() {
    let broker = VirtualBroker::with_limits(|limits| limits.keep_alive_secs_max = 20.try_into().ok());
    for asked in [0, 21, 600] {
        let (client, accepted) = broker.connected(&connect(V5, "a").keep_alive(asked), V5);
        assert_eq!(accepted.props.number(id::SERVER_KEEP_ALIVE), Some(20));
        broker.advance_secs(29);
        client.expect_nothing();
        broker.advance_secs(2);
        client.expect_closed_with(0x8D);
    }
}

/// [MQTT5-3.2.2-22]
#[test]
fn without_server_keep_alive_the_clients_value_counts() {
    let broker = VirtualBroker::with_limits(|limits| limits.keep_alive_secs_max = 20.try_into().ok());
    let (client, accepted) = broker.connected(&connect(V5, "a").keep_alive(4), V5);
    assert_eq!(accepted.props.number(id::SERVER_KEEP_ALIVE), None);
    broker.advance_secs(5);
    client.expect_nothing();
    broker.advance_secs(2);
    client.expect_closed_with(0x8D);
}
