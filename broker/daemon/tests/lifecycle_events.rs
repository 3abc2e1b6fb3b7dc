//! What operators are told of connections and subscriptions, with the topics and fields of AWS IoT Core.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;

use peer::Device;
use serde_json::Value;
use setup::{CONFIGURATION, Setup};

/// Not authorized, of CONNACK and SUBACK.
const NOT_AUTHORIZED: u8 = 0x87;
/// Granted QoS 1, of SUBACK.
const GRANTED: u8 = 1;

const POLICY: &str = "pattern readwrite devices/%u/#\nrole operator\ntopic read $aws/events/#\n";

/// A running broker with the devices `sensor-1` and `sensor-2`, and an operator who listens.
fn listening(configuration: &str) -> (Setup, Device) {
    let mut setup = Setup::with_configuration(configuration);
    fs::write(setup.path("acl.conf"), POLICY).unwrap();
    setup.start();
    for name in ["sensor-1", "sensor-2"] {
        setup.ask(&["device", "add", name, "--key", "--out", "out"]);
    }
    setup.ask(&["operator", "add", "ada", "--key", "--out", "out"]);
    let mut ada = setup.dial_as("out/ada", "ada");
    assert_eq!(ada.connack(), 0);
    assert_eq!(ada.subscribe("$aws/events/#"), GRANTED);
    (setup, ada)
}

/// The next event: its topic below `$aws/events/` and its fields.
fn event(operator: &mut Device) -> (String, Value) {
    let (topic, payload) = operator.message();
    let topic = topic.strip_prefix("$aws/events/").unwrap().to_owned();
    (topic, serde_json::from_slice(&payload).unwrap())
}

/// The operator's own subscription is the first that it hears of.
fn own_subscription(ada: &mut Device) {
    let (topic, told) = event(ada);
    assert_eq!(topic, "subscriptions/subscribed/ada");
    assert!(told.get("thingName").is_none(), "an operator is no thing: {told}");
}

#[test]
fn a_connection_and_its_subscriptions_are_told_from_begin_to_end() {
    let (setup, mut ada) = listening(CONFIGURATION);
    own_subscription(&mut ada);
    let mut device = setup.dial_as("out/sensor-1", "node/7");
    assert_eq!(device.connack(), 0);
    let (topic, told) = event(&mut ada);
    assert_eq!(topic, "presence/connected/node/7");
    let certificate = setup.ask(&["device", "show", "sensor-1"])["device"]["certificates"][0]["id"].clone();
    assert_eq!(told["clientId"], "node/7");
    assert_eq!(told["thingName"], "sensor-1");
    assert_eq!(told["eventType"], "connected");
    assert_eq!(told["principalIdentifier"], certificate);
    assert_eq!(told["ipAddress"], "127.0.0.1");
    assert_eq!(told["versionNumber"], 0);
    assert!(told["timestamp"].as_u64().unwrap() > 1_700_000_000_000, "{told}");
    let session = told["sessionIdentifier"].as_str().unwrap().to_owned();
    assert_eq!(session.len(), 32);

    assert_eq!(device.subscribe("devices/sensor-1/commands/#"), GRANTED);
    let (topic, told) = event(&mut ada);
    assert_eq!(topic, "subscriptions/subscribed/node/7");
    assert_eq!(
        (&told["eventType"], &told["topics"]),
        (&"subscribed".into(), &serde_json::json!(["devices/sensor-1/commands/#"]))
    );
    // A subscription that is refused is none.
    assert_eq!(device.subscribe("devices/sensor-2/#"), NOT_AUTHORIZED);
    assert_eq!(device.unsubscribe("devices/sensor-1/commands/#"), 0);
    let (topic, told) = event(&mut ada);
    assert_eq!(
        (topic.as_str(), &told["sessionIdentifier"]),
        ("subscriptions/unsubscribed/node/7", &session.as_str().into())
    );

    device.disconnect();
    let (topic, told) = event(&mut ada);
    assert_eq!(topic, "presence/disconnected/node/7");
    assert_eq!(told["clientInitiatedDisconnect"], true);
    assert_eq!(told["disconnectReason"], "CLIENT_INITIATED_DISCONNECT");
    assert_eq!((&told["versionNumber"], &told["sessionIdentifier"]), (&0.into(), &session.as_str().into()));
    assert!(told.get("ipAddress").is_none(), "{told}");
    let metrics = setup.ask(&["status"]);
    assert!(metrics["connections"].as_u64().unwrap() >= 1);
}

