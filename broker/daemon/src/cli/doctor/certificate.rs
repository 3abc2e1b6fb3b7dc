//! A certificate, read once into what the checks need.

use rustls_pki_types::CertificateDer;
use signet_identity::{CertificateId, describe};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

/// The longest text of an alternative name that is shown, in characters.
const NAME_SHOWN_MAX: usize = 128;

/// A certificate that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    /// Its SHA-256.
    pub(super) id: CertificateId,
    /// The subject, escaped.
    pub(super) subject: String,
    /// The issuer, escaped.
    pub(super) issuer: String,
    /// The serial number, hexadecimal.
    pub(super) serial: String,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    spki: Vec<u8>,
    pub(super) version_one: bool,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// CA:TRUE.
    pub(super) authority: bool,
    pub(super) path_len: Option<u32>,
    pub(super) usage: Option<Usage>,
    pub(super) purposes: Option<Purposes>,
    pub(super) key: Key,
    pub(super) signature: Signature,
    /// The subject alternative names that name servers, in order: `DNS:localhost`.
    pub(super) alternative_names: Vec<String>,
    /// The common names of the subject.
    pub(super) common_names: Vec<String>,
}

/// What the key usage allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) digital_signature: bool,
    pub(super) key_agreement: bool,
    pub(super) key_encipherment: bool,
    pub(super) key_cert_sign: bool,
    pub(super) crl_sign: bool,
}

impl Usage {
    /// The bits that are set, in words.
    pub(super) fn words(self) -> String {
        let all = [
            (self.digital_signature, "digitalSignature"),
            (self.key_agreement, "keyAgreement"),
            (self.key_encipherment, "keyEncipherment"),
            (self.key_cert_sign, "keyCertSign"),
            (self.crl_sign, "cRLSign"),
        ];
        join(all.into_iter().filter_map(|(set, word)| set.then_some(word.to_owned())), "nothing of these")
    }
}

/// What the extended key usage allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Purposes {
    pub(super) client: bool,
    pub(super) server: bool,
    pub(super) any: bool,
    other: Vec<String>,
}

impl Purposes {
    /// The purposes, in words.
    pub(super) fn words(&self) -> String {
        let known =
            [(self.client, "clientAuth"), (self.server, "serverAuth"), (self.any, "anyExtendedKeyUsage")];
        let known = known.into_iter().filter_map(|(set, word)| set.then_some(word.to_owned()));
        join(known.chain(self.other.iter().cloned()), "empty")
    }
}

/// The kind and size of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    P256,
    P384,
    /// With its bits.
    Rsa(usize),
    /// In words.
    Other(String),
}

impl Key {
    /// In words, for a sentence that goes on with "is".
    pub(super) fn words(&self) -> String {
        match self {
            Self::P256 => "ECDSA P-256".to_owned(),
            Self::P384 => "ECDSA P-384".to_owned(),
            Self::Rsa(bits) => format!("RSA of {bits} bits"),
            Self::Other(what) => what.clone(),
        }
    }

    /// Whether Signet takes it in a client's certificate.
    pub(super) fn is_accepted(&self) -> bool {
        match self {
            Self::P256 | Self::P384 => true,
            Self::Rsa(bits) => (2048..=4096).contains(bits),
            Self::Other(_) => false,
        }
    }
}

/// How a certificate is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signature {
    /// ECDSA or RSA with SHA-256, SHA-384 or SHA-512.
    Good,
    /// Anything else, in words.
    Weak(String),
}

/// Whether a key made a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    Yes,
    No,
    /// The algorithm is not one that can be tried here.
    Unknown,
}

