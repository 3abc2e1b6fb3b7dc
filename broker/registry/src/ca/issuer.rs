//! An authority that signs: its certificate and its key, which were checked to fit.

use std::fmt;
use std::sync::Arc;

use rcgen::CertificateParams;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

use super::signer::{Adapter, Unsigned};
use super::{KeyError, PublicKey, SignatureAlgorithm, Signer};
use crate::{CERTIFICATE_BYTES_MAX, CaId, KeyHash, Line, Wall};

/// Why a certificate and a key are not an authority that can sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// The text is not PEM, or holds so many certificates that are not one.
    #[error("the text holds {0} certificates, exactly one is needed: the authority's own")]
    NotOne(usize),
    /// The bytes are too many, are not one X.509 version 3 certificate, or something follows it.
    #[error("the authority's certificate cannot be read")]
    Unreadable,
    /// The certificate's key is none that is supported.
    #[error("the authority's certificate has an unusable key: {0}")]
    Key(#[from] KeyError),
    /// The certificate's key cannot be an authority's here: P-521, Ed25519.
    #[error("an authority's key must be P-256, P-384 or RSA")]
    KeyKind,
    /// The private key is that of another certificate, or signs with another algorithm than its kind's.
    #[error("the private key is not the one of the authority's certificate")]
    KeyMismatch,
    /// Basic constraints are absent, or say CA:FALSE (RFC 5280 section 4.2.1.9).
    #[error("the certificate is not an authority's: its basic constraints do not say CA:TRUE")]
    NotAuthority,
    /// Its key usage does not include keyCertSign (RFC 5280 section 4.2.1.3).
    #[error("the certificate may not sign certificates: its key usage lacks keyCertSign")]
    KeyUsage,
    /// Its extended key usage has neither clientAuth nor anyExtendedKeyUsage, so that no client below it is accepted.
    #[error(
        "the certificates of this authority would not be accepted for clients: its extended key usage lacks clientAuth"
    )]
    ExtendedKeyUsage,
    /// It has name constraints, which are not evaluated when a certificate is issued.
    #[error("the authority's certificate has name constraints, which are not supported")]
    NameConstraints,
    /// It has another critical extension that is not understood, or one that cannot be read.
    #[error("the authority's certificate has a critical extension that is not supported: {0}")]
    CriticalExtension(String),
    /// Its subject is empty, or cannot be written into certificates byte by byte as it is: an attribute that comes
    /// twice, as with two domain components, or several attributes in one relative name.
    #[error("the authority's subject is empty, or has an attribute twice: it cannot be an issuer here")]
    Subject,
    /// Its validity period is over.
    #[error("the authority's certificate expired at {0}")]
    Expired(Wall),
    /// Its validity period has not begun.
    #[error("the authority's certificate is not valid before {0}")]
    NotYetValid(Wall),
}

impl IssuerError {
    /// What an operator can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotOne(_) | Self::Unreadable => {
                "give the issuing authority's certificate alone, as PEM or DER"
            }
            Self::KeyMismatch => "give the private key that belongs to this certificate",
            Self::Key(_) | Self::KeyKind => "make an issuing authority with a P-256 key",
            Self::NotAuthority | Self::KeyUsage | Self::ExtendedKeyUsage => {
                "have the certificate issued anew with CA:TRUE, keyCertSign and cRLSign"
            }
            Self::NameConstraints | Self::CriticalExtension(_) | Self::Subject => {
                "have an issuing authority for this broker made under the same root, with a plain common name"
            }
            Self::Expired(_) => "renew the authority, or check the clock of this machine",
            Self::NotYetValid(_) => "check the clock of this machine",
        }
    }
}

/// What the authority's certificate says of it, once read.
struct Constraints {
    path_len: Option<u32>,
    signs_crls: bool,
}

