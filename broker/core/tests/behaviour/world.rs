//! A broker and its clients in one place, on virtual time.
//!
//! Everything a client says and hears is encoded and decoded, so that a test sees what a real client would see.
//! [`World::drive`] lets every connection that was woken act until all is quiet; each test helper does so by itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::BytesMut;
use signet_acl::{ParseOptions, Policy};
use signet_core::journal::{Durability, Journal, Ticket};
use signet_core::provisioning::Request;
use signet_core::{
    Action, Actions, CloseReason, Connection, Counts, Event, Hub, Input, Limits, ListenerRules, Mono, Now,
    Peer, Restored, Wall,
};
use signet_identity::Principal;
use signet_wire::{
    Ack, ConnAck, Disconnect, EncodeError, Packet, Publish, QoS, QosId, ReasonCode, Requested, SubAck,
    Subscribe, SubscriptionFilter, Text, UnsubAck, Unsubscribe, Version, decode_connect, decode_from_client,
    decode_from_server, encode, encoded_len, frame,
};

pub(crate) use crate::dial::*;
use crate::disk::{Disk, Twin};

/// A policy under which devices and operators may do everything.
pub(crate) const EVERYTHING: &str = "\
role device
topic readwrite #
topic readwrite $a/#
topic read $SYS/#
role operator
topic readwrite #
topic read $SYS/#
";

pub(crate) struct World {
    pub(crate) hub: Arc<Hub>,
    pub(crate) now: Now,
    clients: Vec<Client>,
    next_packet_id: u16,
    /// What outlives the process, if anything does.
    pub(crate) disk: Option<Disk>,
    policy: String,
    durability: Durability,
    in_small_pieces: bool,
}

/// A client of the world, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who(usize);

struct Client {
    connection: Option<Connection>,
    flag: Arc<Flag>,
    version: Version,
    actions: Actions,
    /// What has not left yet.
    output: VecDeque<Output>,
    heard: VecDeque<Packet>,
    notes: Vec<Event>,
    requests: Vec<Request>,
    closed: Option<CloseReason>,
    /// The output has no room: only summons are heeded.
    stalled: bool,
}

enum Output {
    Hold(Ticket),
    Packet(Packet),
}

#[derive(Default)]
struct Flag(AtomicBool, Mutex<Option<Hook>>);

