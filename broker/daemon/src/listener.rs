//! From an accepted socket to a connection with a name, or to a record that says why not.
//!
//! All of it runs on the handshake runtime. What a peer can make us spend here is bounded by [`crate::admission`], by
//! the handshake's deadline, and by the size of the ClientHello and of the certificate chain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use signet_config::Listener;
use signet_core::{ClientIdRule, ListenerRules, Mono, Peer};
use signet_registry::TlsVersion;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::admission::{AddressSlot, Authority, Threshold, Ticket, Turned};
use crate::clones::{self, Presence};
use crate::handshake::{self, Failed, Handshake, Why, gate};
use crate::io::PeerIo;
use crate::link;
use crate::penalty::By;
use crate::principals::TooFast;
use crate::seats::{Seat, Seats};
use crate::server::Broker;
use crate::standing::{self, Admitted, Bearer};
use crate::tls::{Judged, TlsListener, VerifyFailure, Which};

/// Accepted in one go before other tasks of the thread get their turn.
const ACCEPT_BATCH: usize = 64;
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Half-open peers that are dropped when there is no descriptor for a new one.
const MADE_ROOM_FOR_DESCRIPTORS: usize = 64;
/// Plaintext that TLS may hold back when the socket is full.
pub(crate) const TLS_BUFFER_BYTES_MAX: usize = 32 * 1024;

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
    seats: Seats,
}

impl Listening {
    pub(crate) fn new(index: usize, address: SocketAddr, settings: &Listener, tls: Arc<TlsListener>) -> Self {
        Self {
            index,
            address,
            tls: ArcSwap::new(tls),
            settings: ArcSwap::from_pointee(settings.clone()),
            seats: Seats::new(),
        }
    }