/// An authority that can sign: certificate and key belong together, and the certificate allows it.
#[derive(Clone)]
pub struct Issuer {
    certificate: CertificateDer<'static>,
    signer: Arc<dyn Signer>,
    id: CaId,
    subject: Line,
    key_id: Vec<u8>,
    not_before: i64,
    not_after: i64,
    path_len: Option<u32>,
    signs_crls: bool,
}

impl Issuer {
    /// The authority with the certificate `pem_or_der` and the key `signer`, at the moment `now`.
    ///
    /// A certificate without key usage restricts nothing (RFC 5280 section 6.1.4 (n)).
    ///
    /// # Errors
    /// [`IssuerError`] for everything that would make its certificates refused later.
    pub fn load(pem_or_der: &[u8], signer: Arc<dyn Signer>, now: Wall) -> Result<Self, IssuerError> {
        let certificate = one_certificate(pem_or_der)?;
        let Ok(([], parsed)) = X509Certificate::from_der(&certificate) else {
            return Err(IssuerError::Unreadable);
        };
        if parsed.version() != X509Version::V3 {
            return Err(IssuerError::Unreadable);
        }
        check_key(&parsed, &*signer)?;
        let constraints = check_extensions(&parsed)?;
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        check_validity(not_before, not_after, now)?;
        check_subject(&parsed, &certificate, &*signer)?;
        Ok(Self {
            id: CaId::of(&certificate),
            subject: Line::new(&signet_identity::describe(&certificate).subject),
            key_id: key_id(&parsed, signer.public_key()),
            not_before,
            not_after,
            path_len: constraints.path_len,
            signs_crls: constraints.signs_crls,
            certificate: certificate.clone(),
            signer,
        })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// Its certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        super::to_pem("CERTIFICATE", self.certificate.to_vec())
    }

    /// The SHA-256 of its certificate.
    #[must_use]
    pub const fn id(&self) -> CaId {
        self.id
    }

    /// The hash of its key: with a serial number, it is one certificate.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        self.signer.public_key().hash()
    }

    /// Its subject, for people.
    #[must_use]
    pub const fn subject(&self) -> &Line {
        &self.subject
    }

    /// Its key's algorithm.
    #[must_use]
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.signer.algorithm()
    }

    /// First second of its validity period, in Unix seconds.
    #[must_use]
    pub const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Last second of its validity period, in Unix seconds.
    #[must_use]
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// How many authorities may follow below it; `None` for any number (RFC 5280 section 4.2.1.9).
    #[must_use]
    pub const fn path_len(&self) -> Option<u32> {
        self.path_len
    }

    /// Whether its certificate lets it sign revocation lists.
    #[must_use]
    pub const fn signs_crls(&self) -> bool {
        self.signs_crls
    }

    pub(super) fn signer(&self) -> &dyn Signer {
        &*self.signer
    }

    /// The subject key identifier, as the authority key identifier of what it signs.
    pub(super) fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    pub(super) fn check_validity(&self, now: Wall) -> Result<(), IssuerError> {
        check_validity(self.not_before, self.not_after, now)
    }

    /// This authority as rcgen wants it, with what signs in its place.
    pub(super) fn to_rcgen<'a>(
        &self,
        adapter: &'a Adapter<'a>,
    ) -> Result<rcgen::Issuer<'static, &'a Adapter<'a>>, rcgen::Error> {
        rcgen::Issuer::from_ca_cert_der(&self.certificate, adapter)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("id", &self.id).field("subject", &self.subject).finish_non_exhaustive()
    }
}

fn one_certificate(pem_or_der: &[u8]) -> Result<CertificateDer<'static>, IssuerError> {
    if pem_or_der.len() > 2 * CERTIFICATE_BYTES_MAX {
        return Err(IssuerError::Unreadable);
    }
    if super::is_der(pem_or_der) {
        return Ok(CertificateDer::from(pem_or_der.to_vec()));
    }
    let mut sections = pem::parse_many(pem_or_der).map_err(|_| IssuerError::Unreadable)?;
    sections.retain(|section| section.tag() == "CERTIFICATE");
    match <[pem::Pem; 1]>::try_from(sections) {
        Ok([one]) => Ok(CertificateDer::from(one.into_contents())),
        Err(several) => Err(IssuerError::NotOne(several.len())),
    }
}

