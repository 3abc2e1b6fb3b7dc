//! The certificates and the access policy of a run, the same for every broker.
//!
//! P-256 throughout: a root, an intermediate that signs the server and the devices, and clients that present leaf and intermediate.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use signet_certs_dev::{Authority, KeyKind, Leaf, LeafProfile, Validity};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::cli::Tls;
use crate::progress;

/// Each device writes its own telemetry and reads its own commands; one back-end principal sees everything.
const POLICY: &str = "\
pattern write devices/%u/telemetry/#
pattern write devices/%u/status
pattern read devices/%u/commands/#

user admin
topic read #
topic write devices/+/commands/#
";

/// Certificates on disk for the brokers, and in memory for the clients.
pub(crate) struct Pki {
    directory: TempDir,
    devices: Vec<Device>,
    /// The back-end principal.
    pub(crate) admin: Device,
    /// The version that all clients offer.
    pub(crate) tls: Tls,
}

/// A client's certificate, ready to connect with. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Device {
    /// The CN.
    pub(crate) name: String,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Pki {
    pub(crate) fn new(devices: usize, tls: Tls) -> Result<Self> {
        let validity = Validity::days_from(OffsetDateTime::now_utc(), 30);
        let root = Authority::root("bench root", KeyKind::P256, validity)?;
        let issuing = root.intermediate("bench issuing", KeyKind::P256, validity, 0)?;
        let server = issuing.issue(&LeafProfile::localhost(validity))?;

        let directory = tempfile::Builder::new().prefix("signet-bench-").tempdir()?;
        let at = |name: &str| directory.path().join(name);
        fs::write(at("root.pem"), root.certificate_pem())?;
        fs::write(at("server-chain.pem"), server.chain_pem())?;
        write_private(&at("server.key"), &server.key_pem())?;
        write_private(&at("acl"), POLICY)?;

        let clients = Clients::new(&root, tls)?;
        let bar = progress::bar("certificates", devices);
        let issue = |name: String| -> Result<Device> {
            let leaf = issuing.issue(&LeafProfile::device(&name, validity))?;
            Ok(Device { name, tls: Arc::new(clients.config(&leaf)?) })
        };
        let admin = issue("admin".to_owned())?;
        let devices = (0..devices)
            .map(|n| {
                bar.inc(1);
                issue(format!("bench-{n:05}"))
            })
            .collect::<Result<_>>()?;
        bar.finish_and_clear();
        Ok(Self { directory, devices, admin, tls })
    }

    /// The first `count` devices; a comparison has as many as its largest scenario needs.
    pub(crate) fn devices(&self, count: usize) -> &[Device] {
        self.devices.get(..count).unwrap_or(&self.devices)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root.pem")
    }

    pub(crate) fn server_chain(&self) -> PathBuf {
        self.path("server-chain.pem")
    }

    pub(crate) fn server_key(&self) -> PathBuf {
        self.path("server.key")
    }

    pub(crate) fn policy(&self) -> PathBuf {
        self.path("acl")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// What the TLS configurations of all clients have in common.
struct Clients {
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
    version: &'static SupportedProtocolVersion,
}

impl Clients {
    fn new(root: &Authority, tls: Tls) -> Result<Self> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            ],
            kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        });
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root.certificate()))?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let version = match tls {
            Tls::V12 => &rustls::version::TLS12,
            Tls::V13 => &rustls::version::TLS13,
        };
        Ok(Self { provider, verifier, version })
    }

    fn config(&self, leaf: &Leaf) -> Result<ClientConfig> {
        let chain = leaf.chain().into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf.key().to_vec()));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[self.version])?
            .with_webpki_verifier(Arc::clone(&self.verifier))
            .with_client_auth_cert(chain, key)?;
        // Every handshake is a full one.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
