//! Leaving: nothing that was due is lost, and TLS ends as it should, by DISCONNECT or without a word.

use std::collections::BTreeSet;

use crate::SHARED;
use signet_tests::build::*;
use signet_tests::received::Received;
use signet_tests::test_broker::TestBroker;

/// More than leaves in one record.
const MESSAGES: u16 = 200;

#[test]
fn who_leaves_in_the_same_breath_still_gets_every_acknowledgement() {
    let broker = TestBroker::start(SHARED);
    for version in [V311, V5] {
        let mut client = broker.device("sensor-001").connect(&connect(version, "a"), version);
        let mut said: Vec<u8> =
            (1..=MESSAGES).flat_map(|id| publish(version, "c/a", "x").qos1(id).bytes()).collect();
        said.extend(disconnect());
        client.send(said);
        for id in 1..=MESSAGES {
            client.expect_puback(id, if version == V5 { 0x10 } else { 0 });
        }
        client.expect_farewell();
    }
}

#[test]
fn who_has_nothing_due_is_let_go_at_once_and_is_told_that_tls_has_ended() {
    let broker = TestBroker::start(SHARED);
    for version in [V311, V5] {
        let mut client = broker.device("sensor-001").connect(&connect(version, "a"), version);
        client.send(disconnect());
        client.expect_farewell();
        // What it had may be had again: nothing lingers of it.
        let mut again = broker.device("sensor-001").connect(&connect(version, "a"), version);
        again.expect_nothing();
        // Whoever goes on talking afterwards talks to nobody.
        drop(client.try_send(publish(version, "c/a", "late").bytes()));
        again.expect_nothing();
    }
}

#[test]
fn who_ends_tls_without_a_disconnect_is_told_that_it_has_ended_and_leaves_its_will() {
    let broker = TestBroker::start(SHARED);
    let mut watcher = broker.device("admin").connect(&connect(V5, "watcher"), V5);
    watcher.subscribe("c/will", 0);
    for version in [V311, V5] {
        let ask = connect(version, "a").will(will("c/will", "gone"));
        let mut client = broker.device("sensor-001").connect(&ask, version);
        client.say_farewell();
        client.expect_farewell();
        watcher.expect_publish("c/will", "gone");
    }
    watcher.expect_nothing();
}

#[test]
fn a_site_that_drops_at_once_leaves_every_will_and_comes_back_at_its_first_attempt() {
    const DEVICES: u32 = 40;
    let broker = TestBroker::start(SHARED);
    let mut watcher = broker.device("admin").connect(&connect(V5, "watcher"), V5);
    watcher.subscribe("c/will/#", 0);
    let sensor = broker.device("sensor-001").with_memory();
    let ask = |n: u32| connect(V5, format!("d{n}")).will(will(format!("c/will/{n}"), "gone"));
    let site: Vec<_> = (0..DEVICES).map(|n| sensor.connect(&ask(n), V5)).collect();
    site.into_iter().for_each(|device| device.drop_connection());
    let expected: BTreeSet<String> = (0..DEVICES).map(|n| format!("c/will/{n}")).collect();
    let mut topic = |_| match watcher.receive() {
        Received::Publish(publish) => publish.topic,
        other => panic!("expected a will, got {other:?}"),
    };
    let told: BTreeSet<String> = (0..DEVICES).map(&mut topic).collect();
    assert_eq!(told, expected);
    watcher.expect_nothing();
    let mut back: Vec<_> = (0..DEVICES).map(|n| sensor.connect(&ask(n), V5)).collect();
    back.iter_mut().for_each(|device| device.expect_nothing());
}
