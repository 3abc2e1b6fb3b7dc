//! Why a client's certificate was refused.

use rustls::CertificateError;
use rustls_pki_types::UnixTime;
use signet_identity::CertificateId;
use std::time::Duration;

/// Which certificate of a chain something is said of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The client's own.
    Leaf,
    /// An authority's above it, trust anchors included.
    Authority,
}

impl Which {
    const fn words(self) -> &'static str {
        match self {
            Self::Leaf => "the client's certificate",
            Self::Authority => "an authority above the client's certificate",
        }
    }
}

/// Why a client's certificate was refused. The text of names is escaped and on one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyFailure {
    /// More certificates than [`DeviceVerifier::CERTIFICATES_MAX`](super::DeviceVerifier::CERTIFICATES_MAX).
    #[error("the client sent {count} certificates, of which at most {max} are looked at")]
    TooManyCertificates {
        /// How many were sent.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// More bytes than [`DeviceVerifier::CHAIN_BYTES_MAX`](super::DeviceVerifier::CHAIN_BYTES_MAX).
    #[error("the client's chain is {bytes} bytes long, of which at most {max} are looked at")]
    ChainTooLong {
        /// How many bytes were sent.
        bytes: usize,
        /// How many may be.
        max: usize,
    },
    /// Not a certificate, or one that breaks RFC 5280.
    #[error("the client sent a certificate that cannot be parsed: {reason}")]
    Unparsable {
        /// What the parser said.
        reason: String,
    },
    /// The validity has not begun.
    #[error("{} is not yet valid: it begins at {not_before} (Unix seconds), and it is {now}", which.words())]
    NotYetValid {
        /// Whose validity.
        which: Which,
        /// Its first second.
        not_before: u64,
        /// The time of the judgement.
        now: u64,
    },
    /// The validity has ended.
    #[error("{} expired at {not_after} (Unix seconds), and it is {now}", which.words())]
    Expired {
        /// Whose validity.
        which: Which,
        /// Its last second.
        not_after: u64,
        /// The time of the judgement.
        now: u64,
    },
    /// A revocation list lists it.
    #[error("{} is revoked by the list of \"{issuer}\"", which.words())]
    Revoked {
        /// Whose revocation.
        which: Which,
        /// The list's issuer.
        issuer: String,
    },
    /// No path to a trust anchor.
    #[error(
        "no trust anchor leads to the client's certificate: \"{missing}\" is neither in client-ca nor in the chain sent"
    )]
    UnknownIssuer {
        /// The first authority on the way up that is not known.
        missing: String,
    },
    /// An authority of the right name is trusted, but its key did not sign this.
    #[error(
        "\"{issuer}\" is known, but another key than the one in client-ca signed: an authority made anew under its old name?"
    )]
    NamesakeIssuer {
        /// The issuer's name.
        issuer: String,
    },
    /// It is of X.509 version 1, and this listener refuses those.
    #[error("the client's certificate is of X.509 version 1, which this listener refuses (x509-v1)")]
    VersionOne,
    /// It is of X.509 version 1, and its issuer is not a trust anchor but an intermediate that the client sent.
    #[error(
        "the client's certificate is of X.509 version 1, which only a trust anchor may issue, and \"{issuer}\" is not \
         in client-ca"
    )]
    VersionOneBelowIntermediate {
        /// Its issuer.
        issuer: String,
    },
    /// The extended key usage does not contain clientAuth.
    #[error("the certificate's extended key usage does not contain clientAuth")]
    WrongPurpose,
    /// There is no extended key usage, and this listener wants one.
    #[error("the certificate has no extended key usage, and this listener requires clientAuth")]
    MissingPurpose,
    /// The key usage allows neither digitalSignature nor keyAgreement.
    #[error("the certificate's key usage allows neither digitalSignature nor keyAgreement")]
    WrongKeyUsage,
    /// A key of a kind or size that is not accepted.
    #[error(
        "the certificate's key is {found}; ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits, is accepted"
    )]
    KeyNotAccepted {
        /// Kind and size.
        found: String,
    },
    /// A chain of certificates that breaks the rules for authorities.
    #[error("the chain breaks the rules for authorities: {reason}")]
    ChainRules {
        /// What webpki said.
        reason: String,
    },
    /// A signature in the chain is of a kind that is not accepted.
    #[error("a certificate of the chain is signed in a way that is not accepted: {reason}")]
    SignatureNotAccepted {
        /// What webpki said.
        reason: String,
    },
    /// The issuer's revocation list is stale and the policy is to refuse.
    #[error(
        "the revocation list of \"{issuer}\" was due for renewal at {next_update} (Unix seconds), and it is {now}"
    )]
    CrlStale {
        /// The list's issuer.
        issuer: String,
        /// Its nextUpdate.
        next_update: u64,
        /// The time of the judgement.
        now: u64,
    },
    /// Lists are configured, but none for this certificate's issuer.
    #[error(
        "revocation lists are configured, but none of \"{issuer}\", so the certificate's standing is unknown"
    )]
    CrlMissing {
        /// The certificate's issuer.
        issuer: String,
    },
    /// The client could not show that it has the private key.
    #[error("the client's signature does not fit its certificate, so it does not have the private key")]
    NotTheKeyHolder,
    /// The trust anchor under which the certificate was accepted is trusted no more.
    #[error("the authority that the certificate was accepted under is trusted no more")]
    AnchorRemoved,
    /// It was refused again and again of late, and is not looked at.
    #[error(
        "the certificate was refused again and again of late, and is refused at once until it has waited or changed"
    )]
    RefusedBefore {
        /// Which.
        certificate: CertificateId,
    },
    /// A resumed session without a certificate.
    #[error("the session carries no client certificate")]
    NoCertificate,
}

