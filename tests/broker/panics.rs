//! A defect in the broker, shown end to end. What the core calls from outside (a receiver's waker) is called in the work of
//! whoever publishes: one that panics is a panic in the middle of the routing of that message.
//!
//! Each of these runs in a process of its own: one is to end, and of the other what it says is looked at.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use signet_core::{Actions, Connection, Input, ListenerRules, Peer};
use signet_identity::{CertificateId, Principal, ThingName};
use signet_tests::build::*;
use signet_tests::raw_client::RawClient;
use signet_tests::received::Received;
use signet_tests::test_broker::TestBroker;
use signet_wire::{
    ClientId, ConnectProperties, Packet, PacketId, Requested, SubscribeOptions, SubscriptionFilter, Text,
};

use crate::SHARED;

/// What tells the process that it is the one of its own.
const OWN: &str = "SIGNET_TEST_OWN_PROCESS";
/// SIGABRT.
const ABORTED: i32 = 6;

/// Runs a test of this file again in a process of its own; how it ended, and what it said. `None`: this is that process.
fn in_a_process_of_its_own(test: &str) -> Option<Output> {
    if std::env::var_os(OWN).is_some() {
        return None;
    }
    // What it leaves in its folders, since it cannot clear up, goes with this one; and no core is wanted.
    let folder = tempfile::tempdir().unwrap();
    let mut again = Command::new("sh");
    again.args(["-c", "ulimit -c 0; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    again
        .args([&format!("panics::{test}"), "--exact", "--nocapture"])
        .env(OWN, "1")
        .env("TMPDIR", folder.path());
    Some(again.output().unwrap())
}

/// Panics when it is called, once, after it was told to.
#[derive(Default)]
struct Defect(AtomicBool);

impl Wake for Defect {
    fn wake(self: Arc<Self>) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a defect");
    }
}

/// Somebody in the broker's own process who subscribes to `filter`, and what is called when something comes.
fn observe(broker: &TestBroker, principal: Principal, filter: &str) -> (Connection, Arc<Defect>) {
    let broker = broker.broker();
    let defect = Arc::new(Defect::default());
    let peer = Peer { principal, address: "127.0.0.1:1".parse().unwrap(), rules: ListenerRules::default() };
    let waker = Waker::from(Arc::clone(&defect));
    let mut connection = Connection::new(Arc::clone(broker.hub()), peer, waker, broker.clock.now());
    let connect = signet_wire::Connect {
        version: V5,
        clean_start: true,
        keep_alive_secs: 0,
        client_id: Some(ClientId::try_from("observer").unwrap()),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    let filter = SubscriptionFilter::parse(Text::try_from(filter).unwrap());
    let subscribe = signet_wire::Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        user_properties: Vec::new(),
        filters: vec![Requested { filter, options: SubscribeOptions::default() }],
    };
    for input in [Input::Connect(Ok(connect)), Input::Packet(Packet::Subscribe(Box::new(subscribe)))] {
        connection.handle(input, broker.clock.now(), &mut Actions::new());
    }
    assert_eq!(broker.hub().subscription_count(), 1);
    (connection, defect)
}

fn expect_pubrec(client: &mut RawClient) {
    let answer = client.receive();
    assert!(
        matches!(&answer, Received::PubRec(ack) if (ack.packet_id, ack.code) == (1, 0)),
        "expected PUBREC, got {answer:?}"
    );
}

#[test]
fn a_panic_in_the_work_of_one_connection_ends_that_one_and_nothing_else() {
    if let Some(output) =
        in_a_process_of_its_own("a_panic_in_the_work_of_one_connection_ends_that_one_and_nothing_else")
    {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let told = said.lines().find(|line| line.contains("a panic in this connection's work ended it"));
        let told = told.unwrap_or_else(|| panic!("it is told of: {said}"));
        assert!(told.contains("sensor-001") && told.contains("address=127.0.0.1:"), "{told}");
        return;
    }
    let broker = TestBroker::start(SHARED);
    let name = ThingName::try_from("observer").unwrap();
    let observer = Principal::device(name, CertificateId::of(b"observer"), Vec::new());
    let (_observer, defect) = observe(&broker, observer, "c/boom");
    let mut reader = broker.device("sensor-002").connect(&connect(V5, "reader"), V5);
    reader.subscribe("c/#", 0);
    let mut bystander = broker.device("admin").connect(&connect(V5, "bystander"), V5);
    let open = connect(V5, "a").persistent().will(will("c/will", "gone"));
    let mut victim = broker.device("sensor-001").connect(&open, V5);
    victim.subscribe("c/orders", 0);
    defect.0.store(true, Ordering::SeqCst);
    victim.send(publish(V5, "c/boom", "now").qos2(1).bytes());
    // Without a word: of what it was in the middle of nothing is known.
    victim.expect_closed();
    // Its will is sent. Whoever came before the defect has the message.
    let mut had = 0;
    loop {
        match reader.receive() {
            Received::Publish(publish) if publish.topic == "c/boom" => had += 1,
            Received::Publish(publish) if publish.topic == "c/will" => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(had <= 1);
    assert_eq!(broker.metric("signet_panics_total"), 1.0);
    // Everybody else is served.
    bystander.publish("c/t", "on", 0);
    reader.expect_publish("c/t", "on");
    reader.expect_nothing();
    // Its session is as it was: the message was not acknowledged, and is routed when it comes again, once.
    let (mut back, present, _) = broker.device("sensor-001").connected(&open, V5);
    assert!(present);
    bystander.publish("c/orders", "still subscribed", 0);
    back.expect_publish("c/orders", "still subscribed");
    reader.expect_publish("c/orders", "still subscribed");
    for routed in [true, false] {
        back.send(publish(V5, "c/boom", "now").qos2(1).dup().bytes());
        expect_pubrec(&mut back);
        if routed {
            reader.expect_publish("c/boom", "now");
        }
        reader.expect_nothing();
    }
    back.send(pubrel(1));
    let answer = back.receive();
    assert!(matches!(&answer, Received::PubComp(ack) if (ack.packet_id, ack.code) == (1, 0)), "{answer:?}");
    back.expect_nothing();
    broker.stop_after_panics(1);
}

#[test]
fn a_panic_in_work_that_the_broker_cannot_go_on_without_ends_the_process_and_says_so() {
    if let Some(output) = in_a_process_of_its_own(
        "a_panic_in_work_that_the_broker_cannot_go_on_without_ends_the_process_and_says_so",
    ) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(ABORTED), "{said}");
        let told = said.lines().find(|line| line.contains("publishing $SYS ended by a panic"));
        let told = told.unwrap_or_else(|| panic!("it is told of: {said}"));
        assert!(told.contains("its supervisor starts it again"), "{told}");
        return;
    }
    let broker = TestBroker::start(SHARED);
    let name = ThingName::try_from("observer").unwrap();
    let observer = Principal::operator(name, CertificateId::of(b"observer"), Vec::new());
    let (_observer, defect) = observe(&broker, observer, "$SYS/broker/uptime");
    // The next value comes within a second.
    defect.0.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(60));
    panic!("the process goes on");
}
