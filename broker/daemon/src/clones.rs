//! One certificate in two hands.
//!
//! A private key that was copied shows in where its certificate connects from: the original and the copy both want to be
//! connected, so it comes from one origin while it is connected from another, and comes back to the first while it is
//! connected from the second. An origin is an address (of IPv6 a /64) and the kind of TLS client, by its first message.
//!
//! What counts is a *return*: the certificate connects from an origin that it had left, while its connection from the
//! origin after that is still open. A device that moves on, from network to network or through a translator that gives it
//! other addresses, leaves origins and does not come back to them; one that was updated has another TLS client from then
//! on; one whose old connection is dead and not yet noticed makes the first half of a return only. A translator with two to
//! four addresses in turn is the exception: a device behind it does come back, and is not told from a copy.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use signet_config::{CloneAction, Clones};
use signet_core::Mono;
use signet_identity::{CertificateId, Principal, Role};
use signet_registry::{Actor, Command, Line, Topic};
use smallvec::SmallVec;

use crate::admission::source_of;
use crate::server::Broker;

/// Certificates watched at most, about 300 bytes each; beyond it those that have not connected for long are forgotten.
const CERTIFICATES_WATCHED_MAX: usize = 65_536;
/// Origins remembered of one certificate.
const ORIGINS_MAX: usize = 4;

/// Where a certificate connects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    address: IpAddr,
    client: [u8; 8],
}

impl Origin {
    /// `client` is the fingerprint of the TLS client's first message.
    pub(crate) fn new(address: IpAddr, client: [u8; 8]) -> Self {
        Self { address: source_of(address), client }
    }
}

/// An origin, and the connections that are open from there.
#[derive(Debug)]
struct Place {
    origin: Origin,
    open: u32,
}

#[derive(Debug, Default)]
struct Entry {
    /// Least recently used first: the last one is where it connected from last.
    places: SmallVec<[Place; ORIGINS_MAX]>,
    returns: VecDeque<Mono>,
    /// Until when no further alarm is raised.
    quiet_until: Mono,
    /// Connected again since it was last looked at for eviction.
    used: bool,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<CertificateId, Entry, foldhash::quality::RandomState>,
    /// In the order in which they are looked at for eviction.
    order: VecDeque<CertificateId>,
}

/// Watches where certificates connect from.
#[derive(Debug, Default)]
pub(crate) struct CloneWatch {
    table: Mutex<Table>,
}

/// A connection of a watched certificate. Dropped when it is over.
#[derive(Debug)]
pub(crate) struct Presence {
    watch: Arc<CloneWatch>,
    certificate: CertificateId,
    origin: Origin,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut table = self.watch.table.lock();
        let places = table.entries.get_mut(&self.certificate).map(|entry| &mut entry.places);
        if let Some(place) =
            places.and_then(|places| places.iter_mut().find(|place| place.origin == self.origin))
        {
            place.open = place.open.saturating_sub(1);
        }
    }
}

/// A certificate that seems to be in two hands: where it came from, and where it had been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TwoHands {
    here: Origin,
    there: Origin,
}

impl CloneWatch {
    /// The certificate has connected from `origin`.
    pub(crate) fn arrived(
        self: &Arc<Self>,
        certificate: CertificateId,
        origin: Origin,
        rules: &Clones,
        now: Mono,
    ) -> (Presence, Option<TwoHands>) {
        let mut table = self.table.lock();
        table.make_room(&certificate);
        let table = &mut *table;
        let entry = match table.entries.entry(certificate) {
            std::collections::hash_map::Entry::Occupied(known) => {
                let entry = known.into_mut();
                entry.used = true;
                entry
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                table.order.push_back(certificate);
                place.insert(Entry::default())
            }
        };
        let found = entry.arrived(origin, rules, now);
        (Presence { watch: Arc::clone(self), certificate, origin }, found)
    }
}

