//! The record of a failed handshake, and the log that keeps it.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustls::{AlertDescription, Error};
use signet_certs_dev::LeafProfile;

use super::support::{BOTH, TLS13, World, days, handshake, root};
use crate::tls::hello::{ClientHello, NotTls, Progress};
use crate::tls::{
    Direction, Ended, FailureCause, FailureContext, FailureLog, FailureLogLimits, FailureRecord, LogAdvice,
    Refusal, VerifyFailure,
};

const MORE: Progress = Progress::More;

fn peer(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 50_000))
}

fn context<'a>(hello: &'a Progress, refusal: Option<&'a Refusal>) -> FailureContext<'a> {
    FailureContext {
        at_ms: 1_780_000_000_000,
        peer: peer(1),
        listener: "0.0.0.0:8883",
        hello,
        received: true,
        flight_sent: true,
        fragment_bytes_max: 16_384,
        version: None,
        refusal,
    }
}

fn of_error(error: &Error) -> FailureRecord {
    FailureRecord::new(&context(&MORE, None), Ended::Tls(error))
}

fn hello() -> Progress {
    let sni = Some("broker.example.net".to_owned());
    Progress::Complete(Box::new(ClientHello { sni, versions: vec![0x0304], ..ClientHello::default() }))
}

#[test]
fn an_unknown_device_certificate_leaves_all_that_is_known() {
    let world = World::new();
    let leaf = root("Foreign").issue(&LeafProfile::device("sensor-009", days(90))).unwrap();
    let outcome = handshake(&world.listener(), &world.client(TLS13, &leaf));
    let error = io::Error::new(io::ErrorKind::InvalidData, outcome.server.clone().unwrap_err());
    let hello = Progress::Complete(outcome.hello.clone().unwrap());
    let record = FailureRecord::new(&context(&hello, outcome.refusal.as_ref()), Ended::Io(&error));
    assert_eq!(record.cause, FailureCause::UnknownDeviceCertificate);
    assert!(record.reason.contains("CN=Foreign"), "{}", record.reason);
    assert!(record.hint.contains("client-ca"), "{}", record.hint);
    let alert = record.alert.as_ref().unwrap();
    assert_eq!((alert.direction, alert.code, alert.name), (Direction::Sent, 48, "unknown_ca"));
    let shown = record.certificate.as_ref().unwrap();
    assert_eq!((shown.subject.as_str(), shown.issuer.as_str()), ("CN=sensor-009", "CN=Foreign"));
    let hex: String = leaf.serial().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(shown.serial, hex);
    let validity = (days(90).not_before.unix_timestamp(), days(90).not_after.unix_timestamp());
    assert_eq!(shown.validity, Some(validity));
    assert_eq!((record.sni.as_deref(), record.version), (Some("localhost"), Some("TLS 1.3")));
    let line = record.to_string();
    for part in
        ["peer=192.0.2.1:50000", "cause=unknown_device_certificate", "alert=sent:unknown_ca(48)", &hex]
    {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["cause"], "unknown_device_certificate");
    assert_eq!(json["certificate"]["serial"], hex);
}

#[test]
fn the_alert_in_the_record_is_the_one_that_the_client_read() {
    let world = World::new();
    let leaves = [
        root("Foreign").issue(&LeafProfile::device("d", days(90))).unwrap(),
        world.issuing.issue(&LeafProfile::device("d", days(90)).with_purposes(&[])).unwrap(),
        world
            .issuing
            .issue(&LeafProfile::device("d", signet_certs_dev::Validity::past(super::support::NOW)))
            .unwrap(),
    ];
    for version in BOTH {
        for leaf in &leaves {
            let outcome = handshake(&world.listener(), &world.client(version, leaf));
            let error = outcome.server.clone().unwrap_err();
            let record = FailureRecord::new(&context(&MORE, outcome.refusal.as_ref()), Ended::Tls(&error));
            assert_eq!(Some(record.alert.unwrap().code), outcome.alert().map(u8::from));
        }
        let outcome = handshake(&world.listener(), &world.client_with(version, None).into());
        let record = of_error(&outcome.server.clone().unwrap_err());
        assert_eq!(record.cause, FailureCause::NoCertificate);
        assert_eq!(Some(record.alert.unwrap().code), outcome.alert().map(u8::from));
    }
}

