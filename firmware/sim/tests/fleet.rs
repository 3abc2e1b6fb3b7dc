//! A fleet with faults against the broker itself, over mutual TLS.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::ProgressBar;
use signet::server::{ConfigSource, Server};
use signet_certs_dev::{LeafProfile, MemoryPki, Validity};
use signet_device_core::Settings;
use signet_device_core::topic::Format;
use signet_identity::{TemplateName, ThingName};
use signet_registry::{Actor, ClaimSpec, Command, Line, NewCertificate, TemplateKind, TemplateSpec};
use signet_sim::faults::Level;
use signet_sim::fleet::{Plan, Restart, read_claim, run};
use signet_sim::outcome::Outcome;
use signet_sim::unit::{Begin, Given};
use time::OffsetDateTime;

const FLEET: &str = include_str!("../../../config/templates/fleet.json");
const ROTATION: &str = include_str!("../../../config/templates/rotation.json");

/// The broker, in this process. It can be stopped and started again on its port.
struct House {
    server: Arc<Mutex<Option<Server>>>,
    directory: tempfile::TempDir,
    address: SocketAddr,
}

fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}

fn configuration(address: &str) -> String {
    format!(
        r#"
[[listener]]
address = "{address}"
certificate = "server-chain.crt"
private-key = "server.key"
client-ca = ["ca/issuing.crt"]
max-connections = 1000

[acl]
file = "acl.conf"

[limits]
handshakes-per-address-per-second = 0
connections-per-address-max = 0

[registry]
mode = "on"

[ca]

[standing]
refused-pause-max = 0

[admin]
socket = "signet.sock"

[log]
level = "error"

[system]
sys-interval = "0s"
watch-files-interval = "0s"
shutdown-timeout = "2s"
"#
    )
}

fn start(directory: &Path) -> Server {
    let source = ConfigSource::Toml(directory.join("signet.toml"));
    Server::start_from(source).unwrap_or_else(|error| panic!("the broker starts: {error}"))
}

impl House {
    fn new() -> Self {
        let pki = MemoryPki::new(OffsetDateTime::now_utc()).expect("a PKI");
        let directory = tempfile::tempdir().expect("a folder");
        let path = |name: &str| directory.path().join(name);
        let server = pki.leaf("server").expect("a server's certificate");
        write(&path("server-chain.crt"), &server.chain_pem());
        write(&path("server.key"), &server.key_pem());
        write(&path("root-ca.crt"), &pki.root.certificate_pem());
        std::fs::create_dir(path("ca")).expect("a folder");
        write(&path("ca/issuing.crt"), &pki.issuing.certificate_pem());
        write(&path("ca/issuing.key"), &pem::encode(&pem::Pem::new("PRIVATE KEY", pki.issuing.key())));
        let policy = "pattern write devices/%u/telemetry/#\npattern write devices/%u/status\n\
                      pattern read devices/%u/commands/#\npattern read devices/%u/certs/#\n";
        write(&path("acl.conf"), policy);
        write(&path("signet.toml"), &configuration("127.0.0.1:0"));
        let server = start(directory.path());
        let address = server.addresses()[0];
        // So that it comes back where the devices look for it.
        write(&path("signet.toml"), &configuration(&address.to_string()));
        let validity = Validity::days_from(OffsetDateTime::now_utc(), 30);
        let leaf = pki.issuing.issue(&LeafProfile::device("line-1", validity)).expect("a claim");
        write(&path("claim.crt"), &leaf.certificate_pem());
        write(&path("claim.key"), &leaf.key_pem());
        let house = Self { server: Arc::new(Mutex::new(Some(server))), directory, address };
        house.fill(leaf.certificate());
        house
    }

