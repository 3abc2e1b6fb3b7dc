//! A whole broker on virtual time: bytes in, bytes out, no socket, no thread, no clock.
//!
//! [`VirtualBroker`] puts `signet-wire` and `signet-core` together as the daemon does (frame, decode, decide, encode)
//! and stands in for the network and the clock. After every input it runs until nothing is left to do, so a test
//! that finds no packet knows that none was sent; and an hour of keep alive costs microseconds.

use crate::build::{self, Connect, Version};
use crate::received::{self, Acked, Properties, Published, Received};
use bytes::BytesMut;
use signet_acl::{ParseOptions, Policy};
use signet_core::{
    Action, Actions, CloseReason, Connection, Hub, Input, Limits, ListenerRules, Mono, Now, Peer, Wall,
};
use signet_identity::{CertificateId, Principal, ThingName};
use signet_wire::encode;
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

/// The policy of the conformance tests: what every client shares under `c/` and `/c/` and may
/// read, a tree of its own per identity, and nothing else to write.
pub const POLICY: &str = "\
role device
topic readwrite c/#
topic readwrite /c/#
topic read #
topic read $SYS/#
pattern readwrite own/%u/#
";

/// The wall clock at the start of every test: 2026-01-01T00:00:00Z, in milliseconds.
const WALL_START_MS: u64 = 1_767_225_600_000;

/// Work after one input ends sooner than this, or never.
const ROUNDS_MAX: usize = 100_000;

/// A broker with its network and its clock. Clones are handles to the same broker.
#[derive(Clone)]
pub struct VirtualBroker(Rc<RefCell<World>>);

struct World {
    hub: Arc<Hub>,
    now: Duration,
    links: Vec<Link>,
    hub_woken: Arc<Flag>,
}

/// One network connection, seen from both ends.
struct Link {
    connection: Connection,
    woken: Arc<Flag>,
    to_broker: BytesMut,
    to_client: Vec<u8>,
    closed: Option<CloseReason>,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Default for VirtualBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtualBroker {
    /// A broker with the default limits and [`POLICY`].
    #[must_use]
    pub fn new() -> Self {
        Self::with(Limits::default(), POLICY)
    }

    /// A broker with the default limits, changed.
    #[must_use]
    pub fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(limits, POLICY)
    }

    /// A broker with limits and a policy text.
    #[must_use]
    pub fn with(limits: Limits, policy: &str) -> Self {
        let hub = Hub::new(limits, Arc::new(parse_policy(policy)));
        let hub_woken = Arc::new(Flag::default());
        hub.set_timer_waker(Waker::from(Arc::clone(&hub_woken)));
        Self(Rc::new(RefCell::new(World { hub, now: Duration::ZERO, links: Vec::new(), hub_woken })))
    }

    /// The hub, for the few things that no packet can show or do.
    #[must_use]
    pub fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.0.borrow().hub)
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Now {
        self.0.borrow().now()
    }

    /// Replaces the policy, as a reload does, and lets every connection notice.
    pub fn set_policy(&self, policy: &str) {
        let hub = self.hub();
        hub.set_policy(Arc::new(parse_policy(policy)));
        self.0.borrow_mut().wake_all();
    }

    /// A network connection of the device `dev`, nothing sent yet.
    #[must_use]
    pub fn open(&self, version: Version) -> Client {
        self.open_as("dev", version)
    }

    /// A network connection of the named device, nothing sent yet.
    #[must_use]
    pub fn open_as(&self, name: &str, version: Version) -> Client {
        self.open_with(device(name), ListenerRules::default(), version)
    }

    /// A network connection of a principal on a listener with the given rules.
    #[must_use]
    pub fn open_with(&self, principal: Principal, rules: ListenerRules, version: Version) -> Client {
        let mut world = self.0.borrow_mut();
        let woken = Arc::new(Flag::default());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let peer = Peer { principal, address, rules };
        let connection =
            Connection::new(Arc::clone(&world.hub), peer, Waker::from(Arc::clone(&woken)), world.now());
        let to_broker = BytesMut::new();
        world.links.push(Link { connection, woken, to_broker, to_client: Vec::new(), closed: None });
        Client { broker: self.clone(), index: world.links.len() - 1, version }
    }

    /// A connected client of the device `dev` with a clean session.
    #[must_use]
    pub fn client(&self, version: Version, client_id: &str) -> Client {
        self.connected(&build::connect(version, client_id), version).0
    }

    /// A connected client of the device `dev` whose session outlives its connection.
    #[must_use]
    pub fn persistent(&self, version: Version, client_id: &str) -> Client {
        self.connected(&build::connect(version, client_id).persistent(), version).0
    }

    /// A client that sent `connect` and was accepted, and what CONNACK said.
    #[must_use]
    pub fn connected(&self, connect: &Connect, version: Version) -> (Client, Accepted) {
        let client = self.open(version);
        client.send(connect.bytes());
        let accepted = client.expect_accepted();
        (client, accepted)
    }

    /// Lets time pass, with every deadline on the way met at its moment.
    pub fn advance(&self, by: Duration) {
        let mut world = self.0.borrow_mut();
        let end = world.now + by;
        loop {
            world.settle();
            match world.next_deadline() {
                Some(at) if at <= end => {
                    world.now = world.now.max(at);
                    world.meet_deadlines();
                }
                _ => break,
            }
        }
        world.now = end;
        world.settle();
    }

    /// [`Self::advance`] in seconds.
    pub fn advance_secs(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }
}

