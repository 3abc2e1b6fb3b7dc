//! Sessions belong to an identity and a client id.

use crate::SHARED;
use signet_tests::build::*;
use signet_tests::test_broker::{Settings, TestBroker, issue};

#[test]
fn same_certificate_and_client_id_takes_over_with_0x8e() {
    let broker = TestBroker::start(SHARED);
    for version in BOTH {
        let mut first = broker.device("sensor-001").connect(&connect(version, "a"), version);
        let mut second = broker.device("sensor-001").connect(&connect(version, "a"), version);
        first.expect_closed_with(0x8E);
        second.expect_nothing();
    }
}

#[test]
fn same_client_id_of_another_certificate_evicts_nobody_and_resumes_nothing() {
    let broker = TestBroker::start(SHARED);
    for version in BOTH {
        let open = connect(version, "a").persistent();
        let mut first = broker.device("sensor-001").connect(&open, version);
        first.subscribe("c/first", 1);
        let (mut other, present, _) = broker.device("sensor-002").connected(&open, version);
        assert!(!present, "another identity's session is not there");
        first.expect_nothing();
        other.publish("c/first", "x", 0);
        first.expect_publish("c/first", "x");
        other.expect_nothing();
        // Clean starts, so that the other version finds nothing.
        let _ = broker.device("sensor-001").connect(&connect(version, "a"), version);
        let _ = broker.device("sensor-002").connect(&connect(version, "a"), version);
    }
}

#[test]
fn will_of_one_identity_is_not_fired_by_a_namesake() {
    let broker = TestBroker::start(SHARED);
    let mut watcher = broker.device("admin").connect(&connect(V5, "watcher"), V5);
    watcher.subscribe("c/#", 1);
    let mut first = broker.device("sensor-001").connect(&connect(V5, "a").will(will("c/w", "gone")), V5);
    let mut namesake = broker.device("sensor-002").connect(&connect(V5, "a"), V5);
    namesake.publish("c/marker", "1", 0);
    watcher.expect_publish("c/marker", "1");
    first.expect_nothing();
    first.drop_connection();
    watcher.expect_publish("c/w", "gone");
}

#[test]
fn renewed_certificate_of_the_same_name_resumes_the_session() {
    let broker = TestBroker::start(SHARED);
    let open = connect(V5, "a").persistent();
    let (old, new) = (issue("sensor-007"), issue("sensor-007"));
    let mut client = broker.anonymous().presenting(&old).connect(&open, V5);
    client.subscribe("c/a", 1);
    client.send(disconnect());
    client.expect_closed();
    broker.device("sensor-001").connect(&connect(V5, "b"), V5).publish("c/a", "x", 0);
    let (mut client, present, _) = broker.anonymous().presenting(&new).connected(&open, V5);
    assert!(present);
    client.expect_publish("c/a", "x");
}

#[test]
fn listener_that_binds_the_client_id_to_the_name_refuses_others() {
    let broker = TestBroker::start_with(
        SHARED,
        Settings { listener: "client-id = \"identity\"", ..Settings::default() },
    );
    for (version, code) in [(V311, 2), (V5, 0x85)] {
        let mut refused = broker.device("sensor-001").open(version).expect("the handshake succeeds");
        refused.send(connect(version, "sensor-002").bytes());
        match refused.receive() {
            signet_tests::received::Received::ConnAck { code: sent, session_present: false, .. } => {
                assert_eq!(sent, code);
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
        refused.expect_closed();
        let mut own = broker.device("sensor-001").connect(&connect(version, "sensor-001"), version);
        own.expect_nothing();
    }
}
