//! Signing requests: what is taken from one, and what it may not ask for.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use signet_identity::ThingName;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::{X509CertificationRequest, X509CertificationRequestInfo};
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{ExtendedKeyUsage, KeyUsage, NSCertType, ParsedExtension, X509Extension};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{X509Name, X509Version};

use super::{KeyError, KeyKind, KeyKinds, PublicKey};
use crate::{KeyHash, Line};

/// The most bytes of a signing request, as text or as DER. One with an RSA key of 4096 bits has about 1700.
pub const CSR_BYTES_MAX: usize = 16_384;

/// What is done with the subject of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectRule {
    /// It is not looked at, except that two common names are refused: a device that asks with a claim does not know
    /// its name, and its request carries a placeholder.
    Ignore,
    /// It is empty or names this thing, byte by byte. Country, state, locality, organization and unit may be there; they
    /// are not taken over.
    MustEqual(ThingName),
    /// It has the names of the certificate that is renewed: the same subject, and the same subject alternative name or
    /// none like it (RFC 7030 section 4.2.2).
    SameAs(Names),
}

/// The names in a certificate or a request: the subject's attributes in their order, and the subject alternative name.
///
/// A value is compared byte by byte, whatever its string type: a client may write PrintableString where UTF8String stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    subject: Vec<(String, Vec<u8>)>,
    /// The extension's value in DER.
    alternative: Option<Vec<u8>>,
}

impl Names {
    /// The names in the certificate `der`; `None` when it cannot be read.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut extensions = certificate.extensions().iter();
        let alternative = extensions.find(|extension| extension.oid == oid::OID_X509_EXT_SUBJECT_ALT_NAME);
        let alternative = alternative.map(|extension| extension.value.to_vec());
        Some(Self { subject: values(certificate.subject()), alternative })
    }

    fn of_request(info: &X509CertificationRequestInfo<'_>) -> Self {
        let requested = info.iter_attributes().find_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) => request
                .extensions
                .iter()
                .find(|extension| extension.oid == oid::OID_X509_EXT_SUBJECT_ALT_NAME),
            _ => None,
        });
        let alternative = requested.map(|extension| extension.value.to_vec());
        Self { subject: values(&info.subject), alternative }
    }
}

fn values(name: &X509Name<'_>) -> Vec<(String, Vec<u8>)> {
    name.iter_attributes()
        .map(|attribute| (attribute.attr_type().to_id_string(), attribute.attr_value().data.to_vec()))
        .collect()
}

/// What a signing request may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsrPolicy {
    /// The kinds of keys.
    pub keys: KeyKinds,
    /// What is done with its subject.
    pub subject: SubjectRule,
}

