//! How long a start takes with many retained messages and sessions, and how much memory.
//!
//! A few by default. `SIGNET_RESTART_RETAINED=1000000 SIGNET_RESTART_SESSIONS=100000` are the figures of the manual, and
//! `SIGNET_BIN=PATH` the program to try, since this one is not optimised. What came out is told in `restart.txt` in the
//! target directory's `tmp`.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use setup::Setup;
use signet::store::messages::{Damaged, DiskStore, Ledger, MessageStore};
use signet_core::journal::{QueuedEntry, Record, StoredSession};
use signet_core::router::SubOptions;
use signet_core::{Author, Message, Now, Publisher, Wall};
use signet_identity::{CertificateId, Principal, ThingName};
use signet_wire::{ClientId, QoS, SubscriptionFilter, Text, TopicName};

const RETAINED: u64 = 20_000;
const SESSIONS: u64 = 2_000;
/// Retained messages of one device.
const EACH: u64 = 10;
/// Records that are written at once.
const AT_ONCE: usize = 20_000;
/// No start takes longer, optimised or not.
const PATIENCE: Duration = Duration::from_secs(300);

const CONFIGURATION: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"pki/server-chain.crt\"\n\
    private-key = \"pki/server.key\"\nclient-ca = [\"ca/issuing.crt\"]\nmax-connections = 50\n\
    [acl]\nfile = \"acl.conf\"\n[admin]\nsocket = \"signet.sock\"\n[store]\ndirectory = \"data\"\n\
    [limits]\nsessions-max = 1000000\nretained-messages-max = 2000000\nretained-bytes-max = \"4GiB\"\n";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn author(number: u64) -> Arc<Author> {
    let text = format!("sensor-{number:07}");
    let principal = Principal::device(
        ThingName::try_from(text.as_str()).unwrap(),
        CertificateId::of(text.as_bytes()),
        Vec::new(),
    );
    Arc::new(Author { principal, client_id: ClientId::try_from(text).unwrap() })
}

fn message(author: &Arc<Author>, topic: String, retain: bool) -> Arc<Message> {
    let topic = TopicName::try_from(topic).unwrap();
    let payload = Bytes::from_static(&[b'x'; 64]);
    let publisher = Publisher::Client(Arc::clone(author));
    Arc::new(Message::new(
        topic,
        payload,
        QoS::AtLeastOnce,
        retain,
        None,
        publisher,
        signet_core::Mono::START,
    ))
}

/// Writes a store as a broker with so many devices would have left it.
fn make(setup: &Setup, retained: u64, sessions: u64) {
    let mut store = DiskStore::open(&setup.path("data"), Damaged::Refuse).unwrap().store;
    let mut ledger = Ledger::new();
    let mut records = 0;
    let mut write = |ledger: &mut Ledger, last: bool| {
        records += 1;
        if last || records % AT_ONCE == 0 {
            let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let now = Now { wall: Wall(u64::try_from(wall.as_millis()).unwrap()), ..Now::default() };
            store.commit(&ledger.render(now)).unwrap();
        }
    };
    for number in 0..retained {
        let author = author(number / EACH);
        let topic = format!("devices/{}/telemetry/{}", author.principal.name(), number % EACH);
        ledger.take_in(Record::Retained(message(&author, topic, true)));
        write(&mut ledger, false);
    }
    for number in 1..=sessions {
        let author = author(number);
        let stored = StoredSession {
            principal: author.principal.key().clone(),
            client_id: author.client_id.clone(),
            author: Arc::clone(&author),
            expiry_secs: u32::MAX,
            ends: None,
            will: None,
            will_due: None,
        };
        ledger.take_in(Record::Session(number, Box::new(stored)));
        let filter = format!("devices/{}/commands/#", author.principal.name());
        let filter = SubscriptionFilter::parse(Text::try_from(filter).unwrap()).unwrap();
        let options = SubOptions {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            subscription_id: None,
        };
        ledger.take_in(Record::Subscribed(number, filter, options));
        let topic = format!("devices/{}/commands/next", author.principal.name());
        let waiting = QueuedEntry {
            number: 0,
            message: message(&author, topic, false),
            qos: QoS::AtLeastOnce,
            retain: false,
            replay: false,
            subscription_ids: Default::default(),
            shared: None,
        };
        ledger.take_in(Record::Queued(number, Box::new(waiting)));
        write(&mut ledger, false);
    }
    write(&mut ledger, true);
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn everything_that_was_left_is_back_when_the_broker_is_ready() {
    let (retained, sessions) =
        (setting("SIGNET_RESTART_RETAINED", RETAINED), setting("SIGNET_RESTART_SESSIONS", SESSIONS));
    let mut setup = Setup::new();
    // Without the registry: who is left behind is nobody that it knows.
    fs::write(setup.path("signet.toml"), CONFIGURATION).unwrap();
    fs::write(setup.path("acl.conf"), "pattern readwrite devices/%u/#\n").unwrap();
    make(&setup, retained, sessions);
    let program = std::env::var("SIGNET_BIN").unwrap_or(env!("CARGO_BIN_EXE_signet").to_owned());
    let mut starts = Vec::new();
    for _ in 0..2 {
        let ready = setup.path("ready");
        let _ = fs::remove_file(&ready);
        let started = Instant::now();
        let child = Command::new(&program)
            .args(["run", "--config", "signet.toml", "--ready-file", "ready"])
            .current_dir(setup.dir.path())
            .env_remove("SIGNET_SOCKET")
            .stdout(Stdio::null())
            .stderr(fs::File::create(setup.path("log")).unwrap())
            .spawn()
            .unwrap();
        let pid = child.id();
        setup.running = Some(child);
        while !ready.exists() {
            assert!(started.elapsed() < PATIENCE, "{}", fs::read_to_string(setup.path("log")).unwrap());
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let took = started.elapsed();
        let memory = resident_kib(pid);
        let status = setup.ask(&["status"]);
        assert_eq!(status["sessions"].as_u64().unwrap(), sessions);
        assert_eq!(status["subscriptions"].as_u64().unwrap(), sessions);
        let found = status["retained-messages"].as_u64().unwrap();
        // The broker's own may have come.
        assert!((retained..retained + 100).contains(&found), "{found} are retained");
        let rows = setup.ask(&["sessions", "list"]);
        assert!(rows.as_array().unwrap().iter().all(|row| row["queued"] == 1), "one message waits for each");
        starts.push(format!("{:.2} s, {} MiB", took.as_secs_f64(), memory / 1024));
        setup.stop();
    }
    let report = format!(
        "{retained} retained messages of 64 bytes, {sessions} sessions with a subscription and a waiting message each: ready \
         after {}\n",
        starts.join("; then ")
    );
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/restart.txt"), report).unwrap();
}
