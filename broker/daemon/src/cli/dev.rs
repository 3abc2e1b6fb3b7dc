//! `signet dev`: from nothing to a running broker with certificates to connect with.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use signet_certs_dev::{DevPki, ROLES};
use signet_config::LogLevel;

use super::args::{DevArgs, LogLevelArg};
use super::dev_registry;
use super::out::{Failure, Outcome, say};
use crate::server::{ConfigSource, Server};

/// The policy of a development broker: the shipped default one.
const POLICY: &str = include_str!("../../../../acl/policies/default.acl");

/// Makes what is missing, prints what to paste, and runs until it is stopped.
pub fn dev(args: &DevArgs) -> Result<Outcome, Failure> {
    if !args.address.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "{} is not a loopback address: the keys of a development broker lie readable in a folder\n  \
             hint: for other addresses make certificates of your own and use `signet run --config FILE`",
            args.address
        )));
    }
    let pki = signet_certs_dev::ensure(&args.dir).map_err(|error| Failure::usage(error.to_string()))?;
    let files = DevFiles::write(&pki, args)?;
    dev_registry::authority(pki.directory())?;
    if args.no_run {
        say(&introduction(&pki, &files, args.address.port()));
        return Ok(Outcome::Done);
    }
    let source = ConfigSource::Toml(files.config.clone());
    let server = Server::start_from(source).map_err(|error| Failure::found(error.to_string()))?;
    if let Err(failure) = dev_registry::fill(server.broker(), &pki, &files.config) {
        server.stop();
        return Err(failure);
    }
    let port = server.addresses().first().map_or(args.address.port(), std::net::SocketAddr::port);
    say(&introduction(&pki, &files, port));
    server.run_until_signal();
    Ok(Outcome::Done)
}

/// What `signet dev` keeps beside the certificates.
struct DevFiles {
    config: PathBuf,
    policy: PathBuf,
}

impl DevFiles {
    fn write(pki: &DevPki, args: &DevArgs) -> Result<Self, Failure> {
        let files =
            Self { config: pki.directory().join("signet.toml"), policy: pki.directory().join("acl.conf") };
        let put = |path: &Path, text: &str| {
            std::fs::write(path, text)
                .map_err(|error| Failure::usage(format!("{} cannot be written: {error}", path.display())))
        };
        if !files.policy.exists() {
            put(&files.policy, POLICY)?;
        }
        put(&files.config, &configuration(args))?;
        Ok(files)
    }
}

fn configuration(args: &DevArgs) -> String {
    let level = match args.log {
        LogLevelArg::Error => LogLevel::Error,
        LogLevelArg::Warn => LogLevel::Warn,
        LogLevelArg::Info => LogLevel::Info,
        LogLevelArg::Debug => LogLevel::Debug,
        LogLevelArg::Trace => LogLevel::Trace,
    };
    format!(
        "# Written by `signet dev` at every start: changes are lost. For a configuration of your own, copy it,\n\
         # and see config/signet.toml for everything that can be set.\n\n\
         [[listener]]\n\
         address = \"{address}\"\n\
         certificate = \"server-chain.crt\"\n\
         private-key = \"server.key\"\n\
         client-ca = [\"root-ca.crt\", \"issuing-ca.crt\", \"ca/issuing.crt\"]\n\
         crl = [\"issuing.crl\", \"ca/issuing.crl\"]\n\
         max-connections = 1000\n\n\
         [acl]\n\
         file = \"acl.conf\"\n\n\
         [registry]\n\
         mode = \"on\"\n\n\
         [ca]\n\n\
         [store]\n\
         directory = \"data\"\n\n\
         [limits]\n\
         handshakes-per-address-per-second = 0\n\
         connections-per-address-max = 0\n\n\
         [admin]\n\
         socket = \"signet.sock\"\n\n\
         [log]\n\
         level = \"{level}\"\n",
        address = args.address,
        level = level.as_str(),
    )
}

/// What a newcomer reads: what is there, what works, what is refused and why.
fn introduction(pki: &DevPki, files: &DevFiles, port: u16) -> String {
    let dir = pki.directory().display();
    let with = |who: &str| {
        format!(
            "-h localhost -p {port} --cafile {dir}/root-ca.crt --cert {dir}/{who}-chain.crt --key {dir}/{who}.key"
        )
    };
    let mut text = String::new();
    let made = if pki.made { "made just now" } else { "as they were" };
    let _ = write!(
        text,
        "\nDevelopment certificates in {dir} ({made}), policy {policy}.\n\n\
         Works. In one terminal, as the operator:\n\n  \
         mosquitto_sub {admin} -v -t 'devices/#'\n\n\
         in another, as a device, and back to it:\n\n  \
         mosquitto_pub {sensor} -q 1 -t devices/sensor-001/telemetry/environment -m '{{\"temp\":21.5}}'\n  \
         mosquitto_sub {sensor} -v -t 'devices/sensor-001/commands/#'\n  \
         mosquitto_pub {admin} -q 1 -t devices/sensor-001/commands/interval -m 30\n\n\
         Refused:\n\n  \
         mosquitto_pub {sensor} -V 5 -q 1 -t devices/sensor-002/status -m x\n    \
         not authorized: sensor-001 may write below devices/sensor-001 only\n  \
         mosquitto_sub {sensor} -V 5 -t 'devices/#'\n    \
         not authorized: nor may it read what is not for it\n  \
         mosquitto_pub -h localhost -p {port} --cafile {dir}/root-ca.crt -t x -m x\n    \
         no certificate, no connection\n",
        policy = files.policy.display(),
        admin = with("admin"),
        sensor = with("sensor-001"),
    );
    for role in ROLES.iter().filter(|role| role.about.starts_with("refused")) {
        let _ = write!(
            text,
            "  mosquitto_pub {} -t x -m x\n    {}\n",
            with(role.name),
            role.about.trim_start_matches("refused: ")
        );
    }
    let claim = dir_of_claim(pki);
    let with_claim = format!(
        "-h localhost -p {port} --cafile {dir}/root-ca.crt --cert {claim}/device-chain.crt --key {claim}/device.key"
    );
    let template = dev_registry::TEMPLATE;
    let _ = write!(
        text,
        "\nProvisioning, as at AWS IoT Core: the claim {claim} gets a certificate for a new device. First the key and the\n\
         certificate (take certificateOwnershipToken of the answer), then the device:\n\n  \
         mosquitto_rr {with_claim} -t '$aws/certificates/create/json' -e '$aws/certificates/create/json/accepted' -m '{{}}'\n  \
         mosquitto_rr {with_claim} -t '$aws/provisioning-templates/{template}/provision/json' \\\n    \
         -e '$aws/provisioning-templates/{template}/provision/json/accepted' \\\n    \
         -m '{{\"certificateOwnershipToken\":\"...\",\"parameters\":{{\"SerialNumber\":\"0001\"}}}}'\n  \
         signet device list --config {config}\n",
        config = files.config.display(),
    );
    let _ = write!(
        text,
        "\nWho was turned away, and why:  signet tls failures --config {config}\n\
         What is wrong with one:        signet doctor {dir}/revoked-chain.crt --config {config}\n\
         And from a device's side:      signet doctor localhost:{port} --ca {dir}/root-ca.crt\n\
         Why is something allowed:      signet acl why sensor-001 write devices/sensor-002/status --config {config}\n\
         Stop with Ctrl-C.\n",
        config = files.config.display(),
    );
    text
}

fn dir_of_claim(pki: &DevPki) -> String {
    pki.directory().join("claims").join(dev_registry::CLAIM).display().to_string()
}