/// Runs a test whose rule is the same in both versions, each time with a broker of its own.
pub fn in_both(test: impl Fn(VirtualBroker, Version)) {
    for version in build::BOTH {
        test(VirtualBroker::new(), version);
    }
}

/// A device with a certificate that follows from its name.
#[must_use]
pub fn device(name: &str) -> Principal {
    let certificate = CertificateId::of(name.as_bytes());
    Principal::device(
        ThingName::try_from(name).expect("the test's device has a legal name"),
        certificate,
        Vec::new(),
    )
}

fn parse_policy(text: &str) -> Policy {
    let options = ParseOptions::default();
    let (policy, _) = Policy::parse(text, "acl.conf", &options).expect("the test's policy parses");
    policy
}

impl World {
    fn now(&self) -> Now {
        let elapsed_ms = u64::try_from(self.now.as_millis()).expect("a test does not last that long");
        Now { mono: Mono::new(self.now), wall: Wall(WALL_START_MS + elapsed_ms) }
    }

    fn wake_all(&mut self) {
        for link in &self.links {
            link.woken.0.store(true, Ordering::SeqCst);
        }
        self.settle();
    }

    fn next_deadline(&self) -> Option<Duration> {
        let links =
            self.links.iter().filter(|l| l.closed.is_none()).filter_map(|l| l.connection.next_deadline());
        links.chain(self.hub.next_deadline()).map(Mono::elapsed).min()
    }

    fn meet_deadlines(&mut self) {
        let now = self.now();
        for link in &mut self.links {
            let due = link.connection.next_deadline().is_some_and(|at| at <= now.mono);
            if due && link.closed.is_none() {
                link.handle(Input::Deadline, now);
            }
        }
        self.hub.tick(now);
    }

    /// Runs until no connection has input, a wake-up or a drain left.
    fn settle(&mut self) {
        let now = self.now();
        for _ in 0..ROUNDS_MAX {
            let mut busy = self.hub_woken.take();
            for link in &mut self.links {
                busy |= link.step(now);
            }
            if !busy {
                return;
            }
        }
        panic!("the broker does not come to rest");
    }
}

impl Link {
    /// One piece of work, if there is any.
    fn step(&mut self, now: Now) -> bool {
        if self.closed.is_some() {
            return false;
        }
        if self.woken.take() || self.connection.wants_drain() {
            self.handle(Input::Wake, now);
            return true;
        }
        let Some(input) = self.connection.next_input(&mut self.to_broker) else { return false };
        self.handle(input, now);
        true
    }

    fn handle(&mut self, input: Input, now: Now) {
        let mut actions = Actions::default();
        self.connection.handle(input, now, &mut actions);
        for action in actions.drain() {
            assert!(self.closed.is_none(), "{action:?} after the connection was closed");
            let version = self.connection.version().unwrap_or(Version::V311);
            let mut out = BytesMut::new();
            match action {
                Action::Send(packet) => encode(&packet, version, &mut out).expect("the core sends what fits"),
                Action::Deliver(delivery) => delivery.write(version, &mut out),
                Action::Answer(reply) => reply.write(version, &mut out).expect("the core sends what fits"),
                // Without a journal nothing is held.
                Action::Hold(_) | Action::Enrol(_) | Action::Note(_) => {}
                Action::Close(reason) => self.closed = Some(reason),
            }
            self.to_client.extend_from_slice(&out);
        }
    }
}

/// What a successful CONNACK said.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Session Present.
    pub session_present: bool,
    /// The properties; empty in 3.1.1.
    pub props: Properties,
}

/// The client's end of a connection. Dropping it does not close the connection.
pub struct Client {
    broker: VirtualBroker,
    index: usize,
    version: Version,
}

