//! Applying events.

use std::sync::Arc;

use signet_identity::{CertificateId, PrincipalKey, Role, ThingName};

use crate::certificate::{Certificate, Enrolment, Facts, Pending, Source, Status, Succession};
use crate::event::{Change, Event};
use crate::provisioning::{Claim, ClaimSpec, Template, Token};
use crate::registry::{ByKey, BySerial, KeyPlace, Registry, SerialPlace};
use crate::thing::{Held, Quarantine, Thing, ThingSpec};
use crate::{Approval, ApprovalRequest, Ca, CaId, RevocationReason, Wall};

impl Registry {
    /// Takes what happened into the registry. It cannot fail, and does nothing else.
    ///
    /// An event that does not fit the state, which only a damaged store can hold, changes as much of it as fits.
    pub fn apply(&mut self, event: &Event) {
        self.events = self.events.saturating_add(1);
        self.last = match event.change {
            Change::ClockAccepted { .. } => event.at,
            _ => self.last.max(event.at),
        };
        match &event.change {
            Change::ThingAdded { .. }
            | Change::ThingChanged { .. }
            | Change::ThingDeleted { .. }
            | Change::ThingApproved { .. }
            | Change::ThingQuarantined { .. }
            | Change::ThingReleased { .. } => self.apply_to_thing(&event.change, event.at),
            Change::CertificateAdded { .. }
            | Change::CertificateBound { .. }
            | Change::CertificateActivated { .. }
            | Change::CertificateSuspended { .. }
            | Change::CertificateRevoked { .. }
            | Change::CertificateDeleted { .. }
            | Change::SerialRevoked { .. }
            | Change::RotationStarted { .. }
            | Change::RotationCompleted { .. }
            | Change::RotationAbandoned { .. } => self.apply_to_certificate(&event.change, event.at),
            Change::CaAdded { .. }
            | Change::CaChanged { .. }
            | Change::CaRevoked { .. }
            | Change::CaUsed { .. }
            | Change::CaDeleted { .. } => {
                self.apply_to_ca(&event.change, event.at);
            }
            Change::ClaimAdded { .. }
            | Change::ClaimChanged { .. }
            | Change::ClaimSuspended { .. }
            | Change::ClaimSerialsAdded { .. }
            | Change::ClaimUsed { .. } => self.apply_to_claim(&event.change, event.at),
            Change::TokenAdded { .. }
            | Change::TokenUsed { .. }
            | Change::TokenDeleted { .. }
            | Change::TemplateSet { .. }
            | Change::TemplateDeleted { .. }
            | Change::ApprovalAsked { .. }
            | Change::ApprovalDecided { .. }
            | Change::ApprovalEnded { .. } => self.apply_to_rest(&event.change, event.at),
            Change::ClockAccepted { .. } | Change::Refused { .. } | Change::Noted { .. } => {}
        }
    }

    fn apply_to_thing(&mut self, change: &Change, at: Wall) {
        match change {
            Change::ThingAdded { thing } => {
                self.things.insert(thing.name.clone(), Arc::new(new_thing(thing, at)));
            }
            Change::ThingChanged { thing, version } => self.change_thing(&thing.name, |known| {
                known.spec = ThingSpec::clone(thing);
                known.version = *version;
            }),
            Change::ThingDeleted { thing } => {
                self.things.remove(thing);
            }
            Change::ThingApproved { thing, until } => {
                self.change_thing(thing, |known| known.approved_until = *until);
            }
            Change::ThingQuarantined { thing, why } => {
                let quarantine = Quarantine { since: at, why: why.clone() };
                self.change_thing(thing, |known| known.quarantine = Some(quarantine));
            }
            Change::ThingReleased { thing } => self.change_thing(thing, |known| known.quarantine = None),
            _ => {}
        }
    }

