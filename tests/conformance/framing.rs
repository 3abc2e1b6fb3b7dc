//! Chapter 2: fixed header, remaining length, packet types, packet identifiers.

use signet_tests::prelude::*;

/// [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
#[test]
fn remaining_length_of_five_bytes_closes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send([0x30, 0x80, 0x80, 0x80, 0x80, 0x01]);
        client.expect_closed_with(0x81);
    });
}

/// [MQTT5-1.5.5-1]
#[test]
fn variable_byte_integer_longer_than_needed_closes() {
    let pingreq: Vec<u8> = vec![0xC0, 0x80, 0x00];
    let property_length = packet(0x82, &join(&[&[0, 1, 0x80, 0x00], &prefixed("c/a"), &[0]]));
    let subscription_id = packet(0x82, &join(&[&[0, 1, 3, 0x0B, 0x81, 0x00], &prefixed("c/a"), &[0]]));
    for bytes in [pingreq, property_length, subscription_id] {
        let client = VirtualBroker::new().client(V5, "a");
        client.send(&bytes);
        client.expect_closed_with(0x81);
    }
}

/// [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT5-2.1.3-1]
#[test]
fn reserved_flags_of_acknowledgements_and_pingreq_close() {
    for bytes in [packet(0x41, &[0, 1]), packet(0x52, &[0, 1]), packet(0x78, &[0, 1]), packet(0xC1, &[])] {
        in_both(|broker, version| {
            let client = broker.client(version, "a");
            client.send(&bytes);
            client.expect_closed_with(0x81);
        });
    }
}

/// [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT5-2.1.3-1]
#[test]
fn reserved_flags_of_connect_close_without_acceptance() {
    in_both(|broker, version| {
        let mut bytes = connect(version, "a").bytes();
        bytes[0] = 0x11;
        let client = broker.open(version);
        client.send(bytes);
        client.expect_not_accepted();
    });
}

/// [MQTT3-3.6.1-1] [MQTT5-3.6.1-1]
#[test]
fn pubrel_with_other_flags_than_0010_closes() {
    for first_byte in [0x60, 0x61, 0x63, 0x66, 0x6A] {
        in_both(|broker, version| {
            let client = broker.client(version, "a");
            client.send(publish(version, "c/a", "x").qos2(1).bytes());
            client.expect_pubrec(1, 0);
            client.send(packet(first_byte, &[0, 1]));
            client.expect_closed_with(0x81);
        });
    }
}

/// [MQTT3-3.8.1-1] [MQTT5-3.8.1-1]
#[test]
fn subscribe_with_other_flags_than_0010_closes() {
    for first_byte in [0x80, 0x81, 0x83, 0x86, 0x8A] {
        in_both(|broker, version| {
            let client = broker.client(version, "a");
            let mut bytes = subscribe(version, 1, &[sub("c/a", 0)]);
            bytes[0] = first_byte;
            client.send(bytes);
            client.expect_closed_with(0x81);
        });
    }
}

/// [MQTT3-3.10.1-1] [MQTT5-3.10.1-1]
#[test]
fn unsubscribe_with_other_flags_than_0010_closes() {
    for first_byte in [0xA0, 0xA1, 0xA3, 0xA6, 0xAA] {
        in_both(|broker, version| {
            let client = broker.client(version, "a");
            let mut bytes = unsubscribe(version, 1, &["c/a"]);
            bytes[0] = first_byte;
            client.send(bytes);
            client.expect_closed_with(0x81);
        });
    }
}

