//! Principals: who acts on a connection, after the certificate was identified and its standing judged.

use std::fmt;
use std::sync::Arc;

use crate::{CertificateId, GroupName, Lineage, TemplateName, ThingName};

/// The most groups that one principal belongs to. More given are an error of the registry, and are cut off in name
/// order.
pub const GROUPS_MAX: usize = 64;

/// What kind of principal a certificate makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A thing of the fleet.
    Device,
    /// The holder of a provisioning claim: it may ask for a certificate of its own and nothing else.
    Claim,
    /// A person or a service that runs the fleet.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Device, Self::Claim, Self::Operator];

    /// The role's name, as in a `role NAME` section of an access policy and as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Claim => "claim",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name space of client ids that sessions live in: one for each role and name.
///
/// The certificate is not part of it, so a device keeps its session when its certificate is renewed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalKey {
    /// The principal's role.
    pub role: Role,
    /// The principal's name.
    pub name: ThingName,
}

impl fmt::Display for PrincipalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.role, self.name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    key: PrincipalKey,
    certificate: CertificateId,
    lineage: Lineage,
    groups: Box<[GroupName]>,
    templates: Box<[TemplateName]>,
    quarantined: bool,
}

/// An identified peer. Cloning it copies a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Arc<Inner>);

impl Principal {
    /// A thing of the fleet, member of `groups` (at most [`GROUPS_MAX`]).
    #[must_use]
    pub fn device(name: ThingName, certificate: CertificateId, groups: Vec<GroupName>) -> Self {
        Self::new(Role::Device, name, certificate, groups, Vec::new())
    }

    /// A person or service that runs the fleet, member of `groups` (at most [`GROUPS_MAX`]).
    #[must_use]
    pub fn operator(name: ThingName, certificate: CertificateId, groups: Vec<GroupName>) -> Self {
        Self::new(Role::Operator, name, certificate, groups, Vec::new())
    }

    /// The holder of a claim that may ask for `templates`. A claim belongs to no group.
    #[must_use]
    pub fn claim(name: ThingName, certificate: CertificateId, templates: Vec<TemplateName>) -> Self {
        Self::new(Role::Claim, name, certificate, Vec::new(), templates)
    }

    fn new(
        role: Role,
        name: ThingName,
        certificate: CertificateId,
        mut groups: Vec<GroupName>,
        mut templates: Vec<TemplateName>,
    ) -> Self {
        groups.sort_unstable();
        groups.dedup();
        groups.truncate(GROUPS_MAX);
        templates.sort_unstable();
        templates.dedup();
        Self(Arc::new(Inner {
            key: PrincipalKey { role, name },
            certificate,
            lineage: Lineage::default(),
            groups: groups.into(),
            templates: templates.into(),
            quarantined: false,
        }))
    }

    /// The same principal in quarantine: it is who it is, and has the rights of its recovery topics only.
    #[must_use]
    pub fn in_quarantine(self) -> Self {
        if self.0.quarantined {
            return self;
        }
        Self(Arc::new(Inner { quarantined: true, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same principal, with what revocation lists name its certificate and the authorities above it by.
    #[must_use]
    pub fn with_lineage(self, lineage: Lineage) -> Self {
        Self(Arc::new(Inner { lineage, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// Whether it is in quarantine.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.0.quarantined
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.0.key.role
    }

    /// The name: what `%u` stands for in access rules, and what logs show.
    #[must_use]
    pub fn name(&self) -> &ThingName {
        &self.0.key.name
    }

    /// The thing that acts, for a device: what `%t` stands for in access rules.
    #[must_use]
    pub fn thing(&self) -> Option<&ThingName> {
        (self.role() == Role::Device).then(|| self.name())
    }

    /// The certificate that the peer proved to hold.
    #[must_use]
    pub fn certificate(&self) -> &CertificateId {
        &self.0.certificate
    }

    /// What revocation lists name the certificate and the authorities above it by; empty when nobody has said.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.0.lineage
    }

    /// The groups, in name order, without repetition, at most [`GROUPS_MAX`].
    #[must_use]
    pub fn groups(&self) -> &[GroupName] {
        &self.0.groups
    }

    /// The provisioning templates that a claim may ask for, in name order; empty for other roles.
    #[must_use]
    pub fn templates(&self) -> &[TemplateName] {
        &self.0.templates
    }

    /// The name space of this principal's sessions.
    #[must_use]
    pub fn key(&self) -> &PrincipalKey {
        &self.0.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ThingName {
        ThingName::try_from(text).unwrap()
    }

    #[test]
    fn a_claim_and_a_device_of_one_name_have_different_name_spaces() {
        let certificate = CertificateId::of(b"c");
        let device = Principal::device(name("a"), certificate, Vec::new());
        let claim = Principal::claim(name("a"), certificate, Vec::new());
        assert_ne!(device.key(), claim.key());
    }

    #[test]
    fn a_renewed_certificate_keeps_the_name_space() {
        let old = Principal::device(name("a"), CertificateId::of(b"1"), Vec::new());
        let new = Principal::device(name("a"), CertificateId::of(b"2"), Vec::new());
        assert_eq!(old.key(), new.key());
        assert_ne!(old, new);
    }

    #[test]
    fn only_a_device_is_a_thing() {
        let certificate = CertificateId::of(b"c");
        assert_eq!(Principal::device(name("a"), certificate, Vec::new()).thing(), Some(&name("a")));
        assert_eq!(Principal::operator(name("a"), certificate, Vec::new()).thing(), None);
        assert_eq!(Principal::claim(name("a"), certificate, Vec::new()).thing(), None);
    }

    #[test]
    fn groups_are_sorted_unique_and_bounded() {
        let groups = (0..GROUPS_MAX * 2)
            .rev()
            .flat_map(|i| [i, i])
            .map(|i| GroupName::try_from(format!("g{i:03}").as_str()).unwrap())
            .collect();
        let device = Principal::device(name("a"), CertificateId::of(b"c"), groups);
        assert_eq!(device.groups().len(), GROUPS_MAX);
        assert_eq!(device.groups()[0].as_str(), "g000");
        assert!(device.groups().is_sorted());
    }

    #[test]
    fn quarantine_changes_the_principal_and_not_its_name_space() {
        let device = Principal::device(name("a"), CertificateId::of(b"c"), Vec::new());
        let quarantined = device.clone().in_quarantine();
        assert!(quarantined.is_quarantined() && !device.is_quarantined());
        assert_ne!(quarantined, device);
        assert_eq!(quarantined.key(), device.key());
        assert_eq!(quarantined.clone().in_quarantine(), quarantined);
    }
}
