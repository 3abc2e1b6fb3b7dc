//! From an accepted socket to a connection with a name, or to a record that says why not.
//!
//! All of it runs on the handshake runtime. What a peer can make us spend here is bounded by [`crate::admission`], by
//! the handshake's deadline, and by the size of the ClientHello and of the certificate chain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use signet_config::Listener;
use signet_core::{ClientIdRule, CloseReason, ListenerRules, Mono, Peer};
use signet_identity::{GroupName, Identified, Principal, ThingName, identify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admission::{AddressSlot, Ticket};
use crate::clock;
use crate::directory::Order;
use crate::io::PeerIo;
use crate::link;
use crate::server::Broker;
use crate::start;
use crate::tls::hello::{self, ClientHello};
use crate::tls::{Ended, FailureContext, FailureRecord, LogAdvice, Refusal, TlsListener, observed};

/// Accepted in one go before other tasks of the thread get their turn.
const ACCEPT_BATCH: usize = 64;
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a refused peer may take to read why.
const REFUSAL_WITHIN: Duration = Duration::from_secs(1);
/// What is read and thrown away after a refusal, so that the peer sees the alert instead of a reset.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// One listener in force.
#[derive(Debug)]
pub struct Listening {
    /// Its place in the configuration.
    pub index: usize,
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// Its TLS, replaced whole by a reload.
    pub tls: ArcSwap<TlsListener>,
    settings: ArcSwap<Listener>,
    open: AtomicUsize,
}

/// A connection's place among those of its listener.
#[derive(Debug)]
pub(crate) struct OpenSlot(Arc<Listening>);

impl Drop for OpenSlot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listening {
    pub(crate) fn new(index: usize, address: SocketAddr, settings: &Listener, tls: Arc<TlsListener>) -> Self {
        Self {
            index,
            address,
            tls: ArcSwap::new(tls),
            settings: ArcSwap::from_pointee(settings.clone()),
            open: AtomicUsize::new(0),
        }
    }

    /// Connections open now, those in their handshake included.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn replace(&self, settings: &Listener, tls: Arc<TlsListener>) {
        self.settings.store(Arc::new(settings.clone()));
        self.tls.store(tls);
    }

    fn open_slot(self: &Arc<Self>) -> Option<OpenSlot> {
        let most = self.settings.load().connections_max.get() as usize;
        if self.open.fetch_add(1, Ordering::Relaxed) >= most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(OpenSlot(Arc::clone(self)))
    }
}

/// What a connection holds until it ends.
#[derive(Debug)]
pub(crate) struct Places {
    _listener: OpenSlot,
    _address: AddressSlot,
}