impl Table {
    /// Second chance: what connected since it was last looked at goes to the back once more. The marks are cleared on the
    /// way, so this ends after one round at the latest.
    fn make_room(&mut self, newcomer: &CertificateId) {
        if self.entries.contains_key(newcomer) {
            return;
        }
        while self.entries.len() >= CERTIFICATES_WATCHED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            match self.entries.get_mut(&oldest) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    self.entries.remove(&oldest);
                }
            }
        }
    }
}

impl Entry {
    fn arrived(&mut self, origin: Origin, rules: &Clones, now: Mono) -> Option<TwoHands> {
        let last = self.places.last().map(|place| (place.origin, place.open > 0));
        let known = self.places.iter().position(|place| place.origin == origin);
        let place = match known {
            Some(index) => self.places.remove(index),
            None => Place { origin, open: 0 },
        };
        if self.places.len() >= ORIGINS_MAX {
            self.places.remove(0);
        }
        self.places.push(Place { open: place.open.saturating_add(1), ..place });
        let (there, contested) = last?;
        if there == origin || known.is_none() || !contested {
            return None;
        }
        while self.returns.front().is_some_and(|at| now.since(*at) > rules.within) {
            self.returns.pop_front();
        }
        self.returns.push_back(now);
        let enough = self.returns.len() >= rules.returns.get() as usize;
        if !enough || now < self.quiet_until {
            // No more than a clone takes are kept.
            self.returns.truncate(rules.returns.get() as usize);
            return None;
        }
        self.returns.clear();
        self.quiet_until = now.after(rules.within.max(Duration::from_secs(1)));
        Some(TwoHands { here: origin, there })
    }
}

/// A device that may connect has shaken hands. The presence is kept as long as its connection.
pub(crate) fn watch(
    broker: &Broker,
    principal: &Principal,
    address: IpAddr,
    client: [u8; 8],
) -> Option<Presence> {
    let rules = broker.config.load().clones;
    // Claims are in many hands by their nature, and operators may work from many places.
    if rules.action == CloneAction::Off || principal.role() != Role::Device {
        return None;
    }
    let origin = Origin::new(address, client);
    let certificate = *principal.certificate();
    let (presence, found) = broker.clones.arrived(certificate, origin, &rules, broker.clock.mono());
    if let Some(two_hands) = found {
        alarm(broker, principal, &two_hands, rules.action);
    }
    Some(presence)
}