#[test]
fn a_wrong_clock_and_a_wrong_root_are_told_by_the_devices_alert() {
    let cause = |alert| {
        let record = of_error(&Error::AlertReceived(alert));
        let shown = record.alert.unwrap();
        assert_eq!((shown.direction, shown.code), (Direction::Received, u8::from(alert)));
        (record.cause, record.hint)
    };
    let (clock, hint) = cause(AlertDescription::CertificateExpired);
    assert!(clock == FailureCause::DeviceClock && hint.contains("clock"), "{hint}");
    assert_eq!(cause(AlertDescription::CertificateUnknown).0, FailureCause::DeviceClock);
    let (wrong_root, hint) = cause(AlertDescription::UnknownCA);
    assert!(wrong_root == FailureCause::WrongRoot && hint.contains("root"), "{hint}");
    assert_eq!(cause(AlertDescription::BadCertificate).0, FailureCause::DeviceRefusedUs);
    assert_eq!(cause(AlertDescription::RecordOverflow).0, FailureCause::RecordTooLarge);
    assert_eq!(cause(AlertDescription::HandshakeFailure).0, FailureCause::NothingInCommon);
}

#[test]
fn a_real_client_with_another_root_is_recorded_as_such() {
    let (world, elsewhere) = (World::new(), World::under("Another root"));
    for version in BOTH {
        let client = elsewhere.client(version, &elsewhere.device("d"));
        let outcome = handshake(&world.listener(), &client);
        let record = of_error(&outcome.server.clone().unwrap_err());
        assert_eq!(record.cause, FailureCause::WrongRoot, "{record}");
        assert_eq!(record.alert.unwrap().direction, Direction::Received);
    }
}

