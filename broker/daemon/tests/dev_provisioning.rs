//! `signet dev` is ready for provisioning: its claim brings a device in.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use peer::Device;
use serde_json::{Value, json};

/// The running broker; it goes with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `signet dev` in `dir`; the port that it tells people.
fn start(dir: &std::path::Path) -> (Running, u16) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_signet"))
        .args(["dev", "--address", "127.0.0.1:0", "--log", "error", "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.starts_with("Stop with"))
        .collect();
    let running = Running(child);
    let command = lines.iter().find(|line| line.contains(" -p ")).unwrap_or_else(|| panic!("{lines:#?}"));
    let port = command.split(" -p ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    (running, port)
}

#[test]
fn the_claim_of_a_new_setup_brings_a_device_in_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for serial in ["0001", "0002"] {
        let (_running, port) = start(dir.path());
        let address = ([127, 0, 0, 1], port).into();
        let root = dir.path().join("root-ca.crt");
        let mut claim = Device::dial_as(address, &root, &dir.path().join("claims/dev-claim"), "new");
        assert_eq!(claim.connack(), 0);
        let create = "$aws/certificates/create/json";
        assert_eq!(claim.subscribe(&format!("{create}/+")), 1);
        claim.post(create, b"{}");
        let (topic, payload) = claim.answer();
        assert_eq!(topic, format!("{create}/accepted"));
        let created: Value = serde_json::from_slice(&payload).unwrap();
        let provision = "$aws/provisioning-templates/fleet/provision/json";
        assert_eq!(claim.subscribe(&format!("{provision}/+")), 1);
        let token = &created["certificateOwnershipToken"];
        let wanted = json!({"certificateOwnershipToken": token, "parameters": {"SerialNumber": serial}});
        claim.post(provision, wanted.to_string().as_bytes());
        let (topic, payload) = claim.answer();
        assert_eq!(topic, format!("{provision}/accepted"), "{}", String::from_utf8_lossy(&payload));
        let registered: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(registered["thingName"], format!("sensor-{serial}"));

        let folder = dir.path().join(serial);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("device-chain.crt"), created["certificatePem"].as_str().unwrap()).unwrap();
        fs::write(folder.join("device.key"), created["privateKey"].as_str().unwrap()).unwrap();
        let mut device = Device::dial_as(address, &root, &folder, "new");
        assert_eq!(device.connack(), 0);
        assert_eq!(device.publish(&format!("devices/sensor-{serial}/telemetry/x"), b"1"), 0x10);
        // It is confined to its own topics.
        assert_eq!(device.publish("devices/sensor-001/telemetry/x", b"1"), 0x87);
    }
}
