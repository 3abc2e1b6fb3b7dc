//! Section 3.3.2.3.4: topic aliases in both directions.

use signet_tests::prelude::*;

fn aliased(topic: &str, alias: u16, payload: &str) -> Publish {
    publish(V5, topic, payload).with(|p| p.u16(id::TOPIC_ALIAS, alias))
}

/// [MQTT5-3.3.2-12] [MQTT5-3.2.2-17]
#[test]
fn every_alias_up_to_the_servers_maximum_is_accepted() {
    let broker = VirtualBroker::new();
    let (client, accepted) = broker.connected(&connect(V5, "a"), V5);
    let maximum = accepted.props.number(id::TOPIC_ALIAS_MAXIMUM).expect("the broker takes aliases") as u16;
    client.subscribe("c/#", 0);
    for alias in 1..=maximum {
        client.send(aliased(&format!("c/{alias}"), alias, "set").bytes());
        let _ = client.expect_publish(&format!("c/{alias}"), "set");
    }
    for alias in (1..=maximum).rev() {
        client.send(aliased("", alias, "used").bytes());
        let _ = client.expect_publish(&format!("c/{alias}"), "used");
    }
}

/// [MQTT5-3.2.2-17] [MQTT5-3.3.2-9]
#[test]
fn alias_above_the_servers_maximum_closes() {
    let broker = VirtualBroker::new();
    let (client, accepted) = broker.connected(&connect(V5, "a"), V5);
    let maximum = accepted.props.number(id::TOPIC_ALIAS_MAXIMUM).expect("the broker takes aliases") as u16;
    client.send(aliased("c/a", maximum + 1, "x").bytes());
    client.expect_closed_with(0x94);
}

/// [MQTT5-3.2.2-18] [MQTT5-3.3.2-9]
#[test]
fn any_alias_closes_where_the_server_takes_none() {
    let broker = VirtualBroker::with_limits(|limits| limits.topic_alias_in_max = 0);
    let (client, accepted) = broker.connected(&connect(V5, "a"), V5);
    assert_eq!(accepted.props.number(id::TOPIC_ALIAS_MAXIMUM).unwrap_or(0), 0);
    client.send(aliased("c/a", 1, "x").bytes());
    client.expect_closed_with(0x94);
}

/// [MQTT5-3.3.2-8]
#[test]
fn alias_0_closes() {
    let client = VirtualBroker::new().client(V5, "a");
    client.send(aliased("c/a", 0, "x").bytes());
    client.expect_closed_with(0x94);
}

/// [MQTT5-3.3.2-12]
#[test]
fn alias_that_was_not_set_closes() {
    let client = VirtualBroker::new().client(V5, "a");
    client.send(aliased("c/a", 1, "x").bytes());
    client.send(aliased("", 2, "x").bytes());
    client.expect_closed_with(0x82);
}

/// [MQTT5-3.3.2-12]
#[test]
fn alias_can_be_set_anew() {
    let client = VirtualBroker::new().client(V5, "a");
    client.subscribe("c/#", 0);
    for topic in ["c/1", "c/2"] {
        client.send(aliased(topic, 1, "x").bytes());
        let _ = client.expect_publish(topic, "x");
        client.send(aliased("", 1, "y").bytes());
        let _ = client.expect_publish(topic, "y");
    }
}

/// [MQTT5-3.3.2-7]
#[test]
fn alias_does_not_outlive_its_connection() {
    let broker = VirtualBroker::new();
    let client = broker.persistent(V5, "a");
    client.send(aliased("c/a", 1, "x").bytes());
    client.drop_connection();
    let again = broker.persistent(V5, "a");
    again.send(aliased("", 1, "x").bytes());
    again.expect_closed_with(0x82);
}

/// [MQTT5-3.3.2-7]
#[test]
fn alias_is_not_shared_between_connections() {
    let broker = VirtualBroker::new();
    broker.client(V5, "a").send(aliased("c/a", 1, "x").bytes());
    let other = broker.client(V5, "b");
    other.send(aliased("", 1, "x").bytes());
    other.expect_closed_with(0x82);
}