    fn apply_to_certificate(&mut self, change: &Change, at: Wall) {
        match change {
            Change::CertificateAdded { facts, source, status, holder, der: _ } => {
                self.add_certificate(facts, *source, status, holder.as_ref(), at);
            }
            Change::CertificateBound { certificate, holder } => {
                self.change_certificate(certificate, |known| known.holder = Some(holder.clone()));
                self.hold(holder, certificate);
            }
            Change::CertificateActivated { certificate, .. } => {
                self.set_status(certificate, Status::Active, at);
            }
            Change::CertificateSuspended { certificate, .. } => {
                self.set_status(certificate, Status::Inactive { since: at }, at);
            }
            Change::CertificateRevoked { certificate, reason, .. } => self.revoke(certificate, *reason, at),
            Change::CertificateDeleted { certificate, .. } => self.delete_certificate(certificate),
            Change::SerialRevoked { issuer, serial, reason } => {
                self.revoked_serials.insert((*issuer, *serial), (at, *reason));
            }
            Change::RotationStarted { old, new } => self.succeed(old, Some((*new, None))),
            Change::RotationCompleted { old, new, retire_at } => {
                self.succeed(old, Some((*new, Some(*retire_at))));
            }
            Change::RotationAbandoned { old, .. } => self.succeed(old, None),
            _ => {}
        }
    }

    fn apply_to_ca(&mut self, change: &Change, at: Wall) {
        match change {
            Change::CaAdded { ca } => {
                self.ca_keys.insert(ca.id, ca.key);
                self.cas.insert(ca.key, Arc::new(Ca::clone(ca)));
            }
            Change::CaChanged { ca, settings } => {
                self.change_ca(ca, |known| known.settings.clone_from(settings));
            }
            Change::CaRevoked { ca, reason } => {
                self.change_ca(ca, |known| known.revoked = Some((at, *reason)));
            }
            Change::CaUsed { ca, .. } => {
                self.change_ca(ca, |known| known.devices = known.devices.saturating_add(1));
            }
            Change::CaDeleted { ca } => {
                if let Some(key) = self.ca_keys.remove(ca) {
                    self.cas.remove(&key);
                }
            }
            _ => {}
        }
    }

    fn apply_to_claim(&mut self, change: &Change, at: Wall) {
        match change {
            Change::ClaimAdded { claim } => {
                self.claims.insert(claim.name.clone(), Arc::new(new_claim(claim, at)));
            }
            Change::ClaimChanged { claim } => {
                self.change_claim(&claim.name, |known| known.spec = Arc::clone(claim));
            }
            Change::ClaimSuspended { claim, suspended } => {
                self.change_claim(claim, |known| known.suspended = *suspended);
            }
            Change::ClaimSerialsAdded { claim, serials } => {
                self.change_claim(claim, |known| known.serials.extend(serials.iter().map(Arc::clone)));
            }
            Change::ClaimUsed { claim, .. } => {
                self.change_claim(claim, |known| known.devices = known.devices.saturating_add(1));
            }
            _ => {}
        }
    }

    fn apply_to_rest(&mut self, change: &Change, at: Wall) {
        match change {
            Change::TokenAdded { token } => {
                let token = Token { spec: (**token).clone(), added: at, used: None };
                self.take_token(Arc::new(token));
            }
            Change::TokenUsed { token, certificate } => {
                if let Some(known) = self.tokens.get_mut(token) {
                    Arc::make_mut(known).used = Some((at, *certificate));
                }
            }
            Change::TokenDeleted { token } => {
                if let Some(known) = self.tokens.remove(token) {
                    self.token_deadlines.remove(&(known.spec.until, *token));
                    self.tokens_of.remove(&(known.spec.thing.name.clone(), *token));
                }
            }
            Change::TemplateSet { template, version } => {
                let name = template.name.clone();
                let template = Template { spec: (**template).clone(), version: *version, changed: at };
                self.templates.insert(name, Arc::new(template));
            }
            Change::TemplateDeleted { template } => {
                self.templates.remove(template);
            }
            Change::ApprovalAsked { request, until } => self.ask_approval(request, *until, at),
            Change::ApprovalDecided { request, approved, until, .. } => {
                if let Some(known) = self.approvals.get_mut(request) {
                    let known = Arc::make_mut(known);
                    (known.approved, known.until) = (Some(*approved), *until);
                }
            }
            Change::ApprovalEnded { request, .. } => {
                self.approvals.remove(request);
            }
            _ => {}
        }
    }

    pub(crate) fn take_token(&mut self, token: Arc<Token>) {
        let (hash, name) = (token.spec.hash, token.spec.thing.name.clone());
        self.token_deadlines.insert((token.spec.until, hash));
        self.tokens_of.insert((name, hash));
        self.tokens.insert(hash, token);
    }

