//! Section 4.9: Receive Maximum in both directions.

use signet_tests::prelude::*;

/// A subscriber that takes `receive_maximum` at a time, and a publisher.
fn pair(broker: &VirtualBroker, receive_maximum: u16, qos: u8) -> (Client, Client) {
    let (subscriber, _) = broker.connected(&connect(V5, "sub").receive_maximum(receive_maximum), V5);
    subscriber.subscribe("c/#", qos);
    (subscriber, broker.client(V5, "a"))
}

/// [MQTT5-3.3.4-9] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2]
#[test]
fn qos1_waits_for_puback_when_the_quota_is_used_up() {
    let broker = VirtualBroker::new();
    let (subscriber, client) = pair(&broker, 2, 1);
    for n in 1..=4 {
        client.send(publish(V5, "c/a", [n]).qos1(u16::from(n)).bytes());
    }
    let first = subscriber.expect_publish("c/a", [1]);
    let second = subscriber.expect_publish("c/a", [2]);
    subscriber.expect_nothing();
    subscriber.send(puback(second.packet_id));
    let _ = subscriber.expect_publish("c/a", [3]);
    subscriber.expect_nothing();
    subscriber.send(puback(first.packet_id));
    let _ = subscriber.expect_publish("c/a", [4]);
    subscriber.expect_nothing();
}

/// [MQTT5-3.3.4-9] [MQTT5-4.9.0-2]
#[test]
fn pubrec_frees_no_slot_and_pubcomp_does() {
    let broker = VirtualBroker::new();
    let (subscriber, client) = pair(&broker, 1, 2);
    client.send(publish(V5, "c/a", "1").qos2(1).bytes());
    client.send(publish(V5, "c/a", "2").qos2(2).bytes());
    let first = subscriber.expect_publish("c/a", "1");
    subscriber.expect_nothing();
    subscriber.send(pubrec(first.packet_id));
    subscriber.expect_pubrel(first.packet_id, 0);
    subscriber.expect_nothing();
    subscriber.send(pubcomp(first.packet_id));
    let _ = subscriber.expect_publish("c/a", "2");
}

/// [MQTT5-3.3.4-9] [MQTT5-4.4.0-2]
#[test]
fn negative_acknowledgement_frees_the_slot() {
    for (qos, first_byte) in [(1, 0x40), (2, 0x50)] {
        let broker = VirtualBroker::new();
        let (subscriber, client) = pair(&broker, 1, qos);
        client.send(publish(V5, "c/a", "1").qos(qos, 1).bytes());
        client.send(publish(V5, "c/a", "2").qos(qos, 2).bytes());
        let first = subscriber.expect_publish("c/a", "1");
        subscriber.expect_nothing();
        subscriber.send(ack_with_code(first_byte, first.packet_id, 0x80));
        let _ = subscriber.expect_publish("c/a", "2");
        subscriber.expect_nothing();
    }
}

/// [MQTT5-3.3.4-10] [MQTT5-4.9.0-3]
#[test]
fn other_packets_pass_while_the_quota_is_used_up() {
    let broker = VirtualBroker::new();
    let (subscriber, client) = pair(&broker, 1, 1);
    client.send(publish(V5, "c/a", "1").qos1(1).bytes());
    client.send(publish(V5, "c/a", "2").qos1(2).bytes());
    let _ = subscriber.expect_publish("c/a", "1");
    subscriber.expect_alive();
    subscriber.send(publish(V5, "own/dev/x", "x").qos1(5).bytes());
    let Received::PubAck(acked) = subscriber.receive() else { panic!("expected PUBACK") };
    assert_eq!(acked.packet_id, 5);
    subscriber.send(publish(V5, "own/dev/x", "x").qos2(6).bytes());
    let Received::PubRec(acked) = subscriber.receive() else { panic!("expected PUBREC") };
    assert_eq!(acked.packet_id, 6);
    subscriber.send(subscribe(V5, 7, &[sub("c/other", 0)]));
    subscriber.expect_suback(7, &[0]);
    subscriber.send(unsubscribe(V5, 8, &["c/other"]));
    subscriber.expect_unsuback(8, &[0]);
}

