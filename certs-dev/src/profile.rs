//! What is asked of an [`Authority`](crate::Authority): subject, key, usages, window, CRL contents.

use std::net::IpAddr;

use rcgen::string::{BmpString, Ia5String, PrintableString, TeletexString, UniversalString};
use rcgen::{DistinguishedName, DnType, DnValue};
use time::{Duration, OffsetDateTime};

use crate::Error;

/// `2.5.4.3`, a second time beside the generator's own constant: its names hold one value per
/// type, and this spelling counts as another type.
const COMMON_NAME_OID: &[u64] = &[2, 5, 4, 3];

/// The kind and size of a key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on P-256, signatures with SHA-256.
    P256,
    /// ECDSA on P-384, signatures with SHA-384.
    P384,
    /// ECDSA on P-521, which a broker need not take.
    P521,
    /// Ed25519, which a broker need not take.
    Ed25519,
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits; making one takes seconds.
    Rsa4096,
}

/// From when to when something is valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second of validity.
    pub not_before: OffsetDateTime,
    /// The last second of validity.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// How far `notBefore` lies in the past, so that a device whose clock is a little behind can use
    /// its certificate at once.
    pub const BACKDATED: Duration = Duration::hours(1);

    /// Valid at `now` and for `days` more; `notBefore` is back-dated by [`Self::BACKDATED`].
    #[must_use]
    pub fn days_from(now: OffsetDateTime, days: i64) -> Self {
        Self { not_before: now - Self::BACKDATED, not_after: now + Duration::days(days) }
    }

    /// Ended a day before `now`, after a year.
    #[must_use]
    pub fn past(now: OffsetDateTime) -> Self {
        Self { not_before: now - Duration::days(366), not_after: now - Duration::days(1) }
    }

    /// Begins ten years after `now`.
    #[must_use]
    pub fn future(now: OffsetDateTime) -> Self {
        let begin = now + Duration::days(3650);
        Self { not_before: begin, not_after: begin + Duration::days(365) }
    }
}

/// A string of a distinguished name, with the ASN.1 type that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameString {
    /// UTF8String; may hold any character, NUL included.
    Utf8(String),
    /// PrintableString.
    Printable(String),
    /// IA5String.
    Ia5(String),
    /// TeletexString (T.61).
    Teletex(String),
    /// BMPString (UCS-2).
    Bmp(String),
    /// UniversalString (UCS-4).
    Universal(String),
}

impl NameString {
    fn value(&self) -> Result<DnValue, Error> {
        Ok(match self {
            Self::Utf8(s) => DnValue::Utf8String(s.clone()),
            Self::Printable(s) => DnValue::PrintableString(PrintableString::try_from(s.as_str())?),
            Self::Ia5(s) => DnValue::Ia5String(Ia5String::try_from(s.as_str())?),
            Self::Teletex(s) => DnValue::TeletexString(TeletexString::try_from(s.as_str())?),
            Self::Bmp(s) => DnValue::BmpString(BmpString::try_from(s.as_str())?),
            Self::Universal(s) => DnValue::UniversalString(UniversalString::try_from(s.as_str())?),
        })
    }
}

impl From<&str> for NameString {
    fn from(text: &str) -> Self {
        Self::Utf8(text.to_owned())
    }
}

/// The subject of a certificate: an organization, and none, one or two common names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The organization (O), written first.
    pub organization: Option<NameString>,
    /// The common name (CN).
    pub common_name: Option<NameString>,
    /// A second CN in an RDN of its own; no proper device has one.
    pub second_common_name: Option<NameString>,
}

impl Subject {
    /// A subject that is one CN in a UTF8String.
    #[must_use]
    pub fn cn(common_name: &str) -> Self {
        Self { common_name: Some(common_name.into()), ..Self::default() }
    }

    pub(crate) fn to_name(&self) -> Result<DistinguishedName, Error> {
        let mut name = DistinguishedName::new();
        if let Some(organization) = &self.organization {
            name.push(DnType::OrganizationName, organization.value()?);
        }
        if let Some(common_name) = &self.common_name {
            name.push(DnType::CommonName, common_name.value()?);
        }
        if let Some(second) = &self.second_common_name {
            name.push(DnType::CustomDnType(COMMON_NAME_OID.to_vec()), second.value()?);
        }
        Ok(name)
    }
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectAltName {
    /// dNSName
    Dns(String),
    /// iPAddress
    Ip(IpAddr),
    /// uniformResourceIdentifier
    Uri(String),
}

/// An extended key usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// id-kp-clientAuth
    ClientAuth,
    /// id-kp-serverAuth
    ServerAuth,
    /// id-kp-codeSigning
    CodeSigning,
    /// anyExtendedKeyUsage
    Any,
}

