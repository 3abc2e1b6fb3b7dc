//! Section 2.2.2: which property may be where, how often, and with which value.

use signet_tests::prelude::*;

/// Every property with a legal value.
fn every_property() -> Vec<(u8, Props)> {
    let p = Props::new;
    vec![
        (id::PAYLOAD_FORMAT, p().u8(id::PAYLOAD_FORMAT, 1)),
        (id::MESSAGE_EXPIRY, p().u32(id::MESSAGE_EXPIRY, 10)),
        (id::CONTENT_TYPE, p().text(id::CONTENT_TYPE, "t")),
        (id::RESPONSE_TOPIC, p().text(id::RESPONSE_TOPIC, "c/r")),
        (id::CORRELATION_DATA, p().text(id::CORRELATION_DATA, "d")),
        (id::SUBSCRIPTION_ID, p().varint(id::SUBSCRIPTION_ID, 1)),
        (id::SESSION_EXPIRY, p().u32(id::SESSION_EXPIRY, 10)),
        (id::ASSIGNED_CLIENT_ID, p().text(id::ASSIGNED_CLIENT_ID, "c")),
        (id::SERVER_KEEP_ALIVE, p().u16(id::SERVER_KEEP_ALIVE, 10)),
        (id::AUTH_METHOD, p().text(id::AUTH_METHOD, "m")),
        (id::AUTH_DATA, p().text(id::AUTH_DATA, "d")),
        (id::REQUEST_PROBLEM_INFO, p().u8(id::REQUEST_PROBLEM_INFO, 1)),
        (id::WILL_DELAY, p().u32(id::WILL_DELAY, 1)),
        (id::REQUEST_RESPONSE_INFO, p().u8(id::REQUEST_RESPONSE_INFO, 1)),
        (id::RESPONSE_INFORMATION, p().text(id::RESPONSE_INFORMATION, "i")),
        (id::SERVER_REFERENCE, p().text(id::SERVER_REFERENCE, "s")),
        (id::REASON_STRING, p().text(id::REASON_STRING, "r")),
        (id::RECEIVE_MAXIMUM, p().u16(id::RECEIVE_MAXIMUM, 10)),
        (id::TOPIC_ALIAS_MAXIMUM, p().u16(id::TOPIC_ALIAS_MAXIMUM, 10)),
        (id::TOPIC_ALIAS, p().u16(id::TOPIC_ALIAS, 1)),
        (id::MAXIMUM_QOS, p().u8(id::MAXIMUM_QOS, 1)),
        (id::RETAIN_AVAILABLE, p().u8(id::RETAIN_AVAILABLE, 1)),
        (id::USER_PROPERTY, p().user("n", "v")),
        (id::MAXIMUM_PACKET_SIZE, p().u32(id::MAXIMUM_PACKET_SIZE, 10_000)),
        (id::WILDCARD_AVAILABLE, p().u8(id::WILDCARD_AVAILABLE, 1)),
        (id::SUBSCRIPTION_IDS_AVAILABLE, p().u8(id::SUBSCRIPTION_IDS_AVAILABLE, 1)),
        (id::SHARED_AVAILABLE, p().u8(id::SHARED_AVAILABLE, 1)),
        (0x00, p().raw(0x00, &[0])),
        (0x04, p().raw(0x04, &[0])),
        (0x2B, p().raw(0x2B, &[0])),
        (0x7F, p().raw(0x7F, &[0])),
    ]
}

/// A packet with a property block: its name, the properties it may carry, and the packet around a block.
type Place = (&'static str, &'static [u8], fn(&[u8]) -> Vec<u8>);

const ACK: &[u8] = &[id::REASON_STRING, id::USER_PROPERTY];

/// The packets of a connected client.
const PLACES: [Place; 8] = [
    (
        "PUBLISH",
        &[
            id::PAYLOAD_FORMAT,
            id::MESSAGE_EXPIRY,
            id::CONTENT_TYPE,
            id::RESPONSE_TOPIC,
            id::CORRELATION_DATA,
            id::TOPIC_ALIAS,
            id::USER_PROPERTY,
        ],
        |block| packet(0x30, &join(&[&prefixed("c/a"), block, b"x"])),
    ),
    ("PUBACK", ACK, |block| packet(0x40, &join(&[&[0, 1, 0], block]))),
    ("PUBREC", ACK, |block| packet(0x50, &join(&[&[0, 1, 0x80], block]))),
    ("PUBREL", ACK, |block| packet(0x62, &join(&[&[0, 1, 0], block]))),
    ("PUBCOMP", ACK, |block| packet(0x70, &join(&[&[0, 1, 0], block]))),
    ("SUBSCRIBE", &[id::SUBSCRIPTION_ID, id::USER_PROPERTY], |block| {
        packet(0x82, &join(&[&[0, 1], block, &prefixed("c/a"), &[0]]))
    }),
    ("UNSUBSCRIBE", &[id::USER_PROPERTY], |block| packet(0xA2, &join(&[&[0, 1], block, &prefixed("c/a")]))),
    ("DISCONNECT", &[id::REASON_STRING, id::USER_PROPERTY], |block| packet(0xE0, &join(&[&[0x00], block]))),
];

const IN_CONNECT: &[u8] = &[
    id::SESSION_EXPIRY,
    id::REQUEST_PROBLEM_INFO,
    id::REQUEST_RESPONSE_INFO,
    id::RECEIVE_MAXIMUM,
    id::TOPIC_ALIAS_MAXIMUM,
    id::MAXIMUM_PACKET_SIZE,
    id::USER_PROPERTY,
];
const IN_WILL: &[u8] = &[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::WILL_DELAY,
    id::USER_PROPERTY,
];

