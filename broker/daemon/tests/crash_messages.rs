//! The broker is killed at random moments under a load of QoS 1 and 2, with subscribers that come and go; after each start
//! nothing that it acknowledged is lost, and no QoS 2 message comes twice.
//!
//! 20 cycles by default. `SIGNET_CRASH_CYCLES=200` runs more, `SIGNET_CRASH_SEED=N` repeats a run's moments. What it did is
//! told in `crash_messages.txt` in the target directory's `tmp`.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod client;
mod kills;
mod peer;
mod setup;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::{Client, Flow, Said};
use kills::Kills;
use setup::Setup;
use signet_wire::QoS;

const SEED: u64 = 0x6d65_7373_6167;
/// A kill comes after fewer acknowledgements than this,
const ACKNOWLEDGED: u64 = 120;
/// and then within this time: in the middle of what comes next.
const LIFE_MAX: Duration = Duration::from_millis(40);
/// Messages of one publisher that may wait for an acknowledgement.
const WINDOW: usize = 8;

const CONFIGURATION: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"pki/server-chain.crt\"\n\
    private-key = \"pki/server.key\"\nclient-ca = [\"ca/issuing.crt\"]\nmax-connections = 50\n\
    [acl]\nfile = \"acl.conf\"\n[registry]\nmode = \"on\"\n[ca]\n[admin]\nsocket = \"signet.sock\"\n\
    [store]\ndirectory = \"data\"\n\
    [limits]\nqueued-messages-max = 1000000\nqueued-bytes-max = \"512MiB\"\noutbox-bytes-max = \"512MiB\"\n\
    queued-bytes-per-principal-max = \"512MiB\"\n\
    handshakes-per-address-per-second = 0\n";
const POLICY: &str = "pattern write load/%u/#\nuser reader-a\ntopic read load/#\nuser reader-b\ntopic read load/#\n\
    user reader-c\ntopic read load/#\n";

const PUBLISHERS: [&str; 2] = ["writer-a", "writer-b"];
const READERS: [&str; 3] = ["reader-a", "reader-b", "reader-c"];

/// Somebody who publishes numbers, QoS 1 and 2 in turns, and a retained one now and then.
struct Writer {
    name: &'static str,
    flow: Flow,
    next: u64,
    acknowledged: BTreeSet<u64>,
    retained: u64,
}

/// The retained message says the number of the last one before it.
fn is_retained(number: u64) -> bool {
    number.is_multiple_of(50)
}

fn qos_of(number: u64) -> QoS {
    if number.is_multiple_of(2) { QoS::ExactlyOnce } else { QoS::AtLeastOnce }
}

