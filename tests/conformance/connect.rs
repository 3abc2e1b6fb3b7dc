//! Section 3.1: CONNECT.

use signet_core::{ClientIdRule, ListenerRules};
use signet_tests::prelude::*;

/// [MQTT3-3.1.0-1] [MQTT5-3.1.0-1] [MQTT5-3.14.0-1]
#[test]
fn first_packet_other_than_connect_closes_without_a_word() {
    in_both(|broker, version| {
        let cases = [
            pingreq(),
            publish(version, "c/a", "x").bytes(),
            subscribe(version, 1, &[sub("c/a", 0)]),
            unsubscribe(version, 1, &["c/a"]),
            puback(1),
            disconnect(),
            packet(0x20, &[0, 0]),
            auth(0x18, &Props::new().text(id::AUTH_METHOD, "m")),
            packet(0x00, &[]),
            b"GET / HTTP/1.1\r\nHost: broker.example\r\nUser-Agent: somebody who is lost\r\n\r\n".to_vec(),
        ];
        for bytes in cases {
            let client = broker.open(version);
            client.send(bytes);
            client.expect_closed();
        }
    });
}

/// [MQTT3-3.1.0-2] [MQTT5-3.1.0-2] [MQTT5-3.2.0-2]
#[test]
fn second_connect_closes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(connect(version, "a").bytes());
        client.expect_closed_with(0x82);
        let other = broker.client(version, "b");
        other.send(connect(version, "c").bytes());
        other.expect_closed_with(0x82);
    });
}

/// [MQTT3-3.1.2-1] [MQTT5-3.1.2-1]
#[test]
fn other_protocol_names_are_not_accepted() {
    in_both(|broker, version| {
        let level = if version == V5 { 5 } else { 4 };
        for name in [&b"MQTX"[..], b"mqtt", b"MQT", b"MQTTT", b"", b"MQIsdp"] {
            let connect = connect(version, "a");
            let client = broker.open(version);
            client.send(connect.bytes_as(name, level, connect.flags(), &connect.payload()));
            assert!(client.is_closed(), "{name:?}");
            let answer = client.take_bytes();
            assert!(answer.is_empty() || refuses_the_version(&answer), "{name:?}: {answer:02x?}");
        }
    });
}

/// 3.1.1's "unacceptable protocol version" or 5.0's "unsupported protocol version", and nothing behind it.
fn refuses_the_version(answer: &[u8]) -> bool {
    match answer {
        [0x20, 2, 0, 1] => true,
        [0x20, length, 0, 0x84, rest @ ..] => rest.len() + 2 == usize::from(*length),
        _ => false,
    }
}

/// [MQTT3-3.1.2-2] [MQTT3-3.2.2-4] [MQTT3-3.2.2-5]
#[test]
fn unsupported_level_is_answered_with_return_code_1() {
    // Bridges set the top bit and try again without it when they are refused.
    for level in [3, 0x83, 0x84] {
        let connect = connect(V311, "a");
        let client = VirtualBroker::new().open(V311);
        client.send(connect.bytes_as(b"MQTT", level, connect.flags(), &connect.payload()));
        client.expect_refused(1);
    }
}

/// [MQTT3-3.1.2-2] [MQTT5-3.1.2-2] [MQTT5-3.2.2-7]
#[test]
fn level_of_no_known_version_is_refused_as_one_of_the_versions_does() {
    for level in [0, 1, 2, 6, 7, 99, 0x85, 255] {
        for version in BOTH {
            let connect = connect(version, "a");
            let client = VirtualBroker::new().open(version);
            client.send(connect.bytes_as(b"MQTT", level, connect.flags(), &connect.payload()));
            assert!(client.is_closed());
            let answer = client.take_bytes();
            assert!(refuses_the_version(&answer), "level {level}: {answer:02x?}");
        }
    }
}

/// [MQTT3-3.1.2-2]
#[test]
fn mqtt_3_1_is_told_that_its_version_is_unacceptable() {
    let connect = connect(V311, "a");
    let client = VirtualBroker::new().open(V311);
    client.send(connect.bytes_as(b"MQIsdp", 3, connect.flags(), &connect.payload()));
    client.expect_refused(1);
}

