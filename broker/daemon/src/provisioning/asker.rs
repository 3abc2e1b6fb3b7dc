//! Who asks, and with what it is served.

use std::net::IpAddr;
use std::sync::Arc;

use signet_core::Mono;
use signet_identity::{CertificateId, NameRule, Principal, Role};
use signet_registry::{Actor, Claim, Registry};
use signet_wire::ClientId;

use super::refused::Refused;
use crate::ca::Authority;
use crate::server::Broker;
use crate::store::RegistryService;

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) principal: Principal,
    pub(super) address: IpAddr,
    pub(super) client_id: ClientId,
    /// The listener's rule for names.
    pub(super) names: NameRule,
}

impl Asker {
    /// The certificate that it proved to hold.
    pub(super) fn certificate(&self) -> CertificateId {
        *self.principal.certificate()
    }

    /// As the audit trail names it.
    pub(super) fn actor(&self) -> Actor {
        Actor::Principal {
            role: self.principal.role(),
            name: self.principal.name().clone(),
            certificate: self.certificate(),
        }
    }
}

/// A request that may be served.
pub(super) struct At<'a> {
    pub(super) broker: &'a Arc<Broker>,
    pub(super) registry: &'a Arc<RegistryService>,
    pub(super) authority: Arc<Authority>,
    pub(super) asker: &'a Asker,
    /// When the answer has to leave.
    pub(super) answer_by: Mono,
}

impl<'a> At<'a> {
    /// When the broker issues certificates, and a claim is used from where it may be.
    pub(super) fn of(broker: &'a Arc<Broker>, asker: &'a Asker, answer_by: Mono) -> Result<Self, Refused> {
        let (Some(registry), Some(authority)) = (broker.registry(), broker.authority()) else {
            return Err(Refused::not_served());
        };
        let at = Self { broker, registry, authority, asker, answer_by };
        if let Some(claim) = at.claim(&registry.registry())? {
            let from = &claim.spec.from;
            if !from.is_empty() && !from.iter().any(|network| network.contains(asker.address)) {
                return Err(Refused::network(asker.address));
            }
        }
        Ok(at)
    }

    /// Nothing is brought into the registry for one who has been told that it is too late.
    pub(super) fn in_time(&self) -> Result<(), Refused> {
        if self.broker.clock.mono() < self.answer_by { Ok(()) } else { Err(Refused::late()) }
    }

    /// The claim that asks; `None` for a device.
    pub(super) fn claim(&self, registry: &Registry) -> Result<Option<Arc<Claim>>, Refused> {
        if self.asker.principal.role() != Role::Claim {
            return Ok(None);
        }
        let name = self.asker.principal.name();
        match registry.claim(name.as_str()) {
            Some(claim) => Ok(Some(Arc::clone(claim))),
            None => Err(signet_registry::RegistryError::NoClaim(name.clone()).into()),
        }
    }
}
