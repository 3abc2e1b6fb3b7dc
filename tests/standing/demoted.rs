//! Who was more than it is now, in a broker without a registry: what its will may still say.

use crate::ADMINISTRATIVE_ACTION;
use signet_tests::build::*;
use signet_tests::raw_client::RawClient;
use signet_tests::test_broker::{Settings, TestBroker, issue};
use std::time::{Duration, Instant};

/// Operators write everywhere, the hall in the hall, a device what is its own.
const LAYERS: &str = "\
role operator
topic readwrite #

role hall
topic write hall/#

role device
pattern readwrite devices/%u/#
";

fn settings(identity: &str) -> Settings<'_> {
    Settings { identity, ..Settings::default() }
}

/// Somebody who hears everything, and `sensor-1` with two wills: of a connection, and a delayed one of a session without.
fn scene(identity: &str, beyond: &str) -> (TestBroker, RawClient, RawClient) {
    let broker = TestBroker::start_with(LAYERS, settings(identity));
    let mut watcher = broker.anonymous().presenting(&issue("admin")).connect(&connect(V5, "w"), V5);
    watcher.subscribe("#", 0);
    let device = broker.anonymous().presenting(&issue("sensor-1"));
    let late = will(format!("{beyond}/late"), "late").delay(1);
    device.connect(&connect(V5, "away").persistent().will(late), V5).drop_connection();
    while broker.broker().hub().connected_count() > 1 {
        std::thread::yield_now();
    }
    let live = device.connect(&connect(V5, "live").will(will(format!("{beyond}/live"), "gone")), V5);
    (broker, watcher, live)
}

/// Until so many wills were refused.
fn denied(broker: &TestBroker, wills: u64) {
    let patience = Instant::now() + Duration::from_secs(20);
    while broker.broker().hub().counters().snapshot().denied_will < wills {
        assert!(Instant::now() < patience, "a will went out by rights that were taken away");
        std::thread::yield_now();
    }
}

#[test]
fn who_is_an_operator_no_more_sends_no_will_as_one() {
    let (broker, mut watcher, mut live) = scene("operators = [\"admin\", \"sensor-1\"]", "alarms");
    let own = connect(V5, "own").will(will("devices/sensor-1/gone", "own"));
    let mut own = broker.anonymous().presenting(&issue("sensor-1")).connect(&own, V5);
    broker.reload_settings(settings("operators = [\"admin\"]")).expect("the settings are good");
    live.expect_closed_with(ADMINISTRATIVE_ACTION);
    own.expect_closed_with(ADMINISTRATIVE_ACTION);
    // What a device may say is said.
    watcher.expect_publish("devices/sensor-1/gone", "own");
    denied(&broker, 2);
    watcher.expect_nothing();
}

#[test]
fn who_stays_an_operator_sends_its_wills() {
    let (broker, mut watcher, live) = scene("operators = [\"admin\", \"sensor-1\"]", "alarms");
    let other = settings("operators = [\"admin\", \"sensor-1\"]\ngroups = { hall = [\"sensor-2\"] }");
    broker.reload_settings(other).expect("the settings are good");
    live.drop_connection();
    let mut heard = [watcher.receive(), watcher.receive()].map(|packet| format!("{packet:?}"));
    heard.sort();
    assert!(heard[0].contains("alarms/late") && heard[1].contains("alarms/live"), "{heard:?}");
    assert_eq!(broker.broker().hub().counters().snapshot().denied_will, 0);
}

#[test]
fn who_is_in_a_group_no_more_sends_no_will_there() {
    let (broker, mut watcher, mut live) =
        scene("operators = [\"admin\"]\ngroups = { hall = [\"sensor-1\"] }", "hall");
    broker.reload_settings(settings("operators = [\"admin\"]")).expect("the settings are good");
    live.expect_closed_with(ADMINISTRATIVE_ACTION);
    denied(&broker, 2);
    watcher.expect_nothing();
}

#[test]
fn who_stays_in_its_group_sends_its_wills() {
    let (broker, mut watcher, live) =
        scene("operators = [\"admin\"]\ngroups = { hall = [\"sensor-1\"] }", "hall");
    let more = settings("operators = [\"admin\"]\ngroups = { hall = [\"sensor-1\", \"sensor-2\"] }");
    broker.reload_settings(more).expect("the settings are good");
    live.drop_connection();
    let mut heard = [watcher.receive(), watcher.receive()].map(|packet| format!("{packet:?}"));
    heard.sort();
    assert!(heard[0].contains("hall/late") && heard[1].contains("hall/live"), "{heard:?}");
    assert_eq!(broker.broker().hub().counters().snapshot().denied_will, 0);
}
