//! Numbers that tell the newer of two presence events of one client id from the older, since events may be read out of order.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::RandomState;
use signet_core::Mono;

use super::{Happened, What};

/// How long a client id that is away keeps its number.
const KEPT_OFFLINE: Duration = Duration::from_secs(3600);
/// Client ids that have a number. More begin with 0 each time.
const CLIENT_IDS_MAX: usize = 1_000_000;
/// Between two looks for client ids that are long away, in events.
const SWEEP_EVERY: u32 = 8192;

/// The number of each client id, which grows with each connection of it.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// By the hash of principal and client id. Two that have the same, which does not happen, would share their numbers.
    clients: HashMap<u64, Client, RandomState>,
    /// The number that each open connection got.
    open: HashMap<u64, u64, RandomState>,
    hasher: RandomState,
    since_sweep: u32,
}

#[derive(Debug, Clone, Copy)]
struct Client {
    next: u64,
    connections: u32,
    away_since: Mono,
}

impl Versions {
    /// The number of a presence event: the same for the connect and the disconnect of one connection. `None` for what has none.
    pub(super) fn of(&mut self, happened: &Happened) -> Option<u64> {
        let now = happened.at.mono;
        match happened.what {
            What::Connected => {
                let key = self.key(happened);
                self.sweep(now);
                Some(self.connected(key, happened.number, now))
            }
            What::Disconnected(_) => {
                let key = self.key(happened);
                if let Some(client) = self.clients.get_mut(&key) {
                    client.connections = client.connections.saturating_sub(1);
                    client.away_since = now;
                }
                Some(self.open.remove(&happened.number).unwrap_or(0))
            }
            What::Refused | What::Subscribed(_) | What::Unsubscribed(_) => None,
        }
    }

    fn key(&self, happened: &Happened) -> u64 {
        self.hasher.hash_one((happened.principal.key(), &*happened.client_id))
    }

    fn connected(&mut self, key: u64, connection: u64, now: Mono) -> u64 {
        if self.clients.len() >= CLIENT_IDS_MAX && !self.clients.contains_key(&key) {
            return 0;
        }
        let client = self.clients.entry(key).or_insert(Client { next: 0, connections: 0, away_since: now });
        if client.connections == 0 && now.since(client.away_since) >= KEPT_OFFLINE {
            client.next = 0;
        }
        let version = client.next;
        client.next += 1;
        client.connections += 1;
        self.open.insert(connection, version);
        version
    }

    fn sweep(&mut self, now: Mono) {
        self.since_sweep += 1;
        if self.since_sweep >= SWEEP_EVERY {
            self.since_sweep = 0;
            self.clients
                .retain(|_, client| client.connections > 0 || now.since(client.away_since) < KEPT_OFFLINE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signet_core::{CloseReason, Now, Wall};
    use signet_identity::{CertificateId, Principal, ThingName};
    use signet_wire::ClientId;

    fn happened(what: What, number: u64, client_id: &str, secs: u64) -> Happened {
        let name = ThingName::try_from("a").unwrap();
        Happened {
            what,
            number,
            principal: Principal::device(name, CertificateId::of(b"a"), Vec::new()),
            client_id: ClientId::try_from(client_id).unwrap(),
            address: "127.0.0.1:1".parse().unwrap(),
            at: Now { mono: Mono::START.after(Duration::from_secs(secs)), wall: Wall(0) },
            bytes: 0,
        }
    }

    fn gone() -> What {
        What::Disconnected(CloseReason::PeerClosed)
    }

    #[test]
    fn a_connection_has_one_number_and_the_next_one_a_higher() {
        let mut versions = Versions::default();
        assert_eq!(versions.of(&happened(What::Connected, 1, "x", 0)), Some(0));
        // Taken over: the new connection is told of first.
        assert_eq!(versions.of(&happened(What::Connected, 2, "x", 1)), Some(1));
        assert_eq!(versions.of(&happened(gone(), 1, "x", 1)), Some(0));
        assert_eq!(versions.of(&happened(gone(), 2, "x", 2)), Some(1));
        assert_eq!(versions.of(&happened(What::Connected, 3, "x", 3)), Some(2));
        assert_eq!(versions.of(&happened(What::Connected, 4, "y", 3)), Some(0));
        assert_eq!(versions.of(&happened(What::Refused, 5, "x", 3)), None);
    }

    #[test]
    fn the_number_begins_again_after_an_hour_away_and_not_before() {
        let mut versions = Versions::default();
        versions.of(&happened(What::Connected, 1, "x", 0));
        versions.of(&happened(gone(), 1, "x", 10));
        assert_eq!(versions.of(&happened(What::Connected, 2, "x", 3609)), Some(1));
        versions.of(&happened(gone(), 2, "x", 3610));
        assert_eq!(versions.of(&happened(What::Connected, 3, "x", 7210)), Some(0));
    }

    #[test]
    fn those_that_are_long_away_are_forgotten() {
        let mut versions = Versions::default();
        for number in 0..u64::from(SWEEP_EVERY) {
            versions.of(&happened(What::Connected, number, &format!("c{number}"), 0));
            versions.of(&happened(gone(), number, &format!("c{number}"), 0));
        }
        assert_eq!(versions.clients.len(), SWEEP_EVERY as usize);
        for number in 0..u64::from(SWEEP_EVERY) {
            versions.of(&happened(What::Connected, number, "stays", 4000));
        }
        assert_eq!((versions.clients.len(), versions.open.len()), (1, SWEEP_EVERY as usize));
    }
}