/// [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
#[test]
fn surplus_bytes_in_a_packet_close() {
    in_both(|broker, version| {
        let mut cases = vec![
            packet(0xC0, &[0]),
            packet(0xC0, b"ping"),
            packet(0xA2, &join(&[&unsubscribe(version, 1, &["c/a"])[2..], &[0]])),
            packet(0x82, &join(&[&subscribe(version, 1, &[sub("c/a", 0)])[2..], &[0]])),
        ];
        if version == V311 {
            cases.extend([
                packet(0x40, &[0, 1, 0]),
                packet(0x50, &[0, 1, 0]),
                packet(0x62, &[0, 1, 0]),
                packet(0x70, &[0, 1, 0]),
                packet(0xE0, &[0]),
            ]);
        } else {
            cases.extend([
                packet(0x40, &[0, 1, 0, 0, 0]),
                packet(0xE0, &[0, 0, 0]),
                packet(0xF0, &[0, 0, 0]),
            ]);
        }
        for (index, bytes) in cases.into_iter().enumerate() {
            let client = broker.client(version, &format!("a{index}"));
            client.send(bytes);
            client.expect_closed_with_any(&[0x81, 0x82]);
        }
    });
}

/// [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
#[test]
fn packets_that_end_too_early_close() {
    in_both(|broker, version| {
        let cases = [
            packet(0x30, &[]),
            packet(0x30, &[0]),
            packet(0x30, &[0, 9, b'c']),
            packet(0x32, &join(&[&prefixed("c/a"), &[0]])),
            packet(0x40, &[]),
            packet(0x40, &[1]),
            packet(0x50, &[1]),
            packet(0x62, &[1]),
            packet(0x70, &[1]),
            packet(0x82, &[0]),
            packet(0x82, &join(&[&subscribe(version, 1, &[])[2..], &prefixed("c/a")])),
            packet(0xA2, &join(&[&unsubscribe(version, 1, &[])[2..], &[0, 9, b'c']])),
        ];
        for (index, bytes) in cases.into_iter().enumerate() {
            let client = broker.client(version, &format!("a{index}"));
            client.send(bytes);
            client.expect_closed_with(0x81);
        }
    });
}

/// [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
#[test]
fn packet_types_that_a_client_must_not_send_close() {
    in_both(|broker, version| {
        let mut cases = vec![
            packet(0x00, &[]),
            packet(0x20, &[0, 0]),
            packet(0x20, &[0, 0, 0]),
            packet(0x90, &[0, 1, 0]),
            packet(0x90, &[0, 1, 0, 0]),
            packet(0xB0, &[0, 1]),
            packet(0xB0, &[0, 1, 0, 0]),
            packet(0xD0, &[]),
        ];
        if version == V311 {
            cases.push(packet(0xF0, &[]));
        }
        for (index, bytes) in cases.into_iter().enumerate() {
            let client = broker.client(version, &format!("a{index}"));
            client.send(bytes);
            client.expect_closed_with_any(&[0x81, 0x82]);
        }
    });
}

/// [MQTT3-2.3.1-1] [MQTT5-2.2.1-3]
#[test]
fn packet_identifier_0_closes() {
    in_both(|broker, version| {
        let cases = [
            publish(version, "c/a", "x").qos1(0).bytes(),
            publish(version, "c/a", "x").qos2(0).bytes(),
            subscribe(version, 0, &[sub("c/a", 0)]),
            unsubscribe(version, 0, &["c/a"]),
            puback(0),
            pubrec(0),
            pubrel(0),
            pubcomp(0),
        ];
        for (index, bytes) in cases.into_iter().enumerate() {
            let client = broker.client(version, &format!("a{index}"));
            client.send(bytes);
            client.expect_closed_with_any(&[0x81, 0x82]);
        }
    });
}

/// [MQTT3-2.3.1-5] [MQTT5-2.2.1-2]
#[test]
fn qos0_publish_has_no_packet_identifier_in_either_direction() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("c/a", 2);
        // Were there an identifier, the two bytes would be taken from the payload.
        client.send(publish(version, "c/a", [0, 7, b'x']).bytes());
        let got = client.expect_publish("c/a", [0, 7, b'x']);
        assert_eq!((got.qos, got.packet_id), (0, 0));
    });
}

