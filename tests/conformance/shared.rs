//! Section 4.8.2: shared subscriptions. 3.1.1 clients share in the same way, as with Mosquitto.

use signet_tests::prelude::*;

/// Clients that share `$share/g/c/#`.
fn members(broker: &VirtualBroker, version: Version, count: usize, qos: u8) -> Vec<Client> {
    (0..count)
        .map(|n| {
            let member = broker.persistent(version, &format!("m{n}"));
            member.subscribe("$share/g/c/#", qos);
            member
        })
        .collect()
}

/// Every PUBLISH that waits at each of these clients, acknowledged at QoS 1.
fn collect(clients: &[Client]) -> Vec<Vec<Published>> {
    clients
        .iter()
        .map(|client| {
            let mut got = Vec::new();
            while let Some(packet) = client.try_receive() {
                if let Received::Publish(p) = packet {
                    if p.qos == 1 {
                        client.send(puback(p.packet_id));
                    }
                    got.push(p);
                }
            }
            got
        })
        .collect()
}

/// [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
#[test]
fn malformed_shared_filters_are_not_granted() {
    let filters = [
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//c/a",
        "$share//",
        "$share/g+/c/a",
        "$share/+/c/a",
        "$share/#",
        "$share/#/c/a",
        "$share/g#/c/a",
        "$share/+",
        "$share/g/c/a#",
    ];
    for filter in filters {
        in_both(|broker, version| {
            let client = broker.client(version, "a");
            client.send(subscribe(version, 1, &[sub(filter, 0)]));
            if client.is_closed() {
                client.expect_closed_with_any(&[0x81, 0x82, 0x8F]);
            } else {
                match client.receive() {
                    Received::SubAck { codes, .. } => assert!(codes[0] >= 0x80, "{filter} was granted"),
                    other => panic!("{filter}: {other:?}"),
                }
            }
        });
    }
}

/// [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
#[test]
fn share_names_of_any_other_characters_are_granted() {
    in_both(|broker, version| {
        for name in ["g", "$g", "a b", "\u{20ac}", "share"] {
            let client = broker.client(version, "a");
            client.subscribe(&format!("$share/{name}/c/a"), 0);
            client.send(publish(version, "c/a", "x").bytes());
            let _ = client.expect_publish("c/a", "x");
        }
        let client = broker.client(version, "a");
        client.subscribe("$share/g//c/a", 0);
        client.send(publish(version, "/c/a", "x").bytes());
        let _ = client.expect_publish("/c/a", "x");
    });
}

/// [MQTT5-4.8.2-3]
#[test]
fn each_message_reaches_exactly_one_member_and_every_member_gets_some() {
    in_both(|broker, version| {
        for qos in 0..2 {
            let all = members(&broker, version, 3, qos);
            let sender = broker.client(version, "sender");
            let mut seen: Vec<u8> = Vec::new();
            let mut counts = [0; 3];
            for n in 0..60 {
                sender.send(publish(version, "c/a", [n]).qos(qos, u16::from(n) + 1).bytes());
                for (index, got) in collect(&all).into_iter().enumerate() {
                    counts[index] += got.len();
                    seen.extend(got.iter().map(|p| p.payload[0]));
                }
            }
            assert_eq!(seen, (0..60).collect::<Vec<u8>>(), "once each, none lost");
            assert!(counts.iter().all(|count| *count >= 10), "a fair share: {counts:?}");
        }
    });
}

/// [MQTT5-4.8.2-3]
#[test]
fn each_group_gets_its_own_copy_and_plain_subscribers_theirs() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("$share/g1/c/a", 0);
        client.subscribe("$share/g2/c/a", 0);
        client.subscribe("c/a", 0);
        client.send(publish(version, "c/a", "x").bytes());
        for _ in 0..3 {
            let _ = client.expect_publish("c/a", "x");
        }
        client.expect_nothing();
    });
}

/// [MQTT5-4.8.2-3]
#[test]
fn qos_is_that_granted_to_the_member_chosen() {
    in_both(|broker, version| {
        let low = broker.client(version, "low");
        low.subscribe("$share/g/c/a", 0);
        let high = broker.client(version, "high");
        high.subscribe("$share/g/c/a", 1);
        let sender = broker.client(version, "sender");
        let (mut to_low, mut to_high) = (0, 0);
        for n in 1..=20 {
            sender.send(publish(version, "c/a", "x").qos1(n).bytes());
            if let Some(Received::Publish(p)) = low.try_receive() {
                assert_eq!(p.qos, 0);
                to_low += 1;
            }
            if let Some(Received::Publish(p)) = high.try_receive() {
                assert_eq!(p.qos, 1);
                to_high += 1;
            }
        }
        assert_eq!(to_low + to_high, 20);
        assert!(to_low > 0 && to_high > 0);
    });
}

/// [MQTT5-3.8.4-3]
#[test]
fn sharing_again_replaces_the_members_own_subscription() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("$share/g/c/a", 0);
        client.subscribe("$share/g/c/a", 1);
        client.send(publish(version, "c/a", "x").qos1(1).bytes());
        let mut got = Vec::new();
        while let Some(packet) = client.try_receive() {
            if let Received::Publish(p) = packet {
                got.push(p.qos);
            }
        }
        assert_eq!(got, [1]);
    });
}

