//! Certificates of outside authorities that nobody has registered: provisioned at their first connection (JITP), registered for
//! the name that they give (`auto`), or registered, refused and announced (JITR).
//!
//! Whoever has an authority's key can make any number of them. What each authority may bring in is bounded: in number by the
//! registry, in time here.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use signet_identity::{CertificateId, TemplateName};
use signet_registry::template::CertificateParameters;
use signet_registry::{
    Actor, Attempt, CaId, Command, Line, NewCertificate, Registry, RegistryError, TemplateKind, Topic,
    UnknownPolicy,
};
use signet_wire::TopicName;

use super::ANSWER_WITHIN;
use super::refused::{Alarm, Refused};
use crate::logging::{Admit, RateLimit};
use crate::server::Broker;
use crate::standing::Bearer;
use crate::store::{ExecuteError, RegistryService};

/// A certificate that waits is announced once in so long, however often it appears.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(10);
/// Refusals of one authority that are logged and recorded in a minute.
const RECORDED_PER_MINUTE: u32 = 10;
/// Alarms of one authority and kind are said once in so long.
const ALARM_PAUSE: Duration = Duration::from_secs(600);

/// What was said lately.
#[derive(Debug)]
pub(crate) struct Announced {
    certificates: RateLimit<CertificateId>,
    refusals: RateLimit<CaId>,
    alarms: RateLimit<(CaId, Alarm)>,
}

impl Default for Announced {
    fn default() -> Self {
        Self {
            certificates: RateLimit::new(1, ANNOUNCE_PAUSE),
            refusals: RateLimit::new(RECORDED_PER_MINUTE, Duration::from_secs(60)),
            alarms: RateLimit::new(1, ALARM_PAUSE),
        }
    }
}

/// What became of an unknown certificate, beside what the registry says of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// It is in, or another connection has brought it in.
    Settled,
    /// It will not be in, unless an operator does something about it.
    Refused,
    /// It may be in when its bearer tries again.
    Later,
    /// It is not in, and that is none of its bearer's doing.
    Failed,
}

/// Registers an unknown certificate of the authority `ca` as its policy says. What came of it is seen by looking it up again; a
/// failure leaves it unknown, and leaves a line in the log and a row in the audit trail.
pub(crate) async fn admit(
    broker: &Broker,
    registry: &RegistryService,
    bearer: &Bearer<'_>,
    ca: CaId,
    policy: &UnknownPolicy,
) -> Came {
    let command = match (policy, &bearer.name) {
        (UnknownPolicy::Jitp(template), _) => provision(broker, registry, bearer, template),
        (UnknownPolicy::Auto | UnknownPolicy::Jitr, Ok(name)) => {
            read(bearer).map(|certificate| Command::AdmitUnknown { certificate, name: name.clone() })
        }
        // Without a name there is nobody to register.
        (UnknownPolicy::Auto | UnknownPolicy::Jitr, Err(_)) | (UnknownPolicy::RegisteredOnly, _) => {
            return Came::Refused;
        }
    };
    let admitted = match command {
        Ok(command) => submit(broker, registry, ca, command).await,
        Err(refused) => Err(refused),
    };
    let result = if admitted.is_ok() { "accepted" } else { "refused" };
    broker.metrics.provisioning.just_in_time.with_label_values(&[policy.as_str(), result]).inc();
    let certificate = bearer.judged.certificate();
    match admitted {
        Ok(()) => {
            tracing::info!(
                %certificate, authority = %ca, policy = policy.as_str(), address = %bearer.address,
                "an unknown certificate was registered at its first connection"
            );
            Came::Settled
        }
        Err(refused) => {
            tell(broker, registry, bearer, ca, policy, &refused);
            match (refused.is_for_now(), refused.own_doing) {
                (true, _) => Came::Later,
                (false, true) => Came::Refused,
                (false, false) => Came::Failed,
            }
        }
    }
}

