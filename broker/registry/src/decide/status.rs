//! The states of certificates, and their ends.

use std::sync::Arc;

use signet_identity::{CertificateId, PrincipalKey, Role, Validity};

use super::{Decided, Draft};
use crate::certificate::{Certificate, RevocationReason, Status, StatusKind};
use crate::command::Selector;
use crate::event::{Cause, Change, DeletedBecause};
use crate::{Ca, CaId, CaSettings, KeyHash, RegistryError, SerialNumber, Wall};

impl<'a> Draft<'a> {
    /// The certificates that `selector` picks: at least one, and none of an authority as a whole.
    fn select(&self, selector: &Selector) -> Result<Vec<&'a Arc<Certificate>>, RegistryError> {
        let registry = self.registry;
        let selected: Vec<_> = match selector {
            Selector::Certificate(id) => vec![self.known(id)?],
            Selector::Holder(holder) => {
                if holder.role == Role::Device {
                    self.thing(&holder.name)?;
                }
                let held = registry.certificates_of_holder(holder);
                held.iter().filter_map(|id| registry.certificate(id)).collect()
            }
            Selector::Serial { issuer: Some(issuer), serial } => {
                registry.certificate_by_serial(issuer, serial).into_iter().collect()
            }
            Selector::Serial { issuer: None, serial } => {
                let found: Vec<_> =
                    registry.cas().filter_map(|ca| registry.certificate_by_serial(&ca.key, serial)).collect();
                if found.len() > 1 {
                    return Err(RegistryError::AmbiguousSerial(*serial));
                }
                found
            }
            Selector::Issuer(issuer) => registry.certificates_of_issuer(issuer).collect(),
            Selector::Ca(_) => Vec::new(),
        };
        if selected.is_empty() {
            return Err(RegistryError::NothingSelected);
        }
        Ok(selected)
    }

    pub(super) fn revoke(&mut self, selector: &Selector, reason: RevocationReason) -> Decided {
        let done = Err(RegistryError::AlreadySo(StatusKind::Revoked));
        match selector {
            Selector::Ca(id) => {
                if self.ca(id)?.revoked.is_some() {
                    return done;
                }
                self.push(Change::CaRevoked { ca: *id, reason });
                return Ok(());
            }
            Selector::Serial { issuer: Some(issuer), serial }
                if self.registry.certificate_by_serial(issuer, serial).is_none() =>
            {
                return self.revoke_unknown(*issuer, *serial, reason);
            }
            _ => {}
        }
        for certificate in self.select(selector)? {
            if certificate.status.kind().may_become(StatusKind::Revoked) {
                let certificate = *certificate.id();
                self.push(Change::CertificateRevoked { certificate, reason, cause: Cause::Asked });
            }
        }
        if self.changes.is_empty() { done } else { Ok(()) }
    }

    fn revoke_unknown(&mut self, issuer: KeyHash, serial: SerialNumber, reason: RevocationReason) -> Decided {
        let registry = self.registry;
        let max = registry.limits.revoked_serials_max;
        if registry.ca_by_key(&issuer).is_none() {
            return Err(RegistryError::NoIssuer);
        }
        if registry.serial_revoked(&issuer, &serial).is_some() {
            return Err(RegistryError::AlreadySo(StatusKind::Revoked));
        }
        if registry.revoked_serials.len() >= max {
            return Err(RegistryError::Full { what: "revoked serial numbers of unknown certificates", max });
        }
        self.push(Change::SerialRevoked { issuer, serial, reason });
        Ok(())
    }

    pub(super) fn suspend(&mut self, selector: &Selector) -> Decided {
        if let Selector::Ca(ca) = selector {
            return self.trust_ca(ca, false);
        }
        let selected = self.select(selector)?;
        for certificate in &selected {
            if certificate.status == Status::Active {
                let certificate = *certificate.id();
                self.push(Change::CertificateSuspended { certificate, cause: Cause::Asked });
            }
        }
        self.something_or(&selected, StatusKind::Inactive)
    }

    pub(super) fn activate(&mut self, selector: &Selector) -> Decided {
        if let Selector::Ca(ca) = selector {
            return self.trust_ca(ca, true);
        }
        let selected = self.select(selector)?;
        // How many places each holder has left; the selection may be of several holders.
        let mut places: Vec<(PrincipalKey, usize)> = Vec::new();
        for certificate in &selected {
            let id = *certificate.id();
            let revival = matches!(certificate.status, Status::Inactive { .. } | Status::Pending(_));
            // Whose a certificate becomes is decided for one at a time.
            let among_others = selected.len() > 1 && certificate.holder.is_none();
            if !revival || among_others {
                continue;
            }
            if certificate.judge_validity(self.now) == Validity::Expired {
                if selected.len() == 1 {
                    return Err(RegistryError::Expired(id));
                }
                continue;
            }
            let holder = self.holder_to_be(certificate)?;
            let taken = match places.iter_mut().find(|(known, _)| *known == holder) {
                Some((_, taken)) => taken,
                None => {
                    self.room(&holder, usize::from(certificate.holder.is_none()), |_| false)?;
                    let taken = self.registry.active_of(&holder, self.now).count();
                    &mut places.push_mut((holder.clone(), taken)).1
                }
            };
            *taken += 1;
            if *taken > crate::ACTIVE_MAX {
                return Err(RegistryError::TooManyActive { holder, max: crate::ACTIVE_MAX });
            }
            if certificate.holder.is_none() {
                self.bind(certificate, &holder)?;
            }
            self.push(Change::CertificateActivated { certificate: id, cause: Cause::Asked });
        }
        self.something_or(&selected, StatusKind::Active)
    }

    /// Whose a certificate is, or will be by the name that its authority gave it.
    fn holder_to_be(&self, certificate: &Certificate) -> Result<PrincipalKey, RegistryError> {
        let proposed = match &certificate.status {
            Status::Pending(pending) => pending.proposed.as_ref(),
            _ => None,
        };
        let holder = certificate.holder.as_ref().or(proposed);
        holder.cloned().ok_or_else(|| RegistryError::Unbound(*certificate.id()))
    }

    /// Binds a certificate that is nobody's to `holder`, who comes to exist if it is a thing.
    pub(super) fn bind(&mut self, certificate: &Certificate, holder: &PrincipalKey) -> Decided {
        let ca = self.issuer(&certificate.facts)?;
        Self::names(ca, holder)?;
        self.key(&certificate.facts.public_key, Some(holder))?;
        self.holder(holder)?;
        self.push(Change::CertificateBound { certificate: *certificate.id(), holder: holder.clone() });
        Ok(())
    }

    pub(super) fn bind_certificate(&mut self, id: &CertificateId, holder: &PrincipalKey) -> Decided {
        let certificate = self.known(id)?;
        if let Some(holder) = &certificate.holder {
            return Err(RegistryError::Bound { certificate: *id, holder: holder.clone() });
        }
        let from = certificate.status.kind();
        if from != StatusKind::PendingActivation {
            return Err(RegistryError::IllegalMove {
                certificate: *id,
                from,
                to: StatusKind::PendingActivation,
            });
        }
        self.room_for_records(holder, 1)?;
        self.bind(certificate, holder)
    }

    /// Nothing to do is an error that says why: a command that changed nothing must not look like one that did.
    fn something_or(&self, selected: &[&Arc<Certificate>], to: StatusKind) -> Decided {
        if !self.changes.is_empty() {
            return Ok(());
        }
        let other = selected.iter().find(|certificate| certificate.status.kind() != to);
        match other {
            None => Err(RegistryError::AlreadySo(to)),
            Some(other) => {
                let (certificate, from) = (*other.id(), other.status.kind());
                Err(RegistryError::IllegalMove { certificate, from, to })
            }
        }
    }

    pub(super) fn ca(&self, id: &CaId) -> Result<&'a Arc<Ca>, RegistryError> {
        self.registry.ca(id).ok_or(RegistryError::NoCa(*id))
    }

    fn trust_ca(&mut self, id: &CaId, connect: bool) -> Decided {
        let ca = self.ca(id)?;
        if ca.revoked.is_some() {
            return Err(RegistryError::CaRevoked(*id));
        }
        if ca.settings.connect == connect {
            return Err(RegistryError::AlreadySo(if connect {
                StatusKind::Active
            } else {
                StatusKind::Inactive
            }));
        }
        let settings = CaSettings { connect, ..ca.settings.clone() };
        self.push(Change::CaChanged { ca: *id, settings: Box::new(settings) });
        Ok(())
    }

    pub(super) fn delete_certificate(&mut self, id: &CertificateId) -> Decided {
        let certificate = self.known(id)?;
        let expired = certificate.judge_validity(self.now) == Validity::Expired;
        let deletable = match certificate.status {
            Status::Pending(_) => certificate.holder.is_none(),
            Status::Revoked { .. } => expired,
            Status::Active | Status::Inactive { .. } => false,
        };
        if !deletable {
            return Err(RegistryError::CertificateInUse(*id));
        }
        self.delete(certificate, DeletedBecause::Asked);
        Ok(())
    }

    pub(super) fn delete(&mut self, certificate: &Certificate, because: DeletedBecause) {
        let holder = certificate.holder.clone();
        self.push(Change::CertificateDeleted { certificate: *certificate.id(), holder, because });
    }

    pub(super) fn expire_pending(&mut self, at_most: usize) -> Decided {
        let (registry, now) = (self.registry, self.now);
        let due = registry.deadlines.iter().take_while(|(until, _)| *until <= now).take(at_most);
        for certificate in due.filter_map(|(_, id)| registry.certificate(id)) {
            self.delete(certificate, DeletedBecause::NeverActivated);
        }
        Ok(())
    }

    pub(super) fn purge_expired(&mut self, before: Wall, at_most: usize) -> Decided {
        let registry = self.registry;
        let before = before.min(self.now).unix_secs();
        let past = registry.by_serial.iter().filter(|entry| entry.0.not_after < before).take(at_most);
        for certificate in past.filter_map(|entry| registry.certificate(&entry.0.id)) {
            self.delete(certificate, DeletedBecause::LongExpired);
        }
        Ok(())
    }
}
