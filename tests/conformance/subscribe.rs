//! Sections 3.8 and 3.9: SUBSCRIBE and SUBACK.

use signet_tests::prelude::*;

/// [MQTT3-3.8.3-3] [MQTT5-3.8.3-2]
#[test]
fn subscribe_without_a_filter_closes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(subscribe(version, 1, &[]));
        client.expect_closed_with_any(&[0x81, 0x82]);
    });
}

/// [MQTT3-3.8.3-4] [MQTT5-3.8.3-5]
#[test]
fn requested_qos_3_closes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(subscribe(version, 1, &[sub("c/a", 0), sub("c/b", 3)]));
        client.expect_closed_with_any(&[0x81, 0x82]);
    });
}

/// [MQTT3-3.8.3-4] [MQTT5-3.8.3-5]
#[test]
fn reserved_bits_of_the_options_close() {
    in_both(|broker, version| {
        let reserved: &[u8] =
            if version == V5 { &[0x40, 0x80, 0xC0] } else { &[0x04, 0x08, 0x10, 0x20, 0x40, 0x80] };
        for (index, bits) in reserved.iter().enumerate() {
            let client = broker.client(version, &format!("a{index}"));
            client.send(subscribe(version, 1, &[sub("c/a", 1).bits(*bits)]));
            client.expect_closed_with_any(&[0x81, 0x82]);
        }
    });
}

/// [MQTT5-3.8.3-5]
#[test]
fn retain_handling_3_closes() {
    let client = VirtualBroker::new().client(V5, "a");
    client.send(subscribe(V5, 1, &[sub("c/a", 0).retain_handling(3)]));
    client.expect_closed_with_any(&[0x81, 0x82]);
}

/// [MQTT3-3.8.4-1] [MQTT3-3.8.4-2] [MQTT3-2.3.1-7] [MQTT5-3.8.4-1] [MQTT5-3.8.4-2] [MQTT5-2.2.1-6]
#[test]
fn suback_repeats_the_packet_identifier() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        for packet_id in [1, 2, 0x00FF, 0x0100, 0xFFFF, 1] {
            client.send(subscribe(version, packet_id, &[sub("c/a", 0)]));
            client.expect_suback(packet_id, &[0]);
        }
    });
}

/// [MQTT3-3.8.4-4] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1] [MQTT3-3.9.3-2] [MQTT5-3.8.4-5] [MQTT5-3.8.4-6] [MQTT5-3.8.4-7]
/// [MQTT5-3.9.3-1] [MQTT5-3.9.3-2]
#[test]
fn suback_has_one_code_per_filter_in_their_order() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        let filters = [
            sub("c/a", 2),
            sub("own/other/#", 1),
            sub("c/b", 0),
            sub("c/#/bad", 0),
            sub("c/c", 1),
            sub("c/a", 0),
        ];
        client.send(subscribe(version, 1, &filters));
        let failed = |code| if version == V5 { code } else { 0x80 };
        // "topic read #" of the test policy covers every filter, own/other/# included.
        client.expect_suback(1, &[2, 1, 0, failed(0x8F), 1, 0]);
        let sender = broker.client(version, "sender");
        for topic in ["c/a", "c/b", "c/c"] {
            sender.send(publish(version, topic, "x").bytes());
            let _ = client.expect_publish(topic, "x");
        }
        client.expect_nothing();
    });
}

/// [MQTT3-3.8.4-5] [MQTT3-3.9.3-2] [MQTT5-3.8.4-7] [MQTT5-3.9.3-2]
#[test]
fn filter_that_the_policy_does_not_cover_is_refused_and_delivers_nothing() {
    for version in BOTH {
        let broker = VirtualBroker::with(
            Default::default(),
            "role device\ntopic readwrite c/#\npattern readwrite own/%u/#\n",
        );
        let client = broker.client(version, "a");
        let filters =
            [sub("c/a", 1), sub("#", 1), sub("own/other/#", 1), sub("own/dev/#", 1), sub("own/+/#", 1)];
        client.send(subscribe(version, 1, &filters));
        let denied = if version == V5 { 0x87 } else { 0x80 };
        client.expect_suback(1, &[1, denied, denied, 1, denied]);
        let other = broker.open_as("other", version);
        other.send(connect(version, "b").bytes());
        let _ = other.expect_accepted();
        other.send(publish(version, "own/other/x", "secret").bytes());
        other.send(publish(version, "c/b", "x").bytes());
        client.expect_nothing();
        other.send(publish(version, "c/a", "y").bytes());
        let _ = client.expect_publish("c/a", "y");
    }
}

