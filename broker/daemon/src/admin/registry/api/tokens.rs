//! One-time tokens, and enrolments over EST that wait for approval.

use serde::{Deserialize, Serialize};

use super::AddDevice;

/// `POST /registry/tokens/create`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateToken {
    /// The device that it is for, as it is added if it does not exist. Without a signing request and a key.
    pub device: AddDevice,
    /// How long it is good; an hour when absent.
    pub valid_seconds: Option<u64>,
    /// What it is for, for people.
    pub note: Option<String>,
}

/// The answer to [`CreateToken`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CreatedToken {
    /// The secret. There is no other copy of it.
    pub token: String,
    /// By which it is listed and revoked: the SHA-256 of the secret.
    pub id: String,
    /// The device.
    pub device: String,
    /// The first moment at which it is no longer good.
    pub until_ms: u64,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken")
            .field("id", &self.id)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// One token in `GET /registry/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TokenRow {
    /// SHA-256 of the secret.
    pub id: String,
    /// The device.
    pub device: String,
    /// `open`, `used` or `expired`.
    pub state: String,
    /// When it was made.
    pub added_ms: u64,
    /// The first moment at which it is no longer good.
    pub until_ms: u64,
    /// When it was used.
    pub used_ms: Option<u64>,
    /// The certificate that it was used for.
    pub certificate: Option<String>,
    /// What it was made for.
    pub note: String,
}

/// `POST /registry/tokens/revoke`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RevokeToken {
    /// Its id, or at least 8 digits that it begins with.
    pub id: String,
}

/// One enrolment in `GET /registry/est/pending`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EnrolmentRow {
    /// By which it is approved or rejected.
    pub id: String,
    /// The device that it would be for.
    pub device: String,
    /// The label that it was asked under; absent for the path without one.
    pub label: Option<String>,
    /// SHA-256 of the public key.
    pub key: String,
    /// Where it was asked from when it was noted last.
    pub address: String,
    /// `waiting`, `approved` or `rejected`.
    pub state: String,
    /// Seconds since it was asked for first.
    pub first_seconds_ago: u64,
    /// Seconds since it was noted last: while it is asked for, twice a day.
    pub last_seconds_ago: u64,
}

/// `POST /registry/est/decide`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DecideEnrolment {
    /// Its id, or at least 8 digits that it begins with.
    pub id: String,
    /// Whether it may have its certificate.
    pub approve: bool,
}
