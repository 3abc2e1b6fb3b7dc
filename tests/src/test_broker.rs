//! A whole broker in this process: its own threads, a port that the kernel chose, a PKI and files of its own.

use crate::raw_client::Handshake;
use signet::admin::api::{FailureReport, Reloaded};
use signet::server::{ConfigSource, Server};
use signet_certs_dev::{Authority, CrlProfile, KeyKind, Leaf, LeafProfile, MemoryPki, Serial, Validity};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use time::OffsetDateTime;

/// Lines that a test adds to the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// For `[[listener]]`.
    pub listener: &'a str,
    /// For `[acl]`.
    pub acl: &'a str,
    /// For `[limits]`.
    pub limits: &'a str,
    /// For `[identity]`; without it `admin` is an operator.
    pub identity: &'a str,
    /// More tables, at the end.
    pub tables: &'a str,
}

/// A running broker. Dropping it stops it, and fails the test if the work of any connection panicked.
pub struct TestBroker {
    server: Option<Server>,
    directory: TempDir,
}

/// Certificates are good in every test, so they are made once.
pub(crate) fn pki() -> &'static MemoryPki {
    static PKI: OnceLock<MemoryPki> = OnceLock::new();
    PKI.get_or_init(|| MemoryPki::new(OffsetDateTime::now_utc()).expect("a PKI can be made"))
}

/// A certificate of the development PKI: `sensor-001`, `expired`, ...
///
/// # Panics
/// When the development PKI has no such row.
#[must_use]
pub fn certificate(role: &str) -> &'static Leaf {
    pki().leaf(role).unwrap_or_else(|| panic!("the development PKI has no {role}"))
}

/// A new good certificate with this common name.
#[must_use]
pub fn issue(common_name: &str) -> Leaf {
    issue_as(&LeafProfile::device(common_name, Validity::days_from(OffsetDateTime::now_utc(), 30)))
}

/// A new certificate of the authority that the broker trusts.
#[must_use]
pub fn issue_as(profile: &LeafProfile) -> Leaf {
    pki().issuing.issue(profile).expect("a certificate can be made")
}

/// A certificate of the authority that the broker trusts, for a public key (a SubjectPublicKeyInfo) of somebody else.
#[must_use]
pub fn issue_for_public_key(profile: &LeafProfile, spki: &[u8]) -> Leaf {
    pki().issuing.issue_for_public_key(profile, spki).expect("a certificate can be made")
}

/// A handshake with the broker at `address` that presents nothing.
#[must_use]
pub fn anonymous(address: SocketAddr) -> Handshake {
    Handshake::new(address, pki().root.certificate())
}

/// A folder with everything that a broker needs to run: its certificates, this policy, and `signet.toml`.
#[must_use]
pub fn folder(policy: &str, settings: Settings<'_>) -> TempDir {
    let directory = tempfile::tempdir().expect("a folder can be made");
    let write = |name: &str, text: &str| write_private(&directory.path().join(name), text);
    let server = certificate("server");
    write("server-chain.crt", &server.chain_pem());
    write("server.key", &server.key_pem());
    write("root-ca.crt", &pki().root.certificate_pem());
    write("issuing-ca.crt", &pki().issuing.certificate_pem());
    write("issuing.crl", &pki().crl.pem());
    write("acl.conf", policy);
    write("signet.toml", &configuration(settings));
    directory
}

impl TestBroker {
    /// A broker with this policy, the CRL of the development PKI, and `admin` as operator.
    #[must_use]
    pub fn start(policy: &str) -> Self {
        Self::start_with(policy, Settings::default())
    }

    /// [`Self::start`] with more settings.
    #[must_use]
    pub fn start_with(policy: &str, settings: Settings<'_>) -> Self {
        let mut broker = Self { server: None, directory: folder(policy, settings) };
        let source = ConfigSource::Toml(broker.path("signet.toml"));
        let server = Server::start_from(source).unwrap_or_else(|error| panic!("the broker starts: {error}"));
        broker.server = Some(server);
        broker
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write_private(&self.path(name), text);
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the broker runs until it is dropped")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server().addresses()[0]
    }

