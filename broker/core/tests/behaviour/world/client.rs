//! One client of the world: its connection, carried out through the codec, and what it heard.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use bytes::BytesMut;
use signet_core::journal::{Journal, Ticket};
use signet_core::provisioning::Request;
use signet_core::{Action, Actions, CloseReason, Connection, Event, Input, Now};
use signet_wire::{Packet, Version, decode_from_server, encode, encoded_len, frame};

pub(super) struct Client {
    pub(super) connection: Option<Connection>,
    pub(super) flag: Arc<Flag>,
    pub(super) version: Version,
    actions: Actions,
    /// What has not left yet.
    pub(super) output: VecDeque<Output>,
    pub(super) heard: VecDeque<Packet>,
    pub(super) notes: Vec<Event>,
    pub(super) requests: Vec<Request>,
    pub(super) closed: Option<CloseReason>,
    /// The output has no room: only summons are heeded.
    pub(super) stalled: bool,
}

pub(super) enum Output {
    Hold(Ticket),
    Packet(Packet),
}

#[derive(Default)]
pub(super) struct Flag(pub(super) AtomicBool, pub(super) Mutex<Option<Hook>>);

/// Something that happens in the moment in which a connection is woken.
pub(super) type Hook = Box<dyn FnOnce() + Send>;

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        let hook = self.1.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl Client {
    /// A client whose connection wakes `flag`.
    pub(super) fn of(connection: Connection, flag: Arc<Flag>) -> Self {
        Self {
            connection: Some(connection),
            flag,
            version: Version::V5,
            actions: Actions::new(),
            output: VecDeque::new(),
            heard: VecDeque::new(),
            notes: Vec::new(),
            requests: Vec::new(),
            closed: None,
            stalled: false,
        }
    }

    /// One input, and its actions carried out through the codec.
    pub(super) fn input(&mut self, input: Input, now: Now) {
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
    pub(super) fn let_out(&mut self, journal: Option<&Arc<Journal>>) {
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
