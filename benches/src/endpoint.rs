//! A connection of the core without a socket: bytes in, bytes out, as the broker's edge drives it.

use std::sync::Arc;
use std::task::{Wake, Waker};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use mqttbytes::QoS;
use mqttbytes::v4::{Connect, Publish, Subscribe};
use signet_acl::{ParseOptions, Policy};
use signet_core::{Action, Actions, Connection, Hub, Input, Limits, ListenerRules, Mono, Now, Peer, Wall};
use signet_identity::{CertificateId, Principal, ThingName};
use signet_wire::{Version, encode};

const NOW: Now = Now { mono: Mono::START, wall: Wall(1_800_000_000_000) };
/// CONNACK of 3.1.1: accepted, no session.
const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
const SUBACK: u8 = 0x90;

/// Each device writes its own telemetry and reads its own commands; one back-end principal sees everything.
pub(crate) const POLICY: &str = "\
pattern write devices/%u/telemetry/#
pattern write devices/%u/status
pattern read devices/%u/commands/#

user admin
topic read #
topic write devices/+/commands/#
";

struct Silent;

impl Wake for Silent {
    fn wake(self: Arc<Self>) {}
}

/// A broker without an edge. Its mailboxes are large, so that nothing is dropped while a thread waits for a processor, and all subscribers may
/// have one name.
pub(crate) fn hub() -> Result<Arc<Hub>> {
    let limits = Limits { outbox_bytes_max: 1 << 30, sessions_per_principal_max: 1000, ..Limits::default() };
    match Policy::parse(POLICY, "bench.acl", &ParseOptions::default()) {
        Ok((policy, _)) => Ok(Hub::new(limits, Arc::new(policy))),
        Err(errors) => bail!("{errors:?}"),
    }
}

/// The principal of this name.
pub(crate) fn principal(name: &str) -> Result<Principal> {
    let thing = ThingName::try_from(name).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Principal::device(thing, CertificateId::of(name.as_bytes()), Vec::new()))
}

/// One connection.
pub(crate) struct Endpoint {
    connection: Connection,
    inbound: BytesMut,
    outbound: BytesMut,
    actions: Actions,
}

impl Endpoint {
    /// A connection of this principal that has said nothing yet.
    pub(crate) fn new(hub: &Arc<Hub>, principal: Principal) -> Self {
        let address = ([127, 0, 0, 1], 1).into();
        let peer = Peer { principal, address, rules: ListenerRules::default() };
        let waker = Waker::from(Arc::new(Silent));
        Self {
            connection: Connection::new(Arc::clone(hub), peer, waker, NOW),
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
            actions: Actions::new(),
        }
    }

    /// The connection of the device or back end `name`, after its CONNECT.
    pub(crate) fn connected(hub: &Arc<Hub>, name: &str, client_id: &str) -> Result<Self> {
        let mut endpoint = Self::new(hub, principal(name)?);
        endpoint.receive(&connect(client_id)?);
        ensure!(*endpoint.output() == ACCEPTED, "{name} was not accepted");
        Ok(endpoint)
    }

    /// Subscribes, and expects to be granted what it asks for.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<()> {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 1;
        let mut bytes = BytesMut::new();
        subscribe.write(&mut bytes).map_err(codec)?;
        self.receive(&bytes);
        ensure!(*self.output() == [SUBACK, 3, 0, 1, qos as u8], "no subscription to {filter}");
        Ok(())
    }

    /// Takes bytes from the network and acts on every whole packet.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
        while let Some(input) = self.connection.next_input(&mut self.inbound) {
            self.input(input);
        }
    }

    /// Hands out what waits for this connection.
    pub(crate) fn drain(&mut self) {
        while self.connection.wants_drain() {
            self.input(Input::Wake);
        }
    }

    fn input(&mut self, input: Input) {
        self.connection.handle(input, NOW, &mut self.actions);
        let version = self.connection.version().unwrap_or(Version::V311);
        for action in self.actions.drain() {
            match action {
                Action::Send(packet) => {
                    // Nothing that the core sends cannot be encoded; were it so, the expected output would be missing.
                    let _ = encode(&packet, version, &mut self.outbound);
                }
                Action::Deliver(delivery) => delivery.write(version, &mut self.outbound),
                // Without a journal nothing is held.
                Action::Hold(_)
                | Action::Note(_)
                | Action::Close(_)
                | Action::Enrol(_)
                | Action::Answer(_) => {}
            }
        }
    }

    /// What would go to the network, which is forgotten.
    pub(crate) fn output(&mut self) -> BytesMut {
        self.outbound.split()
    }

    /// Forgets what would go to the network and keeps the room; how many bytes it was.
    pub(crate) fn discard(&mut self) -> usize {
        let bytes = self.outbound.len();
        self.outbound.clear();
        bytes
    }
}

fn codec(error: mqttbytes::Error) -> anyhow::Error {
    anyhow::anyhow!("mqttbytes: {error}")
}

/// CONNECT of 3.1.1 with a clean session.
pub(crate) fn connect(client_id: &str) -> Result<BytesMut> {
    let mut bytes = BytesMut::new();
    Connect::new(client_id).write(&mut bytes).map_err(codec)?;
    Ok(bytes)
}

/// PUBLISH of a device's telemetry, 64 bytes; with packet identifier 1 at QoS 1.
pub(crate) fn publish(device: &str, qos: QoS) -> Result<BytesMut> {
    let mut publish = Publish::new(format!("devices/{device}/telemetry/t"), qos, [b'x'; 64]);
    publish.pkid = 1;
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes).map_err(codec).context("encoding a PUBLISH")?;
    Ok(bytes)
}
