//! Section 4.7: topic names and filters.

use signet_tests::prelude::*;

/// Whether a message on `topic` reaches a subscription to `filter`.
fn reaches(broker: &VirtualBroker, version: Version, filter: &str, topic: &str) -> bool {
    let client = broker.client(version, "matcher");
    client.subscribe(filter, 0);
    client.send(publish(version, topic, "x").bytes());
    let got = client.try_receive();
    assert!(got.is_none() || matches!(&got, Some(Received::Publish(p)) if p.topic == topic), "{got:?}");
    client.expect_alive();
    got.is_some()
}

/// [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-3.3.2-3] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT5-3.3.2-3]
#[test]
fn wildcards_match_what_the_specification_says() {
    let matching = [
        ("c/a", "c/a"),
        ("c/#", "c"),
        ("c/#", "c/a"),
        ("c/#", "c/a/b/c"),
        ("c/#", "c/"),
        ("c/a/#", "c/a"),
        ("#", "c/a"),
        ("#", "/c/a"),
        ("+/a", "c/a"),
        ("c/+", "c/a"),
        ("c/+", "c/"),
        ("c/+/b", "c/a/b"),
        ("c/+/b", "c//b"),
        ("c/+/#", "c/a"),
        ("c/+/#", "c/a/b"),
        ("+/+/+", "/c/a"),
        ("/+/a", "/c/a"),
        ("/#", "/c/a"),
        ("c/a b", "c/a b"),
        ("c//", "c//"),
    ];
    let different = [
        ("c/a", "c/A"),
        ("c/a", "c/a/"),
        ("c/a/", "c/a"),
        ("c/a", "c/ab"),
        ("c/a", "c"),
        ("c/+", "c"),
        ("c/+", "c/a/b"),
        ("c/a/#", "c/ab"),
        ("c/+/b", "c/b"),
        ("+", "/c/a"),
        ("+", "c/a"),
        ("+/a", "/c/a"),
        ("/c/a", "c/a"),
        ("c/a", "/c/a"),
        ("c/+/#", "c"),
    ];
    in_both(|broker, version| {
        for (filter, topic) in matching {
            assert!(reaches(&broker, version, filter, topic), "{filter} matches {topic}");
        }
        for (filter, topic) in different {
            assert!(!reaches(&broker, version, filter, topic), "{filter} does not match {topic}");
        }
    });
}

/// [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-4.7.3-1] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT5-4.7.3-1]
#[test]
fn misplaced_wildcards_and_empty_filters_are_not_granted() {
    for filter in ["", "c/a#", "c/#/b", "c/##", "#/c", "c/#b", "c/a+", "c/+a", "c/a+/b", "++", "c/++/b", "+#"]
    {
        in_both(|broker, version| {
            let client = broker.client(version, "a");
            client.send(subscribe(version, 1, &[sub(filter, 0)]));
            if client.is_closed() {
                client.expect_closed_with_any(&[0x81, 0x82, 0x8F]);
            } else {
                client.expect_suback(1, &[if version == V5 { 0x8F } else { 0x80 }]);
                client.send(publish(version, "c/a", "x").bytes());
                client.expect_alive();
            }
        });
    }
}

/// [MQTT3-4.7.2-1] [MQTT5-4.7.2-1]
#[test]
fn wildcard_at_the_start_does_not_match_topics_with_a_dollar() {
    in_both(|broker, version| {
        let hub = broker.hub();
        let wide = broker.client(version, "wide");
        for filter in ["#", "+/#", "+/broker/uptime", "+/+/uptime"] {
            wide.subscribe(filter, 0);
        }
        let topic = signet_wire::TopicName::try_from("$SYS/broker/uptime").expect("a topic");
        hub.publish_internal(topic, bytes::Bytes::from_static(b"1"), false, broker.now()).expect("published");
        wide.expect_alive();
    });
}

/// [MQTT3-4.7.3-4] [MQTT5-4.7.3-4]
#[test]
fn matching_normalises_nothing() {
    // Composed and decomposed letters, letter case, ligature, width.
    let pairs = [
        ("c/\u{e9}", "c/e\u{301}"),
        ("c/A", "c/a"),
        ("c/\u{fb01}", "c/fi"),
        ("c/\u{ff41}", "c/a"),
        ("c/a", "c/a "),
        ("c/\u{df}", "c/ss"),
        ("c/%61", "c/a"),
    ];
    in_both(|broker, version| {
        for (one, other) in pairs {
            assert!(reaches(&broker, version, one, one));
            assert!(!reaches(&broker, version, one, other), "{one:?} is not {other:?}");
            assert!(!reaches(&broker, version, other, one), "{other:?} is not {one:?}");
        }
    });
}

/// [MQTT3-4.7.3-3] [MQTT5-4.7.3-3]
#[test]
fn topic_of_65535_bytes_is_delivered() {
    in_both(|broker, version| {
        let topic = format!("c/{}", "x".repeat(65_533));
        let client = broker.client(version, "a");
        client.subscribe(&topic, 1);
        client.send(publish(version, &topic, "x").qos1(1).bytes());
        let mut delivered = false;
        while let Some(packet) = client.try_receive() {
            delivered |= matches!(packet, Received::Publish(p) if p.topic == topic);
        }
        assert!(delivered);
    });
}

/// [MQTT3-4.7.3-3] [MQTT5-4.7.3-3]
#[test]
fn topic_of_150_levels_is_delivered() {
    in_both(|broker, version| {
        let topic = format!("c{}", "/x".repeat(149));
        for filter in [topic.clone(), "c/#".to_owned(), format!("c{}", "/+".repeat(149))] {
            assert!(reaches(&broker, version, &filter, &topic));
        }
    });
}

/// [MQTT3-4.7.3-1] [MQTT5-4.7.3-1]
#[test]
fn empty_levels_are_levels() {
    in_both(|broker, version| {
        for topic in ["/c/", "/c//", "c///a", "c/ "] {
            assert!(reaches(&broker, version, topic, topic), "{topic:?}");
        }
        assert!(!reaches(&broker, version, "c/a", "c//a"));
        assert!(!reaches(&broker, version, "c//a", "c/a"));
    });
}
