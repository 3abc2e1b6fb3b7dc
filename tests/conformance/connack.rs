//! Section 3.2: CONNACK.

use signet_tests::prelude::*;

/// [MQTT3-3.1.4-4] [MQTT3-3.2.0-1] [MQTT3-3.2.2-1] [MQTT5-3.1.4-5] [MQTT5-3.2.0-1] [MQTT5-3.2.2-1] [MQTT5-3.2.2-2]
#[test]
fn clean_connect_is_accepted_with_session_present_0() {
    in_both(|broker, version| {
        let client = broker.persistent(version, "a");
        client.drop_connection();
        let (_, accepted) = broker.connected(&connect(version, "a").clean(true), version);
        assert!(!accepted.session_present, "a clean session is never present");
    });
}

/// [MQTT3-3.2.0-1] [MQTT3-3.2.2-1]
#[test]
fn connack_of_3_1_1_is_four_bytes() {
    let client = VirtualBroker::new().open(V311);
    client.send(connect(V311, "a").bytes());
    assert_eq!(client.take_bytes(), [0x20, 2, 0, 0]);
}

/// [MQTT3-3.2.2-2] [MQTT3-3.2.2-3] [MQTT5-3.2.2-3] [MQTT5-3.1.2-6]
#[test]
fn session_present_tells_whether_a_session_was_stored() {
    in_both(|broker, version| {
        let (first, accepted) = broker.connected(&connect(version, "a").persistent(), version);
        assert!(!accepted.session_present, "no session yet");
        first.disconnect();
        let (second, accepted) = broker.connected(&connect(version, "a").persistent(), version);
        assert!(accepted.session_present, "the session was stored");
        second.disconnect();
        let (_, accepted) = broker.connected(&connect(version, "b").persistent(), version);
        assert!(!accepted.session_present, "another client's session is not meant");
    });
}

/// [MQTT5-3.2.0-2]
#[test]
fn connack_is_sent_once() {
    in_both(|broker, version| {
        let (client, _) = broker.connected(&connect(version, "a").keep_alive(1000), version);
        broker.advance_secs(600);
        client.expect_alive();
    });
}

/// [MQTT3-3.2.2-4] [MQTT3-3.2.2-5] [MQTT5-3.2.2-6] [MQTT5-3.2.2-7] [MQTT5-3.2.2-8] [MQTT5-4.13.2-1]
#[test]
fn refusal_has_session_present_0_even_where_a_session_is_stored() {
    let broker = VirtualBroker::new();
    let client = broker.persistent(V5, "a");
    client.drop_connection();
    let refused = broker.open(V5);
    refused.send(connect(V5, "a").clean(false).with(|p| p.text(id::AUTH_METHOD, "SCRAM-SHA-1")).bytes());
    refused.expect_refused(0x8C);
    let old = connect(V311, "a").clean(false);
    let refused = broker.open(V311);
    refused.send(old.bytes_as(b"MQTT", 3, old.flags(), &old.payload()));
    refused.expect_refused(1);
}

/// [MQTT5-3.2.2-17] [MQTT5-3.2.2-15]
#[test]
fn connack_announces_the_limits_that_are_enforced() {
    let broker = VirtualBroker::with_limits(|limits| {
        limits.receive_max = 7.try_into().expect("not 0");
        limits.packet_bytes_max = 1000.try_into().expect("not 0");
        limits.topic_alias_in_max = 3;
    });
    let (_, accepted) = broker.connected(&connect(V5, "a"), V5);
    assert_eq!(accepted.props.number(id::RECEIVE_MAXIMUM), Some(7));
    assert_eq!(accepted.props.number(id::MAXIMUM_PACKET_SIZE), Some(1000));
    assert_eq!(accepted.props.number(id::TOPIC_ALIAS_MAXIMUM), Some(3));
    for all_available in [id::MAXIMUM_QOS, id::RETAIN_AVAILABLE, id::WILDCARD_AVAILABLE, id::SHARED_AVAILABLE]
    {
        assert!(accepted.props.number(all_available).is_none_or(|v| v == 1), "everything is available");
    }
}

/// [MQTT5-3.1.2-28]
#[test]
fn no_response_information_unless_requested() {
    let broker = VirtualBroker::new();
    for request in [None, Some(0)] {
        let asked = match request {
            None => connect(V5, "a"),
            Some(value) => connect(V5, "a").with(|p| p.u8(id::REQUEST_RESPONSE_INFO, value)),
        };
        let (_, accepted) = broker.connected(&asked, V5);
        assert!(!accepted.props.has(id::RESPONSE_INFORMATION));
    }
}

/// [MQTT5-3.1.2-24]
#[test]
fn connack_larger_than_the_client_takes_is_not_sent() {
    let (_, accepted) = VirtualBroker::new().connected(&connect(V5, ""), V5);
    assert!(accepted.props.has(id::ASSIGNED_CLIENT_ID));
    for size in [1, 4, 5] {
        let client = VirtualBroker::new().open(V5);
        client.send(connect(V5, "").maximum_packet_size(size).bytes());
        let sent = client.take_bytes();
        assert!(sent.len() <= size as usize, "{} bytes to a client that takes {size}", sent.len());
        assert!(client.is_closed());
    }
}

/// [MQTT5-4.1.0-2]
#[test]
fn session_expiry_above_the_limit_is_cut_and_returned() {
    let broker = VirtualBroker::with_limits(|limits| limits.session_expiry_secs_max = 100);
    let (_, accepted) = broker.connected(&connect(V5, "a").expiry(u32::MAX), V5);
    assert_eq!(accepted.props.number(id::SESSION_EXPIRY), Some(100));
    let (_, accepted) = broker.connected(&connect(V5, "b").expiry(50), V5);
    assert!(accepted.props.number(id::SESSION_EXPIRY).is_none_or(|secs| secs == 50));
}

/// [MQTT5-3.2.2-19]
#[test]
fn reason_string_is_left_out_of_a_connack_that_has_no_room_for_it() {
    let refused = connect(V5, "a").with(|p| p.text(id::AUTH_METHOD, "m"));
    let client = VirtualBroker::new().open(V5);
    client.send(refused.clone().maximum_packet_size(5).bytes());
    client.expect_refused(0x8C);
    let client = VirtualBroker::new().open(V5);
    client.send(refused.maximum_packet_size(4).bytes());
    client.expect_closed();
}
