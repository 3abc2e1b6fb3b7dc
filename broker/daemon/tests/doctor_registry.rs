//! The doctor and a broker that keeps a registry: what TLS accepts and the registry does not, asked of the running broker, of
//! its files, and through a connection.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod ward;

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use signet_certs_dev::{Authority, KeyKind, LeafProfile, Validity};
use time::OffsetDateTime;
use ward::{Said, Ward};

const CONFIGURATION: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"server-chain.crt\"\n\
    private-key = \"server.key\"\nclient-ca = [\"ca/issuing.crt\", \"outside.crt\"]\nmax-connections = 10\n\
    [acl]\nfile = \"acl.conf\"\n[registry]\nmode = \"on\"\n[ca]\n[admin]\nsocket = \"signet.sock\"\n\
    [limits]\nhandshakes-per-address-per-second = 0\n";

/// A broker with a registry and an authority, as a program of its own.
struct Setup {
    ward: Ward,
    running: Option<Child>,
}

impl Setup {
    /// Running, with a device `good` that was added and `guest.crt` of an outside authority that is trusted by TLS.
    fn new() -> Self {
        let ward = Ward::new();
        let validity = Validity::days_from(OffsetDateTime::now_utc(), 90);
        let outside = Authority::root("Outside root", KeyKind::P256, validity).unwrap();
        ward.write("outside.crt", &outside.certificate_pem());
        ward.keep("guest", &outside.issue(&LeafProfile::device("guest", validity)).unwrap());
        ward.write("acl.conf", "pattern write devices/%u/#\n");
        ward.write("signet.toml", CONFIGURATION);
        let mut setup = Self { ward, running: None };
        setup.works(&["ca", "init", "--root", "offline"]);
        setup.start();
        setup.works(&["device", "add", "good", "--key", "--out", "out"]);
        setup
    }

    fn works(&self, args: &[&str]) {
        let output = self.ward.command(args).args(["--config", "signet.toml"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
    }

    fn start(&mut self) {
        let child = self
            .ward
            .command(&["run", "--config", "signet.toml", "--ready-file", "ready"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.ward.path("log")).unwrap())
            .spawn()
            .unwrap();
        self.running = Some(child);
        let end = Instant::now() + Duration::from_secs(30);
        while !self.ward.path("ready").exists() {
            let log = fs::read_to_string(self.ward.path("log")).unwrap();
            assert!(Instant::now() < end, "the broker is not ready: {log}");
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        self.works(&["stop"]);
        assert!(self.running.take().unwrap().wait().unwrap().success());
    }

    fn good(&self) -> Said {
        let (cert, key) = ("out/good/device-chain.crt", "out/good/device.key");
        self.ward.doctor(&[cert, "--key", key, "--config", "signet.toml"])
    }

    fn guest(&self) -> Said {
        self.ward.doctor(&["guest-chain.crt", "--config", "signet.toml"])
    }

    /// Through a connection.
    fn dial(&self, cert: &str, key: &str) -> Said {
        let address = fs::read_to_string(self.ward.path("ready")).unwrap();
        let target = format!("localhost:{}", address.trim().rsplit(':').next().unwrap());
        self.ward.doctor(&[&target, "--ca", "root.crt", "--cert", cert, "--key", key])
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // The test is over or has failed; the broker goes in any case.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_registered_device_is_well_and_a_stranger_that_tls_accepts_is_not() {
    let mut setup = Setup::new();
    let said = setup.good();
    said.errs(&[]).warns(&["partial-chain"]);
    assert!(said.facts("broker").contains("running"));
    assert!(said.facts("registry").contains("active, device good"), "{:#}", said.report);
    assert_eq!(said.report["judgement"]["rights"][0]["filter"], "devices/good/#");
    setup.guest().errs(&["not-registered"]);
    // The same without --config: the socket is enough, and its verifier has the say.
    let said = setup.ward.doctor(&["guest-chain.crt", "--socket", "signet.sock"]);
    said.errs(&["not-registered"]);
    let said = setup.ward.doctor(&["sensor-001-chain.crt", "--socket", "signet.sock"]);
    assert!(said.found("error").contains(&"not-registered"), "{:#}", said.report);
    // The connection says so too, in the words of CONNACK.
    setup.dial("out/good/device-chain.crt", "out/good/device.key").errs(&[]);
    let said = setup.dial("guest-chain.crt", "guest.key");
    assert!(said.found("error").contains(&"not-registered"), "{:#}", said.report);
    assert_eq!(said.code, Some(1));
    // Once the outside authority's certificates are admitted, the stranger is welcome.
    let admit = ["ca", "import", "outside.crt", "--names", "guest*", "--unknown", "auto"];
    setup.works(&[&admit[..], &["--share-names-with", "own"]].concat());
    let said = setup.guest();
    said.errs(&[]);
    assert_eq!(said.found("note"), ["will-be-admitted"]);
    // What the registry knows is on disk, for a broker that is not running.
    setup.stop();
    let said = setup.good();
    said.errs(&[]).warns(&["partial-chain"]);
    assert!(said.facts("broker").contains("not running"), "{:#}", said.report);
    assert!(said.facts("registry").contains("active, device good"), "{:#}", said.report);
    let said = setup.ward.doctor(&["guest-chain.crt", "--socket", "signet.sock", "--ca", "outside.crt"]);
    said.errs(&[]).warns(&["registry-unavailable"]);
}

#[test]
fn a_suspended_and_a_revoked_device_are_told_apart_and_from_a_good_one() {
    let setup = Setup::new();
    setup.works(&["device", "suspend", "good"]);
    let said = setup.good();
    said.errs(&["suspended"]);
    assert!(said.finding("suspended")["text"].as_str().unwrap().contains("device good"));
    setup.works(&["device", "activate", "good"]);
    setup.good().errs(&[]);
    setup.works(&["device", "quarantine", "good", "--why", "a test"]);
    let said = setup.good();
    said.errs(&["quarantined"]);
    assert_eq!(said.report["judgement"]["who"]["quarantined"], true);
    setup.works(&["device", "release", "good"]);
    setup.good().errs(&[]);
    setup.works(&["device", "revoke", "good", "--reason", "key-compromise"]);
    let said = setup.good();
    assert!(said.found("error").contains(&"revoked-in-registry"), "{:#}", said.report);
    let text = said.finding("revoked-in-registry")["text"].as_str().unwrap();
    assert!(text.to_lowercase().contains("compromise"), "{text}");
    assert_eq!(said.code, Some(1));
}