/// [MQTT3-3.8.4-6] [MQTT3-3.3.5-1] [MQTT5-3.8.4-8]
#[test]
fn delivery_has_the_lower_of_published_and_granted_qos() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        for granted in 0..3 {
            let subscriber = broker.client(version, "sub");
            subscriber.subscribe("c/a", granted);
            for published in 0..3 {
                client.send(publish(version, "c/a", "x").qos(published, 1).bytes());
                if published == 2 {
                    client.send(pubrel(1));
                }
                let got = subscriber.expect_publish("c/a", "x");
                assert_eq!(got.qos, granted.min(published), "published {published}, granted {granted}");
            }
        }
    });
}

/// [MQTT3-3.8.4-3] [MQTT5-3.8.4-3]
#[test]
fn same_filter_again_replaces_the_subscription() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        let sender = broker.client(version, "sender");
        for granted in [0, 2, 1] {
            client.subscribe("c/+", granted);
            sender.send(publish(version, "c/a", "x").qos2(1).bytes());
            sender.send(pubrel(1));
            assert_eq!(client.expect_publish("c/a", "x").qos, granted);
            client.expect_nothing();
        }
        client.send(unsubscribe(version, 2, &["c/+"]));
        client.expect_unsuback(2, &[0]);
        sender.send(publish(version, "c/a", "x").bytes());
        client.expect_nothing();
    });
}

/// [MQTT3-3.8.4-4] [MQTT5-3.8.4-5] [MQTT5-3.8.4-3]
#[test]
fn same_filter_twice_in_one_subscribe_is_one_subscription_and_the_last_counts() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(subscribe(version, 1, &[sub("c/a", 2), sub("c/a", 0)]));
        client.expect_suback(1, &[2, 0]);
        broker.client(version, "sender").send(publish(version, "c/a", "x").qos1(1).bytes());
        assert_eq!(client.expect_publish("c/a", "x").qos, 0);
        client.expect_nothing();
    });
}

/// [MQTT5-3.8.4-4] [MQTT3-3.8.4-3]
#[test]
fn replacing_a_subscription_loses_no_message() {
    in_both(|broker, version| {
        let subscriber = broker.persistent(version, "sub");
        subscriber.subscribe("c/a", 1);
        let sender = broker.client(version, "sender");
        for n in 1..=3 {
            sender.send(publish(version, "c/a", [n]).qos1(u16::from(n)).bytes());
        }
        subscriber.send(subscribe(version, 7, &[sub("c/a", 2)]));
        for n in 4..=6 {
            sender.send(publish(version, "c/a", [n]).qos1(u16::from(n)).bytes());
        }
        let mut payloads = Vec::new();
        while let Some(packet) = subscriber.try_receive() {
            if let Received::Publish(p) = packet {
                payloads.push(p.payload[0]);
            }
        }
        assert_eq!(payloads, [1, 2, 3, 4, 5, 6]);
    });
}

/// [MQTT3-3.3.5-1] [MQTT5-3.3.4-2]
#[test]
fn overlapping_subscriptions_deliver_at_the_highest_qos() {
    for filters in [[("c/#", 2), ("c/+", 0), ("c/a", 1)], [("c/#", 0), ("c/+", 1), ("c/a", 2)]] {
        in_both(|broker, version| {
            let subscriber = broker.client(version, "sub");
            for (filter, qos) in filters {
                subscriber.subscribe(filter, qos);
            }
            broker.client(version, "sender").send(publish(version, "c/a", "x").qos2(1).bytes());
            let mut highest = 0;
            while let Some(Received::Publish(p)) = subscriber.try_receive() {
                highest = highest.max(p.qos);
            }
            assert_eq!(highest, 2);
        });
    }
}

