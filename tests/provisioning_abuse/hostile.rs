//! Ten thousand hostile requests: replays, races, injections. None is accepted, and rows and memory stay bounded.
//!
//! `SIGNET_HOSTILE_REQUESTS` sets another number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use serde_json::json;
use signet_tests::build::{V5, V311};

use crate::device::{Asking, CSR, FLEET, Format, KEYS, csr, enrol, new_key};
use crate::factory::{Claim, Factory};

const CLIENTS: usize = 8;
/// Registrations of one token that run at once, of every so many requests.
const RACE_EVERY: usize = 250;

fn requests() -> usize {
    std::env::var("SIGNET_HOSTILE_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// Memory of this process that is in use, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// What a thief has got hold of.
struct Loot {
    /// Used by the device that it was for.
    used: String,
    /// Of another claim, not used yet.
    foreign: String,
    damaged_csr: String,
    foreign_csr: String,
}

/// The hostile request number `n`: its topic, its payload, and the encoding of its answer.
fn hostile(n: usize, loot: &Loot) -> (String, Vec<u8>, Format) {
    let register = |token: &str, serial: &str| {
        Format::Json
            .write(&json!({"certificateOwnershipToken": token, "parameters": {"SerialNumber": serial}}))
    };
    let injections =
        ["/", "+", "#", "../../x", "a/b", "$SYS", "%u", "\u{0}", "a\nb", "${x}", "\u{202e}", "x y"];
    let (operation, payload) = match n % 12 {
        0 => (FLEET, register(&loot.used, "again")),
        1 => (FLEET, register(&loot.foreign, "stolen")),
        2 => (FLEET, register(&format!("{n:043}"), "guessed")),
        3 => (FLEET, register(&loot.foreign, injections[n / 12 % injections.len()])),
        4 => (FLEET, b"{\"certificateOwnershipToken\":\"x\",\"certificateOwnershipToken\":\"y\"}".to_vec()),
        5 => (FLEET, "[".repeat(n % 8000).into_bytes()),
        6 => (CSR, Format::Json.write(&json!({"certificateSigningRequest": loot.damaged_csr}))),
        7 => (CSR, Format::Json.write(&json!({"certificateSigningRequest": loot.foreign_csr}))),
        8 => (CSR, vec![b'{'; 9000]),
        9 => (KEYS, Vec::new()),
        10 => {
            let mut bytes = Format::Cbor.write(&json!({"certificateOwnershipToken": loot.used}));
            let at = n % bytes.len();
            bytes[at] ^= 1 << (n % 8);
            return (format!("{FLEET}/cbor"), bytes, Format::Cbor);
        }
        _ => {
            return (format!("{CSR}/cbor"), vec![0x9f; n % 8000], Format::Cbor);
        }
    };
    (format!("{operation}/json"), payload, Format::Json)
}

/// What a thief has from the devices of `other`, and the device whose token is not used yet.
fn steal(other: &Claim<'_>) -> (Loot, Asking) {
    let victim_key = new_key();
    let used = enrol(&other.door(), &victim_key, "victim", Format::Json).token;
    let mut honest = Asking::connect(&other.door(), V5, "honest");
    honest.listen(&format!("{CSR}/json"));
    let foreign = honest.create(&new_key(), Format::Json).token;
    let damaged_csr = {
        let mut der = pem::parse(csr(&new_key())).unwrap().into_contents();
        let last = der.len() - 1;
        der[last] ^= 1;
        pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der))
    };
    let foreign_csr = {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        csr(&key)
    };
    let loot = Loot { used, foreign, damaged_csr, foreign_csr };
    (loot, honest)
}

/// All clients with the leaked claim together.
struct Raid {
    all: usize,
    next: AtomicUsize,
    /// Races won, and hostile requests accepted.
    raced: AtomicUsize,
    accepted: AtomicUsize,
    /// The token that is raced for.
    race: Mutex<String>,
    barrier: Barrier,
}

impl Raid {
    fn new(all: usize) -> Self {
        let (next, raced, accepted) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        Self { all, next, raced, accepted, race: Mutex::new(String::new()), barrier: Barrier::new(CLIENTS) }
    }

    fn take_part(&self, client: usize, leaked: &Claim<'_>, loot: &Loot) {
        let version = if client.is_multiple_of(2) { V311 } else { V5 };
        let mut asking = Asking::connect(&leaked.door(), version, &format!("thief-{client}"));
        for request in [CSR, KEYS, FLEET] {
            for format in ["json", "cbor"] {
                asking.listen(&format!("{request}/{format}"));
            }
        }
        for round in 0..self.all.div_ceil(RACE_EVERY) {
            // One certificate, honestly asked for, and eight who register it under eight names at once.
            if client == 0 {
                *self.race.lock().unwrap() = asking.create(&new_key(), Format::Json).token;
            }
            self.barrier.wait();
            let token = self.race.lock().unwrap().clone();
            let won = asking.register(&token, &format!("race-{round}-{client}"), Format::Json).accepted;
            self.raced.fetch_add(usize::from(won), Ordering::Relaxed);
            let until = ((round + 1) * RACE_EVERY).min(self.all);
            while let Some(n) = self.turn(until) {
                let (topic, payload, format) = hostile(n, loot);
                let answer = asking.ask_raw(&topic, &payload, format);
                self.accepted.fetch_add(usize::from(answer.accepted), Ordering::Relaxed);
            }
            self.barrier.wait();
        }
    }

    /// The next number below `until`.
    fn turn(&self, until: usize) -> Option<usize> {
        let next = |n| (n < until).then_some(n + 1);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }
}

#[test]
fn ten_thousand_hostile_requests_get_nothing_and_leave_bounded_traces() {
    let factory = Factory::with(
        "requests-per-principal-per-second = 0\nrequests-per-address-per-second = 0\nalarm-refusals = 1000000",
    );
    let (leaked, other) = (factory.claim("leaked"), factory.claim("other"));
    let (loot, mut honest) = steal(&other);
    let things = factory.registry().registry().things_count();
    let events = factory.registry().registry().events_applied();
    let memory = resident_bytes();
    let all = requests();
    let raid = Raid::new(all);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (raid, leaked, loot) = (&raid, &leaked, &loot);
            scope.spawn(move || raid.take_part(client, leaked, loot));
        }
    });
    let rounds = all.div_ceil(RACE_EVERY);
    assert_eq!(raid.accepted.into_inner(), 0, "hostile requests were accepted");
    assert_eq!(raid.raced.into_inner(), rounds, "each race has one winner");
    let registry = factory.registry().snapshot();
    assert_eq!(registry.things_count(), things + rounds);
    assert_eq!(registry.counts().pending, 1, "the honest one that still waits");
    // Of a race: issued, thing added, bound, activated, claim used. Of all refusals: ten rows in a minute and principal.
    let rows = registry.events_applied() - events;
    assert!(rows <= 6 * rounds as u64 + 200, "{rows} rows");
    assert!(factory.audit("refused").len() <= 100);
    let grown = resident_bytes().saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes more");
    assert!(factory.metric("signet_provisioning_alarms_total{kind=\"foreign_token\"}") > 1.0);
    // The one whose token it was still gets in.
    honest.listen(&format!("{FLEET}/json"));
    honest.register(&loot.foreign, "honest", Format::Json).accepted();
}
