//! The certificate authority of this broker at its edge: files, the clock, and what is signed becoming known.
//!
//! What may be signed, and how, is decided in `signet_registry::ca` and by the registry. Signing waits for a key, which may
//! live in hardware, and storing waits for the disk, so nothing here runs on threads that carry traffic.

mod authorities;
mod keyless;
mod list;
mod metrics;
pub mod pkcs11;

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use signet_config::{CaKey, PreviousCa};
use signet_identity::{CertificateId, PrincipalKey, Role, ThingName};
use signet_registry::ca::{
    CheckedCsr, CrlUrl, CsrError, CsrPolicy, IssueError, Issuer, IssuerError, KeyError, KeyFileError,
    KeyKinds, KeySigner, Passphrase, Profile, ProfileError, PublicKey, Signer, SubjectRule, issue,
    random_serial,
};
use signet_registry::{
    Actor, Attempt, CaSettings, Command, IssueFor, NewCa, NewCertificate, RegistryError, Source, Status,
    ThingSpec, Wall,
};
use zeroize::Zeroizing;

pub use self::authorities::{Authorities, Opened};
use self::keyless::Keyless;
pub use self::list::{ListError, Looked, WrittenList};
pub(crate) use self::metrics::AuthorityMetrics;
use self::pkcs11::{Pkcs11Error, Pkcs11Signer, TokenWatch};
use crate::store::{ExecuteError, Pending, RegistryService, StoreError};

/// The authority's certificate in its folder.
pub const CERTIFICATE_FILE: &str = "issuing.crt";
/// Certificates above the authority's own in its folder, up to the root: handed to devices, trusted for nothing here.
pub const ABOVE_FILE: &str = "root.crt";
/// The authority's private key in its folder.
pub const KEY_FILE: &str = "issuing.key";
/// The revocation list in its folder, unless the configuration names another file.
pub const CRL_FILE: &str = "issuing.crl";
/// The largest file that is read here, in bytes: more than any certificate, key or passphrase has.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{}: {source}{}", path.display(), if source.kind() == std::io::ErrorKind::NotFound { "\n  hint: `signet ca init` makes the authority" } else { "" })]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Others can read a secret.
    #[error("{}: others can read this secret (mode {mode:04o})\n  hint: chmod 600 it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The private key.
    #[error("{}: {error}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyFileError,
    },
    /// The key in a token.
    #[error("[ca]: {0}")]
    Token(#[from] Pkcs11Error),
    /// An authority of before whose key is not where it was said to be.
    #[error(
        "[ca] previous: {}: there is no issuing.key in this folder\n  hint: name the folder in [[ca-previous]] in place of \
         previous: with the pkcs11- keys when the authority's key is in a token, with key = \"none\" when it is not here at all", path.display()
    )]
    PreviousKey {
        /// Its folder.
        path: PathBuf,
    },
    /// The certificate, or that it goes with the key.
    #[error("{}: {error}\n  hint: {}", path.display(), error.hint())]
    Issuer {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        error: IssuerError,
    },
    /// The settings.
    #[error("[ca]: {0}")]
    Profile(#[from] ProfileError),
    /// The registry refused the authority.
    #[error("the authority cannot be registered: {0}")]
    Register(#[from] ExecuteError),
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueRefused {
    /// The signing request.
    #[error("{0}\n  hint: {hint}", hint = .0.hint())]
    Csr(#[from] CsrError),
    /// The public key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The signature.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// What was signed cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ExecuteError> for IssueRefused {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Refused(refused) => Self::Registry(refused),
            ExecuteError::Store(store) => Self::Store(store),
        }
    }
}

/// What a certificate is asked for with.
#[derive(Debug, Clone, Copy)]
pub enum KeyProof<'a> {
    /// A signing request, PEM or DER, which proves possession of the key.
    Csr(&'a [u8]),
    /// A public key, SubjectPublicKeyInfo in DER, that the operator vouches for.
    Operator(&'a [u8]),
}

/// A certificate that is signed and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// Its id.
    pub id: CertificateId,
    /// Whether it was there already, for the same thing and key.
    pub already: bool,
}

/// The authority of this broker, ready to sign.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer,
    /// The certificates above the issuer's, in DER.
    above: Vec<Vec<u8>>,
    profile: Profile,
    keys: KeyKinds,
    /// Whether its key is here. Without it nothing is signed, and its revocation list comes from outside.
    signs: bool,
    /// How its token fares, when its key is in one.
    token: Option<Arc<TokenWatch>>,
    crl_file: PathBuf,
    crl_validity: Duration,
    /// Held while a revocation list is made, so that numbers and files are in one order.
    listing: Mutex<()>,
    list: ArcSwapOption<WrittenList>,
}