impl Writer {
    /// Publishes until the broker is gone, or `more` says no and everything is acknowledged.
    fn work(&mut self, setup: &Setup, more: impl Fn() -> bool, count: &AtomicU64) {
        let Some((mut client, present)) = Client::connect(setup, self.name, &mut self.flow, false) else {
            return;
        };
        assert!(present || self.acknowledged.is_empty(), "{}: the session is lost", self.name);
        loop {
            while more() && self.flow.in_flight() < WINDOW {
                let number = self.next;
                self.next += 1;
                let topic =
                    format!("load/{}/{}", self.name, if is_retained(number) { "state" } else { "numbers" });
                let payload = format!("{number} {}", "x".repeat((number % 7 * 300) as usize));
                let sent = client.publish(
                    &mut self.flow,
                    &topic,
                    payload.as_bytes(),
                    qos_of(number),
                    is_retained(number),
                    number,
                );
                if sent.is_none() {
                    return;
                }
            }
            if self.flow.in_flight() == 0 {
                return;
            }
            match client.next(&mut self.flow) {
                None => return,
                Some(Said::Acknowledged(number)) => {
                    self.acknowledged.insert(number);
                    count.fetch_add(1, Ordering::Relaxed);
                    if is_retained(number) {
                        self.retained = self.retained.max(number);
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// Somebody who hears everything.
struct Reader {
    name: &'static str,
    flow: Flow,
    subscribed: bool,
    /// How many different messages came.
    count: usize,
    /// How often each number came, by topic.
    heard: BTreeMap<String, BTreeMap<u64, u64>>,
    /// In the order in which they came first, by topic and QoS.
    order: BTreeMap<(String, QoS), Vec<u64>>,
}

impl Reader {
    /// Hears until the broker is gone, or `enough` of it.
    fn work(&mut self, setup: &Setup, mut enough: impl FnMut(&Self) -> bool) {
        let Some((mut client, present)) = Client::connect(setup, self.name, &mut self.flow, false) else {
            return;
        };
        assert!(present || !self.subscribed, "{}: the session is lost", self.name);
        if !self.subscribed {
            match client.subscribe("load/+/numbers", QoS::ExactlyOnce) {
                Some(true) => self.subscribed = true,
                // Whether it took effect is not known: it is done again.
                Some(false) | None => return,
            }
        }
        while !enough(self) {
            match client.next(&mut self.flow) {
                None => return,
                Some(Said::Message { topic, payload, qos }) => {
                    let text = String::from_utf8(payload.to_vec()).unwrap();
                    let number = text.split(' ').next().unwrap().parse().unwrap();
                    let times = self.heard.entry(topic.clone()).or_default().entry(number).or_default();
                    *times += 1;
                    if *times == 1 {
                        self.count += 1;
                        self.order.entry((topic, qos)).or_default().push(number);
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn has(&self, writer: &Writer) -> bool {
        let heard = self.heard.get(&format!("load/{}/numbers", writer.name));
        let wanted = writer.acknowledged.iter().filter(|number| !is_retained(**number));
        let mut missing = wanted.filter(|number| heard.is_none_or(|heard| !heard.contains_key(number)));
        missing.next().is_none()
    }

    fn check(&self, said: &str) {
        for (topic, heard) in &self.heard {
            for (number, times) in heard {
                assert!(
                    *times == 1 || qos_of(*number) == QoS::AtLeastOnce,
                    "{said}: {} heard {number} on {topic} {times} times",
                    self.name
                );
            }
        }
        for ((topic, qos), order) in &self.order {
            assert!(
                order.is_sorted(),
                "{said}: {} heard {topic} with {qos:?} out of order: {order:?}",
                self.name
            );
        }
    }
}

/// The retained message of a writer is the last that was acknowledged, or a later one.
fn check_retained(setup: &Setup, writer: &Writer, said: &str) {
    if writer.retained == 0 {
        return;
    }
    let mut flow = Flow::default();
    let (mut client, _) = Client::connect(setup, "reader-c", &mut flow, true).unwrap();
    assert_eq!(client.subscribe(&format!("load/{}/state", writer.name), QoS::AtMostOnce), Some(true));
    loop {
        if let Said::Message { payload, .. } = client.next(&mut flow).unwrap() {
            let text = String::from_utf8(payload.to_vec()).unwrap();
            let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
            assert!(
                number >= writer.retained,
                "{said}: {number} is retained, {} was acknowledged",
                writer.retained
            );
            return;
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_no_acknowledged_message_and_repeats_none_of_qos_2() {
    let mut kills = Kills::by(SEED);
    let (cycles, seed) = (kills.cycles, kills.seed);
    let mut setup = Setup::with_configuration(CONFIGURATION);
    fs::write(setup.path("acl.conf"), POLICY).unwrap();
    setup.start();
    for name in PUBLISHERS.iter().chain(&READERS) {
        setup.ask(&["device", "add", name, "--key", "--out", "out"]);
    }
    let mut writers = PUBLISHERS.map(|name| Writer {
        name,
        flow: Flow::default(),
        next: 1,
        acknowledged: BTreeSet::new(),
        retained: 0,
    });
    let mut readers = READERS.map(|name| Reader {
        name,
        flow: Flow::default(),
        subscribed: false,
        count: 0,
        heard: BTreeMap::new(),
        order: BTreeMap::new(),
    });
    // Nothing is published before everybody is subscribed, so that all of it is for all of them.
    for reader in &mut readers {
        reader.work(&setup, |reader| reader.subscribed);
    }
    for cycle in 0..cycles {
        let said = format!("seed {seed}, cycle {cycle}");
        let moment = kills.moment(ACKNOWLEDGED, LIFE_MAX);
        let patience_of_b = 20 + kills.below(60);
        let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let at_work = &setup;
        std::thread::scope(|scope| {
            for writer in &mut writers {
                let (count, over) = (&count, &over);
                scope.spawn(move || writer.work(at_work, || !over.load(Ordering::Relaxed), count));
            }
            let [a, b, _absent] = &mut readers;
            scope.spawn(|| a.work(at_work, |_| false));
            scope.spawn(|| {
                // Comes, hears some, goes without a word, and comes again.
                while !over.load(Ordering::Relaxed) {
                    let mut left = patience_of_b;
                    b.work(at_work, |_| {
                        left = left.saturating_sub(1);
                        left == 0 || over.load(Ordering::Relaxed)
                    });
                }
            });
            moment.kill(at_work.running.as_ref().unwrap(), &count, &over, &said);
        });
        setup.running.take().unwrap().wait().unwrap();
        setup.start();
        for writer in &writers {
            check_retained(&setup, writer, &said);
        }
        setup.ask(&["audit", "verify"]);
    }
    let count = AtomicU64::new(0);
    for writer in &mut writers {
        writer.work(&setup, || false, &count);
        assert_eq!(writer.flow.in_flight(), 0, "everything is acknowledged in the end");
    }
    let numbers =
        |writer: &Writer| writer.acknowledged.iter().filter(|number| !is_retained(**number)).count();
    let wanted: usize = writers.iter().map(numbers).sum();
    for reader in &mut readers {
        reader
            .work(&setup, |reader| reader.count >= wanted && writers.iter().all(|writer| reader.has(writer)));
        let said = format!("seed {seed}, at the end");
        for writer in &writers {
            assert!(reader.has(writer), "{said}: {} misses messages of {}", reader.name, writer.name);
        }
        reader.check(&said);
    }
    let acknowledged: usize = writers.iter().map(|writer| writer.acknowledged.len()).sum();
    assert!(acknowledged as u64 > cycles, "{acknowledged} acknowledged in {cycles} cycles");
    let report = format!(
        "{cycles} kills with seed {seed}: {acknowledged} messages acknowledged, each heard by {} readers, none lost, none \
         of QoS 2 twice\n",
        readers.len()
    );
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/crash_messages.txt"), report).unwrap();
}