    fn fill(&self, claim: &[u8]) {
        let server = self.server.lock().expect("not poisoned");
        let broker = server.as_ref().expect("it runs").broker();
        let registry = broker.registry().expect("there is a registry");
        let execute = |command| {
            registry.execute(command, Actor::Local(Line::new("a test"))).expect("done");
        };
        for (name, kind, body) in
            [("fleet", TemplateKind::Fleet, FLEET), ("rotation", TemplateKind::Rotation, ROTATION)]
        {
            let name = TemplateName::try_from(name).expect("a name");
            execute(Command::SetTemplate(TemplateSpec {
                name,
                kind,
                enabled: true,
                keys: false,
                body: body.into(),
            }));
        }
        let issuer = broker.authority().expect("an authority").issuer().key_hash();
        execute(Command::CreateClaim {
            claim: ClaimSpec {
                name: ThingName::try_from("line-1").expect("a name"),
                templates: vec![TemplateName::try_from("fleet").expect("a name")],
                devices_max: None,
                until: None,
                from: Vec::new(),
                listed_only: false,
                keys: false,
            },
            certificate: NewCertificate::read(claim, issuer).expect("a certificate"),
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn things(&self) -> usize {
        let server = self.server.lock().expect("not poisoned");
        server.as_ref().expect("it runs").broker().registry().expect("a registry").registry().things_count()
    }

    fn restart(&self) -> Restart {
        let (server, directory) = (Arc::clone(&self.server), self.directory.path().to_owned());
        Restart::new(move || {
            let mut server = server.lock().expect("not poisoned");
            if let Some(running) = server.take() {
                running.stop();
            }
            *server = Some(start(&directory));
            Ok(())
        })
    }

    fn plan(&self, devices: usize, level: Level) -> Plan {
        Plan {
            broker: self.address,
            server_name: "localhost".into(),
            roots: vec![self.path("root-ca.crt")],
            devices,
            prefix: "t".into(),
            given: Given {
                begin: Begin::Claim(read_claim(&self.path("claim.crt"), None).expect("the claim")),
                update_key: None,
                template: "fleet".into(),
                rotation_template: "rotation".into(),
                format: Format::Json,
                settings: Settings {
                    interval_secs: 2,
                    backoff_base_ms: 200,
                    backoff_cap_ms: 3_000,
                    ..Settings::default()
                },
                seed: 5,
            },
            level,
            ramp: 50,
            faults_for: Duration::from_secs(1),
            timeout: Duration::from_secs(240),
            rotate: true,
            restart: None,
            update: None,
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Ok(mut server) = self.server.lock()
            && let Some(server) = server.take()
        {
            server.stop();
        }
    }
}

fn go(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(plan, ProgressBar::hidden())).expect("it begins")
}

#[test]
fn twenty_devices_with_faults_are_enrolled_and_rotate_through_a_restart_of_the_broker() {
    let house = House::new();
    let plan = Plan { restart: Some(house.restart()), ..house.plan(20, Level::Some) };
    let outcome = go(&plan);
    assert!(outcome.ok, "{outcome}");
    assert_eq!((outcome.online, outcome.rotated), (20, Some(20)), "{outcome}");
    assert_eq!(house.things(), 20, "one thing for each device");
    assert_eq!(outcome.happened.broker_restarts, 2, "{outcome}");
}

#[test]
fn devices_that_speak_cbor_are_enrolled_without_a_single_alarm() {
    let house = House::new();
    let mut plan = house.plan(5, Level::None);
    plan.given.format = Format::Cbor;
    let outcome = go(&plan);
    assert!(outcome.ok, "{outcome}");
    let happened = &outcome.happened;
    assert_eq!((happened.alarms, happened.refused, happened.rejected), (0, 0, 0), "{outcome}");
    // The claim, then itself, then itself with the next certificate.
    assert_eq!(happened.connections, 15, "{outcome}");
}

#[test]
fn a_fleet_with_the_wrong_root_is_not_enrolled_and_the_verdict_says_so() {
    let house = House::new();
    let other = MemoryPki::new(OffsetDateTime::now_utc()).expect("a PKI");
    write(&house.path("root-ca.crt"), &other.root.certificate_pem());
    let plan = Plan { rotate: false, timeout: Duration::from_secs(3), ..house.plan(2, Level::None) };
    let outcome = go(&plan);
    assert!(!outcome.ok && outcome.online == 0 && outcome.lost == 2, "{outcome}");
    assert!(outcome.problems.iter().any(|problem| problem.contains("ServerUntrusted")), "{outcome}");
    assert_eq!(house.things(), 0);
}