impl Certificate {
    /// Reads one certificate, DER.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("there are bytes after its end".to_owned());
        }
        let summary = describe(der);
        let extension = |error: x509_parser::error::X509Error| format!("an extension: {error}");
        let constraints = parsed.basic_constraints().map_err(extension)?;
        let usage = parsed.key_usage().map_err(extension)?.map(|usage| Usage {
            digital_signature: usage.value.digital_signature(),
            key_agreement: usage.value.key_agreement(),
            key_encipherment: usage.value.key_encipherment(),
            key_cert_sign: usage.value.key_cert_sign(),
            crl_sign: usage.value.crl_sign(),
        });
        let purposes = parsed.extended_key_usage().map_err(extension)?.map(|eku| Purposes {
            client: eku.value.client_auth,
            server: eku.value.server_auth,
            any: eku.value.any,
            other: others(eku.value),
        });
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            id: summary.certificate,
            subject: summary.subject,
            issuer: summary.issuer,
            serial: summary.serial,
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            spki: parsed.public_key().raw.to_vec(),
            version_one: parsed.version() == X509Version::V1,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            authority: constraints.as_ref().is_some_and(|found| found.value.ca),
            path_len: constraints.and_then(|found| found.value.path_len_constraint),
            usage,
            purposes,
            key: key_of(&parsed),
            signature: signature_of(&parsed),
            alternative_names: alternative_names(&parsed),
            common_names: parsed
                .subject()
                .iter_common_name()
                .filter_map(|name| name.as_str().ok().map(shown))
                .collect(),
        })
    }

    /// The SubjectPublicKeyInfo, DER.
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The subject as it stands in the list of authorities that a server accepts: with its SEQUENCE header.
    pub(super) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The issuer, in the same form.
    pub(super) fn issuer_der(&self) -> &[u8] {
        &self.issuer_der
    }

    /// Issuer and subject are the same name, and the own key signed.
    pub(super) fn is_self_signed(&self) -> bool {
        self.subject_der == self.issuer_der && self.signed_by(self) == Signed::Yes
    }

    /// Whether `issuer` has the name of this certificate's issuer.
    pub(super) fn names_as_issuer(&self, issuer: &Self) -> bool {
        self.issuer_der == issuer.subject_der
    }

    /// Whether the key of `issuer` made the signature.
    pub(super) fn signed_by(&self, issuer: &Self) -> Signed {
        let Ok((_, parsed)) = X509Certificate::from_der(&self.der) else { return Signed::Unknown };
        let Ok((_, key)) = SubjectPublicKeyInfo::from_der(&issuer.spki) else { return Signed::Unknown };
        match parsed.verify_signature(Some(&key)) {
            Ok(()) => Signed::Yes,
            Err(x509_parser::error::X509Error::SignatureUnsupportedAlgorithm) => Signed::Unknown,
            Err(_) => Signed::No,
        }
    }
}

fn join(words: impl Iterator<Item = String>, none: &str) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { none.to_owned() } else { words.join(", ") }
}

fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_default).take(NAME_SHOWN_MAX).collect()
}

fn others(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let known = known.into_iter().filter_map(|(set, word)| set.then_some(word.to_owned()));
    known.chain(usage.other.iter().map(|oid| oid.to_id_string())).collect()
}

fn key_of(parsed: &X509Certificate<'_>) -> Key {
    let key = parsed.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    match key.parsed() {
        Ok(PublicKey::EC(_)) => match curve.map(|oid| oid.to_id_string()).as_deref() {
            Some("1.2.840.10045.3.1.7") => Key::P256,
            Some("1.3.132.0.34") => Key::P384,
            Some("1.3.132.0.35") => Key::Other("ECDSA P-521".to_owned()),
            Some("1.3.132.0.10") => Key::Other("on the curve secp256k1".to_owned()),
            curve => {
                Key::Other(format!("on the elliptic curve {}", curve.unwrap_or("that it does not name")))
            }
        },
        Ok(PublicKey::RSA(key)) => Key::Rsa(key.key_size()),
        _ => Key::Other(match key.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" => "Ed25519".to_owned(),
            "1.3.101.113" => "Ed448".to_owned(),
            "1.2.840.10040.4.1" => "DSA".to_owned(),
            oid => format!("of kind {oid}"),
        }),
    }
}

fn signature_of(parsed: &X509Certificate<'_>) -> Signature {
    let weak = |words: &str| Signature::Weak(words.to_owned());
    match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // ecdsa-with-SHA256, 384, 512; sha256, 384 and 512 with RSA; RSASSA-PSS.
        "1.2.840.10045.4.3.2"
        | "1.2.840.10045.4.3.3"
        | "1.2.840.10045.4.3.4"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.113549.1.1.12"
        | "1.2.840.113549.1.1.13"
        | "1.2.840.113549.1.1.10" => Signature::Good,
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => weak("RSA and SHA-1, which can be forged"),
        "1.2.840.10045.4.1" => weak("ECDSA and SHA-1, which can be forged"),
        "1.2.840.113549.1.1.4" => weak("RSA and MD5, which can be forged"),
        "1.3.101.112" => weak("Ed25519, which many devices and this broker do not accept"),
        oid => Signature::Weak(format!("the algorithm {oid}, which is not accepted")),
    }
}

fn alternative_names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let words = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{}", shown(name))),
        GeneralName::URI(uri) => Some(format!("URI:{}", shown(uri))),
        GeneralName::IPAddress(octets) => ip(octets).map(|address| format!("IP:{address}")),
        _ => None,
    });
    words.collect()
}

fn ip(octets: &[u8]) -> Option<std::net::IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(Into::into)
}
