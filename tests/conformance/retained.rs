//! Section 3.3.1.3: retained messages.

use signet_tests::prelude::*;

/// Publishes a retained message.
fn retain(broker: &VirtualBroker, version: Version, topic: &str, payload: &str) {
    let client = broker.client(version, "retainer");
    client.send(publish(version, topic, payload).qos1(1).retain().bytes());
    client.expect_puback(1, 0);
    client.disconnect();
}

/// Subscribes as a client of its own and returns what is retained, in topic order.
fn retained(broker: &VirtualBroker, version: Version, filter: &str) -> Vec<Published> {
    let reader = broker.client(version, "reader");
    reader.subscribe(filter, 2);
    let mut all: Vec<Published> = std::iter::from_fn(|| match reader.try_receive() {
        Some(Received::Publish(p)) => {
            assert!(p.retain, "a message sent for a new subscription has RETAIN 1: {p:?}");
            Some(p)
        }
        None => None,
        other => panic!("unexpected {other:?}"),
    })
    .collect();
    all.sort_by(|a, b| a.topic.cmp(&b.topic));
    reader.disconnect();
    all
}

fn texts(all: &[Published]) -> Vec<(&str, &str)> {
    all.iter().map(|p| (p.topic.as_str(), std::str::from_utf8(&p.payload).expect("text"))).collect()
}

/// [MQTT3-3.3.1-5] [MQTT3-3.3.1-6] [MQTT3-3.3.1-8] [MQTT5-3.3.1-5] [MQTT5-3.3.1-9]
#[test]
fn new_subscription_gets_the_retained_message_of_each_matching_topic() {
    in_both(|broker, version| {
        retain(&broker, version, "c/a/1", "one");
        retain(&broker, version, "c/a/2", "two");
        retain(&broker, version, "c/b", "other");
        assert_eq!(texts(&retained(&broker, version, "c/a/+")), [("c/a/1", "one"), ("c/a/2", "two")]);
        assert_eq!(texts(&retained(&broker, version, "c/b")), [("c/b", "other")]);
        assert_eq!(retained(&broker, version, "c/#").len(), 3);
        assert_eq!(retained(&broker, version, "c/a"), []);
    });
}

/// [MQTT3-3.3.1-5] [MQTT5-3.3.1-5] [MQTT5-3.8.4-8] [MQTT3-3.8.4-6]
#[test]
fn retained_message_keeps_its_qos_and_is_lowered_by_the_subscription() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(publish(version, "c/0", "x").retain().bytes());
        client.send(publish(version, "c/1", "x").qos1(1).retain().bytes());
        client.send(publish(version, "c/2", "x").qos2(2).retain().bytes());
        let qos: Vec<u8> = retained(&broker, version, "c/+").iter().map(|p| p.qos).collect();
        assert_eq!(qos, [0, 1, 2]);
        let reader = broker.client(version, "low");
        reader.subscribe("c/+", 1);
        let mut got = [reader.next_publish(), reader.next_publish(), reader.next_publish()];
        got.sort_by(|a, b| a.topic.cmp(&b.topic));
        assert_eq!(got.map(|p| p.qos), [0, 1, 1]);
    });
}

/// [MQTT3-3.3.1-5] [MQTT3-3.3.1-7] [MQTT5-3.3.1-5]
#[test]
fn last_retained_message_replaces_the_one_before_whatever_their_qos() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        for (n, qos) in [(1, 1), (2, 0), (3, 2), (4, 0)] {
            client.send(publish(version, "c/a", [n]).qos(qos, u16::from(n)).retain().bytes());
            let all = retained(&broker, version, "c/a");
            assert_eq!(all.len(), 1);
            assert_eq!((all[0].payload.as_slice(), all[0].qos), (&[n][..], qos));
        }
    });
}

/// [MQTT3-3.3.1-9] [MQTT5-3.3.1-12]
#[test]
fn established_subscription_sees_retain_0() {
    in_both(|broker, version| {
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/a", 0);
        retain(&broker, version, "c/a", "x");
        assert!(!watcher.expect_publish("c/a", "x").retain);
    });
}

/// [MQTT5-3.3.1-13]
#[test]
fn retain_as_published_keeps_the_flag() {
    let broker = VirtualBroker::new();
    let watcher = broker.client(V5, "watcher");
    watcher.send(subscribe(V5, 1, &[sub("c/a", 0).retain_as_published()]));
    watcher.expect_suback(1, &[0]);
    retain(&broker, V5, "c/a", "x");
    assert!(watcher.expect_publish("c/a", "x").retain);
    broker.client(V5, "a").send(publish(V5, "c/a", "y").bytes());
    assert!(!watcher.expect_publish("c/a", "y").retain);
}

/// [MQTT5-3.3.1-12] [MQTT5-3.3.1-13]
#[test]
fn retained_message_has_retain_1_whatever_retain_as_published_says() {
    let broker = VirtualBroker::new();
    retain(&broker, V5, "c/a", "x");
    for filter in [sub("c/a", 0), sub("c/a", 0).retain_as_published()] {
        let reader = broker.client(V5, "reader");
        reader.send(subscribe(V5, 1, &[filter]));
        reader.expect_suback(1, &[0]);
        assert!(reader.expect_publish("c/a", "x").retain);
    }
}