impl Authority {
    /// Reads an authority that this broker was before: for its revocation lists.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_previous(
        settings: &signet_config::Ca,
        previous: &PreviousCa,
        now: Wall,
    ) -> Result<Self, AuthorityError> {
        let directory = previous.directory.clone();
        if matches!(previous.key, Some(CaKey::File { .. })) && !directory.join(KEY_FILE).exists() {
            return Err(AuthorityError::PreviousKey { path: directory });
        }
        let settings = signet_config::Ca { directory, crl_file: None, ..settings.clone() };
        Self::read(&settings, previous.key.as_ref(), now)
    }

    /// Reads the authority that `settings` name.
    ///
    /// # Errors
    /// [`AuthorityError`], all but [`AuthorityError::Register`].
    pub fn load(settings: &signet_config::Ca, now: Wall) -> Result<Self, AuthorityError> {
        Self::read(settings, Some(&settings.key), now)
    }

    fn read(settings: &signet_config::Ca, key: Option<&CaKey>, now: Wall) -> Result<Self, AuthorityError> {
        let (issuer, token) = read_issuer(&settings.directory, key, now)?;
        let mut profile = Profile::new(settings.certificate_validity, settings.backdate)?;
        if let Some(url) = &settings.crl_url {
            profile = profile.with_crl_url(CrlUrl::try_from(url.as_str())?);
        }
        let crl_file = settings.crl_file.clone().unwrap_or_else(|| settings.directory.join(CRL_FILE));
        let last = match key {
            Some(_) => list::last(&crl_file)?.map(Arc::new),
            // It is looked at as every later one is.
            None => None,
        };
        Ok(Self {
            listing: Mutex::new(()),
            list: ArcSwapOption::new(last),
            above: certificates_above(&settings.directory.join(ABOVE_FILE))?,
            issuer,
            profile,
            keys: key_kinds(&settings.keys),
            signs: key.is_some(),
            token,
            crl_file,
            crl_validity: settings.crl_validity,
        })
    }

    /// Whether its key is here.
    #[must_use]
    pub const fn signs(&self) -> bool {
        self.signs
    }

    /// How its token fares, when its key is in one.
    #[must_use]
    pub fn token(&self) -> Option<&TokenWatch> {
        self.token.as_deref()
    }

    /// The authority's certificate and key.
    #[must_use]
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The authority's certificate and those above it, in DER: what somebody is given who is to trust them.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.issuer.certificate_der()).chain(self.above.iter().map(Vec::as_slice))
    }

    /// How certificates of devices are made, apart from name and key.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The kinds of keys that are certified.
    #[must_use]
    pub const fn key_kinds(&self) -> &KeyKinds {
        &self.keys
    }

    /// Makes the registry know this authority as the broker's own, which may give every name; whether it did not before. The
    /// authorities that the broker was before may still give theirs.
    ///
    /// # Errors
    /// [`AuthorityError::Register`].
    pub fn register(&self, registry: &RegistryService) -> Result<bool, AuthorityError> {
        // The same key with a new certificate is the same authority.
        if registry.registry().ca_by_key(&self.issuer.key_hash()).is_some() {
            return Ok(false);
        }
        let before: Vec<_> =
            registry.snapshot().cas().filter(|ca| ca.source == Source::Own).map(|ca| ca.id).collect();
        let path = Path::new(CERTIFICATE_FILE);
        let certificate = NewCertificate::read(self.issuer.certificate_der(), self.issuer.key_hash())
            .map_err(|_| AuthorityError::Issuer { path: path.to_owned(), error: IssuerError::Unreadable })?;
        let any = "*".parse().map_err(|_| ProfileError::AuthorityName)?;
        let mut settings = CaSettings::registered_only(vec![any]);
        settings.shares_names_with = before;
        let ca = NewCa { certificate, source: Source::Own, settings };
        registry.execute(Command::AddCa(ca), Actor::Broker)?;
        Ok(true)
    }

    /// Certifies keys for things, and registers that, with few waits for the disk. A thing that does not exist is added as it
    /// is given. The same key for the same thing gives the certificate that is there, so whoever did not get the answer
    /// may ask again.
    ///
    /// For each one [`IssueRefused`] says why nothing came into force; the refusal leaves a row in the audit trail.
    pub fn issue_all<'a>(
        &self,
        registry: &RegistryService,
        asked: impl IntoIterator<Item = (&'a ThingSpec, KeyProof<'a>)>,
        actor: &Actor,
    ) -> Vec<Result<Given, IssueRefused>> {
        let signed: Vec<_> = asked
            .into_iter()
            .map(|(thing, proof)| (thing, self.sign(registry, thing, proof, actor)))
            .collect();
        signed.into_iter().map(|(thing, signed)| finish(registry, &thing.name, signed, actor)).collect()
    }

    /// Signs, and hands what was signed to the registry without waiting for it.
    fn sign(
        &self,
        registry: &RegistryService,
        thing: &ThingSpec,
        proof: KeyProof<'_>,
        actor: &Actor,
    ) -> Result<Signed, IssueRefused> {
        let name = &thing.name;
        let key = match proof {
            KeyProof::Csr(csr) => {
                let subject = SubjectRule::MustEqual(name.clone());
                CheckedCsr::parse(csr, &CsrPolicy { keys: self.keys.clone(), subject })?.public_key().clone()
            }
            KeyProof::Operator(spki) => PublicKey::from_spki_allowed(spki, &self.keys)?,
        };
        let holder = PrincipalKey { role: Role::Device, name: name.clone() };
        let now = registry.now();
        if let Some(given) = self.already(registry, &holder, &key)? {
            return Ok(Signed { given, added: None, stored: None });
        }
        registry.registry().may_issue(IssueFor::Holder(&holder), &key.hash(), now)?;
        let serial = random_serial().map_err(|_| IssueError::Serial)?;
        let issued = issue(&self.issuer, &key, name, &self.profile, now, serial)?;
        let certificate = NewCertificate::read(&issued.der, self.issuer.key_hash())
            .map_err(|error| IssueError::Encode(error.to_string()))?;
        // After the signature, so that nobody is added whose request is refused; both are decided in this order.
        let added = registry
            .registry()
            .thing(name.as_str())
            .is_none()
            .then(|| registry.submit(Command::AddThing(thing.clone()), actor.clone()));
        let stored = registry.submit(Command::Issue { certificate, holder }, actor.clone());
        let given = Given { der: issued.der, id: issued.certificate_id, already: false };
        Ok(Signed { given, added, stored: Some(stored) })
    }

    /// The certificate in force that `holder` has for `key` from this authority.
    fn already(
        &self,
        registry: &RegistryService,
        holder: &PrincipalKey,
        key: &PublicKey,
    ) -> Result<Option<Given>, StoreError> {
        let snapshot = registry.snapshot();
        let there = snapshot.certificates_of_key(&key.hash()).find(|certificate| {
            certificate.facts.issuer == self.issuer.key_hash()
                && certificate.holder.as_ref() == Some(holder)
                && matches!(certificate.status, Status::Active)
                && certificate.counts_as_active(registry.now())
        });
        let Some(there) = there else { return Ok(None) };
        let id = *there.id();
        Ok(registry.certificate_der(&id)?.map(|der| Given { der, id, already: true }))
    }
}

