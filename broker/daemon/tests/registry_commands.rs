//! The commands of the registry against a running broker: through the program, its admin socket and the disk.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use setup::{CONFIGURATION, Setup};

/// Not authorized, of CONNACK.
const NOT_AUTHORIZED: u8 = 0x87;
/// Administrative action, of DISCONNECT.
const ADMINISTRATIVE_ACTION: u8 = 0x98;

fn status_of(setup: &Setup, device: &str) -> String {
    let shown = setup.ask(&["device", "show", device]);
    shown["device"]["certificates"][0]["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_device_gets_a_key_and_a_certificate_and_loses_its_standing() {
    let setup = Setup::started();
    let add =
        ["device", "add", "sensor-1", "--key", "--out", "out", "--group", "hall", "--attribute", "site=3"];
    let added = setup.ask(&add);
    let id = added["devices"][0]["certificate"]["id"].as_str().unwrap().to_owned();
    for file in ["device.key", "device.crt", "device-chain.crt", "device.json"] {
        assert!(setup.path("out/sensor-1").join(file).is_file(), "{file}");
    }
    // Whoever did not get the answer asks again and gets the same.
    let again = setup.ask(&add);
    assert_eq!(again["devices"][0]["certificate"]["id"], id.as_str());
    assert_eq!(again["devices"][0]["certificate"]["already"], true);

    setup.ask(&["device", "suspend", "--certificate", &id[..12]]);
    assert_eq!(status_of(&setup, "sensor-1"), "inactive");
    setup.ask(&["device", "activate", "sensor-1"]);
    assert_eq!(status_of(&setup, "sensor-1"), "active");
    let revoked = setup.ask(&["device", "revoke", "sensor-1", "--reason", "key-compromise"]);
    assert_eq!(revoked["lost"], 1);
    assert_eq!(status_of(&setup, "sensor-1"), "revoked");
    assert!(setup.refused(&["device", "activate", "sensor-1"]).contains("REVOKED"));
    let listed = setup.ask(&["device", "list", "--status", "revoked"]);
    assert_eq!(listed["devices"].as_array().unwrap().len(), 1);
    let list = setup.ask(&["crl", "write"]);
    assert_eq!(list["entries"], 1);
    let before = list["number"].as_u64().unwrap();
    assert!(setup.ask(&["crl", "write"])["number"].as_u64().unwrap() > before);
}

#[test]
fn a_signing_request_for_another_name_is_refused_recorded_and_adds_nobody() {
    let setup = Setup::started();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "sensor-2");
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    fs::write(setup.path("d.csr"), csr).unwrap();
    let said = setup.refused(&["device", "add", "sensor-1", "--csr", "d.csr"]);
    assert!(said.contains("sensor-2") && said.contains("hint"), "{said}");
    setup.refused(&["device", "show", "sensor-1"]);
    let rows = setup.ask(&["audit", "list", "--kind", "refused"]);
    assert!(rows[0]["text"].as_str().unwrap().contains("sensor-2"), "{rows}");
    assert!(rows[0]["actor"].as_str().unwrap().starts_with("local uid"), "{rows}");
    // The nearest thing that is right.
    setup.ask(&["device", "add", "sensor-2", "--csr", "d.csr"]);
}