/// [MQTT5-3.3.2-12] [MQTT5-3.3.1-5]
#[test]
fn alias_works_with_every_qos_and_the_topic_itself_is_retained() {
    let broker = VirtualBroker::new();
    let client = broker.client(V5, "a");
    client.send(aliased("c/a", 1, "0").bytes());
    client.send(aliased("", 1, "1").qos1(1).bytes());
    client.expect_puback(1, 0);
    client.send(aliased("", 1, "2").qos2(2).retain().bytes());
    client.expect_pubrec(2, 0);
    let late = broker.client(V5, "late");
    late.subscribe("c/a", 0);
    let _ = late.expect_publish("c/a", "2");
    let late = broker.client(V311, "late");
    late.subscribe("c/#", 0);
    let _ = late.expect_publish("c/a", "2");
}

/// [MQTT5-3.3.2-12]
#[test]
fn alias_of_a_topic_without_permission_is_judged_by_its_topic() {
    let broker = VirtualBroker::new();
    let watcher = broker.client(V5, "watcher");
    watcher.subscribe("#", 0);
    let client = broker.client(V5, "a");
    client.send(aliased("d/a", 1, "x").qos1(1).bytes());
    client.expect_puback(1, 0x87);
    client.send(aliased("", 1, "x").qos1(2).bytes());
    client.expect_puback(2, 0x87);
    watcher.expect_nothing();
}

/// [MQTT5-3.1.2-27]
#[test]
fn no_alias_is_sent_to_a_client_that_takes_none() {
    for open in [connect(V5, "sub"), connect(V5, "sub").with(|p| p.u16(id::TOPIC_ALIAS_MAXIMUM, 0))] {
        let broker = VirtualBroker::new();
        let (subscriber, _) = broker.connected(&open, V5);
        subscriber.subscribe("c/#", 0);
        let client = broker.client(V5, "a");
        for _ in 0..5 {
            client.send(aliased("c/a", 1, "x").bytes());
            assert!(!subscriber.expect_publish("c/a", "x").props.has(id::TOPIC_ALIAS));
        }
    }
}

/// [MQTT5-3.1.2-26] [MQTT5-3.3.2-11]
#[test]
fn aliases_to_a_client_stay_within_its_maximum_and_stand_for_the_right_topic() {
    let broker = VirtualBroker::new();
    let maximum = 2;
    let (subscriber, _) =
        broker.connected(&connect(V5, "sub").with(|p| p.u16(id::TOPIC_ALIAS_MAXIMUM, maximum)), V5);
    subscriber.subscribe("c/#", 0);
    let client = broker.client(V5, "a");
    let mut known = std::collections::HashMap::new();
    let mut used = false;
    for n in 0..60 {
        let topic = format!("c/topic/{}", [1, 1, 2, 3, 2, 4][n % 6]);
        client.send(publish(V5, &topic, "x").bytes());
        let got = subscriber.next_publish();
        let alias = got.props.number(id::TOPIC_ALIAS);
        if let Some(alias) = alias {
            assert!(alias >= 1 && alias <= u32::from(maximum), "alias {alias}");
            if !got.topic.is_empty() {
                known.insert(alias, got.topic.clone());
            }
        }
        let meant = if got.topic.is_empty() {
            used = true;
            known[&alias.expect("an empty topic has an alias")].clone()
        } else {
            got.topic
        };
        assert_eq!(meant, topic);
    }
    assert!(used, "a client that offers aliases gets some");
}

/// [MQTT5-3.3.2-7]
#[test]
fn aliases_to_a_client_start_anew_with_each_connection() {
    let broker = VirtualBroker::new();
    let open = connect(V5, "sub").persistent().with(|p| p.u16(id::TOPIC_ALIAS_MAXIMUM, 10));
    let client = broker.client(V5, "a");
    for _ in 0..2 {
        let (subscriber, _) = broker.connected(&open, V5);
        subscriber.subscribe("c/#", 0);
        for n in 0..3 {
            client.send(publish(V5, "c/a", "x").bytes());
            let got = subscriber.next_publish();
            assert!(n > 0 || got.topic == "c/a", "the first message of a connection names its topic");
        }
        subscriber.drop_connection();
    }
}
