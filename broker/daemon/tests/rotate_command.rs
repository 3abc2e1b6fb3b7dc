//! `signet device rotate` against a running broker and devices at the wire.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::time::{Duration, Instant};

use peer::Device;
use serde_json::{Value, json};
use setup::{CONFIGURATION, Setup};

const ROTATION: &str = include_str!("../../../config/templates/rotation.json");
const POLICY: &str =
    "pattern read devices/%u/certs/rotate\nrole operator\ntopic write devices/+/certs/rotate\n";

/// A running broker with a rotation template and the devices `s-0`, `s-1`, ...
fn with_devices(count: usize) -> Setup {
    let mut setup =
        Setup::with_configuration(&CONFIGURATION.replace("max-connections = 10", "max-connections = 50"));
    fs::write(setup.path("acl.conf"), POLICY).unwrap();
    fs::write(setup.path("rotation.json"), ROTATION).unwrap();
    setup.start();
    setup.ask(&["template", "add", "renew", "rotation.json", "--kind", "rotation"]);
    for n in 0..count {
        setup.ask(&["device", "add", &format!("s-{n}"), "--key", "--out", "out"]);
    }
    setup
}

/// A device that hears commands.
fn listening(setup: &Setup, name: &str) -> Device {
    let mut device = setup.dial_as(&format!("out/{name}"), name);
    assert_eq!(device.connack(), 0);
    assert_eq!(device.subscribe(&format!("devices/{name}/certs/rotate")), 1);
    device
}

/// The next command, as JSON.
fn order(device: &mut Device, name: &str) -> Value {
    let (topic, payload) = device.message();
    assert_eq!(topic, format!("devices/{name}/certs/rotate"));
    serde_json::from_slice(&payload).unwrap()
}

/// Gets the next certificate over the connection of the last one, into a folder of its own.
fn renew(setup: &Setup, device: &mut Device, name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let create = "$aws/certificates/create-from-csr/json";
    assert_eq!(device.subscribe(&format!("{create}/+")), 1);
    device.post(create, json!({"certificateSigningRequest": csr}).to_string().as_bytes());
    let (topic, payload) = device.answer();
    assert_eq!(topic, format!("{create}/accepted"), "{}", String::from_utf8_lossy(&payload));
    let created: Value = serde_json::from_slice(&payload).unwrap();
    let provision = "$aws/provisioning-templates/renew/provision/json";
    assert_eq!(device.subscribe(&format!("{provision}/+")), 1);
    let token = json!({"certificateOwnershipToken": created["certificateOwnershipToken"], "parameters": {}});
    device.post(provision, token.to_string().as_bytes());
    let (topic, payload) = device.answer();
    assert_eq!(topic, format!("{provision}/accepted"), "{}", String::from_utf8_lossy(&payload));
    let folder = format!("out/{name}-next");
    fs::create_dir_all(setup.path(&folder)).unwrap();
    let chain = setup.path(&folder).join("device-chain.crt");
    fs::write(chain, created["certificatePem"].as_str().unwrap()).unwrap();
    fs::write(setup.path(&folder).join("device.key"), key.serialize_pem()).unwrap();
    folder
}

/// How far the newest rotation has come; the exit code is 1 once a device has failed.
fn status(setup: &Setup) -> Value {
    let output = setup.run(&["device", "rotate", "--status", "latest", "--config", "signet.toml", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until `wanted` holds of the newest rotation.
fn until(setup: &Setup, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let shown = status(setup);
        if wanted(&shown) {
            return shown;
        }
        assert!(Instant::now() < end, "{what}: {shown:#}");
        std::thread::yield_now();
    }
}

fn state<'a>(shown: &'a Value, name: &str) -> &'a str {
    let devices = shown["devices"].as_array().unwrap();
    devices.iter().find(|device| device["name"] == name).unwrap()["state"].as_str().unwrap()
}

#[test]
fn a_device_is_told_renews_and_is_through_when_it_has_connected() {
    let setup = with_devices(2);
    let mut device = listening(&setup, "s-0");
    let mut other = listening(&setup, "s-1");
    let started = setup.ask(&["device", "rotate", "s-0", "--template", "renew"]);
    assert_eq!(started["devices"], 1);
    let told = order(&mut device, "s-0");
    assert_eq!((&told["requestId"], &told["template"]), (&started["id"], &"renew".into()));
    assert!(told["notBefore"].as_i64().unwrap() < told["notAfter"].as_i64().unwrap(), "{told}");
    let shown = until(&setup, "it is told", |shown| state(shown, "s-0") == "asked");
    assert_eq!(shown["devices"][0]["asked"], 1);
    let again = setup.refused(&["device", "rotate", "s-0"]);
    assert!(again.contains("in a rotation already"), "{again}");

    let next = renew(&setup, &mut device, "s-0");
    let shown = until(&setup, "it has a new certificate", |shown| state(shown, "s-0") == "rotating");
    assert_eq!(shown["rotation"]["phase"], "all");
    assert_eq!(setup.dial_as(&next, "s-0").connack(), 0);
    let shown = until(&setup, "it has connected", |shown| state(shown, "s-0") == "done");
    assert_eq!(shown["rotation"]["phase"], "finished");
    let now = setup.ask(&["device", "show", "s-0"]);
    assert_eq!(shown["devices"][0]["new"], now["device"]["certificates"][1]["id"]);
    // Nobody else was told anything.
    setup.ask(&["device", "rotate", "s-1"]);
    assert_eq!(order(&mut other, "s-1")["requestId"], status(&setup)["rotation"]["id"]);
    let notes = setup.ask(&["audit", "list", "--kind", "noted"]).to_string();
    assert!(
        notes.contains("1 devices are told") && notes.contains("finished, 1 devices through, 0 failed"),
        "{notes}"
    );
}

