//! Provisioning templates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `POST /registry/templates/set`: adds a template or replaces it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SetTemplate {
    /// Its name.
    pub name: String,
    /// `fleet`, `jitp` or `rotation`.
    pub kind: String,
    /// Whether it can be asked for.
    pub enabled: bool,
    /// Whether the broker may make private keys for it.
    pub keys: bool,
    /// The JSON text.
    pub body: String,
}

/// The answer to [`SetTemplate`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TemplateSet {
    /// How it is now.
    pub template: TemplateRow,
    /// Whether something changed.
    pub changed: bool,
    /// What is allowed and may not be meant, a sentence each.
    pub warnings: Vec<String>,
}

/// One template, in `GET /registry/templates`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TemplateRow {
    /// Its name.
    pub name: String,
    /// `fleet`, `jitp` or `rotation`.
    pub kind: String,
    /// Whether it can be asked for.
    pub enabled: bool,
    /// Whether the broker may make private keys for it.
    pub keys: bool,
    /// Counts changes.
    pub version: u64,
    /// When it was set last.
    pub changed_ms: u64,
    /// The claims that may ask for it.
    pub claims: Vec<String>,
    /// The ids of the outside authorities whose devices it provisions.
    pub authorities: Vec<String>,
}

/// `POST /registry/templates/show` and `POST /registry/templates/remove`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NameTemplate {
    /// Its name.
    pub name: String,
}

/// The answer to [`NameTemplate`] for `show`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TemplateShown {
    /// What it is.
    pub template: TemplateRow,
    /// What a device sends for it.
    pub parameters: BTreeMap<String, ParameterRow>,
    /// What is allowed and may not be meant, a sentence each.
    pub warnings: Vec<String>,
    /// The JSON text.
    pub body: String,
}

/// A parameter of a template.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ParameterRow {
    /// Its value when it is not sent; without one it must be.
    pub default: Option<String>,
    /// What it may be; anything when empty.
    pub allowed: Vec<String>,
    /// Whether the broker gives it, from a certificate.
    pub from_certificate: bool,
}
