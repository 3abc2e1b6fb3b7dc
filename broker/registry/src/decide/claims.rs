//! Claims, one-time tokens, templates.

use std::collections::BTreeSet;
use std::sync::Arc;

use signet_identity::{CertificateId, PrincipalKey, Role, TemplateName, ThingName};

use super::{Decided, Draft};
use crate::certificate::{NewCertificate, RevocationReason, Source, Status};
use crate::command::IfExists;
use crate::event::Change;
use crate::provisioning::{
    CLAIM_NETWORKS_MAX, CLAIM_TEMPLATES_MAX, Claim, ClaimSpec, DEVICE_SERIAL_BYTES_MAX, SERIALS_AT_ONCE_MAX,
    TEMPLATE_BODY_BYTES_MAX, TemplateKind, TemplateSpec, Token, TokenSpec,
};
use crate::registry::ACTIVE_MAX;
use crate::{RegistryError, TokenHash, UnknownPolicy, Wall};

impl<'a> Draft<'a> {
    pub(super) fn claim(&self, name: &ThingName) -> Result<&'a Arc<Claim>, RegistryError> {
        self.registry.claim(name).ok_or_else(|| RegistryError::NoClaim(name.clone()))
    }

    /// The template exists, can be asked for, and is of `kind`.
    pub(super) fn usable_template(&self, name: &TemplateName, kind: TemplateKind) -> Decided {
        let template = self.registry.template(name).ok_or_else(|| RegistryError::NoTemplate(name.clone()))?;
        if template.spec.kind != kind || !template.spec.enabled {
            return Err(RegistryError::TemplateNotAllowed(name.clone()));
        }
        Ok(())
    }

    fn claim_spec(&self, claim: &ClaimSpec) -> Decided {
        if claim.templates.is_empty() {
            return Err(RegistryError::Empty("templates"));
        }
        if claim.templates.len() > CLAIM_TEMPLATES_MAX {
            return Err(RegistryError::Full { what: "templates of a claim", max: CLAIM_TEMPLATES_MAX });
        }
        if claim.from.len() > CLAIM_NETWORKS_MAX {
            return Err(RegistryError::Full { what: "networks of a claim", max: CLAIM_NETWORKS_MAX });
        }
        if let Some(until) = claim.until {
            self.future(until)?;
        }
        for name in &claim.templates {
            let template =
                self.registry.template(name).ok_or_else(|| RegistryError::NoTemplate(name.clone()))?;
            if template.spec.kind != TemplateKind::Fleet {
                return Err(RegistryError::TemplateNotAllowed(name.clone()));
            }
        }
        Ok(())
    }

    pub(super) fn create_claim(&mut self, claim: ClaimSpec, certificate: NewCertificate) -> Decided {
        self.clock()?;
        let max = self.registry.limits.claims_max;
        if self.registry.claim(&claim.name).is_some() {
            return Err(RegistryError::ClaimExists(claim.name));
        }
        if self.registry.claims.len() >= max {
            return Err(RegistryError::Full { what: "claims", max });
        }
        self.claim_spec(&claim)?;
        let holder = PrincipalKey { role: Role::Claim, name: claim.name.clone() };
        let facts = certificate.facts();
        Self::names(self.own_issuer(facts)?, &holder)?;
        self.newcomer(facts)?;
        self.key(&facts.public_key, Some(&holder))?;
        self.push(Change::ClaimAdded { claim: Arc::new(claim) });
        self.add_certificate(certificate, Source::Own, Status::Active, Some(holder));
        Ok(())
    }

    pub(super) fn update_claim(&mut self, claim: ClaimSpec) -> Decided {
        if *self.claim(&claim.name)?.spec == claim {
            return Ok(());
        }
        self.claim_spec(&claim)?;
        self.push(Change::ClaimChanged { claim: Arc::new(claim) });
        Ok(())
    }

    pub(super) fn suspend_claim(&mut self, claim: ThingName, suspended: bool) -> Decided {
        if self.claim(&claim)?.suspended != suspended {
            self.push(Change::ClaimSuspended { claim, suspended });
        }
        Ok(())
    }

    pub(super) fn add_claim_serials(&mut self, claim: ThingName, serials: Vec<Arc<str>>) -> Decided {
        let known = self.claim(&claim)?;
        if serials.len() > SERIALS_AT_ONCE_MAX {
            return Err(RegistryError::Full { what: "serial numbers at once", max: SERIALS_AT_ONCE_MAX });
        }
        let right = |serial: &str| {
            (1..=DEVICE_SERIAL_BYTES_MAX).contains(&serial.len()) && !serial.contains(char::is_control)
        };
        if let Some(position) = serials.iter().position(|serial| !right(serial)) {
            return Err(RegistryError::DeviceSerial { position: position + 1 });
        }
        let added: BTreeSet<_> =
            serials.into_iter().filter(|serial| !known.serials.contains(&**serial)).collect();
        let max = self.registry.limits.serials_per_claim_max;
        if known.serials.len() + added.len() > max {
            return Err(RegistryError::Full { what: "serial numbers of a claim", max });
        }
        if !added.is_empty() {
            self.push(Change::ClaimSerialsAdded { claim, serials: added.into_iter().collect() });
        }
        Ok(())
    }

    pub(super) fn create_token(&mut self, token: TokenSpec) -> Decided {
        self.future(token.until)?;
        let max = self.registry.limits.tokens_max;
        if self.registry.token(&token.hash).is_some() {
            return Err(RegistryError::TokenExists);
        }
        if self.registry.tokens.len() >= max {
            return Err(RegistryError::Full { what: "one-time tokens", max });
        }
        self.push(Change::TokenAdded { token: Box::new(token) });
        Ok(())
    }

    /// The token, when it can be used.
    fn usable_token(&self, token: &TokenHash) -> Result<&'a Token, RegistryError> {
        match self.registry.token(token) {
            Some(known) if known.usable(self.now) => Ok(known),
            _ => Err(RegistryError::OneTimeToken),
        }
    }

    /// Whether an outside authority has made the thing of `token` its own by itself since the token was made: then that was meant
    /// for another device than the one that has the name now.
    fn taken_since(&self, token: &Token, held: &[CertificateId]) -> bool {
        let first = held.iter().find_map(|id| self.registry.certificate(id));
        first.is_some_and(|first| {
            let ca = self.registry.ca_by_key(&first.facts.issuer).map(|ca| &ca.settings);
            let by_itself = ca.is_some_and(|of| {
                matches!(of.unknown, UnknownPolicy::Auto | UnknownPolicy::Jitp(_)) && !of.joins_others
            });
            first.source == Source::Outside && first.registered >= token.added && by_itself
        })
    }

    /// For whom `token` gets a certificate. A token is an operator's word, unless the thing lost its standing after that, or
    /// became another's.
    pub(super) fn token_holder(&self, token: &TokenHash) -> Result<PrincipalKey, RegistryError> {
        let token = self.usable_token(token)?;
        let name = &token.spec.thing.name;
        let held = self.registry.thing(name).map_or(&[][..], |thing| thing.certificates());
        let lost_since = |certificate: &crate::Certificate| match certificate.status {
            Status::Revoked { since, reason } if reason != RevocationReason::Superseded => Some(since),
            Status::Inactive { since } => Some(since),
            _ => None,
        };
        let lost =
            held.iter().filter_map(|id| self.registry.certificate(id)).filter_map(|c| lost_since(c)).max();
        if lost.is_some_and(|lost| lost >= token.added) {
            self.not_barred(name)?;
        }
        let approved = self.registry.thing(name).is_some_and(|thing| thing.approved(self.now));
        if !approved && self.taken_since(token, held) {
            return Err(RegistryError::AlreadyProvisioned(name.clone()));
        }
        Ok(PrincipalKey { role: Role::Device, name: name.clone() })
    }

    /// Makes room for what a token gets `holder`. Of its certificates of this broker with which nobody has ever connected, the
    /// oldest give way, no more than are in the way: the answers that they were in got lost.
    pub(super) fn room_by_token(
        &mut self,
        holder: &PrincipalKey,
        never_connected: &[CertificateId],
    ) -> Decided {
        let in_force = || self.registry.active_of(holder, self.now);
        let over = (in_force().count() + 1).saturating_sub(ACTIVE_MAX);
        let lost: Vec<CertificateId> = in_force()
            .filter(|held| held.source == Source::Own && never_connected.contains(held.id()))
            .map(|held| *held.id())
            .take(over)
            .collect();
        self.room(holder, 1, |other| lost.contains(other.id()))
    }

    pub(super) fn use_token(
        &mut self,
        token: TokenHash,
        certificate: NewCertificate,
        never_connected: &[CertificateId],
    ) -> Decided {
        self.clock()?;
        let holder = self.token_holder(&token)?;
        let thing = self.usable_token(&token)?.spec.thing.clone();
        let facts = certificate.facts();
        Self::names(self.own_issuer(facts)?, &holder)?;
        self.newcomer(facts)?;
        self.key(&facts.public_key, Some(&holder))?;
        self.thing_or_new(thing, IfExists::Keep)?;
        self.room_by_token(&holder, never_connected)?;
        self.push(Change::TokenUsed { token, certificate: facts.id });
        self.add_certificate(certificate, Source::Own, Status::Active, Some(holder));
        Ok(())
    }

    pub(super) fn delete_token(&mut self, token: TokenHash) -> Decided {
        if self.registry.token(&token).is_none() {
            return Err(RegistryError::OneTimeToken);
        }
        self.push(Change::TokenDeleted { token });
        Ok(())
    }

    pub(super) fn expire_tokens(&mut self, before: Wall, at_most: usize) -> Decided {
        let before = before.min(self.now);
        let due = self.registry.token_deadlines.iter().take_while(|(until, _)| *until < before).take(at_most);
        for (_, token) in due {
            self.push(Change::TokenDeleted { token: *token });
        }
        Ok(())
    }

    pub(super) fn set_template(&mut self, template: TemplateSpec) -> Decided {
        if template.body.len() > TEMPLATE_BODY_BYTES_MAX {
            return Err(RegistryError::Full { what: "bytes of a template", max: TEMPLATE_BODY_BYTES_MAX });
        }
        let known = self.registry.template(&template.name);
        if known.is_some_and(|known| known.spec == template) {
            return Ok(());
        }
        let max = self.registry.limits.templates_max;
        if known.is_none() && self.registry.templates.len() >= max {
            return Err(RegistryError::Full { what: "templates", max });
        }
        if known.is_some_and(|known| known.spec.kind != template.kind) {
            self.unused_template(&template.name)?;
        }
        let version = known.map_or(1, |known| known.version.saturating_add(1));
        self.push(Change::TemplateSet { template: Box::new(template), version });
        Ok(())
    }

    /// No claim and no authority names the template.
    fn unused_template(&self, name: &TemplateName) -> Decided {
        let by_claim = self.registry.claims().any(|claim| claim.spec.templates.contains(name));
        let by_ca = self.registry.cas().any(|ca| ca.settings.unknown == UnknownPolicy::Jitp(name.clone()));
        if by_claim || by_ca { Err(RegistryError::TemplateInUse(name.clone())) } else { Ok(()) }
    }

    pub(super) fn delete_template(&mut self, name: TemplateName) -> Decided {
        if self.registry.template(&name).is_none() {
            return Err(RegistryError::NoTemplate(name));
        }
        self.unused_template(&name)?;
        self.push(Change::TemplateDeleted { template: name });
        Ok(())
    }
}
