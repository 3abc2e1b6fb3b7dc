//! Commanded rotation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use signet_identity::TemplateName;
use signet_registry::TemplateKind;

use super::At;
use super::answer::{Answer, Refused, blocking};
use super::api::{
    ChangeRotation, DEVICES_AT_ONCE_MAX, RotationAction, RotationDevice, RotationRow, RotationShown,
    ShowRotation, StartRotation,
};
use super::devices::thing_name;
use super::templates::template_name;
use crate::rotation::{self, Campaign, Phase, RotationError, State as Stage, Wanted};
use crate::server::Broker;

impl From<RotationError> for Refused {
    fn from(error: RotationError) -> Self {
        let status = match error {
            RotationError::Nobody | RotationError::Device { .. } | RotationError::TooMany { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            RotationError::NotAuthorized { .. } => StatusCode::FORBIDDEN,
            RotationError::Unknown(_) => StatusCode::NOT_FOUND,
            RotationError::Phase { .. } => StatusCode::CONFLICT,
            RotationError::TooManyRotations => StatusCode::TOO_MANY_REQUESTS,
            RotationError::Disk(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::with_status(status, error.to_string())
    }
}

pub(super) async fn start(
    at: At,
    State(broker): State<Arc<Broker>>,
    Json(wanted): Json<StartRotation>,
) -> Answer<RotationShown> {
    let operated = at.0;
    blocking(move || {
        let wanted = read_wanted(&operated, &wanted)?;
        let id = rotation::start(&broker, &operated.registry, &wanted, &operated.actor)?;
        shown(&broker, &ShowRotation { id: Some(id), ..ShowRotation::default() })
    })
    .await
}

fn read_wanted(operated: &super::Operated, wanted: &StartRotation) -> Result<Wanted, Refused> {
    let names: Vec<_> = wanted.names.iter().map(|name| thing_name(name)).collect::<Result<_, _>>()?;
    let filtered =
        wanted.expiring_within_seconds.is_some() || wanted.group.is_some() || wanted.thing_type.is_some();
    match (names.is_empty(), filtered, wanted.all) {
        (false, false, false) | (true, true, false) | (true, false, true) => {}
        _ => {
            return Err(Refused::found(
                "say which devices: names, or --expiring, --group and --type together, or --all",
            ));
        }
    }
    if wanted.canary_percent >= 100 {
        return Err(Refused::found("the first devices are fewer than all: at most 99 of a hundred"));
    }
    let template = wanted.template.as_deref().map(template_name).transpose()?;
    if let Some(template) = &template {
        rotation_template(operated, template)?;
    }
    Ok(Wanted {
        names,
        expiring: wanted.expiring_within_seconds.map(Duration::from_secs),
        group: wanted.group.clone(),
        thing_type: wanted.thing_type.clone(),
        spread: Duration::from_secs(wanted.spread_seconds),
        canary_percent: wanted.canary_percent,
        within: Duration::from_secs(wanted.within_seconds),
        ask_again: Duration::from_secs(wanted.ask_again_seconds.max(1)),
        template: template.map(|template| template.to_string()),
    })
}

fn rotation_template(operated: &super::Operated, name: &TemplateName) -> Result<(), Refused> {
    let registry = operated.registry.registry();
    let template = registry.template(name.as_str());
    let template = template.ok_or_else(|| signet_registry::RegistryError::NoTemplate(name.clone()))?;
    if template.spec.kind != TemplateKind::Rotation || !template.spec.enabled {
        return Err(Refused::found(format!("the template {name} is disabled, or not of the kind rotation")));
    }
    Ok(())
}

pub(super) async fn list(at: At, State(broker): State<Arc<Broker>>) -> Answer<Vec<RotationRow>> {
    drop(at);
    blocking(move || Ok(broker.rotations.each(row))).await
}

pub(super) async fn show(
    at: At,
    State(broker): State<Arc<Broker>>,
    Json(wanted): Json<ShowRotation>,
) -> Answer<RotationShown> {
    drop(at);
    blocking(move || shown(&broker, &wanted)).await
}

fn shown(broker: &Broker, wanted: &ShowRotation) -> Result<RotationShown, Refused> {
    Ok(broker.rotations.one(wanted.id.as_deref(), |campaign| {
        let later = |name: &str| wanted.after.as_deref().is_none_or(|after| name > after);
        let in_state = |stage: &Stage| wanted.state.as_deref().is_none_or(|wanted| stage.word() == wanted);
        let mut picked: Vec<_> = campaign
            .members
            .iter()
            .filter(|(name, member)| later(name) && in_state(&member.state))
            .take(DEVICES_AT_ONCE_MAX + 1)
            .collect();
        let more = picked.len() > DEVICES_AT_ONCE_MAX;
        picked.truncate(DEVICES_AT_ONCE_MAX);
        let next = picked.last().filter(|_| more).map(|(name, _)| name.to_string());
        let devices = picked.into_iter().map(|(name, member)| {
            let (asked_ms, new, why) = match &member.state {
                Stage::Asked { at } => (Some(at.0), None, None),
                Stage::Rotating { new } => (None, Some(new.to_string()), None),
                Stage::Done { new } => (None, new.map(|new| new.to_string()), None),
                Stage::Failed { why } => (None, None, Some(why.to_string())),
                Stage::Waiting | Stage::Offline => (None, None, None),
            };
            RotationDevice {
                name: name.to_string(),
                state: member.state.word().to_owned(),
                why,
                canary: member.canary,
                turn_ms: campaign.turn(member).map(|turn| turn.0),
                asked_ms,
                asked: member.asked,
                old: member.old.to_string(),
                new,
            }
        });
        RotationShown { rotation: row(campaign), devices: devices.collect(), next }
    })?)
}

fn row(campaign: &Campaign) -> RotationRow {
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    for word in ["waiting", "offline", "asked", "rotating", "done", "failed"] {
        states.insert(word.to_owned(), 0);
    }
    for member in campaign.members.values() {
        if let Some(count) = states.get_mut(member.state.word()) {
            *count += 1;
        }
    }
    let plan = &campaign.plan;
    RotationRow {
        id: plan.id.clone(),
        phase: campaign.phase.word().to_owned(),
        held_because: match &campaign.phase {
            Phase::Held { why } => Some(why.to_string()),
            _ => None,
        },
        by: plan.by.to_string(),
        created_ms: plan.created.0,
        deadline_ms: plan.deadline.0,
        devices: campaign.members.len() as u64,
        canaries: campaign.members.values().filter(|member| member.canary).count() as u64,
        states,
    }
}

pub(super) async fn change(
    at: At,
    State(broker): State<Arc<Broker>>,
    Json(wanted): Json<ChangeRotation>,
) -> Answer<RotationShown> {
    let operated = at.0;
    blocking(move || {
        let id = broker.rotations.one(Some(&wanted.id), |campaign| campaign.plan.id.clone())?;
        let cancel = wanted.action == RotationAction::Cancel;
        rotation::change(&broker, &operated.registry, &id, cancel, &operated.actor)?;
        shown(&broker, &ShowRotation { id: Some(id), ..ShowRotation::default() })
    })
    .await
}
