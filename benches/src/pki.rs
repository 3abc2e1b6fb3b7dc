//! The certificates and the access policy of a run, the same for every broker.
//!
//! P-256 throughout: a root, an intermediate that signs the server and the devices, a second intermediate whose devices are there
//! to be revoked, and clients that present leaf and intermediate. Strangers have a root of their own that no broker trusts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use signet_certs_dev::{Authority, CrlProfile, KeyKind, Leaf, LeafProfile, Serial, Validity};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::cli::Tls;
use crate::endpoint::POLICY;
use crate::progress;

/// How long everything is valid, in days.
const DAYS: i64 = 30;
/// Sessions that a device keeps to resume.
const SESSIONS_KEPT: usize = 8;

/// How many certificates a run needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Devices `bench-00000` and so on.
    pub(crate) devices: usize,
    /// Devices of the second authority, `other-00000` and so on.
    pub(crate) others: usize,
    /// Devices of an authority that nobody trusts.
    pub(crate) strangers: usize,
}

impl Counts {
    /// What serves both.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            devices: self.devices.max(other.devices),
            others: self.others.max(other.others),
            strangers: self.strangers.max(other.strangers),
        }
    }
}

/// Certificates on disk for the brokers, and in memory for the clients. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Pki {
    inner: Arc<Inner>,
    /// The version that all clients offer.
    pub(crate) tls: Tls,
}

struct Inner {
    directory: TempDir,
    root: Authority,
    issuing: Authority,
    other: Authority,
    clients: Clients,
    devices: Vec<Identity>,
    others: Vec<Identity>,
    strangers: Vec<Identity>,
    admin: Identity,
}

/// A name, and the certificate and key that prove it.
#[derive(Clone)]
struct Identity {
    name: String,
    serial: Serial,
    key: Arc<SingleCertAndKey>,
}

/// A client's certificate, ready to connect with. Cloning copies pointers.
#[derive(Clone)]
pub(crate) struct Device {
    /// The CN.
    pub(crate) name: String,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Device {
    /// The same, but it keeps the sessions that the broker gives it and offers them.
    pub(crate) fn resuming(&self) -> Self {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.resumption = Resumption::in_memory_sessions(SESSIONS_KEPT);
        Self { name: self.name.clone(), tls: Arc::new(tls) }
    }
}

impl Pki {
    pub(crate) fn new(counts: Counts, tls: Tls) -> Result<Self> {
        let validity = Validity::days_from(OffsetDateTime::now_utc(), DAYS);
        let root = Authority::root("bench root", KeyKind::P256, validity)?;
        let issuing = root.intermediate("bench issuing", KeyKind::P256, validity, 0)?;
        let other = root.intermediate("bench other", KeyKind::P256, validity, 0)?;
        let foreign = Authority::root("foreign root", KeyKind::P256, validity)?;
        let server = issuing.issue(&LeafProfile::localhost(validity))?;

        let directory = tempfile::Builder::new().prefix("signet-bench-").tempdir()?;
        let at = |name: &str| directory.path().join(name);
        fs::write(at("root.pem"), root.certificate_pem())?;
        fs::write(at("issuing.pem"), issuing.certificate_pem())?;
        fs::write(at("other.pem"), other.certificate_pem())?;
        fs::write(at("server-chain.pem"), server.chain_pem())?;
        write_private(&at("server.key"), &server.key_pem())?;
        write_private(&at("acl"), POLICY)?;

        let clients = Clients::new(&root)?;
        let bar = progress::bar("certificates", counts.devices + counts.others + counts.strangers);
        let issue = |by: &Authority, name: String| -> Result<Identity> {
            bar.inc(1);
            let leaf = by.issue(&LeafProfile::device(&name, validity))?;
            clients.identity(name, &leaf)
        };
        let many = |by: &Authority, prefix: &str, count: usize| {
            (0..count).map(|n| issue(by, format!("{prefix}-{n:05}"))).collect::<Result<Vec<_>>>()
        };
        let admin = issue(&issuing, "admin".to_owned())?;
        let devices = many(&issuing, "bench", counts.devices)?;
        let others = many(&other, "other", counts.others)?;
        let strangers = many(&foreign, "stranger", counts.strangers)?;
        bar.finish_and_clear();
        let inner = Inner { directory, root, issuing, other, clients, devices, others, strangers, admin };
        Ok(Self { inner: Arc::new(inner), tls })
    }

    /// The same certificates for clients that offer this version.
    pub(crate) fn with_tls(&self, tls: Tls) -> Self {
        Self { tls, ..self.clone() }
    }

    /// The first `count` devices; a comparison has as many as its largest scenario needs.
    pub(crate) fn devices(&self, count: usize) -> Result<Vec<Device>> {
        self.first(&self.inner.devices, count)
    }

    /// The first `count` devices of the second authority.
    pub(crate) fn others(&self, count: usize) -> Result<Vec<Device>> {
        self.first(&self.inner.others, count)
    }

    /// The first `count` devices that nobody trusts.
    pub(crate) fn strangers(&self, count: usize) -> Result<Vec<Device>> {
        self.first(&self.inner.strangers, count)
    }

