//! Certificates that are revoked while their bearer is on the way in, and TLS sessions that would go on.

use crate::{FLEET, NOT_AUTHORIZED, TICKETS};
use signet_certs_dev::Leaf;
use signet_tests::build::*;
use signet_tests::raw_client::RawClient;
use signet_tests::received::Received;
use signet_tests::registered::registered;
use signet_tests::test_broker::{TestBroker, issue};

#[test]
fn a_ticket_of_a_revoked_certificate_is_refused() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let broker = registered(FLEET, TICKETS, "");
        let device = issue("sensor-1");
        broker.enrol(&device, "sensor-1");
        let versions: &'static [_] = Box::leak(Box::new([version]));
        let known = broker.anonymous().presenting(&device).versions(versions).with_memory();
        let mut first = known.connect(&connect(V5, "a"), V5);
        first.expect_nothing();
        let mut second = known.connect(&connect(V5, "a"), V5);
        assert!(second.is_resumed(), "{version:?}: the session goes on while the certificate is good");
        second.expect_nothing();
        broker.revoke(&device);
        let mut third = known.open(V5).expect("the handshake itself is good");
        assert!(third.is_resumed(), "{version:?}");
        third.send(connect(V5, "a").bytes());
        let answer = third.receive();
        assert!(matches!(answer, Received::ConnAck { code: NOT_AUTHORIZED, .. }), "{version:?}: {answer:?}");
        third.expect_closed();
    }
}

#[test]
fn a_certificate_revoked_between_handshake_and_connect_is_refused() {
    let broker = registered(FLEET, "", "");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    let mut coming = broker.anonymous().presenting(&device).open(V5).expect("the handshake is good");
    // Once the broker shows the connection, its certificate has been judged good.
    while broker.broker().directory.is_empty() {
        std::thread::yield_now();
    }
    broker.revoke(&device);
    coming.expect_closed();
    assert_eq!(broker.broker().status().sessions, 0);
}

#[test]
fn a_certificate_revoked_during_its_handshake_is_refused() {
    let broker = registered(FLEET, "", "");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    let handshake = broker.anonymous().presenting(&device);
    // The broker has sent its part, and waits for the certificate.
    let half = handshake.open_half().expect("the broker answers");
    broker.revoke(&device);
    let mut client = half.finish(V5).expect("the handshake itself is good");
    client.send(connect(V5, "a").persistent().bytes());
    let answer = client.receive();
    assert!(matches!(answer, Received::ConnAck { code: NOT_AUTHORIZED, .. }), "{answer:?}");
    client.expect_closed();
    assert_eq!(broker.broker().status().sessions, 0);
}

#[test]
fn what_was_encoded_for_a_slow_reader_is_withheld_from_the_revocation_on() {
    /// The end of the message that is under way, what is around it, and DISCONNECT.
    const STILL_SENT_MAX: u64 = MESSAGE_BYTES as u64 + 512;
    let (broker, device, mut slow) = with_a_slow_reader();
    broker.revoke(&device);
    let sent = sent_from_now_on(&broker, &mut slow);
    assert!(sent <= STILL_SENT_MAX, "{sent} bytes were sent after the return");
}

#[test]
fn what_is_still_to_be_written_when_a_connection_was_ended_is_withheld_from_the_revocation_on() {
    type Taken = fn(&TestBroker, &Leaf);
    let taken: [Taken; 2] = [TestBroker::revoke, TestBroker::suspend];
    for take in taken {
        let (broker, device, mut slow) = with_a_slow_reader();
        // Its farewell begins, for a second in which it may read what is on its way. Where the machine is so slow that this is over
        // before the right is gone, nothing is sent either.
        broker.broker().kick("sensor-1", None).expect("it is connected");
        let closed = || broker.labelled("signet_connections_closed_total", "{reason=\"administrative\"}");
        while closed() < 1.0 {
            std::thread::yield_now();
        }
        take(&broker, &device);
        assert_eq!(sent_from_now_on(&broker, &mut slow), 0);
    }
}

/// The size of what is sent to a slow reader.
const MESSAGE_BYTES: usize = 8 * 1024;

/// A broker with a device that reads nothing, and to which nothing more leaves.
fn with_a_slow_reader() -> (TestBroker, Leaf, RawClient) {
    /// So many messages in a row find no room while nothing leaves.
    const AT_REST: u64 = 200;
    let broker = registered(FLEET, "", "");
    let (device, admin) = (issue("sensor-1"), issue("admin"));
    broker.enrol(&device, "sensor-1");
    broker.enrol(&admin, "admin");
    let mut slow = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    slow.subscribe("devices/sensor-1/commands/#", 0);
    let mut commander = broker.anonymous().presenting(&admin).connect(&connect(V5, "a"), V5);
    let dropped = || broker.broker().hub().counters().snapshot().dropped_queue_full;
    let message = "x".repeat(MESSAGE_BYTES);
    let mut full = 0;
    while full < AT_REST {
        let before = dropped();
        commander.publish("devices/sensor-1/commands/x", &message, 0);
        full = if dropped() > before { full + 1 } else { 0 };
    }
    commander.send(disconnect());
    commander.expect_closed();
    while broker.broker().directory.len() > 1 {
        std::thread::yield_now();
    }
    (broker, device, slow)
}

/// The bytes that the last connection of a broker is sent from now on until it ends, while its peer reads all there is.
fn sent_from_now_on(broker: &TestBroker, reader: &mut RawClient) -> u64 {
    let sent = || broker.broker().hub().counters().snapshot().bytes_sent;
    let before = sent();
    while reader.receive_or_end().is_some() {}
    while !broker.broker().directory.is_empty() {
        std::thread::yield_now();
    }
    sent() - before
}
