//! Who connects, when there is a registry: the certificate is looked up, and what the registry says is the identity.
//!
//! Without a registry the name in the certificate is the identity. With one, a certificate that is not registered and in
//! force is refused after its handshake, with a CONNACK that says so: an alert would be hidden by many clients.

use std::net::IpAddr;

use signet_core::{CloseReason, Mono, Now, Refusal};
use signet_identity::{CertificateId, GroupName, IdentityError, Principal, Role, ThingName};
use signet_registry::{Active, Actor, Command, Standing, TlsVersion, Wall};

use crate::census;
use crate::directory::Live;
use crate::penalty::By;
use crate::provisioning::jit::{self, Came};
use crate::server::Broker;
use crate::start;
use crate::store::RegistryService;
use crate::tls::Judged;

/// A certificate that was judged good, and what is known of its bearer.
pub(crate) struct Bearer<'a> {
    pub(crate) judged: &'a Judged,
    /// DER.
    pub(crate) leaf: &'a [u8],
    /// What the certificate itself says, by the listener's rule.
    pub(crate) name: Result<ThingName, IdentityError>,
    pub(crate) address: IpAddr,
    pub(crate) tls: TlsVersion,
}

/// Until when somebody may stay connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Until {
    /// The last second of the certificate, or of the grace after it, in Unix seconds.
    certificate: i64,
    /// The first moment at which the claim's time is over.
    claim: Option<Wall>,
}

impl Until {
    fn new(judged: &Judged, principal: &Principal, claim: Option<Wall>) -> Self {
        // Who is not in quarantine comes back into it when the certificate ends, and the grace begins.
        let certificate = if principal.is_quarantined() { judged.usable_until() } else { judged.not_after() };
        Self { certificate, claim }
    }

    /// The same on the monotonic clock, which nobody sets, and as what the connection is closed then.
    pub(crate) fn on_the_clock(self, now: Now) -> (Mono, CloseReason) {
        let certificate = (start::ends_at(self.certificate, now), CloseReason::CertificateExpired);
        match self.claim.map(|at| start::reached_at(signet_core::Wall(at.0), now)) {
            Some(claim) if claim < certificate.0 => (claim, CloseReason::ClaimEnded),
            _ => certificate,
        }
    }
}

/// What became of a bearer.
pub(crate) struct Admitted {
    /// As whom it connects.
    pub(crate) principal: Principal,
    /// Why its CONNECT is to be refused all the same.
    pub(crate) refusal: Option<Refusal>,
    /// Until when it may stay.
    pub(crate) until: Until,
}

/// As whom the bearer connects, and whether its CONNECT is to be refused.
///
/// # Errors
/// When there is no registry to say who it is, and the certificate does not.
pub(crate) async fn admit(broker: &Broker, bearer: Bearer<'_>) -> Result<Admitted, IdentityError> {
    let judged = bearer.judged;
    let expired = is_expired(judged, broker.judging_wall());
    let Some(registry) = broker.registry() else {
        let name = bearer.name?;
        let principal = by_configuration(broker, &name, judged.certificate()).with_lineage(judged.lineage());
        return Ok(Admitted::new(judged, held(principal, false, expired), None, expired));
    };
    let mut standing = look_up(registry, judged);
    let tried = matches!(standing, Standing::Admissible { .. });
    let mut came = Came::Settled;
    if let Standing::Admissible { ca, policy, .. } = &standing {
        came = jit::admit(broker, registry, &bearer, *ca, policy).await;
        standing = look_up(registry, judged);
    }
    let certificate = judged.certificate();
    if let Standing::Pending { ca: Some(ca), until: None } = &standing {
        jit::announce(broker, &registry.registry(), *ca, &certificate);
    }
    if let Standing::Active(active) = &standing {
        registry.seen(&certificate, bearer.address, bearer.tls);
        let ca = census::label_of_key(&registry.registry(), &judged.issuer_key());
        broker.metrics.standing.connects.with_label_values(&[ca.as_str()]).inc();
        let principal = by_registry(active, certificate).with_lineage(judged.lineage());
        let principal = held(principal, active.quarantined, expired);
        return Ok(Admitted::new(judged, principal, active.until(), expired));
    }
    let refusal = match (refusal_of(&standing), came) {
        (Refusal::CertificateUnknown, Came::Later) => Refusal::CertificateLater,
        (refusal, _) => refusal,
    };
    if let Some(by) = counted(&standing, tried.then_some(came)) {
        broker.penalties.refused(certificate, by, broker.clock.mono());
    }
    broker.metrics.standing.refused.with_label_values(&[standing.metric_label()]).inc();
    let name = bearer.name.unwrap_or_else(|_| ThingName::fingerprint(&certificate));
    tracing::warn!(
        %name, %certificate, address = %bearer.address, standing = standing.metric_label(),
        "refused by the registry: {refusal}"
    );
    let principal = Principal::device(name, certificate, Vec::new());
    let until = Until::new(judged, &principal, None);
    Ok(Admitted { principal, refusal: Some(refusal), until })
}

