//! From an accepted socket to answered requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use signet_config::Https as Settings;
use signet_registry::{Standing, TlsVersion};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::caller::{Caller, Shown};
use super::refusal::{Refused, Shape};
use super::{Here, body};
use crate::admission::{AddressSlot, Authority, Threshold, Ticket};
use crate::handshake::{self, Failed, Handshake, Why, gate};
use crate::io::PeerIo;
use crate::listener::not_accepted;
use crate::seats::{Seat, Seats};
use crate::server::Broker;
use crate::tls::{TlsListener, VerifyFailure};

/// The most bytes of a request's line and header fields.
pub(crate) const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The most header fields of a request.
const HEADERS_MAX: usize = 64;
/// The most requests of one connection; then it must connect again.
const REQUESTS_MAX: u32 = 100;
/// The longest that a connection lives.
const LIFE_MAX: Duration = Duration::from_secs(300);
/// What a request under way gets to end after that, or when the broker stops.
const LINGER: Duration = Duration::from_secs(5);

/// One address that gives certificates.
#[derive(Debug)]
pub(crate) struct Door {
    /// The address that it is bound to.
    pub(crate) address: SocketAddr,
    tls: ArcSwap<TlsListener>,
    settings: ArcSwap<Settings>,
    seats: Seats,
}

impl Door {
    pub(crate) fn new(address: SocketAddr, settings: &Settings, tls: Arc<TlsListener>) -> Self {
        Self {
            address,
            tls: ArcSwap::new(tls),
            settings: ArcSwap::from_pointee(settings.clone()),
            seats: Seats::new(),
        }
    }

    /// The TLS in force.
    pub(crate) fn tls(&self) -> Arc<TlsListener> {
        self.tls.load_full()
    }

    /// Connections open now.
    pub(crate) fn connections(&self) -> usize {
        self.seats.taken()
    }

    pub(crate) fn replace(&self, settings: &Settings, tls: Arc<TlsListener>) {
        self.settings.store(Arc::new(settings.clone()));
        self.tls.store(tls);
    }
}

/// Accepts until the broker stops.
pub(crate) async fn accept(broker: Arc<Broker>, door: Arc<Door>, socket: std::net::TcpListener) {
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(address = %door.address, %error, "the HTTPS listener cannot be used");
            return;
        }
    };
    let routes = super::routes();
    let mut threshold = Threshold::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = broker.stop_requested() => return,
            accepted = async {
                broker.turns.room().await;
                broker.departures.room().await;
                threshold.room(&broker.admission).await;
                socket.accept().await
            } => accepted,
        };
        match accepted {
            Ok((socket, address)) => admit(&broker, &door, &routes, socket, address),
            Err(error) => not_accepted(&broker, 0, "https_accept_failed", &error).await,
        }
    }
}

/// Before any cryptography: may this peer begin a handshake?
fn admit(broker: &Arc<Broker>, door: &Arc<Door>, routes: &Router, socket: TcpStream, address: SocketAddr) {
    let most = door.settings.load().connections_max.get() as usize;
    // Why not is counted.
    let Ok((ticket, slot, seat)) = handshake::let_in(broker, address.ip(), &door.seats, most) else { return };
    let arriving = Arriving {
        broker: Arc::clone(broker),
        door: Arc::clone(door),
        address,
        shaking: Handshake::new(broker, address, door.address),
        known: slot.known(broker.clock.mono()),
        in_force: None,
    };
    handshake::spawn(broker, address, arriving.run(socket, ticket, (seat, slot), routes.clone()));
}

/// A peer that has not finished its handshake.
struct Arriving {
    broker: Arc<Broker>,
    door: Arc<Door>,
    address: SocketAddr,
    shaking: Handshake,
    /// The authority of those who are good and come from its address.
    known: Option<Authority>,
    /// The authority of the certificate in force that was shown.
    in_force: Option<Authority>,
}

impl Arriving {
    async fn run(
        mut self,
        socket: TcpStream,
        ticket: Ticket,
        mut places: (Seat, AddressSlot),
        routes: Router,
    ) {
        let within = self.door.settings.load().handshake_timeout;
        let outcome = tokio::select! {
            biased;
            outcome = self.handshake(socket, &ticket) => outcome,
            () = tokio::time::sleep(within) => Err(Failed::new(Why::TimedOut(within))),
            () = ticket.evicted() => Err(Failed::made_room(&self.broker)),
        };
        drop(ticket);
        match outcome {
            Ok((stream, caller)) => {
                if let Some(authority) = self.in_force {
                    // Whoever shows nothing holds the door closed to nobody.
                    self.broker.admission.came_through();
                    places.1.good(authority);
                }
                serve(self.broker, self.door, stream, caller, routes).await;
            }
            Err(failed) => {
                if failed.is_refusal() {
                    places.1.refused(self.broker.clock.mono());
                }
                // What is refused here bars nobody.
                self.shaking.record(failed).await;
            }
        }
        drop(places);
    }

