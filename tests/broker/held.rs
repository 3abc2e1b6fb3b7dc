//! Acknowledgements that wait for a disk that does not come.

use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use signet_core::journal::{Journal, Portion};
use signet_tests::build::*;
use signet_tests::raw_client::RawClient;
use signet_tests::received::Received;
use signet_tests::test_broker::{Settings, TestBroker};

use crate::SHARED;

/// Takes every record away before the broker's own writer sees it.
struct Thief {
    journal: Weak<Journal>,
    taken: Mutex<Vec<Portion>>,
}

impl Wake for Thief {
    fn wake(self: Arc<Self>) {
        if let Some(Ok(Some(portion))) = self.journal.upgrade().map(|journal| journal.try_take()) {
            self.taken.lock().expect("nobody panics with it").push(portion);
        }
    }
}

/// A broker whose disk hangs from now on, and a session without a connection that subscribes to `c/#`.
struct Hanging {
    broker: TestBroker,
    journal: Arc<Journal>,
    thief: Arc<Thief>,
}

impl Hanging {
    fn start() -> Self {
        Self::start_within("")
    }

    fn start_within(limits: &str) -> Self {
        let tables = "[store]\ndirectory = \"kept\"\n";
        let broker = TestBroker::start_with(SHARED, Settings { tables, limits, ..Settings::default() });
        let lasting = connect(V5, "r").persistent();
        let mut reader = broker.device("sensor-001").connect(&lasting, V5);
        reader.subscribe("c/#", 1);
        reader.send(disconnect());
        reader.expect_closed();
        let journal = Arc::clone(broker.broker().hub().journal().expect("a store on disk"));
        while journal.unsettled_bytes() > 0 {
            std::thread::yield_now();
        }
        let thief = Arc::new(Thief { journal: Arc::downgrade(&journal), taken: Mutex::default() });
        journal.set_bell(Waker::from(Arc::clone(&thief)));
        Self { broker, journal, thief }
    }

    /// A writer that has sent a message which the session keeps.
    fn writer(&self, number: u16) -> RawClient {
        let mut writer = self.broker.device("sensor-002").connect(&connect(V5, "w").keep_alive(1), V5);
        writer.send(publish(V5, "c/a", "x").qos1(number).bytes());
        while self.journal.unsettled_bytes() == 0 {
            std::thread::yield_now();
        }
        writer
    }

    /// The disk comes back.
    fn recover(&self) {
        for portion in self.thief.taken.lock().expect("nobody panics with it").drain(..) {
            self.journal.settle(portion.upto, portion.bytes());
        }
    }

    fn received(&self) -> u64 {
        self.broker.broker().hub().counters().snapshot().bytes_received
    }

    fn publishes(&self) -> u64 {
        self.broker.broker().hub().counters().snapshot().publish_received
    }
}

#[test]
fn a_puback_leaves_when_its_message_is_kept_and_what_came_before_leaves_at_once() {
    let hanging = Hanging::start();
    let mut other = hanging.broker.device("sensor-001").connect(&connect(V5, "o"), V5);
    let mut before = hanging.broker.device("sensor-002").connect(&connect(V5, "w"), V5);
    before.send(pingreq());
    before.send(publish(V5, "c/a", "x").qos1(7).bytes());
    before.send(pingreq());
    assert_eq!(before.receive(), Received::PingResp);
    while hanging.journal.unsettled_bytes() == 0 {
        std::thread::yield_now();
    }
    other.expect_nothing();
    let sent = || hanging.broker.broker().hub().counters().snapshot().bytes_sent;
    let bytes = sent();
    for _ in 0..100 {
        other.expect_nothing();
    }
    // Each PINGRESP is 2 bytes, and those before may be counted late. The PUBACK and what is behind it are 6.
    assert!(sent() - bytes <= 100 * 2 + 4, "something left besides what the other one asked for");
    hanging.recover();
    before.expect_puback(7, 0);
    assert_eq!(before.receive(), Received::PingResp);
}

#[test]
fn who_is_closed_while_an_acknowledgement_waits_hears_why_and_not_the_acknowledgement() {
    let hanging = Hanging::start();
    let mut writer = hanging.writer(7);
    assert_eq!(hanging.broker.broker().kick("sensor-002", None), Ok(1));
    writer.expect_closed_with(0x98);
}

#[test]
fn who_closes_while_the_disk_comes_back_in_time_hears_the_acknowledgement_first() {
    let hanging = Hanging::start();
    let mut writer = hanging.writer(7);
    assert_eq!(hanging.broker.broker().kick("sensor-002", None), Ok(1));
    hanging.recover();
    writer.expect_puback(7, 0);
    writer.expect_closed_with(0x98);
}

#[test]
fn a_full_journal_stops_publishers_without_closing_them_and_nobody_else() {
    let hanging = Hanging::start();
    let mut writer = hanging.writer(7);
    hanging.journal.set_bytes_max(1);
    writer.send(publish(V5, "c/a", "y").qos1(8).bytes());
    let mut other = hanging.broker.device("sensor-001").connect(&connect(V5, "o"), V5);
    let until = Instant::now() + Duration::from_secs(2);
    // Longer than one and a half times the keep alive of the writer.
    while Instant::now() < until {
        other.expect_nothing();
    }
    other.send(publish(V5, "nobody/hears", "z").bytes());
    other.expect_nothing();
    assert_eq!(hanging.publishes(), 2, "the first one and that of QoS 0");
    hanging.recover();
    writer.expect_puback(7, 0);
    while hanging.journal.unsettled_bytes() == 0 {
        std::thread::yield_now();
    }
    hanging.recover();
    writer.expect_puback(8, 0);
}

#[test]
fn a_full_journal_holds_a_connect_that_keeps_a_session_until_there_is_room() {
    let hanging = Hanging::start();
    let _writer = hanging.writer(7);
    hanging.journal.set_bytes_max(1);
    let mut waits = hanging.broker.device("sensor-001").open(V5).expect("the handshake succeeds");
    let before = hanging.received();
    waits.send(join(&[&connect(V5, "r").persistent().bytes(), &pingreq()]));
    // Until it has been read, so that it could have been refused.
    while hanging.received() == before {
        std::thread::yield_now();
    }
    let mut other = hanging.broker.device("sensor-001").connect(&connect(V5, "o"), V5);
    for _ in 0..100 {
        other.expect_nothing();
    }
    assert_eq!(hanging.broker.broker().hub().counters().snapshot().connects_refused, 0);
    hanging.recover();
    let connack = waits.receive();
    assert!(matches!(connack, Received::ConnAck { session_present: true, code: 0, .. }), "{connack:?}");
    assert_eq!(waits.receive(), Received::PingResp);
}

#[test]
fn a_connect_that_no_room_comes_for_is_refused_when_its_time_is_over() {
    let hanging = Hanging::start_within("connect-timeout = \"1s\"\n");
    let _writer = hanging.writer(7);
    hanging.journal.set_bytes_max(1);
    let mut waits = hanging.broker.device("sensor-001").open(V5).expect("the handshake succeeds");
    waits.send(connect(V5, "r").persistent().bytes());
    let connack = waits.receive();
    assert!(matches!(connack, Received::ConnAck { session_present: false, code: 0x88, .. }), "{connack:?}");
    waits.expect_closed();
}
