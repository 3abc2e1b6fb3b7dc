//! What is left of a device whose certificate was revoked, by every policy.

use crate::{ADMINISTRATIVE_ACTION, FLEET, NOT_AUTHORIZED, TICKETS};
use signet_tests::build::*;
use signet_tests::raw_client::{Handshake, RawClient};
use signet_tests::received::Received;
use signet_tests::registered::registered;
use signet_tests::test_broker::{TestBroker, issue};

/// A broker with somebody who listens, and what happens to a device that left everything behind that it can.
struct Scene {
    broker: TestBroker,
    watcher: RawClient,
    device: signet_certs_dev::Leaf,
    live: RawClient,
}

fn as_device(broker: &TestBroker, leaf: &signet_certs_dev::Leaf) -> Handshake {
    broker.anonymous().presenting(leaf)
}

/// The device publishes a status and telemetry, retained; leaves a session behind that queues; and is connected with a will.
fn scene(tables: &str) -> Scene {
    let broker = registered(FLEET, TICKETS, tables);
    let admin = issue("admin");
    broker.enrol(&admin, "admin");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    let mut watcher = as_device(&broker, &admin).connect(&connect(V5, "watcher"), V5);
    let mut away = as_device(&broker, &device).connect(&connect(V5, "away").persistent(), V5);
    away.subscribe("devices/sensor-1/commands/#", 1);
    away.send(disconnect());
    away.expect_closed();
    let open = connect(V5, "live").persistent().will(will("devices/sensor-1/last-will", "gone"));
    let mut live = as_device(&broker, &device).connect(&open, V5);
    for topic in ["devices/sensor-1/status", "devices/sensor-1/telemetry"] {
        live.send(publish(V5, topic, "on").qos1(1).retain().bytes());
        live.expect_puback(1, 0);
    }
    watcher.publish("devices/sensor-1/commands/x", "queued", 0);
    watcher.subscribe("devices/+/last-will", 0);
    Scene { broker, watcher, device, live }
}

