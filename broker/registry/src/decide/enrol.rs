//! Enrolment by claim, and rotation.

use std::sync::Arc;

use signet_identity::{CertificateId, PrincipalKey, Role, ThingName, Validity};

use super::{Decided, Draft};
use crate::certificate::{Certificate, Enrolment, NewCertificate, Pending, RevocationReason, Source, Status};
use crate::command::{Enter, IfExists, RegisterThing};
use crate::event::{Cause, Change, DeletedBecause};
use crate::provisioning::{Claim, TemplateKind};
use crate::registry::PENDING_PER_DEVICE_MAX;
use crate::standing::{Active, Rights};
use crate::{KeyHash, RegistryError, TokenHash, Wall};

impl<'a> Draft<'a> {
    /// Whether the owner of `asker` may have a certificate signed that waits for a thing.
    pub(super) fn may_enrol(&self, asker: &CertificateId, key: &KeyHash) -> Result<Active, RegistryError> {
        let active = self.asker(asker)?;
        self.room_for_pending()?;
        match &active.rights {
            Rights::Operator => return Err(RegistryError::AskerNotAllowed(*asker)),
            Rights::Device(_) => {
                self.not_replaced(asker)?;
                self.key(key, Some(&active.holder))?;
            }
            Rights::Claim(_) => {
                // Whose thing it will be is not known yet; RegisterThing asks whose key it is.
                self.key(key, None)?;
                let claim = self.claim(&active.holder.name)?;
                self.devices_left(claim)?;
                let max = self.registry.limits.pending_per_claim_max;
                if claim.pending >= max {
                    let claim = claim.spec.name.clone();
                    return Err(RegistryError::ClaimSpent {
                        claim,
                        what: "pending certificates",
                        max: max.into(),
                    });
                }
            }
        }
        Ok(active)
    }

