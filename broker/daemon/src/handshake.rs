//! What every address, of MQTT and of HTTPS, does with a peer that has not shown who it is: it lets it in or not, reads its
//! ClientHello, chooses the settings of TLS by that, shakes hands with it in its turns and within its bounds, and keeps, counts and
//! tells of a handshake that came to nothing.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use rustls::ServerConfig;
use signet_core::Pressure;
use signet_identity::{CertificateId, IdentityError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admission::{AddressSlot, Authority, Ticket, Turned, source_of};
use crate::clock;
use crate::io::PeerIo;
use crate::memory;
use crate::seats::{Seat, Seats};
use crate::server::Broker;
use crate::tls::hello::{ClientHello, HelloTap, Progress};
use crate::tls::{
    Ended, FailureContext, FailureRecord, Gate, LogAdvice, Refusal, TlsListener, VerifyFailure, guarded,
};
use crate::turns::InTurn;
use crate::vital::{self, Panicked};

/// How long a refused peer may take to read why.
const REFUSAL_WITHIN: Duration = Duration::from_secs(1);
/// What is read and thrown away after a refusal, so that the peer sees the alert instead of a reset.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
/// Room for a ClientHello without post-quantum key shares; more is made as it comes.
const HELLO_BYTES_USUAL: usize = 1024;
/// rustls counts a record's header into `max_fragment_size`.
const RECORD_HEADER_BYTES: usize = 5;

/// Before any cryptography: lets a peer begin a handshake, with a place among the half-open, at its address and among the `seats`
/// of the address that it came to; or counts why not.
pub(crate) fn let_in(
    broker: &Broker,
    address: IpAddr,
    seats: &Seats,
    most: usize,
) -> Result<(Ticket, AddressSlot, Seat), Turned> {
    broker.memory.taken(broker.hub(), memory::HANDSHAKE_BYTES);
    let entered = if broker.memory.lets_in(broker.hub(), broker.admission.half_open()) {
        // While memory runs short there are to be no more of them than there are.
        let crowded = broker.hub().pressure() == Pressure::Shed;
        let from = (address, seats.entrance());
        broker.admission.enter(from, broker.clock.mono(), crowded, |ticket| seats.take(most, ticket))
    } else {
        Err(Turned::Memory)
    };
    entered
        .inspect_err(|turned| broker.metrics.not_admitted.with_label_values(&[turned.metric_label()]).inc())
}

/// Runs the work of a peer without a name, and of one that came for a certificate. A panic there ends it, and nothing else.
pub(crate) fn spawn(
    broker: &Arc<Broker>,
    address: SocketAddr,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let broker = Arc::clone(broker);
    tokio::spawn(async move {
        let mut work = Box::pin(work);
        if let Err(Panicked) = poll_fn(|cx| vital::poll_guarded(work.as_mut(), cx)).await {
            broker.metrics.panics.inc();
            tracing::error!(%address, "a panic in this peer's handshake or HTTPS request ended it; this is a defect, please report it");
        }
    });
}

/// A handshake under way.
pub(crate) struct Handshake {
    broker: Arc<Broker>,
    /// The address that the peer comes from,
    peer: SocketAddr,
    /// and the one that it came to.
    listener: SocketAddr,
    tap: HelloTap,
    /// Whether TLS began, so that our certificate was on its way.
    flight_sent: bool,
    fragment_bytes_max: u16,
}

impl Handshake {
    pub(crate) fn new(broker: &Arc<Broker>, peer: SocketAddr, listener: SocketAddr) -> Self {
        let (broker, tap) = (Arc::clone(broker), HelloTap::default());
        Self { broker, peer, listener, tap, flight_sent: false, fragment_bytes_max: 0 }
    }

    /// TLS, in turns, and within the bytes that a peer may send before it is known; and the settings that this was done under.
    /// `known`: the authority of those who are known at its address. The time is its caller's to bound.
    pub(crate) async fn shake(
        &mut self,
        mut socket: TcpStream,
        ticket: &Ticket,
        tls: &ArcSwap<TlsListener>,
        known: Option<Authority>,
    ) -> Result<(TlsStream<PeerIo>, Arc<TlsListener>), Failed> {
        let first = self.hello(&mut socket, ticket).await?;
        let tls = tls.load_full();
        let config = self.begin(&tls);
        let io = PeerIo::new(socket, first).within(self.broker.config.load().limits.handshake_bytes_max);
        let shaking = TlsAcceptor::from(config).accept(io).into_fallible();
        let shaking = guarded(gate(&self.broker), shaking);
        let source = source_of(self.peer.ip());
        let (outcome, refusal) = InTurn::new(&self.broker.turns, source, known, shaking).await;
        match outcome {
            Ok(stream) => Ok((stream, tls)),
            Err((error, io)) => Err(Failed { why: Why::Io(error), refusal, leaf: Vec::new(), io: Some(io) }),
        }
    }

    /// Reads until the ClientHello is whole, or is none. TLS gets the bytes that are returned to read again.
    async fn hello(&mut self, socket: &mut TcpStream, ticket: &Ticket) -> io::Result<BytesMut> {
        let mut first = BytesMut::with_capacity(HELLO_BYTES_USUAL);
        loop {
            let seen = first.len();
            if socket.read_buf(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match self.tap.push(first.get(seen..).unwrap_or_default()) {
                Progress::More => first.reserve(HELLO_BYTES_USUAL),
                Progress::Complete(_) | Progress::Unreadable => break,
                Progress::NotTls(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        ticket.began();
        Ok(first)
    }

    /// The settings of TLS for this peer.
    fn begin(&mut self, tls: &TlsListener) -> Arc<ServerConfig> {
        let config = tls.server_config(self.tap.hello());
        let record =
            config.max_fragment_size.unwrap_or(usize::from(u16::MAX)).saturating_sub(RECORD_HEADER_BYTES);
        self.fragment_bytes_max = u16::try_from(record).unwrap_or(u16::MAX);
        self.flight_sent = true;
        config
    }

    /// What the peer said first, when that could be read.
    pub(crate) fn said(&self) -> Option<&ClientHello> {
        self.tap.hello()
    }

    /// Keeps, counts and logs the failure, and lets the peer see the alert, when it has waited where it has to.
    pub(crate) async fn record(self, failed: Failed) {
        let listener = self.listener.to_string();
        let context = FailureContext {
            at_ms: clock::wall().0,
            peer: self.peer,
            listener: &listener,
            hello: self.tap.progress(),
            received: !self.tap.is_empty(),
            flight_sent: self.flight_sent,
            fragment_bytes_max: self.fragment_bytes_max,
            version: None,
            refusal: failed.refusal.as_ref(),
        };
        let ended = match &failed.why {
            Why::Io(error) => Ended::Io(error),
            Why::TimedOut(after) => Ended::TimedOut { after: *after },
            Why::Judged(failure) => Ended::Judged { failure, leaf: &failed.leaf },
            Why::NoName(error) => Ended::NoName { error, leaf: &failed.leaf },
        };
        keep_failure(&self.broker, &context, ended);
        let barred = failed.barred();
        let Some(mut io) = failed.io else { return };
        if let Some(certificate) = barred {
            hold_back(&self.broker, certificate, &mut io).await;
        }
        farewell(io).await;
    }
}

/// A handshake that did not lead to a name.
pub(crate) struct Failed {
    pub(crate) why: Why,
    /// Why the certificate was refused in the handshake.
    pub(crate) refusal: Option<Refusal>,
    /// The client's certificate when the handshake itself succeeded, DER.
    pub(crate) leaf: Vec<u8>,
    /// The peer, when it is to be told.
    pub(crate) io: Option<PeerIo>,
}

/// Why there is no name.
pub(crate) enum Why {
    Io(io::Error),
    TimedOut(Duration),
    Judged(VerifyFailure),
    NoName(IdentityError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::new(Why::Io(error))
    }
}

impl Failed {
    pub(crate) fn new(why: Why) -> Self {
        Self { why, refusal: None, leaf: Vec::new(), io: None }
    }

    /// A peer has to make room for others before its handshake is over, which is counted here.
    pub(crate) fn made_room(broker: &Broker) -> Self {
        broker.metrics.not_admitted.with_label_values(&["made_room"]).inc();
        Self::new(Why::Io(io::Error::other(
            "it had to make room for a newer connection: see handshakes-in-flight-max and memory-max of [limits], and \
             max-connections of the address that it came to",
        )))
    }

    /// Why the certificate was refused, when that is why.
    pub(crate) fn refused(&self) -> Option<&VerifyFailure> {
        match (&self.refusal, &self.why) {
            (Some(refusal), _) => Some(&refusal.failure),
            (None, Why::Judged(failure)) => Some(failure),
            _ => None,
        }
    }

    /// The certificate that was refused.
    pub(crate) fn certificate(&self) -> CertificateId {
        self.refusal.as_ref().map_or_else(|| CertificateId::of(&self.leaf), |refusal| refusal.id)
    }

    /// The certificate, when it was refused before it was looked at.
    pub(crate) fn barred(&self) -> Option<CertificateId> {
        match self.refused() {
            Some(VerifyFailure::RefusedBefore { certificate }) => Some(*certificate),
            _ => None,
        }
    }

    /// Whether this counts against the address. Who is barred costs little, and its neighbours need not feel how often it comes.
    pub(crate) fn is_refusal(&self) -> bool {
        (self.refused().is_some() && self.barred().is_none()) || matches!(self.why, Why::NoName(_))
    }
}

/// Keeps, counts and logs a handshake that failed.
fn keep_failure(broker: &Broker, context: &FailureContext<'_>, ended: Ended<'_>) {
    let record = FailureRecord::new(context, ended);
    broker.metrics.tls_failures.with_label_values(&[record.cause.metric_label()]).inc();
    let (record, advice) = broker.failures.record(record, broker.clock.mono().elapsed());
    match advice {
        LogAdvice::Log { suppressed } => log_failure(&record, suppressed),
        LogAdvice::Suppress => broker.metrics.log_suppressed.inc(),
    }
}

/// Bars certificates that were refused again and again.
pub(crate) fn gate(broker: &Arc<Broker>) -> Gate {
    let broker = Arc::clone(broker);
    Box::new(move |certificate| {
        broker.config.load().standing.refused_pause_max.is_some()
            && broker.penalties.is_barred(certificate, broker.clock.mono())
    })
}

/// Lets a peer wait whose certificate was refused again and again, unless it leaves by itself.
async fn hold_back(broker: &Broker, certificate: CertificateId, io: &mut PeerIo) {
    let Some(longest) = broker.config.load().standing.refused_pause_max else { return };
    let Some(waiting) = broker.penalties.hold_back(certificate, longest) else { return };
    let mut ignored = [0u8; 256];
    let gone = async { while !matches!(io.read(&mut ignored).await, Ok(0) | Err(_)) {} };
    tokio::select! {
        biased;
        () = broker.stop_requested() => {}
        // What it still says is thrown away; what it is told comes after the wait.
        _ = tokio::time::timeout(waiting.pause, gone) => {}
    }
}

/// Lets the peer see the alert: closing with unread bytes would reset the connection and might destroy it on its way.
async fn farewell(mut io: PeerIo) {
    let farewell = async {
        io.release().await?;
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

fn log_failure(record: &FailureRecord, suppressed: u64) {
    let certificate = record.certificate.as_ref();
    tracing::warn!(
        peer = %record.peer,
        listener = record.listener,
        cause = record.cause.metric_label(),
        reason = record.reason,
        subject = certificate.map(|c| c.subject.as_str()),
        issuer = certificate.map(|c| c.issuer.as_str()),
        serial = certificate.map(|c| c.serial.as_str()),
        version = record.version,
        sni = record.sni,
        alert = record.alert.as_ref().map(|alert| alert.name),
        hint = record.hint,
        suppressed,
        "tls handshake failed"
    );
}