/// [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] [MQTT5-3.3.4-5]
#[test]
fn overlapping_subscriptions_send_all_their_identifiers() {
    let broker = VirtualBroker::new();
    let subscriber = broker.client(V5, "sub");
    for (filter, identifier) in [("c/#", 1), ("c/+", 200), ("c/a", 70_000), ("c/b", 5)] {
        let props = Props::new().varint(id::SUBSCRIPTION_ID, identifier);
        subscriber.send(subscribe_with(V5, 1, &props, &[sub(filter, 1)]));
        subscriber.expect_suback(1, &[1]);
    }
    subscriber.subscribe("#", 1);
    broker.client(V5, "sender").send(publish(V5, "c/a", "x").qos1(1).bytes());
    let mut identifiers = Vec::new();
    while let Some(Received::Publish(p)) = subscriber.try_receive() {
        identifiers.extend(p.props.numbers(id::SUBSCRIPTION_ID));
    }
    identifiers.sort_unstable();
    assert_eq!(identifiers, [1, 200, 70_000]);
}

/// [MQTT5-3.8.4-3] [MQTT5-3.3.4-3]
#[test]
fn replaced_subscription_has_the_new_identifier_or_none() {
    let broker = VirtualBroker::new();
    let subscriber = broker.client(V5, "sub");
    let sender = broker.client(V5, "sender");
    for identifier in [Some(1), Some(2), None] {
        let props = identifier.map_or_else(Props::new, |n| Props::new().varint(id::SUBSCRIPTION_ID, n));
        subscriber.send(subscribe_with(V5, 1, &props, &[sub("c/a", 0)]));
        subscriber.expect_suback(1, &[0]);
        sender.send(publish(V5, "c/a", "x").bytes());
        assert_eq!(subscriber.expect_publish("c/a", "x").props.number(id::SUBSCRIPTION_ID), identifier);
        subscriber.expect_nothing();
    }
}

/// [MQTT5-3.8.3-3]
#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    let broker = VirtualBroker::new();
    let client = broker.client(V5, "a");
    client.send(subscribe(V5, 1, &[sub("c/a", 1).no_local()]));
    client.expect_suback(1, &[1]);
    client.send(publish(V5, "c/a", "mine").qos1(2).bytes());
    client.expect_puback(2, 0);
    client.expect_nothing();
    let other = broker.client(V5, "b");
    other.send(publish(V5, "c/a", "theirs").bytes());
    let _ = client.expect_publish("c/a", "theirs");
    // The same client identifier of another identity is another client.
    let namesake = broker.open_as("other", V5);
    namesake.send(connect(V5, "a").bytes());
    let _ = namesake.expect_accepted();
    namesake.send(publish(V5, "c/a", "namesake").bytes());
    let _ = client.expect_publish("c/a", "namesake");
}

/// [MQTT5-3.8.3-3]
#[test]
fn without_no_local_a_client_gets_its_own_messages() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("c/a", 0);
        client.send(publish(version, "c/a", "mine").bytes());
        let _ = client.expect_publish("c/a", "mine");
    });
}

/// [MQTT5-3.8.3-3]
#[test]
fn no_local_outlives_a_reconnect() {
    let broker = VirtualBroker::new();
    let client = broker.persistent(V5, "a");
    client.send(subscribe(V5, 1, &[sub("c/a", 1).no_local()]));
    client.expect_suback(1, &[1]);
    client.drop_connection();
    let again = broker.persistent(V5, "a");
    again.send(publish(V5, "c/a", "mine").bytes());
    again.expect_nothing();
}

/// [MQTT5-3.8.3-4]
#[test]
fn no_local_on_a_shared_subscription_closes() {
    let client = VirtualBroker::new().client(V5, "a");
    client.send(subscribe(V5, 1, &[sub("$share/g/c/a", 1).no_local()]));
    client.expect_closed_with(0x82);
}

/// [MQTT3-4.5.0-1] [MQTT5-4.5.0-1]
#[test]
fn message_reaches_every_matching_session() {
    in_both(|broker, version| {
        let subscribers: Vec<Client> = (0..20)
            .map(|n| {
                let subscriber = broker.client(BOTH[n % 2], &format!("s{n}"));
                subscriber.subscribe(["c/a", "c/+", "c/#", "+/a"][n % 4], 1);
                subscriber
            })
            .collect();
        let bystander = broker.client(version, "bystander");
        bystander.subscribe("c/b", 1);
        broker.client(version, "sender").send(publish(version, "c/a", "x").qos1(1).bytes());
        for subscriber in &subscribers {
            let _ = subscriber.expect_publish("c/a", "x");
        }
        bystander.expect_nothing();
    });
}