    /// A request that is there is asked for again: what was said of it stays.
    fn ask_approval(&mut self, request: &ApprovalRequest, until: Wall, at: Wall) {
        let known = self.approvals.get(&request.id);
        let (first, approved) = known.map_or((at, None), |known| (known.first, known.approved));
        let approval = Approval { request: request.clone(), first, last: at, approved, until };
        self.approvals.insert(request.id, Arc::new(approval));
    }

    fn add_certificate(
        &mut self,
        facts: &Arc<Facts>,
        source: Source,
        status: &Status,
        holder: Option<&PrincipalKey>,
        at: Wall,
    ) {
        let id = facts.id;
        let certificate = Certificate {
            facts: Arc::clone(facts),
            source,
            status: status.clone(),
            holder: holder.cloned(),
            registered: at,
            entered: at,
            enrolled_by: None,
            successor: None,
        };
        *self.counts.of(status.kind()) += 1;
        self.by_serial.insert(BySerial(Arc::clone(facts)));
        self.by_key.insert(ByKey(Arc::clone(facts)));
        self.certificates.insert(id, Arc::new(certificate));
        if let Status::Pending(pending) = status {
            self.await_activation(facts, pending);
        }
        if let Some(holder) = holder {
            self.hold(holder, &id);
        }
    }

    pub(crate) fn await_activation(&mut self, facts: &Facts, pending: &Pending) {
        let id = &facts.id;
        match pending.until {
            Some(until) => {
                self.deadlines.insert((until, *id));
            }
            None => {
                let waiting = self.waiting_of(&facts.issuer).saturating_add(1);
                self.waiting.insert(facts.issuer, waiting);
            }
        }
        if let Some(enrolment) = &pending.enrolment {
            self.ownership.insert(enrolment.token, *id);
            self.count_pending(&enrolment.by, |count| count.saturating_add(1));
            if let Some(place) = place_of_device(id, pending, enrolment) {
                self.pending_of_devices.insert(place);
            }
        }
    }

    fn stop_awaiting(&mut self, facts: &Facts, pending: &Pending) {
        let id = &facts.id;
        match (pending.until, self.waiting_of(&facts.issuer)) {
            (Some(until), _) => {
                self.deadlines.remove(&(until, *id));
            }
            (None, 0 | 1) => {
                self.waiting.remove(&facts.issuer);
            }
            (None, waiting) => {
                self.waiting.insert(facts.issuer, waiting - 1);
            }
        }
        if let Some(enrolment) = &pending.enrolment {
            self.ownership.remove(&enrolment.token);
            self.count_pending(&enrolment.by, |count| count.saturating_sub(1));
            if let Some(place) = place_of_device(id, pending, enrolment) {
                self.pending_of_devices.remove(&place);
            }
        }
    }

    fn count_pending(&mut self, by: &PrincipalKey, count: impl FnOnce(u32) -> u32) {
        if by.role == Role::Claim {
            self.change_claim(&by.name, |claim| claim.pending = count(claim.pending));
        }
    }

    fn set_status(&mut self, id: &CertificateId, status: Status, at: Wall) {
        let mut before = None;
        let kind = status.kind();
        let facts = self.certificate(id).map(|known| Arc::clone(&known.facts));
        self.change_certificate(id, |known| {
            if let Status::Pending(pending) = &known.status {
                known.entered = at;
                known.enrolled_by = pending.enrolment.as_ref().map(|enrolment| enrolment.by.clone());
            }
            before = Some(std::mem::replace(&mut known.status, status));
        });
        let Some(before) = before else { return };
        let count = self.counts.of(before.kind());
        *count = count.saturating_sub(1);
        *self.counts.of(kind) += 1;
        if let (Status::Pending(pending), Some(facts)) = (before, facts) {
            self.stop_awaiting(&facts, &pending);
        }
    }

    fn revoke(&mut self, id: &CertificateId, reason: RevocationReason, at: Wall) {
        self.set_status(id, Status::Revoked { since: at, reason }, at);
        self.succeed(id, None);
        let holder = self.certificate(id).and_then(|certificate| certificate.holder.clone());
        if let Some(PrincipalKey { role: Role::Device, name }) = holder
            && reason != RevocationReason::Superseded
        {
            self.change_thing(&name, |thing| thing.barred = true);
        }
    }

