//! Operators: people and services that run the fleet.

use serde::{Deserialize, Serialize};

use super::{CertificateRow, IssuedCertificate};

/// `POST /registry/operators/add`. With a signing request or with a public key, not both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddOperator {
    /// The name.
    pub name: String,
    /// A signing request in PEM.
    pub csr: Option<String>,
    /// A public key in PEM (`PUBLIC KEY`).
    pub public_key: Option<String>,
    /// How long the certificate is valid; as a device's when absent.
    pub valid_seconds: Option<u64>,
}

/// The answer to [`AddOperator`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddedOperator {
    /// The name.
    pub name: String,
    /// The certificate.
    pub certificate: IssuedCertificate,
    /// The authority's certificate in PEM.
    pub issuer: String,
}

/// One operator in `GET /registry/operators`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OperatorRow {
    /// The name.
    pub name: String,
    /// The certificates, in any state.
    pub certificates: Vec<CertificateRow>,
}
