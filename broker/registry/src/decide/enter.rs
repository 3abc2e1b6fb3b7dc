//! Certificates that come in with a holder: by an operator, by an authority's policy.

use signet_identity::{PrincipalKey, Role, TemplateName, ThingName};

use super::{Decided, Draft};
use crate::certificate::{NewCertificate, Pending, Source, Status};
use crate::command::{Enter, IfExists};
use crate::event::Change;
use crate::provisioning::TemplateKind;
use crate::thing::ThingSpec;
use crate::{Ca, KeyHash, RegistryError, UnknownPolicy};

impl Draft<'_> {
    fn status(&self, enter: Enter) -> Status {
        match enter {
            Enter::Active => Status::Active,
            Enter::Inactive => Status::Inactive { since: self.now },
        }
    }

    pub(super) fn register_certificate(
        &mut self,
        certificate: NewCertificate,
        holder: PrincipalKey,
        enter: Enter,
    ) -> Decided {
        let facts = certificate.facts();
        let ca = self.issuer(facts)?;
        Self::names(ca, &holder)?;
        self.newcomer(facts)?;
        self.key(&facts.public_key, Some(&holder))?;
        self.holder(&holder)?;
        self.room(&holder, 1, |_| false)?;
        self.add_certificate(certificate, ca.source, self.status(enter), Some(holder));
        Ok(())
    }

    pub(super) fn issue(&mut self, certificate: NewCertificate, holder: PrincipalKey) -> Decided {
        self.clock()?;
        self.own_issuer(certificate.facts())?;
        self.register_certificate(certificate, holder, Enter::Active)
    }

    pub(super) fn admit_unknown(&mut self, certificate: NewCertificate, name: ThingName) -> Decided {
        self.clock()?;
        let facts = certificate.facts();
        let ca = self.issuer(facts)?;
        if !ca.settings.connect || !ca.settings.registers {
            return Err(RegistryError::CaSuspended(ca.id));
        }
        let holder = PrincipalKey { role: ca.settings.role, name };
        Self::names(ca, &holder)?;
        self.newcomer(facts)?;
        self.key(&facts.public_key, Some(&holder))?;
        match ca.settings.unknown {
            UnknownPolicy::Auto => {
                self.not_barred(&holder.name)?;
                self.not_of_others(ca, &holder.name, &facts.public_key)?;
                self.brings_in(ca, &holder.name)?;
                self.thing_or_new(ThingSpec::named(holder.name.clone()), IfExists::Keep)?;
                self.room(&holder, 1, |_| false)?;
                self.add_certificate(certificate, Source::Outside, Status::Active, Some(holder));
                Ok(())
            }
            UnknownPolicy::Jitr => {
                let max = self.registry.limits.waiting_per_ca_max;
                if self.registry.waiting_of(&ca.key) >= max {
                    let what = "certificates that wait to be activated";
                    return Err(RegistryError::CaSpent { ca: ca.id, what, max });
                }
                let pending = Pending { until: None, proposed: Some(holder), enrolment: None };
                self.add_certificate(certificate, Source::Outside, Status::Pending(pending.into()), None);
                Ok(())
            }
            UnknownPolicy::RegisteredOnly | UnknownPolicy::Jitp(_) => Err(RegistryError::NotAdmitted(ca.id)),
        }
    }

    pub(super) fn provision_just_in_time(
        &mut self,
        certificate: NewCertificate,
        template: &TemplateName,
        thing: ThingSpec,
        if_exists: IfExists,
        enter: Enter,
    ) -> Decided {
        self.clock()?;
        let facts = certificate.facts();
        let ca = self.issuer(facts)?;
        if !ca.settings.connect || !ca.settings.registers {
            return Err(RegistryError::CaSuspended(ca.id));
        }
        if ca.settings.unknown != UnknownPolicy::Jitp(template.clone()) {
            return Err(RegistryError::NotAdmitted(ca.id));
        }
        self.usable_template(template, TemplateKind::Jitp)?;
        let holder = PrincipalKey { role: Role::Device, name: thing.name.clone() };
        Self::names(ca, &holder)?;
        self.newcomer(facts)?;
        self.key(&facts.public_key, Some(&holder))?;
        self.not_barred(&holder.name)?;
        self.not_anothers(&holder.name, &facts.public_key)?;
        self.brings_in(ca, &holder.name)?;
        self.thing_or_new(thing, if_exists)?;
        self.room(&holder, 1, |_| false)?;
        self.add_certificate(certificate, Source::Outside, self.status(enter), Some(holder));
        Ok(())
    }

    /// A thing that had a certificate gets another one just in time only for a key that it had before, or when an operator lets it:
    /// whoever has the authority's key could else be any device that exists.
    fn not_anothers(&self, name: &ThingName, key: &KeyHash) -> Decided {
        let Some(thing) = self.registry.thing(name) else { return self.not_awaited(name) };
        let mut held = thing.certificates().iter().filter_map(|id| self.registry.certificate(id));
        if thing.approved(self.now) || held.any(|other| other.facts.public_key == *key) {
            return Ok(());
        }
        if !thing.certified {
            return self.not_awaited(name);
        }
        Err(RegistryError::AlreadyProvisioned(name.clone()))
    }

    /// No operator made a token for a device of this name that has not come yet.
    fn not_awaited(&self, name: &ThingName) -> Decided {
        match self.registry.awaits(name, self.now) {
            true => Err(RegistryError::Awaited(name.clone())),
            false => Ok(()),
        }
    }

    /// An authority that names its devices by itself gives its own another certificate, and takes none from another authority,
    /// this broker's or an outside one: unless that was said, or an operator lets it.
    fn not_of_others(&self, ca: &Ca, name: &ThingName, key: &KeyHash) -> Decided {
        let held = self.registry.thing(name).map_or(&[][..], |thing| thing.certificates());
        let own = |id| self.registry.certificate(id).is_some_and(|other| other.facts.issuer == ca.key);
        if ca.settings.joins_others || (!held.is_empty() && held.iter().all(own)) {
            return Ok(());
        }
        self.not_anothers(name, key)
    }

    /// Counts a device that the authority brings in, if it may bring in one more.
    fn brings_in(&mut self, ca: &Ca, name: &ThingName) -> Decided {
        if self.registry.thing(name).is_some_and(|thing| thing.certified) {
            return Ok(());
        }
        if let Some(max) = ca.settings.devices_max
            && ca.devices >= max
        {
            return Err(RegistryError::CaSpent { ca: ca.id, what: "devices", max });
        }
        self.push(Change::CaUsed { ca: ca.id, thing: name.clone() });
        Ok(())
    }

    /// Certificates that wait for somebody to activate them have bounds of their own.
    pub(super) fn room_for_pending(&self) -> Decided {
        let max = self.registry.limits.pending_max;
        let waiting: u32 = self.registry.waiting.values().sum();
        if self.registry.counts.pending.saturating_sub(waiting as usize) >= max {
            return Err(RegistryError::Full { what: "pending certificates", max });
        }
        Ok(())
    }
}
