//! Leaving by DISCONNECT: nothing that was due is lost, and TLS ends as it should.

use crate::SHARED;
use signet_tests::build::*;
use signet_tests::test_broker::TestBroker;

/// More than leaves in one record.
const MESSAGES: u16 = 200;

#[test]
fn who_leaves_in_the_same_breath_still_gets_every_acknowledgement() {
    let broker = TestBroker::start(SHARED);
    for version in [V311, V5] {
        let mut client = broker.device("sensor-001").connect(&connect(version, "a"), version);
        let mut said: Vec<u8> =
            (1..=MESSAGES).flat_map(|id| publish(version, "c/a", "x").qos1(id).bytes()).collect();
        said.extend(disconnect());
        client.send(said);
        for id in 1..=MESSAGES {
            client.expect_puback(id, if version == V5 { 0x10 } else { 0 });
        }
        client.expect_farewell();
    }
}

#[test]
fn who_has_nothing_due_is_let_go_at_once_and_is_told_that_tls_has_ended() {
    let broker = TestBroker::start(SHARED);
    for version in [V311, V5] {
        let mut client = broker.device("sensor-001").connect(&connect(version, "a"), version);
        client.send(disconnect());
        client.expect_farewell();
        // What it had may be had again: nothing lingers of it.
        let mut again = broker.device("sensor-001").connect(&connect(version, "a"), version);
        again.expect_nothing();
        // Whoever goes on talking afterwards talks to nobody.
        drop(client.try_send(publish(version, "c/a", "late").bytes()));
        again.expect_nothing();
    }
}