/// [MQTT5-3.3.4-3]
#[test]
fn shared_subscription_sends_its_identifier() {
    let broker = VirtualBroker::new();
    let client = broker.client(V5, "a");
    let props = Props::new().varint(id::SUBSCRIPTION_ID, 42);
    client.send(subscribe_with(V5, 1, &props, &[sub("$share/g/c/a", 0)]));
    client.expect_suback(1, &[0]);
    client.send(publish(V5, "c/a", "x").bytes());
    assert_eq!(client.expect_publish("c/a", "x").props.numbers(id::SUBSCRIPTION_ID), [42]);
}

/// [MQTT5-3.3.1-9]
#[test]
fn shared_subscription_gets_no_retained_message() {
    in_both(|broker, version| {
        broker.client(version, "sender").send(publish(version, "c/a", "x").retain().bytes());
        let client = broker.client(version, "a");
        client.subscribe("$share/g/c/a", 0);
        client.subscribe("$share/g/c/#", 0);
        client.expect_alive();
    });
}

/// [MQTT5-4.8.2-4]
#[test]
fn qos2_begun_with_a_member_is_completed_when_it_comes_back() {
    in_both(|broker, version| {
        let all = members(&broker, version, 2, 2);
        broker.client(version, "sender").send(publish(version, "c/a", "x").qos2(1).bytes());
        let (index, first) = taken(&all);
        all[index].drop_connection();
        all[1 - index].expect_nothing();
        let again = broker.persistent(version, &format!("m{index}"));
        let repeated = again.expect_publish("c/a", "x");
        assert!(repeated.dup);
        assert_eq!(repeated.packet_id, first.packet_id);
        all[1 - index].expect_nothing();
    });
}

/// The one member that was sent a message, and the message.
fn taken(members: &[Client]) -> (usize, Published) {
    let mut got = members.iter().enumerate().filter_map(|(index, member)| match member.try_receive() {
        Some(Received::Publish(p)) => Some((index, p)),
        _ => None,
    });
    let one = got.next().expect("one member has the message");
    assert!(got.next().is_none(), "no other has it");
    one
}

/// [MQTT5-4.8.2-5]
#[test]
fn qos2_begun_with_a_member_whose_session_ends_goes_to_no_other() {
    in_both(|broker, version| {
        let all = members(&broker, version, 2, 2);
        broker.client(version, "sender").send(publish(version, "c/a", "x").qos2(1).bytes());
        let (index, _) = taken(&all);
        all[index].drop_connection();
        let cleaned = broker.client(version, &format!("m{index}"));
        cleaned.expect_alive();
        all[1 - index].expect_alive();
    });
}

/// [MQTT5-4.8.2-6]
#[test]
fn message_that_a_member_refuses_goes_to_no_other() {
    for (qos, first_byte) in [(1, 0x40), (2, 0x50)] {
        let broker = VirtualBroker::new();
        let all = members(&broker, V5, 2, qos);
        broker.client(V5, "sender").send(publish(V5, "c/a", "x").qos(qos, 1).bytes());
        let (index, got) = taken(&all);
        all[index].send(ack_with_code(first_byte, got.packet_id, 0x80));
        all[index].disconnect();
        let _ = broker.client(V5, &format!("m{index}"));
        all[1 - index].expect_alive();
    }
}

/// [MQTT5-4.5.0-1]
#[test]
fn qos1_of_a_member_that_ends_its_session_goes_to_another() {
    in_both(|broker, version| {
        let all = members(&broker, version, 2, 1);
        broker.client(version, "sender").send(publish(version, "c/a", "x").qos1(1).bytes());
        let (index, _) = taken(&all);
        all[index].drop_connection();
        let _ = broker.client(version, &format!("m{index}"));
        let _ = all[1 - index].expect_publish("c/a", "x");
    });
}

/// [MQTT5-4.5.0-1]
#[test]
fn member_that_is_connected_is_preferred() {
    in_both(|broker, version| {
        let all = members(&broker, version, 3, 1);
        all[0].drop_connection();
        all[2].drop_connection();
        let sender = broker.client(version, "sender");
        for n in 0..10 {
            sender.send(publish(version, "c/a", [n]).qos1(u16::from(n) + 1).bytes());
            let got = all[1].expect_publish("c/a", [n]);
            all[1].send(puback(got.packet_id));
        }
    });
}

/// [MQTT5-4.5.0-1]
#[test]
fn group_whose_members_are_all_away_loses_nothing() {
    in_both(|broker, version| {
        let all = members(&broker, version, 2, 1);
        for member in &all {
            member.drop_connection();
        }
        let sender = broker.client(version, "sender");
        for n in 0..10 {
            sender.send(publish(version, "c/a", [n]).qos1(u16::from(n) + 1).bytes());
        }
        let back = [broker.persistent(version, "m0"), broker.persistent(version, "m1")];
        let mut seen: Vec<u8> = collect(&back).into_iter().flatten().map(|p| p.payload[0]).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<u8>>());
    });
}

/// [MQTT5-3.10.4-2]
#[test]
fn member_that_unsubscribes_gets_no_more() {
    in_both(|broker, version| {
        let all = members(&broker, version, 2, 0);
        all[0].send(unsubscribe(version, 1, &["$share/g/c/#"]));
        all[0].expect_unsuback(1, &[0]);
        let sender = broker.client(version, "sender");
        for n in 0..10 {
            sender.send(publish(version, "c/a", [n]).bytes());
            let _ = all[1].expect_publish("c/a", [n]);
        }
        all[0].expect_nothing();
    });
}
