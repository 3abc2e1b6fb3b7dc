//! Section 4.12: enhanced authentication, of which none is offered, since the certificate decides.

use signet_tests::prelude::*;

/// [MQTT5-4.12.0-1] [MQTT5-4.12.0-4] [MQTT5-3.2.2-7] [MQTT5-4.13.2-1]
#[test]
fn any_authentication_method_is_refused() {
    for method in ["SCRAM-SHA-1", "", "GS2-KRB5"] {
        let client = VirtualBroker::new().open(V5);
        client.send(
            connect(V5, "a").with(|p| p.text(id::AUTH_METHOD, method).text(id::AUTH_DATA, "x")).bytes(),
        );
        client.expect_refused(0x8C);
    }
}

/// [MQTT5-4.12.0-4]
#[test]
fn authentication_data_without_a_method_is_not_accepted() {
    let client = VirtualBroker::new().open(V5);
    client.send(connect(V5, "a").with(|p| p.text(id::AUTH_DATA, "x")).bytes());
    client.expect_not_accepted();
}

/// [MQTT5-4.12.0-6]
#[test]
fn without_a_method_the_server_speaks_of_none() {
    let broker = VirtualBroker::new();
    let (client, accepted) = broker.connected(&connect(V5, "a"), V5);
    assert!(!accepted.props.has(id::AUTH_METHOD) && !accepted.props.has(id::AUTH_DATA));
    client.expect_alive();
}

/// [MQTT5-4.12.0-7] [MQTT5-3.15.2-1]
#[test]
fn auth_without_a_method_in_connect_closes() {
    let cases = [
        auth(0x18, &Props::new().text(id::AUTH_METHOD, "m")),
        auth(0x19, &Props::new().text(id::AUTH_METHOD, "m")),
        auth(0x00, &Props::new()),
        packet(0xF0, &[]),
    ];
    for bytes in cases {
        let client = VirtualBroker::new().client(V5, "a");
        client.send(bytes);
        client.expect_closed_with_any(&[0x81, 0x82]);
    }
}

/// [MQTT5-3.15.2-1]
#[test]
fn auth_with_a_code_of_another_packet_closes() {
    for code in [0x01, 0x10, 0x80, 0x87, 0xFF] {
        let client = VirtualBroker::new().client(V5, "a");
        client.send(auth(code, &Props::new().text(id::AUTH_METHOD, "m")));
        client.expect_closed_with_any(&[0x81, 0x82]);
    }
}

/// [MQTT5-3.15.1-1]
#[test]
fn auth_with_reserved_flags_closes() {
    for flags in [1, 2, 4, 8, 15] {
        let client = VirtualBroker::new().client(V5, "a");
        let mut bytes = auth(0x18, &Props::new().text(id::AUTH_METHOD, "m"));
        bytes[0] |= flags;
        client.send(bytes);
        client.expect_closed_with(0x81);
    }
}

/// [MQTT5-4.12.0-6] [MQTT5-3.1.4-6]
#[test]
fn auth_behind_a_refused_method_is_not_answered() {
    let client = VirtualBroker::new().open(V5);
    let method = Props::new().text(id::AUTH_METHOD, "m");
    client.send(join(&[
        &connect(V5, "a").with(|p| p.text(id::AUTH_METHOD, "m")).bytes(),
        &auth(0x18, &method),
        &publish(V5, "c/a", "x").bytes(),
    ]));
    client.expect_refused(0x8C);
}
