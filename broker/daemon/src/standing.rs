//! Who connects, when there is a registry: the certificate is looked up, and what the registry says is the identity.
//!
//! Without a registry the name in the certificate is the identity. With one, a certificate that is not registered and in
//! force is refused after its handshake, with a CONNACK that says so: an alert would be hidden by many clients.

use std::net::IpAddr;
use std::time::Duration;

use signet_core::{CloseReason, Refusal};
use signet_identity::{CertificateId, GroupName, Identified, IdentityError, Principal, Role, ThingName};
use signet_registry::{Active, Actor, Command, NewCertificate, Standing, TlsVersion, UnknownPolicy};

use crate::directory::Live;
use crate::server::Broker;
use crate::store::RegistryService;
use crate::tls::Judged;

/// How long the certificate that a rotation has replaced stays in force after its successor has connected once.
const ROTATION_GRACE: Duration = Duration::from_secs(3600);

/// A certificate that was judged good, and what is known of its bearer.
pub(crate) struct Bearer<'a> {
    pub(crate) judged: &'a Judged,
    /// DER.
    pub(crate) leaf: &'a [u8],
    /// What the certificate itself says, by the listener's rule.
    pub(crate) identified: Result<Identified, IdentityError>,
    pub(crate) address: IpAddr,
    pub(crate) tls: TlsVersion,
}

/// As whom the bearer connects, and whether its CONNECT is to be refused.
pub(crate) async fn admit(
    broker: &Broker,
    bearer: Bearer<'_>,
) -> Result<(Principal, Option<Refusal>), IdentityError> {
    let Some(registry) = broker.registry() else {
        let principal = |known: Identified| by_configuration(broker, &known.name, known.certificate);
        return bearer.identified.map(|identified| (principal(identified), None));
    };
    let mut standing = look_up(registry, bearer.judged);
    if let Standing::Admissible { policy: UnknownPolicy::Auto | UnknownPolicy::Jitr, .. } = &standing
        && let Ok(identified) = &bearer.identified
    {
        enter(registry, &bearer, identified.name.clone()).await;
        standing = look_up(registry, bearer.judged);
    }
    let certificate = bearer.judged.certificate();
    if let Standing::Active(active) = &standing {
        registry.seen(&certificate, bearer.address, bearer.tls);
        return Ok((by_registry(active, certificate), None));
    }
    let refusal = refusal_of(&standing);
    let name = bearer.identified.map_or_else(|_| ThingName::fingerprint(&certificate), |known| known.name);
    tracing::warn!(
        %name, %certificate, address = %bearer.address, standing = standing.metric_label(),
        "refused by the registry: {refusal}"
    );
    Ok((Principal::device(name, certificate, Vec::new()), Some(refusal)))
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

/// Registers an unknown certificate whose authority admits it. What comes of it is seen by looking it up again.
async fn enter(registry: &RegistryService, bearer: &Bearer<'_>, name: ThingName) {
    let certificate = match NewCertificate::read(bearer.leaf, bearer.judged.issuer_key()) {
        Ok(certificate) => certificate,
        Err(error) => {
            tracing::warn!(%name, address = %bearer.address, %error, "a certificate cannot be registered");
            return;
        }
    };
    let command = Command::AdmitUnknown { certificate, name: name.clone() };
    if let Err(error) = registry.submit(command, Actor::Broker).answer().await {
        tracing::warn!(%name, address = %bearer.address, %error, "a certificate was not registered");
    }
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

/// Why a live connection may not go on: its certificate is no longer in force, or it would come back with another role,
/// other groups or other bounds than those it has.
pub(crate) fn lost(broker: &Broker, live: &Live) -> Option<CloseReason> {
    let certificate = *live.principal.certificate();
    let principal = match broker.registry().map(|registry| look_up(registry, &live.judged)) {
        None => by_configuration(broker, live.principal.name(), certificate),
        Some(Standing::Active(active)) => by_registry(&active, certificate),
        Some(_) => return Some(CloseReason::CertificateRevoked),
    };
    (principal != live.principal).then_some(CloseReason::Administrative)
}

/// A connection has been accepted: a certificate that takes the place of another has proven itself.
pub(crate) fn connected(broker: &Broker, live: &Live) {
    let Some(registry) = broker.registry() else { return };
    if let Standing::Active(active) = look_up(registry, &live.judged)
        && active.replaces_another
    {
        let certificate = live.judged.certificate();
        let grace = u64::try_from(ROTATION_GRACE.as_millis()).unwrap_or(u64::MAX);
        let retire_at = signet_registry::Wall(registry.now().0.saturating_add(grace));
        // The writer answers in its own time; the connection does not wait for it, and asks again at its next connect.
        drop(registry.submit(Command::CompleteRotation { certificate, retire_at }, Actor::Broker));
    }
}
