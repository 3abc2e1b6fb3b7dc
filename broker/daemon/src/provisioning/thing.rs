//! `RegisterThing`.

use std::collections::BTreeMap;
use std::sync::Arc;

use signet_config::Hook;
use signet_core::provisioning::{Answer, OwnershipToken};
use signet_identity::{CertificateId, Role, TemplateName};
use signet_registry::template::{CertificateParameters, Provisioned, TemplateBody};
use signet_registry::{
    Command, Der, Enter, RegisterThing, Registry, RegistryError, Status, TemplateKind, TokenHash,
};

use super::asker::At;
use super::hook::{self, Question};
use super::refused::Refused;
use crate::ca::certificate_pem;
use crate::signing::never_connected;

/// The certificate that an ownership token is for.
struct Owned {
    id: CertificateId,
    der: Der,
}

/// Registers the thing that `template` makes of `parameters`, with the certificate that `token` is for. When it is answered, the
/// certificate is in force, if the template says so, and that is on the disk: the device comes back within milliseconds.
pub(super) async fn register(
    at: &At<'_>,
    template: &TemplateName,
    token: &OwnershipToken,
    parameters: BTreeMap<String, String>,
) -> Result<Answer, Refused> {
    // Only the hash is compared, so how long this takes tells nothing of the token.
    let token = TokenHash::of(token.expose().as_bytes());
    let (body, owned) = {
        let registry = at.registry.registry();
        let body = usable(at, &registry, template)?;
        (body, owned(&registry, &token, &at.asker.certificate())?)
    };
    let parameters = hooked(at, template, &token, &owned, parameters).await?;
    let provisioned = evaluated(at, &body, &owned, &parameters)?;
    let Provisioned { thing, if_exists, enter, device_configuration, serial, .. } = provisioned;
    let name = thing.name.clone();
    let command = Command::RegisterThing(Box::new(RegisterThing {
        token,
        asker: at.asker.certificate(),
        template: template.clone(),
        serial: serial.map(Arc::from),
        if_exists,
        enter,
        never_connected: never_connected(at.registry, &name),
        thing,
    }));
    at.in_time()?;
    at.registry.submit(command, at.asker.actor()).answer().await?;
    tracing::info!(
        by = %at.asker.principal.key(), thing = %name, certificate = %owned.id, template = template.as_str(),
        address = %at.asker.address, active = enter == Enter::Active, "a thing was registered"
    );
    Ok(Answer::Thing { name, device_configuration })
}

/// The template, if the asker may use it: one for fleets by a claim that names it, one for rotation by a device.
fn usable(at: &At<'_>, registry: &Registry, template: &TemplateName) -> Result<Arc<TemplateBody>, Refused> {
    let kind = match at.claim(registry)? {
        None => TemplateKind::Rotation,
        Some(claim) if claim.spec.templates.contains(template) => TemplateKind::Fleet,
        Some(_) => return Err(RegistryError::TemplateNotAllowed(template.clone()).into()),
    };
    at.broker.provisioning.templates.usable(registry, template, kind)
}

/// The pending certificate behind a token, before anything is done for it. The command judges it again, with its time.
fn owned(registry: &Registry, token: &TokenHash, asker: &CertificateId) -> Result<Owned, Refused> {
    let certificate = registry.enrolment(token).ok_or(RegistryError::OwnershipToken)?;
    let Status::Pending(pending) = &certificate.status else {
        return Err(RegistryError::OwnershipToken.into());
    };
    match &pending.enrolment {
        Some(enrolment) if enrolment.asker == *asker => {
            Ok(Owned { id: *certificate.id(), der: enrolment.der.clone() })
        }
        Some(_) => Err(Refused::foreign_token()),
        None => Err(RegistryError::OwnershipToken.into()),
    }
}

/// Asks the hook, if there is one: the parameters with what it says of them.
async fn hooked(
    at: &At<'_>,
    template: &TemplateName,
    token: &TokenHash,
    owned: &Owned,
    mut parameters: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Refused> {
    let config = at.broker.config.load_full();
    let question = Question {
        claim_certificate_id: at.asker.certificate().to_string(),
        certificate_id: owned.id.to_string(),
        certificate_pem: certificate_pem(owned.der.as_bytes()),
        template_arn: template.as_str(),
        template_name: template.as_str(),
        client_id: &at.asker.client_id,
        parameters: &parameters,
    };
    let (rules, places) = (&config.provisioning, &at.broker.provisioning.hooks);
    let now = at.broker.clock.mono();
    if rules.hook != Hook::None && !places.may_ask_about(token, rules.ownership_token_validity, now) {
        return Err(Refused::too_many_tries());
    }
    let asked = hook::ask(rules, places, at.asker.principal.key(), &question).await;
    let hooks = &at.broker.metrics.provisioning.hooks;
    match asked {
        Ok(None) => Ok(parameters),
        Ok(Some(overrides)) => {
            hooks.with_label_values(&["allowed"]).inc();
            parameters.extend(overrides);
            Ok(parameters)
        }
        Err(error) => {
            hooks.with_label_values(&[error.metric_label()]).inc();
            Err(error.into())
        }
    }
}

fn evaluated(
    at: &At<'_>,
    body: &TemplateBody,
    owned: &Owned,
    parameters: &BTreeMap<String, String>,
) -> Result<Provisioned, Refused> {
    let certificate = match at.asker.principal.role() {
        Role::Device => CertificateParameters::renewed(owned.id, at.asker.principal.name().clone()),
        Role::Claim | Role::Operator => CertificateParameters::issued(owned.id),
    };
    Ok(body.evaluate_with(parameters, &certificate, &at.asker.names)?)
}
