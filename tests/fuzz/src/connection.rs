//! Several authenticated clients of one broker say arbitrary bytes, in any order, on virtual time.

use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use signet_acl::{ParseOptions, Policy};
use signet_core::{Action, Actions, Connection, Hub, Input, Limits, ListenerRules, Mono, Now, Peer, Wall};
use signet_identity::{CertificateId, Principal, ThingName};
use signet_wire::{
    ClientId, Connect, ConnectProperties, Packet, TopicName, Version, decode_from_server, encode, frame,
};

/// What everybody may do: their own part of the tree, and `all/#`.
const POLICY: &str = "pattern readwrite d/%u/#\ntopic readwrite all/#\n";
/// Inputs to drain one client with at most; each hands out what fits `drain_bytes_max`.
const DRAINS_MAX: usize = 10_000;

struct Client {
    name: &'static str,
    connection: Option<Connection>,
    version: Version,
    inbound: BytesMut,
}

struct World {
    hub: Arc<Hub>,
    now: Now,
    clients: Vec<Client>,
    actions: Actions,
}

/// Takes `data` for what three devices say after their CONNECT: pieces of a kind, a length and as many bytes.
///
/// # Panics
/// When something does not hold that must hold: a packet of the broker that no client can read, anything behind the close
/// of a connection, a message for somebody who may not read its topic.
pub fn connections(data: &[u8]) {
    let limits = Limits {
        sessions_per_principal_max: 2,
        subscriptions_per_session_max: 8,
        queued_messages_max: 8,
        retained_messages_per_principal_max: 4,
        unreleased_qos2_max: 4,
        ..Limits::default()
    };
    let now = Now { mono: Mono::START, wall: Wall(1_800_000_000_000) };
    let clients = ["a", "b", "c"].map(|name| Client {
        name,
        connection: None,
        version: Version::V5,
        inbound: BytesMut::new(),
    });
    let mut world =
        World { hub: Hub::new(limits, policy()), now, clients: clients.into(), actions: Actions::new() };
    for (place, how) in [(0, 0), (1, 1), (2, 2)] {
        world.connect(place, how);
    }
    let mut rest = data;
    while let [kind, length, more @ ..] = rest {
        let (said, behind) = more.split_at(usize::from(*length).min(more.len()));
        rest = behind;
        world.step(*kind, *length, said);
    }
    for place in 0..world.clients.len() {
        world.input(place, Input::PeerClosed);
    }
    assert_eq!(world.hub.connections().len(), 0, "a connection that is over is still listed");
    world.end_sessions();
}

fn policy() -> Arc<Policy> {
    static COMPILED: OnceLock<Arc<Policy>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let (policy, _) =
            Policy::parse(POLICY, "acl.conf", &ParseOptions::default()).expect("a policy without errors");
        Arc::new(policy)
    });
    Arc::clone(compiled)
}

impl World {
    fn step(&mut self, kind: u8, length: u8, said: &[u8]) {
        let place = usize::from(kind >> 5) % self.clients.len();
        match kind & 0x0f {
            0 => self.connect(place, length),
            1 => self.input(place, Input::PeerClosed),
            2 => self.advance(Duration::from_secs(u64::from(length) * 60)),
            _ => self.say(place, said),
        }
        self.drain();
    }

