//! One-time tokens, and enrolments over EST that wait for approval.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use signet_registry::{Command, Line, Token, TokenHash, Topic, Wall};

use super::answer::{Answer, Refused};
use super::api::{Changed, CreateToken, CreatedToken, DecideEnrolment, EnrolmentRow, RevokeToken, TokenRow};
use super::devices::{only, thing_spec};
use super::{At, changed};
use crate::https::est::{Decided, Waiting};
use crate::server::Broker;
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

pub(super) async fn enrolments(State(broker): State<Arc<Broker>>) -> Json<Vec<EnrolmentRow>> {
    let now = broker.clock.mono();
    let ago = |then: signet_core::Mono| now.since(then).as_secs();
    let row = |waiting: Waiting| EnrolmentRow {
        id: waiting.id,
        device: waiting.asked.device.to_string(),
        label: waiting.asked.label,
        key: waiting.asked.key.to_string(),
        address: waiting.asked.address.to_string(),
        state: match waiting.decided {
            Decided::Not => "waiting",
            Decided::Approved => "approved",
            Decided::Rejected => "rejected",
        }
        .to_owned(),
        first_seconds_ago: ago(waiting.first),
        last_seconds_ago: ago(waiting.last),
    };
    Json(broker.https.approvals.list(now).into_iter().map(row).collect())
}

pub(super) async fn decide_enrolment(
    State(broker): State<Arc<Broker>>,
    at: At,
    Json(wanted): Json<DecideEnrolment>,
) -> Answer<Changed> {
    let approvals = &broker.https.approvals;
    let waiting = approvals.list(broker.clock.mono());
    let id = only("enrolment", &wanted.id, waiting.into_iter().map(|waiting| waiting.id))?;
    let (decided, word) =
        if wanted.approve { (Decided::Approved, "approved") } else { (Decided::Rejected, "rejected") };
    let gone = || Refused::found(format!("there is no enrolment whose id begins with {}", wanted.id));
    let enrolment = approvals.get(&id).ok_or_else(gone)?;
    let asked = &enrolment.asked;
    let text = format!("{word} the enrolment of {} over EST, public key {}", asked.device, asked.key);
    // It is on record before it has an effect.
    let command = Command::Note { topic: Topic::Command, text: Line::new(&text) };
    let applied = at.registry.submit(command, at.actor.clone()).answer().await?;
    approvals.decide(&id, decided).ok_or_else(gone)?;
    Ok(Json(changed(&applied)))
}