/// Accepts until the broker stops.
pub(crate) async fn accept(
    broker: Arc<Broker>,
    listening: Arc<Listening>,
    socket: std::net::TcpListener,
    traffic: tokio::runtime::Handle,
) {
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(address = %listening.address, %error, "the listener cannot be used");
            return;
        }
    };
    let mut batch = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = broker.stop_requested() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => admit(&broker, &listening, socket, address, &traffic),
            Err(error) => {
                // The peer's haste is none of our trouble; a lack of descriptors is, and trying at once would only spin.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    broker.metrics.not_admitted.with_label_values(&["accept_failed"]).inc();
                    broker.complain(listening.index, "accept_failed", || {
                        format!("a connection could not be accepted: {error}; is LimitNOFILE high enough?")
                    });
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        batch += 1;
        if batch % ACCEPT_BATCH == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Before any cryptography: may this peer begin a handshake?
fn admit(
    broker: &Arc<Broker>,
    listening: &Arc<Listening>,
    socket: TcpStream,
    address: SocketAddr,
    traffic: &tokio::runtime::Handle,
) {
    let Some(open) = listening.open_slot() else {
        broker.metrics.not_admitted.with_label_values(&["max_connections"]).inc();
        broker.complain(listening.index, "max_connections", || {
            format!("max-connections of {} is reached: new connections are turned away", listening.address)
        });
        return;
    };
    match broker.admission.admit(address.ip(), broker.clock.mono()) {
        Err(refused) => {
            broker.metrics.not_admitted.with_label_values(&[refused.metric_label()]).inc();
            broker.complain(listening.index, refused.metric_label(), || {
                format!("{} connects more than [limits] allow ({})", address.ip(), refused.metric_label())
            });
        }
        Ok((ticket, slot)) => {
            let places = Places { _listener: open, _address: slot };
            let arriving = Arriving {
                broker: Arc::clone(broker),
                listening: Arc::clone(listening),
                address,
                accepted: broker.clock.mono(),
                sni: None,
            };
            tokio::spawn(arriving.shake_hands(socket, ticket, places, traffic.clone()));
        }
    }
}

/// A peer without a name.
struct Arriving {
    broker: Arc<Broker>,
    listening: Arc<Listening>,
    address: SocketAddr,
    accepted: Mono,
    sni: Option<String>,
}

impl Arriving {
    async fn shake_hands(mut self, socket: TcpStream, ticket: Ticket, places: Places, traffic: tokio::runtime::Handle) {
        let within = self.listening.settings.load().handshake_timeout;
        let outcome = tokio::select! {
            biased;
            outcome = self.handshake(socket) => outcome,
            () = tokio::time::sleep(within) => Err(Failed::without_certificate(Ended::TimedOut { within })),
            () = ticket.evicted() => Err(Failed::without_certificate(Ended::Evicted)),
        };
        drop(ticket);
        match outcome {
            Ok(named) => self.hand_over(named, places, &traffic),
            Err(failed) => self.record(failed).await,
        }
    }

    /// TLS, the judgement of the certificate, and the name.
    async fn handshake(&mut self, mut socket: TcpStream) -> Result<Named, Failed> {
        // Without this, CONNACK waits 40 ms for the peer's delayed acknowledgement.
        drop(socket.set_nodelay(true));
        let mut first = BytesMut::new();
        let hello = read_hello(&mut socket, &mut first).await.map_err(Failed::without_certificate)?;
        self.sni = hello.server_name.clone();
        let tls = self.listening.tls.load_full();
        let acceptor = TlsAcceptor::from(tls.server_config(&hello));
        let shaking = acceptor.accept(PeerIo::new(socket, first)).into_fallible();
        let (outcome, refusal) = observed(shaking).await;
        let stream = match outcome {
            Ok(stream) => stream,
            Err((error, io)) => return Err(Failed { ended: Ended::Handshake(error), refusal, io: Some(io) }),
        };
        let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let judged = match tls.judge(stream.get_ref().1, clock::unix_seconds()) {
            Ok(judged) => judged,
            Err(refusal) => {
                return Err(Failed { ended: Ended::Judged, refusal: Some(refusal), io: Some(stream.into_inner().0) });
            }
        };
        let settings = self.listening.settings.load();
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(AsRef::<[u8]>::as_ref);
        match identify(leaf.unwrap_or_default(), settings.identity, &settings.names) {
            Ok(identified) => {
                let principal = principal(&self.broker, &identified);
                Ok(Named { stream, judged, principal, resumed })
            }
            Err(error) => Err(Failed {
                ended: Ended::NoName(error),
                refusal: Some(Refusal::of_leaf(leaf.unwrap_or_default())),
                io: Some(stream.into_inner().0),
            }),
        }
    }

    /// The named connection moves to the traffic runtime.
    fn hand_over(self, named: Named, places: Places, traffic: &tokio::runtime::Handle) {
        let Named { mut stream, judged, principal, resumed } = named;
        let broker = self.broker;
        let now = broker.clock.now();
        let version = match stream.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let kind = if resumed { "resumed" } else { "full" };
        broker.metrics.handshakes.with_label_values(&[version, kind]).inc();
        broker.metrics.handshake_seconds.observe(now.mono.since(self.accepted).as_secs_f64());
        let ends = start::ends_at(judged.not_after(), now);
        let settings = self.listening.settings.load();
        let rules = ListenerRules {
            client_id: match settings.client_id {
                signet_config::ClientIdRule::Any => ClientIdRule::Any,
                signet_config::ClientIdRule::Identity => ClientIdRule::Identity,
                signet_config::ClientIdRule::IdentityPrefix => ClientIdRule::IdentityPrefix,
            },
        };
        let registration = broker.directory.register(self.listening.index, self.address, principal.clone(), judged);
        // A reload may have judged the live connections between our judgement and the registration.
        rejudge(&broker, registration.handle());
        let socket = match stream.get_mut().0.detach() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(address = %self.address, %error, "a connection was lost between two threads");
                return;
            }
        };
        let peer = Peer { principal, address: self.address, rules };
        traffic.spawn(async move {
            let _places = places;
            match stream.get_mut().0.attach(socket) {
                Ok(()) => link::run(broker, stream, peer, registration, ends).await,
                Err(error) => tracing::warn!(%error, "a connection was lost between two threads"),
            }
        });
    }

    /// Keeps, counts and logs the failure, and lets the peer see the alert.
    async fn record(self, failed: Failed) {
        let context = FailureContext {
            at_unix_ms: clock::wall().0,
            peer: self.address,
            listener: self.listening.address,
            sni: self.sni,
            after: self.broker.clock.mono().since(self.accepted),
        };
        let record = FailureRecord::new(context, failed.ended, failed.refusal);
        self.broker.metrics.tls_failures.with_label_values(&[record.cause.metric_label()]).inc();
        match self.broker.failures.add(record.clone(), self.broker.clock.mono().elapsed()) {
            LogAdvice::Log { suppressed } => record.log(suppressed),
            LogAdvice::Suppress => self.broker.metrics.log_suppressed.inc(),
        }
        if let Some(mut io) = failed.io {
            // Closing with unread bytes would reset the connection and might destroy the alert on its way.
            let farewell = async {
                io.flush().await?;
                io.shutdown().await?;
                let mut rest = [0u8; 1024];
                let mut read = 0;
                while read < REFUSAL_BYTES_MAX {
                    match io.read(&mut rest).await? {
                        0 => break,
                        count => read += count,
                    }
                }
                io::Result::Ok(())
            };
            drop(tokio::time::timeout(REFUSAL_WITHIN, farewell).await);
        }
    }
}

