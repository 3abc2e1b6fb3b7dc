//! What the registry knows about one certificate.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use signet_identity::{CertificateId, PrincipalKey, Validity};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{KeyHash, Line, SerialNumber, TokenHash, Wall};

/// The most bytes of a certificate's DER that the registry takes.
pub const CERTIFICATE_BYTES_MAX: usize = 16_384;

/// The four states of a certificate.
///
/// `PENDING_ACTIVATION` may become any of the others or be deleted; `ACTIVE` and `INACTIVE` become each other or
/// `REVOKED`, which is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusKind {
    /// Issued or seen, and not yet in force: refused at connect.
    PendingActivation,
    /// In force.
    Active,
    /// Refused at connect until it is activated again.
    Inactive,
    /// Refused for ever.
    Revoked,
}

impl StatusKind {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::PendingActivation, Self::Active, Self::Inactive, Self::Revoked];

    /// The state as the `$aws` interface writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingActivation => "PENDING_ACTIVATION",
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
        }
    }

    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::PendingActivation => "pending_activation",
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Revoked => "revoked",
        }
    }

    /// Whether a certificate may go from this state to `to`.
    #[must_use]
    pub const fn may_become(self, to: Self) -> bool {
        match (self, to) {
            (_, Self::PendingActivation) | (Self::Revoked, _) => false,
            (Self::PendingActivation, _) => true,
            (Self::Active, Self::Active) | (Self::Inactive, Self::Inactive) => false,
            (Self::Active | Self::Inactive, _) => true,
        }
    }
}

impl fmt::Display for StatusKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a certificate was revoked: the reasons of RFC 5280 section 5.3.1 that are final and concern an end entity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// No reason was given.
    #[default]
    Unspecified,
    /// The private key is, or may be, in other hands. The key is never certified again.
    KeyCompromise,
    /// The issuing authority's key is, or may be, in other hands.
    CaCompromise,
    /// The holder changed.
    AffiliationChanged,
    /// A newer certificate took its place.
    Superseded,
    /// The device is out of service.
    CessationOfOperation,
    /// The holder's rights were taken away.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The CRLReason code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::PrivilegeWithdrawn => 9,
        }
    }

    /// The reason as the command line takes it, and as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::CaCompromise => "ca-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a certificate stands, with what belongs to that state only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Not yet in force.
    Pending(Arc<Pending>),
    /// In force.
    Active,
    /// Suspended.
    Inactive {
        /// Since when.
        since: Wall,
    },
    /// Revoked.
    Revoked {
        /// Since when: the revocation date of a CRL entry.
        since: Wall,
        /// Why.
        reason: RevocationReason,
    },
}

impl Status {
    /// The state without its particulars.
    #[must_use]
    pub const fn kind(&self) -> StatusKind {
        match self {
            Self::Pending(_) => StatusKind::PendingActivation,
            Self::Active => StatusKind::Active,
            Self::Inactive { .. } => StatusKind::Inactive,
            Self::Revoked { .. } => StatusKind::Revoked,
        }
    }
}

/// What a certificate that is not yet in force waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// When it is deleted if nothing happens; `None` waits for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Wall>,
    /// Whom it will belong to when it is activated without saying whose it is: the name that an outside authority gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<PrincipalKey>,
    /// The enrolment that it was issued in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<Enrolment>,
}

/// An enrolment between the issuing of the certificate and the registration of its thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The hash of the ownership token.
    pub token: TokenHash,
    /// The certificate that asked.
    pub asker: CertificateId,
    /// Whose that is: a claim, or a device that renews its own.
    pub by: PrincipalKey,
    /// The certificate's DER, for the pre-provisioning hook.
    pub der: Der,
}

/// The bytes of a certificate; base64 in an event.
#[derive(Clone, PartialEq, Eq)]
pub struct Der(Arc<[u8]>);

impl Der {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Der {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of DER", self.0.len())
    }
}

impl Serialize for Der {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

/// Who issued a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// An authority of this broker.
    Own,
    /// An outside authority that is registered here.
    Outside,
}

/// The facts of a certificate, read from its bytes: what never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The SHA-256 of the DER.
    pub id: CertificateId,
    /// The key that signed it.
    pub issuer: KeyHash,
    /// Its serial number: with `issuer`, unique.
    pub serial: SerialNumber,
    /// The key that it certifies.
    pub public_key: KeyHash,
    /// Its subject, for people.
    pub subject: Line,
    /// First second of the validity period, in Unix seconds.
    pub not_before: i64,
    /// Last second of the validity period, in Unix seconds.
    pub not_after: i64,
}