/// [MQTT3-3.1.2-3] [MQTT3-3.1.4-1] [MQTT5-3.1.2-3] [MQTT5-3.1.4-1]
#[test]
fn reserved_connect_flag_is_not_accepted() {
    in_both(|broker, version| {
        let connect = connect(version, "a");
        let level = if version == V5 { 5 } else { 4 };
        let client = broker.open(version);
        client.send(connect.bytes_as(b"MQTT", level, connect.flags() | 1, &connect.payload()));
        client.expect_not_accepted();
    });
}

/// Sends a CONNECT with these flags and this payload, which must not be accepted.
fn expect_malformed(version: Version, flags: u8, payload: &[u8]) {
    let level = if version == V5 { 5 } else { 4 };
    let client = VirtualBroker::new().open(version);
    client.send(connect(version, "a").bytes_as(b"MQTT", level, flags, payload));
    client.expect_not_accepted();
}

/// [MQTT3-3.1.2-11] [MQTT3-3.1.2-13] [MQTT3-3.1.2-15] [MQTT5-3.1.2-11] [MQTT5-3.1.2-13]
#[test]
fn will_qos_or_retain_without_a_will_is_not_accepted() {
    for flags in [0x08, 0x10, 0x18, 0x20] {
        for version in BOTH {
            expect_malformed(version, 0x02 | flags, &prefixed("a"));
        }
    }
}

/// [MQTT3-3.1.2-14] [MQTT5-3.1.2-12]
#[test]
fn will_qos_3_is_not_accepted() {
    for version in BOTH {
        let connect = connect(version, "a").will(will("c/w", "x").qos(3));
        expect_malformed(version, connect.flags(), &connect.payload());
    }
}

/// [MQTT3-3.1.2-14] [MQTT5-3.1.2-12]
#[test]
fn will_qos_0_1_and_2_are_accepted() {
    in_both(|broker, version| {
        for qos in 0..3 {
            let _ = broker.connected(&connect(version, "a").will(will("c/w", "x").qos(qos)), version);
        }
    });
}

/// [MQTT3-3.1.2-9] [MQTT5-3.1.2-9]
#[test]
fn will_flag_without_the_will_in_the_payload_is_not_accepted() {
    for version in BOTH {
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        expect_malformed(version, 0x06, &prefixed("a"));
        expect_malformed(version, 0x06, &join(&[&prefixed("a"), properties, &prefixed("c/w")]));
        expect_malformed(
            version,
            0x06,
            &join(&[&prefixed("a"), properties, &prefixed("c/w"), &[0, 9, b'x']]),
        );
    }
}

/// [MQTT3-3.1.2-11] [MQTT3-3.1.2-18] [MQTT3-3.1.2-20] [MQTT5-3.1.2-16] [MQTT5-3.1.2-18]
#[test]
fn payload_fields_without_their_flag_are_not_accepted() {
    for version in BOTH {
        // One surplus field is a user name without its flag, a password without its flag, or a will topic.
        expect_malformed(version, 0x02, &join(&[&prefixed("a"), &prefixed("user")]));
        expect_malformed(version, 0x82, &join(&[&prefixed("a"), &prefixed("user"), &prefixed("password")]));
        expect_malformed(version, 0x02, &join(&[&prefixed("a"), &prefixed("c/w"), &prefixed("x")]));
        expect_malformed(version, 0x02, &join(&[&prefixed("a"), &[0]]));
    }
}

/// [MQTT3-3.1.2-19] [MQTT3-3.1.2-21] [MQTT5-3.1.2-17] [MQTT5-3.1.2-19]
#[test]
fn flags_without_their_payload_fields_are_not_accepted() {
    for version in BOTH {
        expect_malformed(version, 0x82, &prefixed("a"));
        expect_malformed(version, 0xC2, &prefixed("a"));
        expect_malformed(version, 0xC2, &join(&[&prefixed("a"), &prefixed("user")]));
        expect_malformed(version, 0xC2, &join(&[&prefixed("a"), &prefixed("user"), &[0, 9, b'p']]));
    }
}