/// A peer that has proven who it is.
struct Named {
    stream: TlsStream<PeerIo>,
    judged: crate::tls::Judged,
    principal: Principal,
    resumed: bool,
}

/// A handshake that did not lead to a name.
struct Failed {
    ended: Ended,
    refusal: Option<Refusal>,
    io: Option<PeerIo>,
}

impl Failed {
    fn without_certificate(ended: Ended) -> Self {
        Self { ended, refusal: None, io: None }
    }
}

/// Reads until the ClientHello is whole. Its bytes stay in `first`, for TLS to read again.
async fn read_hello(socket: &mut TcpStream, first: &mut BytesMut) -> Result<ClientHello, Ended> {
    loop {
        match hello::parse(first) {
            Ok(Some(hello)) => return Ok(hello),
            Ok(None) => {}
            Err(error) => return Err(Ended::Hello(error)),
        }
        first.reserve(1024);
        match socket.read_buf(first).await {
            Ok(0) => return Err(Ended::ClosedBeforeHello { received: first.len() }),
            Ok(_) => {}
            Err(error) => return Err(Ended::Handshake(error)),
        }
    }
}

/// Role and groups of a name, from the configuration.
fn principal(broker: &Broker, identified: &Identified) -> Principal {
    let config = broker.config.load();
    let name: ThingName = identified.name.clone();
    let groups: Vec<GroupName> =
        config.identity.groups_of(&name).filter_map(|group| GroupName::try_from(group).ok()).collect();
    if config.identity.operators.contains(&name) {
        Principal::operator(name, identified.certificate, groups)
    } else {
        Principal::device(name, identified.certificate, groups)
    }
}

/// Judges one live connection by the trust in force.
fn rejudge(broker: &Broker, handle: &crate::directory::Handle) -> bool {
    let Some(listening) = broker.listeners.get(handle.listener) else { return false };
    match listening.tls.load().judge_again(&handle.judged, clock::unix_seconds()) {
        Ok(()) => false,
        Err(failure) => {
            tracing::warn!(
                id = handle.id, name = %handle.principal.name(), address = %handle.address,
                "closing: its certificate is no longer accepted: {failure}"
            );
            handle.order(Order::Close(CloseReason::CertificateRevoked));
            true
        }
    }
}

/// Judges every live connection by the trust in force, and orders those to close that it no longer admits; how many.
pub(crate) fn judge_live(broker: &Broker) -> usize {
    broker.directory.snapshot().iter().filter(|handle| rejudge(broker, handle)).count()
}