/// As whose refusal one counts against the certificate; `came` is there when its authority might have admitted it. Where that
/// failed for a cause that may pass by itself it does not count, which is not said by where the certificate stands.
const fn counted(standing: &Standing, came: Option<Came>) -> Option<By> {
    match (standing, came) {
        (Standing::Admissible { .. } | Standing::Unknown, Some(Came::Refused)) => Some(By::Policy),
        (
            Standing::Admissible { .. } | Standing::Unknown,
            Some(Came::Settled | Came::Later | Came::Failed),
        ) => None,
        (Standing::SerialConflict { .. }, _) => Some(By::Namesake),
        _ => Some(By::Registry),
    }
}

impl Admitted {
    /// Somebody whose certificate is in force. One that has expired, and is here by the grace for that, is refused unless it
    /// is a device's: there is nothing to recover for others.
    fn new(judged: &Judged, principal: Principal, claim: Option<Wall>, expired: bool) -> Self {
        let refusal = (expired && principal.role() != Role::Device).then_some(Refusal::CertificateExpired);
        let until = Until::new(judged, &principal, claim);
        Self { principal, refusal, until }
    }
}

/// Whether a certificate that was judged good was so by the grace for expired ones.
fn is_expired(judged: &Judged, now: signet_core::Wall) -> bool {
    i64::try_from(now.0 / 1000).unwrap_or(i64::MAX) > judged.not_after()
}

/// The principal as it connects: in quarantine when an operator or an alarm put it there, or its certificate has expired.
fn held(principal: Principal, quarantined: bool, expired: bool) -> Principal {
    let device = principal.role() == Role::Device;
    if quarantined || (expired && device) { principal.in_quarantine() } else { principal }
}

/// Role and groups of a name, from the configuration.
fn by_configuration(broker: &Broker, name: &ThingName, certificate: CertificateId) -> Principal {
    let config = broker.config.load();
    let groups: Vec<GroupName> = config.identity.groups_of(name).cloned().collect();
    if config.identity.operators.contains(name) {
        Principal::operator(name.clone(), certificate, groups)
    } else {
        Principal::device(name.clone(), certificate, groups)
    }
}

/// Role, name and what belongs to the role, from the registry.
fn by_registry(active: &Active, certificate: CertificateId) -> Principal {
    let (name, groups) = (active.holder.name.clone(), active.groups().to_vec());
    match active.holder.role {
        Role::Device => Principal::device(name, certificate, groups),
        Role::Claim => Principal::claim(name, certificate, active.templates().to_vec()),
        Role::Operator => Principal::operator(name, certificate, groups),
    }
}

fn look_up(registry: &RegistryService, judged: &Judged) -> Standing {
    registry.standing(&judged.certificate(), &judged.issuer_key(), &judged.serial())
}

fn refusal_of(standing: &Standing) -> Refusal {
    match standing {
        Standing::Pending { .. } => Refusal::CertificatePending,
        Standing::Inactive(_) => Refusal::CertificateInactive,
        Standing::Revoked { .. } => Refusal::CertificateRevoked,
        Standing::Unknown
        | Standing::Admissible { .. }
        | Standing::SerialConflict { .. }
        | Standing::Active(_) => Refusal::CertificateUnknown,
    }
}