fn read(bearer: &Bearer<'_>) -> Result<NewCertificate, Refused> {
    NewCertificate::read(bearer.leaf, bearer.judged.issuer_key()).map_err(unusable)
}

/// It is so made that it cannot be used, and will not be another one.
fn unusable(error: impl std::fmt::Display) -> Refused {
    Refused { own_doing: true, ..Refused::failed("certificate", error) }
}

/// What the template makes of a certificate.
fn provision(
    broker: &Broker,
    registry: &RegistryService,
    bearer: &Bearer<'_>,
    template: &TemplateName,
) -> Result<Command, Refused> {
    let certificate = read(bearer)?;
    let body = broker.provisioning.templates.usable(&registry.registry(), template, TemplateKind::Jitp)?;
    let subject = CertificateParameters::from_certificate(bearer.leaf, bearer.judged.certificate())
        .map_err(unusable)?;
    let provisioned = body.evaluate(&BTreeMap::new(), &subject)?;
    Ok(Command::ProvisionJustInTime {
        certificate,
        template: template.clone(),
        thing: provisioned.thing,
        if_exists: provisioned.if_exists,
        enter: provisioned.enter,
    })
}

async fn submit(
    broker: &Broker,
    registry: &RegistryService,
    ca: CaId,
    command: Command,
) -> Result<(), Refused> {
    let config = broker.config.load_full();
    // What would be refused takes nothing from what others of the authority may have.
    let decided = registry.registry().decide(command.clone(), &Actor::Broker, registry.now());
    if let Err(error) = decided {
        return there_is_one(error.into());
    }
    let (rates, now) = (&broker.provisioning.rates, broker.clock.mono().elapsed());
    if !rates.admit_unknown(&config.provisioning, ca, now) {
        return Err(Refused::unknown_too_fast());
    }
    // The peer waits for its CONNACK as it waits for an answer.
    let registered = registry.submit(command, Actor::Broker).answer();
    match tokio::time::timeout(ANSWER_WITHIN, registered).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => there_is_one(error),
        Err(_) => Err(Refused::late()),
    }
}

/// Of two connections of one device at once, the other one brought it in.
fn there_is_one(error: ExecuteError) -> Result<(), Refused> {
    match error {
        ExecuteError::Refused(RegistryError::CertificateExists(_)) => Ok(()),
        error => Err(error.into()),
    }
}

/// Logs and records that a certificate was not registered, and raises the alarm that goes with it.
fn tell(
    broker: &Broker,
    registry: &RegistryService,
    bearer: &Bearer<'_>,
    ca: CaId,
    policy: &UnknownPolicy,
    refused: &Refused,
) {
    let (certificate, now, said) =
        (bearer.judged.certificate(), broker.clock.mono(), &broker.provisioning.announced);
    match said.refusals.admit(ca, now) {
        Admit::Suppress => broker.metrics.log_suppressed.inc(),
        Admit::Log { suppressed } => {
            tracing::warn!(
                %certificate, authority = %ca, policy = policy.as_str(), address = %bearer.address,
                reason = refused.label, suppressed,
                "a certificate was not registered at its first connection: {}", refused.why
            );
            let actor = Actor::Unknown(Line::new(&bearer.address.to_string()));
            let why = format_args!("{} of authority {ca}: {}", policy.as_str(), refused.why);
            registry.record_refusal(Attempt::Admit, &why, suppressed.into(), actor);
        }
    }
    let Some(alarm) = refused.alarm else { return };
    broker.metrics.provisioning.alarms.with_label_values(&[alarm.metric_label()]).inc();
    let Admit::Log { suppressed } = said.alarms.admit((ca, alarm), now) else { return };
    let label = alarm.metric_label();
    tracing::warn!(
        alarm = label, authority = %ca, address = %bearer.address, suppressed,
        "odd use of an authority: {}; `signet ca set {ca} --registers false` lets no more in", refused.why
    );
    let text = format!("{label}: authority {ca}, from {}: {}", bearer.address, refused.why);
    registry.note(Topic::Alarm, &text, Actor::Broker);
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