    /// Where metrics and health are served, if they are.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.server().metrics_address()
    }

    /// What the daemon offers to operators.
    #[must_use]
    pub fn broker(&self) -> &signet::server::Broker {
        self.server().broker()
    }

    /// A handshake that presents nothing.
    #[must_use]
    pub fn anonymous(&self) -> Handshake {
        anonymous(self.address())
    }

    /// A handshake with a certificate of the development PKI.
    #[must_use]
    pub fn device(&self, role: &str) -> Handshake {
        self.anonymous().presenting(certificate(role))
    }

    /// Writes one of the files, and leaves it at that.
    pub fn put(&self, name: &str, text: &str) {
        self.write(name, text);
    }

    /// The configuration file with these settings.
    #[must_use]
    pub fn settings_text(settings: Settings<'_>) -> String {
        configuration(settings)
    }

    /// Replaces the settings and reloads.
    ///
    /// # Errors
    /// Every problem that the broker found, a sentence each.
    pub fn reload_settings(&self, settings: Settings<'_>) -> Result<Reloaded, Vec<String>> {
        self.write("signet.toml", &configuration(settings));
        self.broker().reload("test").map_err(|refused| refused.problems())
    }

    /// Replaces the policy file and reloads.
    ///
    /// # Errors
    /// Every problem that the broker found, a sentence each.
    pub fn reload_policy(&self, policy: &str) -> Result<(), Vec<String>> {
        self.reload_file("acl.conf", policy)
    }

    /// Replaces one of the files and reloads.
    ///
    /// # Errors
    /// Every problem that the broker found, a sentence each.
    pub fn reload_file(&self, name: &str, text: &str) -> Result<(), Vec<String>> {
        self.write(name, text);
        self.broker().reload("test").map(drop).map_err(|refused| refused.problems())
    }

    /// A CRL that lists these certificates besides those of the development PKI, number 2.
    #[must_use]
    pub fn crl_with(revoked: &[&Serial]) -> String {
        let all: Vec<&Serial> = revoked.iter().copied().chain([certificate("revoked").serial()]).collect();
        let profile = CrlProfile::new(2, OffsetDateTime::now_utc(), 30, &all);
        pki().issuing.crl(&profile).expect("a CRL can be made").pem()
    }

    /// The root's certificate as PEM.
    #[must_use]
    pub fn root() -> String {
        pki().root.certificate_pem()
    }

    /// An authority below the root, and the same again with another certificate of the same key.
    #[must_use]
    pub fn renewed_authority() -> [Authority; 2] {
        let good = Validity::days_from(OffsetDateTime::now_utc(), 30);
        let old = pki().root.intermediate("plant", KeyKind::P256, good, 0).expect("an authority can be made");
        let new = pki().root.renewed("plant", &old, good, 0).expect("an authority can be renewed");
        [old, new]
    }

    /// A CRL of the root that lists the issuing authority.
    #[must_use]
    pub fn crl_of_the_root() -> String {
        Self::crl_of_the_root_with(&[pki().issuing.serial()], 1)
    }

    /// A CRL of the root with this number that lists these authorities.
    #[must_use]
    pub fn crl_of_the_root_with(revoked: &[&Serial], number: u64) -> String {
        let profile = CrlProfile::new(number, OffsetDateTime::now_utc(), 30, revoked);
        pki().root.crl(&profile).expect("a CRL can be made").pem()
    }

    /// Stops in good order, and starts anew in the same folder. What is changed meanwhile is changed while nothing runs.
    #[must_use]
    pub fn restarted(mut self, meanwhile: impl FnOnce(&Self)) -> Self {
        self.check_panics();
        if let Some(server) = self.server.take() {
            server.stop();
        }
        meanwhile(&self);
        let source = ConfigSource::Toml(self.path("signet.toml"));
        let server = Server::start_from(source).unwrap_or_else(|error| panic!("the broker starts: {error}"));
        self.server = Some(server);
        self
    }

    /// Stops in good order.
    pub fn stop(mut self) {
        self.check_panics();
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    /// Stops in good order, after the work of so many connections has panicked.
    pub fn stop_after_panics(mut self, count: u32) {
        assert!(self.metric("signet_panics_total") == f64::from(count));
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    /// Handshakes that failed, once there are `count` of them: the client may know of a refusal before it is recorded.
    #[must_use]
    pub fn tls_failures(&self, count: u64) -> FailureReport {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let report = self.broker().tls_failures();
            assert!(report.total <= count, "expected {count} failed handshakes: {report:?}");
            if report.total == count {
                return report;
            }
            assert!(Instant::now() < until, "expected {count} failed handshakes: {report:?}");
            std::thread::yield_now();
        }
    }

    /// The value of a metric with exactly these labels, as `{a="x",b="y"}`; 0 when it was never counted.
    #[must_use]
    pub fn labelled(&self, name: &str, labels: &str) -> f64 {
        let text = self.broker().metrics_text().expect("metrics can be shown");
        let wanted = format!("{name}{labels} ");
        text.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0.0)
    }

    /// The value of a metric without labels.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.broker().metrics_text().expect("metrics can be shown");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("there is no metric {name}"))
    }

    fn check_panics(&self) {
        if !std::thread::panicking() && self.server.is_some() {
            assert!(self.metric("signet_panics_total") == 0.0, "the work of a connection panicked");
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.check_panics();
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

/// The tables of a broker that says no more than its errors and looks for no changes by itself; the last one, `[system]`,
/// can go on.
pub const QUIET: &str = r#"
[admin]
socket = "signet.sock"

[log]
level = "error"

[system]
watch-files-interval = "0s"
shutdown-timeout = "5s"
"#;

fn configuration(settings: Settings<'_>) -> String {
    let Settings { listener, acl, limits, identity, tables } = settings;
    let most = if listener.contains("max-connections") { "" } else { "max-connections = 200" };
    let identity = if identity.is_empty() { "operators = [\"admin\"]" } else { identity };
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
certificate = "server-chain.crt"
private-key = "server.key"
client-ca = ["root-ca.crt", "issuing-ca.crt"]
crl = ["issuing.crl"]
{most}
{listener}

[acl]
file = "acl.conf"
{acl}

[identity]
{identity}

[limits]
handshakes-per-address-per-second = 0
connections-per-address-max = 0
{limits}

{QUIET}
sys-interval = "1s"

{tables}
"#
    )
}

/// Keys must not be readable by others, and nothing else here needs to be.
fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .expect("a file can be made");
    file.write_all(text.as_bytes()).expect("a file can be written");
}