impl VerifyFailure {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::TooManyCertificates { .. } | Self::ChainTooLong { .. } => "chain_too_long",
            Self::Unparsable { .. } => "unparsable",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::Revoked { .. } => "revoked",
            Self::UnknownIssuer { .. } => "unknown_issuer",
            Self::NamesakeIssuer { .. } => "namesake_issuer",
            Self::VersionOne => "version_one",
            Self::VersionOneBelowIntermediate { .. } => "version_one_below_intermediate",
            Self::WrongPurpose | Self::MissingPurpose | Self::WrongKeyUsage => "wrong_purpose",
            Self::KeyNotAccepted { .. } | Self::SignatureNotAccepted { .. } => "weak_or_unknown_key",
            Self::ChainRules { .. } => "chain_rules",
            Self::CrlStale { .. } => "crl_stale",
            Self::CrlMissing { .. } => "crl_missing",
            Self::NotTheKeyHolder => "not_the_key_holder",
            Self::AnchorRemoved => "anchor_removed",
            Self::RefusedBefore { .. } => "refused_before",
            Self::NoCertificate => "no_certificate",
        }
    }

    /// What rustls is told; it chooses the alert by this.
    ///
    /// Alerts: expired or not yet valid 45, revoked 44, no way to a trust anchor or unknown standing 48, wrong
    /// purpose, version or key 43, malformed 42, breach of the rules for authorities 46 (RFC 8446, 6.2).
    #[must_use]
    pub fn certificate_error(&self) -> CertificateError {
        let at = |seconds: &u64| UnixTime::since_unix_epoch(Duration::from_secs(*seconds));
        match self {
            Self::TooManyCertificates { .. }
            | Self::ChainTooLong { .. }
            | Self::Unparsable { .. }
            | Self::NoCertificate => CertificateError::BadEncoding,
            Self::NotYetValid { not_before, now, .. } => {
                CertificateError::NotValidYetContext { time: at(now), not_before: at(not_before) }
            }
            Self::Expired { not_after, now, .. } => {
                CertificateError::ExpiredContext { time: at(now), not_after: at(not_after) }
            }
            Self::Revoked { .. } => CertificateError::Revoked,
            // The peer presented a chain whose authority cannot be matched with a trust anchor: RFC 8446's
            // unknown_ca, and not decrypt_error, which rustls sends for a false signature.
            Self::UnknownIssuer { .. }
            | Self::NamesakeIssuer { .. }
            | Self::VersionOneBelowIntermediate { .. }
            | Self::AnchorRemoved => CertificateError::UnknownIssuer,
            Self::VersionOne
            | Self::WrongPurpose
            | Self::MissingPurpose
            | Self::WrongKeyUsage
            | Self::KeyNotAccepted { .. }
            | Self::SignatureNotAccepted { .. } => CertificateError::InvalidPurpose,
            Self::CrlStale { next_update, now, .. } => {
                CertificateError::ExpiredRevocationListContext { time: at(now), next_update: at(next_update) }
            }
            Self::CrlMissing { .. } => CertificateError::UnknownRevocationStatus,
            Self::NotTheKeyHolder => CertificateError::BadSignature,
            Self::RefusedBefore { .. } => CertificateError::ApplicationVerificationFailure,
            Self::ChainRules { .. } => {
                CertificateError::Other(rustls::OtherError(std::sync::Arc::new(self.clone())))
            }
        }
    }
}
