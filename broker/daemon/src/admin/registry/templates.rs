//! Provisioning templates.

use axum::Json;
use signet_identity::TemplateName;
use signet_registry::template::{Parameter, TemplateBody, TemplateProblem};
use signet_registry::{Command, Registry, Template, TemplateKind, TemplateSpec, UnknownPolicy};

use super::answer::{Answer, Refused, blocking};
use super::api::{Changed, NameTemplate, ParameterRow, SetTemplate, TemplateRow, TemplateSet, TemplateShown};
use super::{At, changed};

/// The kinds and their words.
const KINDS: [(TemplateKind, &str); 3] =
    [(TemplateKind::Fleet, "fleet"), (TemplateKind::Jitp, "jitp"), (TemplateKind::Rotation, "rotation")];

pub(super) async fn set(at: At, Json(wanted): Json<SetTemplate>) -> Answer<TemplateSet> {
    let operated = at.0;
    blocking(move || {
        let name = template_name(&wanted.name)?;
        let kind =
            KINDS.into_iter().find(|(_, word)| *word == wanted.kind).map(|(kind, _)| kind).ok_or_else(
                || {
                    Refused::found(format!(
                        "{:?} is no kind of template: fleet, jitp and rotation are",
                        wanted.kind
                    ))
                },
            )?;
        let body = TemplateBody::parse(kind, &wanted.body)
            .map_err(|problems| Refused::found(sentences(&problems).join("\n")))?;
        let template = TemplateSpec {
            name: name.clone(),
            kind,
            enabled: wanted.enabled,
            keys: wanted.keys,
            body: wanted.body.into(),
        };
        let applied = operated.registry.execute(Command::SetTemplate(template), operated.actor.clone())?;
        let registry = operated.registry.snapshot();
        let template = known(&registry, &name)?;
        let warnings = sentences(body.warnings());
        Ok(TemplateSet { template, changed: !applied.events.is_empty(), warnings })
    })
    .await
}

pub(super) async fn list(at: At) -> Answer<Vec<TemplateRow>> {
    let registry = at.registry.snapshot();
    Ok(Json(registry.templates().map(|template| row(&registry, template)).collect()))
}

pub(super) async fn show(at: At, Json(wanted): Json<NameTemplate>) -> Answer<TemplateShown> {
    let registry = at.registry.snapshot();
    let name = template_name(&wanted.name)?;
    let template = known(&registry, &name)?;
    let spec = registry.template(name.as_str()).map(|template| template.spec.clone());
    let body = spec.map(|spec| (TemplateBody::parse(spec.kind, &spec.body), spec.body));
    let (parsed, body) = body.unzip();
    let (parameters, warnings) = match parsed {
        Some(Ok(parsed)) => {
            let parameters =
                parsed.parameters().map(|parameter| (parameter.name.clone(), parameter_row(parameter)));
            (parameters.collect(), sentences(parsed.warnings()))
        }
        // It was admitted by an earlier version of the broker.
        Some(Err(problems)) => (Default::default(), sentences(&problems)),
        None => Default::default(),
    };
    let body = body.as_deref().unwrap_or_default().to_owned();
    Ok(Json(TemplateShown { template, parameters, warnings, body }))
}

pub(super) async fn remove(at: At, Json(wanted): Json<NameTemplate>) -> Answer<Changed> {
    let command = Command::DeleteTemplate(template_name(&wanted.name)?);
    let applied = at.registry.submit(command, at.actor.clone()).answer().await?;
    Ok(Json(changed(&applied)))
}

pub(super) fn template_name(text: &str) -> Result<TemplateName, Refused> {
    TemplateName::try_from(text)
        .map_err(|error| Refused::found(format!("{text:?} cannot be the name of a template: {error}")))
}

fn known(registry: &Registry, name: &TemplateName) -> Result<TemplateRow, Refused> {
    let template = registry.template(name.as_str());
    let missing = || Refused::from(signet_registry::RegistryError::NoTemplate(name.clone()));
    template.map(|template| row(registry, template)).ok_or_else(missing)
}

fn row(registry: &Registry, template: &Template) -> TemplateRow {
    let spec = &template.spec;
    let asked = registry.claims().filter(|claim| claim.spec.templates.contains(&spec.name));
    let policy = UnknownPolicy::Jitp(spec.name.clone());
    let authorities = registry.cas().filter(|ca| ca.settings.unknown == policy);
    TemplateRow {
        name: spec.name.to_string(),
        kind: KINDS.iter().find(|(kind, _)| *kind == spec.kind).map_or("", |(_, word)| word).to_owned(),
        enabled: spec.enabled,
        keys: spec.keys,
        version: template.version,
        changed_ms: template.changed.0,
        claims: asked.map(|claim| claim.spec.name.to_string()).collect(),
        authorities: authorities.map(|ca| ca.id.to_string()).collect(),
    }
}

fn parameter_row(parameter: &Parameter) -> ParameterRow {
    ParameterRow {
        default: parameter.default.clone(),
        allowed: parameter.allowed.iter().cloned().collect(),
        from_certificate: parameter.is_from_certificate(),
    }
}

fn sentences(problems: &[TemplateProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}
