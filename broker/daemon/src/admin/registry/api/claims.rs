//! Claims: the certificates that devices leave the factory with.

use serde::{Deserialize, Serialize};

use super::{CertificateRow, IssuedCertificate};

/// `POST /registry/claims/create`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateClaim {
    /// Its name.
    pub name: String,
    /// The templates that it may ask for.
    pub templates: Vec<String>,
    /// How many devices it may bring in; any number when absent.
    pub devices_max: Option<u32>,
    /// When it ends, and its certificate with it.
    pub until_ms: Option<u64>,
    /// In how many seconds it ends; in place of `until-ms`.
    pub valid_seconds: Option<u64>,
    /// Networks that it may be used from, as `10.1.0.0/16`; any when empty.
    #[serde(default)]
    pub from: Vec<String>,
    /// Whether only devices of its list of serial numbers are let in.
    #[serde(default)]
    pub listed_only: bool,
    /// Whether it may ask the broker to make the private key.
    #[serde(default)]
    pub keys: bool,
    /// The claim's public key in PEM (`PUBLIC KEY`).
    pub public_key: String,
}

/// The answer to [`CreateClaim`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CreatedClaim {
    /// What it is.
    pub claim: ClaimRow,
    /// Its certificate.
    pub certificate: IssuedCertificate,
    /// The authority's certificate in PEM.
    pub issuer: Option<String>,
}

/// One claim, in `GET /registry/claims`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClaimRow {
    /// Its name.
    pub name: String,
    /// `open`, `suspended`, `over`, or `without-certificate` when none of its certificates is in force.
    pub state: String,
    /// The templates that it may ask for.
    pub templates: Vec<String>,
    /// How many devices it has brought in.
    pub devices: u32,
    /// How many it may bring in.
    pub devices_max: Option<u32>,
    /// How many certificates wait for their device to be registered.
    pub pending: u32,
    /// How many serial numbers are in its list.
    pub serials: u64,
    /// Whether only those are let in.
    pub listed_only: bool,
    /// Whether it may ask the broker to make the private key.
    pub keys: bool,
    /// Networks that it may be used from; any when empty.
    pub from: Vec<String>,
    /// When it ends.
    pub until_ms: Option<u64>,
    /// Since when it exists.
    pub added_ms: u64,
}

/// `POST /registry/claims/show`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ShowClaim {
    /// Its name.
    pub name: String,
    /// Serial numbers after this one, in their order.
    pub after: Option<String>,
}

/// The answer to [`ShowClaim`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClaimShown {
    /// What it is.
    pub claim: ClaimRow,
    /// Its certificates.
    pub certificates: Vec<CertificateRow>,
    /// At most 1000 serial numbers of its list.
    pub serials: Vec<String>,
    /// Ask again with this as `after` for the next ones; absent at the end.
    pub next: Option<String>,
}

/// `POST /registry/claims/serials`: adds at most 1000 serial numbers to its list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddSerials {
    /// The claim.
    pub name: String,
    /// The serial numbers; those that are in the list already change nothing.
    pub serials: Vec<String>,
}

/// The answer to [`AddSerials`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SerialsAdded {
    /// How many were new.
    pub added: u64,
    /// How many are in the list now.
    pub serials: u64,
}

/// `POST /registry/claims/change`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChangeClaim {
    /// The claim.
    pub name: String,
    /// What is done.
    pub action: ClaimAction,
    /// Why, for `revoke`; `unspecified` when absent.
    pub reason: Option<String>,
}

/// What is done with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimAction {
    /// It is refused until it is resumed.
    Suspend,
    /// It works again.
    Resume,
    /// Its certificates are refused for ever.
    Revoke,
}
