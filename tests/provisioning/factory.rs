//! A broker that issues certificates, and what its operators do.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signet::server::{ConfigSource, Server};
use signet::store::{AuditQuery, ExecuteError, RegistryService};
use signet_certs_dev::{Authority, Leaf, LeafProfile, MemoryPki, Validity};
use signet_identity::{PrincipalKey, Role, TemplateName, ThingName};
use signet_registry::{
    Actor, ClaimSpec, Command, Enter, KeyHash, Line, NewCertificate, TemplateKind, TemplateSpec,
};
use signet_tests::raw_client::Handshake;
use signet_tests::test_broker::QUIET;
use tempfile::TempDir;
use time::OffsetDateTime;

/// The template of every test that needs no other: the thing is `fp_<SerialNumber>`, member of the group `sensors`.
pub(crate) const FLEET: &str = r#"{
  "Parameters": {"SerialNumber": {"Type": "String"}, "Location": {"Type": "String", "Default": "WA"},
                 "AWS::IoT::Certificate::Id": {"Type": "String"}},
  "Mappings": {"Urls": {"WA": {"Url": "https://wa.example"}, "CA": {"Url": "https://ca.example"}}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {
      "ThingName": {"Fn::Join": ["", ["fp_", {"Ref": "SerialNumber"}]]},
      "AttributePayload": {"serial": {"Ref": "SerialNumber"}}}},
    "certificate": {"Type": "AWS::IoT::Certificate",
      "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "sensors"}}},
  "DeviceConfiguration": {"Url": {"Fn::FindInMap": ["Urls", {"Ref": "Location"}, "Url"]}}
}"#;

/// The shipped template for devices that renew their own certificate.
pub(crate) const RENEW: &str = include_str!("../../config/templates/rotation.json");

/// Devices publish and read below their own name.
const POLICY: &str = "\
pattern readwrite devices/%u/#
role operator
topic read $aws/events/#
topic read $aws/certificates/#
topic read #
";

/// A broker with an authority. Dropping it stops it, and fails the test if any work of it panicked.
pub(crate) struct Factory {
    server: Option<Server>,
    directory: TempDir,
    pki: MemoryPki,
}

impl Factory {
    /// With the templates `fleet` and `renew`, and these lines in `[provisioning]`.
    pub(crate) fn with(provisioning: &str) -> Self {
        let factory = Self::bare(provisioning, "", &[]);
        factory.template("fleet", TemplateKind::Fleet, FLEET);
        factory.template("renew", TemplateKind::Rotation, RENEW);
        factory
    }

    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// Without templates; `anchors` goes on behind the first trust anchor of the listener, and may name `files`.
    pub(crate) fn bare(provisioning: &str, anchors: &str, files: &[(&str, &str)]) -> Self {
        let pki = MemoryPki::new(OffsetDateTime::now_utc()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut factory = Self { server: None, directory, pki };
        let server = factory.pki.leaf("server").unwrap();
        factory.write("server-chain.crt", &server.chain_pem());
        factory.write("server.key", &server.key_pem());
        std::fs::create_dir(factory.path("ca")).unwrap();
        factory.write("ca/issuing.crt", &factory.pki.issuing.certificate_pem());
        factory.write("ca/issuing.key", &key_pem(factory.pki.issuing.key()));
        factory.write("acl.conf", POLICY);
        factory.write("signet.toml", &configuration(provisioning, anchors));
        for (name, text) in files {
            factory.write(name, text);
        }
        factory.start();
        factory
    }

    /// Starts, or starts again with the files as they are.
    pub(crate) fn start(&mut self) {
        let source = ConfigSource::Toml(self.path("signet.toml"));
        self.server =
            Some(Server::start_from(source).unwrap_or_else(|error| panic!("the broker starts: {error}")));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        use std::io::Write;
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the broker runs")
    }

    pub(crate) fn broker(&self) -> &Arc<signet::server::Broker> {
        self.server().broker()
    }

    pub(crate) fn registry(&self) -> &Arc<RegistryService> {
        self.broker().registry().expect("there is a registry")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server().addresses()[0]
    }

    pub(crate) fn issuing(&self) -> &Authority {
        &self.pki.issuing
    }

    pub(crate) fn issuing_key(&self) -> KeyHash {
        self.broker().authority().unwrap().issuer().key_hash()
    }

    /// A handshake that presents nothing yet.
    pub(crate) fn door(&self) -> Handshake {
        Handshake::new(self.address(), self.pki.root.certificate())
    }

    pub(crate) fn execute(&self, command: Command) -> Result<(), ExecuteError> {
        self.registry().execute(command, Actor::Local(Line::new("a test"))).map(drop)
    }

    pub(crate) fn template(&self, name: &str, kind: TemplateKind, body: &str) {
        self.template_with(name, kind, body, false);
    }

    pub(crate) fn template_with(&self, name: &str, kind: TemplateKind, body: &str, keys: bool) {
        signet_registry::template::TemplateBody::parse(kind, body)
            .expect("the template of a test is correct");
        let name = TemplateName::try_from(name).unwrap();
        let spec = TemplateSpec { name, kind, enabled: true, keys, body: body.into() };
        self.execute(Command::SetTemplate(spec)).unwrap();
    }

    /// A certificate of the broker's authority, which nobody has registered.
    pub(crate) fn certificate(&self, name: &str) -> (Leaf, NewCertificate) {
        let validity = Validity::days_from(OffsetDateTime::now_utc(), 30);
        let leaf = self.issuing().issue(&LeafProfile::device(name, validity)).unwrap();
        let certificate = NewCertificate::read(leaf.certificate(), self.issuing_key()).unwrap();
        (leaf, certificate)
    }

    /// A claim for the template `fleet`.
    pub(crate) fn claim(&self, name: &str) -> Claim<'_> {
        self.claim_with(name, |_| {})
    }