/// [MQTT3-3.1.2-22]
#[test]
fn password_without_user_name_is_refused_in_3_1_1() {
    let connect = connect(V311, "a").password("secret");
    expect_malformed(V311, connect.flags(), &connect.payload());
}

/// [MQTT5-3.1.2-19]
#[test]
fn password_without_user_name_is_accepted_in_5_0() {
    let _ = VirtualBroker::new().connected(&connect(V5, "a").password([0, 1, 255]), V5);
}

/// [MQTT3-3.1.2-19] [MQTT3-3.1.2-21] [MQTT5-3.1.2-17]
#[test]
fn user_name_and_password_are_read_and_mean_nothing() {
    in_both(|broker, version| {
        let connect = connect(version, "a").username("?SDK=Python&Version=1.2.3").password("anything");
        let (client, _) = broker.connected(&connect, version);
        client.expect_alive();
    });
}

/// [MQTT3-3.1.3-3] [MQTT5-3.1.3-3]
#[test]
fn missing_client_identifier_is_not_accepted() {
    for version in BOTH {
        expect_malformed(version, 0x02, &[]);
        expect_malformed(version, 0x02, &[0]);
        expect_malformed(version, 0x02, &[0, 2, b'a']);
    }
}

/// [MQTT3-3.1.3-1] [MQTT5-3.1.3-1]
#[test]
fn payload_fields_are_taken_in_their_order() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/#", 0);
        let connect = connect(version, "a").will(will("c/will", "gone")).username("c/user").password("pw");
        let (client, _) = broker.connected(&connect, version);
        client.drop_connection();
        let _ = watcher.expect_publish("c/will", "gone");
        watcher.expect_nothing();
    });
}

/// [MQTT3-3.1.3-5] [MQTT5-3.1.3-5]
#[test]
fn client_identifiers_of_1_to_23_letters_and_digits_are_accepted() {
    in_both(|broker, version| {
        let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for start in 0..all.len() - 22 {
            let _ = broker.client(version, &all[start..start + 23]);
        }
        for length in 1..=23 {
            let _ = broker.client(version, &all[..length]);
        }
    });
}

/// [MQTT3-3.1.3-6]
#[test]
fn empty_client_identifiers_with_clean_session_are_distinct_clients_in_3_1_1() {
    let broker = VirtualBroker::new();
    let one = broker.client(V311, "");
    let two = broker.client(V311, "");
    one.expect_alive();
    two.expect_alive();
}

/// [MQTT3-3.1.3-8] [MQTT3-3.1.3-9] [MQTT3-3.2.2-4] [MQTT3-3.2.2-5]
#[test]
fn empty_client_identifier_without_clean_session_is_refused_in_3_1_1() {
    let client = VirtualBroker::new().open(V311);
    client.send(connect(V311, "").clean(false).bytes());
    client.expect_refused(2);
}

/// [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] [MQTT5-3.2.2-16]
#[test]
fn empty_client_identifier_gets_one_that_is_returned_and_unique_in_5_0() {
    let broker = VirtualBroker::new();
    let mut seen = std::collections::HashSet::new();
    for clean in [true, false] {
        for _ in 0..20 {
            let (_, accepted) = broker.connected(&connect(V5, "").clean(clean), V5);
            let assigned =
                accepted.props.text(id::ASSIGNED_CLIENT_ID).expect("an assigned identifier").to_owned();
            assert!(!assigned.is_empty() && !accepted.session_present);
            assert!(seen.insert(assigned), "every client has an identifier of its own");
        }
    }
}

/// [MQTT5-3.1.3-7]
#[test]
fn assigned_client_identifier_resumes_its_session() {
    let broker = VirtualBroker::new();
    let (client, accepted) = broker.connected(&connect(V5, "").expiry(100), V5);
    let assigned = accepted.props.text(id::ASSIGNED_CLIENT_ID).expect("an assigned identifier").to_owned();
    client.drop_connection();
    let (_, again) = broker.connected(&connect(V5, &assigned).clean(false), V5);
    assert!(again.session_present);
    assert!(
        !again.props.has(id::ASSIGNED_CLIENT_ID),
        "nothing is assigned to a client that has an identifier"
    );
}