/// Why there is no certificate for a signing request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// It is longer than [`CSR_BYTES_MAX`].
    #[error("the signing request has {0} bytes, at most {CSR_BYTES_MAX} are taken")]
    TooLong(usize),
    /// There is none, or there are several, in the PEM text.
    #[error("the text holds {0} signing requests, exactly one is needed")]
    NotOne(usize),
    /// It is not PKCS #10 (RFC 2986 section 4), or something follows it.
    #[error("the signing request cannot be read")]
    Unreadable,
    /// Its key cannot be certified.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is signed with an algorithm that proves nothing (SHA-1, MD5), is not supported, or is not that of its key.
    #[error("the signing request is signed with an algorithm that is not accepted")]
    Algorithm,
    /// The signature is false: whoever asks does not have the private key (RFC 2986 section 3).
    #[error("the signature of the signing request is false: it does not prove possession of the private key")]
    Signature,
    /// It has several common names.
    #[error("the signing request names more than one subject")]
    SeveralNames,
    /// It names another subject than the one that may be certified.
    #[error("the signing request asks for the name {asked:?}, and only {allowed:?} may be certified")]
    OtherName {
        /// The name that it asks for.
        asked: Line,
        /// The name that it may ask for.
        allowed: ThingName,
    },
    /// Its subject has an attribute that would be a name of its own.
    #[error("the signing request's subject has an attribute that is not certified: {0}")]
    SubjectAttribute(String),
    /// Its names are not those of the certificate that is renewed.
    #[error(
        "the signing request has another subject, or another subject alternative name, than the certificate that is renewed"
    )]
    Renamed,
    /// It asks for a subject alternative name.
    #[error("the signing request asks for a subject alternative name")]
    AlternativeName,
    /// It asks to be an authority: CA:TRUE, a path length, or the right to sign certificates or CRLs.
    #[error("the signing request asks to be a certificate authority")]
    Authority,
    /// It asks for an extended key usage that is not clientAuth, or for a Netscape type that is not SSL client.
    #[error("the signing request asks for a usage other than client authentication")]
    Usage,
    /// It asks for an extension that no device gets, or twice for one, or the extension cannot be read.
    #[error("the signing request asks for an extension that is not certified: {0}")]
    Extension(String),
    /// It carries a challenge password, which would be sent in the clear and is checked by nobody.
    #[error("the signing request carries a challenge password, which is not used here")]
    ChallengePassword,
    /// It carries an attribute that is not known, or one attribute twice.
    #[error("the signing request carries an attribute that is not accepted: {0}")]
    Attribute(String),
}

impl CsrError {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "too_long",
            Self::NotOne(_) => "not_one",
            Self::Unreadable => "unreadable",
            Self::Key(error) => error.metric_label(),
            Self::Algorithm => "signature_algorithm",
            Self::Signature => "signature",
            Self::SeveralNames => "several_names",
            Self::OtherName { .. } => "other_name",
            Self::SubjectAttribute(_) => "subject_attribute",
            Self::Renamed => "renamed",
            Self::AlternativeName => "alternative_name",
            Self::Authority => "authority",
            Self::Usage => "usage",
            Self::Extension(_) => "extension",
            Self::ChallengePassword => "challenge_password",
            Self::Attribute(_) => "attribute",
        }
    }

    /// What whoever made the request can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::TooLong(_) | Self::NotOne(_) | Self::Unreadable => {
                "send one PKCS #10 request, as PEM or DER: openssl req -new -key KEY -subj /CN=NAME"
            }
            Self::Key(KeyError::NotAllowed(_)) => "make a P-256 key, or allow this kind in the configuration",
            Self::Key(_) => "make a new key: openssl ecparam -name prime256v1 -genkey -noout",
            Self::Algorithm => "sign the request with SHA-256, SHA-384 or SHA-512",
            Self::Signature => "sign the request with the private key of its own public key",
            Self::SeveralNames | Self::OtherName { .. } | Self::SubjectAttribute(_) => {
                "leave the subject empty, or put the thing's name in one common name"
            }
            Self::Renamed => {
                "use the subject of the certificate as it is, and its subject alternative name if it has one"
            }
            Self::AlternativeName | Self::Authority | Self::Usage | Self::Extension(_) => {
                "ask for no extensions: name, usage and validity come from the broker"
            }
            Self::ChallengePassword | Self::Attribute(_) => "make the request without attributes",
        }
    }
}

/// A signing request whose sender has the private key and asks for nothing but to have the public key certified.
///
/// The public key is all that is taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedCsr {
    key: PublicKey,
}

