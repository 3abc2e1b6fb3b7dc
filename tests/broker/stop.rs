//! Stopping and being told to go.

use crate::SHARED;
use signet_tests::build::*;
use signet_tests::test_broker::TestBroker;

#[test]
fn stop_tells_5_0_clients_why_and_closes_all() {
    let broker = TestBroker::start(SHARED);
    let mut new = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    let mut old = broker.device("sensor-002").connect(&connect(V311, "a"), V311);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            new.expect_closed_with(0x8B);
            old.expect_closed_with(0x8B);
        });
        broker.stop();
    });
}

#[test]
fn messages_acknowledged_before_the_stop_were_routed() {
    let broker = TestBroker::start(SHARED);
    let mut reader = broker.device("sensor-001").connect(&connect(V5, "r"), V5);
    reader.subscribe("c/a", 1);
    let mut sender = broker.device("sensor-002").connect(&connect(V5, "s"), V5);
    for n in 0..20 {
        sender.publish("c/a", [n], 0);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..20 {
                reader.expect_publish("c/a", [n]);
            }
            reader.expect_closed_with(0x8B);
        });
        broker.stop();
    });
}

#[test]
fn kicked_client_is_told_and_may_come_back() {
    let broker = TestBroker::start(SHARED);
    let mut kicked = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    let mut stays = broker.device("sensor-002").connect(&connect(V5, "a"), V5);
    assert_eq!(broker.broker().kick("sensor-001", None), Ok(1));
    kicked.expect_closed_with(0x98);
    stays.expect_nothing();
    assert!(broker.broker().kick("sensor-003", None).is_err(), "nobody of that name is connected");
    let mut again = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    again.expect_nothing();
}

#[test]
fn port_is_free_again_after_the_stop() {
    let broker = TestBroker::start(SHARED);
    let address = broker.address();
    drop(broker.device("sensor-001").connect(&connect(V5, "a"), V5));
    broker.stop();
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn handshake_that_ends_during_a_stop_leads_to_no_connection() {
    let broker = TestBroker::start(SHARED);
    let half = broker.device("sensor-001").open_half().expect("the broker answers");
    broker.broker().request_stop();
    let mut late = half.finish(V5).expect("the handshake is under way and ends");
    assert!(!late.try_connect(&connect(V5, "a")));
    assert_eq!(broker.broker().status().sessions, 0);
    broker.stop();
}
