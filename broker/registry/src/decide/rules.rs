//! What several decisions ask.

use std::sync::Arc;

use signet_identity::{CertificateId, PrincipalKey, Role, ThingName, Validity};

use super::{Decided, Draft};
use crate::certificate::{Certificate, Der, Facts, NewCertificate, RevocationReason, Source, Status};
use crate::event::{Cause, Change, DeletedBecause};
use crate::registry::ACTIVE_MAX;
use crate::standing::{Active, Standing, Suspended};
use crate::thing::{Thing, ThingSpec};
use crate::{Ca, IfExists, KeyHash, RegistryError, Wall};

impl<'a> Draft<'a> {
    /// Nothing is issued while the clock is behind the last event: validity periods and deadlines would be wrong.
    pub(super) fn clock(&self) -> Decided {
        let last = self.registry.last_event_at();
        if self.now < last.before(self.registry.limits.clock_behind_max) {
            return Err(RegistryError::ClockBehind { now: self.now, last });
        }
        Ok(())
    }

    pub(super) fn future(&self, until: Wall) -> Decided {
        if until <= self.now { Err(RegistryError::DeadlinePassed(until)) } else { Ok(()) }
    }

    pub(super) fn known(&self, id: &CertificateId) -> Result<&'a Arc<Certificate>, RegistryError> {
        self.registry.certificate(id).ok_or(RegistryError::NoCertificate(*id))
    }

    /// The authority that signed `facts`, which must not be revoked.
    pub(super) fn issuer(&self, facts: &Facts) -> Result<&'a Arc<Ca>, RegistryError> {
        let ca = self.registry.ca_by_key(&facts.issuer).ok_or(RegistryError::NoIssuer)?;
        if ca.revoked.is_some() {
            return Err(RegistryError::CaRevoked(ca.id));
        }
        Ok(ca)
    }

    /// The authority of this broker that signed `facts`.
    pub(super) fn own_issuer(&self, facts: &Facts) -> Result<&'a Arc<Ca>, RegistryError> {
        let ca = self.issuer(facts)?;
        if ca.source != Source::Own {
            return Err(RegistryError::CaKind(ca.id));
        }
        Ok(ca)
    }

    pub(super) fn names(ca: &Ca, holder: &PrincipalKey) -> Decided {
        if ca.may_be_for(holder) {
            Ok(())
        } else {
            Err(RegistryError::NameNotAllowed { ca: ca.id, holder: holder.clone() })
        }
    }

    /// Whether a certificate with these facts can come into the registry at all.
    pub(super) fn newcomer(&self, facts: &Facts) -> Decided {
        let registry = self.registry;
        let max = registry.limits.certificates_max;
        if registry.certificates.len() >= max {
            return Err(RegistryError::Full { what: "certificates", max });
        }
        if registry.certificate(&facts.id).is_some() {
            return Err(RegistryError::CertificateExists(facts.id));
        }
        if let Some(other) = registry.certificate_by_serial(&facts.issuer, &facts.serial) {
            return Err(RegistryError::SerialExists { serial: facts.serial, other: *other.id() });
        }
        if registry.serial_revoked(&facts.issuer, &facts.serial).is_some() {
            return Err(RegistryError::SerialRevoked(facts.serial));
        }
        if facts.not_after < self.now.unix_secs() {
            return Err(RegistryError::Expired(facts.id));
        }
        Ok(())
    }

    /// Whether `key` may be certified for `holder`, or for somebody who is not known yet: it is no authority's, in no
    /// certificate that was revoked, and in no other holder's.
    pub(super) fn key(&self, key: &KeyHash, holder: Option<&PrincipalKey>) -> Decided {
        if let Some(ca) = self.registry.ca_by_key(key) {
            return Err(RegistryError::KeyOfCa(ca.id));
        }
        for certificate in self.registry.certificates_of_key(key) {
            let other = *certificate.id();
            match &certificate.status {
                Status::Revoked { reason: RevocationReason::Superseded, .. } => {}
                Status::Revoked { .. } => return Err(RegistryError::KeyRevoked { other }),
                _ => {}
            }
            if let (Some(theirs), Some(ours)) = (&certificate.holder, holder)
                && theirs != ours
            {
                return Err(RegistryError::KeyInUse { other });
            }
        }
        Ok(())
    }

    /// Makes room for one more certificate in force of `holder`: those that are expired are suspended, those that
    /// `drop` picks are revoked as superseded. Then for `records` more in any state.
    pub(super) fn room(
        &mut self,
        holder: &PrincipalKey,
        records: usize,
        drop: impl Fn(&Certificate) -> bool,
    ) -> Decided {
        let registry = self.registry;
        let held: Vec<_> = registry
            .certificates_of_holder(holder)
            .iter()
            .filter_map(|id| registry.certificate(id))
            .collect();
        let mut in_force = 0;
        for certificate in held.iter().filter(|c| c.status == Status::Active) {
            let id = *certificate.id();
            if drop(certificate) {
                let reason = RevocationReason::Superseded;
                self.push(Change::CertificateRevoked { certificate: id, reason, cause: Cause::Rotation });
            } else if registry.in_force(certificate, self.now) {
                in_force += 1;
            } else {
                self.push(Change::CertificateSuspended { certificate: id, cause: Cause::Expired });
            }
        }
        if in_force >= ACTIVE_MAX {
            return Err(RegistryError::TooManyActive { holder: holder.clone(), max: ACTIVE_MAX });
        }
        self.room_for_records(holder, records)
    }

    /// Makes room for `records` more certificates of `holder` in any state. Expired ones are forgotten first, then those of
    /// this broker that a rotation replaced, the oldest first; of these the number stays revoked.
    pub(super) fn room_for_records(&mut self, holder: &PrincipalKey, records: usize) -> Decided {
        let registry = self.registry;
        let held = registry.certificates_of_holder(holder);
        let max = registry.limits.certificates_per_holder_max;
        let over = (held.len() + records).saturating_sub(max);
        if over == 0 {
            return Ok(());
        }
        let known = || held.iter().filter_map(|id| registry.certificate(id));
        let past = |c: &Certificate| c.judge_validity(self.now) == Validity::Expired;
        let expired: Vec<_> = known().filter(|c| c.status != Status::Active && past(c)).take(over).collect();
        let replaced: Vec<_> = known()
            .filter(|c| c.source == Source::Own && !past(c))
            .filter(|c| matches!(c.status, Status::Revoked { reason: RevocationReason::Superseded, .. }))
            .take(over - expired.len())
            .collect();
        // Half of the table is kept for operators.
        let numbers = registry.revoked_serials.len() + replaced.len();
        let listed = replaced.is_empty() || numbers <= registry.limits.revoked_serials_max / 2;
        if expired.len() + replaced.len() < over || !listed {
            return Err(RegistryError::Full { what: "certificates of one holder", max });
        }
        for certificate in expired {
            self.delete(certificate, DeletedBecause::LongExpired);
        }
        for certificate in replaced {
            self.delete(certificate, DeletedBecause::Replaced);
            let (issuer, serial) = (certificate.facts.issuer, certificate.facts.serial);
            self.push(Change::SerialRevoked { issuer, serial, reason: RevocationReason::Superseded });
        }
        Ok(())
    }

    /// The holder exists, or is a thing that is added, or an operator, who needs no record.
    pub(super) fn holder(&mut self, holder: &PrincipalKey) -> Decided {
        match holder.role {
            Role::Operator => Ok(()),
            Role::Claim => self.claim(&holder.name).map(drop),
            Role::Device => self.thing_or_new(ThingSpec::named(holder.name.clone()), IfExists::Keep),
        }
    }

    pub(super) fn thing(&self, name: &ThingName) -> Result<&'a Arc<Thing>, RegistryError> {
        self.registry.thing(name).ok_or_else(|| RegistryError::NoThing(name.clone()))
    }

    /// Adds the thing, or deals with the one that exists as `if_exists` says.
    pub(super) fn thing_or_new(&mut self, thing: ThingSpec, if_exists: IfExists) -> Decided {
        match (self.registry.thing(&thing.name), if_exists) {
            (None, _) => self.add_thing(thing),
            (Some(_), IfExists::Refuse) => Err(RegistryError::ThingExists(thing.name)),
            (Some(_), IfExists::Keep) => Ok(()),
            (Some(known), IfExists::Replace) => {
                self.replace_spec(known, thing);
                Ok(())
            }
            (Some(known), IfExists::Adjust(overrides)) => {
                let adjusted = known.spec.adjusted(thing, &overrides)?;
                self.replace_spec(known, adjusted);
                Ok(())
            }
        }
    }

    pub(super) fn replace_spec(&mut self, known: &Thing, thing: ThingSpec) {
        if known.spec != thing {
            let version = known.version.saturating_add(1);
            self.push(Change::ThingChanged { thing: Box::new(thing), version });
        }
    }

    /// Whether the thing `name`, if it exists, may be given a certificate without an operator: none of it was revoked or is
    /// suspended, or an operator has approved.
    pub(super) fn not_barred(&self, name: &ThingName) -> Decided {
        let Some(thing) = self.registry.thing(name) else { return Ok(()) };
        if thing.approved(self.now) {
            return Ok(());
        }
        let suspended = |id: &CertificateId| {
            self.registry.certificate(id).is_some_and(|c| {
                matches!(c.status, Status::Inactive { .. }) && c.judge_validity(self.now) != Validity::Expired
            })
        };
        if thing.barred || thing.certificates().iter().any(suspended) {
            return Err(RegistryError::Barred(name.clone()));
        }
        Ok(())
    }

    /// As whom the owner of the certificate `asker` acts.
    pub(super) fn asker(&self, asker: &CertificateId) -> Result<Active, RegistryError> {
        let certificate = self.registry.certificate(asker).ok_or(RegistryError::AskerNotAllowed(*asker))?;
        let in_force = self.registry.in_force(certificate, self.now);
        match (self.registry.standing_of(certificate, self.now), &certificate.holder) {
            (Standing::Active(active), _) if in_force => Ok(active),
            (Standing::Inactive(Suspended::Claim), Some(claim)) => {
                Err(RegistryError::ClaimClosed(claim.name.clone()))
            }
            _ => Err(RegistryError::AskerNotAllowed(*asker)),
        }
    }

    /// Brings a certificate in. The event keeps the bytes of what this broker signed.
    pub(super) fn add_certificate(
        &mut self,
        certificate: NewCertificate,
        source: Source,
        status: Status,
        holder: Option<PrincipalKey>,
    ) {
        let (facts, der): (Facts, Der) = certificate.into_parts();
        // A pending enrolment has them already.
        let der = (source == Source::Own && !matches!(status, Status::Pending(_))).then_some(der);
        self.push(Change::CertificateAdded { facts: Arc::new(facts), source, status, holder, der });
    }
}