    /// The back-end principal.
    pub(crate) fn admin(&self) -> Result<Device> {
        self.inner.clients.device(&self.inner.admin, self.tls)
    }

    fn first(&self, all: &[Identity], count: usize) -> Result<Vec<Device>> {
        let some = all.get(..count).context("fewer certificates than the scenario needs")?;
        some.iter().map(|identity| self.inner.clients.device(identity, self.tls)).collect()
    }

    /// A device with a certificate that a broker has issued: the chain that it gave, and the key that belongs to it.
    pub(crate) fn issued(
        &self,
        name: String,
        chain_pem: &str,
        key: PrivateKeyDer<'static>,
    ) -> Result<Device> {
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>()?;
        let key = self.inner.clients.key(chain, key)?;
        let identity = Identity { name, serial: Serial::from_bytes(&[1]), key };
        self.inner.clients.device(&identity, self.tls)
    }

    /// Writes a list of each authority to `directory`: nobody on those of the root and of the second one, and on the one of the
    /// devices' authority so many serial numbers that no device has.
    pub(crate) fn write_crls(&self, directory: &Path, entries: u32) -> Result<Crls> {
        // As long as the serial numbers of the devices, which are random and never begin so.
        const NOBODY: u128 = 0x11 << 120;
        let crls = Crls {
            root: directory.join("root.crl"),
            issuing: directory.join("issuing.crl"),
            other: directory.join("other.crl"),
        };
        let serials: Vec<Serial> =
            (0..u128::from(entries)).map(|n| Serial::from_bytes(&(NOBODY + n).to_be_bytes())).collect();
        self.write_crl(&self.inner.root, &crls.root, 1, &[])?;
        self.write_crl(&self.inner.issuing, &crls.issuing, 1, &serials.iter().collect::<Vec<_>>())?;
        self.write_crl(&self.inner.other, &crls.other, 1, &[])?;
        Ok(crls)
    }

    /// Makes the list of this number of the second authority, with these of its devices on it, to be put in the place of the last
    /// one by [`Next::put`].
    pub(crate) fn next_list(
        &self,
        crls: &Crls,
        number: u64,
        revoked: impl Iterator<Item = usize>,
    ) -> Result<Next> {
        let serial = |at| self.inner.others.get(at).map(|identity: &Identity| &identity.serial);
        let serials: Option<Vec<&Serial>> = revoked.map(serial).collect();
        let serials = serials.context("fewer certificates than are to be revoked")?;
        let new = crls.other.with_extension(format!("new-{number}"));
        self.write_crl(&self.inner.other, &new, number, &serials)?;
        Ok(Next { new, place: crls.other.clone() })
    }

    fn write_crl(&self, by: &Authority, path: &Path, number: u64, revoked: &[&Serial]) -> Result<()> {
        let crl = by.crl(&CrlProfile::new(number, OffsetDateTime::now_utc(), DAYS, revoked))?;
        fs::write(path, crl.pem()).with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root.pem")
    }

    /// The authority of the devices.
    pub(crate) fn issuing(&self) -> PathBuf {
        self.path("issuing.pem")
    }

    /// The second authority.
    pub(crate) fn other(&self) -> PathBuf {
        self.path("other.pem")
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
        self.inner.directory.path().join(name)
    }
}

/// A list that is written and not yet in its place.
pub(crate) struct Next {
    new: PathBuf,
    place: PathBuf,
}

impl Next {
    /// Moves it there in one step.
    pub(crate) fn put(self) -> Result<()> {
        Ok(fs::rename(self.new, self.place)?)
    }
}

/// The revocation lists of a run.
#[derive(Clone, Debug)]
pub(crate) struct Crls {
    pub(crate) root: PathBuf,
    pub(crate) issuing: PathBuf,
    pub(crate) other: PathBuf,
}

/// What the TLS configurations of all clients have in common.
struct Clients {
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Clients {
    fn new(root: &Authority) -> Result<Self> {
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
        Ok(Self { provider, verifier })
    }

    fn identity(&self, name: String, leaf: &Leaf) -> Result<Identity> {
        let chain = leaf.chain().into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf.key().to_vec()));
        Ok(Identity { name, serial: leaf.serial().clone(), key: self.key(chain, key)? })
    }

    fn key(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<SingleCertAndKey>> {
        let certified = CertifiedKey::from_der(chain, key, &self.provider)?;
        Ok(Arc::new(SingleCertAndKey::from(certified)))
    }

    fn device(&self, identity: &Identity, tls: Tls) -> Result<Device> {
        let version = match tls {
            Tls::V12 => &rustls::version::TLS12,
            Tls::V13 => &rustls::version::TLS13,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[version])?
            .with_webpki_verifier(Arc::clone(&self.verifier))
            .with_client_cert_resolver(Arc::clone(&identity.key) as _);
        // Every handshake is a full one.
        config.resumption = Resumption::disabled();
        Ok(Device { name: identity.name.clone(), tls: Arc::new(config) })
    }
}

pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
