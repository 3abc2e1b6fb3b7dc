//! The routes of the admin socket about the registry, the authority and the audit trail.

mod answer;
pub mod api;
mod claims;
mod devices;
mod operators;
mod peer;
mod rotations;
mod templates;
mod tokens;
mod trust;

use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use signet_registry::audit::Head;
use signet_registry::{Actor, Command, Line, Topic};

use answer::{Answer, Refused, blocking};
use api::{AuditLine, Changed, ListAudit, Verified, VerifyAudit, WriteNote};
pub use peer::Peer;

use super::api::Refusal;
use crate::ca::{Authority, WrittenList};
use crate::server::Broker;
use crate::store::{Applied, AuditQuery, RegistryService};

/// The fewest digits of an authority's id in the path of its list.
const LIST_ID_DIGITS_MIN: usize = 8;
/// The rows of the audit trail that one answer has when nobody says how many.
const AUDIT_ROWS: u32 = 1000;
/// The events that are told in words in one answer.
const EVENTS_TOLD_MAX: usize = 100;

/// What the routes work on.
#[derive(Debug, Clone)]
pub(crate) struct Operated {
    registry: Arc<RegistryService>,
    authority: Option<Arc<Authority>>,
    actor: Actor,
}

impl Operated {
    fn authority(&self) -> Result<&Arc<Authority>, Refused> {
        self.authority.as_ref().ok_or_else(|| {
            Refused::found(
                "this broker is no certificate authority\n  hint: write [ca] in its configuration, and `signet ca init`",
            )
        })
    }
}

/// Operator commands about the registry: for the Unix socket only, served with [`Peer`] as what is known of a connection.
pub fn registry_routes(broker: Arc<Broker>) -> Router<Arc<Broker>> {
    Router::new()
        .route("/registry/devices/list", post(devices::list))
        .route("/registry/devices/show", post(devices::show))
        .route("/registry/devices/add", post(devices::add))
        .route("/registry/devices/approve", post(devices::approve))
        .route("/registry/standing", post(devices::change_standing))
        .route("/registry/cas", get(trust::cas))
        .route("/registry/cas/import", post(trust::import))
        .route("/registry/cas/set", post(trust::set))
        .route("/registry/crl", get(trust::list))
        .route("/registry/crl/write", post(trust::write_list))
        .route("/registry/templates", get(templates::list))
        .route("/registry/templates/set", post(templates::set))
        .route("/registry/templates/show", post(templates::show))
        .route("/registry/templates/remove", post(templates::remove))
        .route("/registry/claims", get(claims::list))
        .route("/registry/claims/create", post(claims::create))
        .route("/registry/claims/show", post(claims::show))
        .route("/registry/claims/serials", post(claims::add_serials))
        .route("/registry/claims/change", post(claims::change))
        .route("/registry/operators", get(operators::list))
        .route("/registry/operators/add", post(operators::add))
        .route("/registry/tokens", get(tokens::list))
        .route("/registry/tokens/create", post(tokens::create))
        .route("/registry/tokens/revoke", post(tokens::revoke))
        .route("/registry/est/pending", get(tokens::enrolments))
        .route("/registry/est/decide", post(tokens::decide_enrolment))
        .route("/registry/rotations", get(rotations::list))
        .route("/registry/rotations/start", post(rotations::start))
        .route("/registry/rotations/show", post(rotations::show))
        .route("/registry/rotations/change", post(rotations::change))
        .route("/registry/audit/list", post(audit))
        .route("/registry/audit/verify", post(verify))
        .route("/registry/audit/note", post(note))
        .route("/registry/audit/accept-clock", post(accept_clock))
        .layer(middleware::from_fn_with_state(broker, with_registry))
}

/// Gives the routes the registry and the one who acts, or says that there is none.
async fn with_registry(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(registry) = broker.registry() else {
        let problem =
            "this broker keeps no registry\n  hint: write mode = \"on\" in [registry] of its configuration";
        let refusal = Refusal { problems: vec![problem.to_owned()] };
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response();
    };
    request.extensions_mut().insert(Operated {
        registry: Arc::clone(registry),
        authority: broker.authority(),
        actor: peer.actor(),
    });
    next.run(request).await
}

/// `GET /crl/ID`: the same of one of the authorities that this broker is or was. ID is what its id begins with.
pub(crate) async fn published_list_of(State(broker): State<Arc<Broker>>, Path(id): Path<String>) -> Response {
    let authorities = broker.authorities();
    let mut named = authorities.iter().filter(|authority| {
        id.len() >= LIST_ID_DIGITS_MIN && authority.issuer().id().to_string().starts_with(&id)
    });
    answer_list(named.next().and_then(|authority| authority.list()))
}

/// `GET /crl`: the revocation list in DER, for whoever validates certificates by themselves.
pub(crate) async fn published_list(State(broker): State<Arc<Broker>>) -> Response {
    answer_list(broker.authority().and_then(|authority| authority.list()))
}

fn answer_list(list: Option<Arc<WrittenList>>) -> Response {
    match list {
        Some(list) => ([(header::CONTENT_TYPE, "application/pkix-crl")], list.der.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

type At = axum::Extension<Operated>;

fn changed(applied: &Applied) -> Changed {
    Changed {
        events: applied.events.len() as u64,
        what: applied.events.iter().take(EVENTS_TOLD_MAX).map(|event| event.change.to_string()).collect(),
        lost: applied.effects.lost.len() as u64,
    }
}

async fn audit(at: At, Json(list): Json<ListAudit>) -> Answer<Vec<AuditLine>> {
    let operated = at.0;
    blocking(move || {
        let certificate = list
            .certificate
            .map(|id| devices::certificate_id(&operated.registry.registry(), &id))
            .transpose()?;
        let query = AuditQuery {
            after: list.after,
            name: list.name,
            certificate,
            kind: list.kind,
            oldest_first: list.after.is_some(),
            at_most: list.limit.unwrap_or(AUDIT_ROWS),
        };
        let rows = operated.registry.audit(&query)?;
        Ok(rows
            .into_iter()
            .map(|recorded| {
                let row = recorded.row;
                let (at_ms, kind, actor, text) = match &recorded.event {
                    Ok(event) => (
                        event.at.0,
                        event.change.metric_label().to_owned(),
                        event.actor.to_string(),
                        event.change.to_string(),
                    ),
                    Err(error) => (0, "unreadable".to_owned(), String::new(), error.to_string()),
                };
                let event = serde_json::from_str(&row.event).unwrap_or(serde_json::Value::Null);
                AuditLine { seq: row.seq, at_ms, kind, actor, text, event, hash: row.hash.to_string() }
            })
            .collect())
    })
    .await
}

async fn verify(at: At, Json(verify): Json<VerifyAudit>) -> Answer<Verified> {
    blocking(move || {
        let known = verify
            .expect
            .map(|text| text.parse::<Head>().map_err(|_| Refused::found("a row is named as NUMBER:HASH")))
            .transpose()?;
        let head = at.registry.verify_audit(known)?;
        Ok(Verified { head: head.to_string(), rows: head.seq })
    })
    .await
}

async fn note(at: At, Json(note): Json<WriteNote>) -> Answer<Changed> {
    let command = Command::Note { topic: Topic::Remark, text: Line::new(&note.text) };
    let applied = at.registry.submit(command, at.actor.clone()).answer().await?;
    Ok(Json(changed(&applied)))
}

async fn accept_clock(at: At) -> Answer<Changed> {
    let applied = at.registry.submit(Command::AcceptClock, at.actor.clone()).answer().await?;
    Ok(Json(changed(&applied)))
}