/// A certificate as it enters the registry: facts and bytes that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    facts: Facts,
    der: Der,
}

/// Why bytes cannot enter the registry as a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// They are more than [`CERTIFICATE_BYTES_MAX`].
    #[error("the certificate has {0} bytes, at most {CERTIFICATE_BYTES_MAX} are taken")]
    TooLong(usize),
    /// They are not exactly one DER certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Its serial number has more than 20 bytes (RFC 5280 section 4.1.2.2).
    #[error("the certificate's serial number has more than 20 bytes")]
    Serial,
}

impl NewCertificate {
    /// Reads the certificate `der`, which the key `issuer` signed: the caller has verified that, or has just done it.
    ///
    /// # Errors
    /// [`CertificateError`] when the bytes are too many, not one certificate, or have an impossible serial number.
    pub fn read(der: &[u8], issuer: KeyHash) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLong(der.len()));
        }
        let Ok(([], parsed)) = X509Certificate::from_der(der) else {
            return Err(CertificateError::Unreadable);
        };
        let validity = parsed.validity();
        let facts = Facts {
            id: CertificateId::of(der),
            issuer,
            serial: SerialNumber::new(parsed.raw_serial()).ok_or(CertificateError::Serial)?,
            public_key: KeyHash::of_spki(parsed.public_key().raw),
            subject: Line::new(&signet_identity::describe(der).subject),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        };
        Ok(Self { facts, der: Der(der.into()) })
    }

    /// The facts.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The bytes.
    #[must_use]
    pub const fn der(&self) -> &Der {
        &self.der
    }

    pub(crate) fn into_parts(self) -> (Facts, Der) {
        (self.facts, self.der)
    }
}

/// How a certificate leaves force in a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    /// The certificate that takes its place.
    pub by: CertificateId,
    /// When it is revoked as superseded; `None` until the successor has connected once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire_at: Option<Wall>,
}

/// One certificate of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// What never changes.
    pub facts: Arc<Facts>,
    /// Who issued it.
    pub source: Source,
    /// Where it stands.
    pub status: Status,
    /// The one thing, claim or operator that it belongs to; `None` only while it is pending, or was never anybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<PrincipalKey>,
    /// When it came into the registry.
    pub registered: Wall,
    /// When it left `PENDING_ACTIVATION`, or came in without having been there.
    pub entered: Wall,
    /// The claim, or the device, that it was enrolled by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled_by: Option<PrincipalKey>,
    /// The certificate that takes its place, during a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<Box<Succession>>,
}

impl Certificate {
    /// The SHA-256 of the DER.
    #[must_use]
    pub fn id(&self) -> &CertificateId {
        &self.facts.id
    }

    /// How `now` stands to the validity period.
    #[must_use]
    pub fn judge_validity(&self, now: Wall) -> Validity {
        Validity::judge(self.facts.not_before, self.facts.not_after, now.unix_secs())
    }

    /// Whether the certificate is in force and not past its validity period.
    #[must_use]
    pub fn counts_as_active(&self, now: Wall) -> bool {
        matches!(self.status, Status::Active) && self.judge_validity(now) != Validity::Expired
    }
}

/// Certificates that no key signed, for the tests of the registry: it judges facts, which the verifier has made sure of.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A certificate whose number follows from its label.
    pub(crate) fn certificate(
        issuer: KeyHash,
        label: &str,
        public_key: KeyHash,
        not_before: i64,
        secs: i64,
    ) -> NewCertificate {
        let facts = Facts {
            id: CertificateId::of(format!("{issuer} {label} {public_key}").as_bytes()),
            issuer,
            serial: serial(label),
            public_key,
            subject: Line::new(&format!("CN={label}")),
            not_before,
            not_after: not_before + secs,
        };
        NewCertificate { facts, der: Der(label.as_bytes().into()) }
    }

    /// The number of certificates with this label.
    pub(crate) fn serial(label: &str) -> SerialNumber {
        let hash = KeyHash::of_spki(label.as_bytes());
        SerialNumber::new(&hash.as_bytes()[..16]).unwrap()
    }

    /// A certificate of 30 days with a number of its own.
    pub(crate) fn certificate_with_serial(
        issuer: KeyHash,
        serial: SerialNumber,
        label: &str,
    ) -> NewCertificate {
        let key = KeyHash::of_spki(label.as_bytes());
        let mut new = certificate(issuer, label, key, 1_767_225_600, 30 * 86_400);
        new.facts.serial = serial;
        new
    }
}
