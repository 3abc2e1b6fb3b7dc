//! What the tests of the registry share: a world in which every step is checked.

mod approvals;
mod audit;
mod cas;
mod claims;
mod effects;
mod encoding;
mod enrol;
mod greedy;
mod model;
mod size;
mod status;
mod things;
mod tokens;

use std::collections::BTreeMap;

use signet_identity::{CertificateId, PrincipalKey, Role, TemplateName, ThingName};

use crate::audit::{AuditRow, Head};
use crate::certificate::testing;
use crate::*;

pub(super) const DAY_SECS: i64 = 86_400;
/// Where the tests' clock begins: 2026-01-01.
pub(super) const START: Wall = Wall(1_767_225_600_000);

pub(super) fn name(text: &str) -> ThingName {
    ThingName::try_from(text).unwrap()
}

pub(super) fn template_name(text: &str) -> TemplateName {
    TemplateName::try_from(text).unwrap()
}

pub(super) fn device(text: &str) -> PrincipalKey {
    PrincipalKey { role: Role::Device, name: name(text) }
}

pub(super) fn key(text: &str) -> KeyHash {
    KeyHash::of_spki(text.as_bytes())
}

pub(super) fn patterns(text: &[&str]) -> Vec<NamePattern> {
    text.iter().map(|pattern| pattern.parse().unwrap()).collect()
}

pub(super) fn thing(text: &str) -> ThingSpec {
    ThingSpec::named(name(text))
}

/// A certificate of 30 days from `START`; its subject key is named like it.
pub(super) fn certificate(issuer: &str, label: &str) -> NewCertificate {
    certificate_with_key(issuer, label, label)
}

pub(super) fn certificate_with_key(issuer: &str, label: &str, public_key: &str) -> NewCertificate {
    testing::certificate(key(issuer), label, key(public_key), START.unix_secs(), 30 * DAY_SECS)
}

/// A registry, its events and its audit trail. Every change goes through the stored form of its events, and the whole
/// state is checked after it.
pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) events: Vec<Event>,
    pub(super) rows: Vec<AuditRow>,
    pub(super) now: Wall,
    /// The effects of the last command.
    pub(super) effects: Effects,
}

impl World {
    pub(super) fn empty() -> Self {
        Self {
            registry: Registry::default(),
            events: Vec::new(),
            rows: Vec::new(),
            now: START,
            effects: Effects::default(),
        }
    }

    /// With an authority of its own, `own`, an outside one, `maker`, for `sn*` whose unknown certificates are refused, and
    /// the templates `fleet`, `jitp` and `rotation`.
    pub(super) fn new() -> Self {
        let mut world = Self::empty();
        for (template, kind) in [
            ("fleet", TemplateKind::Fleet),
            ("jitp", TemplateKind::Jitp),
            ("rotation", TemplateKind::Rotation),
        ] {
            let body = "{}".into();
            let spec = TemplateSpec { name: template_name(template), kind, enabled: true, keys: false, body };
            world.must(Command::SetTemplate(spec));
        }
        let own = world.add_ca("own", Source::Own, CaSettings::registered_only(patterns(&["*"]))).unwrap();
        let maker = CaSettings {
            registers: true,
            shares_names_with: vec![own],
            ..CaSettings::registered_only(patterns(&["sn*"]))
        };
        world.add_ca("maker", Source::Outside, maker).unwrap();
        world
    }

    pub(super) fn add_ca(
        &mut self,
        label: &str,
        source: Source,
        settings: CaSettings,
    ) -> Result<CaId, RegistryError> {
        let new = NewCa { certificate: certificate("root", label), source, settings };
        let id = new.id();
        self.run(Command::AddCa(new)).map(|_| id)
    }

    pub(super) fn set_policy(&mut self, unknown: UnknownPolicy) {
        let ca = self.ca("maker");
        let settings = CaSettings { unknown, ..ca.settings.clone() };
        self.must(Command::UpdateCa { ca: ca.id, settings });
    }

    pub(super) fn ca(&self, label: &str) -> Ca {
        Ca::clone(self.registry.ca_by_key(&key(label)).unwrap())
    }

