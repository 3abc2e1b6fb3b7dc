//! The answers that say no: one closed set.

use std::fmt;

use serde::Serialize;

/// Why a request is rejected, in the terms that a client sees. The set is fixed; the reason in full is for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The payload cannot be read, is too large, or lacks what it must have.
    InvalidPayload,
    /// The signing request is not one, proves nothing, or asks for what is not given.
    InvalidCertificateSigningRequest,
    /// The ownership token is missing, unknown, used, expired, or somebody else's.
    InvalidCertificateOwnershipToken,
    /// A parameter is missing, or gives a name that is none.
    InvalidParameters,
    /// The asker may not have that: the hook said no, a list does not have it, a right is lacking.
    AccessDenied,
    /// There is no such template.
    ResourceNotFound,
    /// The thing exists and may not be provisioned again.
    ResourceConflict,
    /// Too many requests: try again later.
    Throttling,
    /// The broker failed.
    InternalFailure,
    /// The broker cannot do it now, or is not set up for it.
    ServiceUnavailable,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 10] = [
        Self::InvalidPayload,
        Self::InvalidCertificateSigningRequest,
        Self::InvalidCertificateOwnershipToken,
        Self::InvalidParameters,
        Self::AccessDenied,
        Self::ResourceNotFound,
        Self::ResourceConflict,
        Self::Throttling,
        Self::InternalFailure,
        Self::ServiceUnavailable,
    ];

    /// `statusCode`: an HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidPayload
            | Self::InvalidCertificateSigningRequest
            | Self::InvalidCertificateOwnershipToken
            | Self::InvalidParameters => 400,
            Self::AccessDenied => 403,
            Self::ResourceNotFound => 404,
            Self::ResourceConflict => 409,
            Self::Throttling => 429,
            Self::InternalFailure => 500,
            Self::ServiceUnavailable => 503,
        }
    }

    /// `errorCode`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidPayload => "InvalidPayload",
            Self::InvalidCertificateSigningRequest => "InvalidCertificateSigningRequest",
            Self::InvalidCertificateOwnershipToken => "InvalidCertificateOwnershipToken",
            Self::InvalidParameters => "InvalidParameters",
            Self::AccessDenied => "AccessDenied",
            Self::ResourceNotFound => "ResourceNotFound",
            Self::ResourceConflict => "ResourceConflict",
            Self::Throttling => "Throttling",
            Self::InternalFailure => "InternalFailure",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalid_payload",
            Self::InvalidCertificateSigningRequest => "invalid_csr",
            Self::InvalidCertificateOwnershipToken => "invalid_token",
            Self::InvalidParameters => "invalid_parameters",
            Self::AccessDenied => "access_denied",
            Self::ResourceNotFound => "not_found",
            Self::ResourceConflict => "conflict",
            Self::Throttling => "throttling",
            Self::InternalFailure => "internal_failure",
            Self::ServiceUnavailable => "unavailable",
        }
    }

    /// The rejection with a text for the developer of the device. It is fixed text: nothing that was sent comes back.
    #[must_use]
    pub const fn because(self, message: &'static str) -> Rejection {
        Rejection { code: self, message }
    }
}

/// A rejection: what `/rejected` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Rejection {
    /// The code.
    pub code: ErrorCode,
    /// `errorMessage`.
    pub message: &'static str,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code.status(), self.code.as_str(), self.message)
    }
}

/// The document: all three fields always, since clients read them without looking.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RejectionDocument {
    status_code: u16,
    error_code: &'static str,
    error_message: &'static str,
}

impl From<Rejection> for RejectionDocument {
    fn from(rejection: Rejection) -> Self {
        Self {
            status_code: rejection.code.status(),
            error_code: rejection.code.as_str(),
            error_message: rejection.message,
        }
    }
}