/// Something that happens in the moment in which a connection is woken.
type Hook = Box<dyn FnOnce() + Send>;

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        let hook = self.1.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), EVERYTHING)
    }

    pub(crate) fn limited(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(limits, EVERYTHING)
    }

    pub(crate) fn under(policy: &str) -> Self {
        Self::with(Limits::default(), policy)
    }

    /// Without a disk, or with one: see [`crate::ON_DISK`].
    pub(crate) fn with(limits: Limits, policy: &str) -> Self {
        let disk = crate::ON_DISK.then(|| Disk::new(Twin::default(), false));
        Self::built(limits, policy, disk, Durability::Strict)
    }

    /// A broker whose stored sessions and retained messages outlive the process.
    pub(crate) fn on_disk() -> Self {
        Self::on_disk_with(Limits::default(), EVERYTHING, Durability::Strict)
    }

    pub(crate) fn on_disk_with(limits: Limits, policy: &str, durability: Durability) -> Self {
        Self::built(limits, policy, Some(Disk::new(Twin::default(), false)), durability)
    }

    /// As [`Self::on_disk`], with a disk that takes every record for itself, unless some belong together.
    pub(crate) fn on_disk_in_small_pieces() -> Self {
        let disk = Disk::new(Twin::default(), true);
        let mut world = Self::built(Limits::default(), EVERYTHING, Some(disk), Durability::Strict);
        world.in_small_pieces = true;
        world
    }

    fn built(limits: Limits, policy: &str, disk: Option<Disk>, durability: Durability) -> Self {
        Self {
            hub: hub(limits, policy, disk.as_ref(), durability),
            now: Now { mono: Mono::START, wall: Wall(1_800_000_000_000) },
            clients: Vec::new(),
            next_packet_id: 0,
            disk,
            policy: policy.to_owned(),
            durability,
            in_small_pieces: false,
        }
    }

    pub(crate) fn disk(&mut self) -> &mut Disk {
        self.disk.as_mut().expect("a world on a disk")
    }

    /// The process ends; another one begins `secs` later with what is on the disk. Everybody's connection is gone.
    pub(crate) fn crash_for(&mut self, secs: u64) -> Restored {
        self.crash_into(secs, &self.policy.clone(), &|principal| Some(principal.clone()))
    }

    /// As [`Self::crash_for`], at once.
    pub(crate) fn crash(&mut self) -> Restored {
        self.crash_for(0)
    }

    /// As [`Self::crash_for`], into another policy, and principals that are somebody else now.
    pub(crate) fn crash_into(
        &mut self,
        secs: u64,
        policy: &str,
        now_is: &dyn Fn(&Principal) -> Option<Principal>,
    ) -> Restored {
        // What the old process still does reaches no disk.
        let twin = self.disk().twin.clone();
        self.disk().hang_after(0);
        for client in &mut self.clients {
            client.connection = None;
            client.output.clear();
            client.closed.get_or_insert(CloseReason::PeerClosed);
        }
        let disk = Disk::new(twin.clone(), self.in_small_pieces);
        let limits = Limits::clone(&self.hub.limits());
        self.hub = hub(limits, policy, Some(&disk), self.durability);
        self.disk = Some(disk);
        self.policy = policy.to_owned();
        let wall = self.now.wall.after(Duration::from_secs(secs));
        let then = std::mem::replace(&mut self.now, Now { mono: Mono::new(Duration::from_millis(7)), wall });
        let restored = twin.restore(&self.hub, (then, self.now), now_is);
        self.drive();
        restored
    }

    /// What is on the disk is what is in memory.
    pub(crate) fn assert_disk_is_memory(&mut self) {
        self.drive();
        let Some(disk) = &self.disk else { return };
        let again = Hub::new(Limits::clone(&self.hub.limits()), self.hub.policy());
        // Long before anything expires.
        let now = Now { wall: Wall(0), ..self.now };
        disk.twin.without_wills().restore(&again, (self.now, now), &|principal| Some(principal.clone()));
        let held = |hub: &Hub| {
            let sessions: BTreeMap<_, _> = hub
                .sessions()
                .into_iter()
                .filter(|session| session.stored || hub.journal().is_none())
                .map(|session| {
                    let waiting = session.queued_messages + session.inflight;
                    let key = (session.principal.to_string(), session.client_id.to_string());
                    (key, (session.subscriptions, waiting, session.unreleased))
                })
                .collect();
            (sessions, hub.authors().len() - hub.session_count())
        };
        assert_eq!(held(&again), held(&self.hub), "(on the disk, in memory)");
    }

    pub(crate) fn set_policy(&mut self, policy: &str) {
        policy.clone_into(&mut self.policy);
        self.hub.set_policy(compile(policy));
        self.drive();
    }

    /// A connection that has not sent CONNECT.
    pub(crate) fn open(&mut self, principal: Principal, rules: ListenerRules) -> Who {
        let flag = Arc::new(Flag::default());
        let address = "192.0.2.1:40000".parse().unwrap();
        let peer = Peer { principal, address, rules };
        let waker = Waker::from(Arc::clone(&flag));
        self.clients.push(Client {
            connection: Some(Connection::new(Arc::clone(&self.hub), peer, waker, self.now)),
            flag,
            version: Version::V5,
            actions: Actions::new(),
            output: VecDeque::new(),
            heard: VecDeque::new(),
            notes: Vec::new(),
            requests: Vec::new(),
            closed: None,
            stalled: false,
        });
        Who(self.clients.len() - 1)
    }

    /// Sends CONNECT and gives the CONNACK, or `None` when the connection was closed without.
    pub(crate) fn dial(&mut self, dial: Dial) -> (Who, Option<ConnAck>) {
        let who = self.open(dial.principal, dial.rules);
        self.client(who).version = dial.connect.version;
        let mut bytes = BytesMut::new();
        encode(&Packet::Connect(Box::new(dial.connect.clone())), dial.connect.version, &mut bytes).unwrap();
        self.send_bytes(who, &bytes);
        let connack = match self.client(who).heard.pop_front() {
            Some(Packet::ConnAck(connack)) => Some(*connack),
            Some(other) => panic!("{other:?} instead of CONNACK"),
            None => None,
        };
        (who, connack)
    }

    /// Connects, expecting success.
    pub(crate) fn connect(&mut self, dial: Dial) -> Who {
        let (who, connack) = self.dial(dial);
        assert_eq!(connack.expect("a CONNACK").reason, ReasonCode::Success);
        who
    }

    /// Connects, expecting success, and says whether a session was present.
    pub(crate) fn reconnect(&mut self, dial: Dial) -> (Who, bool) {
        let (who, connack) = self.dial(dial);
        let connack = connack.expect("a CONNACK");
        assert_eq!(connack.reason, ReasonCode::Success);
        (who, connack.session_present)
    }

    /// Raw bytes from the client, as many packets as they are.
    pub(crate) fn send_bytes(&mut self, who: Who, bytes: &[u8]) {
        let now = self.now;
        let client = self.client(who);
        let mut inbound = BytesMut::from(bytes);
        while client.closed.is_none() {
            let Some(connection) = &mut client.connection else { break };
            let input = match frame(&mut inbound, connection.packet_bytes_max()) {
                Ok(None) => break,
                Ok(Some(frame)) => match connection.version() {
                    None => Input::Connect(decode_connect(frame)),
                    Some(version) => match decode_from_client(frame, version) {
                        Ok(packet) => Input::Packet(packet),
                        Err(error) => Input::Undecodable(error),
                    },
                },
                Err(error) => Input::Unframable(error),
            };
            client.input(input, now);
        }
        self.drive();
    }

    pub(crate) fn send(&mut self, who: Who, packet: Packet) {
        let mut bytes = BytesMut::new();
        match encode(&packet, self.client(who).version, &mut bytes) {
            Ok(()) => self.send_bytes(who, &bytes),
            // A filter that is none can be decoded, to be refused alone, but not encoded.
            Err(EncodeError::Contradiction(_)) => self.input(who, Input::Packet(packet)),
            Err(error) => panic!("{packet:?}: {error}"),
        }
    }

    /// Any input that is not a packet.
    pub(crate) fn input(&mut self, who: Who, input: Input) {
        let now = self.now;
        self.client(who).input(input, now);
        self.drive();
    }

    /// The network connection breaks.
    pub(crate) fn drop_connection(&mut self, who: Who) {
        self.input(who, Input::PeerClosed);
        self.client(who).output.clear();
    }

    /// The connection's task fails: the connection is dropped without a word.
    pub(crate) fn lose(&mut self, who: Who) {
        self.client(who).connection = None;
        self.client(who).output.clear();
        self.drive();
    }

    pub(crate) fn disconnect(&mut self, who: Who) {
        self.send(who, Packet::Disconnect(Disconnect::default()));
    }

    /// From now on the client's socket takes nothing, or something again.
    pub(crate) fn stall(&mut self, who: Who, stalled: bool) {
        self.client(who).stalled = stalled;
        self.drive();
    }

    /// `hook` runs in the middle of what wakes `who` next.
    pub(crate) fn when_woken(&mut self, who: Who, hook: impl FnOnce() + Send + 'static) {
        *self.client(who).flag.1.lock().unwrap() = Some(Box::new(hook));
    }

    /// Lets everybody who was woken act, until nobody is.
    pub(crate) fn drive(&mut self) {
        let now = self.now;
        for _ in 0..100_000 {
            let mut quiet = true;
            for client in &mut self.clients {
                let called = client.flag.0.swap(false, Ordering::SeqCst);
                let Some(connection) = &client.connection else { continue };
                let drains = connection.is_summoned() || (connection.wants_drain() && !client.stalled);
                assert!(!called || connection.wants_drain() || connection.is_closed(), "woken for nothing");
                if drains {
                    client.input(Input::Wake, now);
                    quiet = false;
                }
            }
            let Some(disk) = self.disk.as_mut().filter(|_| quiet) else {
                if quiet {
                    return;
                }
                continue;
            };
            if !disk.commit() {
                return;
            }
            let journal = &disk.journal;
            self.clients.iter_mut().for_each(|client| client.let_out(Some(journal)));
        }
        panic!("the world does not come to rest");
    }

    /// Time passes; everything that is due in between happens at its moment.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now.mono.after(by);
        loop {
            let connections =
                self.clients.iter().filter_map(|client| client.connection.as_ref()?.next_deadline());
            let next = connections.chain(self.hub.next_deadline()).min().filter(|at| *at <= end);
            let at = next.unwrap_or(end).max(self.now.mono);
            let step = at.since(self.now.mono);
            self.now = Now { mono: at, wall: self.now.wall.after(step) };
            let now = self.now;
            self.hub.tick(now);
            for client in &mut self.clients {
                let due = client.connection.as_ref().and_then(Connection::next_deadline);
                if due.is_some_and(|due| due <= now.mono) {
                    client.input(Input::Deadline, now);
                }
            }
            self.drive();
            if next.is_none() {
                return;
            }
        }
    }

    pub(crate) fn advance_secs(&mut self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    /// A packet identifier that no other packet of the world has.
    pub(crate) fn packet_id(&mut self) -> u16 {
        self.next_packet_id = self.next_packet_id % u16::MAX + 1;
        self.next_packet_id
    }

    /// Subscribes to one filter, expecting that it is granted as asked.
    pub(crate) fn subscribe(&mut self, who: Who, text: &str, qos: u8) {
        let suback = self.subscribe_to(who, vec![filter(text, qos)], None);
        assert_eq!(suback.reasons.iter().map(|reason| *reason as u8).collect::<Vec<_>>(), [qos], "{text}");
    }

    /// Sends SUBSCRIBE and gives its SUBACK. What else arrived stays.
    pub(crate) fn subscribe_to(
        &mut self,
        who: Who,
        filters: Vec<Requested>,
        subscription_id: Option<u32>,
    ) -> SubAck {
        let packet_id = id(self.packet_id());
        let subscribe = Subscribe { packet_id, subscription_id, user_properties: Vec::new(), filters };
        self.send(who, Packet::Subscribe(Box::new(subscribe)));
        let heard = &mut self.client(who).heard;
        let place = heard.iter().position(|packet| matches!(packet, Packet::SubAck(_))).expect("a SUBACK");
        match heard.remove(place) {
            Some(Packet::SubAck(suback)) if suback.packet_id == packet_id => *suback,
            other => panic!("{other:?} instead of SUBACK {packet_id}"),
        }
    }

    pub(crate) fn unsubscribe(&mut self, who: Who, text: &str) -> UnsubAck {
        let packet_id = id(self.packet_id());
        let filters = vec![SubscriptionFilter::parse(Text::try_from(text).unwrap())];
        self.send(
            who,
            Packet::Unsubscribe(Box::new(Unsubscribe { packet_id, user_properties: Vec::new(), filters })),
        );
        let heard = &mut self.client(who).heard;
        let place =
            heard.iter().position(|packet| matches!(packet, Packet::UnsubAck(_))).expect("an UNSUBACK");
        match heard.remove(place) {
            Some(Packet::UnsubAck(unsuback)) if unsuback.packet_id == packet_id => *unsuback,
            other => panic!("{other:?} instead of UNSUBACK {packet_id}"),
        }
    }

    /// Publishes and completes the exchange; gives the reason code of PUBACK or PUBREC, success at QoS 0.
    pub(crate) fn publish(&mut self, who: Who, say: Say) -> ReasonCode {
        self.publish_ack(who, say).map_or(ReasonCode::Success, |ack| ack.reason)
    }

    /// Publishes and completes the exchange; gives PUBACK or PUBREC.
    pub(crate) fn publish_ack(&mut self, who: Who, say: Say) -> Option<Ack> {
        let packet_id = self.packet_id();
        let qos = say.qos;
        self.send(who, Packet::Publish(say.packet(packet_id)));
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(self.expect_ack(who, packet_id, |packet| match packet {
                Packet::PubAck(ack) => Some(ack),
                _ => None,
            })),
            QoS::ExactlyOnce => {
                let pubrec = self.expect_ack(who, packet_id, |packet| match packet {
                    Packet::PubRec(ack) => Some(ack),
                    _ => None,
                });
                if !pubrec.reason.is_failure() {
                    self.send(who, Packet::PubRel(Ack::success(id(packet_id))));
                    let pubcomp = self.expect_ack(who, packet_id, |packet| match packet {
                        Packet::PubComp(ack) => Some(ack),
                        _ => None,
                    });
                    assert_eq!(pubcomp.reason, ReasonCode::Success);
                }
                Some(pubrec)
            }
        }
    }

    fn expect_ack(&mut self, who: Who, packet_id: u16, of: impl Fn(&Packet) -> Option<&Ack>) -> Ack {
        let heard = &mut self.client(who).heard;
        let wanted = |packet: &Packet| of(packet).is_some_and(|ack| ack.packet_id == id(packet_id));
        let place = heard.iter().position(wanted);
        let place = place.unwrap_or_else(|| panic!("no acknowledgement of {packet_id} in {heard:?}"));
        of(&heard.remove(place).unwrap()).unwrap().clone()
    }

    /// Everything that the client heard since it was last asked.
    pub(crate) fn heard(&mut self, who: Who) -> Vec<Packet> {
        self.client(who).heard.drain(..).collect()
    }

    /// The messages that the client heard; nothing else may have come.
    pub(crate) fn messages(&mut self, who: Who) -> Vec<Publish> {
        self.heard(who)
            .into_iter()
            .map(|packet| match packet {
                Packet::Publish(publish) => publish,
                other => panic!("{other:?} among the messages"),
            })
            .collect()
    }

    /// The payloads of the messages that the client heard, which it acknowledges to the end.
    pub(crate) fn payloads(&mut self, who: Who) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            let messages = self.messages(who);
            if messages.is_empty() {
                return payloads;
            }
            for message in messages {
                payloads.push(text(&message));
                self.acknowledge(who, &message);
            }
        }
    }

    /// Acknowledges a message to the end. Other messages that come meanwhile stay.
    pub(crate) fn acknowledge(&mut self, who: Who, message: &Publish) {
        match message.qos {
            QosId::AtMostOnce => {}
            QosId::AtLeastOnce(id) => self.send(who, Packet::PubAck(Ack::success(id))),
            QosId::ExactlyOnce(id) => {
                self.send(who, Packet::PubRec(Ack::success(id)));
                let pubrel = self.expect_ack(who, id.get(), |packet| match packet {
                    Packet::PubRel(ack) => Some(ack),
                    _ => None,
                });
                assert_eq!(pubrel.reason, ReasonCode::Success);
                self.send(who, Packet::PubComp(Ack::success(id)));
            }
        }
    }

    /// Why the connection was closed, if it was.
    pub(crate) fn closed(&mut self, who: Who) -> Option<CloseReason> {
        self.client(who).closed
    }

    /// The last thing the client heard is DISCONNECT with `reason`, and it was closed. Takes all it heard.
    #[track_caller]
    pub(crate) fn assert_disconnected(&mut self, who: Who, reason: ReasonCode) {
        assert!(self.closed(who).is_some(), "the connection is open");
        match self.heard(who).pop() {
            Some(Packet::Disconnect(disconnect)) => assert_eq!(disconnect.reason, reason),
            other => panic!("{other:?} instead of DISCONNECT {reason}"),
        }
    }

    #[track_caller]
    pub(crate) fn assert_open(&mut self, who: Who) {
        assert_eq!(self.closed(who), None);
    }

    pub(crate) fn notes(&mut self, who: Who) -> Vec<Event> {
        std::mem::take(&mut self.client(who).notes)
    }

    /// The requests for certificates that the client's connection handed on since it was last asked.
    pub(crate) fn requests(&mut self, who: Who) -> Vec<Request> {
        std::mem::take(&mut self.client(who).requests)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.hub.counters().snapshot()
    }

    pub(crate) fn connection(&self, who: Who) -> &Connection {
        self.clients[who.0].connection.as_ref().unwrap()
    }

    fn client(&mut self, who: Who) -> &mut Client {
        &mut self.clients[who.0]
    }
}