#[test]
fn many_devices_are_added_and_a_second_run_goes_on_where_the_first_was_killed() {
    let mut setup = Setup::started();
    let list: String = (0..250).map(|n| format!("sn-{n:03},esp32,outdoor\n")).collect();
    fs::write(setup.path("serials.csv"), format!("serial,type,groups\n{list}")).unwrap();
    let args =
        ["device", "add", "--from", "serials.csv", "--out", "bulk", "--config", "signet.toml", "--json"];
    let mut bulk = setup.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Somewhere in the middle, both are killed.
    let some = setup.path("bulk/sn-020/device.json");
    let end = Instant::now() + Duration::from_secs(60);
    while !some.exists() {
        assert!(Instant::now() < end, "nothing was added");
        std::thread::yield_now();
    }
    bulk.kill().unwrap();
    bulk.wait().unwrap();
    setup.kill();
    setup.start();
    let report = setup.ask(&args[..6]);
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(count("added") + count("fetched") + count("complete"), 250, "{report}");
    assert!(count("complete") > 20, "{report}");
    let devices = setup.ask(&["device", "list", "--type", "esp32"]);
    let devices = devices["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 250);
    assert!(devices.iter().all(|device| device["certificates"].as_array().unwrap().len() == 1));
    assert_eq!(setup.ask(&args[..6])["complete"], 250);
}

#[test]
fn a_list_with_a_mistake_does_nothing() {
    let setup = Setup::started();
    fs::write(setup.path("serials.csv"), "name\nsn-1\n../../evil\n").unwrap();
    let said = setup.refused(&["device", "add", "--from", "serials.csv", "--out", "bulk"]);
    assert!(said.contains("serials.csv:3:") && said.contains("nothing was done"), "{said}");
    assert_eq!(setup.ask(&["device", "list"])["devices"].as_array().unwrap().len(), 0);
    assert!(!setup.path("bulk").exists());
}

#[test]
fn a_backup_is_restored_and_what_was_revoked_meanwhile_stays_revoked() {
    let mut setup = Setup::started();
    setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    setup.ask(&["backup", "copy.db"]);
    assert!(setup.refused(&["backup", "copy.db"]).contains("nothing is overwritten"));
    setup.ask(&["device", "revoke", "sensor-1"]);
    let verified = setup.ask(&["audit", "verify"]);
    let running = setup.run(&["restore", "copy.db", "--config", "signet.toml", "--replace"]);
    assert_eq!(running.status.code(), Some(2), "a broker runs with it");
    setup.stop();
    let head = verified["head"].as_str().unwrap();
    setup.works(&["audit", "verify", "--database", "registry/registry.db", "--expect", head]);
    assert!(setup.refused(&["restore", "copy.db"]).contains("--replace"));
    let restored = setup.ask(&["restore", "copy.db", "--replace"]);
    assert_eq!(restored["revocations-kept"], 1, "{restored}");
    setup.start();
    assert_eq!(status_of(&setup, "sensor-1"), "revoked");
    // The old end is not in the new trail, and that shows.
    setup.refused(&["audit", "verify", "--expect", head]);
}

#[test]
fn an_outside_authority_is_let_in_for_its_names_only() {
    let setup = Setup::started();
    let import = ["ca", "import", "pki/issuing-ca.crt", "--names", "sensor-*"];
    // The broker's own authority may give every name.
    assert!(setup.refused(&import).contains("share names"));
    let imported = setup.ask(&[&import[..], &["--share-names-with", "own", "--unknown", "jitr"]].concat());
    let rows = setup.ask(&["ca", "show"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == imported["id"]).unwrap().clone();
    assert_eq!((row["own"].as_bool(), row["unknown"].as_str()), (Some(false), Some("jitr")));
    assert!(setup.refused(&["ca", "import", "pki/sensor-001.crt", "--names", "*"]).contains("CA:TRUE"));
    let id = imported["id"].as_str().unwrap();
    assert!(setup.refused(&["ca", "set", &id[..16], "--joins-others", "true"]).contains("auto"));
    let own = rows.as_array().unwrap().iter().find(|row| row["own"] == true).unwrap()["id"].as_str().unwrap();
    assert!(setup.refused(&["ca", "set", own, "--max", "1"]).contains("own"));
    let set = |more: &[&str]| {
        setup.ask(&[&["ca", "set", &id[..16]], more].concat());
        let rows = setup.ask(&["ca", "show"]);
        let row = rows.as_array().unwrap().iter().find(|row| row["id"] == imported["id"]).unwrap().clone();
        (row["devices-max"].as_u64(), row["registers"].as_bool().unwrap())
    };
    assert_eq!(set(&["--max", "500"]), (Some(500), true));
    assert_eq!(set(&["--registers", "false"]), (Some(500), false));
    assert_eq!(set(&["--max", "0", "--registers", "true"]), (None, true));
    setup.ask(&["device", "revoke", "--ca", &id[..16]]);
    assert!(setup.refused(&["device", "activate", "--ca", &id[..16]]).contains("revoked"));
}

#[test]
fn a_damaged_registry_keeps_the_broker_from_starting_and_says_what_to_do() {
    let mut setup = Setup::started();
    setup.ask(&["device", "add", "sensor-1"]);
    setup.stop();
    fs::write(setup.path("registry/registry.db"), "damaged").unwrap();
    let output = setup.run(&["run", "--config", "signet.toml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("damaged") && said.contains("signet restore"), "{said}");
    assert_eq!(fs::read(setup.path("registry/registry.db")).unwrap(), b"damaged");
}

#[test]
fn an_authority_is_never_made_twice_and_its_root_never_where_the_broker_reads() {
    let setup = Setup::new();
    let key = fs::read(setup.path("ca/issuing.key")).unwrap();
    assert!(setup.refused(&["ca", "init", "--root", "root2"]).contains("nothing is overwritten"));
    assert_eq!(fs::read(setup.path("ca/issuing.key")).unwrap(), key);
    for root in ["new", "new/below", "root/../new"] {
        let output = setup.run(&["ca", "init", "--directory", "new", "--root", root]);
        assert_eq!(output.status.code(), Some(1), "{root}");
        assert!(!setup.path("new").exists());
    }
    assert!(!setup.path("ca/root.key").exists());
    fs::write(setup.path("pass"), "a long passphrase\n").unwrap();
    let exposed =
        setup.run(&["ca", "init", "--directory", "new", "--root", "r", "--passphrase-file", "pass"]);
    assert!(String::from_utf8_lossy(&exposed.stderr).contains("chmod 600"));
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(setup.path("pass"), private).unwrap();
    setup.works(&["ca", "init", "--directory", "new", "--root", "r", "--passphrase-file", "pass"]);
    assert!(fs::read_to_string(setup.path("new/issuing.key")).unwrap().contains("ENCRYPTED"));
}

#[test]
fn an_authority_that_exists_is_taken_over_with_its_encrypted_key_and_issues() {
    let mut setup = Setup::new();
    let private = || std::os::unix::fs::PermissionsExt::from_mode(0o600);
    for (file, pass) in [("old-pass", "a long passphrase\n"), ("new-pass", "another passphrase\n")] {
        fs::write(setup.path(file), pass).unwrap();
        fs::set_permissions(setup.path(file), private()).unwrap();
    }
    // Somebody else's authority, as far as the broker is concerned.
    setup.works(&["ca", "init", "--directory", "there", "--root", "r", "--passphrase-file", "old-pass"]);
    let take = |certificate: &str, pass: &str| {
        setup.run(&[
            "ca",
            "init",
            "--directory",
            "here",
            "--certificate",
            certificate,
            "--private-key",
            "there/issuing.key",
            "--private-key-passphrase-file",
            pass,
            "--passphrase-file",
            "new-pass",
        ])
    };
    for (certificate, pass) in [("r/root.crt", "old-pass"), ("there/issuing.crt", "new-pass")] {
        let output = take(certificate, pass);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!setup.path("here/issuing.crt").exists(), "nothing is written before it is judged");
    }
    assert_eq!(take("there/issuing.crt", "old-pass").status.code(), Some(0));
    let text = CONFIGURATION
        .replace("\"ca/issuing.crt\"", "\"here/issuing.crt\"")
        .replace("[ca]\n", "[ca]\ndirectory = \"here\"\npassphrase-file = \"new-pass\"\n");
    fs::write(setup.path("signet.toml"), text).unwrap();
    setup.start();
    setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    assert_eq!(setup.dial("out/sensor-1").connack(), 0);
}

#[test]
fn a_key_that_the_group_can_read_keeps_the_broker_from_starting() {
    let setup = Setup::new();
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(setup.path("ca/issuing.key"), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
        let output = setup.run(&["run", "--config", "signet.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("issuing.key") && said.contains("chmod 600"), "{mode:o}: {said}");
    }
}

#[test]
fn without_a_registry_the_commands_say_how_to_have_one() {
    let mut setup = Setup::new();
    let off = CONFIGURATION.replace("[registry]\nmode = \"on\"\n[ca]\n", "");
    fs::write(setup.path("signet.toml"), off).unwrap();
    setup.start();
    assert!(setup.refused(&["device", "list"]).contains("mode = \"on\""));
    assert!(!setup.path("registry").exists());
}

#[test]
fn a_registered_device_connects_and_is_out_the_moment_it_is_revoked() {
    let setup = Setup::started();
    setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    setup.ask(&["device", "add", "sensor-2", "--key", "--out", "out"]);
    let (mut first, mut second) = (setup.dial("out/sensor-1"), setup.dial("out/sensor-2"));
    assert_eq!((first.connack(), second.connack()), (0, 0));
    let sessions = setup.ask(&["sessions", "list"]);
    assert_eq!(sessions[0]["name"], "sensor-1", "the registry names the device: {sessions}");
    setup.ask(&["device", "revoke", "sensor-1", "--reason", "key-compromise"]);
    let farewell = first.packet();
    assert_eq!((farewell[0], farewell[2]), (0xe0, ADMINISTRATIVE_ACTION), "{farewell:02x?}");
    assert!(first.is_closed());
    // The other one is not disturbed, and the revoked one does not come back.
    second.send(&[0xc0, 0]);
    assert_eq!(second.packet(), [0xd0, 0]);
    let mut again = setup.dial("out/sensor-1");
    assert_eq!(again.connack(), NOT_AUTHORIZED);
    assert!(again.is_closed());
    assert_eq!(setup.ask(&["sessions", "list"]).as_array().unwrap().len(), 1, "its session is gone");
}

#[test]
fn a_suspended_device_is_out_and_comes_back_when_it_is_activated() {
    let setup = Setup::started();
    setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    let mut device = setup.dial("out/sensor-1");
    assert_eq!(device.connack(), 0);
    setup.ask(&["device", "suspend", "sensor-1"]);
    assert_eq!(device.packet()[2], ADMINISTRATIVE_ACTION);
    assert_eq!(setup.dial("out/sensor-1").connack(), NOT_AUTHORIZED);
    setup.ask(&["device", "activate", "sensor-1"]);
    assert_eq!(setup.dial("out/sensor-1").connack(), 0);
}

#[test]
fn a_certificate_that_nobody_registered_is_refused_though_its_authority_is_trusted() {
    let mut setup = Setup::started();
    setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    setup.stop();
    // The same authority, and a registry that knows nothing of what it has issued.
    fs::remove_dir_all(setup.path("registry")).unwrap();
    setup.start();
    let mut device = setup.dial("out/sensor-1");
    assert_eq!(device.connack(), NOT_AUTHORIZED);
    assert!(device.is_closed());
}
