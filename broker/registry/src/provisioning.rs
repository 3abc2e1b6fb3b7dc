//! What lets a device become a member of the fleet: claims, one-time tokens, templates.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signet_identity::{CertificateId, TemplateName, ThingName};

use crate::thing::Held;
use crate::{Line, Network, ThingSpec, TokenHash, Wall};

/// The most bytes of a template's body (the bound of the AWS IoT control plane, in characters there).
pub const TEMPLATE_BODY_BYTES_MAX: usize = 10_240;
/// The most templates of one claim.
pub const CLAIM_TEMPLATES_MAX: usize = 32;
/// The most networks of one claim.
pub const CLAIM_NETWORKS_MAX: usize = 32;
/// The most serial numbers that one command adds to a claim.
pub const SERIALS_AT_ONCE_MAX: usize = 1_000;
/// The most bytes of a device's own serial number in a claim's list.
pub const DEVICE_SERIAL_BYTES_MAX: usize = 128;

/// What a claim may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimSpec {
    /// The name of the claim.
    pub name: ThingName,
    /// The templates that it may ask for, 1 to [`CLAIM_TEMPLATES_MAX`].
    pub templates: Vec<TemplateName>,
    /// How many devices it may bring in; `None` for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices_max: Option<u32>,
    /// Until when it works; `None` for as long as its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Wall>,
    /// Where it may be used from; anywhere when empty. At most [`CLAIM_NETWORKS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Network>,
    /// Whether only devices in its list of serial numbers are let in.
    #[serde(default)]
    pub listed_only: bool,
    /// Whether it may ask the broker to make the private key.
    #[serde(default)]
    pub keys: bool,
}

/// A claim: the certificate that many devices leave the factory with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// What it may do.
    pub spec: Arc<ClaimSpec>,
    /// Since when it exists.
    pub added: Wall,
    /// Whether it is suspended.
    pub suspended: bool,
    /// How many devices it has brought in.
    pub devices: u32,
    /// How many certificates are pending that it asked for.
    #[serde(skip)]
    pub(crate) pending: u32,
    /// The serial numbers that it may bring in, in order.
    #[serde(skip)]
    pub(crate) serials: imbl::OrdSet<Arc<str>>,
    /// Its certificates.
    #[serde(skip)]
    pub(crate) held: Held,
}

impl Claim {
    /// Its certificates, in any state.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateId] {
        &self.held
    }

    /// Whether it works at `now`.
    #[must_use]
    pub fn is_open(&self, now: Wall) -> bool {
        !self.suspended && self.spec.until.is_none_or(|until| now < until)
    }

    /// Whether the device with the serial number `serial` may come in by this claim.
    #[must_use]
    pub fn admits_serial(&self, serial: &str) -> bool {
        !self.spec.listed_only || self.serials.contains(serial)
    }

    /// The serial numbers that it may bring in, in order.
    pub fn serials(&self) -> impl Iterator<Item = &str> {
        self.serials.iter().map(|serial| &**serial)
    }

    /// How many certificates are pending that it asked for.
    #[must_use]
    pub const fn pending(&self) -> u32 {
        self.pending
    }
}

/// A secret that lets one device get one certificate, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The hash of the secret.
    pub hash: TokenHash,
    /// The thing that the certificate will be for; it is added when it does not exist.
    pub thing: ThingSpec,
    /// The first moment at which it is expired.
    pub until: Wall,
    /// What it was made for, for people.
    #[serde(default)]
    pub note: Line,
}

/// Where a one-time token stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What was said when it was made.
    pub spec: TokenSpec,
    /// Since when it exists.
    pub added: Wall,
    /// When it was used, and for which certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<(Wall, CertificateId)>,
}

impl Token {
    /// Whether it gets somebody a certificate at `now`.
    #[must_use]
    pub fn usable(&self, now: Wall) -> bool {
        self.used.is_none() && now < self.spec.until
    }
}

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateKind {
    /// Devices that come with a claim.
    Fleet,
    /// Devices of an outside authority, at their first connection.
    Jitp,
    /// Devices that renew their own certificate.
    Rotation,
}

/// A provisioning template. Its body is checked before it comes here, and is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSpec {
    /// The name.
    pub name: TemplateName,
    /// What it is for.
    pub kind: TemplateKind,
    /// Whether it can be asked for.
    pub enabled: bool,
    /// Whether the broker may make private keys for it.
    #[serde(default)]
    pub keys: bool,
    /// The JSON text, at most [`TEMPLATE_BODY_BYTES_MAX`].
    pub body: Arc<str>,
}

/// A template and how often it was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What was set last.
    pub spec: TemplateSpec,
    /// Counts changes, from 1.
    pub version: u64,
    /// When it was set last.
    pub changed: Wall,
}
