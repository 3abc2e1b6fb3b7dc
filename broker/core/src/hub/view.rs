//! What operators see and do: lists of sessions and connections, ending them.

use std::net::SocketAddr;
use std::sync::Arc;

use signet_identity::PrincipalKey;
use signet_wire::{ClientId, Version};

use crate::close::CloseReason;
use crate::hub::Hub;
use crate::link::Link;
use crate::session::{SessionKey, SessionRef};
use crate::time::{Now, Wall};

/// A session, as it was a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Whose.
    pub principal: PrincipalKey,
    /// Its client identifier, unique within the principal.
    pub client_id: ClientId,
    /// Whether a connection owns it.
    pub connected: bool,
    /// Whether it outlives the process.
    pub stored: bool,
    /// How many filters it subscribes to.
    pub subscriptions: usize,
    /// QoS 1 and 2 messages that wait to be sent.
    pub queued_messages: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub inflight: usize,
    /// QoS 2 messages of the client that it has not released.
    pub unreleased: usize,
    /// When it ends; `None` while it is connected and when it does not expire.
    pub ends: Option<Wall>,
}

/// A network connection, as it was a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its number; see [`crate::Connection::number`].
    pub number: u64,
    /// From its certificate.
    pub principal: PrincipalKey,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Since when, for people.
    pub since: Wall,
    /// Its client identifier and protocol version, once CONNECT was accepted.
    pub admitted: Option<(ClientId, Version)>,
}

impl Hub {
    /// All sessions, connected or not, in no particular order.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.cells(|_| true).iter().map(session_info).collect()
    }

    /// How many sessions there are, connected or not.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.session_count.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// How many sessions have a connection.
    #[must_use]
    pub fn connected_count(&self) -> usize {
        self.connected_count.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// How many subscriptions there are, shared ones included.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.index.subscriptions()
    }

    /// How many retained messages there are, and their bytes.
    #[must_use]
    pub fn retained_fill(&self) -> (usize, usize) {
        (self.retained.count(), self.retained.bytes())
    }

    /// All network connections, those before CONNECT included, in no particular order.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.links.iter().map(|registered| connection_info(&registered.link)).collect()
    }

    /// Closes the connections of a principal: all of them, those before CONNECT included, or the one with this client
    /// identifier. Gives how many were told to. Sessions stay; their wills follow [`CloseReason::sends_will`].
    pub fn kick(&self, principal: &PrincipalKey, client_id: Option<&ClientId>, reason: CloseReason) -> usize {
        self.kick_where(
            |link| {
                let same_client = client_id.is_none_or(|wanted| {
                    link.admitted.get().is_some_and(|(client_id, _)| client_id == wanted)
                });
                link.principal.key() == principal && same_client
            },
            reason,
        )
    }

    /// Closes the connection with this [`crate::Connection::number`]. From the return on nothing is taken from it and
    /// nothing is handed to it; it closes in its turn, see [`Self::close_some`]. False: there is none.
    pub fn close_connection(&self, number: u64, reason: CloseReason) -> bool {
        self.end_link(number, |link| link.mark(reason))
    }

    /// Closes every connection, as when the broker stops.
    pub fn kick_all(&self, reason: CloseReason) -> usize {
        self.kick_where(|_| true, reason)
    }

    fn kick_where(&self, wanted: impl Fn(&Link) -> bool, reason: CloseReason) -> usize {
        let wanted = self.links.iter().filter(|registered| wanted(&registered.link));
        let links: Vec<Arc<Link>> = wanted.map(|registered| Arc::clone(&registered.link)).collect();
        for link in &links {
            link.close(reason);
        }
        links.len()
    }

    /// Ends one session that has no connection. False: there is none.
    pub fn end_session(&self, principal: &PrincipalKey, client_id: &ClientId, now: Now) -> bool {
        let key = SessionKey { principal: principal.clone(), client_id: client_id.clone() };
        let Some(cell) = self.find(&key) else { return false };
        let _together = self.together(cell.number);
        let state = cell.state.lock();
        if state.ended || state.owner.is_some() {
            return false;
        }
        let aftermath = self.end(&cell, state);
        self.settle(aftermath, now);
        true
    }

    /// Handles of sessions, so that no lock of the directory is held while they are looked at.
    pub(super) fn cells(&self, wanted: impl Fn(&SessionRef) -> bool) -> Vec<SessionRef> {
        self.sessions.iter().filter(|cell| wanted(cell)).map(|cell| Arc::clone(&cell)).collect()
    }
}

fn session_info(cell: &SessionRef) -> SessionInfo {
    let state = cell.state.lock();
    let fill = cell.mailbox.lock().fill();
    SessionInfo {
        principal: cell.key.principal.clone(),
        client_id: cell.key.client_id.clone(),
        connected: state.owner.is_some(),
        stored: state.log.is_some(),
        subscriptions: state.subscriptions.len(),
        queued_messages: fill.messages,
        queued_bytes: fill.bytes,
        inflight: state.outbound.len(),
        unreleased: state.unreleased.len(),
        ends: state.ends.map(|(_, wall)| wall),
    }
}

fn connection_info(link: &Link) -> ConnectionInfo {
    ConnectionInfo {
        number: link.number,
        principal: link.principal.key().clone(),
        address: link.address,
        since: link.since.wall,
        admitted: link.admitted.get().cloned(),
    }
}