#[test]
fn a_refusal_reaches_its_own_observer_across_awaits() {
    let world = World::new();
    let listener = world.listener();
    let foreign = root("Foreign").issue(&LeafProfile::device("foreign", days(90))).unwrap();
    let expired = signet_certs_dev::Validity::past(super::support::NOW);
    let expired = world.issuing.issue(&LeafProfile::device("expired", expired)).unwrap();
    let observe = |leaf: signet_certs_dev::Leaf| {
        let client = world.client(TLS13, &leaf);
        let listener = &listener;
        crate::tls::observed(async move {
            tokio::task::yield_now().await;
            let outcome = super::support::shake_hands(listener, &client);
            tokio::task::yield_now().await;
            outcome.server.is_ok()
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (good, foreign, expired) = runtime
        .block_on(async { tokio::join!(observe(world.device("good")), observe(foreign), observe(expired)) });
    let label = |refusal: Option<Refusal>| refusal.map(|refusal| refusal.failure.metric_label());
    assert_eq!((good.0, label(good.1)), (true, None));
    assert_eq!((foreign.0, label(foreign.1)), (false, Some("unknown_issuer")));
    assert_eq!((expired.0, label(expired.1)), (false, Some("expired")));
}

#[test]
fn a_timeout_says_how_far_it_came() {
    let ended = Ended::TimedOut { after: Duration::from_secs(10) };
    let reason = |received, flight_sent| {
        let context = FailureContext { received, flight_sent, ..context(&MORE, None) };
        let record = FailureRecord::new(&context, ended);
        assert_eq!(record.cause, FailureCause::TimedOut);
        record.reason
    };
    assert!(reason(false, false).contains("sent nothing"));
    assert!(reason(true, false).contains("hello was not complete"));
    assert!(reason(true, true).contains("our certificate was sent"));
}

#[test]
fn closing_without_an_alert_is_told_apart_by_when_and_by_what_the_client_asked_for() {
    let error = io::Error::from(io::ErrorKind::UnexpectedEof);
    let small = ClientHello { max_fragment_length: Some(1024), ..ClientHello::default() };
    let (small, usual) = (Progress::Complete(Box::new(small)), hello());
    let record = |hello, received, flight_sent, fragment_bytes_max| {
        let context = FailureContext { received, flight_sent, fragment_bytes_max, ..context(hello, None) };
        FailureRecord::new(&context, Ended::Io(&error))
    };
    let cause = |hello, received, flight_sent, largest| record(hello, received, flight_sent, largest).cause;
    assert_eq!(cause(&MORE, false, false, 16_384), FailureCause::Silent);
    assert_eq!(cause(&MORE, true, false, 16_384), FailureCause::PeerClosed);
    assert_eq!(cause(&small, true, true, 1024), FailureCause::RecordTooLarge);
    assert_eq!(cause(&small, true, true, 512), FailureCause::Vanished, "smaller than that nobody asks for");
    // A client that takes any record, and one that was killed, say the same: nothing.
    let vanished = record(&usual, true, true, 16_384);
    assert_eq!(vanished.cause, FailureCause::Vanished);
    for possible in ["root", "clock", "name", "max-fragment-size", "memory", "power"] {
        assert!(vanished.hint.contains(possible), "{possible}: {}", vanished.hint);
    }
}

#[test]
fn oversized_records_and_strangers_are_named() {
    let record = of_error(&Error::PeerSentOversizedRecord);
    assert_eq!(record.cause, FailureCause::RecordTooLarge);
    assert!(record.hint.contains("max-fragment-size"));
    let stranger = |kind| {
        let error = io::Error::from(io::ErrorKind::InvalidData);
        FailureRecord::new(&context(&Progress::NotTls(kind), None), Ended::Io(&error)).cause
    };
    assert_eq!(stranger(NotTls::Mqtt), FailureCause::PlainMqtt);
    assert_eq!(stranger(NotTls::Http), FailureCause::PlainHttp);
    assert_eq!(stranger(NotTls::Other), FailureCause::NotTls);
}

#[test]
fn a_judgement_after_the_handshake_sends_no_alert() {
    let leaf = World::new().device("d");
    let failure = VerifyFailure::AnchorRemoved;
    let ended = Ended::Judged { failure: &failure, leaf: leaf.certificate() };
    let record = FailureRecord::new(&context(&hello(), None), ended);
    assert_eq!((record.cause, record.alert), (FailureCause::UnknownDeviceCertificate, None));
    assert_eq!(record.certificate.unwrap().subject, "CN=d");
    assert!(record.reason.starts_with("after the handshake"));
}

#[test]
fn no_reason_breaks_the_line_or_its_quotes() {
    let error = io::Error::other("one\ntwo\r\u{1b}[31m \"three\" \\ \u{202e}");
    let record = FailureRecord::new(&context(&hello(), None), Ended::Io(&error));
    let line = record.to_string();
    assert!(line.is_ascii() && !line.contains(|c: char| c.is_control()), "{line}");
    assert_eq!(line.matches('"').count() % 2, 0, "{line}");
    assert!(record.reason.contains("'three'"));
}

#[test]
fn every_cause_has_its_own_label_and_place_and_a_hint() {
    let labels: std::collections::HashSet<_> =
        FailureCause::ALL.iter().map(|cause| cause.metric_label()).collect();
    assert_eq!(labels.len(), FailureCause::ALL.len());
    for (at, cause) in FailureCause::ALL.iter().enumerate() {
        assert_eq!(cause.index(), at);
        assert!(cause.hint().len() > 20);
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.metric_label());
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> FailureLogLimits {
    FailureLogLimits { records_max: 10, groups_max: 3, addresses_max: 4, burst: 2, refill: 10 * SECOND }
}

fn record_from(log: &FailureLog, address: IpAddr, at: Duration) -> LogAdvice {
    let mut record = of_error(&Error::NoCertificatesPresented);
    record.peer = SocketAddr::new(address, 1);
    log.record(record, at).1
}

fn v4(last: u8) -> IpAddr {
    peer(last).ip()
}

fn total(log: &FailureLog) -> u64 {
    log.since(0).total()
}

#[test]
fn one_address_is_limited_and_counted_and_another_is_not_touched() {
    let log = FailureLog::new(limits());
    let advice: Vec<_> = (0..4).map(|_| record_from(&log, v4(1), SECOND)).collect();
    let logged = LogAdvice::Log { suppressed: 0 };
    assert_eq!(advice, [logged, logged, LogAdvice::Suppress, LogAdvice::Suppress]);
    assert_eq!(record_from(&log, v4(2), SECOND), logged);
    assert_eq!((log.recent().len(), total(&log)), (3, 5));
    // After a while one more, which says how many were left out.
    assert_eq!(record_from(&log, v4(1), 12 * SECOND), LogAdvice::Log { suppressed: 2 });
    assert_eq!(record_from(&log, v4(1), 12 * SECOND), LogAdvice::Suppress);
}

#[test]
fn the_records_are_bounded_and_the_newest_stay() {
    let log = FailureLog::new(FailureLogLimits { addresses_max: 100, ..limits() });
    for last in 0..50 {
        record_from(&log, v4(last), SECOND);
    }
    let kept: Vec<_> = log.recent().iter().map(|record| record.peer.ip()).collect();
    assert_eq!(kept, (40..50).map(v4).collect::<Vec<_>>());
    assert_eq!(log.since(0).counts().find(|(cause, _)| *cause == FailureCause::NoCertificate).unwrap().1, 50);
}

#[test]
fn addresses_beyond_the_table_share_one_allowance() {
    let log = FailureLog::new(limits());
    for last in 0..4 {
        record_from(&log, v4(last), SECOND);
    }
    let advice: Vec<_> = (10..14).map(|last| record_from(&log, v4(last), SECOND)).collect();
    let logged = LogAdvice::Log { suppressed: 0 };
    assert_eq!(advice, [logged, logged, LogAdvice::Suppress, LogAdvice::Suppress]);
    // Once the others have been quiet, there is room again.
    assert_eq!(record_from(&log, v4(20), 60 * SECOND), logged);
    assert_eq!(record_from(&log, v4(21), 60 * SECOND), logged);
    assert_eq!(record_from(&log, v4(22), 60 * SECOND), logged);
}

#[test]
fn an_ipv6_network_is_one_address_and_a_mapped_address_is_its_ipv4() {
    let log = FailureLog::new(limits());
    let v6 = |last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last));
    let advice: Vec<_> = (0..3).map(|last| record_from(&log, v6(last), SECOND)).collect();
    assert_eq!(advice[2], LogAdvice::Suppress);
    let mapped = |last| IpAddr::V6(std::net::Ipv4Addr::new(192, 0, 2, last).to_ipv6_mapped());
    for last in 1..=2 {
        assert_eq!(record_from(&log, mapped(last), SECOND), LogAdvice::Log { suppressed: 0 });
    }
}

#[test]
fn records_are_numbered_without_a_gap_and_what_was_not_kept_is_counted() {
    let log = FailureLog::new(FailureLogLimits { records_max: 2, ..limits() });
    for last in [1, 1, 1, 1, 2] {
        record_from(&log, v4(last), SECOND);
    }
    assert_eq!((log.newest(), log.since(0).not_kept), (3, 2));
    let numbers = |after| {
        let since = log.since(after);
        (since.records.iter().map(|kept| kept.number).collect::<Vec<_>>(), since.missed)
    };
    assert_eq!(numbers(0), (vec![2, 3], 1));
    assert_eq!(numbers(2), (vec![3], 0));
    assert_eq!(numbers(3), (Vec::new(), 0));
    record_from(&log, v4(1), 12 * SECOND);
    let found = log.since(3).records;
    assert_eq!((found[0].number, found[0].not_kept_before), (4, 2));
}

#[test]
fn who_looks_while_failures_come_in_sees_each_counted_one_in_the_records_and_groups() {
    const FAILURES: u64 = 2_000;
    let log = FailureLog::new(FailureLogLimits {
        records_max: FAILURES as usize,
        burst: FAILURES as u32,
        groups_max: 10,
        ..limits()
    });
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            for _ in 0..FAILURES {
                record_from(&log, v4(1), SECOND);
            }
        });
        while !writer.is_finished() {
            let (all, groups, _) = log.all();
            assert_eq!(all.total(), all.records.len() as u64 + all.not_kept);
            assert_eq!(all.total(), groups.iter().map(|group| group.count).sum::<u64>());
        }
    });
    assert_eq!(log.since(0).total(), FAILURES);
}