    /// TLS, and the judgement of the certificate, if one is shown.
    async fn handshake(
        &mut self,
        socket: TcpStream,
        ticket: &Ticket,
    ) -> Result<(TlsStream<PeerIo>, Caller), Failed> {
        drop(socket.set_nodelay(true));
        let (mut stream, tls) = self.shaking.shake(socket, ticket, &self.door.tls, self.known).await?;
        // From here on the header, the body and the time of each request are bounded.
        stream.get_mut().0.unbounded();
        let version = match stream.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => ("1.2", TlsVersion::V12),
            _ => ("1.3", TlsVersion::V13),
        };
        self.broker.metrics.handshakes.with_label_values(&[version.0, "full"]).inc();
        match self.shown(&tls, &stream, version.1) {
            Ok(shown) => Ok((stream, Caller::new(self.address, shown))),
            Err(why) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let leaf = chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
                Err(Failed { why, refusal: None, leaf, io: Some(stream.into_inner().0) })
            }
        }
    }

    /// The certificate that was shown. It is looked up and never let in: who is to be admitted at the first connection comes
    /// over MQTT, where the listener says how certificates name devices.
    fn shown(
        &mut self,
        tls: &TlsListener,
        stream: &TlsStream<PeerIo>,
        version: TlsVersion,
    ) -> Result<Option<Shown>, Why> {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let Some(leaf) = chain.first() else { return Ok(None) };
        let judged = tls.judge(chain, self.broker.judging_time()).map_err(Why::Judged)?;
        let certificate = judged.certificate();
        // A resumed session has not come past the gate.
        if gate(&self.broker)(&certificate) {
            return Err(Why::Judged(VerifyFailure::RefusedBefore { certificate }));
        }
        // What it is worth is asked again at each request.
        if let Some(registry) = self.broker.registry()
            && let Standing::Active(_) =
                registry.standing(&certificate, &judged.issuer_key(), &judged.serial())
        {
            registry.seen(&certificate, self.address.ip(), version);
            self.in_force = Some(Authority::of(judged.anchor()));
        }
        Ok(Some(Shown { door: Arc::clone(&self.door), leaf: leaf.to_vec(), judged }))
    }
}

/// Answers the requests of one connection.
async fn serve(
    broker: Arc<Broker>,
    door: Arc<Door>,
    stream: TlsStream<PeerIo>,
    caller: Caller,
    routes: Router,
) {
    let settings = door.settings.load_full();
    let count = AtomicU32::new(0);
    let stopping = Arc::clone(&broker);
    let header_timeout = settings.header_timeout;
    let here = Here { broker, caller, settings };
    let service = service_fn(|request| {
        let last = count.fetch_add(1, Ordering::Relaxed) + 1 >= REQUESTS_MAX;
        let (here, routes) = (here.clone(), routes.clone());
        async move {
            let mut response = answer(here, routes, request).await;
            if last {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // There are clients that look for `Content-Length` as it is written here, and clients that read a response in two
        // steps, header and rest: so it leaves in one piece.
        .title_case_headers(true)
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        // How it ended is the peer's business.
        _ = connection.as_mut() => return,
        () = stopping.stop_requested() => {}
        () = tokio::time::sleep(LIFE_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(tokio::time::timeout(LINGER, connection).await);
}

/// Answers one request.
async fn answer(here: Here, routes: Router, request: Request<Incoming>) -> Response {
    let shape = Shape::of(request.uri().path());
    let operation = operation_of(request.uri().path());
    let (broker, address) = (Arc::clone(&here.broker), here.caller.address());
    let refused = |refused| shape.render(refused);
    let response = match here.admit(request).await {
        Err(why) => refused(why),
        Ok(mut request) => {
            request.extensions_mut().insert(here);
            let routes = TowerToHyperService::new(routes);
            match hyper::service::Service::call(&routes, request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    let status = response.status();
    broker.metrics.https_requests.with_label_values(&[operation, status.as_str()]).inc();
    tracing::debug!(%address, operation, status = status.as_u16(), "answered over HTTPS");
    response
}

impl Here {
    /// Counts the request, and reads its body.
    async fn admit(&self, request: Request<Incoming>) -> Result<Request<Body>, Refused> {
        let settings = &self.settings;
        let per_minute = settings.requests_per_address_per_minute;
        let now = self.broker.clock.mono();
        self.broker
            .https
            .pace
            .admit(self.caller.address().ip(), per_minute, now)
            .map_err(|after| Refused::pace(after.as_secs().saturating_add(1)))?;
        let (parts, incoming) = request.into_parts();
        let whole = body::read(incoming, settings.body_bytes_max, settings.body_timeout).await?;
        Ok(Request::from_parts(parts, Body::from(whole)))
    }
}

/// What a path is for, out of a closed set.
fn operation_of(path: &str) -> &'static str {
    const OPERATIONS: [&str; 7] = [
        "provision",
        "generate-token",
        "openapi.json",
        "cacerts",
        "simpleenroll",
        "simplereenroll",
        "csrattrs",
    ];
    let last = path.rsplit('/').next().unwrap_or_default();
    OPERATIONS.into_iter().find(|operation| *operation == last).unwrap_or("other")
}
