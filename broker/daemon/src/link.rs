//! One connection after its handshake: bytes in, packets to the core, actions out, bytes out.
//!
//! The task is one hand-written future. It is woken by its socket, its timer and the core; each wake does all there is to do, and everything that one wake produces
//! leaves in as few TLS records as possible. While it waits, it holds no buffer of its own.
//!
//! What acknowledges something leaves when that outlives the process. A disk that does not keep up holds the connection
//! back: its output waits ([`holds`]), and no more is taken from the peer that would have to be written. That is no silence
//! of the peer, so no keep alive ends meanwhile.

mod bounds;
mod farewell;
mod holds;
mod inbound;
mod leaving;
mod output;
mod unsent;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use signet_config::Listener;
use signet_core::{Action, Actions, CloseReason, Connection, Input, Mono, Now, Peer, Pressure};
use signet_wire::{ClientId, Connect, Packet, Version, encode};
use tokio::io::AsyncWrite;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

use crate::admission::Ticket;
use crate::directory::{Flow, Live, Registration};
use crate::io::PeerIo;
use crate::live;
use crate::memory;
use crate::principals::Share;
use crate::server::Broker;
use crate::standing::Until;
use crate::tls::Judged;
use bounds::{Bounds, Hearing};
use holds::Holds;
use leaving::Leaving;
use output::Output;
use unsent::Unsent;

/// Room for one read from TLS: a record of the largest size.
const READ_BYTES: usize = 16 * 1024;
/// With less room than this, more is made before reading.
const READ_BYTES_MIN: usize = 2 * 1024;
/// With so much encoded output waiting for the socket, the task neither reads nor takes messages for the peer.
const OUTBOUND_BYTES_HIGH: usize = 64 * 1024;
/// Less than that is kept in memory of its own size while its packet comes.
const FEW_BYTES: usize = 1024;
/// After so many bytes the task lets others run.
const TURN_BYTES_MAX: usize = 256 * 1024;

/// What the listener learned in the handshake.
pub(crate) struct Arrival {
    /// Who the peer is.
    pub(crate) peer: Peer,
    /// Index of the listener.
    pub(crate) listener: usize,
    /// The peer's certificate.
    pub(crate) judged: Judged,
    /// The settings under which it was named.
    pub(crate) settings: Arc<Listener>,
    /// When it ends at the latest, and as what.
    pub(crate) until: Until,
    /// Its place among those that have not said CONNECT.
    pub(crate) half_open: Option<Ticket>,
    /// What it shares with all connections of its name.
    pub(crate) share: Option<Arc<Share>>,
}

/// Runs one authenticated connection to its end.
///
/// `arrival` lies in a place of its own, which is given back when the connection begins: what a task is handed it holds room for
/// until it ends.
pub(crate) async fn run(broker: Arc<Broker>, stream: Box<TlsStream<PeerIo>>, arrival: Box<Arrival>) {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let mut link = Link::open(broker, stream, arrival, waker);
    poll_fn(|cx| link.poll_guarded(cx)).await;
    if link.leaving.is_some() {
        let broker = Arc::clone(&link.broker);
        broker.departures.hand_over(link);
    }
}

enum Phase {
    /// Packets flow.
    Open,
    /// The core has closed the connection; its last words are on their way.
    Farewell {
        until: Mono,
        /// Whether the peer may still have to read what we said. Who took its leave, and has nothing to be told, need not be
        /// waited for.
        lingers: bool,
        /// Whether the peer is to have no more than the last words.
        withheld: bool,
        shut: bool,
        drained: usize,
    },
}