#[test]
fn the_others_are_told_when_the_first_ones_are_through_and_a_failure_holds_them() {
    let setup = with_devices(3);
    let mut first = listening(&setup, "s-1");
    // The one that is there goes first.
    let started = setup.ask(&["device", "rotate", "--expiring", "365d", "--canary", "10%"]);
    assert_eq!(
        (&started["devices"], &started["canaries"], &started["phase"]),
        (&3.into(), &1.into(), &"canary".into())
    );
    order(&mut first, "s-1");
    let mut second = listening(&setup, "s-2");
    let shown = until(&setup, "the first one is told", |shown| state(shown, "s-1") == "asked");
    assert_eq!((state(&shown, "s-0"), state(&shown, "s-2")), ("waiting", "waiting"));
    setup.ask(&["device", "revoke", "s-1"]);
    let shown = until(&setup, "it is held", |shown| shown["rotation"]["phase"] == "held");
    assert!(shown["rotation"]["held-because"].as_str().unwrap().contains("s-1: its certificate was revoked"));
    assert_eq!(state(&shown, "s-2"), "waiting");
    let id = shown["rotation"]["id"].as_str().unwrap().to_owned();
    setup.ask(&["device", "rotate", "--continue", &id]);
    assert_eq!(order(&mut second, "s-2")["requestId"], id.as_str());
    until(&setup, "one is away", |shown| state(shown, "s-0") == "offline" && state(shown, "s-2") == "asked");
    // It is told when it comes.
    order(&mut listening(&setup, "s-0"), "s-0");
    setup.ask(&["device", "rotate", "--cancel", &id]);
    assert_eq!(status(&setup)["rotation"]["phase"], "cancelled");
    assert!(setup.refused(&["device", "rotate", "--continue", &id]).contains("is cancelled"));
}

#[test]
fn it_goes_on_after_the_broker_was_killed() {
    let mut setup = with_devices(2);
    let mut device = listening(&setup, "s-0");
    let started = setup.ask(&["device", "rotate", "--all"]);
    order(&mut device, "s-0");
    let next = renew(&setup, &mut device, "s-0");
    setup.kill();
    setup.start();
    let shown = until(&setup, "it is there again", |shown| shown["rotation"]["id"] == started["id"]);
    assert_eq!(state(&shown, "s-0"), "rotating", "{shown:#}");
    assert_eq!(order(&mut listening(&setup, "s-1"), "s-1")["requestId"], started["id"]);
    assert_eq!(setup.dial_as(&next, "s-0").connack(), 0);
    until(&setup, "the first is through", |shown| {
        state(shown, "s-0") == "done" && state(shown, "s-1") == "asked"
    });
}

#[test]
fn what_cannot_be_commanded_is_refused_with_what_to_do() {
    let setup = with_devices(1);
    assert!(setup.refused(&["device", "rotate", "nobody"]).contains("no such device"));
    assert!(setup.refused(&["device", "rotate"]).contains("say which devices"));
    assert!(setup.refused(&["device", "rotate", "--expiring", "1d"]).contains("no device is picked"));
    assert!(setup.refused(&["device", "rotate", "--all", "--template", "none"]).contains("no template none"));
    assert!(setup.refused(&["device", "rotate", "--status", "latest"]).contains("no rotation"));
    assert_eq!(setup.run(&["device", "rotate", "s-0", "--all"]).status.code(), Some(2));
    assert_eq!(setup.run(&["device", "rotate", "--all", "--canary", "100%"]).status.code(), Some(2));
    fs::write(setup.path("acl.conf"), "pattern read devices/%u/certs/rotate\n").unwrap();
    setup.ask(&["reload"]);
    let said = setup.refused(&["device", "rotate", "s-0"]);
    assert!(said.contains("devices/s-0/certs/rotate") && said.contains("role operator"), "{said}");
    assert_eq!(setup.ask(&["device", "rotate", "--status"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_device_that_may_not_read_the_command_is_not_waited_for() {
    let setup = with_devices(1);
    let _device = listening(&setup, "s-0");
    // Its subscription stays, and delivers nothing.
    fs::write(
        setup.path("acl.conf"),
        "topic read other\nrole operator\ntopic write devices/+/certs/rotate\n",
    )
    .unwrap();
    setup.ask(&["reload"]);
    setup.ask(&["device", "rotate", "s-0"]);
    let shown = until(&setup, "it has failed or is away", |shown| {
        ["failed", "offline"].contains(&state(shown, "s-0"))
    });
    assert_ne!(state(&shown, "s-0"), "asked");
}
