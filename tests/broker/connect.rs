//! From the handshake to the first messages: names, versions, transport.

use crate::{LESSON, SHARED};
use signet_certs_dev::{KeyKind, LeafProfile, Subject, Validity};
use signet_tests::build::*;
use signet_tests::received::Received;
use signet_tests::test_broker::{TestBroker, issue, issue_as};
use time::OffsetDateTime;

#[test]
fn device_is_named_by_its_certificate_and_publishes_under_that_name() {
    let broker = TestBroker::start(LESSON);
    for version in BOTH {
        let mut admin = broker.device("admin").connect(&connect(version, "watch"), version);
        admin.subscribe("devices/#", 1);
        let mut sensor = broker.device("sensor-001").connect(&connect(version, "any-client-id"), version);
        sensor.publish("devices/sensor-001/telemetry/t", "21.5", 0);
        admin.expect_publish("devices/sensor-001/telemetry/t", "21.5");
        let rows = broker.broker().session_rows();
        let row = |name: &str| rows.iter().find(|row| row.name == name && row.connected).expect("a session");
        assert_eq!(
            (row("sensor-001").role.as_str(), row("sensor-001").client_id.as_str()),
            ("device", "any-client-id")
        );
        assert_eq!((row("admin").role.as_str(), row("admin").client_id.as_str()), ("operator", "watch"));
        sensor.expect_nothing();
    }
}

#[test]
fn user_name_of_another_device_gives_no_right_of_it() {
    let broker = TestBroker::start(LESSON);
    let connect = connect(V5, "a").username("sensor-002").password("whatever");
    let mut sensor = broker.device("sensor-001").connect(&connect, V5);
    sensor.publish("devices/sensor-002/telemetry/t", "x", 0x87);
    sensor.publish("devices/sensor-001/telemetry/t", "x", 0);
}

#[test]
fn tls_1_2_and_1_3_are_spoken() {
    static ONLY_12: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
    static ONLY_13: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    let broker = TestBroker::start(SHARED);
    let expected = [rustls::ProtocolVersion::TLSv1_2, rustls::ProtocolVersion::TLSv1_3];
    for (versions, agreed) in [&ONLY_12, &ONLY_13].into_iter().zip(expected) {
        let handshake = broker.device("sensor-001").versions(versions);
        let mut client = handshake.connect(&connect(V311, "a"), V311);
        assert_eq!(client.tls_version(), Some(agreed));
        client.expect_nothing();
    }
}

#[test]
fn alpn_is_accepted_and_not_needed_and_an_address_may_be_the_server_name() {
    let broker = TestBroker::start(SHARED);
    for protocol in ["mqtt", "x-amzn-mqtt-ca"] {
        let client = broker.device("sensor-001").alpn(protocol).connect(&connect(V311, "a"), V311);
        assert_eq!(client.alpn(), Some(protocol.as_bytes()));
    }
    let client = broker.device("sensor-001").connect(&connect(V311, "a"), V311);
    assert_eq!(client.alpn(), None);
    let mut client = broker.device("sensor-001").server_name("127.0.0.1").connect(&connect(V311, "a"), V311);
    client.expect_nothing();
}

#[test]
fn keys_of_every_accepted_kind_connect() {
    let broker = TestBroker::start(SHARED);
    for key in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048] {
        let validity = Validity::days_from(OffsetDateTime::now_utc(), 30);
        let leaf = issue_as(&LeafProfile::device("sensor-009", validity).with_key(key));
        let mut client = broker.anonymous().presenting(&leaf).connect(&connect(V5, "a"), V5);
        client.expect_nothing();
    }
}

