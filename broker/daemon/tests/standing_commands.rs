//! Quarantine, expiry and last-seen data on the command line, and reloads that the operating system cannot bear.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use setup::{CONFIGURATION, Setup};

/// Not authorized, of PUBACK.
const NOT_AUTHORIZED: u8 = 0x87;
/// Administrative action, of DISCONNECT.
const ADMINISTRATIVE_ACTION: u8 = 0x98;

#[test]
fn a_device_goes_into_quarantine_and_comes_out_again() {
    let setup = Setup::started();
    setup.works(&["device", "add", "sensor-1", "--key", "--out", "out", "--config", "signet.toml"]);
    let mut live = setup.dial("out/sensor-1");
    assert_eq!(live.connack(), 0);
    assert!(live.publish("devices/sensor-1/status", b"x") < 0x80);
    let changed = setup.ask(&["device", "quarantine", "sensor-1", "--why", "sends nonsense"]);
    assert_eq!(changed["events"], 1);
    assert_eq!(live.packet()[2], ADMINISTRATIVE_ACTION);
    assert!(live.is_closed());
    let mut held = setup.dial("out/sensor-1");
    assert_eq!(held.connack(), 0);
    assert_eq!(held.publish("devices/sensor-1/status", b"x"), NOT_AUTHORIZED);
    let shown = setup.ask(&["device", "show", "sensor-1"]);
    assert_eq!(shown["device"]["quarantine"]["why"], "sends nonsense");
    assert_eq!(shown["device"]["certificates"][0]["status"], "active");
    let listed = setup.works(&["device", "list", "--config", "signet.toml"]);
    assert!(
        listed.lines().any(|line| line.starts_with("sensor-1") && line.contains("quarantined")),
        "{listed}"
    );
    let again = setup.ask(&["device", "quarantine", "sensor-1", "--why", "again"]);
    assert_eq!(again["events"], 0, "it is so already");
    setup.works(&["device", "release", "sensor-1", "--config", "signet.toml"]);
    assert_eq!(held.packet()[2], ADMINISTRATIVE_ACTION);
    assert!(held.is_closed());
    let mut free = setup.dial("out/sensor-1");
    assert_eq!(free.connack(), 0);
    assert!(free.publish("devices/sensor-1/status", b"x") < 0x80);
    assert!(setup.ask(&["device", "show", "sensor-1"])["device"]["quarantine"].is_null());
    assert!(setup.refused(&["device", "quarantine", "nobody"]).contains("nobody"));
    let trail = setup.works(&["audit", "list", "--config", "signet.toml"]);
    assert!(trail.contains("thing sensor-1 is in quarantine: sends nonsense"), "{trail}");
    assert!(trail.contains("thing sensor-1 is out of quarantine"), "{trail}");
}

#[test]
fn quarantine_outlives_a_restart() {
    let mut setup = Setup::started();
    setup.works(&["device", "add", "sensor-1", "--key", "--out", "out", "--config", "signet.toml"]);
    setup.works(&["device", "quarantine", "sensor-1", "--config", "signet.toml"]);
    setup.kill();
    setup.start();
    let mut held = setup.dial("out/sensor-1");
    assert_eq!(held.connack(), 0);
    assert_eq!(held.publish("devices/sensor-1/status", b"x"), NOT_AUTHORIZED);
}

#[test]
fn the_list_names_who_ends_soon_and_a_device_shows_when_it_was_seen() {
    let short = CONFIGURATION.replace("[ca]\n", "[ca]\ncertificate-validity = \"20d\"\n");
    let mut setup = Setup::with_configuration(&short);
    setup.start();
    setup.works(&["device", "add", "ends-soon", "--key", "--out", "out", "--config", "signet.toml"]);
    setup.stop();
    fs::write(setup.path("signet.toml"), CONFIGURATION).unwrap();
    setup.start();
    setup.works(&["device", "add", "ends-late", "--key", "--out", "out", "--config", "signet.toml"]);
    setup.works(&["device", "add", "revoked", "--key", "--out", "out", "--config", "signet.toml"]);
    let names = |within: &str| -> Vec<String> {
        let listed = setup.ask(&["device", "list", "--expiring", within]);
        let devices = listed["devices"].as_array().unwrap().iter();
        devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("30d"), ["ends-soon"]);
    assert_eq!(names("19d"), Vec::<String>::new());
    assert_eq!(names("100d"), ["ends-late", "ends-soon", "revoked"]);
    setup.works(&["device", "revoke", "revoked", "--config", "signet.toml"]);
    assert_eq!(names("100d"), ["ends-late", "ends-soon"], "what is revoked does not end");
    assert!(setup.ask(&["device", "show", "ends-late"])["device"]["certificates"][0]["seen"].is_null());
    for _ in 0..2 {
        assert_eq!(setup.dial("out/ends-late").connack(), 0);
    }
    let shown = setup.ask(&["device", "show", "ends-late"]);
    let seen = &shown["device"]["certificates"][0]["seen"];
    assert_eq!((&seen["connects"], &seen["address"]), (&2.into(), &"127.0.0.1".into()));
    assert_eq!(seen["tls"], "1.3");
    assert!(seen["first-ms"].as_u64().unwrap() <= seen["last-ms"].as_u64().unwrap());
    let text = setup.works(&["device", "show", "ends-late", "--config", "signet.toml"]);
    assert!(
        text.contains("seen        2 times, first ") && text.contains("from 127.0.0.1 with TLS 1.3"),
        "{text}"
    );
}

#[test]
fn a_reload_that_asks_for_more_connections_than_there_can_be_is_refused() {
    let mut setup = Setup::new();
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 256 && exec \"$0\" run --config signet.toml --ready-file ready"])
        .arg(env!("CARGO_BIN_EXE_signet"))
        .current_dir(setup.dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    setup.running = Some(child);
    let end = Instant::now() + Duration::from_secs(30);
    while !setup.path("ready").exists() {
        assert!(Instant::now() < end, "the broker is not ready");
        std::thread::yield_now();
    }
    let with =
        |most: &str| CONFIGURATION.replace("max-connections = 10\n", &format!("max-connections = {most}\n"));
    fs::write(setup.path("signet.toml"), with("1000")).unwrap();
    let said = setup.refused(&["reload"]);
    assert!(said.contains("file descriptors") && said.contains("256"), "{said}");
    fs::write(setup.path("signet.toml"), with("20")).unwrap();
    setup.works(&["reload", "--config", "signet.toml"]);
    setup.stop();
}
