//! Certificates of outside authorities that nobody has registered: provisioned at their first connection (JITP), or registered,
//! refused and announced (JITR).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use signet_identity::{CertificateId, TemplateName};
use signet_registry::template::CertificateParameters;
use signet_registry::{
    Actor, Attempt, CaId, Command, Line, NewCertificate, Registry, RegistryError, TemplateKind,
};
use signet_wire::TopicName;

use super::refused::Refused;
use crate::logging::{Admit, RateLimit};
use crate::server::Broker;
use crate::standing::Bearer;
use crate::store::RegistryService;

/// A certificate that waits is announced once in so long, however often it appears.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(10);
/// Refusals of one authority that are logged and recorded in a minute.
const RECORDED_PER_MINUTE: u32 = 10;

/// What was said lately.
#[derive(Debug)]
pub(crate) struct Announced {
    certificates: RateLimit<CertificateId>,
    refusals: RateLimit<TemplateName>,
}

impl Default for Announced {
    fn default() -> Self {
        Self {
            certificates: RateLimit::new(1, ANNOUNCE_PAUSE),
            refusals: RateLimit::new(RECORDED_PER_MINUTE, Duration::from_secs(60)),
        }
    }
}

/// Provisions an unknown certificate by the template of its authority. What came of it is seen by looking it up again; a failure
/// leaves it unknown, and leaves a line in the log and a row in the audit trail.
pub(crate) async fn provision(
    broker: &Broker,
    registry: &RegistryService,
    bearer: &Bearer<'_>,
    template: &TemplateName,
) {
    let provisioned = try_provision(broker, registry, bearer, template).await;
    let result = if provisioned.is_ok() { "accepted" } else { "refused" };
    broker.metrics.provisioning.just_in_time.with_label_values(&["jitp", result]).inc();
    let Err(refused) = provisioned else { return };
    let certificate = bearer.judged.certificate();
    match broker.provisioning.announced.refusals.admit(template.clone(), broker.clock.mono()) {
        Admit::Suppress => broker.metrics.log_suppressed.inc(),
        Admit::Log { suppressed } => {
            tracing::warn!(
                %certificate, template = template.as_str(), address = %bearer.address, reason = refused.label, suppressed,
                "a certificate was not provisioned at its first connection: {}", refused.why
            );
            let actor = Actor::Unknown(Line::new(&bearer.address.to_string()));
            let why = format_args!("template {}: {}", template.as_str(), refused.why);
            registry.record_refusal(Attempt::Admit, &why, suppressed.into(), actor);
        }
    }
}

async fn try_provision(
    broker: &Broker,
    registry: &RegistryService,
    bearer: &Bearer<'_>,
    template: &TemplateName,
) -> Result<(), Refused> {
    let certificate = NewCertificate::read(bearer.leaf, bearer.judged.issuer_key())
        .map_err(|error| Refused::failed("certificate", error))?;
    let body = broker.provisioning.templates.usable(&registry.registry(), template, TemplateKind::Jitp)?;
    let id = bearer.judged.certificate();
    let subject = CertificateParameters::from_certificate(bearer.leaf, id)
        .map_err(|error| Refused::failed("certificate", error))?;
    let provisioned = body.evaluate(&BTreeMap::new(), &subject)?;
    let thing = provisioned.thing.name.clone();
    let command = Command::ProvisionJustInTime {
        certificate,
        template: template.clone(),
        thing: provisioned.thing,
        if_exists: provisioned.if_exists,
        enter: provisioned.enter,
    };
    match registry.submit(command, Actor::Broker).answer().await {
        Ok(_) => {
            tracing::info!(
                %thing, certificate = %id, template = template.as_str(), address = %bearer.address,
                "a device was provisioned at its first connection"
            );
            Ok(())
        }
        // Two connections of one device at once: the other one brought it in.
        Err(crate::store::ExecuteError::Refused(RegistryError::CertificateExists(_))) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `$aws/events/certificates/registered/<caCertificateId>`, as AWS IoT Core has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    certificate_id: String,
    ca_certificate_id: String,
    timestamp: u64,
    certificate_status: &'static str,
    aws_account_id: &'static str,
    certificate_registration_timestamp: String,
}

/// Tells operators that a certificate waits to be activated: when it is registered, and again when it appears.
pub(crate) fn announce(broker: &Broker, registry: &Registry, ca: CaId, certificate: &CertificateId) {
    let Some(known) = registry.certificate(certificate) else { return };
    let now = broker.clock.now();
    if broker.provisioning.announced.certificates.admit(*certificate, now.mono) == Admit::Suppress {
        return;
    }
    broker.metrics.provisioning.just_in_time.with_label_values(&["jitr", "announced"]).inc();
    let event = Waiting {
        certificate_id: certificate.to_string(),
        ca_certificate_id: ca.to_string(),
        timestamp: now.wall.0,
        certificate_status: "PENDING_ACTIVATION",
        aws_account_id: "000000000000",
        certificate_registration_timestamp: known.registered.0.to_string(),
    };
    let topic = TopicName::try_from(format!("$aws/events/certificates/registered/{ca}"));
    if let (Ok(topic), Ok(payload)) = (topic, serde_json::to_vec(&event)) {
        // Never refused: the topic begins with '$'.
        let _ = broker.hub().publish_event(topic, Bytes::from(payload), now);
    }
}