/// [MQTT5-4.9.0-3] [MQTT5-3.3.4-10]
#[test]
fn qos0_is_not_held_back_for_ever_by_a_used_up_quota() {
    let broker = VirtualBroker::new();
    let (subscriber, client) = pair(&broker, 1, 1);
    client.send(publish(V5, "c/a", "1").qos1(1).bytes());
    client.send(publish(V5, "c/b", "2").bytes());
    let first = subscriber.expect_publish("c/a", "1");
    let second = subscriber.expect_publish("c/b", "2");
    assert_eq!((first.qos, second.qos), (1, 0));
}

/// [MQTT5-3.3.4-9] [MQTT5-4.9.0-1]
#[test]
fn new_receive_maximum_counts_after_a_resume() {
    let broker = VirtualBroker::new();
    let (subscriber, _) = broker.connected(&connect(V5, "sub").expiry(1000), V5);
    subscriber.subscribe("c/a", 1);
    let client = broker.client(V5, "a");
    for n in 1..=5 {
        client.send(publish(V5, "c/a", [n]).qos1(u16::from(n)).bytes());
        let _ = subscriber.expect_publish("c/a", [n]);
    }
    subscriber.drop_connection();
    let resumed = connect(V5, "sub").clean(false).expiry(1000).receive_maximum(2);
    let (again, accepted) = broker.connected(&resumed, V5);
    assert!(accepted.session_present);
    let mut expected = 1..=5;
    let mut under_way = vec![again.next_publish(), again.next_publish()];
    again.expect_nothing();
    while let Some(got) = (!under_way.is_empty()).then(|| under_way.remove(0)) {
        assert_eq!(got.payload, [expected.next().expect("five messages")]);
        assert!(got.dup);
        again.send(puback(got.packet_id));
        if let Some(Received::Publish(next)) = again.try_receive() {
            under_way.push(next);
        }
    }
    assert!(expected.next().is_none(), "all five came again");
}

/// [MQTT5-3.3.4-7] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2]
#[test]
fn client_that_exceeds_the_servers_receive_maximum_is_disconnected() {
    let broker = VirtualBroker::with_limits(|limits| limits.receive_max = 3.try_into().expect("not 0"));
    let (client, accepted) = broker.connected(&connect(V5, "a"), V5);
    assert_eq!(accepted.props.number(id::RECEIVE_MAXIMUM), Some(3));
    for packet_id in 1..=3 {
        client.send(publish(V5, "c/a", "x").qos2(packet_id).bytes());
        client.expect_pubrec(packet_id, 0);
    }
    client.send(publish(V5, "c/a", "x").bytes());
    client.send(publish(V5, "c/a", "x").qos2(4).bytes());
    client.expect_closed_with(0x93);
}

/// [MQTT5-3.3.4-7]
#[test]
fn client_within_the_servers_receive_maximum_goes_on() {
    let broker = VirtualBroker::with_limits(|limits| limits.receive_max = 3.try_into().expect("not 0"));
    let client = broker.client(V5, "a");
    for packet_id in 1..=3 {
        client.send(publish(V5, "c/a", "x").qos2(packet_id).bytes());
        client.expect_pubrec(packet_id, 0);
    }
    // A duplicate takes no further slot, and PUBREL frees one.
    client.send(publish(V5, "c/a", "x").qos2(3).dup().bytes());
    client.expect_pubrec(3, 0);
    client.send(pubrel(1));
    client.expect_pubcomp(1, 0);
    client.send(publish(V5, "c/a", "x").qos2(4).bytes());
    client.expect_pubrec(4, 0);
    client.expect_alive();
}

/// [MQTT5-4.9.0-1]
#[test]
fn receive_maximum_of_0_is_refused() {
    let client = VirtualBroker::new().open(V5);
    client.send(connect(V5, "a").receive_maximum(0).bytes());
    client.expect_not_accepted();
}