struct Link {
    stream: Box<TlsStream<PeerIo>>,
    connection: Connection,
    inbound: BytesMut,
    outbound: Output,
    /// What of the output TLS has, and the socket has not.
    unsent: Unsent,
    /// What of the output may not leave yet.
    holds: Holds,
    bounds: Bounds,
    /// A packet that has arrived waits for the disk, and what is behind it too.
    held_up: bool,
    /// It is a CONNECT. It waits no longer than CONNECT may take: then the core refuses it, unless there is room by then.
    held_connect: Option<Box<Connect>>,
    actions: Actions,
    timer: Option<Pin<Box<Sleep>>>,
    /// When `timer` fires.
    armed: Mono,
    /// When the certificate ends, and with it the connection.
    ends: Mono,
    /// Why it ends then.
    ends_as: CloseReason,
    phase: Phase,
    /// Its peer has gone, and it is to be taken down.
    leaving: Option<Box<Leaving>>,
    /// The client id of a CONNECT that is being decided.
    asked: Option<ClientId>,
    registration: Registration,
    broker: Arc<Broker>,
}

/// What reading brought.
enum Inbound {
    Bytes(usize),
    Closed(Leaving),
    Nothing,
}

/// What a round of all there is to do brought.
enum Turn {
    /// So many bytes moved; 0: everything waits.
    Moved(usize),
    /// The peer has gone.
    Gone(Leaving),
}

impl Link {
    /// A connection in a place of its own: what a task holds while it waits is then a pointer, and moving it costs nothing.
    #[expect(clippy::boxed_local, reason = "its task would hold room for it until the connection ends")]
    fn open(
        broker: Arc<Broker>,
        stream: Box<TlsStream<PeerIo>>,
        arrival: Box<Arrival>,
        waker: std::task::Waker,
    ) -> Box<Self> {
        let Arrival { peer, listener, judged, settings, until, half_open, share } = *arrival;
        let now = broker.clock.now();
        // By a clock that was set back its certificate would last for longer than it does.
        let judged_at = Now { wall: broker.judging_wall(), ..now };
        let (ends, ends_as) = until.on_the_clock(judged_at);
        let (address, principal) = (peer.address, peer.principal.clone());
        let refused = peer.rules.refusal.is_some();
        let connection = Connection::new(Arc::clone(broker.hub()), peer, waker, now);
        let number = connection.number();
        let registration = broker.directory.register(Live {
            number,
            listener,
            address,
            principal,
            refused,
            judged,
            settings,
            since: judged_at,
            buffered: AtomicUsize::new(0),
            taken: Flow::default(),
            heard: Flow::default(),
        });
        // A reload may have judged the live connections between the judgement in the handshake and the registration.
        // One that is refused at CONNECT anyway lives to be told so.
        if !refused {
            live::judge_again(&broker, registration.live());
        }
        // A stop closes the connections that are registered; one that comes from its handshake afterwards closes itself.
        if broker.is_stopping() {
            broker.hub().close_connection(number, CloseReason::ServerShuttingDown);
        }
        Box::new(Self {
            stream,
            connection,
            inbound: BytesMut::new(),
            outbound: Output::default(),
            unsent: Unsent::default(),
            holds: Holds::new(broker.hub().journal().cloned()),
            bounds: Bounds::new(half_open, share),
            held_up: false,
            held_connect: None,
            actions: Actions::default(),
            timer: None,
            armed: Mono::START,
            ends,
            ends_as,
            phase: Phase::Open,
            leaving: None,
            asked: None,
            registration,
            broker,
        })
    }

