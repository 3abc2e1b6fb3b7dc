//! Section 4.6: message ordering.

use signet_tests::prelude::*;

/// [MQTT3-4.6.0-5] [MQTT3-4.6.0-6] [MQTT5-4.6.0-5] [MQTT5-4.6.0-6]
#[test]
fn messages_of_one_topic_and_qos_arrive_in_their_order() {
    in_both(|broker, version| {
        for qos in 0..3 {
            let subscriber = broker.client(version, "sub");
            subscriber.subscribe("c/#", qos);
            let client = broker.client(version, "a");
            let mut expected = 0_u16;
            for n in 0..300_u16 {
                client.send(publish(version, "c/a", n.to_be_bytes()).qos(qos, n % 50 + 1).bytes());
                if qos == 2 {
                    client.send(pubrel(n % 50 + 1));
                }
                while let Some(packet) = subscriber.try_receive() {
                    let Received::Publish(p) = packet else { continue };
                    assert_eq!(p.payload, expected.to_be_bytes(), "qos {qos}");
                    expected += 1;
                    match qos {
                        0 => {}
                        1 => subscriber.send(puback(p.packet_id)),
                        _ => subscriber.send(join(&[&pubrec(p.packet_id), &pubcomp(p.packet_id)])),
                    }
                }
            }
            assert_eq!(expected, 300);
        }
    });
}

/// [MQTT3-4.6.0-6] [MQTT5-4.6.0-5]
#[test]
fn order_is_kept_where_the_subscriber_acknowledges_in_another_order() {
    in_both(|broker, version| {
        let subscriber = broker.client(version, "sub");
        subscriber.subscribe("c/a", 1);
        let client = broker.client(version, "a");
        let mut under_way = Vec::new();
        for n in 0..20 {
            client.send(publish(version, "c/a", [n]).qos1(u16::from(n) + 1).bytes());
            under_way.push(subscriber.expect_publish("c/a", [n]).packet_id);
            if n % 3 == 2 {
                subscriber.send(puback(under_way.pop().expect("one under way")));
                subscriber.expect_nothing();
            }
        }
    });
}

/// [MQTT3-4.6.0-1] [MQTT5-4.6.0-1]
#[test]
fn repeated_messages_come_in_their_first_order_and_before_new_ones() {
    in_both(|broker, version| {
        let subscriber = broker.persistent(version, "sub");
        subscriber.subscribe("c/a", 2);
        let client = broker.client(version, "a");
        let mut first = Vec::new();
        for n in 1..=6_u8 {
            let qos = 1 + n % 2;
            client.send(publish(version, "c/a", [n]).qos(qos, u16::from(n)).bytes());
            first.push(subscriber.expect_publish("c/a", [n]));
        }
        subscriber.drop_connection();
        client.send(publish(version, "c/a", [7]).qos1(7).bytes());
        let again = broker.persistent(version, "sub");
        for sent in &first {
            let repeated = again.expect_publish("c/a", &sent.payload);
            assert!(repeated.dup);
            assert_eq!((repeated.packet_id, repeated.qos), (sent.packet_id, sent.qos));
        }
        assert!(!again.expect_publish("c/a", [7]).dup);
    });
}

/// [MQTT3-4.6.0-2] [MQTT3-4.6.0-3] [MQTT5-4.6.0-2] [MQTT5-4.6.0-3]
#[test]
fn acknowledgements_come_in_the_order_of_the_publishes() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        let identifiers = [9, 3, 7, 1, 8];
        for (qos, first_byte) in [(1, 0x40), (2, 0x50)] {
            let all: Vec<u8> = identifiers
                .iter()
                .flat_map(|id| publish(version, "c/a", "x").qos(qos, *id).bytes())
                .collect();
            client.send(all);
            for expected in identifiers {
                match client.receive() {
                    Received::PubAck(a) if first_byte == 0x40 => assert_eq!(a.packet_id, expected),
                    Received::PubRec(a) if first_byte == 0x50 => assert_eq!(a.packet_id, expected),
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    });
}

/// [MQTT3-4.6.0-4] [MQTT5-4.6.0-4]
#[test]
fn pubrels_come_in_the_order_of_the_pubrecs() {
    in_both(|broker, version| {
        let subscriber = broker.client(version, "sub");
        subscriber.subscribe("c/a", 2);
        let client = broker.client(version, "a");
        let identifiers: Vec<u16> = (1..=5)
            .map(|n| {
                client.send(publish(version, "c/a", [n]).qos2(u16::from(n)).bytes());
                subscriber.expect_publish("c/a", [n]).packet_id
            })
            .collect();
        let shuffled = [2, 0, 4, 1, 3].map(|index| identifiers[index]);
        subscriber.send(shuffled.iter().flat_map(|id| pubrec(*id)).collect::<Vec<u8>>());
        for expected in shuffled {
            subscriber.expect_pubrel(expected, 0);
        }
    });
}

/// [MQTT3-4.6.0-6] [MQTT5-4.6.0-5]
#[test]
fn queued_messages_come_in_the_order_in_which_they_were_published() {
    in_both(|broker, version| {
        let subscriber = broker.persistent(version, "sub");
        subscriber.subscribe("c/#", 2);
        subscriber.disconnect();
        let client = broker.client(version, "a");
        for n in 1..=100_u8 {
            client.send(publish(version, "c/a", [n]).qos1(u16::from(n)).bytes());
        }
        let again = broker.persistent(version, "sub");
        for n in 1..=100_u8 {
            let got = again.expect_publish("c/a", [n]);
            assert!(!got.dup, "a first delivery");
            again.send(puback(got.packet_id));
        }
        again.expect_nothing();
    });
}