    /// The claim `claim` for the template `fleet`, with the certificate that it returns.
    pub(super) fn add_claim(&mut self, claim: &str, change: impl FnOnce(&mut ClaimSpec)) -> CertificateId {
        let mut spec = ClaimSpec {
            name: name(claim),
            templates: vec![template_name("fleet")],
            devices_max: None,
            until: None,
            from: Vec::new(),
            listed_only: false,
            keys: false,
        };
        change(&mut spec);
        let certificate = certificate("own", &format!("claim {claim}"));
        let id = certificate.facts().id;
        self.must(Command::CreateClaim { claim: spec, certificate });
        id
    }

    /// A certificate of the own authority for the thing `holder`.
    pub(super) fn issue(&mut self, label: &str, holder: &str) -> Result<CertificateId, RegistryError> {
        let certificate = certificate("own", label);
        let id = certificate.facts().id;
        self.run(Command::Issue { certificate, holder: device(holder) }).map(|_| id)
    }

    pub(super) fn run(&mut self, command: Command) -> Result<Vec<Event>, RegistryError> {
        let before = self.registry.clone();
        let actor = Actor::Local("uid 1000".into());
        let decided = self.registry.decide(command, &actor, self.now);
        assert_eq!(self.registry, before, "deciding changed something");
        let events = decided?;
        let mut stored = Vec::new();
        for event in &events {
            let row = self.rows.last().map_or(Head::EMPTY, AuditRow::head).next(event);
            stored.push(row.decode().unwrap());
            self.rows.push(row);
        }
        assert_eq!(stored, events, "the stored form lost something");
        for event in &events {
            assert!(!event.to_string().contains(char::is_control));
            self.registry.apply(event);
        }
        self.events.extend(events.iter().cloned());
        self.effects = self.registry.effects(&before, &events, self.now);
        check_moves(&before, &self.registry, &events);
        check(&self.registry);
        if events.is_empty() {
            assert_eq!(self.registry, before, "a change without an event");
        }
        Ok(events)
    }

    pub(super) fn must(&mut self, command: Command) -> Vec<Event> {
        self.run(command).unwrap()
    }

    pub(super) fn refused(&mut self, command: Command) -> RegistryError {
        self.run(command).expect_err("it should have been refused")
    }

    pub(super) fn pass(&mut self, secs: i64) {
        self.now = Wall(self.now.0 + u64::try_from(secs * 1000).unwrap());
    }

    pub(super) fn status(&self, id: &CertificateId) -> Option<StatusKind> {
        self.registry.certificate(id).map(|certificate| certificate.status.kind())
    }

    /// Where a certificate stands that connects as the tests' certificates are made.
    pub(super) fn standing(&self, issuer: &str, label: &str) -> Standing {
        let new = certificate(issuer, label);
        let facts = new.facts();
        self.registry.standing(&facts.id, &facts.issuer, &facts.serial, self.now)
    }

    pub(super) fn is_active(&self, id: &CertificateId) -> bool {
        let known = self.registry.certificate(id);
        known.is_some_and(|known| matches!(self.registry.standing_of(known, self.now), Standing::Active(_)))
    }
}

/// Every change of state was allowed, and has an event.
pub(super) fn check_moves(before: &Registry, after: &Registry, events: &[Event]) {
    let told: Vec<(CertificateId, Option<StatusKind>)> = events
        .iter()
        .filter_map(|event| match &event.change {
            Change::CertificateActivated { certificate, .. } => {
                Some((*certificate, Some(StatusKind::Active)))
            }
            Change::CertificateSuspended { certificate, .. } => {
                Some((*certificate, Some(StatusKind::Inactive)))
            }
            Change::CertificateRevoked { certificate, .. } => Some((*certificate, Some(StatusKind::Revoked))),
            Change::CertificateDeleted { certificate, .. } => Some((*certificate, None)),
            Change::CertificateAdded { facts, status, .. } => Some((facts.id, Some(status.kind()))),
            _ => None,
        })
        .collect();
    for old in before.certificates() {
        let from = old.status.kind();
        let to = after.certificate(old.id()).map(|new| new.status.kind());
        if to == Some(from) {
            continue;
        }
        assert!(told.contains(&(*old.id(), to)), "{from} became {to:?} without an event");
        assert!(to.is_none_or(|to| from.may_become(to)), "{from} became {to:?}");
        let new = after.certificate(old.id());
        assert!(old.holder.is_none() || new.is_none_or(|new| new.holder == old.holder), "the holder changed");
    }
    for new in after.certificates().filter(|new| before.certificate(new.id()).is_none()) {
        assert!(told.iter().any(|(id, _)| id == new.id()), "a certificate came without an event");
    }
}

