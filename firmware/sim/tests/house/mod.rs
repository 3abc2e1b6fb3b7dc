//! The broker itself, in the process of the test, with everything that a fleet needs.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser as _;
use indicatif::ProgressBar;
use signet::server::{ConfigSource, Server};
use signet_certs_dev::{LeafProfile, MemoryPki, Validity};
use signet_device_core::Settings;
use signet_device_core::https::Url;
use signet_device_core::topic::Format;
use signet_identity::{TemplateName, ThingName};
use signet_registry::{
    Actor, ClaimSpec, Command, Line, NewCertificate, TemplateKind, TemplateSpec, ThingSpec, TokenHash,
    TokenSpec, Wall,
};
use signet_sim::faults::Level;
use signet_sim::fleet::{Plan, Restart, read_claim, run};
use signet_sim::outcome::Outcome;
use signet_sim::unit::{Begin, Given};
use time::OffsetDateTime;

const FLEET: &str = include_str!("../../../../config/templates/fleet.json");
const ROTATION: &str = include_str!("../../../../config/templates/rotation.json");

/// The broker, in this process. It can be stopped and started again on its port.
pub struct House {
    server: Arc<Mutex<Option<Server>>>,
    directory: tempfile::TempDir,
    pub address: SocketAddr,
    https: SocketAddr,
}

pub fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}

fn configuration(address: &str, https: &str) -> String {
    format!(
        r#"
[[listener]]
address = "{address}"
certificate = "server-chain.crt"
private-key = "server.key"
client-ca = ["ca/issuing.crt"]
max-connections = 1000

[[https]]
address = "{https}"
certificate = "server-chain.crt"
private-key = "server.key"
requests-per-address-per-minute = 0

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
    pub fn new() -> Self {
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
                      pattern read devices/%u/commands/#\npattern read devices/%u/certs/#\n\
                      role operator\ntopic readwrite devices/#\n";
        write(&path("acl.conf"), policy);
        write(&path("signet.toml"), &configuration("127.0.0.1:0", "127.0.0.1:0"));
        let server = start(directory.path());
        let (address, https) = (server.addresses()[0], server.https_addresses()[0]);
        // So that it comes back where the devices look for it.
        write(&path("signet.toml"), &configuration(&address.to_string(), &https.to_string()));
        let validity = Validity::days_from(OffsetDateTime::now_utc(), 30);
        let leaf = pki.issuing.issue(&LeafProfile::device("line-1", validity)).expect("a claim");
        write(&path("claim.crt"), &leaf.certificate_pem());
        write(&path("claim.key"), &leaf.key_pem());
        let house = Self { server: Arc::new(Mutex::new(Some(server))), directory, address, https };
        house.fill(leaf.certificate());
        house
    }

    fn execute(&self, command: Command) {
        let server = self.server.lock().expect("not poisoned");
        let broker = server.as_ref().expect("it runs").broker();
        let registry = broker.registry().expect("there is a registry");
        registry.execute(command, Actor::Local(Line::new("a test"))).expect("done");
    }

    /// Makes a token for the device `name`, good for an hour.
    pub fn token(&self, name: &str) -> String {
        let secret = format!("token-of-{name}");
        let thing = ThingSpec::named(ThingName::try_from(name).expect("a name"));
        let until =
            Wall(u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).expect("now") * 1_000 + 3_600_000);
        let hash = TokenHash::of(secret.as_bytes());
        self.execute(Command::CreateToken(TokenSpec { hash, thing, until, note: Line::default() }));
        secret
    }

    /// Where tokens are taken.
    pub fn token_url(&self) -> Url {
        Url::parse(&format!("https://localhost:{}/provision", self.https.port())).expect("an address")
    }

    /// Carries out a command of `signet`, whose files are in the broker's folder.
    pub fn signet(&self, arguments: &[&str]) {
        let arguments = [&["signet"], arguments, &["--config", "signet.toml"]].concat();
        let command = self.cli(&arguments);
        signet::cli::run(command).unwrap_or_else(|failure| panic!("{arguments:?}: {failure}"));
    }

    /// A command line, with the files in it found in the broker's folder.
    pub fn cli(&self, arguments: &[&str]) -> signet::cli::args::Command {
        let found = arguments.iter().map(|argument| {
            let file = self.path(argument);
            let is_file = argument.contains('.') && file.exists() || *argument == "out";
            if is_file { file.display().to_string() } else { (*argument).to_owned() }
        });
        signet::cli::args::Cli::parse_from(found).command
    }

    fn fill(&self, claim: &[u8]) {
        let execute = |command| self.execute(command);
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
        let issuer = {
            let server = self.server.lock().expect("not poisoned");
            let authority = server.as_ref().expect("it runs").broker().authority();
            authority.expect("an authority").issuer().key_hash()
        };
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn things(&self) -> usize {
        let server = self.server.lock().expect("not poisoned");
        server.as_ref().expect("it runs").broker().registry().expect("a registry").registry().things_count()
    }

    pub fn restart(&self) -> Restart {
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

    pub fn plan(&self, devices: usize, level: Level) -> Plan {
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

pub fn go(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(plan, ProgressBar::hidden())).expect("it begins")
}