/// [MQTT3-3.1.3-9] [MQTT3-3.2.2-4] [MQTT3-3.2.2-5] [MQTT5-3.1.3-8] [MQTT5-3.1.4-2] [MQTT5-3.2.2-6] [MQTT5-3.2.2-7]
#[test]
fn client_identifier_that_the_listener_does_not_allow_is_refused() {
    in_both(|broker, version| {
        let rules = || ListenerRules { client_id_rule: ClientIdRule::Identity, ..ListenerRules::default() };
        let stranger = broker.open_with(device("dev"), rules(), version);
        stranger.send(connect(version, "other").bytes());
        stranger.expect_refused(if version == V5 { 0x85 } else { 2 });
        let owner = broker.open_with(device("dev"), rules(), version);
        owner.send(connect(version, "dev").bytes());
        let _ = owner.expect_accepted();
    });
}

/// [MQTT3-3.1.4-5] [MQTT5-3.1.4-6]
#[test]
fn nothing_behind_a_rejected_connect_is_processed() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/#", 0);
        let message = publish(version, "c/a", "x").retain().bytes();
        let rejected = connect(version, "a").bytes_as(b"MQTT", 3, 2, &prefixed("a"));
        let malformed = connect(version, "a").will(will("c/w", "x").qos(3)).bytes();
        for connect in [rejected, malformed] {
            let client = broker.open(version);
            client.send(join(&[&connect, &message]));
            assert!(client.is_closed());
            watcher.expect_nothing();
        }
        let later = broker.client(version, "later");
        later.subscribe("c/#", 0);
        later.expect_nothing();
    });
}

/// [MQTT3-3.1.4-4] [MQTT3-3.2.0-1] [MQTT5-3.1.4-5] [MQTT5-3.2.0-1]
#[test]
fn packets_sent_behind_connect_are_answered_behind_connack() {
    in_both(|broker, version| {
        let client = broker.open(version);
        client.send(join(&[
            &connect(version, "a").bytes(),
            &publish(version, "c/a", "x").qos1(1).bytes(),
            &subscribe(version, 2, &[sub("c/a", 0)]),
            &pingreq(),
        ]));
        let _ = client.expect_accepted();
        client.expect_puback(1, 0);
        client.expect_suback(2, &[0]);
        assert_eq!(client.receive(), Received::PingResp);
        client.expect_nothing();
    });
}

/// [MQTT3-3.1.4-2] [MQTT5-3.1.4-3]
#[test]
fn second_connect_with_same_client_id_closes_the_first() {
    in_both(|broker, version| {
        for new_version in BOTH {
            let first = broker.client(version, "a");
            let second = broker.client(new_version, "a");
            first.expect_closed_with(0x8E);
            second.expect_alive();
        }
    });
}

/// [MQTT3-3.1.4-2] [MQTT5-3.1.4-3]
#[test]
fn same_client_id_of_another_identity_is_another_client() {
    in_both(|broker, version| {
        let first = broker.client(version, "a");
        let other = broker.open_as("other", version);
        other.send(connect(version, "a").persistent().bytes());
        assert!(!other.expect_accepted().session_present);
        first.expect_alive();
        other.expect_alive();
    });
}

/// [MQTT3-3.2.2-6] [MQTT5-3.14.0-1]
#[test]
fn silent_connection_is_closed_without_a_word() {
    in_both(|broker, version| {
        let silent = broker.open(version);
        let stalled = broker.open(version);
        let bytes = connect(version, "a").bytes();
        stalled.send(&bytes[..bytes.len() - 1]);
        broker.advance_secs(60);
        silent.expect_closed();
        stalled.expect_closed();
    });
}

/// [MQTT3-3.1.4-1] [MQTT5-3.1.4-1] [MQTT5-3.2.2-8]
#[test]
fn connect_with_surplus_or_missing_bytes_is_not_accepted() {
    in_both(|broker, version| {
        let whole = connect(version, "a").bytes();
        let body = &whole[2..];
        for length in 0..body.len() {
            let client = broker.open(version);
            client.send(packet(0x10, &body[..length]));
            client.expect_not_accepted();
        }
        let client = broker.open(version);
        client.send(packet(0x10, &join(&[body, &[0]])));
        client.expect_not_accepted();
    });
}
