//! Section 1.5: strings, wherever they occur.

use signet_tests::prelude::*;

/// Byte sequences that are no UTF-8: surrogates, above U+10FFFF, overlong, truncated, a lone continuation byte.
const ILL_FORMED: [&[u8]; 7] = [
    &[0xED, 0xA0, 0x80],
    &[0xED, 0xBF, 0xBF],
    &[0xF4, 0x90, 0x80, 0x80],
    &[0xC0, 0x80],
    &[0xE2, 0x82],
    &[0x80],
    &[0xFF],
];

/// Every packet with a string from a connected client, with `text` put into it.
fn packets_with(version: Version, text: &[u8]) -> Vec<Vec<u8>> {
    let topic = join(&[b"c/", text]);
    let mut all = vec![
        publish(version, &topic, "x").bytes(),
        subscribe(version, 1, &[sub(&topic, 0)]),
        subscribe(version, 1, &[sub("c/a", 0), sub(&topic, 0)]),
        packet(0xA2, &join(&[&unsubscribe(version, 1, &[])[2..], &prefixed(&topic)])),
    ];
    if version == V5 {
        let reason = Props::new().text(id::REASON_STRING, text);
        all.extend([
            publish(V5, "c/a", "x").with(|p| p.user(text, "v")).bytes(),
            publish(V5, "c/a", "x").with(|p| p.user("n", text)).bytes(),
            publish(V5, "c/a", "x").with(|p| p.text(id::CONTENT_TYPE, text)).bytes(),
            publish(V5, "c/a", "x").with(|p| p.text(id::RESPONSE_TOPIC, &topic)).bytes(),
            subscribe_with(V5, 1, &Props::new().user(text, "v"), &[sub("c/a", 0)]),
            packet(0x40, &join(&[&[0, 1, 0], &reason.block()])),
            packet(0x50, &join(&[&[0, 1, 0], &reason.block()])),
            packet(0x62, &join(&[&[0, 1, 0], &reason.block()])),
            packet(0x70, &join(&[&[0, 1, 0], &reason.block()])),
            disconnect_with(0x00, &reason),
            auth(0x18, &Props::new().text(id::AUTH_METHOD, text)),
        ]);
    }
    all
}

/// Every CONNECT with a string, with `text` put into it.
fn connects_with(version: Version, text: &[u8]) -> Vec<Connect> {
    let topic = join(&[b"c/", text]);
    let mut all = vec![
        connect(version, text),
        connect(version, "a").will(will(&topic, "x")),
        connect(version, "a").username(text),
    ];
    if version == V5 {
        all.extend([
            connect(V5, "a").with(|p| p.user(text, "v")),
            connect(V5, "a").with(|p| p.user("n", text)),
            connect(V5, "a").with(|p| p.text(id::AUTH_METHOD, text)),
            connect(V5, "a").will(will("c/a", "x").props(Props::new().text(id::CONTENT_TYPE, text))),
            connect(V5, "a").will(will("c/a", "x").props(Props::new().text(id::RESPONSE_TOPIC, &topic))),
            connect(V5, "a").will(will("c/a", "x").props(Props::new().user("n", text))),
        ]);
    }
    all
}

/// [MQTT3-1.5.3-1] [MQTT3-3.3.2-1] [MQTT3-3.8.3-1] [MQTT3-3.10.3-1] [MQTT5-1.5.4-1] [MQTT5-1.5.7-1] [MQTT5-3.3.2-1]
/// [MQTT5-3.3.2-13] [MQTT5-3.3.2-19] [MQTT5-3.8.3-1] [MQTT5-3.10.3-1]
#[test]
fn ill_formed_utf8_in_any_string_closes() {
    for text in ILL_FORMED {
        for version in BOTH {
            for bytes in packets_with(version, text) {
                let client = VirtualBroker::new().client(version, "a");
                client.send(bytes);
                client.expect_closed_with(0x81);
            }
        }
    }
}

/// [MQTT3-1.5.3-2] [MQTT3-4.7.3-2] [MQTT5-1.5.4-2] [MQTT5-1.5.7-1] [MQTT5-4.7.3-2]
#[test]
fn null_character_in_any_string_closes() {
    for text in [&b"\0"[..], b"a\0b"] {
        for version in BOTH {
            for bytes in packets_with(version, text) {
                let client = VirtualBroker::new().client(version, "a");
                client.send(bytes);
                client.expect_closed_with(0x81);
            }
        }
    }
}

/// [MQTT3-1.5.3-1] [MQTT3-3.1.3-4] [MQTT3-3.1.3-10] [MQTT3-3.1.3-11] [MQTT5-1.5.4-1] [MQTT5-3.1.3-4]
/// [MQTT5-3.1.3-11] [MQTT5-3.1.3-12]
#[test]
fn ill_formed_utf8_in_connect_closes_without_acceptance() {
    for text in ILL_FORMED {
        for version in BOTH {
            for connect in connects_with(version, text) {
                let client = VirtualBroker::new().open(version);
                client.send(connect.bytes());
                client.expect_not_accepted();
            }
        }
    }
}

/// [MQTT3-1.5.3-2] [MQTT5-1.5.4-2]
#[test]
fn null_character_in_connect_closes_without_acceptance() {
    for version in BOTH {
        for connect in connects_with(version, b"a\0b") {
            let client = VirtualBroker::new().open(version);
            client.send(connect.bytes());
            client.expect_not_accepted();
        }
    }
}

/// [MQTT3-1.5.3-3] [MQTT5-1.5.4-3]
#[test]
fn byte_order_mark_is_a_character_and_is_kept() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.subscribe("c/\u{feff}x", 0);
        client.send(publish(version, "c/x", "without").bytes());
        client.expect_nothing();
        client.send(publish(version, "c/\u{feff}x", "with").bytes());
        let _ = client.expect_publish("c/\u{feff}x", "with");
    });
}

/// [MQTT3-1.5.3-3] [MQTT5-1.5.4-3]
#[test]
fn client_identifiers_that_differ_by_a_byte_order_mark_are_two() {
    in_both(|broker, version| {
        let plain = broker.client(version, "x");
        let _marked = broker.client(version, "\u{feff}x");
        plain.expect_alive();
    });
}

/// [MQTT3-1.5.3-1] [MQTT5-1.5.4-1]
#[test]
fn every_length_of_utf8_sequence_is_accepted() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        for text in ["c/a", "c/\u{e9}", "c/\u{20ac}", "c/\u{10fffd}", "c/\u{d7ff}\u{e000}"] {
            client.subscribe(text, 0);
            client.send(publish(version, text, "x").bytes());
            let _ = client.expect_publish(text, "x");
        }
    });
}
