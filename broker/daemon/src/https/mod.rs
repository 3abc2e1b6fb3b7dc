//! HTTPS for devices that have no certificate yet, and for those that renew theirs.
//!
//! A door of its own, apart from MQTT: TLS with the server's certificate, HTTP/1.1, and a few operations that end in a
//! signature. A client needs no certificate; one that it shows is judged as for MQTT, and looked up in the registry
//! again at each request. Everything runs on the threads that do handshakes, signing and waiting for the disk on threads
//! made for waiting, so that none of it can delay a message.
//!
//! - [`provision`]: `POST /provision` and `POST /generate-token`, described by [`provision::OPENAPI`].
//! - [`est`]: Enrollment over Secure Transport (RFC 7030).
//!
//! What a peer can make us spend is bounded: connections ([`crate::admission`], and `max-connections` of the door), the
//! header ([`door::HEADER_BYTES_MAX`]), the body, the time for each of them, requests per minute and address, requests per
//! connection, and signatures under way.

mod body;
mod caller;
mod door;
pub(crate) mod est;
mod pace;
mod provision;
mod refusal;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tokio::sync::Semaphore;

use crate::logging::RateLimit;
use crate::server::Broker;

use caller::Caller;
pub(crate) use door::{Door, accept};
use pace::Pace;
use refusal::{Refused, Shape};

/// Signatures under way at once; more wait for [`SIGNING_WITHIN`].
const SIGNINGS_MAX: usize = 32;
/// How long a request waits for its turn to be signed.
const SIGNING_WITHIN: Duration = Duration::from_secs(5);
/// Refusals that are logged and recorded in the audit trail, per address and minute.
const REFUSALS_RECORDED_PER_MINUTE: u32 = 20;

/// What all doors share.
#[derive(Debug)]
pub(crate) struct Https {
    signings: Arc<Semaphore>,
    pace: Pace,
    recorded: RateLimit<IpAddr>,
}

impl Default for Https {
    fn default() -> Self {
        Self {
            signings: Arc::new(Semaphore::new(SIGNINGS_MAX)),
            pace: Pace::default(),
            recorded: RateLimit::new(REFUSALS_RECORDED_PER_MINUTE, Duration::from_secs(60)),
        }
    }
}

/// What is known where a request is answered.
#[derive(Debug, Clone)]
struct Here {
    broker: Arc<Broker>,
    caller: Caller,
    settings: Arc<signet_config::Https>,
}

type At = axum::Extension<Here>;

/// Every route. A path that is not served at a door is one that does not exist.
fn routes() -> Router {
    let router = provision::routes(Router::new());
    est::routes(router).fallback(not_found).method_not_allowed_fallback(not_allowed)
}

async fn not_found(request: Request) -> Response {
    Shape::of(request.uri().path()).render(Refused::not_found())
}

async fn not_allowed(request: Request) -> Response {
    Shape::of(request.uri().path()).render(Refused::method())
}

/// Runs what waits for a key and for the disk on a thread for that, when it is its turn.
async fn signing<T: Send + 'static>(
    here: &Here,
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    in_turn(&here.broker.https.signings, work).await
}

/// The turn lasts until the work ends, also when nobody waits for it any more.
async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let Ok(Ok(turn)) = tokio::time::timeout(SIGNING_WITHIN, Arc::clone(turns).acquire_owned()).await else {
        return Err(Refused::busy("too many certificates are being signed"));
    };
    let worked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    worked.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the work for a request over HTTPS ended early");
        Err(Refused::internal())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_lasts_as_long_as_the_work_though_the_request_is_gone() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let turns = Arc::new(Semaphore::new(1));
            let (started, begins) = tokio::sync::oneshot::channel();
            let (finish, finished) = std::sync::mpsc::channel::<()>();
            let held = Arc::clone(&turns);
            let request = tokio::spawn(async move {
                in_turn(&held, move || {
                    let _ = started.send(());
                    let _ = finished.recv();
                    Ok(())
                })
                .await
            });
            begins.await.unwrap();
            request.abort();
            assert!(request.await.is_err());
            assert_eq!(turns.available_permits(), 0, "the work goes on");
            drop(finish);
            drop(turns.acquire().await.unwrap());
        });
    }
}
