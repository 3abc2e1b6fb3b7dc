//! The routes of both HTTP services.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::Semaphore;

use super::api::{FailureReport, FailuresWanted, Kick, Kicked, Refusal, Reloaded, SessionRow, Status};
use super::registry::Peer;
use crate::server::Broker;
use crate::trail;

/// How long an answer about failed handshakes may wait for one.
const FOLLOW_WITHIN: Duration = Duration::from_secs(30);
/// Commands that may wait for failed handshakes at once.
const FOLLOWERS_MAX: usize = 16;
static FOLLOWERS: Semaphore = Semaphore::const_new(FOLLOWERS_MAX);

/// Operator commands: for the Unix socket only, served with [`Peer`] as what is known of a
/// connection.
pub fn admin_routes(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/reload", post(reload))
        .route("/stop", post(stop))
        .route("/backup", post(super::backup::backup))
        .route("/sessions", get(sessions))
        .route("/sessions/kick", post(kick))
        .route("/tls/failures", get(failures))
        .route("/certificates/judge", post(super::judge::judge))
        .merge(super::registry::registry_routes(Arc::clone(&broker)))
        .with_state(broker)
}

/// Metrics, health and the revocation list: nothing here names a device or changes anything.
pub fn metrics_routes(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/crl", get(super::registry::published_list))
        .route("/crl/{id}", get(super::registry::published_list_of))
        .with_state(broker)
}

async fn status(State(broker): State<Arc<Broker>>) -> Json<Status> {
    Json(broker.status())
}

async fn reload(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Reloaded>, Response> {
    let reload = move || {
        broker.trust_clock();
        broker.reload_by("operator command", &peer.actor())
    };
    let outcome = tokio::task::spawn_blocking(reload).await;
    match outcome {
        Ok(Ok(reloaded)) => Ok(Json(reloaded)),
        Ok(Err(refused)) => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, refused.problems())),
        Err(error) => Err(refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            vec![format!("the reload did not finish: {error}")],
        )),
    }
}

async fn stop(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Json<serde_json::Value> {
    trail::command(&broker, &"stop", &peer.actor());
    broker.request_stop();
    Json(serde_json::json!({ "stopping": true }))
}

async fn sessions(State(broker): State<Arc<Broker>>) -> Json<Vec<SessionRow>> {
    Json(broker.session_rows())
}

async fn kick(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(kick): Json<Kick>,
) -> Result<Json<Kicked>, Response> {
    match broker.kick(&kick.name, kick.client_id.as_deref()) {
        Ok(closed) => {
            let text = format!("sessions kick {}: {closed} connections closed", kick.name);
            trail::command(&broker, &text, &peer.actor());
            Ok(Json(Kicked { closed }))
        }
        Err(problem) => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, vec![problem])),
    }
}

async fn failures(
    State(broker): State<Arc<Broker>>,
    Query(wanted): Query<FailuresWanted>,
) -> Result<Json<FailureReport>, Response> {
    let Some(after) = wanted.after else { return Ok(Json(broker.tls_failures())) };
    if let Some(secs) = wanted.wait_seconds {
        let Ok(_place) = FOLLOWERS.try_acquire() else {
            let problem = format!("{FOLLOWERS_MAX} commands follow the failures already: end one of them");
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, vec![problem]));
        };
        let within = Duration::from_secs(secs).min(FOLLOW_WITHIN);
        tokio::select! {
            biased;
            () = broker.stop_requested() => {}
            () = broker.failures.newer_than(after) => {}
            () = tokio::time::sleep(within) => {}
        }
    }
    Ok(Json(broker.tls_failures_after(after)))
}

async fn metrics(State(broker): State<Arc<Broker>>) -> Response {
    match broker.metrics_text() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {error}\n"))
            .into_response(),
    }
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(broker): State<Arc<Broker>>) -> Response {
    if !broker.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match broker.store_trouble() {
        None => "ready\n".into_response(),
        // Nothing of QoS 1 and 2 can be acknowledged.
        Some(trouble) => {
            let why = format!("the message store cannot be written: {trouble}\n");
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

fn refuse(status: StatusCode, problems: Vec<String>) -> Response {
    (status, Json(Refusal { problems })).into_response()
}