fn check_key(parsed: &X509Certificate<'_>, signer: &dyn Signer) -> Result<(), IssuerError> {
    let key = PublicKey::from_spki(parsed.public_key().raw)?;
    let algorithm = SignatureAlgorithm::of(key.kind()).ok_or(IssuerError::KeyKind)?;
    if key == *signer.public_key() && algorithm == signer.algorithm() {
        Ok(())
    } else {
        Err(IssuerError::KeyMismatch)
    }
}

fn check_extensions(parsed: &X509Certificate<'_>) -> Result<Constraints, IssuerError> {
    let path_len = match parsed.basic_constraints() {
        Ok(Some(basic)) if basic.value.ca => basic.value.path_len_constraint,
        Ok(_) => return Err(IssuerError::NotAuthority),
        Err(_) => return Err(IssuerError::Unreadable),
    };
    let mut signs_crls = true;
    for (at, extension) in parsed.extensions().iter().enumerate() {
        if parsed.extensions().iter().take(at).any(|before| before.oid == extension.oid) {
            return Err(IssuerError::Unreadable);
        }
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() => return Err(IssuerError::KeyUsage),
            ParsedExtension::KeyUsage(usage) => signs_crls = usage.crl_sign(),
            ParsedExtension::ExtendedKeyUsage(ExtendedKeyUsage {
                any: false, client_auth: false, ..
            }) => {
                return Err(IssuerError::ExtendedKeyUsage);
            }
            ParsedExtension::BasicConstraints(_) | ParsedExtension::ExtendedKeyUsage(_) => {}
            ParsedExtension::NameConstraints(_) => return Err(IssuerError::NameConstraints),
            _ if extension.critical => {
                return Err(IssuerError::CriticalExtension(extension.oid.to_id_string()));
            }
            _ => {}
        }
    }
    Ok(Constraints { path_len, signs_crls })
}

fn check_validity(not_before: i64, not_after: i64, now: Wall) -> Result<(), IssuerError> {
    if now.unix_secs() < not_before {
        Err(IssuerError::NotYetValid(Wall::from_unix_secs(not_before)))
    } else if now.unix_secs() > not_after {
        Err(IssuerError::Expired(Wall::from_unix_secs(not_after)))
    } else {
        Ok(())
    }
}

/// rcgen takes a subject apart and writes it anew. A name that is not the same bytes after that would break the chain.
fn check_subject(
    parsed: &X509Certificate<'_>,
    certificate: &CertificateDer<'_>,
    signer: &dyn Signer,
) -> Result<(), IssuerError> {
    if parsed.subject().iter_rdn().next().is_none() {
        return Err(IssuerError::Subject);
    }
    let unsigned = Unsigned(signer);
    let issuer = rcgen::Issuer::from_ca_cert_der(certificate, &unsigned).map_err(|_| IssuerError::Subject)?;
    let probe =
        CertificateParams::default().signed_by(&unsigned, &issuer).map_err(|_| IssuerError::Subject)?;
    let Ok((_, probe)) = X509Certificate::from_der(probe.der()) else { return Err(IssuerError::Subject) };
    if probe.issuer().as_raw() == parsed.subject().as_raw() { Ok(()) } else { Err(IssuerError::Subject) }
}

/// The subject key identifier of the certificate; of one without, what rcgen derives from the key.
fn key_id(parsed: &X509Certificate<'_>, key: &PublicKey) -> Vec<u8> {
    let own = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    own.unwrap_or_else(|| CertificateParams::default().key_identifier(key.encoder()))
}
