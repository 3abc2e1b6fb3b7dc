//! Sections 3.4 to 3.7: the forms and reason codes of PUBACK, PUBREC, PUBREL and PUBCOMP in 5.0.

use signet_tests::prelude::*;

/// Codes that no acknowledgement of the kind may carry close the connection.
fn expect_codes_refused(first_byte: u8, forbidden: &[u8]) {
    for code in forbidden {
        let client = VirtualBroker::new().client(V5, "a");
        client.send(ack_with_code(first_byte, 1, *code));
        client.expect_closed_with_any(&[0x81, 0x82]);
    }
}

/// 0x10 is for the server alone.
///
/// [MQTT5-3.4.2-1]
#[test]
fn puback_with_a_code_of_another_packet_closes() {
    expect_codes_refused(0x40, &[0x01, 0x02, 0x10, 0x18, 0x81, 0x82, 0x8E, 0x92, 0xA2, 0xFF]);
}

/// [MQTT5-3.5.2-1]
#[test]
fn pubrec_with_a_code_of_another_packet_closes() {
    expect_codes_refused(0x50, &[0x01, 0x02, 0x10, 0x18, 0x81, 0x82, 0x8E, 0x92, 0xA2, 0xFF]);
}

/// [MQTT5-3.6.2-1]
#[test]
fn pubrel_with_a_code_of_another_packet_closes() {
    expect_codes_refused(0x62, &[0x01, 0x10, 0x80, 0x87, 0xFF]);
}

/// [MQTT5-3.7.2-1]
#[test]
fn pubcomp_with_a_code_of_another_packet_closes() {
    expect_codes_refused(0x70, &[0x01, 0x10, 0x80, 0x87, 0xFF]);
}

/// [MQTT5-3.4.2-1]
#[test]
fn acknowledgement_is_read_in_each_of_its_three_lengths() {
    let lengths: [fn(u16) -> Vec<u8>; 4] = [
        puback,
        |id| ack_with_code(0x40, id, 0),
        |id| packet(0x40, &join(&[&id.to_be_bytes(), &[0, 0]])),
        |id| {
            let props = Props::new().text(id::REASON_STRING, "fine").user("a", "b").user("a", "b");
            packet(0x40, &join(&[&id.to_be_bytes(), &[0], &props.block()]))
        },
    ];
    for form in lengths {
        let broker = VirtualBroker::new();
        let (subscriber, _) = broker.connected(&connect(V5, "sub").receive_maximum(1), V5);
        subscriber.subscribe("c/a", 1);
        let client = broker.client(V5, "a");
        client.send(publish(V5, "c/a", "1").qos1(1).bytes());
        client.send(publish(V5, "c/a", "2").qos1(2).bytes());
        let first = subscriber.expect_publish("c/a", "1");
        subscriber.expect_nothing();
        subscriber.send(form(first.packet_id));
        let _ = subscriber.expect_publish("c/a", "2");
    }
}

/// [MQTT5-3.1.2-29] [MQTT5-3.4.2-2] [MQTT5-3.5.2-2]
#[test]
fn without_problem_information_refusals_carry_no_reason_string() {
    let broker = VirtualBroker::new();
    let (client, _) = broker.connected(&connect(V5, "a").with(|p| p.u8(id::REQUEST_PROBLEM_INFO, 0)), V5);
    client.send(publish(V5, "d/a", "x").qos1(1).bytes());
    assert!(client.expect_puback(1, 0x87).props.is_empty());
    client.send(publish(V5, "d/a", "x").qos2(2).bytes());
    assert!(client.expect_pubrec(2, 0x87).props.is_empty());
    client.send(subscribe(V5, 3, &[sub("own/other/#", 0), sub("c/#/a", 0)]));
    let Received::SubAck { props, .. } = client.receive() else { panic!("expected SUBACK") };
    assert!(props.is_empty());
    client.send(unsubscribe(V5, 4, &["c/nothing"]));
    let Received::UnsubAck { props, .. } = client.receive() else { panic!("expected UNSUBACK") };
    assert!(props.is_empty());
    client.send(pubrel(9));
    assert!(client.expect_pubcomp(9, 0x92).props.is_empty());
}

/// [MQTT5-3.1.2-29]
#[test]
fn user_properties_of_a_publish_are_kept_without_problem_information() {
    let broker = VirtualBroker::new();
    let (client, _) = broker.connected(&connect(V5, "a").with(|p| p.u8(id::REQUEST_PROBLEM_INFO, 0)), V5);
    client.subscribe("c/a", 0);
    client.send(publish(V5, "c/a", "x").with(|p| p.user("a", "b")).bytes());
    assert_eq!(client.expect_publish("c/a", "x").props.user(), [("a", "b")]);
}

/// [MQTT5-3.4.2-2] [MQTT5-3.5.2-2]
#[test]
fn refusals_fit_into_the_smallest_maximum_packet_size() {
    let broker = VirtualBroker::new();
    let (_, accepted) = broker.connected(&connect(V5, "probe"), V5);
    assert!(!accepted.session_present);
    let client = broker.open(V5);
    client.send(connect(V5, "a").maximum_packet_size(64).bytes());
    let _ = client.expect_accepted();
    client.send(publish(V5, format!("d/{}", "x".repeat(200)), "x").qos1(1).bytes());
    let bytes = client.take_bytes();
    assert!(bytes.len() <= 64 && bytes[0] == 0x40, "{bytes:02x?}");
    client.send(publish(V5, format!("d/{}", "x".repeat(200)), "x").qos2(2).bytes());
    let bytes = client.take_bytes();
    assert!(bytes.len() <= 64 && bytes[0] == 0x50, "{bytes:02x?}");
}
