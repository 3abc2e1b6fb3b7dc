//! Whether a certificate may connect, and as whom: the question of every connection.

use std::sync::Arc;

use signet_identity::{CertificateId, GroupName, PrincipalKey, Role, TemplateName, ThingName};

use crate::certificate::{Certificate, Status};
use crate::provisioning::ClaimSpec;
use crate::thing::Groups;
use crate::{CaId, KeyHash, Registry, RevocationReason, SerialNumber, UnknownPolicy, Wall};

/// Where a certificate stands. It holds copies and shared pointers only, so asking costs no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Neither the certificate nor its issuer is registered, or the issuer's certificates must be registered first.
    Unknown,
    /// The certificate is unknown, and its authority lets it be admitted: decide
    /// [`AdmitUnknown`](crate::Command::AdmitUnknown) or [`ProvisionJustInTime`](crate::Command::ProvisionJustInTime),
    /// then ask again.
    Admissible {
        /// The authority.
        ca: CaId,
        /// How; never [`UnknownPolicy::RegisteredOnly`].
        policy: UnknownPolicy,
        /// The role that it will get.
        role: Role,
    },
    /// Registered and not yet in force: refused.
    Pending {
        /// The authority, for the event that announces it.
        ca: Option<CaId>,
        /// When it will be deleted; `None` waits for an operator.
        until: Option<Wall>,
    },
    /// In force.
    Active(Active),
    /// Suspended: the certificate, its claim, or the trust in its authority. Reversible.
    Inactive(Suspended),
    /// Revoked, or a certificate of a revoked authority.
    Revoked {
        /// Since when.
        since: Wall,
        /// Why.
        reason: RevocationReason,
    },
    /// Another certificate of the same issuer with the same serial number is registered: one of them is forged.
    SerialConflict {
        /// The registered one.
        registered: CertificateId,
    },
}

/// What is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suspended {
    /// The certificate.
    Certificate,
    /// The claim, or its time is over.
    Claim,
    /// The authority, or it is no longer registered, or may no longer give that name.
    Authority,
}

/// As whom a certificate connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// The role and the name.
    pub holder: PrincipalKey,
    /// What belongs to the role.
    pub rights: Rights,
    /// The certificate that this one takes the place of is still in force: decide
    /// [`CompleteRotation`](crate::Command::CompleteRotation) when the connection stands.
    pub replaces_another: bool,
    /// The last second of the certificate's validity period, in Unix seconds.
    pub not_after: i64,
    /// Whether it reaches the recovery topics only.
    pub quarantined: bool,
}

/// What belongs to a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// A thing's groups.
    Device(Groups),
    /// A claim's bounds.
    Claim(Arc<ClaimSpec>),
    /// An operator has what the access rules say.
    Operator,
}

impl Active {
    /// The thing, for a device.
    #[must_use]
    pub fn thing(&self) -> Option<&ThingName> {
        (self.holder.role == Role::Device).then_some(&self.holder.name)
    }

    /// The groups, for a device.
    #[must_use]
    pub fn groups(&self) -> &[GroupName] {
        match &self.rights {
            Rights::Device(groups) => groups.as_slice(),
            Rights::Claim(_) | Rights::Operator => &[],
        }
    }

    /// When its time is over other than by the certificate's end, for a claim.
    #[must_use]
    pub fn until(&self) -> Option<Wall> {
        match &self.rights {
            Rights::Claim(claim) => claim.until,
            Rights::Device(_) | Rights::Operator => None,
        }
    }

    /// The templates that may be asked for, for a claim.
    #[must_use]
    pub fn templates(&self) -> &[TemplateName] {
        match &self.rights {
            Rights::Claim(claim) => &claim.templates,
            Rights::Device(_) | Rights::Operator => &[],
        }
    }
}

impl Standing {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Admissible { .. } => "admissible",
            Self::Pending { .. } => "pending",
            Self::Active(_) => "active",
            Self::Inactive(_) => "inactive",
            Self::Revoked { .. } => "revoked",
            Self::SerialConflict { .. } => "serial_conflict",
        }
    }
}

impl Registry {
    /// Where the certificate `id` stands at `now`, which the key `issuer` signed under the number `serial`.
    ///
    /// The validity period is not judged: that is the verifier's, with the listener's grace.
    #[must_use]
    pub fn standing(
        &self,
        id: &CertificateId,
        issuer: &KeyHash,
        serial: &SerialNumber,
        now: Wall,
    ) -> Standing {
        match self.certificate(id) {
            Some(certificate) => self.standing_of(certificate, now),
            None => self.standing_of_unknown(issuer, serial),
        }
    }

    /// Where the registered `certificate` stands at `now`.
    #[must_use]
    pub fn standing_of(&self, certificate: &Certificate, now: Wall) -> Standing {
        let ca = self.ca_by_key(&certificate.facts.issuer);
        if let Some((since, reason)) = ca.and_then(|ca| ca.revoked) {
            return Standing::Revoked { since, reason };
        }
        match &certificate.status {
            Status::Revoked { since, reason } => Standing::Revoked { since: *since, reason: *reason },
            Status::Pending(pending) => Standing::Pending { ca: ca.map(|ca| ca.id), until: pending.until },
            Status::Inactive { .. } => Standing::Inactive(Suspended::Certificate),
            Status::Active => match &certificate.holder {
                Some(holder) if ca.is_some_and(|ca| ca.settings.connect && ca.may_be_for(holder)) => {
                    self.acts_as(holder, certificate, now)
                }
                _ => Standing::Inactive(Suspended::Authority),
            },
        }
    }

    fn standing_of_unknown(&self, issuer: &KeyHash, serial: &SerialNumber) -> Standing {
        let Some(ca) = self.ca_by_key(issuer) else {
            return match self.serial_revoked(issuer, serial) {
                Some((since, reason)) => Standing::Revoked { since, reason },
                None => Standing::Unknown,
            };
        };
        if let Some((since, reason)) = ca.revoked.or_else(|| self.serial_revoked(issuer, serial)) {
            return Standing::Revoked { since, reason };
        }
        if let Some(other) = self.certificate_by_serial(issuer, serial) {
            return Standing::SerialConflict { registered: *other.id() };
        }
        let settings = &ca.settings;
        let admits = settings.connect && settings.registers;
        match &settings.unknown {
            UnknownPolicy::RegisteredOnly => Standing::Unknown,
            policy if admits => {
                Standing::Admissible { ca: ca.id, policy: policy.clone(), role: settings.role }
            }
            _ => Standing::Unknown,
        }
    }
}
