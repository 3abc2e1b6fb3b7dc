//! The certificate authority of this broker at its edge: files, the clock, and what is signed becoming known.
//!
//! What may be signed, and how, is decided in `signet_registry::ca` and by the registry. Signing waits for a key, which may
//! live in hardware, and storing waits for the disk, so nothing here runs on threads that carry traffic.

mod authorities;
pub mod pkcs11;

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use signet_config::CaKey;
use signet_identity::{CertificateId, PrincipalKey, Role, ThingName};
use signet_registry::ca::{
    CheckedCsr, CrlEntry, CrlError, CrlUrl, CsrError, CsrPolicy, IssueError, Issuer, IssuerError, KeyError,
    KeyFileError, KeyKinds, KeySigner, Passphrase, Profile, ProfileError, PublicKey, Signer, SubjectRule,
    crl, issue, random_serial,
};
use signet_registry::{
    Actor, Attempt, CaSettings, Command, IssueFor, NewCa, NewCertificate, RegistryError, Source, Status,
    ThingSpec, Wall,
};
use zeroize::Zeroizing;

pub use self::authorities::Authorities;
use self::pkcs11::{Pkcs11Error, Pkcs11Signer};
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
/// The largest own revocation list that is read back, in bytes: about a million entries.
const CRL_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
    /// An authority of before whose key is in no file.
    #[error(
        "[ca] previous: {}: there is no issuing.key in this folder\n  hint: the key of a previous authority must be in a file there: \
         one in a token cannot write its list beside another authority; let the token's authority stay the current one until \
         its certificates have ended, or take it out of previous and write its last list with a next-update that lasts as long", path.display()
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

/// A revocation list that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenList {
    /// Where it is.
    pub path: PathBuf,
    /// Its number.
    pub number: u64,
    /// How many certificates are in it.
    pub entries: usize,
    /// When it was made.
    pub this_update: Wall,
    /// When the next one is due at the latest.
    pub next_update: Wall,
    /// The list as PEM.
    pub pem: String,
    /// The list in DER.
    pub der: Vec<u8>,
}

/// The authority of this broker, ready to sign.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer,
    /// The certificates above the issuer's, in DER.
    above: Vec<Vec<u8>>,
    profile: Profile,
    keys: KeyKinds,
    crl_file: PathBuf,
    crl_validity: Duration,
    /// Held while a revocation list is made, so that numbers and files are in one order.
    listing: Mutex<()>,
    list: ArcSwapOption<WrittenList>,
}