impl CheckedCsr {
    /// Reads and checks a PKCS #10 request (RFC 2986), as PEM text or DER.
    ///
    /// The length is checked before anything is read, the key before the signature is computed.
    ///
    /// # Errors
    /// [`CsrError`]: the first reason that was found.
    pub fn parse(pem_or_der: &[u8], policy: &CsrPolicy) -> Result<Self, CsrError> {
        if pem_or_der.len() > CSR_BYTES_MAX {
            return Err(CsrError::TooLong(pem_or_der.len()));
        }
        if super::is_der(pem_or_der) {
            return Self::parse_der(pem_or_der, policy);
        }
        let mut sections = pem::parse_many(pem_or_der).map_err(|_| CsrError::Unreadable)?;
        // RFC 7468 section 7: the second label is of old and may be taken for the same.
        sections.retain(|section| matches!(section.tag(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST"));
        match sections.as_slice() {
            [one] => Self::parse_der(one.contents(), policy),
            several => Err(CsrError::NotOne(several.len())),
        }
    }

    fn parse_der(der: &[u8], policy: &CsrPolicy) -> Result<Self, CsrError> {
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(CsrError::Unreadable);
        };
        let info = &request.certification_request_info;
        if info.version != X509Version::V1 {
            return Err(CsrError::Unreadable);
        }
        let key = PublicKey::from_spki_allowed(info.subject_pki.raw, &policy.keys)?;
        verify(&request, &key)?;
        check_subject(info, &policy.subject)?;
        check_attributes(info, matches!(policy.subject, SubjectRule::SameAs(_)))?;
        Ok(Self { key })
    }

    /// The public key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The hash of the public key, by which the registry finds keys that were used before.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        self.key.hash()
    }
}

/// The proof of possession: the request is signed by its own key.
fn verify(request: &X509CertificationRequest<'_>, key: &PublicKey) -> Result<(), CsrError> {
    let algorithm = &request.signature_algorithm.algorithm;
    let is = |oid: &oid::Oid<'_>| algorithm == oid;
    let ecdsa =
        [oid::OID_SIG_ECDSA_WITH_SHA256, oid::OID_SIG_ECDSA_WITH_SHA384, oid::OID_SIG_ECDSA_WITH_SHA512];
    let rsa = [oid::OID_PKCS1_SHA256WITHRSA, oid::OID_PKCS1_SHA384WITHRSA, oid::OID_PKCS1_SHA512WITHRSA];
    let (digest, by_digest): (_, [&'static dyn VerificationAlgorithm; 3]) = match key.kind() {
        KeyKind::P256 => (
            ecdsa.iter().position(is),
            [
                &signature::ECDSA_P256_SHA256_ASN1,
                &signature::ECDSA_P256_SHA384_ASN1,
                &signature::ECDSA_P256_SHA512_ASN1,
            ],
        ),
        KeyKind::P384 => (
            ecdsa.iter().position(is),
            [
                &signature::ECDSA_P384_SHA256_ASN1,
                &signature::ECDSA_P384_SHA384_ASN1,
                &signature::ECDSA_P384_SHA512_ASN1,
            ],
        ),
        KeyKind::P521 => (
            ecdsa.iter().position(is),
            [
                &signature::ECDSA_P521_SHA256_ASN1,
                &signature::ECDSA_P521_SHA384_ASN1,
                &signature::ECDSA_P521_SHA512_ASN1,
            ],
        ),
        KeyKind::Rsa(_) => (
            rsa.iter().position(is),
            [
                &signature::RSA_PKCS1_2048_8192_SHA256,
                &signature::RSA_PKCS1_2048_8192_SHA384,
                &signature::RSA_PKCS1_2048_8192_SHA512,
            ],
        ),
        KeyKind::Ed25519 => (is(&oid::OID_SIG_ED25519).then_some(0), [&signature::ED25519; 3]),
    };
    let by = digest.and_then(|digest| by_digest.get(digest)).ok_or(CsrError::Algorithm)?;
    UnparsedPublicKey::new(*by, key.raw())
        .verify(request.certification_request_info.raw, &request.signature_value.data)
        .map_err(|_| CsrError::Signature)
}

fn check_subject(info: &X509CertificationRequestInfo<'_>, rule: &SubjectRule) -> Result<(), CsrError> {
    let subject = &info.subject;
    let mut names = subject.iter_common_name();
    let name = names.next();
    if names.next().is_some() {
        return Err(CsrError::SeveralNames);
    }
    let allowed = match rule {
        SubjectRule::Ignore => return Ok(()),
        SubjectRule::SameAs(names) if *names == Names::of_request(info) => return Ok(()),
        SubjectRule::SameAs(_) => return Err(CsrError::Renamed),
        SubjectRule::MustEqual(allowed) => allowed,
    };
    // What a form fills in by default, and what cannot be taken for the name of a device.
    let harmless = [
        oid::OID_X509_COMMON_NAME,
        oid::OID_X509_COUNTRY_NAME,
        oid::OID_X509_STATE_OR_PROVINCE_NAME,
        oid::OID_X509_LOCALITY_NAME,
        oid::OID_X509_ORGANIZATION_NAME,
        oid::OID_X509_ORGANIZATIONAL_UNIT,
    ];
    if let Some(other) = subject.iter_attributes().find(|attribute| !harmless.contains(attribute.attr_type()))
    {
        return Err(CsrError::SubjectAttribute(other.attr_type().to_id_string()));
    }
    let Some(name) = name else { return Ok(()) };
    // The bytes are compared: any other string type than these two spells the name otherwise.
    let value = name.attr_value();
    let plain = matches!(value.header.tag().0, 12 | 19);
    if plain && value.data == allowed.as_str().as_bytes() {
        return Ok(());
    }
    Err(CsrError::OtherName {
        asked: Line::new(&String::from_utf8_lossy(value.data)),
        allowed: allowed.clone(),
    })
}

/// `named`: the subject alternative name was found to be one that may be there.
fn check_attributes(info: &X509CertificationRequestInfo<'_>, named: bool) -> Result<(), CsrError> {
    for (at, attribute) in info.iter_attributes().enumerate() {
        if info.iter_attributes().take(at).any(|before| before.oid == attribute.oid) {
            return Err(CsrError::Attribute(attribute.oid.to_id_string()));
        }
        match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) => check_extensions(&request.extensions, named)?,
            ParsedCriAttribute::ChallengePassword(_) => return Err(CsrError::ChallengePassword),
            ParsedCriAttribute::UnsupportedAttribute => {
                return Err(CsrError::Attribute(attribute.oid.to_id_string()));
            }
        }
    }
    Ok(())
}

