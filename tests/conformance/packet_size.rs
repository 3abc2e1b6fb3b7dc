//! Section 3.1.2.11.4: Maximum Packet Size in both directions.

use signet_tests::prelude::*;

/// The payload of which the whole PUBLISH on `c/a` has `size` bytes at QoS 1 in 5.0.
fn payload_for(size: usize) -> String {
    let whole = publish(V5, "c/a", "").qos1(1).bytes().len();
    assert!(size < 128, "the remaining length stays one byte");
    "x".repeat(size - whole)
}

/// [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]
#[test]
fn message_of_exactly_the_maximum_is_sent_and_one_byte_more_is_not() {
    for qos in 0..3 {
        let broker = VirtualBroker::new();
        let (subscriber, _) = broker.connected(&connect(V5, "sub").maximum_packet_size(100), V5);
        subscriber.subscribe("c/a", qos);
        let client = broker.client(V5, "a");
        let extra = if qos == 0 { 2 } else { 0 };
        let fits = payload_for(100 + extra);
        let too_large = payload_for(101 + extra);
        client.send(publish(V5, "c/a", &too_large).qos(qos, 1).bytes());
        subscriber.expect_nothing();
        client.send(publish(V5, "c/a", &fits).qos(qos, 2).bytes());
        assert_eq!(subscriber.expect_publish("c/a", &fits).size, 100);
        subscriber.expect_alive();
    }
}

/// [MQTT5-3.1.2-25]
#[test]
fn dropped_message_does_not_keep_its_slot() {
    let broker = VirtualBroker::new();
    let open = connect(V5, "sub").maximum_packet_size(100).receive_maximum(1);
    let (subscriber, _) = broker.connected(&open, V5);
    subscriber.subscribe("c/a", 2);
    let client = broker.client(V5, "a");
    for id in 1..=10 {
        client.send(publish(V5, "c/a", "x".repeat(200)).qos(1 + (id % 2) as u8, id).bytes());
    }
    subscriber.expect_nothing();
    client.send(publish(V5, "c/a", "fits").qos1(11).bytes());
    let _ = subscriber.expect_publish("c/a", "fits");
}

/// [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]
#[test]
fn queued_retained_and_repeated_messages_obey_the_maximum() {
    let broker = VirtualBroker::new();
    let subscriber = broker.persistent(V5, "sub");
    subscriber.subscribe("c/+", 1);
    let client = broker.client(V5, "a");
    client.send(publish(V5, "c/a", "i".repeat(200)).qos1(1).bytes());
    let _ = subscriber.expect_publish("c/a", "i".repeat(200));
    subscriber.drop_connection();
    client.send(publish(V5, "c/a", "q".repeat(200)).qos1(2).bytes());
    client.send(publish(V5, "c/b", "r".repeat(200)).qos1(3).retain().bytes());
    client.send(publish(V5, "c/a", "fits").qos1(4).bytes());
    let resumed = connect(V5, "sub").clean(false).expiry(1000).maximum_packet_size(100).receive_maximum(1);
    let (again, accepted) = broker.connected(&resumed, V5);
    assert!(accepted.session_present);
    let got = again.expect_publish("c/a", "fits");
    again.send(puback(got.packet_id));
    again.subscribe("c/b", 1);
    again.expect_alive();
}

/// [MQTT5-3.1.2-25]
#[test]
fn message_too_large_for_one_reaches_the_others() {
    let broker = VirtualBroker::new();
    let (small, _) = broker.connected(&connect(V5, "small").maximum_packet_size(50), V5);
    small.subscribe("c/a", 1);
    let large = broker.client(V5, "large");
    large.subscribe("c/a", 1);
    broker.client(V5, "a").send(publish(V5, "c/a", "x".repeat(100)).qos1(1).bytes());
    let _ = large.expect_publish("c/a", "x".repeat(100));
    small.expect_alive();
}

/// [MQTT5-3.1.2-24]
#[test]
fn maximum_packet_size_of_0_is_refused() {
    let client = VirtualBroker::new().open(V5);
    client.send(connect(V5, "a").maximum_packet_size(0).bytes());
    client.expect_not_accepted();
}

/// [MQTT5-3.2.2-15]
#[test]
fn packet_above_the_servers_maximum_closes_before_it_is_there() {
    in_both(|_, version| {
        let broker =
            VirtualBroker::with_limits(|limits| limits.packet_bytes_max = 1000.try_into().expect("not 0"));
        let client = broker.client(version, "a");
        let largest = {
            let empty = publish(version, "c/a", "").bytes().len() + 1;
            publish(version, "c/a", "x".repeat(1000 - empty)).bytes()
        };
        assert_eq!(largest.len(), 1000);
        client.send(&largest);
        client.expect_alive();
        // The fixed header alone says that the packet has 1001 bytes.
        client.send([0x30, 0xE6, 0x07]);
        client.expect_closed_with(0x95);
    });
}

/// [MQTT5-3.1.2-24]
#[test]
fn suback_larger_than_the_client_takes_is_not_sent() {
    let broker = VirtualBroker::new();
    let (client, _) = broker.connected(&connect(V5, "a").maximum_packet_size(64), V5);
    let filters: Vec<Sub> = (0..100).map(|n| sub(format!("c/{n}"), 0)).collect();
    client.send(subscribe(V5, 1, &filters));
    let sent = client.take_bytes();
    assert!(sent.len() <= 64, "{} bytes to a client that takes 64", sent.len());
    assert!(client.is_closed(), "what must be said and cannot be said ends the connection");
}