#[test]
fn records_do_not_have_to_follow_packets() {
    let broker = TestBroker::start(SHARED);
    for version in BOTH {
        // One byte per record, then everything in one record, CONNECT included.
        let stream = join(&[
            &connect(version, "a").bytes(),
            &subscribe(version, 1, &[sub("c/a", 1)]),
            &publish(version, "c/a", "x").qos1(2).bytes(),
            &pingreq(),
        ]);
        for piece in [1, stream.len()] {
            let mut client = broker.device("sensor-001").open(version).expect("the handshake succeeds");
            for bytes in stream.chunks(piece) {
                client.send(bytes);
            }
            let mut kinds = Vec::new();
            while kinds.len() < 5 {
                kinds.push(match client.receive() {
                    Received::ConnAck { code: 0, .. } => "connack",
                    Received::SubAck { .. } => "suback",
                    Received::PubAck(_) => "puback",
                    Received::Publish(_) => "publish",
                    Received::PingResp => "pingresp",
                    other => panic!("unexpected {other:?}"),
                });
            }
            assert_eq!(kinds[..2], ["connack", "suback"]);
            kinds.sort_unstable();
            assert_eq!(kinds, ["connack", "pingresp", "puback", "publish", "suback"]);
        }
    }
}

#[test]
fn packet_of_the_largest_size_goes_through_and_one_byte_more_is_refused() {
    let broker = TestBroker::start(SHARED);
    let mut reader = broker.device("sensor-002").connect(&connect(V5, "reader"), V5);
    reader.subscribe("c/a", 1);
    let (mut client, _, props) = broker.device("sensor-001").connected(&connect(V5, "a"), V5);
    let largest = props.number(id::MAXIMUM_PACKET_SIZE).expect("the broker says its limit") as usize;
    let overhead = publish(V5, "c/a", "x".repeat(100_000)).qos1(1).bytes().len() - 100_000;
    client.send(publish(V5, "c/a", "x".repeat(largest - overhead)).qos1(1).bytes());
    client.expect_puback(1, 0);
    reader.expect_publish("c/a", "x".repeat(largest - overhead));
    client.send(&packet(0x30, &vec![0; largest])[..16]);
    client.expect_closed_with(0x95);
}

#[test]
fn many_connections_exchange_messages_at_once() {
    let broker = TestBroker::start(SHARED);
    let mut watcher = broker.device("sensor-001").connect(&connect(V5, "watcher"), V5);
    watcher.subscribe("c/count/#", 1);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let broker = &broker;
            scope.spawn(move || {
                let leaf = issue(&format!("worker-{n}"));
                let version = BOTH[n % 2];
                let mut client =
                    broker.anonymous().presenting(&leaf).connect(&connect(version, "w"), version);
                for round in 0..20_u8 {
                    client.publish(&format!("c/count/{n}"), [round], 0);
                }
            });
        }
    });
    let mut next = [0_u8; 8];
    for _ in 0..160 {
        let Received::Publish(got) = watcher.receive() else { panic!("expected a PUBLISH") };
        let worker: usize = got.topic["c/count/".len()..].parse().expect("a worker's number");
        assert_eq!(got.payload, [next[worker]], "in order, none lost, none twice");
        next[worker] += 1;
        watcher.send(puback(got.packet_id));
    }
    watcher.expect_nothing();
}

#[test]
fn certificate_name_that_is_no_name_is_never_replaced_by_another() {
    let broker = TestBroker::start(SHARED);
    let now = OffsetDateTime::now_utc();
    for name in ["#", "+", "a/b", "a b", "", "a%u", "$SYS", "-a", "\u{e9}"] {
        let mut profile = LeafProfile::device("placeholder", Validity::days_from(now, 30));
        profile.subject = Subject::cn(name);
        let leaf = issue_as(&profile);
        let refused = broker.anonymous().presenting(&leaf).expect_refused(V5);
        assert_ne!(refused.kind(), std::io::ErrorKind::TimedOut, "{name:?}: {refused}");
    }
    assert_eq!(broker.broker().status().connections, 0);
}

#[test]
fn who_is_accepted_is_no_half_open_peer_any_more_when_it_hears_so() {
    let broker = TestBroker::start(SHARED);
    for version in BOTH {
        let mut waiting = broker.device("sensor-002").open(version).expect("the handshake is good");
        let _client = broker.device("sensor-001").connect(&connect(version, "a"), version);
        assert_eq!(broker.broker().status().half_open, 1, "the one that has not said CONNECT");
        assert!(waiting.try_connect(&connect(version, "a")));
        assert_eq!(broker.broker().status().half_open, 0);
    }
}