    /// Another connection of the client, over the one that it may still have.
    fn connect(&mut self, place: usize, how: u8) {
        let Some(client) = self.clients.get_mut(place) else { return };
        let version = if how & 1 == 0 { Version::V5 } else { Version::V311 };
        let lasting = how & 2 != 0;
        let client_id = if how & 4 == 0 { client.name } else { "other" };
        let name = ThingName::try_from(client.name).expect("a name");
        let principal = Principal::device(name, CertificateId::of(client.name.as_bytes()), Vec::new());
        let peer = Peer {
            principal,
            address: "192.0.2.1:40000".parse().expect("an address"),
            rules: ListenerRules::default(),
        };
        let connect = Connect {
            version,
            clean_start: how & 8 != 0 || !lasting,
            keep_alive_secs: 0,
            client_id: Some(ClientId::try_from(client_id).expect("an identifier")),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_secs: (lasting && version == Version::V5).then_some(3600),
                ..ConnectProperties::default()
            },
        };
        let connection = Connection::new(Arc::clone(&self.hub), peer, Waker::noop().clone(), self.now);
        let before = client.connection.replace(connection);
        client.version = version;
        client.inbound.clear();
        // Nobody reads from it any more.
        drop(before);
        self.input(place, Input::Connect(Ok(connect)));
    }

    fn say(&mut self, place: usize, said: &[u8]) {
        if let Some(client) = self.clients.get_mut(place) {
            client.inbound.extend_from_slice(said);
        }
        while let Some(input) = self.next_packet(place) {
            self.input(place, input);
        }
    }

    fn next_packet(&mut self, place: usize) -> Option<Input> {
        let client = self.clients.get_mut(place)?;
        client.connection.as_ref()?.next_input(&mut client.inbound)
    }

    fn input(&mut self, place: usize, input: Input) {
        let World { clients, actions, now, .. } = self;
        let Some(client) = clients.get_mut(place) else { return };
        let Some(connection) = &mut client.connection else { return };
        connection.handle(input, *now, actions);
        let version = connection.version().unwrap_or(client.version);
        let mut out = BytesMut::new();
        let mut closed = false;
        for action in actions.drain() {
            assert!(!closed, "{action:?} behind Close");
            match action {
                Action::Send(packet) => encode(&packet, version, &mut out).expect("a packet of our own"),
                Action::Deliver(delivery) => {
                    assert_readable(client.name, &delivery.message.topic);
                    delivery.write(version, &mut out);
                }
                Action::Answer(reply) => reply.write(version, &mut out).expect("an answer of our own"),
                Action::Close(_) => closed = true,
                _ => {}
            }
        }
        while let Some(frame) = frame(&mut out, u32::MAX).expect("our own frames") {
            let packet = decode_from_server(frame, version).expect("a packet that a client understands");
            if let Packet::Publish(publish) = &packet
                && let Some(topic) = &publish.topic
            {
                assert_readable(client.name, topic);
            }
        }
        assert!(out.is_empty(), "half a packet");
        if closed {
            client.connection = None;
        }
    }

    /// Ends what outlived its connection, after which nothing may be left: no session, no subscription. A message of a shared
    /// subscription that waits holds its group, the group its members, and a member what waits for it, so a hub that is dropped
    /// with one would stay in memory for ever, and a process gives it millions of inputs.
    fn end_sessions(&mut self) {
        for session in self.hub.sessions() {
            assert!(!session.connected, "the session of a connection that is over has one");
            let ended = self.hub.end_session(&session.principal, &session.client_id, self.now);
            assert!(ended, "a session that is listed is none");
        }
        let left = (self.hub.session_count(), self.hub.connected_count(), self.hub.subscription_count());
        assert_eq!(left, (0, 0, 0), "sessions, connected ones, subscriptions");
    }

    fn drain(&mut self) {
        for place in 0..self.clients.len() {
            for _ in 0..DRAINS_MAX {
                let wants = self.clients.get(place).and_then(|client| client.connection.as_ref());
                if !wants.is_some_and(|connection| connection.wants_drain() || connection.is_summoned()) {
                    break;
                }
                self.input(place, Input::Wake);
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now = Now { mono: self.now.mono.after(by), wall: self.now.wall.after(by) };
        while self.hub.tick(self.now).is_some_and(|next| next <= self.now.mono) {}
        for place in 0..self.clients.len() {
            self.input(place, Input::Deadline);
        }
    }
}

/// `all/#` is everybody's, `d/NAME/#` the device's own, and the provisioning answers are never routed.
fn assert_readable(name: &str, topic: &TopicName) {
    let own = topic.strip_prefix("d/").and_then(|rest| rest.strip_prefix(name));
    let own = own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let shared = &**topic == "all" || topic.starts_with("all/");
    assert!(own || shared || topic.starts_with("$aws/"), "{name} was sent {topic:?}");
}
