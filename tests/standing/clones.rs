//! One certificate in two hands.

use crate::{ADMINISTRATIVE_ACTION, FLEET, NOT_AUTHORIZED};
use signet_certs_dev::Leaf;
use signet_tests::build::*;
use signet_tests::raw_client::{Handshake, RawClient};
use signet_tests::registered::registered;
use signet_tests::test_broker::{TestBroker, issue};
use std::net::{IpAddr, Ipv4Addr};

const ALARMS: &str = "signet_clone_alarms_total";

fn from(broker: &TestBroker, leaf: &Leaf, last: u8) -> Handshake {
    broker.anonymous().presenting(leaf).from_address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
}

/// The two take over from each other, again and again; the last one stays connected.
fn fight(one: &Handshake, other: &Handshake, rounds: usize) -> RawClient {
    let mut last = one.connect(&connect(V5, "same"), V5);
    for round in 0..rounds {
        let next = if round % 2 == 0 { other } else { one };
        let client = next.connect(&connect(V5, "same"), V5);
        last = client;
    }
    last
}

fn noted(broker: &TestBroker) -> usize {
    let query =
        signet::store::AuditQuery { kind: Some("noted".to_owned()), at_most: 100, ..Default::default() };
    let rows = broker.registry().audit(&query).expect("the trail can be read");
    rows.iter().filter(|row| row.row.event.contains("two hands")).count()
}

#[test]
fn a_copy_at_another_address_raises_one_alarm() {
    let broker = registered(FLEET, "", "[clones]\nreturns = 3\n");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    let mut last = fight(&from(&broker, &device, 1), &from(&broker, &device, 2), 12);
    assert!((broker.metric(ALARMS) - 1.0).abs() < f64::EPSILON);
    last.publish("devices/sensor-1/status", "nobody is locked out by an alarm", 0);
    // The note is written by and by; a command after it is written after it.
    broker.must(signet_registry::Command::AddThing(signet_registry::ThingSpec::named(
        signet_identity::ThingName::try_from("other").expect("a name"),
    )));
    assert_eq!(noted(&broker), 1);
}

#[test]
fn a_copy_behind_the_same_address_is_known_by_its_tls_client() {
    let broker = registered(FLEET, "", "[clones]\nreturns = 3\n");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    let only = |version| -> &'static [_] { Box::leak(Box::new([version])) };
    let one = from(&broker, &device, 1).versions(only(&rustls::version::TLS13));
    let other = from(&broker, &device, 1).versions(only(&rustls::version::TLS12));
    fight(&one, &other, 12);
    assert!((broker.metric(ALARMS) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn by_policy_a_clone_puts_the_device_into_quarantine_and_a_person_lets_it_out() {
    let broker = registered(FLEET, "", "[clones]\naction = \"quarantine\"\nreturns = 3\n");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    let (one, other) = (from(&broker, &device, 1), from(&broker, &device, 2));
    let _third = fight(&one, &other, 3);
    // The third return raises the alarm, and is closed by it: before its CONNECT is answered, or after.
    let mut last = one.open(V5).expect("the handshake itself is good");
    if last.try_connect(&connect(V5, "same")) {
        last.expect_closed_with(ADMINISTRATIVE_ACTION);
    }
    for handshake in [&one, &other] {
        let mut held = handshake.connect(&connect(V5, "same"), V5);
        held.publish("devices/sensor-1/status", "x", NOT_AUTHORIZED);
        held.publish("devices/sensor-1/certs/x", "x", 0);
    }
    let thing = signet_identity::ThingName::try_from("sensor-1").expect("a name");
    let quarantine = broker.registry().registry().thing(&thing).and_then(|thing| thing.quarantine.clone());
    assert!(quarantine.expect("it is in quarantine").why.contains("two hands"));
    broker.must(signet_registry::Command::Release(thing));
    let mut free = one.connect(&connect(V5, "same"), V5);
    free.publish("devices/sensor-1/status", "x", 0);
}

#[test]
fn ordinary_devices_raise_no_alarm() {
    let broker = registered(FLEET, "", "[clones]\nreturns = 3\n");
    let (moving, twin, resuming) = (issue("sensor-1"), issue("sensor-2"), issue("sensor-3"));
    for (leaf, name) in [(&moving, "sensor-1"), (&twin, "sensor-2"), (&resuming, "sensor-3")] {
        broker.enrol(leaf, name);
    }
    // A device that moves from address to address, and does not say goodbye.
    let mut kept = Vec::new();
    for last in 1..20 {
        kept.push(from(&broker, &moving, last).connect(&connect(V5, "same"), V5));
    }
    // Two connections of one program at one address.
    for _ in 0..10 {
        kept.push(from(&broker, &twin, 1).connect(&connect(V5, "a"), V5));
        kept.push(from(&broker, &twin, 1).connect(&connect(V5, "b"), V5));
    }
    // Another device with the same certificate's name is another certificate.
    let renewed = issue("sensor-2");
    broker.enrol(&renewed, "sensor-2");
    for _ in 0..10 {
        kept.push(from(&broker, &renewed, 2).connect(&connect(V5, "c"), V5));
        kept.push(from(&broker, &twin, 1).connect(&connect(V5, "d"), V5));
    }
    assert!(broker.metric(ALARMS) < 0.5);
}

#[test]
fn nobody_looks_when_that_is_switched_off() {
    let broker = registered(FLEET, "", "[clones]\naction = \"off\"\nreturns = 3\n");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    fight(&from(&broker, &device, 1), &from(&broker, &device, 2), 12);
    assert!(broker.metric(ALARMS) < 0.5);
}