/// [MQTT3-7.1.1-1] [MQTT5-4.2-1]
#[test]
fn packets_are_found_in_the_stream_however_it_is_cut() {
    in_both(|broker, version| {
        let stream = join(&[
            &connect(version, "a").bytes(),
            &subscribe(version, 1, &[sub("c/a", 1)]),
            &publish(version, "c/a", "x".repeat(300)).qos1(2).bytes(),
            &pingreq(),
        ]);
        for piece in [1, 2, 3, 7, 100, stream.len()] {
            let client = broker.open(version);
            for bytes in stream.chunks(piece) {
                client.send(bytes);
            }
            let _ = client.expect_accepted();
            client.expect_suback(1, &[1]);
            let (mut published, mut acked) = (false, false);
            for _ in 0..2 {
                match client.receive() {
                    Received::Publish(p) => published = p.payload.len() == 300,
                    Received::PubAck(a) => acked = a.packet_id == 2,
                    other => panic!("unexpected {other:?}"),
                }
            }
            assert!(published && acked, "pieces of {piece} bytes");
            assert_eq!(client.receive(), Received::PingResp);
            client.expect_nothing();
        }
    });
}

/// [MQTT3-7.1.1-1] [MQTT5-4.2-1]
#[test]
fn hundred_packets_in_one_write_are_all_answered_in_order() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        let all: Vec<u8> = (1..=100).flat_map(|id| publish(version, "c/a", "x").qos1(id).bytes()).collect();
        client.send(all);
        for id in 1..=100 {
            client.expect_puback(id, 0);
        }
        client.expect_nothing();
    });
}

/// [MQTT5-2.2.2-1]
#[test]
fn packet_without_properties_has_a_property_length_of_0() {
    let client = VirtualBroker::new().client(V5, "a");
    client.send(subscribe(V5, 1, &[sub("c/a", 0)]));
    assert_eq!(client.take_bytes(), [0x90, 4, 0, 1, 0, 0]);
    client.send(publish(V5, "c/a", "x").bytes());
    assert_eq!(client.take_bytes(), [0x30, 7, 0, 3, b'c', b'/', b'a', 0, b'x']);
    client.send(unsubscribe(V5, 1, &["c/a"]));
    assert_eq!(client.take_bytes(), [0xB0, 4, 0, 1, 0, 0]);
}

/// [MQTT5-2.2.2-1]
#[test]
fn packet_without_its_property_length_closes() {
    for bytes in [packet(0x30, &prefixed("c/a")), packet(0x82, &[0, 1]), packet(0xA2, &[0, 1])] {
        let client = VirtualBroker::new().client(V5, "a");
        client.send(bytes);
        client.expect_closed_with_any(&[0x81, 0x82]);
    }
}

/// [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
#[test]
fn mutated_packets_never_panic_and_never_disturb_another_connection() {
    in_both(|broker, version| {
        let good = broker.client(version, "good");
        let seeds = [
            connect(version, "a").will(will("c/w", "x").qos(1)).username("u").bytes(),
            publish(version, "c/a", "payload").qos2(1).bytes(),
            subscribe(version, 1, &[sub("c/+/#", 1), sub("$share/g/c/a", 2)]),
            unsubscribe(version, 1, &["c/+/#", "$share/g/c/a"]),
            pubrel(1),
            pingreq(),
        ];
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize
        };
        for round in 0..3_000 {
            let client = broker.open(version);
            if round % 4 != 0 {
                client.send(connect(version, "mutant").bytes());
            }
            for _ in 0..4 {
                let mut bytes = seeds[next() % seeds.len()].clone();
                for _ in 0..next() % 4 {
                    let place = next() % bytes.len();
                    match next() % 3 {
                        0 => bytes[place] = next() as u8,
                        1 => bytes.insert(place, next() as u8),
                        _ => bytes.truncate(place.max(1)),
                    }
                }
                client.send(&bytes);
            }
            if !client.is_closed() {
                client.drop_connection();
            }
            if round % 100 == 0 {
                good.expect_alive();
            }
        }
    });
}
