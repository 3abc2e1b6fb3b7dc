//! Certificates that are revoked while their bearer is on the way in, and TLS sessions that would go on.

use crate::{FLEET, NOT_AUTHORIZED, TICKETS};
use signet_tests::build::*;
use signet_tests::received::Received;
use signet_tests::registered::registered;
use signet_tests::test_broker::issue;

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
    const MESSAGE_BYTES: usize = 8 * 1024;
    /// The end of the message that is under way, what is around it, and DISCONNECT.
    const STILL_SENT_MAX: u64 = MESSAGE_BYTES as u64 + 512;
    /// So many messages in a row find no room while nothing leaves.
    const AT_REST: u64 = 200;
    let broker = registered(FLEET, "", "");
    let (device, admin) = (issue("sensor-1"), issue("admin"));
    broker.enrol(&device, "sensor-1");
    broker.enrol(&admin, "admin");
    let mut slow = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    slow.subscribe("devices/sensor-1/commands/#", 0);
    let mut commander = broker.anonymous().presenting(&admin).connect(&connect(V5, "a"), V5);
    let counts = || broker.broker().hub().counters().snapshot();
    let message = "x".repeat(MESSAGE_BYTES);
    let mut full = 0;
    while full < AT_REST {
        let before = counts().dropped_queue_full;
        commander.publish("devices/sensor-1/commands/x", &message, 0);
        full = if counts().dropped_queue_full > before { full + 1 } else { 0 };
    }
    broker.revoke(&device);
    let before = counts().bytes_sent;
    while slow.receive_or_end().is_some() {}
    while broker.broker().directory.len() > 1 {
        std::thread::yield_now();
    }
    let sent = counts().bytes_sent - before;
    assert!(sent <= STILL_SENT_MAX, "{sent} bytes were sent after the return");
}