/// What was signed and is being stored.
struct Signed {
    given: Given,
    /// `None` when the thing was there already.
    added: Option<Pending>,
    /// `None` when the certificate was there already.
    stored: Option<Pending>,
}

/// Waits until what was signed is stored; only then it is given away. Records a refusal.
fn finish(
    registry: &RegistryService,
    thing: &ThingName,
    signed: Result<Signed, IssueRefused>,
    actor: &Actor,
) -> Result<Given, IssueRefused> {
    let given = signed.and_then(|signed| {
        match signed.added.map_or(Ok(()), |added| added.wait().map(drop)) {
            // Somebody else was faster.
            Err(ExecuteError::Refused(RegistryError::ThingExists(_))) => {}
            other => other?,
        }
        signed.stored.map_or(Ok(()), |stored| stored.wait().map(drop))?;
        Ok(signed.given)
    });
    if let Err(refused) = &given
        && !matches!(refused, IssueRefused::Store(_))
    {
        // The first line is what is wrong; what follows it is a hint for whoever asked.
        let why = refused.to_string();
        let why = why.lines().next().unwrap_or_default();
        registry.record_refusal(Attempt::Issue, &format_args!("{thing}: {why}"), 0, actor.clone());
    }
    given
}

/// Reads an authority: its certificate out of its folder, and its key out of there too, out of a token, or not at all.
fn read_issuer(
    directory: &Path,
    key: Option<&CaKey>,
    now: Wall,
) -> Result<(Issuer, Option<Arc<TokenWatch>>), AuthorityError> {
    let certificate_path = directory.join(CERTIFICATE_FILE);
    let certificate = read(&certificate_path, FILE_BYTES_MAX)?;
    let mut token = None;
    let signer: Arc<dyn Signer> = match key {
        Some(CaKey::File { passphrase_file }) => Arc::new(load_key(directory, passphrase_file.as_deref())?),
        Some(CaKey::Pkcs11(settings)) => {
            let signer = Pkcs11Signer::open(settings, directory, public_key_of(&certificate))?;
            token = Some(signer.watch());
            Arc::new(signer)
        }
        None => {
            let unusable =
                || AuthorityError::Issuer { path: certificate_path.clone(), error: IssuerError::Unreadable };
            let public = public_key_of(&certificate).ok_or_else(unusable)?;
            Arc::new(Keyless::new(public).ok_or_else(unusable)?)
        }
    };
    let issuer = Issuer::load(&certificate, signer, now)
        .map_err(|error| AuthorityError::Issuer { path: certificate_path, error })?;
    Ok((issuer, token))
}