impl Client {
    /// The version in which this client reads what the broker sends.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sends bytes, and lets the broker work until it comes to rest.
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        let mut world = self.broker.0.borrow_mut();
        world.links[self.index].to_broker.extend_from_slice(bytes.as_ref());
        world.settle();
    }

    /// The network connection breaks: no DISCONNECT.
    pub fn drop_connection(&self) {
        let mut world = self.broker.0.borrow_mut();
        let now = world.now();
        world.links[self.index].handle(Input::PeerClosed, now);
        world.settle();
        assert!(world.links[self.index].closed.is_some(), "a broken connection ends");
    }

    /// Sends a DISCONNECT with success and expects the close.
    pub fn disconnect(&self) {
        self.send(build::disconnect());
        self.expect_closed();
    }

    /// The daemon closes this connection for a reason of its own (shutdown, revocation, kick).
    pub fn close_from_daemon(&self, reason: CloseReason) {
        let mut world = self.broker.0.borrow_mut();
        let now = world.now();
        world.links[self.index].handle(Input::Close(reason), now);
        world.settle();
    }

    /// The next packet, if there is one.
    #[must_use]
    pub fn try_receive(&self) -> Option<Received> {
        received::take(&mut self.broker.0.borrow_mut().links[self.index].to_client, self.version)
    }

    /// The next packet.
    #[track_caller]
    #[must_use]
    pub fn receive(&self) -> Received {
        match self.try_receive() {
            Some(packet) => packet,
            None => panic!("{self:?}: no packet came"),
        }
    }

    /// Whether the broker has closed the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.broker.0.borrow().links[self.index].closed.is_some()
    }

    /// Nothing was sent, and the connection is open.
    #[track_caller]
    pub fn expect_nothing(&self) {
        let next = self.try_receive();
        assert!(next.is_none(), "{self:?}: expected nothing, got {next:?}");
        assert!(!self.is_closed(), "{self:?}: expected an open connection");
    }

    /// The connection was closed and nothing was sent before.
    #[track_caller]
    pub fn expect_closed(&self) {
        let next = self.try_receive();
        assert!(next.is_none(), "{self:?}: expected a close without a packet, got {next:?}");
        assert!(self.is_closed(), "{self:?}: expected a close");
    }

    /// The connection was closed: in 5.0 behind a DISCONNECT with `code`, in 3.1.1 without a packet.
    #[track_caller]
    pub fn expect_closed_with(&self, code: u8) {
        if self.version == Version::V5 {
            match self.receive() {
                Received::Disconnect { code: sent, .. } => {
                    assert_eq!(sent, code, "{self:?}: DISCONNECT {sent:#04x}, expected {code:#04x}");
                }
                other => panic!("{self:?}: expected DISCONNECT {code:#04x}, got {other:?}"),
            }
        }
        self.expect_closed();
    }

    /// The connection was closed: in 5.0 behind a DISCONNECT with one of `codes` (where the specification leaves the
    /// choice), in 3.1.1 without a packet.
    #[track_caller]
    pub fn expect_closed_with_any(&self, codes: &[u8]) {
        if self.version == Version::V5 {
            match self.receive() {
                Received::Disconnect { code, .. } if codes.contains(&code) => {}
                other => panic!("{self:?}: expected DISCONNECT with one of {codes:02x?}, got {other:?}"),
            }
        }
        self.expect_closed();
    }

    /// The CONNECT was malformed: closed, in 3.1.1 without a packet [MQTT3-3.1.4-1], in 5.0 perhaps behind a CONNACK of
    /// 0x80 or more and never behind a DISCONNECT [MQTT5-3.14.0-1].
    #[track_caller]
    pub fn expect_not_accepted(&self) {
        match self.try_receive() {
            None => {}
            Some(Received::ConnAck { session_present: false, code, .. })
                if code >= 0x80 && self.version == Version::V5 => {}
            Some(other) => panic!("{self:?}: expected a close without acceptance, got {other:?}"),
        }
        self.expect_closed();
    }

    /// Every byte that came and was not read yet.
    #[must_use]
    pub fn take_bytes(&self) -> Vec<u8> {
        std::mem::take(&mut self.broker.0.borrow_mut().links[self.index].to_client)
    }

    /// CONNACK accepted the connection.
    #[track_caller]
    #[must_use]
    pub fn expect_accepted(&self) -> Accepted {
        match self.receive() {
            Received::ConnAck { session_present, code: 0, props, .. } => {
                assert!(!self.is_closed(), "{self:?}: closed behind an accepting CONNACK");
                Accepted { session_present, props }
            }
            other => panic!("{self:?}: expected an accepting CONNACK, got {other:?}"),
        }
    }

    /// CONNACK refused with `code` and Session Present 0, and the connection was closed.
    #[track_caller]
    pub fn expect_refused(&self, code: u8) {
        match self.receive() {
            Received::ConnAck { session_present: false, code: sent, .. } if sent == code => {}
            other => panic!("{self:?}: expected CONNACK {code:#04x}, got {other:?}"),
        }
        self.expect_closed();
    }

    /// A PUBLISH with this topic and payload.
    #[track_caller]
    #[must_use]
    pub fn expect_publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> Published {
        match self.receive() {
            Received::Publish(p) if p.topic == topic && p.payload == payload.as_ref() => p,
            other => panic!(
                "{self:?}: expected a PUBLISH on {topic:?} of {:?}, got {other:?}",
                String::from_utf8_lossy(payload.as_ref())
            ),
        }
    }

    /// A PUBLISH, whatever it says.
    #[track_caller]
    #[must_use]
    pub fn next_publish(&self) -> Published {
        match self.receive() {
            Received::Publish(p) => p,
            other => panic!("{self:?}: expected a PUBLISH, got {other:?}"),
        }
    }

    /// PUBACK for this identifier with this code; 0x10 (no subscribers) counts as 0.
    #[track_caller]
    pub fn expect_puback(&self, packet_id: u16, code: u8) -> Acked {
        match self.receive() {
            Received::PubAck(a) if (a.packet_id, a.code & !0x10) == (packet_id, code & !0x10) => a,
            other => panic!("{self:?}: expected PUBACK {packet_id} {code:#04x}, got {other:?}"),
        }
    }

    /// PUBREC for this identifier with this code; 0x10 (no subscribers) counts as 0.
    #[track_caller]
    pub fn expect_pubrec(&self, packet_id: u16, code: u8) -> Acked {
        match self.receive() {
            Received::PubRec(a) if (a.packet_id, a.code & !0x10) == (packet_id, code & !0x10) => a,
            other => panic!("{self:?}: expected PUBREC {packet_id} {code:#04x}, got {other:?}"),
        }
    }

    /// PUBREL for this identifier with this code.
    #[track_caller]
    pub fn expect_pubrel(&self, packet_id: u16, code: u8) -> Acked {
        match self.receive() {
            Received::PubRel(a) if (a.packet_id, a.code) == (packet_id, code) => a,
            other => panic!("{self:?}: expected PUBREL {packet_id} {code:#04x}, got {other:?}"),
        }
    }

    /// PUBCOMP for this identifier with this code.
    #[track_caller]
    pub fn expect_pubcomp(&self, packet_id: u16, code: u8) -> Acked {
        match self.receive() {
            Received::PubComp(a) if (a.packet_id, a.code) == (packet_id, code) => a,
            other => panic!("{self:?}: expected PUBCOMP {packet_id} {code:#04x}, got {other:?}"),
        }
    }

    /// SUBACK for this identifier with these codes.
    #[track_caller]
    pub fn expect_suback(&self, packet_id: u16, codes: &[u8]) {
        match self.receive() {
            Received::SubAck { packet_id: p, codes: c, .. } if p == packet_id && c == codes => {}
            other => panic!("{self:?}: expected SUBACK {packet_id} {codes:02x?}, got {other:?}"),
        }
    }

    /// UNSUBACK for this identifier; `codes` count in 5.0 only.
    #[track_caller]
    pub fn expect_unsuback(&self, packet_id: u16, codes: &[u8]) {
        let codes = if self.version == Version::V5 { codes } else { &[] };
        match self.receive() {
            Received::UnsubAck { packet_id: p, codes: c, .. } if p == packet_id && c == codes => {}
            other => panic!("{self:?}: expected UNSUBACK {packet_id} {codes:02x?}, got {other:?}"),
        }
    }

    /// Subscribes to one filter and expects that the QoS asked for is granted.
    #[track_caller]
    pub fn subscribe(&self, filter: &str, qos: u8) {
        self.send(build::subscribe(self.version, 9999, &[build::sub(filter, qos)]));
        self.expect_suback(9999, &[qos]);
    }

    /// The connection still answers a PINGREQ, and sent nothing before.
    #[track_caller]
    pub fn expect_alive(&self) {
        self.send(build::pingreq());
        match self.receive() {
            Received::PingResp => self.expect_nothing(),
            other => panic!("{self:?}: expected PINGRESP, got {other:?}"),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let world = self.broker.0.borrow();
        let link = &world.links[self.index];
        let version = if self.version == Version::V5 { "5.0" } else { "3.1.1" };
        write!(f, "{version} connection {} at {:?}", self.index, world.now)?;
        match &link.closed {
            Some(reason) => write!(f, " (closed: {reason})"),
            None => write!(f, " (open)"),
        }
    }
}