#[test]
fn why_a_connection_ended_is_told() {
    let (setup, mut ada) = listening(CONFIGURATION);
    own_subscription(&mut ada);
    let mut first = setup.dial_as("out/sensor-1", "n");
    assert_eq!(first.connack(), 0);
    assert_eq!(event(&mut ada).1["versionNumber"], 0);
    // The same client id again: two events, in any order, told apart by their version numbers.
    let mut second = setup.dial_as("out/sensor-1", "n");
    assert_eq!(second.connack(), 0);
    let mut two = [event(&mut ada).1, event(&mut ada).1];
    two.sort_by_key(|told| told["versionNumber"].as_u64());
    assert_eq!(
        (&two[0]["disconnectReason"], &two[0]["versionNumber"]),
        (&"DUPLICATE_CLIENTID".into(), &0.into())
    );
    assert_eq!((&two[1]["eventType"], &two[1]["versionNumber"]), (&"connected".into(), &1.into()));
    drop(second);
    assert_eq!(event(&mut ada).1["disconnectReason"], "CONNECTION_LOST");

    let mut third = setup.dial_as("out/sensor-1", "n");
    assert_eq!(third.connack(), 0);
    assert_eq!(event(&mut ada).1["versionNumber"], 2);
    setup.ask(&["sessions", "kick", "sensor-1"]);
    assert_eq!(event(&mut ada).1["disconnectReason"], "API_INITIATED_DISCONNECT");
    let mut fourth = setup.dial_as("out/sensor-1", "n");
    assert_eq!(fourth.connack(), 0);
    event(&mut ada);
    setup.ask(&["device", "revoke", "sensor-1"]);
    let (_, told) = event(&mut ada);
    assert_eq!(
        (&told["disconnectReason"], &told["clientInitiatedDisconnect"]),
        (&"AUTH_ERROR".into(), &false.into())
    );
}

#[test]
fn a_refused_connection_is_told_and_client_ids_with_wildcards_are_not() {
    let (setup, mut ada) = listening(CONFIGURATION);
    own_subscription(&mut ada);
    setup.ask(&["device", "suspend", "sensor-1"]);
    for odd in ["a+b", "a#"] {
        let mut device = setup.dial_as("out/sensor-2", odd);
        assert_eq!(device.connack(), 0);
        device.disconnect();
    }
    assert_eq!(setup.dial_as("out/sensor-1", "n").connack(), NOT_AUTHORIZED);
    let (topic, told) = event(&mut ada);
    assert_eq!(topic, "presence/connect_failed/n");
    assert_eq!(told["connectFailureReason"], "AUTHORIZATION_FAILED");
    assert_eq!((&told["ipAddress"], &told["clientId"]), (&"127.0.0.1".into(), &"n".into()));
    assert!(told.get("versionNumber").is_none(), "{told}");
}

#[test]
fn only_operators_with_a_rule_hear_of_it() {
    let (setup, _ada) = listening(CONFIGURATION);
    // A rule does not help a device.
    fs::write(setup.path("acl.conf"), "topic read $aws/events/#\ntopic readwrite #\n").unwrap();
    setup.ask(&["reload"]);
    let mut device = setup.dial_as("out/sensor-1", "n");
    assert_eq!(device.connack(), 0);
    assert_eq!(device.subscribe("$aws/events/#"), NOT_AUTHORIZED);
    assert_eq!(device.subscribe("$aws/events/presence/connected/+"), NOT_AUTHORIZED);
    // An operator without one is refused too.
    fs::write(setup.path("acl.conf"), "role operator\ntopic read devices/#\n").unwrap();
    setup.ask(&["reload"]);
    let mut ada = setup.dial_as("out/ada", "again");
    assert_eq!(ada.connack(), 0);
    assert_eq!(ada.subscribe("$aws/events/#"), NOT_AUTHORIZED);
}

#[test]
fn it_is_switched_off_and_on_by_a_reload() {
    let off = format!("{CONFIGURATION}[events]\nlifecycle = false\n");
    let (setup, mut ada) = listening(&off);
    let mut device = setup.dial_as("out/sensor-1", "unseen");
    assert_eq!(device.connack(), 0);
    fs::write(setup.path("signet.toml"), CONFIGURATION).unwrap();
    setup.ask(&["reload"]);
    let mut seen = setup.dial_as("out/sensor-2", "seen");
    assert_eq!(seen.connack(), 0);
    assert_eq!(event(&mut ada).0, "presence/connected/seen");
}