/// A key usage bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// digitalSignature
    DigitalSignature,
    /// keyAgreement
    KeyAgreement,
    /// keyEncipherment
    KeyEncipherment,
    /// keyCertSign
    CertSign,
    /// cRLSign
    CrlSign,
}

/// A certificate serial number: big-endian, positive, at most 20 octets (RFC 5280, 4.1.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Serial(pub(crate) Vec<u8>);

impl Serial {
    /// 128 random bits, of which the first is 0 and the second 1: always 16 octets, never negative.
    ///
    /// # Errors
    /// [`Error::Random`] when the system has no randomness to give.
    pub fn random() -> Result<Self, Error> {
        let mut octets = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| Error::Random)?;
        octets[0] = (octets[0] & 0x7f) | 0x40;
        Ok(Self(octets.to_vec()))
    }

    /// A serial chosen by the caller, big-endian.
    #[must_use]
    pub fn from_bytes(octets: &[u8]) -> Self {
        Self(octets.to_vec())
    }

    /// The octets, big-endian.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a leaf certificate is to hold.
#[derive(Debug, Clone)]
pub struct LeafProfile {
    /// The subject.
    pub subject: Subject,
    /// Subject alternative names, in order.
    pub alt_names: Vec<SubjectAltName>,
    /// The key pair to make.
    pub key: KeyKind,
    /// The key usage bits; the extension is left out when empty.
    pub key_uses: Vec<KeyUse>,
    /// The extended key usages; the extension is left out when empty.
    pub purposes: Vec<Purpose>,
    /// The window.
    pub validity: Validity,
    /// The serial; random when `None`.
    pub serial: Option<Serial>,
}

impl LeafProfile {
    /// A client certificate as a device should have it: P-256, digitalSignature, clientAuth.
    #[must_use]
    pub fn device(common_name: &str, validity: Validity) -> Self {
        Self {
            subject: Subject::cn(common_name),
            alt_names: Vec::new(),
            key: KeyKind::P256,
            key_uses: vec![KeyUse::DigitalSignature],
            purposes: vec![Purpose::ClientAuth],
            validity,
            serial: None,
        }
    }

    /// A server certificate for `localhost` and 127.0.0.1.
    #[must_use]
    pub fn localhost(validity: Validity) -> Self {
        Self {
            alt_names: vec![
                SubjectAltName::Dns("localhost".to_owned()),
                SubjectAltName::Ip(IpAddr::from([127, 0, 0, 1])),
            ],
            purposes: vec![Purpose::ServerAuth],
            ..Self::device("localhost", validity)
        }
    }

    /// The shape of an ATECC608's factory certificate: O and a CN that is the chip's serial
    /// number, digitalSignature and keyAgreement, no extended key usage.
    #[must_use]
    pub fn atecc608(common_name: &str, validity: Validity) -> Self {
        let mut profile = Self::device(common_name, validity);
        profile.subject.organization = Some("Microchip Technology Inc".into());
        profile.key_uses = vec![KeyUse::DigitalSignature, KeyUse::KeyAgreement];
        profile.purposes.clear();
        profile
    }

    /// The same with another key kind.
    #[must_use]
    pub fn with_key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// The same with other extended key usages; none leaves the extension out.
    #[must_use]
    pub fn with_purposes(mut self, purposes: &[Purpose]) -> Self {
        self.purposes = purposes.to_vec();
        self
    }

    /// The same with other key usage bits; none leaves the extension out.
    #[must_use]
    pub fn with_key_uses(mut self, key_uses: &[KeyUse]) -> Self {
        self.key_uses = key_uses.to_vec();
        self
    }

    /// The same with a given serial.
    #[must_use]
    pub fn with_serial(mut self, serial: &[u8]) -> Self {
        self.serial = Some(Serial::from_bytes(serial));
        self
    }
}

/// What an issuing distribution point says of a CRL (RFC 5280, 5.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlScope {
    /// onlyContainsUserCerts
    Users,
    /// onlyContainsCACerts
    Authorities,
}

/// What a CRL is to hold.
#[derive(Debug, Clone)]
pub struct CrlProfile {
    /// cRLNumber
    pub number: u64,
    /// thisUpdate
    pub this_update: OffsetDateTime,
    /// nextUpdate
    pub next_update: OffsetDateTime,
    /// The serials revoked.
    pub revoked: Vec<Serial>,
    /// Adds an issuing distribution point with this scope.
    pub scope: Option<CrlScope>,
}

impl CrlProfile {
    /// A CRL of `now`, good for `days`.
    #[must_use]
    pub fn new(number: u64, now: OffsetDateTime, days: i64, revoked: &[&Serial]) -> Self {
        Self {
            number,
            this_update: now - Validity::BACKDATED,
            next_update: now + Duration::days(days),
            revoked: revoked.iter().map(|&serial| serial.clone()).collect(),
            scope: None,
        }
    }
}
