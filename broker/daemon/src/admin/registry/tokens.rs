//! One-time tokens, and enrolments over EST that wait for approval.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use signet_registry::{Approval, Command, Line, Token, TokenHash, Wall};

use super::answer::{Answer, Refused};
use super::api::{Changed, CreateToken, CreatedToken, DecideEnrolment, EnrolmentRow, RevokeToken, TokenRow};
use super::devices::{only, thing_spec};
use super::{At, changed};
use crate::tokens::{self, TokenError, WantedToken};

pub(super) async fn create(at: At, Json(wanted): Json<CreateToken>) -> Answer<CreatedToken> {
    if wanted.device.csr.is_some() || wanted.device.public_key.is_some() {
        return Err(Refused::found("a token is for a device that makes its own request: give no key"));
    }
    let wanted = WantedToken {
        thing: thing_spec(&wanted.device)?,
        validity: wanted.valid_seconds.map(Duration::from_secs),
        note: Line::new(wanted.note.as_deref().unwrap_or_default()),
    };
    let made = tokens::create(&at.registry, wanted, at.actor.clone()).await.map_err(|error| match error {
        TokenError::Registry(error) => Refused::from(error),
        other => Refused::found(other.to_string()),
    })?;
    Ok(Json(CreatedToken {
        token: made.secret.expose().to_owned(),
        id: made.id.to_string(),
        device: made.device.to_string(),
        until_ms: made.until.0,
    }))
}

pub(super) async fn list(at: At) -> Answer<Vec<TokenRow>> {
    let now = at.registry.now();
    Ok(Json(at.registry.snapshot().tokens().map(|token| row(token, now)).collect()))
}

fn row(token: &Token, now: Wall) -> TokenRow {
    let state = match token.used {
        Some(_) => "used",
        None if tokens::is_usable(token, now) => "open",
        None => "expired",
    };
    TokenRow {
        id: token.spec.hash.to_string(),
        device: token.spec.thing.name.to_string(),
        state: state.to_owned(),
        added_ms: token.added.0,
        until_ms: token.spec.until.0,
        used_ms: token.used.map(|(at, _)| at.0),
        certificate: token.used.map(|(_, certificate)| certificate.to_string()),
        note: token.spec.note.to_string(),
    }
}

pub(super) async fn revoke(at: At, Json(wanted): Json<RevokeToken>) -> Answer<Changed> {
    let snapshot = at.registry.snapshot();
    let id = wanted
        .id
        .parse::<TokenHash>()
        .or_else(|_| only("token", &wanted.id, snapshot.tokens().map(|token| token.spec.hash)))?;
    let applied = at.registry.submit(Command::DeleteToken(id), at.actor.clone()).answer().await?;
    Ok(Json(changed(&applied)))
}

pub(super) async fn enrolments(at: At) -> Answer<Vec<EnrolmentRow>> {
    let now = at.registry.now();
    let ago = |then: Wall| now.0.saturating_sub(then.0) / 1000;
    let row = |approval: &Arc<Approval>| EnrolmentRow {
        id: approval.request.id.to_string(),
        device: approval.request.device.to_string(),
        label: approval.request.label.as_ref().map(ToString::to_string),
        key: approval.request.key.to_string(),
        address: approval.request.address.to_string(),
        state: match approval.approved {
            None => "waiting",
            Some(true) => "approved",
            Some(false) => "rejected",
        }
        .to_owned(),
        first_seconds_ago: ago(approval.first),
        last_seconds_ago: ago(approval.last),
    };
    Ok(Json(at.registry.snapshot().approvals(now).into_iter().map(row).collect()))
}

pub(super) async fn decide_enrolment(at: At, Json(wanted): Json<DecideEnrolment>) -> Answer<Changed> {
    let snapshot = at.registry.snapshot();
    let kept = snapshot.approvals(at.registry.now());
    let request = only("enrolment", &wanted.id, kept.iter().map(|approval| approval.request.id))?;
    let command = Command::DecideApproval { request, approved: wanted.approve };
    let applied = at.registry.submit(command, at.actor.clone()).answer().await?;
    Ok(Json(changed(&applied)))
}
