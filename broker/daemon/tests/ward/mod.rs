//! What the tests of the doctor share: a folder with certificates, and the program asked for its report.

#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use signet_certs_dev::{Leaf, MemoryPki};
use tempfile::TempDir;
use time::OffsetDateTime;

/// A folder with the development PKI.
pub(crate) struct Ward {
    dir: TempDir,
    pub(crate) pki: MemoryPki,
}

/// What the doctor said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) report: Value,
}

impl Said {
    /// The codes of the findings of this weight, in order.
    pub(crate) fn found(&self, severity: &str) -> Vec<&str> {
        let findings = self.report["findings"].as_array().unwrap();
        let wanted = findings.iter().filter(|finding| finding["severity"] == severity);
        wanted.map(|finding| finding["code"].as_str().unwrap()).collect()
    }

    /// The finding of this code.
    pub(crate) fn finding(&self, code: &str) -> &Value {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["code"] == code);
        found.unwrap_or_else(|| panic!("no {code} in {:#}", self.report))
    }

    /// The texts of the facts of this topic, one after the other.
    pub(crate) fn facts(&self, topic: &str) -> String {
        let facts = self.report["facts"].as_array().unwrap();
        let wanted = facts.iter().filter(|fact| fact["topic"] == topic);
        wanted.map(|fact| fact["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
    }

    /// These errors and no other, and the exit code that goes with them.
    pub(crate) fn errs(&self, expected: &[&str]) -> &Self {
        let mut found = self.found("error");
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{:#}", self.report);
        assert_eq!(self.code, Some(i32::from(!expected.is_empty())), "{:#}", self.report);
        assert_eq!(self.report["good"], expected.is_empty());
        self
    }

    /// These warnings and no other.
    pub(crate) fn warns(&self, expected: &[&str]) -> &Self {
        assert_eq!(self.found("warning"), expected, "{:#}", self.report);
        self
    }

    /// Nothing at all.
    pub(crate) fn is_well(&self) -> &Self {
        self.errs(&[]).warns(&[]);
        assert_eq!(self.found("note"), Vec::<&str>::new(), "{:#}", self.report);
        self
    }

    /// The number that OpenSSL has for the finding.
    pub(crate) fn openssl(&self, code: &str, number: u16) -> &Self {
        assert_eq!(self.finding(code)["openssl"]["number"], number);
        self
    }
}

impl Ward {
    pub(crate) fn new() -> Self {
        let pki = MemoryPki::new(OffsetDateTime::now_utc()).unwrap();
        let ward = Self { dir: tempfile::tempdir().unwrap(), pki };
        ward.write("root.crt", &ward.pki.root.certificate_pem());
        ward.write("issuing.crt", &ward.pki.issuing.certificate_pem());
        ward.write("foreign.crt", &ward.pki.foreign.certificate_pem());
        ward.write("issuing.crl", &ward.pki.crl.pem());
        for role in signet_certs_dev::ROLES {
            let leaf = ward.pki.leaf(role.name).unwrap().clone();
            ward.keep(role.name, &leaf);
        }
        ward
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.chmod(name, 0o600);
    }

    pub(crate) fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes `NAME.crt`, `NAME-chain.crt` and, when there is one, `NAME.key`.
    pub(crate) fn keep(&self, name: &str, leaf: &Leaf) {
        self.write(&format!("{name}.crt"), &leaf.certificate_pem());
        self.write(&format!("{name}-chain.crt"), &leaf.chain_pem());
        if !leaf.key().is_empty() {
            self.write(&format!("{name}.key"), &leaf.key_pem());
        }
    }

    /// Writes `NAME-chain.crt` out of files that are there.
    pub(crate) fn join(&self, name: &str, files: &[&str]) {
        let text: String = files.iter().map(|file| fs::read_to_string(self.path(file)).unwrap()).collect();
        self.write(&format!("{name}-chain.crt"), &text);
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signet"));
        command.args(args).current_dir(self.dir.path()).env_remove("SIGNET_SOCKET");
        command
    }

    /// Asks the doctor for its report.
    pub(crate) fn doctor(&self, args: &[&str]) -> Said {
        let output = self.command(&["doctor", "--json"]).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}");
        let report = serde_json::from_slice(&output.stdout);
        Said { code: output.status.code(), report: report.unwrap_or_else(|_| panic!("{args:?}: {said}")) }
    }

    /// Asks the doctor about a chain, judged by the development PKI's authorities and list.
    pub(crate) fn judge(&self, name: &str) -> Said {
        let file = format!("{name}-chain.crt");
        self.doctor(&[&file, "--ca", "root.crt", "--ca", "issuing.crt", "--crl", "issuing.crl"])
    }

    /// What the program says when it cannot run at all.
    pub(crate) fn cannot_run(&self, args: &[&str]) -> String {
        let output = self.command(&["doctor"]).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }
}
