//! `signet ota publish` against a running broker and a device at the wire.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::process::{Child, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use peer::Device;
use serde_json::{Value, json};
use setup::Setup;

const POLICY: &str = "pattern readwrite devices/%u/#\nrole operator\ntopic readwrite devices/#\n";
const IMAGE_BYTES: usize = 5000;

/// A broker with a device, an operator, and a signed image.
fn prepared() -> Setup {
    let mut setup = Setup::new();
    fs::write(setup.path("acl.conf"), POLICY).unwrap();
    setup.start();
    setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    setup.ask(&["operator", "add", "operations", "--key", "--out", "out"]);
    let image: Vec<u8> = (0..IMAGE_BYTES).map(|at| (at % 251) as u8).collect();
    let digest: String = digest(&SHA256, &image).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest =
        json!({ "chip": "host", "counter": 1, "sha256": digest, "size": IMAGE_BYTES, "version": "2.0.0" });
    let signed = json!({ "manifest": manifest.to_string(), "signature": "00ff" });
    fs::write(setup.path("app.bin"), image).unwrap();
    fs::write(setup.path("app.json"), signed.to_string()).unwrap();
    setup
}

fn publish(setup: &Setup, as_whom: &str, more: &[&str]) -> Child {
    let address = fs::read_to_string(setup.path("ready")).unwrap();
    let port = address.trim().rsplit(':').next().unwrap();
    let broker = format!("localhost:{port}");
    let (cert, key) = (format!("out/{as_whom}/device-chain.crt"), format!("out/{as_whom}/device.key"));
    let mut args =
        vec!["ota", "publish", "sensor-1", "--image", "app.bin", "--manifest", "app.json", "--json"];
    args.extend(["--broker", &broker, "--cert", &cert, "--key", &key, "--ca", "pki/root-ca.crt"]);
    args.extend(more);
    setup.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> (Option<i32>, Value, String) {
    let output = child.wait_with_output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), report, String::from_utf8(output.stderr).unwrap())
}

/// The device, which hears its commands: an order to somebody who is not connected waits for nobody.
fn connected(setup: &Setup) -> Device {
    let mut device = setup.dial("out/sensor-1");
    assert_eq!(device.connack(), 0);
    assert_eq!(device.subscribe("devices/sensor-1/commands/#"), 1);
    device
}

fn say(device: &mut Device, topic: &str, payload: &Value) {
    device.post(&format!("devices/sensor-1/telemetry/{topic}"), payload.to_string().as_bytes());
}

#[test]
fn a_device_is_given_the_image_part_by_part_and_the_command_ends_when_it_runs() {
    let setup = prepared();
    let mut device = connected(&setup);
    let child = publish(&setup, "operations", &[]);
    let (topic, order) = device.message();
    assert_eq!(topic, "devices/sensor-1/commands/ota");
    let order: Value = serde_json::from_slice(&order).unwrap();
    assert_eq!(order["signature"], "00ff");
    let id = order["id"].clone();
    say(&mut device, "results", &json!({ "device": "sensor-1", "command": "ota", "id": id, "ok": true }));
    let mut image = Vec::new();
    while image.len() < IMAGE_BYTES {
        say(&mut device, "ota", &json!({ "version": "2.0.0", "offset": image.len(), "bytes_max": 2048 }));
        let (topic, part) = device.answer();
        assert_eq!(topic, format!("devices/sensor-1/commands/ota/{}", image.len()));
        image.extend(part);
    }
    assert_eq!(image, fs::read(setup.path("app.bin")).unwrap());
    for state in ["installed, starting it", "confirmed 2.0.0"] {
        let result = json!({ "device": "sensor-1", "command": "ota", "ok": true, "state": state });
        say(&mut device, "results", &result);
    }
    let (code, report, said) = ended(child);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(report["devices"]["sensor-1"]["state"], "confirmed");
}

#[test]
fn a_device_that_never_answers_is_named_with_the_reason_and_the_exit_code() {
    let setup = prepared();
    let (code, report, said) = ended(publish(&setup, "operations", &["--within", "1s"]));
    assert_eq!(code, Some(1), "{said}");
    let why = report["devices"]["sensor-1"]["why"].as_str().unwrap();
    assert!(why.contains("is it connected"), "{why}");
}

#[test]
fn a_device_that_refuses_is_named_in_its_own_words() {
    let setup = prepared();
    let mut device = connected(&setup);
    let child = publish(&setup, "operations", &[]);
    let (_, order) = device.message();
    let order: Value = serde_json::from_slice(&order).unwrap();
    let refusal =
        json!({ "command": "ota", "id": order["id"], "ok": false, "error": "the signature is wrong" });
    say(&mut device, "results", &refusal);
    let (code, report, said) = ended(child);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(report["devices"]["sensor-1"]["why"], "the signature is wrong");
}

#[test]
fn whoever_may_not_write_to_devices_and_an_image_that_is_not_the_manifests_get_nowhere() {
    let setup = prepared();
    // The device's own certificate, for another device's topics.
    setup.ask(&["device", "add", "sensor-2", "--key", "--out", "out"]);
    let (code, _, said) = ended(publish(&setup, "sensor-2", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not let this certificate"), "{said}");

    fs::write(setup.path("app.bin"), [0; IMAGE_BYTES]).unwrap();
    let (code, _, said) = ended(publish(&setup, "operations", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("SHA-256"), "{said}");
}