#[test]
fn failures_are_grouped_by_cause_and_device_also_those_without_a_record() {
    let log = FailureLog::new(limits());
    for last in [1, 1, 1, 1, 2] {
        record_from(&log, v4(last), SECOND);
    }
    let mut other = of_error(&Error::PeerSentOversizedRecord);
    other.peer = SocketAddr::new(v4(1), 1);
    log.record(other, SECOND);
    let (_, groups, forgotten) = log.all();
    let shown: Vec<_> = groups.iter().map(|group| (group.cause, group.count, group.kept)).collect();
    assert_eq!(shown[0], (FailureCause::NoCertificate, 4, 2));
    assert!(shown.contains(&(FailureCause::NoCertificate, 1, 1)), "{shown:?}");
    assert!(shown.contains(&(FailureCause::RecordTooLarge, 1, 0)), "{shown:?}");
    assert_eq!(forgotten, 0);
    // A fourth group takes the place of one of the three.
    record_from(&log, v4(3), SECOND);
    let (_, groups, forgotten) = log.all();
    assert_eq!((groups.len(), forgotten), (3, 1));
}

#[test]
fn who_waits_for_a_record_is_woken_by_the_next_one_and_not_by_an_older() {
    let log = FailureLog::new(limits());
    record_from(&log, v4(1), SECOND);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        log.newer_than(0).await;
        let mut waiting = std::pin::pin!(log.newer_than(1));
        let woken = std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::future::Future::poll(waiting.as_mut(), context).is_ready())
        });
        assert!(!woken.await);
        record_from(&log, v4(1), SECOND);
        waiting.await;
    });
}
