//! Authorities.

use signet_identity::{Role, Validity};

use super::{Decided, Draft};
use crate::certificate::Source;
use crate::event::Change;
use crate::provisioning::TemplateKind;
use crate::{Ca, CaId, CaSettings, NewCa, PATTERNS_MAX, RegistryError, UnknownPolicy};

impl Draft<'_> {
    pub(super) fn add_ca(&mut self, new: NewCa) -> Decided {
        let facts = new.certificate.facts();
        let ca = Ca {
            id: new.id(),
            key: facts.public_key,
            subject: facts.subject.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            source: new.source,
            settings: new.settings,
            added: self.now,
            devices: 0,
            revoked: None,
        };
        if let Some(known) = self.registry.ca(&ca.id).or_else(|| self.registry.ca_by_key(&ca.key)) {
            return Err(RegistryError::CaExists(known.id));
        }
        let max = self.registry.limits.cas_max;
        if self.registry.cas.len() >= max {
            return Err(RegistryError::Full { what: "authorities", max });
        }
        if Validity::judge(ca.not_before, ca.not_after, self.now.unix_secs()) == Validity::Expired {
            return Err(RegistryError::Expired(facts.id));
        }
        self.settings(&ca)?;
        self.push(Change::CaAdded { ca: Box::new(ca) });
        Ok(())
    }

    pub(super) fn update_ca(&mut self, id: &CaId, settings: CaSettings) -> Decided {
        let known = self.ca(id)?;
        if known.revoked.is_some() {
            return Err(RegistryError::CaRevoked(*id));
        }
        if known.settings == settings {
            return Ok(());
        }
        let ca = Ca { settings, ..Ca::clone(known) };
        self.settings(&ca)?;
        self.push(Change::CaChanged { ca: *id, settings: Box::new(ca.settings) });
        Ok(())
    }

    /// Whether `ca` may have its settings.
    fn settings(&self, ca: &Ca) -> Decided {
        let settings = &ca.settings;
        if settings.names.len() > PATTERNS_MAX {
            return Err(RegistryError::Full { what: "patterns of names", max: PATTERNS_MAX });
        }
        if settings.shares_names_with.len() > self.registry.limits.cas_max {
            return Err(RegistryError::Full { what: "authorities", max: self.registry.limits.cas_max });
        }
        match &settings.unknown {
            UnknownPolicy::RegisteredOnly => {}
            // What this broker signed and does not know is forged; a claim or an operator is somebody's decision.
            _ if ca.source == Source::Own || settings.role != Role::Device => {
                return Err(RegistryError::OnlyRegistered(ca.id));
            }
            UnknownPolicy::Jitp(template) => self.usable_template(template, TemplateKind::Jitp)?,
            UnknownPolicy::Auto | UnknownPolicy::Jitr => {}
        }
        for other in self.registry.cas() {
            if let Some(pattern) = ca.clash(other) {
                return Err(RegistryError::NamesClash { other: other.id, pattern: pattern.clone() });
            }
        }
        Ok(())
    }

    pub(super) fn delete_ca(&mut self, id: &CaId) -> Decided {
        let ca = self.ca(id)?;
        if self.registry.certificates_of_issuer(&ca.key).next().is_some() {
            return Err(RegistryError::CaInUse(*id));
        }
        // Forgetting that it is revoked would let it be added again.
        if ca.revoked.is_some() && ca.not_after >= self.now.unix_secs() {
            return Err(RegistryError::CaRevoked(*id));
        }
        self.push(Change::CaDeleted { ca: *id });
        Ok(())
    }
}