impl Client {
    /// One input, and its actions carried out through the codec.
    fn input(&mut self, input: Input, now: Now) {
        let Some(connection) = &mut self.connection else { return };
        connection.handle(input, now, &mut self.actions);
        let version = connection.version().unwrap_or(self.version);
        let journal = connection.hub().journal().cloned();
        let mut outbound = BytesMut::new();
        for action in self.actions.drain() {
            assert_eq!(self.closed, None, "{action:?} behind Close");
            match action {
                Action::Send(packet) => {
                    let before = outbound.len();
                    encode(&packet, version, &mut outbound).expect("a packet that can be encoded");
                    assert_eq!(outbound.len() - before, encoded_len(&packet, version));
                }
                Action::Deliver(delivery) => {
                    let before = outbound.len();
                    delivery.write(version, &mut outbound);
                    assert_eq!(outbound.len() - before, delivery.encoded_len(version));
                }
                Action::Hold(ticket) => {
                    let journal = journal.as_ref().expect("a hub without a journal holds nothing");
                    assert!(!journal.is_settled(ticket), "held for nothing");
                    read(&mut outbound, version, &mut self.output);
                    self.output.push_back(Output::Hold(ticket));
                }
                Action::Note(event) => self.notes.push(event),
                Action::Enrol(request) => self.requests.push(*request),
                Action::Answer(reply) => {
                    reply.write(version, &mut outbound).expect("an answer that can be encoded");
                }
                Action::Close(reason) => self.closed = Some(reason),
            }
        }
        read(&mut outbound, version, &mut self.output);
        self.let_out(journal.as_ref());
    }

