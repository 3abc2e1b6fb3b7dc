//! Authorities: whose certificates are admitted, and what they may say.

use serde::{Deserialize, Serialize};
use signet_identity::{CertificateId, PrincipalKey, Role, TemplateName};

use crate::{CaId, KeyHash, Line, NamePattern, NewCertificate, RevocationReason, Source, Wall};

/// The most patterns of names of one authority.
pub const PATTERNS_MAX: usize = 32;

/// What happens when a certificate of an authority connects that the registry does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownPolicy {
    /// It is refused.
    #[default]
    RegisteredOnly,
    /// It is registered as active, for the name that it gives.
    Auto,
    /// It is registered as pending and refused, until an operator or a service activates it.
    Jitr,
    /// It is provisioned by the template, before the connection is answered.
    Jitp(TemplateName),
}

impl UnknownPolicy {
    /// The policy's kind as the configuration writes it, and as a metric label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::RegisteredOnly => "registered-only",
            Self::Auto => "auto",
            Self::Jitr => "jitr",
            Self::Jitp(_) => "jitp",
        }
    }
}

/// What an authority may do; all of it can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaSettings {
    /// Whether its certificates may connect at all. Taking it away is reversible.
    pub connect: bool,
    /// Whether it registers certificates that were unknown. Those that are registered are not touched by it.
    pub registers: bool,
    /// What happens with certificates that are unknown.
    pub unknown: UnknownPolicy,
    /// The role that its certificates get; of no matter for an authority of this broker.
    pub role: Role,
    /// The names that its certificates may give; none when empty. At most [`PATTERNS_MAX`].
    pub names: Vec<NamePattern>,
    /// The authorities with which it may have names of the same role in common.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares_names_with: Vec<CaId>,
    /// How many devices it may bring in whose certificates the registry did not know; `None` for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices_max: Option<u32>,
    /// Whether an unknown certificate of it may become that of a thing whose certificates are another authority's. Of `auto` only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joins_others: bool,
}

impl CaSettings {
    /// Certificates of devices that are in the registry, of any of the names in `names`.
    #[must_use]
    pub const fn registered_only(names: Vec<NamePattern>) -> Self {
        Self {
            connect: true,
            registers: false,
            unknown: UnknownPolicy::RegisteredOnly,
            role: Role::Device,
            names,
            shares_names_with: Vec::new(),
            devices_max: None,
            joins_others: false,
        }
    }
}

/// A registered authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ca {
    /// The SHA-256 of its certificate.
    pub id: CaId,
    /// The hash of its key: one authority for each.
    pub key: KeyHash,
    /// Its subject, for people.
    pub subject: Line,
    /// First second of its certificate's validity period, in Unix seconds.
    pub not_before: i64,
    /// Last second of its certificate's validity period, in Unix seconds.
    pub not_after: i64,
    /// Whether this broker signs with its key.
    pub source: Source,
    /// What it may do.
    pub settings: CaSettings,
    /// When it was registered.
    pub added: Wall,
    /// How many devices it has brought in whose certificates the registry did not know.
    #[serde(default)]
    pub devices: u32,
    /// Since when and why it is revoked as a whole: every certificate of it is refused for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<(Wall, RevocationReason)>,
}

impl Ca {
    /// Whether one of its certificates may be that of `holder`.
    ///
    /// The role binds an outside authority only: what this broker signs gets its role from what it was signed for.
    #[must_use]
    pub fn may_be_for(&self, holder: &PrincipalKey) -> bool {
        let role = self.source == Source::Own || self.settings.role == holder.role;
        role && self.settings.names.iter().any(|pattern| pattern.matches(&holder.name))
    }

    /// A pattern of names that this authority and `other` have in common, when neither says that this is meant.
    ///
    /// Two authorities of this broker are one in this: the registry decides their names.
    pub(crate) fn clash(&self, other: &Self) -> Option<&NamePattern> {
        let ours = self.source == Source::Own && other.source == Source::Own;
        let said = self.settings.shares_names_with.contains(&other.id)
            || other.settings.shares_names_with.contains(&self.id);
        let gone = self.revoked.is_some() || other.revoked.is_some();
        let roles_meet = self.source == Source::Own
            || other.source == Source::Own
            || self.settings.role == other.settings.role;
        if ours || said || gone || !roles_meet || self.id == other.id {
            return None;
        }
        self.settings.names.iter().find(|a| other.settings.names.iter().any(|b| a.overlaps(b)))
    }
}

/// An authority as it enters the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCa {
    /// Its certificate. The issuer is of no matter here: trust in an authority is said, not derived.
    pub certificate: NewCertificate,
    /// Whether this broker signs with its key.
    pub source: Source,
    /// What it may do.
    pub settings: CaSettings,
}

impl NewCa {
    /// The id that it will have.
    #[must_use]
    pub fn id(&self) -> CaId {
        let id: CertificateId = self.certificate.facts().id;
        id.into()
    }
}
