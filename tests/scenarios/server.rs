//! The broker's side: real core, real rows, a journal that one committer empties, and a disk that fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use bytes::{Buf as _, BytesMut};
use signet_acl::{ParseOptions, Policy};
use signet_core::journal::{Durability, Journal, Portion, Ticket};
use signet_core::{Action, Actions, Connection, Hub, Input, Limits, ListenerRules, Now, Peer};
use signet_identity::{CertificateId, Principal, ThingName};
use signet_wire::{Version, encode};

use crate::disk::Disk;

/// What everybody may do; [`crate::history::may_read`] says the same in other words.
pub(crate) const POLICY: &str = "\
role device
pattern readwrite d/%u/#
topic readwrite all/#
role operator
topic read d/#
topic readwrite all/#
";

/// More than a scenario can leave unsettled.
const JOURNAL_BYTES_MAX: usize = 64 << 20;

/// What goes to a client, in order.
#[derive(Debug)]
enum Out {
    Bytes(BytesMut),
    /// Nothing behind it leaves before this is settled.
    Hold(Ticket),
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The broker's end of one network connection.
#[derive(Debug)]
pub(crate) struct End {
    connection: Connection,
    version: Version,
    inbound: BytesMut,
    outbound: VecDeque<Out>,
    closed: bool,
}

impl End {
    /// Bytes from the client.
    pub(crate) fn hear(&mut self, bytes: &[u8], now: Now) {
        self.inbound.extend_from_slice(bytes);
        while !self.closed {
            let Some(input) = self.connection.next_input(&mut self.inbound) else { return };
            self.input(input, now);
        }
    }

    pub(crate) fn input(&mut self, input: Input, now: Now) {
        let mut actions = Actions::new();
        self.connection.handle(input, now, &mut actions);
        let version = self.connection.version().unwrap_or(self.version);
        for action in actions.drain() {
            assert!(!self.closed, "{action:?} behind Close");
            match action {
                Action::Hold(ticket) => self.outbound.push_back(Out::Hold(ticket)),
                Action::Send(packet) => {
                    encode(&packet, version, self.bytes()).expect("a packet that can be encoded");
                }
                Action::Deliver(delivery) => delivery.write(version, self.bytes()),
                Action::Note(_) => {}
                Action::Close(_) => self.closed = true,
                other => panic!("{other:?}: nobody asked for it"),
            }
        }
    }

    fn bytes(&mut self) -> &mut BytesMut {
        if !matches!(self.outbound.back(), Some(Out::Bytes(_))) {
            self.outbound.push_back(Out::Bytes(BytesMut::new()));
        }
        match self.outbound.back_mut() {
            Some(Out::Bytes(bytes)) => bytes,
            _ => unreachable!("it was just put there"),
        }
    }

    /// Up to `most` bytes that may leave now.
    pub(crate) fn speak(&mut self, most: usize, journal: &Journal) -> BytesMut {
        let mut said = BytesMut::new();
        while let Some(out) = self.outbound.front_mut() {
            match out {
                Out::Hold(ticket) if journal.is_settled(*ticket) => {
                    self.outbound.pop_front();
                }
                Out::Hold(_) => break,
                Out::Bytes(bytes) => {
                    let count = bytes.len().min(most - said.len());
                    said.extend_from_slice(&bytes[..count]);
                    bytes.advance(count);
                    if !bytes.is_empty() {
                        break;
                    }
                    self.outbound.pop_front();
                }
            }
        }
        said
    }

    /// Closed by the core, and everything that may leave has left.
    pub(crate) fn is_over(&self, journal: &Journal) -> bool {
        self.closed
            && match self.outbound.front() {
                None => true,
                Some(Out::Hold(ticket)) => !journal.is_settled(*ticket),
                Some(Out::Bytes(_)) => false,
            }
    }

    /// Lets the core hand out what waits.
    pub(crate) fn drain(&mut self, now: Now) -> bool {
        if self.closed || !(self.connection.is_summoned() || self.connection.wants_drain()) {
            return false;
        }
        self.input(Input::Wake, now);
        true
    }
}

/// One life of the broker, from a start to a crash.
pub(crate) struct Server {
    pub(crate) hub: Arc<Hub>,
    pub(crate) journal: Arc<Journal>,
    disk: Disk,
    /// Taken from the journal and not on the disk yet.
    taken: Option<Portion>,
}

impl Server {
    /// Starts with what is on the disk.
    pub(crate) fn start(mut disk: Disk, now: Now) -> Self {
        let journal = Arc::new(Journal::new(JOURNAL_BYTES_MAX));
        let limits = Limits { queued_messages_max: 100_000, unreleased_qos2_max: 1000, ..Limits::default() };
        let hub = Hub::with_journal(limits, policy(), Arc::clone(&journal), Durability::Strict);
        disk.restore(&hub, now);
        Self { hub, journal, disk, taken: None }
    }

    /// A connection that has not said anything.
    pub(crate) fn accept(&self, name: &str, version: Version, now: Now) -> End {
        let thing = ThingName::try_from(name).expect("a name");
        let certificate = CertificateId::of(name.as_bytes());
        let principal = match name {
            "watcher" | "auditor" => Principal::operator(thing, certificate, Vec::new()),
            _ => Principal::device(thing, certificate, Vec::new()),
        };
        let peer = Peer {
            principal,
            address: "192.0.2.1:40000".parse().expect("an address"),
            rules: ListenerRules::default(),
        };
        let waker = Waker::from(Arc::new(Flag::default()));
        End {
            connection: Connection::new(Arc::clone(&self.hub), peer, waker, now),
            version,
            inbound: BytesMut::new(),
            outbound: VecDeque::new(),
            closed: false,
        }
    }

    /// The committer takes what there is, if it has nothing in its hands.
    pub(crate) fn take(&mut self) {
        if self.taken.is_none() {
            self.taken = self.journal.take();
        }
    }

    /// The committer tries to write what it has. False: it could not.
    pub(crate) fn commit(&mut self, now: Now) -> bool {
        if let Some(portion) = self.taken.take() {
            let (upto, bytes) = (portion.upto, portion.bytes());
            self.disk.take_in(portion.records);
            self.disk.promise(upto, bytes);
        }
        let done = self.disk.commit(now);
        crate::device::trace("the disk", "commits", &done);
        for (upto, bytes) in self.disk.kept_promises() {
            self.journal.settle(upto, bytes);
        }
        done
    }

    /// The power fails: only the disk is left.
    pub(crate) fn crash(self) -> Disk {
        self.disk.after_power_failure()
    }

    pub(crate) fn heal(&mut self) {
        self.disk.heal();
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.taken.is_none() && self.journal.unsettled_bytes() == 0
    }
}

fn policy() -> Arc<Policy> {
    let (policy, _) =
        Policy::parse(POLICY, "scenarios.acl", &ParseOptions::default()).expect("a policy without errors");
    Arc::new(policy)
}