/// What is retained now, in the order of the topics.
fn retained(watcher: &mut RawClient) -> Vec<String> {
    watcher.send(subscribe(V5, 7, &[sub("devices/#", 0)]));
    watcher.expect_suback(7, &[0]);
    let mut topics = Vec::new();
    watcher.send(pingreq());
    loop {
        match watcher.receive() {
            Received::Publish(publish) => topics.push(publish.topic),
            Received::PingResp => return topics,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn by_default_nothing_is_left_but_the_telemetry() {
    let mut s = scene("");
    assert_eq!(s.broker.broker().status().sessions, 3);
    s.broker.revoke(&s.device);
    s.live.expect_closed_with(ADMINISTRATIVE_ACTION);
    s.watcher.expect_nothing();
    assert_eq!(retained(&mut s.watcher), ["devices/sensor-1/telemetry"]);
    assert_eq!(s.broker.broker().status().sessions, 1, "the watcher's");
    // The next certificate of that name begins anew.
    let next = issue("sensor-1");
    s.broker.enrol(&next, "sensor-1");
    let open = connect(V5, "away").persistent();
    let (mut back, present, _) = as_device(&s.broker, &next).connected(&open, V5);
    assert!(!present);
    back.expect_nothing();
}

#[test]
fn will_session_and_retained_messages_can_be_kept() {
    let mut s = scene("[revocation]\nwill = \"send\"\nretained = \"keep\"\nsession = \"keep\"\n");
    s.broker.revoke(&s.device);
    s.live.expect_closed_with(ADMINISTRATIVE_ACTION);
    s.watcher.expect_publish("devices/sensor-1/last-will", "gone");
    assert_eq!(retained(&mut s.watcher), ["devices/sensor-1/status", "devices/sensor-1/telemetry"]);
    let next = issue("sensor-1");
    s.broker.enrol(&next, "sensor-1");
    let open = connect(V5, "away").persistent();
    let (mut back, present, _) = as_device(&s.broker, &next).connected(&open, V5);
    assert!(present);
    back.expect_publish("devices/sensor-1/commands/x", "queued");
}

#[test]
fn all_that_is_retained_can_be_removed_and_a_reload_changes_which() {
    let mut s = scene("[revocation]\nretained = \"all\"\n");
    s.broker.revoke(&s.device);
    s.live.expect_closed_with(ADMINISTRATIVE_ACTION);
    assert_eq!(retained(&mut s.watcher), Vec::<String>::new());
    let mut s = scene("");
    let settings = signet_tests::test_broker::Settings {
        listener: TICKETS,
        tables: "[registry]\nmode = \"on\"\n[revocation]\nstatus-topics = [\"devices/%u/telemetry\"]\n",
        ..Default::default()
    };
    s.broker.reload_settings(settings).expect("the settings are good");
    s.broker.revoke(&s.device);
    s.live.expect_closed_with(ADMINISTRATIVE_ACTION);
    assert_eq!(retained(&mut s.watcher), ["devices/sensor-1/status"]);
}

#[test]
fn a_suspended_device_finds_everything_again() {
    let mut s = scene("");
    s.broker.suspend(&s.device);
    s.live.expect_closed_with(ADMINISTRATIVE_ACTION);
    s.watcher.expect_nothing();
    assert_eq!(retained(&mut s.watcher), ["devices/sensor-1/status", "devices/sensor-1/telemetry"]);
    let mut refused = as_device(&s.broker, &s.device).open(V5).expect("the handshake itself is good");
    refused.send(connect(V5, "away").persistent().bytes());
    assert!(matches!(refused.receive(), Received::ConnAck { code: NOT_AUTHORIZED, .. }));
    s.broker.activate(&s.device);
    let open = connect(V5, "away").persistent();
    let (mut back, present, _) = as_device(&s.broker, &s.device).connected(&open, V5);
    assert!(present);
    back.expect_publish("devices/sensor-1/commands/x", "queued");
}

#[test]
fn a_device_with_another_certificate_in_force_loses_the_one_connection_only() {
    let mut s = scene("");
    let next = issue("sensor-1");
    s.broker.enrol(&next, "sensor-1");
    let mut other = as_device(&s.broker, &next).connect(&connect(V5, "other"), V5);
    s.broker.revoke(&s.device);
    s.live.expect_closed_with(ADMINISTRATIVE_ACTION);
    other.expect_nothing();
    assert_eq!(retained(&mut s.watcher), ["devices/sensor-1/status", "devices/sensor-1/telemetry"]);
    let open = connect(V5, "away").persistent();
    let (mut back, present, _) = as_device(&s.broker, &next).connected(&open, V5);
    assert!(present);
    back.expect_publish("devices/sensor-1/commands/x", "queued");
}

#[test]
fn a_revocation_list_has_the_same_consequences_for_who_is_connected() {
    let mut s = scene("");
    s.broker
        .reload_file("issuing.crl", &TestBroker::crl_with(&[s.device.serial()]))
        .expect("the list is good");
    s.live.expect_closed_with(ADMINISTRATIVE_ACTION);
    s.watcher.expect_nothing();
    assert_eq!(retained(&mut s.watcher), ["devices/sensor-1/telemetry"]);
    let _ = as_device(&s.broker, &s.device).expect_refused(V5);
}

#[test]
fn an_authority_that_is_revoked_takes_all_its_devices_along() {
    let s = scene("");
    let mut live = vec![s.live];
    for n in 2..6 {
        let leaf = issue(&format!("sensor-{n}"));
        s.broker.enrol(&leaf, &format!("sensor-{n}"));
        live.push(as_device(&s.broker, &leaf).connect(&connect(V5, "a").persistent(), V5));
    }
    let ca = s.broker.registry().registry().cas().next().expect("one authority").id;
    let reason = signet_registry::RevocationReason::CaCompromise;
    s.broker.must(signet_registry::Command::Revoke { selector: signet_registry::Selector::Ca(ca), reason });
    for mut client in live {
        client.expect_closed_with(ADMINISTRATIVE_ACTION);
    }
    let mut watcher = s.watcher;
    watcher.expect_closed_with(ADMINISTRATIVE_ACTION);
    assert_eq!(s.broker.broker().status().sessions, 0);
}