fn check_extensions(extensions: &[X509Extension<'_>], named: bool) -> Result<(), CsrError> {
    for (at, extension) in extensions.iter().enumerate() {
        let refused = || CsrError::Extension(extension.oid.to_id_string());
        if extensions.iter().take(at).any(|before| before.oid == extension.oid) {
            return Err(refused());
        }
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) if basic.ca || basic.path_len_constraint.is_some() => {
                return Err(CsrError::Authority);
            }
            ParsedExtension::KeyUsage(usage) if makes_authority(usage) => return Err(CsrError::Authority),
            ParsedExtension::ExtendedKeyUsage(usage) if !is_client_auth(usage) => {
                return Err(CsrError::Usage);
            }
            ParsedExtension::NSCertType(kind) if is_authority(kind) => return Err(CsrError::Authority),
            ParsedExtension::NSCertType(kind)
                if kind.ssl_server() || kind.smime() || kind.object_signing() =>
            {
                return Err(CsrError::Usage);
            }
            ParsedExtension::SubjectAlternativeName(_) if !named => return Err(CsrError::AlternativeName),
            // Other key usages, and these, grant nothing that a device does not have; none is taken over.
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::KeyUsage(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::NSCertType(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::SubjectKeyIdentifier(_) => {}
            _ => return Err(refused()),
        }
    }
    Ok(())
}

fn makes_authority(usage: &KeyUsage) -> bool {
    usage.key_cert_sign() || usage.crl_sign()
}

fn is_authority(kind: &NSCertType) -> bool {
    kind.ssl_ca() || kind.smime_ca() || kind.object_signing_ca()
}

fn is_client_auth(usage: &ExtendedKeyUsage<'_>) -> bool {
    let other = usage.any
        || usage.server_auth
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    usage.client_auth && !other
}
