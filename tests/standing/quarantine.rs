//! Devices that are put into quarantine, and let out again.

use crate::{ADMINISTRATIVE_ACTION, FLEET, NOT_AUTHORIZED};
use signet_identity::{GroupName, ThingName};
use signet_registry::{Attributes, Command, Groups, Line, ThingSpec};
use signet_tests::build::*;
use signet_tests::registered::registered;
use signet_tests::test_broker::{TestBroker, issue};

fn thing(name: &str) -> ThingName {
    ThingName::try_from(name).expect("a name")
}

fn quarantine(broker: &TestBroker, name: &str) {
    broker.must(Command::Quarantine { thing: thing(name), why: Line::new("looks odd") });
}

#[test]
fn a_device_in_quarantine_is_closed_at_once_and_comes_back_to_its_recovery_topics() {
    let broker = registered(FLEET, "", "");
    let (device, other) = (issue("sensor-1"), issue("sensor-2"));
    broker.enrol(&device, "sensor-1");
    broker.enrol(&other, "sensor-2");
    let open = connect(V5, "a").persistent();
    let mut live = broker.anonymous().presenting(&device).connect(&open, V5);
    live.subscribe("devices/sensor-1/commands/#", 1);
    let mut bystander = broker.anonymous().presenting(&other).connect(&connect(V5, "a"), V5);
    quarantine(&broker, "sensor-1");
    live.expect_closed_with(ADMINISTRATIVE_ACTION);
    bystander.publish("devices/sensor-2/status", "x", 0);
    let (mut back, _, _) = broker.anonymous().presenting(&device).connected(&open, V5);
    back.publish("devices/sensor-1/status", "x", NOT_AUTHORIZED);
    back.publish("devices/sensor-1/certs/rotate", "x", 0);
    back.send(subscribe(V5, 3, &[sub("devices/sensor-1/commands/#", 1), sub("devices/sensor-1/certs/#", 1)]));
    back.expect_suback(3, &[NOT_AUTHORIZED, 1]);
    broker.must(Command::Release(thing("sensor-1")));
    back.expect_closed_with(ADMINISTRATIVE_ACTION);
    let mut free = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    free.publish("devices/sensor-1/status", "x", 0);
}

#[test]
fn a_will_is_not_sent_out_of_quarantine() {
    let broker = registered(FLEET, "", "");
    let (device, admin) = (issue("sensor-1"), issue("admin"));
    broker.enrol(&device, "sensor-1");
    broker.enrol(&admin, "admin");
    quarantine(&broker, "sensor-1");
    let mut watcher = broker.anonymous().presenting(&admin).connect(&connect(V5, "w"), V5);
    watcher.subscribe("devices/#", 0);
    let open = connect(V5, "a").will(will("devices/sensor-1/status", "gone"));
    let mut held = broker.anonymous().presenting(&device).connect(&open, V5);
    held.publish("devices/sensor-1/certs/marker", "1", 0);
    watcher.expect_publish("devices/sensor-1/certs/marker", "1");
    held.drop_connection();
    let mut again = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    again.publish("devices/sensor-1/certs/marker", "2", 0);
    watcher.expect_publish("devices/sensor-1/certs/marker", "2");
}

#[test]
fn the_recovery_topics_can_be_chosen_and_changed() {
    let tables = "[standing]\nrecovery-topics = [\"rescue/%u\"]\n";
    let broker = registered(FLEET, "", tables);
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    quarantine(&broker, "sensor-1");
    let mut held = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    held.publish("rescue/sensor-1", "x", 0);
    held.publish("rescue/sensor-2", "x", NOT_AUTHORIZED);
    held.publish("devices/sensor-1/certs/x", "x", NOT_AUTHORIZED);
    let settings = signet_tests::test_broker::Settings {
        tables: "[registry]\nmode = \"on\"\n[standing]\nrecovery-topics = [\"devices/%u/certs/#\"]\n",
        ..Default::default()
    };
    broker.reload_settings(settings).expect("the settings are good");
    held.publish("rescue/sensor-1", "x", NOT_AUTHORIZED);
    held.publish("devices/sensor-1/certs/x", "x", 0);
}

#[test]
fn quarantine_outlives_a_new_certificate_and_stands_in_the_audit_trail() {
    let broker = registered(FLEET, "", "");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    quarantine(&broker, "sensor-1");
    let next = issue("sensor-1");
    broker.enrol(&next, "sensor-1");
    let mut held = broker.anonymous().presenting(&next).connect(&connect(V5, "a"), V5);
    held.publish("devices/sensor-1/status", "x", NOT_AUTHORIZED);
    broker.registry().verify_audit(None).expect("the trail is whole");
}

#[test]
fn a_will_from_before_quarantine_is_judged_by_the_rights_of_quarantine() {
    let broker = registered(FLEET, "", "");
    let (device, admin) = (issue("sensor-1"), issue("admin"));
    broker.enrol(&device, "sensor-1");
    broker.enrol(&admin, "admin");
    let mut watcher = broker.anonymous().presenting(&admin).connect(&connect(V5, "w"), V5);
    watcher.subscribe("devices/#", 0);
    let away = connect(V5, "away").persistent().will(will("devices/sensor-1/status", "late").delay(1));
    broker.anonymous().presenting(&device).connect(&away, V5).drop_connection();
    while broker.broker().hub().connected_count() > 1 {
        std::thread::yield_now();
    }
    let open = connect(V5, "a").will(will("devices/sensor-1/status", "gone"));
    let mut live = broker.anonymous().presenting(&device).connect(&open, V5);
    let open = connect(V5, "b").will(will("devices/sensor-1/certs/here", "gone"));
    let mut allowed = broker.anonymous().presenting(&device).connect(&open, V5);
    quarantine(&broker, "sensor-1");
    live.expect_closed_with(ADMINISTRATIVE_ACTION);
    allowed.expect_closed_with(ADMINISTRATIVE_ACTION);
    watcher.expect_publish("devices/sensor-1/certs/here", "gone");
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while broker.broker().hub().counters().snapshot().denied_will < 2 {
        assert!(std::time::Instant::now() < patience, "a will went out by rights that were taken away");
        std::thread::yield_now();
    }
    watcher.expect_nothing();
}

#[test]
fn a_thing_with_the_same_rights_as_before_stays_connected() {
    let broker = registered(FLEET, "", "");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    let mut live = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    let update = |groups: &[&str]| {
        let attributes = Attributes::new([("site".into(), "north".into())].into()).expect("few");
        let groups = groups.iter().map(|name| GroupName::try_from(*name).expect("a name"));
        let groups = Groups::new(groups.collect()).expect("few");
        let thing = ThingSpec { attributes, groups, ..ThingSpec::named(thing("sensor-1")) };
        broker.must(Command::UpdateThing { thing, version: None });
    };
    update(&[]);
    live.publish("devices/sensor-1/status", "x", 0);
    update(&["others"]);
    live.expect_closed_with(ADMINISTRATIVE_ACTION);
}