    fn devices_left(&self, claim: &Claim) -> Decided {
        match claim.spec.devices_max {
            Some(max) if claim.devices >= max => {
                let claim = claim.spec.name.clone();
                Err(RegistryError::ClaimSpent { claim, what: "devices", max: max.into() })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn begin_enrolment(
        &mut self,
        certificate: NewCertificate,
        asker: CertificateId,
        token: TokenHash,
        until: Wall,
    ) -> Decided {
        self.clock()?;
        self.future(until)?;
        let facts = certificate.facts();
        self.own_issuer(facts)?;
        self.newcomer(facts)?;
        let by = self.may_enrol(&asker, &facts.public_key)?.holder;
        if self.registry.ownership.contains_key(&token) {
            return Err(RegistryError::OwnershipToken);
        }
        if by.role == Role::Device {
            self.drop_oldest_pending(&by.name);
        }
        let enrolment = Enrolment { token, asker, by, der: certificate.der().clone() };
        let pending = Pending { until: Some(until), proposed: None, enrolment: Some(enrolment) };
        self.add_certificate(certificate, Source::Own, Status::Pending(pending.into()), None);
        Ok(())
    }

    /// Leaves room for one more pending certificate that the device `name` has asked for: no device fills the table that all share.
    fn drop_oldest_pending(&mut self, name: &ThingName) {
        let over = (self.registry.pending_of(name).count() + 1).saturating_sub(PENDING_PER_DEVICE_MAX);
        for oldest in self.registry.pending_of(name).take(over) {
            self.delete(oldest, DeletedBecause::NeverActivated);
        }
    }

    /// The pending certificate that `token` is for, when `asker` is the one who got it and it is not over.
    fn owned(&self, token: &TokenHash, asker: &CertificateId) -> Result<&'a Arc<Certificate>, RegistryError> {
        let certificate = self.registry.enrolment(token).ok_or(RegistryError::OwnershipToken)?;
        let Status::Pending(pending) = &certificate.status else {
            return Err(RegistryError::OwnershipToken);
        };
        let over = pending.until.is_some_and(|until| until <= self.now);
        match &pending.enrolment {
            Some(enrolment) if !over && enrolment.token == *token && enrolment.asker == *asker => {
                Ok(certificate)
            }
            _ => Err(RegistryError::OwnershipToken),
        }
    }

    pub(super) fn register_thing(&mut self, registration: RegisterThing) -> Decided {
        self.clock()?;
        let active = self.asker(&registration.asker)?;
        let certificate = self.owned(&registration.token, &registration.asker)?;
        let holder = PrincipalKey { role: Role::Device, name: registration.thing.name.clone() };
        if let Some(bound) = certificate.holder.as_ref().filter(|bound| **bound != holder) {
            let certificate = *certificate.id();
            return Err(RegistryError::Bound { certificate, holder: bound.clone() });
        }
        Self::names(self.own_issuer(&certificate.facts)?, &holder)?;
        self.key(&certificate.facts.public_key, Some(&holder))?;
        match &active.rights {
            Rights::Operator => return Err(RegistryError::AskerNotAllowed(registration.asker)),
            Rights::Device(_) => self.register_own(registration, &active.holder, &holder, certificate)?,
            Rights::Claim(_) => self.register_claimed(registration, &active.holder, &holder, certificate)?,
        }
        Ok(())
    }

    /// A device registers its own thing again, with a new certificate.
    fn register_own(
        &mut self,
        registration: RegisterThing,
        own: &PrincipalKey,
        holder: &PrincipalKey,
        certificate: &Certificate,
    ) -> Decided {
        self.usable_template(&registration.template, TemplateKind::Rotation)?;
        if own != holder {
            return Err(RegistryError::NotOwnThing(holder.name.clone()));
        }
        let asker = registration.asker;
        self.not_replaced(&asker)?;
        self.thing_or_new(registration.thing, keep_unless_replaced(registration.if_exists))?;
        self.room(holder, 1, |other| *other.id() != asker)?;
        self.enter(certificate, holder, Enter::Active);
        self.push(Change::RotationStarted { old: asker, new: *certificate.id() });
        Ok(())
    }

    /// A claim brings a thing in.
    fn register_claimed(
        &mut self,
        registration: RegisterThing,
        claim: &PrincipalKey,
        holder: &PrincipalKey,
        certificate: &Certificate,
    ) -> Decided {
        let claim = self.claim(&claim.name)?;
        let name = &claim.spec.name;
        if !claim.spec.templates.contains(&registration.template) {
            return Err(RegistryError::TemplateNotAllowed(registration.template));
        }
        self.usable_template(&registration.template, TemplateKind::Fleet)?;
        if !registration
            .serial
            .as_deref()
            .map_or(!claim.spec.listed_only, |serial| claim.admits_serial(serial))
        {
            return Err(RegistryError::SerialNotListed(name.clone()));
        }
        let starts_over = self.starts_over(&registration, claim, certificate)?;
        if !starts_over {
            self.devices_left(claim)?;
        }
        let if_exists = match registration.if_exists {
            // The thing is there because of the answer that got lost.
            IfExists::Refuse if starts_over => IfExists::Keep,
            other => other,
        };
        let enter = registration.enter;
        self.thing_or_new(registration.thing, if_exists)?;
        let never_connected = registration.never_connected;
        let replaced = self.gives_way(holder, starts_over, &never_connected)?;
        self.enter(certificate, holder, enter);
        for old in replaced {
            self.push(Change::RotationStarted { old, new: *certificate.id() });
        }
        if !starts_over {
            self.push(Change::ClaimUsed { claim: name.clone(), thing: holder.name.clone() });
        }
        Ok(())
    }

    /// Makes room for what a claim brings in for `holder`; gives the certificates that go when the new one has connected.
    ///
    /// Whoever may bring an existing thing in again takes the place of what it had. A device that `starts_over` may be no
    /// device at all: a signing request that somebody else sent before shows the same key. So what has connected stays until
    /// the new one has, but what a rotation was to retire anyway.
    fn gives_way(
        &mut self,
        holder: &PrincipalKey,
        starts_over: bool,
        never_connected: &[CertificateId],
    ) -> Result<Vec<CertificateId>, RegistryError> {
        let retires = |other: &Certificate| {
            other.successor.as_deref().is_some_and(|successor| successor.retire_at.is_some())
        };
        let drop =
            |other: &Certificate| !starts_over || never_connected.contains(other.id()) || retires(other);
        self.room(holder, 1, drop)?;
        let stays = |other: &&Arc<Certificate>| !drop(other);
        Ok(self.registry.active_of(holder, self.now).filter(stays).map(|other| *other.id()).collect())
    }

    /// Whether the thing exists only because the device's earlier answer got lost; an error when the thing was
    /// provisioned before and nothing shows that this is the same device.
    ///
    /// It is the same device when it has the same key, or when what the thing has in force came by the same claim, has never
    /// connected, and is older than the moment in which several devices of one name would race.
    fn starts_over(
        &self,
        registration: &RegisterThing,
        claim: &Claim,
        certificate: &Certificate,
    ) -> Result<bool, RegistryError> {
        let name = &registration.thing.name;
        let Some(thing) = self.registry.thing(name) else { return Ok(false) };
        if thing.approved(self.now) {
            return Ok(false);
        }
        self.not_barred(name)?;
        if !thing.certified {
            return Ok(false);
        }
        let held: Vec<_> =
            thing.certificates().iter().filter_map(|id| self.registry.certificate(id)).collect();
        let same_key = held.iter().any(|other| other.facts.public_key == certificate.facts.public_key);
        let settled = self.now.before(self.registry.limits.start_over_after);
        let lost = |other: &Certificate| {
            other.enrolled_by.as_ref().is_some_and(|by| by.role == Role::Claim && by.name == claim.spec.name)
                && registration.never_connected.contains(other.id())
                && other.entered <= settled
        };
        let mut in_force = held.iter().filter(|other| other.status == Status::Active).peekable();
        if same_key || (in_force.peek().is_some() && in_force.all(|other| lost(other))) {
            Ok(true)
        } else {
            Err(RegistryError::AlreadyProvisioned(name.clone()))
        }
    }

    /// Binds a pending certificate and takes it out of waiting.
    fn enter(&mut self, certificate: &Certificate, holder: &PrincipalKey, enter: Enter) {
        let id = *certificate.id();
        if certificate.holder.is_none() {
            self.push(Change::CertificateBound { certificate: id, holder: holder.clone() });
        }
        let cause = Cause::ThingRegistered;
        self.push(match enter {
            Enter::Active => Change::CertificateActivated { certificate: id, cause },
            Enter::Inactive => Change::CertificateSuspended { certificate: id, cause },
        });
    }

    /// Nothing in force that has connected took the place of `asker`: whoever still has the old key, perhaps because it got
    /// about, would else put the device's new certificate out of force by asking for another.
    fn not_replaced(&self, asker: &CertificateId) -> Decided {
        let successor = self.registry.certificate(asker).and_then(|asker| asker.successor.as_deref());
        let Some(successor) = successor.filter(|successor| successor.retire_at.is_some()) else {
            return Ok(());
        };
        match self.registry.certificate(&successor.by) {
            Some(new) if self.registry.in_force(new, self.now) => {
                Err(RegistryError::Replaced { certificate: *asker, by: successor.by })
            }
            _ => Ok(()),
        }
    }

    /// Whose certificate is renewed by the owner of `asker`.
    pub(super) fn renewing(&self, asker: &CertificateId) -> Result<PrincipalKey, RegistryError> {
        let holder = self.asker(asker)?.holder;
        self.not_replaced(asker)?;
        match holder.role {
            Role::Device | Role::Operator => Ok(holder),
            Role::Claim => Err(RegistryError::AskerNotAllowed(*asker)),
        }
    }

    pub(super) fn renew(&mut self, certificate: NewCertificate, asker: &CertificateId) -> Decided {
        self.clock()?;
        let facts = certificate.facts();
        let ca = self.own_issuer(facts)?;
        self.newcomer(facts)?;
        let holder = self.renewing(asker)?;
        Self::names(ca, &holder)?;
        self.key(&facts.public_key, Some(&holder))?;
        self.room(&holder, 1, |other| other.id() != asker)?;
        let new = facts.id;
        self.add_certificate(certificate, Source::Own, Status::Active, Some(holder));
        self.push(Change::RotationStarted { old: *asker, new });
        Ok(())
    }

    pub(super) fn complete_rotation(&mut self, new: &CertificateId, retire_at: Wall) -> Decided {
        let Some(holder) = &self.known(new)?.holder else { return Ok(()) };
        for old in self.registry.certificates_of_holder(holder) {
            let successor = self.registry.certificate(old).and_then(|old| old.successor.as_deref());
            if successor.is_some_and(|successor| successor.by == *new && successor.retire_at.is_none()) {
                self.push(Change::RotationCompleted { old: *old, new: *new, retire_at });
            }
        }
        Ok(())
    }

    pub(super) fn retire_superseded(&mut self, at_most: usize) -> Decided {
        let (registry, now) = (self.registry, self.now);
        let due = registry.retiring.iter().take_while(|(at, _)| *at <= now).take(at_most);
        for old in due.filter_map(|(_, id)| registry.certificate(id)) {
            let Some(successor) = old.successor.as_deref() else { continue };
            let new = successor.by;
            let in_force = registry.certificate(&new).is_some_and(|new| {
                new.status == Status::Active && new.judge_validity(now) != Validity::Expired
            });
            let old = *old.id();
            self.push(if in_force {
                let reason = RevocationReason::Superseded;
                Change::CertificateRevoked { certificate: old, reason, cause: Cause::Rotation }
            } else {
                Change::RotationAbandoned { old, new }
            });
        }
        Ok(())
    }
}

/// A rotation is about a thing that exists, so its existence is no reason to refuse.
fn keep_unless_replaced(if_exists: IfExists) -> IfExists {
    match if_exists {
        IfExists::Refuse => IfExists::Keep,
        other => other,
    }
}
