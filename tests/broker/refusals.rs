//! What never gets as far as CONNACK.

use crate::SHARED;
use signet_certs_dev::{Authority, KeyKind, LeafProfile, Validity};
use signet_tests::build::*;
use signet_tests::test_broker::{Settings, TestBroker, issue_as};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use time::OffsetDateTime;

/// The good neighbour of each refusal: the same broker admits sensor-001.
fn admits_the_good(broker: &TestBroker) {
    let mut good = broker.device("sensor-001").connect(&connect(V5, "good"), V5);
    good.expect_nothing();
}

#[test]
fn client_without_a_certificate_is_refused_before_connack() {
    let broker = TestBroker::start(SHARED);
    for version in BOTH {
        let refused = broker.anonymous().expect_refused(version);
        assert!(refused.to_string().to_lowercase().contains("certificaterequired"), "{refused}");
    }
    assert_eq!(broker.tls_failures(2).by_cause.len(), 1, "for the same cause");
    admits_the_good(&broker);
}

#[test]
fn bad_certificates_are_refused_before_connack_with_an_alert_and_a_record() {
    for role in ["expired", "not-yet-valid", "foreign-ca", "revoked", "wrong-eku", "no-eku"] {
        let broker = TestBroker::start(SHARED);
        let refused = broker.device(role).expect_refused(V5);
        assert!(
            refused.to_string().contains("alert"),
            "{role}: the client sees why, not only a close: {refused}"
        );
        let report = broker.tls_failures(1);
        let record = report.records.first().unwrap_or_else(|| panic!("{role} leaves a record"));
        let name = if role == "no-eku" { "sn0123030405060708EE" } else { role };
        assert!(record.subject.as_ref().is_some_and(|subject| subject.contains(name)), "{role}: {record:?}");
        admits_the_good(&broker);
    }
}

#[test]
fn each_kind_of_bad_certificate_is_counted_under_its_own_cause() {
    let roles = ["expired", "not-yet-valid", "foreign-ca", "revoked", "wrong-eku"];
    let mut seen = std::collections::BTreeSet::new();
    for role in roles {
        let broker = TestBroker::start(SHARED);
        let _ = broker.device(role).expect_refused(V5);
        seen.extend(broker.tls_failures(1).by_cause.into_keys());
    }
    assert_eq!(seen.len(), roles.len(), "{seen:?}");
}

#[test]
fn secure_element_certificate_connects_where_the_listener_allows_it() {
    let broker = TestBroker::start_with(
        SHARED,
        Settings { listener: "require-client-auth-eku = false", ..Settings::default() },
    );
    let mut element = broker.device("no-eku").connect(&connect(V311, "a"), V311);
    element.expect_nothing();
    let _ = broker.device("wrong-eku").expect_refused(V311);
}

#[test]
fn stolen_name_of_a_foreign_authority_is_refused() {
    let broker = TestBroker::start(SHARED);
    let now = OffsetDateTime::now_utc();
    // The same names all the way up, other keys.
    let validity = Validity::days_from(now, 30);
    let root = Authority::root("Signet development root CA", KeyKind::P256, validity).expect("a root");
    let issuing =
        root.intermediate("Signet development issuing CA", KeyKind::P256, validity, 0).expect("an authority");
    let leaf = issuing.issue(&LeafProfile::device("sensor-001", validity)).expect("a certificate");
    let refused = broker.anonymous().presenting(&leaf).expect_refused(V5);
    assert!(refused.to_string().contains("alert"), "{refused}");
    admits_the_good(&broker);
}

#[test]
fn key_of_a_kind_that_is_not_accepted_is_refused() {
    let broker = TestBroker::start(SHARED);
    let validity = Validity::days_from(OffsetDateTime::now_utc(), 30);
    for key in [KeyKind::Ed25519, KeyKind::P521] {
        let leaf = issue_as(&LeafProfile::device("sensor-009", validity).with_key(key));
        let _ = broker.anonymous().presenting(&leaf).expect_refused(V5);
    }
    admits_the_good(&broker);
}

/// Sends bytes without TLS and reads until the broker closes.
fn plaintext(broker: &TestBroker, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(broker.address()).expect("a connection");
    tcp.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    tcp.write_all(bytes).expect("the socket takes bytes");
    let mut answer = Vec::new();
    match tcp.read_to_end(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("the broker did not close: {error}"),
    }
}

#[test]
fn plaintext_on_the_port_is_closed_without_an_mqtt_packet() {
    let broker = TestBroker::start(SHARED);
    for bytes in [connect(V311, "a").bytes(), connect(V5, "a").bytes(), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let answer = plaintext(&broker, &bytes);
        assert!(answer.is_empty() || answer[0] == 0x15, "nothing but a TLS alert: {answer:02x?}");
    }
    admits_the_good(&broker);
}

#[test]
fn tls_older_than_1_2_is_refused() {
    let broker = TestBroker::start(SHARED);
    // A ClientHello of TLS 1.0 without supported_versions: record 3.1, handshake 3.1, one cipher suite.
    let mut hello = vec![0x03, 0x01];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xC0, 0x09, 1, 0]);
    let handshake = join(&[&[1, 0, 0, hello.len() as u8], &hello]);
    let record = join(&[&[0x16, 3, 1, 0, handshake.len() as u8], &handshake]);
    let answer = plaintext(&broker, &record);
    assert_eq!(answer.first(), Some(&0x15), "a TLS alert: {answer:02x?}");
    admits_the_good(&broker);
}

#[test]
fn half_open_handshakes_do_not_keep_others_out() {
    let broker = TestBroker::start(SHARED);
    let stalled: Vec<TcpStream> = (0..50)
        .map(|n| {
            let mut tcp = TcpStream::connect(broker.address()).expect("a connection");
            if n % 2 == 0 {
                tcp.write_all(&[0x16, 3, 1]).expect("the socket takes bytes");
            }
            tcp
        })
        .collect();
    for _ in 0..5 {
        admits_the_good(&broker);
    }
    assert_eq!(stalled.len(), 50, "they were open all the time");
}

#[test]
fn malformed_packet_ends_its_connection_alone() {
    let broker = TestBroker::start(SHARED);
    let mut good = broker.device("sensor-001").connect(&connect(V5, "good"), V5);
    for version in BOTH {
        let mut bad = broker.device("sensor-002").connect(&connect(version, "bad"), version);
        bad.send(publish(version, "c/\u{0}", "x").bytes());
        bad.expect_closed_with(0x81);
        let mut bad = broker.device("sensor-002").open(version).expect("the handshake succeeds");
        bad.send(pingreq());
        bad.expect_closed();
        good.expect_nothing();
    }
}

#[test]
fn certificate_that_expires_ends_its_connection() {
    let broker = TestBroker::start(SHARED);
    let now = OffsetDateTime::now_utc();
    let validity =
        Validity { not_before: now - Duration::from_secs(3600), not_after: now + Duration::from_secs(5) };
    let leaf = issue_as(&LeafProfile::device("sensor-003", validity));
    let handshake = broker.anonymous().presenting(&leaf);
    let mut expiring = handshake.connect(&connect(V5, "a"), V5);
    let mut lasting = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    expiring.expect_nothing();
    expiring.expect_closed_with(0xA0);
    lasting.expect_nothing();
    let _ = handshake.expect_refused(V5);
}