    /// Connections open now, those in their handshake included.
    pub fn connections(&self) -> usize {
        self.seats.taken()
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Listener> {
        self.settings.load_full()
    }

    pub(crate) fn replace(&self, settings: &Listener, tls: Arc<TlsListener>) {
        self.settings.store(Arc::new(settings.clone()));
        self.tls.store(tls);
    }
}

/// What a connection holds until it ends.
#[derive(Debug)]
pub(crate) struct Places {
    _listener: Seat,
    address: AddressSlot,
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
    let (mut batch, mut threshold) = (0, Threshold::default());
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
            Ok((socket, address)) => admit(&broker, &listening, socket, address, &traffic),
            Err(error) => not_accepted(&broker, listening.index, "accept_failed", &error).await,
        }
        broker.offers.offer();
        batch += 1;
        if batch % ACCEPT_BATCH == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A connection could not be accepted. The peer's haste is none of our trouble; a lack of descriptors is, and trying at once would
/// only spin. `index` and `kind`: what complains of it.
pub(crate) async fn not_accepted(broker: &Broker, index: usize, kind: &'static str, error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    broker.metrics.not_admitted.with_label_values(&["accept_failed"]).inc();
    broker.admission.make_room(MADE_ROOM_FOR_DESCRIPTORS);
    broker.complain(index, kind, || {
        format!("a connection could not be accepted: {error}; is LimitNOFILE high enough?")
    });
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Before any cryptography: may this peer begin a handshake?
fn admit(
    broker: &Arc<Broker>,
    listening: &Arc<Listening>,
    socket: TcpStream,
    address: SocketAddr,
    traffic: &tokio::runtime::Handle,
) {
    let most = listening.settings.load().connections_max.get() as usize;
    match handshake::let_in(broker, address.ip(), &listening.seats, most) {
        Err(Turned::Memory) => {}
        Err(Turned::NoPlace) => {
            broker.complain(listening.index, "max_connections", || {
                format!(
                    "max-connections of {} is reached: new connections are turned away",
                    listening.address
                )
            });
        }
        Err(Turned::Away(refused)) => {
            broker.complain(listening.index, refused.metric_label(), || {
                format!("{} connects more than [limits] allow ({})", address.ip(), refused.metric_label())
            });
        }
        Ok((ticket, slot, open)) => {
            let places = Places { _listener: open, address: slot };
            let arriving = Arriving {
                broker: Arc::clone(broker),
                listening: Arc::clone(listening),
                address,
                accepted: broker.clock.mono(),
                shaking: Handshake::new(broker, address, listening.address),
                known: places.address.known(broker.clock.mono()),
            };
            handshake::spawn(broker, address, arriving.shake_hands(socket, ticket, places, traffic.clone()));
        }
    }
}

/// A peer without a name.
struct Arriving {
    broker: Arc<Broker>,
    listening: Arc<Listening>,
    address: SocketAddr,
    accepted: Mono,
    shaking: Handshake,
    /// The authority of those who are good and come from its address.
    known: Option<Authority>,
}

impl Arriving {
    async fn shake_hands(
        mut self,
        socket: TcpStream,
        ticket: Ticket,
        mut places: Places,
        traffic: tokio::runtime::Handle,
    ) {
        let within = self.listening.settings.load().handshake_timeout;
        let outcome = tokio::select! {
            biased;
            outcome = self.handshake(socket, &ticket) => outcome,
            () = tokio::time::sleep(within) => Err(Failed::new(Why::TimedOut(within))),
            () = ticket.evicted() => Err(Failed::made_room(&self.broker)),
        };
        let now = self.broker.clock.mono();
        match outcome {
            Ok(named) => {
                if named.admitted.refusal.is_none() {
                    ticket.is_good();
                    places.address.good(Authority::of(named.judged.anchor()));
                } else {
                    places.address.refused(now);
                }
                self.hand_over(named, ticket, places, &traffic);
            }
            Err(failed) => {
                drop(ticket);
                if failed.is_refusal() {
                    places.address.refused(now);
                }
                failed_for_good(&failed, &self.broker);
                self.shaking.record(failed).await;
            }
        }
    }

    /// TLS, the judgement of the certificate, and the name.
    async fn handshake(&mut self, socket: TcpStream, ticket: &Ticket) -> Result<Named, Failed> {
        let (stream, tls) = self.shaking.shake(socket, ticket, &self.listening.tls, self.known).await?;
        let session = stream.get_ref().1;
        let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let chain = session.peer_certificates().unwrap_or_default();
        let leaf = chain.first().map(AsRef::<[u8]>::as_ref).unwrap_or_default();
        let settings = self.listening.settings.load_full();
        let named = match tls.judge(chain, self.broker.judging_time()) {
            // A resumed session has not come past the gate.
            Ok(judged) if gate(&self.broker)(&judged.certificate()) => {
                Err(Why::Judged(VerifyFailure::RefusedBefore { certificate: judged.certificate() }))
            }
            Ok(judged) => {
                let bearer = Bearer {
                    judged: &judged,
                    leaf,
                    name: judged.name(leaf, settings.identity, &settings.names),
                    address: self.address.ip(),
                    tls: match session.protocol_version() {
                        Some(rustls::ProtocolVersion::TLSv1_2) => TlsVersion::V12,
                        _ => TlsVersion::V13,
                    },
                };
                match standing::admit(&self.broker, bearer).await {
                    Ok(admitted) => Ok((judged, admitted)),
                    Err(error) => Err(Why::NoName(error)),
                }
            }
            Err(failure) => Err(Why::Judged(failure)),
        };
        match named {
            Ok((judged, admitted)) => {
                let client = self.shaking.said().map_or([0; 8], |hello| hello.fingerprint);
                let in_force = admitted.refusal.is_none();
                let presence = in_force
                    .then(|| clones::watch(&self.broker, &admitted.principal, self.address.ip(), client))
                    .flatten();
                // From here on it changes threads and owners: a pointer does so for less.
                Ok(Named { stream: Box::new(stream), judged, admitted, settings, resumed, presence })
            }
            Err(why) => {
                let leaf = leaf.to_vec();
                Err(Failed { why, refusal: None, leaf, io: Some(stream.into_inner().0) })
            }
        }
    }

    /// The named connection moves to the traffic runtime.
    fn hand_over(self, named: Named, ticket: Ticket, places: Places, traffic: &tokio::runtime::Handle) {
        let Named { mut stream, judged, admitted, settings, resumed, presence } = named;
        let Admitted { principal, mut refusal, until } = admitted;
        let broker = self.broker;
        let now = broker.clock.now();
        // Who is refused has the name that its certificate says, and takes nothing from the one whose name that is.
        let share = if refusal.is_none() {
            let share = broker.principals.connects(principal.key(), **broker.rates.load(), now.mono);
            refusal = share.as_ref().err().map(|TooFast| signet_core::Refusal::ConnectRate);
            share.ok()
        } else {
            None
        };
        let version = match stream.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let kind = if resumed { "resumed" } else { "full" };
        broker.metrics.handshakes.with_label_values(&[version, kind]).inc();
        broker.metrics.handshake_seconds.observe(now.mono.since(self.accepted).as_secs_f64());
        // Our output is bounded by the task that writes it; TLS itself holds no more than a few records.
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX));
        let rules = ListenerRules {
            client_id_rule: match settings.client_id {
                signet_config::ClientIdRule::Any => ClientIdRule::Any,
                signet_config::ClientIdRule::Identity => ClientIdRule::Identity,
                signet_config::ClientIdRule::IdentityPrefix => ClientIdRule::IdentityPrefix,
            },
            refusal,
            ..ListenerRules::default()
        };
        let socket = match stream.get_mut().0.detach() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(address = %self.address, %error, "a connection was lost between two threads");
                return;
            }
        };
        let peer = Peer { principal, address: self.address, rules };
        let half_open = Some(ticket);
        let listener = self.listening.index;
        let arrival = Box::new(link::Arrival { peer, listener, judged, settings, until, half_open, share });
        traffic.spawn(async move {
            let _kept = (places, presence);
            match stream.get_mut().0.attach(socket) {
                Ok(()) => link::run(broker, stream, arrival).await,
                Err(error) => tracing::warn!(%error, "a connection was lost between two threads"),
            }
        });
    }
}

/// Counts the refusal against the certificate, where it is the certificate's alone. Its path has been verified, and it cannot
/// become good again, so nobody is harmed who shows another's. One that has expired may be good by the right time, and is
/// refused before any of its signatures is looked at.
fn failed_for_good(failed: &Failed, broker: &Broker) {
    if matches!(failed.refused(), Some(VerifyFailure::Revoked { which: Which::Leaf, .. })) {
        broker.penalties.refused(failed.certificate(), By::List, broker.clock.mono());
    }
}

/// A peer that has proven who it is.
struct Named {
    stream: Box<TlsStream<PeerIo>>,
    judged: Judged,
    admitted: Admitted,
    /// The listener's settings that this was done under.
    settings: Arc<Listener>,
    resumed: bool,
    /// Where it is, for those who look for copies of it.
    presence: Option<Presence>,
}
