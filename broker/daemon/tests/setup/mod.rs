//! A broker with a registry and an authority, run as a program in a folder of its own. `SIGNET_BIN=PATH` names another
//! program than the one of this build, such as an optimised one.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peer::Device;

/// A listener on a free port, a registry, an authority, an admin socket.
pub(crate) const CONFIGURATION: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"pki/server-chain.crt\"\n\
    private-key = \"pki/server.key\"\nclient-ca = [\"ca/issuing.crt\"]\nmax-connections = 10\n\
    [acl]\nfile = \"acl.conf\"\n[registry]\nmode = \"on\"\n[ca]\n[admin]\nsocket = \"signet.sock\"\n";

/// A folder with a configuration and an authority, and the broker that runs with it.
pub(crate) struct Setup {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) running: Option<Child>,
}

impl Setup {
    /// With an authority, not running.
    pub(crate) fn new() -> Self {
        Self::with_configuration(CONFIGURATION)
    }

    /// With an authority and a configuration, not running.
    pub(crate) fn with_configuration(configuration: &str) -> Self {
        let setup = Self { dir: tempfile::tempdir().unwrap(), running: None };
        signet_certs_dev::ensure(&setup.path("pki")).unwrap();
        fs::write(setup.path("acl.conf"), "pattern write devices/%u/#\n").unwrap();
        fs::write(setup.path("signet.toml"), configuration).unwrap();
        setup.works(&["ca", "init", "--config", "signet.toml", "--root", "root"]);
        setup
    }

    /// Running.
    pub(crate) fn started() -> Self {
        let mut setup = Self::new();
        setup.start();
        setup
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let program = std::env::var_os("SIGNET_BIN").unwrap_or(env!("CARGO_BIN_EXE_signet").into());
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).env_remove("SIGNET_SOCKET");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn works(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A command of an operator, as JSON.
    pub(crate) fn ask(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--config", "signet.toml", "--json"]);
        serde_json::from_str(&self.works(&all)).unwrap()
    }

    /// What a refused command of an operator says.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let mut all = args.to_vec();
        all.extend(["--config", "signet.toml"]);
        let output = self.run(&all);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    pub(crate) fn start(&mut self) {
        let ready = self.path("ready");
        let _ = fs::remove_file(&ready);
        let child = self
            .command(&["run", "--config", "signet.toml", "--ready-file", "ready"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("log")).unwrap())
            .spawn()
            .unwrap();
        self.running = Some(child);
        let end = Instant::now() + Duration::from_secs(30);
        while !ready.exists() {
            let log = fs::read_to_string(self.path("log")).unwrap();
            assert!(Instant::now() < end, "the broker is not ready: {log}");
            std::thread::yield_now();
        }
    }

    /// A connection with the certificate of an added device.
    pub(crate) fn dial(&self, folder: &str) -> Device {
        self.dial_as(folder, "x")
    }

    /// The same with a client id.
    pub(crate) fn dial_as(&self, folder: &str, client_id: &str) -> Device {
        let address =
            fs::read_to_string(self.path("ready")).unwrap().lines().next().unwrap().parse().unwrap();
        Device::dial_as(address, &self.path("pki/root-ca.crt"), &self.path(folder), client_id)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn stop(&mut self) {
        self.works(&["stop", "--config", "signet.toml"]);
        assert!(self.running.take().unwrap().wait().unwrap().success());
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
