//! Who asks: an address, and the certificate that was shown in the handshake, if there was one.

use std::net::SocketAddr;
use std::sync::Arc;

use signet_identity::{CertificateId, Role};
use signet_registry::{Active, Actor, Line, Standing};

use super::door::Door;
use crate::server::Broker;
use crate::tls::Judged;

/// One end of a connection. Cheap to copy.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    address: SocketAddr,
    shown: Option<Arc<Shown>>,
}

/// A certificate whose private key the caller has, and which was good at the handshake.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) door: Arc<Door>,
    pub(super) judged: Judged,
    /// DER.
    pub(super) leaf: Vec<u8>,
}

/// What a certificate is worth now.
#[derive(Debug)]
pub(super) enum Bearing {
    /// None was shown.
    Nothing,
    /// It is in force.
    InForce(Box<InForce>),
    /// It is not, for this reason.
    Refused(String),
}

/// A certificate in force.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) active: Active,
    pub(super) certificate: CertificateId,
    /// DER.
    pub(super) leaf: Vec<u8>,
}

impl InForce {
    /// The one who acts, for the audit trail.
    pub(super) fn actor(&self) -> Actor {
        let holder = &self.active.holder;
        Actor::Principal { role: holder.role, name: holder.name.clone(), certificate: self.certificate }
    }
}

impl Caller {
    pub(super) fn new(address: SocketAddr, shown: Option<Shown>) -> Self {
        Self { address, shown: shown.map(Arc::new) }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Somebody at this address, for the audit trail.
    pub(super) fn unknown(&self) -> Actor {
        Actor::Unknown(Line::new(&self.address.to_string()))
    }

    /// Judges the certificate again: a connection may have outlived its rights.
    pub(super) fn bearing(&self, broker: &Broker) -> Bearing {
        let (Some(shown), Some(registry)) = (&self.shown, broker.registry()) else { return Bearing::Nothing };
        if let Err(failure) = shown.door.tls().judge_again(&shown.judged, broker.judging_time()) {
            return Bearing::Refused(failure.to_string());
        }
        let certificate = shown.judged.certificate();
        match registry.standing(&certificate, &shown.judged.issuer_key(), &shown.judged.serial()) {
            // The grace for expired certificates is for devices, which have something to recover.
            Standing::Active(active)
                if active.holder.role != Role::Device
                    && registry.now().unix_secs() > shown.judged.not_after() =>
            {
                Bearing::Refused("the certificate has expired".to_owned())
            }
            Standing::Active(active) => {
                Bearing::InForce(Box::new(InForce { active, certificate, leaf: shown.leaf.clone() }))
            }
            standing => Bearing::Refused(format!(
                "the certificate is not in force: the registry has it as {}",
                standing.metric_label()
            )),
        }
    }
}