/// [MQTT5-4.13.1-1]
#[test]
fn property_that_a_packet_may_not_carry_closes() {
    for (name, allowed, around) in PLACES {
        for (property, props) in every_property() {
            // A session expiry in DISCONNECT is judged by that of CONNECT: see `session`.
            if name == "DISCONNECT" && property == id::SESSION_EXPIRY {
                continue;
            }
            let client = VirtualBroker::new().client(V5, "a");
            client.send(around(&props.block()));
            if allowed.contains(&property) {
                let last = client.take_bytes().first().copied();
                assert!(name == "DISCONNECT" || !client.is_closed(), "{name} may carry {property:#04x}");
                assert_ne!(last, Some(0xE0), "{name} may carry {property:#04x}");
            } else {
                client.expect_closed_with_any(&[0x81, 0x82]);
            }
        }
    }
}

/// [MQTT5-4.13.1-1]
#[test]
fn property_that_may_not_be_repeated_closes_when_it_is() {
    for (_, allowed, around) in PLACES {
        for (property, props) in every_property() {
            if !allowed.contains(&property) {
                continue;
            }
            let single = props.block();
            let twice = join(&[&[(single.len() as u8 - 1) * 2], &single[1..], &single[1..]]);
            let client = VirtualBroker::new().client(V5, "a");
            client.send(around(&twice));
            if property == id::USER_PROPERTY {
                assert_ne!(client.take_bytes().first(), Some(&0xE0), "user properties may be repeated");
            } else {
                client.expect_closed_with_any(&[0x81, 0x82]);
            }
        }
    }
}

/// [MQTT5-3.1.4-1] [MQTT5-4.13.1-1]
#[test]
fn connect_is_accepted_with_its_own_properties_once_each_and_no_others() {
    for (property, props) in every_property() {
        if property == id::AUTH_METHOD {
            continue;
        }
        let block = props.block();
        let once = block[1..].to_vec();
        let twice = join(&[&once, &once]);
        for (bytes, repeated) in [(once, false), (twice, true)] {
            let client = VirtualBroker::new().open(V5);
            client.send(connect(V5, "a").with(|p| p.raw(bytes[0], &bytes[1..])).bytes());
            let repeatable = property == id::USER_PROPERTY;
            if IN_CONNECT.contains(&property) && (!repeated || repeatable) {
                let _ = client.expect_accepted();
            } else {
                client.expect_not_accepted();
            }
        }
    }
}

/// [MQTT5-3.1.4-1] [MQTT5-4.13.1-1]
#[test]
fn will_is_accepted_with_its_own_properties_once_each_and_no_others() {
    for (property, props) in every_property() {
        let block = props.block();
        let once = block[1..].to_vec();
        let twice = join(&[&once, &once]);
        for (bytes, repeated) in [(once, false), (twice, true)] {
            let with = will("c/w", "x").props(Props::new().raw(bytes[0], &bytes[1..]));
            let client = VirtualBroker::new().open(V5);
            client.send(connect(V5, "a").will(with).bytes());
            let repeatable = property == id::USER_PROPERTY;
            if IN_WILL.contains(&property) && (!repeated || repeatable) {
                let _ = client.expect_accepted();
            } else {
                client.expect_not_accepted();
            }
        }
    }
}

/// [MQTT5-3.1.4-1]
#[test]
fn values_out_of_range_in_connect_are_not_accepted() {
    let out_of_range = [
        Props::new().u8(id::REQUEST_PROBLEM_INFO, 2),
        Props::new().u8(id::REQUEST_RESPONSE_INFO, 2),
        Props::new().u16(id::RECEIVE_MAXIMUM, 0),
        Props::new().u32(id::MAXIMUM_PACKET_SIZE, 0),
    ];
    for props in out_of_range {
        let client = VirtualBroker::new().open(V5);
        client.send(connect(V5, "a").with(|_| props).bytes());
        client.expect_not_accepted();
    }
    let client = VirtualBroker::new().open(V5);
    let with = will("c/w", "x").props(Props::new().u8(id::PAYLOAD_FORMAT, 2));
    client.send(connect(V5, "a").will(with).bytes());
    client.expect_not_accepted();
}

/// [MQTT5-4.13.1-1]
#[test]
fn values_out_of_range_behind_connect_close() {
    let cases = [
        publish(V5, "c/a", "x").with(|p| p.u8(id::PAYLOAD_FORMAT, 2)).bytes(),
        subscribe_with(V5, 1, &Props::new().varint(id::SUBSCRIPTION_ID, 0), &[sub("c/a", 0)]),
    ];
    for bytes in cases {
        let client = VirtualBroker::new().client(V5, "a");
        client.send(bytes);
        client.expect_closed_with_any(&[0x81, 0x82]);
    }
}

/// [MQTT5-4.13.1-1]
#[test]
fn property_that_reaches_over_its_block_closes() {
    for (_, allowed, around) in PLACES {
        for (property, props) in every_property() {
            if !allowed.contains(&property) {
                continue;
            }
            let block = props.block();
            let mut shorter = block.clone();
            shorter[0] -= 1;
            let beyond_the_packet = join(&[&[0x7F], &block[1..]]);
            for bad in [shorter, beyond_the_packet] {
                let client = VirtualBroker::new().client(V5, "a");
                client.send(around(&bad));
                client.expect_closed_with_any(&[0x81, 0x82]);
            }
        }
    }
}