/// Why a live connection may not go on.
pub(crate) enum Lost {
    /// Its certificate is no longer in force.
    Standing,
    /// It would come back as this one, with another role, other groups or other bounds than those it has.
    Rights(Principal),
}

/// Whether a live connection may not go on.
pub(crate) fn lost(broker: &Broker, live: &Live) -> Option<Lost> {
    let certificate = *live.principal.certificate();
    let expired = is_expired(&live.judged, live.wall(broker.clock.mono()));
    let (principal, quarantined) = match broker.registry().map(|registry| look_up(registry, &live.judged)) {
        None => (by_configuration(broker, live.principal.name(), certificate), false),
        Some(Standing::Active(active)) => (by_registry(&active, certificate), active.quarantined),
        Some(_) => return Some(Lost::Standing),
    };
    let principal = held(principal.with_lineage(live.principal.lineage().clone()), quarantined, expired);
    (principal != live.principal).then_some(Lost::Rights(principal))
}

/// Closes a live connection as what it lost asks for. False: the connection is gone.
pub(crate) fn close_lost(broker: &Broker, live: &Live, lost: Lost) -> bool {
    match lost {
        Lost::Standing => broker.hub().close_connection(live.number, CloseReason::CertificateRevoked),
        Lost::Rights(principal) => broker.hub().close_rejudged(live.number, Some(principal)),
    }
}

/// Who the author of a will is now whose connection is gone; `None`: nobody may speak for it any more.
pub(crate) fn author_now(broker: &Broker, author: &Principal) -> Option<Principal> {
    let certificate = *author.certificate();
    let Some(registry) = broker.registry() else {
        let principal = by_configuration(broker, author.name(), certificate);
        return Some(held(principal.with_lineage(author.lineage().clone()), author.is_quarantined(), false));
    };
    let known = registry.registry();
    // Its own certificate, or after a rotation another one: the will belongs to the name.
    let others = known.certificates_of_holder(author.key()).iter().filter(|id| **id != certificate);
    let mut standings = std::iter::once(&certificate)
        .chain(others)
        .filter_map(|id| known.certificate(id).map(|record| known.standing_of(record, registry.now())));
    standings.find_map(|standing| match standing {
        // Expiry may have put the author there, which only its next connection can tell.
        Standing::Active(active) => {
            let quarantined = active.quarantined || author.is_quarantined();
            let principal = by_registry(&active, certificate).with_lineage(author.lineage().clone());
            Some(held(principal, quarantined, false))
        }
        _ => None,
    })
}

/// A connection has been accepted: a certificate that takes the place of another has proven itself.
pub(crate) fn connected(broker: &Broker, live: &Live) {
    let Some(registry) = broker.registry() else { return };
    if let Standing::Active(active) = look_up(registry, &live.judged)
        && active.replaces_another
    {
        let certificate = live.judged.certificate();
        let retire_at = registry.now().after(broker.config.load().provisioning.rotation_grace);
        // The writer answers in its own time; the connection does not wait for it, and asks again at its next connect.
        drop(registry.submit(Command::CompleteRotation { certificate, retire_at }, Actor::Broker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_by_itself_is_not_counted_and_what_will_not_is() {
        let all = [None, Some(Came::Refused), Some(Came::Settled), Some(Came::Later), Some(Came::Failed)];
        let counted = all.map(|came| counted(&Standing::Unknown, came));
        assert_eq!(counted, [Some(By::Registry), Some(By::Policy), None, None, None]);
        let waits = Standing::Pending { ca: None, until: None };
        assert_eq!(all.map(|came| super::counted(&waits, came)), [Some(By::Registry); 5]);
        let conflict = Standing::SerialConflict { registered: CertificateId::of(b"another") };
        assert_eq!(all.map(|came| super::counted(&conflict, came)), [Some(By::Namesake); 5]);
    }
}
