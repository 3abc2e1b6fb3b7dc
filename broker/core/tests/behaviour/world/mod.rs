//! A broker and its clients in one place, on virtual time.
//!
//! Everything a client says and hears is encoded and decoded, so that a test sees what a real client would see.
//! [`World::drive`] lets every connection that was woken act until all is quiet; each test helper does so by itself.

mod client;
mod exchange;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use signet_acl::{ParseOptions, Policy};
use signet_core::journal::Durability;
use signet_core::{
    CloseReason, Connection, Counts, Hub, Input, Limits, ListenerRules, Mono, Now, Peer, Restored, Wall,
};
use signet_identity::Principal;

pub(crate) use crate::dial::*;
use crate::disk::{Disk, Twin};
use client::{Client, Flag};

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
        let connection = Connection::new(Arc::clone(&self.hub), peer, waker, self.now);
        self.clients.push(Client::of(connection, flag));
        Who(self.clients.len() - 1)
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

    pub(crate) fn counts(&self) -> Counts {
        self.hub.counters().snapshot()
    }

    pub(crate) fn connection(&self, who: Who) -> &Connection {
        self.clients[who.0].connection.as_ref().unwrap()
    }

    pub(crate) fn connection_mut(&mut self, who: Who) -> &mut Connection {
        self.client(who).connection.as_mut().unwrap()
    }

    fn client(&mut self, who: Who) -> &mut Client {
        &mut self.clients[who.0]
    }
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