/// [MQTT3-3.3.1-10] [MQTT3-3.3.1-11] [MQTT5-3.3.1-6] [MQTT5-3.3.1-7]
#[test]
fn empty_retained_message_is_delivered_and_clears_the_topic() {
    in_both(|broker, version| {
        retain(&broker, version, "c/a", "x");
        retain(&broker, version, "c/b", "stays");
        let watcher = broker.client(version, "watcher");
        watcher.subscribe("c/a", 0);
        let _ = watcher.expect_publish("c/a", "x");
        retain(&broker, version, "c/a", "");
        assert!(!watcher.expect_publish("c/a", "").retain);
        assert_eq!(texts(&retained(&broker, version, "c/#")), [("c/b", "stays")]);
        retain(&broker, version, "c/never", "");
        assert_eq!(retained(&broker, version, "c/never"), []);
    });
}

/// [MQTT3-3.3.1-12] [MQTT5-3.3.1-8]
#[test]
fn publish_without_retain_leaves_the_retained_message_alone() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(publish(version, "c/b", "x").bytes());
        assert_eq!(retained(&broker, version, "c/b"), []);
        retain(&broker, version, "c/a", "kept");
        client.send(publish(version, "c/a", "other").bytes());
        client.send(publish(version, "c/a", "").bytes());
        assert_eq!(texts(&retained(&broker, version, "c/a")), [("c/a", "kept")]);
    });
}

/// [MQTT3-3.1.2-7] [MQTT5-3.3.1-5]
#[test]
fn retained_message_outlives_the_session_of_its_publisher() {
    in_both(|broker, version| {
        let client = broker.client(version, "a");
        client.send(publish(version, "c/a", "x").retain().bytes());
        client.drop_connection();
        let _ = broker.client(version, "a");
        broker.advance_secs(1_000_000);
        assert_eq!(texts(&retained(&broker, version, "c/a")), [("c/a", "x")]);
    });
}

/// [MQTT3-3.8.4-3] [MQTT5-3.3.1-9] [MQTT5-3.8.4-4]
#[test]
fn same_subscription_again_gets_the_retained_message_again() {
    in_both(|broker, version| {
        retain(&broker, version, "c/a", "x");
        let reader = broker.client(version, "reader");
        for _ in 0..2 {
            reader.subscribe("c/a", 1);
            assert!(reader.expect_publish("c/a", "x").retain);
        }
    });
}

/// [MQTT5-3.3.1-10]
#[test]
fn retain_handling_1_sends_only_for_a_new_subscription() {
    let broker = VirtualBroker::new();
    retain(&broker, V5, "c/a", "x");
    let (reader, _) = broker.connected(&connect(V5, "reader").expiry(100), V5);
    let again = || {
        let filter = sub("c/a", 1).retain_handling(1);
        subscribe(V5, 1, &[filter])
    };
    reader.send(again());
    reader.expect_suback(1, &[1]);
    let got = reader.expect_publish("c/a", "x");
    reader.send(puback(got.packet_id));
    reader.send(again());
    reader.expect_suback(1, &[1]);
    reader.expect_nothing();
    reader.drop_connection();
    let (resumed, _) = broker.connected(&connect(V5, "reader").clean(false), V5);
    resumed.send(again());
    resumed.expect_suback(1, &[1]);
    resumed.expect_nothing();
    resumed.send(unsubscribe(V5, 2, &["c/a"]));
    resumed.expect_unsuback(2, &[0]);
    resumed.send(again());
    resumed.expect_suback(1, &[1]);
    let _ = resumed.expect_publish("c/a", "x");
}

/// [MQTT5-3.3.1-11]
#[test]
fn retain_handling_2_sends_nothing() {
    let broker = VirtualBroker::new();
    retain(&broker, V5, "c/a", "x");
    let reader = broker.client(V5, "reader");
    reader.send(subscribe(V5, 1, &[sub("c/a", 1).retain_handling(2)]));
    reader.expect_suback(1, &[1]);
    reader.expect_nothing();
    broker.client(V5, "a").send(publish(V5, "c/a", "live").bytes());
    let _ = reader.expect_publish("c/a", "live");
}

/// [MQTT5-3.3.4-3]
#[test]
fn retained_message_carries_the_subscription_identifier() {
    let broker = VirtualBroker::new();
    retain(&broker, V5, "c/a", "x");
    let reader = broker.client(V5, "reader");
    reader.send(subscribe_with(
        V5,
        1,
        &Props::new().varint(id::SUBSCRIPTION_ID, 268_435_455),
        &[sub("c/#", 0)],
    ));
    reader.expect_suback(1, &[0]);
    assert_eq!(reader.expect_publish("c/a", "x").props.numbers(id::SUBSCRIPTION_ID), [268_435_455]);
}

/// [MQTT3-4.7.2-1] [MQTT5-4.7.2-1]
#[test]
fn wildcard_at_the_start_finds_no_retained_topic_of_the_server() {
    in_both(|broker, version| {
        let hub = broker.hub();
        let topic = signet_wire::TopicName::try_from("$SYS/broker/version").expect("a topic");
        hub.publish_internal(topic, bytes::Bytes::from_static(b"1"), true, broker.now()).expect("published");
        retain(&broker, version, "c/a", "x");
        assert_eq!(texts(&retained(&broker, version, "#")), [("c/a", "x")]);
        assert_eq!(retained(&broker, version, "+/broker/version"), []);
    });
}