    /// What waits for nothing leaves.
    fn let_out(&mut self, journal: Option<&Arc<Journal>>) {
        while let Some(output) = self.output.pop_front() {
            match output {
                Output::Packet(packet) => self.heard.push_back(packet),
                Output::Hold(ticket) if journal.is_some_and(|journal| journal.is_settled(ticket)) => {}
                Output::Hold(ticket) => {
                    self.output.push_front(Output::Hold(ticket));
                    return;
                }
            }
        }
    }
}

fn read(bytes: &mut BytesMut, version: Version, output: &mut VecDeque<Output>) {
    while let Some(frame) = frame(bytes, u32::MAX).expect("whole packets") {
        let packet = decode_from_server(frame, version).expect("a packet that a client understands");
        output.push_back(Output::Packet(packet));
    }
    assert!(bytes.is_empty());
}

fn hub(limits: Limits, policy: &str, disk: Option<&Disk>, durability: Durability) -> Arc<Hub> {
    match disk {
        None => Hub::new(limits, compile(policy)),
        Some(disk) => Hub::with_journal(limits, compile(policy), Arc::clone(&disk.journal), durability),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.disk.is_some() && !std::thread::panicking() {
            self.disk().hang_after(usize::MAX);
            self.assert_disk_is_memory();
        }
    }
}

pub(crate) fn compile(policy: &str) -> Arc<Policy> {
    let (policy, _) =
        Policy::parse(policy, "acl.conf", &ParseOptions::default()).expect("a policy without errors");
    Arc::new(policy)
}