    pub(crate) fn claim_with(&self, name: &str, change: impl FnOnce(&mut ClaimSpec)) -> Claim<'_> {
        let (leaf, certificate) = self.certificate(name);
        let mut claim = ClaimSpec {
            name: thing_name(name),
            templates: vec![TemplateName::try_from("fleet").unwrap()],
            devices_max: None,
            until: None,
            from: Vec::new(),
            listed_only: false,
            keys: false,
        };
        change(&mut claim);
        self.execute(Command::CreateClaim { claim, certificate }).unwrap();
        Claim { factory: self, name: thing_name(name), leaf }
    }

    /// An operator's certificate.
    pub(crate) fn operator(&self, name: &str) -> Leaf {
        let (leaf, certificate) = self.certificate(name);
        let holder = PrincipalKey { role: Role::Operator, name: thing_name(name) };
        self.execute(Command::RegisterCertificate { certificate, holder, enter: Enter::Active }).unwrap();
        leaf
    }

    /// Rows of the audit trail of this kind.
    pub(crate) fn audit(&self, kind: &str) -> Vec<String> {
        let query = AuditQuery { kind: Some(kind.to_owned()), at_most: 10_000, ..AuditQuery::default() };
        let rows = self.registry().audit(&query).unwrap();
        rows.into_iter().map(|row| row.event.unwrap().change.to_string()).collect()
    }

    /// The value of a metric with its labels as they are printed.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.broker().metrics_text().unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0.0)
    }

    /// Waits for something that the broker does by itself within seconds.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(Instant::now() < until, "it did not come: {what}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

impl Drop for Factory {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.server.is_some() {
            assert!(self.metric("signet_panics_total") == 0.0, "the work of a connection panicked");
        }
        self.stop();
    }
}

/// A claim and its certificate.
pub(crate) struct Claim<'a> {
    pub(crate) factory: &'a Factory,
    pub(crate) name: ThingName,
    pub(crate) leaf: Leaf,
}

impl Claim<'_> {
    pub(crate) fn door(&self) -> Handshake {
        self.factory.door().presenting(&self.leaf)
    }
}

pub(crate) fn thing_name(text: &str) -> ThingName {
    ThingName::try_from(text).unwrap()
}

pub(crate) fn key_pem(pkcs8: &[u8]) -> String {
    pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8))
}

fn configuration(provisioning: &str, anchors: &str) -> String {
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
certificate = "server-chain.crt"
private-key = "server.key"
client-ca = ["ca/issuing.crt"{anchors}]
max-connections = 1000

[acl]
file = "acl.conf"

[limits]
handshakes-per-address-per-second = 0
connections-per-address-max = 0

[registry]
mode = "on"

[ca]

[provisioning]
{provisioning}

[standing]
refused-pause-max = 0

{QUIET}
sys-interval = "0s"
"#
    )
}