    /// [`Link::poll`], with the promise that a panic in this connection's work ends this connection only.
    fn poll_guarded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                self.after_a_panic();
                Poll::Ready(())
            }
        }
    }

    /// A panic in this connection's work has ended it.
    fn after_a_panic(&mut self) {
        self.broker.count_panic(self.registration.live());
        let now = self.broker.clock.now();
        let detached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.connection.handle(Input::PeerClosed, now, &mut self.actions);
        }));
        if detached.is_err() {
            tracing::error!(
                id = self.registration.live().number,
                "the session could not be released after a panic"
            );
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut now = self.broker.clock.now();
        if self.bounds.must_make_room(cx) {
            self.broker.metrics.not_admitted.with_label_values(&["made_room"]).inc();
            self.input(Input::Close(memory::MADE_ROOM), now);
        }
        if matches!(self.phase, Phase::Open) {
            let mut turn = 0;
            while matches!(self.phase, Phase::Open) {
                match self.turn(cx, now) {
                    Ok(Turn::Gone(how)) => return self.leave(how, cx, now),
                    Err(error) => return self.leave(Leaving::Lost(error), cx, now),
                    Ok(Turn::Moved(0)) => break,
                    Ok(Turn::Moved(bytes)) => turn += bytes,
                }
                if turn >= TURN_BYTES_MAX {
                    cx.waker().wake_by_ref();
                    break;
                }
                now = self.broker.clock.now();
            }
        }
        if matches!(self.phase, Phase::Farewell { .. }) {
            return self.poll_farewell(cx, now);
        }
        self.give_back_buffers();
        let (io, tls) = self.stream.get_ref();
        let in_tls = self.unsent.bytes(io.sent(), tls.wants_write());
        let buffered = self.inbound.capacity() + self.outbound.capacity() + in_tls;
        self.bounds.tell_buffered(&self.broker, self.registration.live(), buffered);
        self.poll_timer(cx, now)
    }

    /// One round of all there is to do.
    fn turn(&mut self, cx: &mut Context<'_>, now: Now) -> io::Result<Turn> {
        let mut moved = 0;
        let room = self.has_room();
        if self.connection.is_summoned() && !room {
            self.input(Input::Wake, now);
        }
        if room {
            if self.connection.wants_drain() {
                self.input(Input::Wake, now);
                moved += 1;
            }
            if self.held_up {
                self.take_packets(cx, now);
                moved += usize::from(!self.held_up);
            }
            if !self.held_up {
                match self.bounds.hearing(&self.broker, self.inbound.len(), now.mono) {
                    Hearing::Now => {}
                    Hearing::Later => return Ok(Turn::Moved(moved + self.poll_outbound(cx)?)),
                    Hearing::Never => {
                        self.input(Input::Close(CloseReason::Overloaded), now);
                        return Ok(Turn::Moved(moved));
                    }
                }
                match self.poll_inbound(cx)? {
                    Inbound::Bytes(count) => {
                        moved += count;
                        self.bounds.came(&self.broker, 0, count, now.mono);
                        self.take_packets(cx, now);
                    }
                    Inbound::Closed(how) => return Ok(Turn::Gone(how)),
                    Inbound::Nothing => {}
                }
            }
        }
        moved += self.poll_outbound(cx)?;
        Ok(Turn::Moved(moved))
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> io::Result<Inbound> {
        if self.inbound.capacity() - self.inbound.len() < READ_BYTES_MIN {
            self.inbound.reserve(READ_BYTES);
        }
        match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbound) {
            Poll::Pending => Ok(Inbound::Nothing),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Inbound::Closed(Leaving::Closed))
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(0)) => Ok(Inbound::Closed(Leaving::Said)),
            Poll::Ready(Ok(count)) => {
                self.broker.hub().counters().add_bytes_received(self.connection.number(), count as u64);
                Ok(Inbound::Bytes(count))
            }
        }
    }

    /// Whether more output may be made.
    fn has_room(&self) -> bool {
        // While memory runs short nobody is given more before it has taken what it has.
        let short = self.broker.hub().pressure() >= Pressure::Shed;
        let high = if short { 1 } else { OUTBOUND_BYTES_HIGH };
        self.outbound.len() < high && !self.holds.is_full()
    }

    /// Whether it is the disk that keeps us from listening to the peer.
    fn waits_for_the_disk(&self) -> bool {
        self.held_up || (self.holds.any() && !self.has_room())
    }

    /// Every whole packet that has arrived goes to the core, until one has to wait for the disk.
    fn take_packets(&mut self, cx: &mut Context<'_>, now: Now) {
        self.held_up = false;
        let (mut publishes, came) = (0, self.inbound.len());
        while matches!(self.phase, Phase::Open) {
            if self.holds.is_full() || (records(&self.inbound) && self.has_to_wait(cx, now)) {
                self.held_up = true;
                break;
            }
            let Some(input) = self.next_packet() else { break };
            if let Input::Connect(Ok(connect)) = input {
                if self.connection.would_be_stored(&connect) && self.holds.journal_is_full(cx.waker()) {
                    self.held_connect = Some(Box::new(connect));
                    self.held_up = true;
                    break;
                }
                self.connect(connect, now);
                continue;
            }
            publishes += u32::from(matches!(input, Input::Packet(Packet::Publish(_))));
            self.input(input, now);
        }
        if !self.held_up {
            self.bounds.has_memory();
        }
        let heard = came.saturating_sub(self.inbound.len()) as u64;
        self.registration.live().heard.add(heard);
        self.bounds.came(&self.broker, publishes, 0, now.mono);
    }

    /// Whether there is no room for the packet that begins the input, on the way to the disk or in memory.
    fn has_to_wait(&mut self, cx: &Context<'_>, now: Now) -> bool {
        if self.holds.journal_is_full(cx.waker()) {
            return true;
        }
        self.broker.hub().pressure() != Pressure::None
            && self.connection.should_wait(&self.inbound)
            && self.bounds.waits_for_memory(&self.broker, now.mono)
    }

    /// The CONNECT that waited, or the first whole packet of what has arrived.
    fn next_packet(&mut self) -> Option<Input> {
        if let Some(connect) = self.held_connect.take() {
            return Some(Input::Connect(Ok(*connect)));
        }
        self.connection.next_input(&mut self.inbound)
    }

    fn connect(&mut self, connect: Connect, now: Now) {
        if self.broker.tells_of_events() {
            self.asked.clone_from(&connect.client_id);
        }
        self.input(Input::Connect(Ok(connect)), now);
        self.asked = None;
        if self.connection.client_id().is_some() {
            self.bounds.is_known();
            self.broker.admission.came_through();
        }
    }

    /// One input into the core, and its actions carried out in order.
    fn input(&mut self, input: Input, now: Now) {
        self.connection.handle(input, now, &mut self.actions);
        let mut withheld = false;
        let version = self.connection.version().unwrap_or(Version::V311);
        for action in self.actions.drain() {
            match action {
                Action::Hold(ticket) => self.holds.push(self.outbound.len(), ticket),
                Action::Send(packet) => {
                    if matches!(packet, Packet::Disconnect(_)) {
                        self.holds.say_last_words(self.outbound.len());
                    }
                    if let Err(error) = self.outbound.append(false, |out| encode(&packet, version, out)) {
                        tracing::error!(%error, "a packet of our own could not be encoded and was left out");
                    }
                }
                Action::Deliver(delivery) => self.outbound.append(false, |out| delivery.write(version, out)),
                Action::Enrol(request) => {
                    crate::provisioning::submit(&self.broker, self.registration.live(), *request);
                }
                Action::Answer(reply) => {
                    let secret = reply.is_secret();
                    if let Err(error) = self.outbound.append(secret, |out| reply.write(version, out)) {
                        tracing::error!(%error, "an answer of our own could not be encoded and was left out");
                    }
                }
                Action::Note(event) => {
                    self.broker.note(self.registration.live(), &self.connection, &event, now);
                }
                Action::Close(reason) => {
                    let live = self.registration.live();
                    // Asked before anybody can see the end: a revocation from then on is for the farewell to see.
                    withheld = self.connection.withholds_output(reason);
                    self.broker.closed(live, &self.connection, &reason, now);
                    if let CloseReason::Refused(refusal) = reason {
                        self.broker.lifecycle.refused(live, self.asked.as_ref(), refusal, now);
                    }
                    self.phase = farewell::begin(&reason, withheld, self.outbound.is_empty(), now);
                }
            }
        }
        if withheld {
            let cut = self.holds.withhold(self.outbound.len());
            self.outbound.cut(cut);
        }
    }

    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let sent = self.stream.get_ref().0.sent();
        let moved = self.write_outbound(cx);
        let taken = self.stream.get_ref().0.sent() - sent;
        if taken > 0 {
            self.registration.live().taken.add(taken);
        }
        moved
    }

    fn write_outbound(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut moved = 0;
        loop {
            let free = self.holds.free(self.outbound.len(), cx.waker());
            let Some(free) = self.outbound.get(..free).filter(|free| !free.is_empty()) else { break };
            let (io, tls) = self.stream.get_ref();
            let (sent, wanted_write) = (io.sent(), tls.wants_write());
            match Pin::new(&mut self.stream).poll_write(cx, free)? {
                Poll::Pending => return Ok(moved),
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.holds.advance(free, count);
                    self.outbound.advance(count);
                    self.unsent.add(count, sent, wanted_write);
                    self.broker.hub().counters().add_bytes_sent(self.connection.number(), count as u64);
                    moved += count;
                }
            }
        }
        // What TLS holds back because the socket was full goes out when the socket has room again.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(moved),
        }
    }

    /// Waits for the next deadline of the core or of the certificate.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Now) -> Poll<()> {
        loop {
            // Who is not listened to cannot be silent.
            let held_until = self.bounds.held_until();
            let heard = self.held_connect.is_some() || (held_until.is_none() && !self.waits_for_the_disk());
            let next = self.connection.next_deadline().filter(|_| heard);
            let deadline = next.into_iter().chain(held_until).fold(self.ends, Mono::min);
            // A deadline that moved away (every packet moves the keep alive) leaves the timer as it is: it fires early
            // once, and is set again then. Setting it for every packet would cost more than the packet.
            if self.timer.is_none() || self.armed > deadline {
                self.arm(deadline);
            }
            let Some(timer) = self.timer.as_mut() else { return Poll::Pending };
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            let now = Now { mono: self.broker.clock.mono().max(now.mono), ..now };
            if now.mono >= self.ends {
                self.input(Input::Close(self.ends_as), now);
            } else if next.is_some_and(|next| next <= now.mono) {
                match self.held_connect.take() {
                    // What is behind it is looked at in the next turn.
                    Some(connect) => self.connect(*connect, now),
                    None => self.input(Input::Deadline, now),
                }
            }
            if self.bounds.may_read_again(now.mono) {
                cx.waker().wake_by_ref();
            }
            if matches!(self.phase, Phase::Farewell { .. }) {
                return self.poll_farewell(cx, now);
            }
            if !self.outbound.is_empty() || self.connection.wants_drain() {
                cx.waker().wake_by_ref();
            }
        }
    }

    fn arm(&mut self, at: Mono) {
        let instant = self.broker.clock.instant(at);
        match self.timer.as_mut() {
            Some(timer) => timer.as_mut().reset(instant),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(instant))),
        }
        self.armed = at;
    }

    /// A connection that waits holds no buffers; ten thousand of them then hold none.
    fn give_back_buffers(&mut self) {
        // The first bytes of a packet, and a few that wait, need not hold room for a whole record.
        inbound::shrink(&mut self.inbound, if self.held_up { READ_BYTES / 2 } else { FEW_BYTES });
        self.outbound.shrink();
        self.holds.shrink();
    }
}

/// Whether the packet that begins here may have to be recorded: PUBLISH that is acknowledged or retained, SUBSCRIBE and
/// UNSUBSCRIBE. Acknowledgements are few and small, and take away more than they add.
fn records(inbound: &[u8]) -> bool {
    const RETAIN_OR_QOS: u8 = 0b0111;
    let Some(first) = inbound.first() else { return false };
    match first >> 4 {
        3 => first & RETAIN_OR_QOS != 0,
        8 | 10 => true,
        _ => false,
    }
}