/// What must hold in every registry.
pub(super) fn check(registry: &Registry) {
    let mut counts = Counts::default();
    let mut in_force: BTreeMap<PrincipalKey, usize> = BTreeMap::new();
    let mut pending_of: BTreeMap<ThingName, u32> = BTreeMap::new();
    let mut of_devices = 0;
    let (mut deadlines, mut retiring, mut tokens) = (0, 0, 0);
    let mut waiting: BTreeMap<KeyHash, u32> = BTreeMap::new();
    for certificate in registry.certificates() {
        let id = certificate.id();
        let facts = &certificate.facts;
        *counts.of(certificate.status.kind()) += 1;
        let by_serial = registry.certificate_by_serial(&facts.issuer, &facts.serial);
        assert_eq!(by_serial.map(|found| found.id()), Some(id), "a serial number was given twice");
        assert_eq!(registry.certificates_of_key(&facts.public_key).filter(|c| c.id() == id).count(), 1);
        if let Some(Succession { retire_at: Some(at), .. }) = certificate.successor.as_deref() {
            assert!(registry.retiring.contains(&(*at, *id)));
            retiring += 1;
        }
        match &certificate.status {
            Status::Active => {
                let holder = certificate.holder.clone().expect("an active certificate is somebody's");
                *in_force.entry(holder).or_default() += 1;
            }
            Status::Pending(pending) => {
                if pending.until.is_none() {
                    *waiting.entry(facts.issuer).or_default() += 1;
                }
                deadlines += pending.until.map_or(0, |until| {
                    assert!(registry.deadlines.contains(&(until, *id)));
                    1
                });
                if let Some(enrolment) = &pending.enrolment {
                    assert_eq!(registry.ownership.get(&enrolment.token), Some(id));
                    tokens += 1;
                    if enrolment.by.role == Role::Device {
                        of_devices += 1;
                        assert!(registry.pending_of(&enrolment.by.name).any(|found| found.id() == id));
                    }
                    if enrolment.by.role == Role::Claim {
                        *pending_of.entry(enrolment.by.name.clone()).or_default() += 1;
                    }
                }
            }
            Status::Inactive { .. } | Status::Revoked { .. } => {}
        }
        if let Some(holder) = &certificate.holder {
            let held = registry.certificates_of_holder(holder).iter().filter(|held| *held == id).count();
            let gone = matches!(certificate.status, Status::Revoked { .. }) && held == 0;
            assert!(held == 1 || gone, "{id} is {held} times in the list of its holder");
        }
    }
    assert!(
        in_force.values().all(|count| *count <= ACTIVE_MAX),
        "more than {ACTIVE_MAX} active certificates"
    );
    assert_eq!(registry.counts(), counts);
    assert_eq!(registry.by_serial.len(), registry.certificates.len());
    assert_eq!(registry.by_key.len(), registry.certificates.len());
    assert_eq!(registry.deadlines.len(), deadlines);
    assert_eq!(registry.retiring.len(), retiring);
    assert_eq!(registry.pending_of_devices.len(), of_devices);
    assert_eq!(registry.ownership.len(), tokens);
    assert!(registry.waiting.iter().map(|(issuer, count)| (*issuer, *count)).eq(waiting));
    assert_eq!(registry.token_deadlines.len(), registry.tokens.len());
    assert_eq!(registry.tokens_of.len(), registry.tokens.len());
    assert!(registry.tokens().all(|token| registry.has_token(&token.spec.thing.name)));
    assert!(registry.approvals.len() <= registry.limits.approvals_max);
    assert!(registry.approvals.iter().all(|(id, approval)| *id == approval.request.id));
    assert_eq!(registry.cas.len(), registry.ca_keys.len());
    for claim in registry.claims() {
        assert_eq!(claim.pending(), pending_of.get(&claim.spec.name).copied().unwrap_or(0));
    }
    for thing in registry.things(None) {
        let holder = PrincipalKey { role: Role::Device, name: thing.spec.name.clone() };
        for id in thing.certificates() {
            let certificate = registry.certificate(id).expect("a thing lists only what is there");
            assert_eq!(certificate.holder.as_ref(), Some(&holder), "two things have one certificate");
        }
    }
}