impl Authority {
    /// Reads an authority that this broker was before, in the folder `directory`: for its revocation lists.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_previous(
        settings: &signet_config::Ca,
        directory: &Path,
        now: Wall,
    ) -> Result<Self, AuthorityError> {
        if !directory.join(KEY_FILE).exists() {
            return Err(AuthorityError::PreviousKey { path: directory.to_owned() });
        }
        let key = match &settings.key {
            CaKey::File { passphrase_file } => CaKey::File { passphrase_file: passphrase_file.clone() },
            CaKey::Pkcs11(_) => CaKey::File { passphrase_file: None },
        };
        let directory = directory.to_owned();
        Self::load(&signet_config::Ca { directory, key, crl_file: None, ..settings.clone() }, now)
    }

    /// Reads the authority that `settings` name.
    ///
    /// # Errors
    /// [`AuthorityError`], all but [`AuthorityError::Register`].
    pub fn load(settings: &signet_config::Ca, now: Wall) -> Result<Self, AuthorityError> {
        let issuer = load_issuer(&settings.directory, &settings.key, now)?;
        let mut profile = Profile::new(settings.certificate_validity, settings.backdate)?;
        if let Some(url) = &settings.crl_url {
            profile = profile.with_crl_url(CrlUrl::try_from(url.as_str())?);
        }
        let crl_file = settings.crl_file.clone().unwrap_or_else(|| settings.directory.join(CRL_FILE));
        Ok(Self {
            listing: Mutex::new(()),
            list: ArcSwapOption::new(last_list(&crl_file)?.map(Arc::new)),
            above: certificates_above(&settings.directory.join(ABOVE_FILE))?,
            issuer,
            profile,
            keys: key_kinds(&settings.keys),
            crl_file,
            crl_validity: settings.crl_validity,
        })
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

    /// Signs the revocation list of this moment and puts it in the place of the last one.
    ///
    /// # Errors
    /// [`ListError`]; then the last one stays.
    pub fn write_list(&self, registry: &RegistryService) -> Result<Arc<WrittenList>, ListError> {
        let _one_at_a_time = self.listing.lock();
        let last = self.list().map_or(0, |list| list.number);
        let snapshot = registry.snapshot();
        let this_update = registry.now();
        let next_update = this_update.after(self.crl_validity);
        // Milliseconds, which grow also over a restart and over a restored registry.
        let number = this_update.0.max(snapshot.last_event_at().0).max(last.saturating_add(1));
        let entries = snapshot
            .revocations(&self.issuer.key_hash(), this_update)
            .map(|(serial, revoked_at, reason)| CrlEntry { serial, revoked_at, reason });
        let list = crl(&self.issuer, entries, number, this_update, next_update)?;
        let pem = list.pem();
        replace(&self.crl_file, pem.as_bytes(), 0o644)
            .map_err(|source| ListError::File { path: self.crl_file.clone(), source })?;
        let path = self.crl_file.clone();
        let written =
            WrittenList { path, number, entries: list.entries, this_update, next_update, pem, der: list.der };
        let written = Arc::new(written);
        self.list.store(Some(Arc::clone(&written)));
        Ok(written)
    }

    /// The revocation list that was written last; `None` when there has never been one that can be read.
    #[must_use]
    pub fn list(&self) -> Option<Arc<WrittenList>> {
        self.list.load_full()
    }

    /// The file that the revocation list is in.
    #[must_use]
    pub fn list_file(&self) -> &Path {
        &self.crl_file
    }

    /// When a revocation list that was just written is renewed, whatever happens.
    #[must_use]
    pub fn list_renewed_after(&self) -> Duration {
        self.crl_validity / 2
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

/// Why there is no new revocation list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It was not signed.
    #[error(transparent)]
    Sign(#[from] CrlError),
    /// It was not written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Reads an authority: its certificate out of its folder, and its key out of there too or out of a token.
///
/// # Errors
/// [`AuthorityError`].
pub fn load_issuer(directory: &Path, key: &CaKey, now: Wall) -> Result<Issuer, AuthorityError> {
    let certificate_path = directory.join(CERTIFICATE_FILE);
    let certificate = read(&certificate_path, FILE_BYTES_MAX)?;
    let signer: Arc<dyn Signer> = match key {
        CaKey::File { passphrase_file } => Arc::new(load_key(directory, passphrase_file.as_deref())?),
        CaKey::Pkcs11(settings) => {
            Arc::new(Pkcs11Signer::open(settings, directory, public_key_of(&certificate))?)
        }
    };
    Issuer::load(&certificate, signer, now)
        .map_err(|error| AuthorityError::Issuer { path: certificate_path, error })
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

/// The revocation list in a file, if there is one. One that cannot be read is replaced: what it should say is in the registry,
/// and the next number comes from the clock too.
fn last_list(path: &Path) -> Result<Option<WrittenList>, AuthorityError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read(path, CRL_BYTES_MAX)?;
    Ok(read_back(path, &bytes))
}

/// What a revocation list of ours says.
fn read_back(path: &Path, pem: &[u8]) -> Option<WrittenList> {
    use x509_parser::prelude::FromDer as _;
    let der = CertificateRevocationListDer::from_pem_slice(pem).ok()?;
    let (_, parsed) = x509_parser::prelude::CertificateRevocationList::from_der(&der).ok()?;
    Some(WrittenList {
        path: path.to_owned(),
        number: parsed.crl_number().and_then(|number| u64::try_from(number).ok())?,
        entries: parsed.iter_revoked_certificates().count(),
        this_update: Wall::from_unix_secs(parsed.last_update().timestamp()),
        next_update: Wall::from_unix_secs(parsed.next_update()?.timestamp()),
        pem: String::from_utf8(pem.to_vec()).ok()?,
        der: der.to_vec(),
    })
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