fn load_key(directory: &Path, passphrase: Option<&Path>) -> Result<KeySigner, AuthorityError> {
    let path = directory.join(KEY_FILE);
    let passphrase =
        passphrase.map(|path| read_secret(path).map(|text| Passphrase::first_line(&text))).transpose()?;
    let key = read_secret(&path)?;
    KeySigner::from_pem(&key, passphrase.as_ref()).map_err(|error| AuthorityError::Key { path, error })
}

/// The public key of a certificate in PEM or DER; `None` when there is none that can be used.
#[must_use]
pub fn public_key_of(certificate: &[u8]) -> Option<PublicKey> {
    use x509_parser::prelude::FromDer as _;
    let pem = pem::parse(certificate).map(pem::Pem::into_contents).ok();
    let der = pem.as_deref().unwrap_or(certificate);
    let (_, parsed) = x509_parser::prelude::X509Certificate::from_der(der).ok()?;
    PublicKey::from_spki(parsed.public_key().raw).ok()
}

/// Reads a file that nobody else can read, bounded.
///
/// # Errors
/// [`AuthorityError::File`], [`AuthorityError::Exposed`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    let file = |source| AuthorityError::File { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AuthorityError::Exposed { path: path.to_owned(), mode });
    }
    read(path, FILE_BYTES_MAX)
}

fn read(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    use std::io::Read as _;
    let fail = |source| AuthorityError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > bytes_max {
        return Err(fail(std::io::Error::other(format!("it is longer than {bytes_max} bytes"))));
    }
    Ok(bytes)
}

/// Puts `bytes` in the place of the file `path`, so that a reader sees the old ones or the new ones, also after a crash.
///
/// # Errors
/// What the operating system says; then the old file stays.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if let Err(error) = std::fs::remove_file(&beside)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => std::fs::File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// The certificates in a file that need not be there.
fn certificates_above(path: &Path) -> Result<Vec<Vec<u8>>, AuthorityError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read(path, FILE_BYTES_MAX)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found.iter().map(|der| der.to_vec()).collect()),
        _ => {
            let source = std::io::Error::other("it does not hold certificates in PEM");
            Err(AuthorityError::File { path: path.to_owned(), source })
        }
    }
}

/// A certificate as PEM, with a line end after it.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

fn key_kinds(kinds: &[signet_config::KeyKind]) -> KeyKinds {
    use signet_config::KeyKind;
    let has = |kind| kinds.contains(&kind);
    KeyKinds {
        p256: has(KeyKind::P256),
        p384: has(KeyKind::P384),
        p521: has(KeyKind::P521),
        ed25519: has(KeyKind::Ed25519),
        rsa_bits: has(KeyKind::Rsa).then_some(signet_registry::ca::RSA_BITS_MIN..=4096),
    }
}