    fn delete_certificate(&mut self, id: &CertificateId) {
        self.succeed(id, None);
        let Some(known) = self.certificates.remove(id) else { return };
        let facts = &known.facts;
        self.by_serial.remove(&SerialPlace(&facts.issuer, &facts.serial));
        self.by_key.remove(&KeyPlace(&facts.public_key, facts.id));
        let count = self.counts.of(known.status.kind());
        *count = count.saturating_sub(1);
        if let Status::Pending(pending) = &known.status {
            self.stop_awaiting(facts, pending);
        }
        if let Some(holder) = &known.holder {
            self.change_held(holder, |held| held.retain(|other| other != id));
        }
    }

    /// Sets what takes the place of the certificate `old`, and when.
    fn succeed(&mut self, old: &CertificateId, by: Option<(CertificateId, Option<Wall>)>) {
        let Some(known) = self.certificate(old) else { return };
        let before = known.successor.as_deref().copied();
        if before.is_none() && by.is_none() {
            return;
        }
        if let Some(Succession { retire_at: Some(at), .. }) = before {
            self.retiring.remove(&(at, *old));
        }
        if let Some((_, Some(at))) = by {
            self.retiring.insert((at, *old));
        }
        let successor = by.map(|(by, retire_at)| Box::new(Succession { by, retire_at }));
        self.change_certificate(old, |known| known.successor = successor);
    }

    /// Makes the certificate `id` one of `holder`'s.
    fn hold(&mut self, holder: &PrincipalKey, id: &CertificateId) {
        if holder.role == Role::Device {
            // Only an operator, or what an operator approved, gives a certificate to a thing that has none in force.
            let in_force =
                |id: &CertificateId| self.certificate(id).is_some_and(|c| c.status == Status::Active);
            let renewed = self.certificates_of_holder(holder).iter().any(in_force);
            self.change_thing(&holder.name, |thing| {
                thing.certified = true;
                thing.barred &= renewed;
                if !renewed {
                    thing.approved_until = None;
                }
            });
        }
        if holder.role == Role::Operator && !self.operators.contains_key(&holder.name) {
            self.operators.insert(holder.name.clone(), Held::new());
        }
        self.change_held(holder, |held| {
            if !held.contains(id) {
                held.push(*id);
            }
        });
    }

    fn change_held(&mut self, holder: &PrincipalKey, change: impl FnOnce(&mut Held)) {
        match holder.role {
            Role::Device => self.change_thing(&holder.name, |thing| change(&mut thing.held)),
            Role::Claim => self.change_claim(&holder.name, |claim| change(&mut claim.held)),
            Role::Operator => {
                let Some(held) = self.operators.get_mut(&holder.name) else { return };
                change(held);
                if held.is_empty() {
                    self.operators.remove(&holder.name);
                }
            }
        }
    }

    fn change_thing(&mut self, name: &ThingName, change: impl FnOnce(&mut Thing)) {
        if let Some(known) = self.things.get_mut(name) {
            change(Arc::make_mut(known));
        }
    }

    fn change_claim(&mut self, name: &ThingName, change: impl FnOnce(&mut Claim)) {
        if let Some(known) = self.claims.get_mut(name) {
            change(Arc::make_mut(known));
        }
    }

    fn change_certificate(&mut self, id: &CertificateId, change: impl FnOnce(&mut Certificate)) {
        if let Some(known) = self.certificates.get_mut(id) {
            change(Arc::make_mut(known));
        }
    }

    fn change_ca(&mut self, id: &CaId, change: impl FnOnce(&mut Ca)) {
        if let Some(known) = self.ca_keys.get(id).and_then(|key| self.cas.get_mut(key)) {
            change(Arc::make_mut(known));
        }
    }
}

/// The place of the pending certificate `id` among those that devices have asked for.
fn place_of_device(
    id: &CertificateId,
    pending: &Pending,
    enrolment: &Enrolment,
) -> Option<(ThingName, Wall, CertificateId)> {
    let until = pending.until.unwrap_or_default();
    (enrolment.by.role == Role::Device).then(|| (enrolment.by.name.clone(), until, *id))
}

fn new_thing(spec: &ThingSpec, at: Wall) -> Thing {
    Thing {
        spec: spec.clone(),
        version: 1,
        added: at,
        certified: false,
        barred: false,
        approved_until: None,
        quarantine: None,
        held: Held::new(),
    }
}

fn new_claim(spec: &Arc<ClaimSpec>, at: Wall) -> Claim {
    Claim {
        spec: Arc::clone(spec),
        added: at,
        suspended: false,
        devices: 0,
        pending: 0,
        serials: imbl::OrdSet::new(),
        held: Held::new(),
    }
}
