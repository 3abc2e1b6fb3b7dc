//! The program refuses to start on what would leave a door open or lock everybody out, with one clear sentence.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a configuration that works, to be spoilt.
struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        signet_certs_dev::ensure(dir.path()).unwrap();
        let setup = Self { dir };
        setup.put("acl.conf", "pattern write devices/%u/telemetry/#\n");
        setup.configure("127.0.0.1:0", "");
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn configure(&self, address: &str, listener: &str) {
        let limit = if listener.contains("max-connections") { "" } else { "max-connections = 10\n" };
        self.put(
            "signet.toml",
            &format!(
                "[[listener]]\naddress = \"{address}\"\ncertificate = \"server-chain.crt\"\nprivate-key = \"server.key\"\n\
                 client-ca = [\"root-ca.crt\", \"issuing-ca.crt\"]\ncrl = [\"issuing.crl\"]\n{limit}{listener}\n\
                 [acl]\nfile = \"acl.conf\"\n[admin]\nsocket = \"signet.sock\"\n"
            ),
        );
    }

    fn run(&self) -> Output {
        signet(&["run", "--config", self.path("signet.toml").to_str().unwrap()])
    }

    /// Starts, expects a refusal that says `what`, and that `check`, which binds nothing, agrees.
    fn refuses(&self, what: &[&str]) {
        let output = self.run();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "the broker should not have started: {said}");
        for part in what {
            assert!(said.contains(part), "{part:?} is missing in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

fn signet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_signet")).args(args).output().unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_good_configuration_passes_the_check_that_the_refusals_fail() {
    let setup = Setup::new();
    let config = setup.path("signet.toml");
    let output = signet(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_missing_private_key_is_named() {
    let setup = Setup::new();
    fs::remove_file(setup.path("server.key")).unwrap();
    setup.refuses(&["server.key", "there is no such file"]);
}

#[test]
fn an_empty_private_key_is_named() {
    let setup = Setup::new();
    setup.put("server.key", "");
    setup.refuses(&["server.key", "empty"]);
}

#[test]
fn a_private_key_that_everybody_can_read_is_refused() {
    let setup = Setup::new();
    set_mode(&setup.path("server.key"), 0o644);
    setup.refuses(&["server.key", "others can read", "0644"]);
}

#[test]
fn a_private_key_of_another_certificate_is_refused() {
    let setup = Setup::new();
    fs::copy(setup.path("admin.key"), setup.path("server.key")).unwrap();
    setup.refuses(&["server.key", "server-chain.crt"]);
}

#[test]
fn an_empty_client_ca_is_refused() {
    let setup = Setup::new();
    setup.put("root-ca.crt", "\n");
    setup.refuses(&["root-ca.crt", "empty"]);
}

#[test]
fn a_leaf_certificate_is_no_trust_anchor() {
    let setup = Setup::new();
    fs::copy(setup.path("sensor-001.crt"), setup.path("root-ca.crt")).unwrap();
    setup.refuses(&["root-ca.crt", "not a certificate authority"]);
}

#[test]
fn a_missing_policy_is_refused() {
    let setup = Setup::new();
    fs::remove_file(setup.path("acl.conf")).unwrap();
    setup.refuses(&["acl.conf", "no such policy file"]);
}

#[test]
fn a_policy_with_a_bad_line_is_refused_with_its_line() {
    let setup = Setup::new();
    setup.put("acl.conf", "pattern write devices/%u/telemetry/#\ntopic wirte devices/x\n");
    setup.refuses(&["acl.conf:2"]);
}

#[test]
fn a_port_in_use_is_named() {
    let setup = Setup::new();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    setup.configure(&address, "");
    setup.refuses(&[&address, "port is in use"]);
}

#[test]
fn more_connections_than_descriptors_are_refused() {
    let setup = Setup::new();
    setup.configure("127.0.0.1:0", "max-connections = 1000");
    let config = setup.path("signet.toml");
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 256 && exec \"$0\" run --config \"$1\""])
        .args([env!("CARGO_BIN_EXE_signet"), config.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("file descriptors") && said.contains("256"), "{said}");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_a_suggestion() {
    let setup = Setup::new();
    setup.configure("127.0.0.1:0", "sesion-tickets = 1");
    setup.refuses(&["signet.toml:", "session-tickets"]);
}