fn alarm(broker: &Broker, principal: &Principal, found: &TwoHands, action: CloneAction) {
    let TwoHands { here, there } = found;
    let quarantine = action == CloneAction::Quarantine;
    broker.metrics.standing.clone_alarms.inc();
    tracing::error!(
        name = %principal.name(), certificate = %principal.certificate(), here = %here.address, there = %there.address,
        other_client = here.client != there.client, quarantine,
        "a certificate seems to be in two hands: it is used from two origins in turn"
    );
    let Some(registry) = broker.registry() else { return };
    let how = if here.address == there.address { "two TLS clients at" } else { "two addresses," };
    let text = format!(
        "certificate {} of {} seems to be in two hands: {how} {} and {}",
        principal.certificate(),
        principal.name(),
        here.address,
        there.address
    );
    // Neither is waited for: who cannot be noted now, for want of disk, is in the log.
    drop(registry.submit(Command::Note { topic: Topic::Alarm, text: Line::new(&text) }, Actor::Broker));
    if quarantine {
        let command = Command::Quarantine { thing: principal.name().clone(), why: Line::new(&text) };
        drop(registry.submit(command, Actor::Broker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    const RULES: Clones = Clones {
        action: CloneAction::Alarm,
        returns: NonZeroU32::new(3).unwrap(),
        within: Duration::from_secs(600),
    };

    struct Scene {
        watch: Arc<CloneWatch>,
        now: Mono,
        /// The connections that are open.
        open: Vec<Presence>,
        alarms: usize,
    }

    impl Scene {
        fn new() -> Self {
            Self { watch: Arc::default(), now: Mono::START, open: Vec::new(), alarms: 0 }
        }

        /// The certificate connects from there, and its other connections end with that when `takes_over`.
        fn connects(&mut self, certificate: &str, address: u8, client: u8, takes_over: bool) {
            let origin = Origin::new(Ipv4Addr::new(192, 0, 2, address).into(), [client; 8]);
            let id = CertificateId::of(certificate.as_bytes());
            let (presence, found) = self.watch.arrived(id, origin, &RULES, self.now);
            self.alarms += usize::from(found.is_some());
            if takes_over {
                self.open.clear();
            }
            self.open.push(presence);
            self.now = self.now.after(Duration::from_secs(10));
        }
    }

    #[test]
    fn two_addresses_that_take_over_from_each_other_raise_one_alarm() {
        let mut scene = Scene::new();
        for round in 0..20 {
            scene.connects("a", round % 2, 1, true);
        }
        assert_eq!(scene.alarms, 1, "and not one for every turn");
        scene.now = scene.now.after(RULES.within);
        for round in 0..8 {
            scene.connects("a", round % 2, 1, true);
        }
        assert_eq!(scene.alarms, 2, "it goes on, and is said again");
    }

    #[test]
    fn two_kinds_of_client_at_one_address_raise_an_alarm() {
        let mut scene = Scene::new();
        for round in 0..8 {
            scene.connects("a", 1, round % 2, false);
        }
        assert_eq!(scene.alarms, 1);
    }

    #[test]
    fn a_device_that_reconnects_from_one_place_raises_none() {
        let mut scene = Scene::new();
        for _ in 0..100 {
            scene.connects("a", 1, 1, true);
        }
        assert_eq!(scene.alarms, 0);
    }

    #[test]
    fn a_device_behind_changing_addresses_raises_none() {
        let mut scene = Scene::new();
        // Every reconnection comes from another address, while the last connection is not yet known to be dead.
        for round in 0..200 {
            scene.connects("a", round, 1, true);
        }
        // It alternates between two networks, and closes one connection before it opens the other.
        for round in 0..200 {
            scene.open.clear();
            scene.connects("a", round % 2, 1, true);
        }
        assert_eq!(scene.alarms, 0);
    }

    #[test]
    fn few_returns_in_a_long_time_raise_none() {
        let mut scene = Scene::new();
        for round in 0..200 {
            scene.connects("a", round % 2, 1, true);
            scene.now = scene.now.after(RULES.within / 2);
        }
        assert_eq!(scene.alarms, 0);
    }

    #[test]
    fn certificates_are_watched_apart() {
        let mut scene = Scene::new();
        for _ in 0..20 {
            scene.connects("a", 1, 1, false);
            scene.connects("b", 2, 1, false);
        }
        assert_eq!(scene.alarms, 0);
    }

    #[test]
    fn the_table_is_bounded_and_what_connects_often_stays() {
        let watch: Arc<CloneWatch> = Arc::default();
        let origin = |n| Origin::new(Ipv4Addr::new(192, 0, 2, n).into(), [0; 8]);
        let (victim, _) = watch.arrived(CertificateId::of(b"victim"), origin(0), &RULES, Mono::START);
        for n in 0..CERTIFICATES_WATCHED_MAX + 1000 {
            let id = CertificateId::of(&n.to_be_bytes());
            drop(watch.arrived(id, origin(1), &RULES, Mono::START));
            if n % 1000 == 0 {
                drop(watch.arrived(CertificateId::of(b"victim"), origin(0), &RULES, Mono::START));
            }
        }
        let table = watch.table.lock();
        assert!(table.entries.len() <= CERTIFICATES_WATCHED_MAX);
        assert_eq!(table.order.len(), table.entries.len());
        let kept = table.entries.get(&CertificateId::of(b"victim")).expect("it connected all the time");
        assert_eq!(kept.places.iter().map(|place| place.open).sum::<u32>(), 1);
        drop(table);
        drop(victim);
    }
}
