//! Devices that are refused, and come again and again.

use crate::{FLEET, NOT_AUTHORIZED, TICKETS};
use signet::clock::Jump;
use signet_certs_dev::Leaf;
use signet_identity::ThingName;
use signet_registry::{CaSettings, Command, UnknownPolicy, Wall};
use signet_tests::build::*;
use signet_tests::received::Received;
use signet_tests::registered::registered;
use signet_tests::test_broker::{Settings, TestBroker, issue, issue_as};
use std::time::{Duration, Instant};

/// Refused with a CONNACK that says why: the usual way.
#[track_caller]
fn refused_in_full(broker: &TestBroker, leaf: &Leaf) {
    let mut client = broker.anonymous().presenting(leaf).open(V5).expect("the handshake itself is good");
    client.send(connect(V5, "a").bytes());
    let answer = client.receive();
    assert!(matches!(answer, Received::ConnAck { code: NOT_AUTHORIZED, .. }), "{answer:?}");
}

/// Refused by TLS; how long the answer took.
#[track_caller]
fn refused_at_once(broker: &TestBroker, leaf: &Leaf) -> Duration {
    let began = Instant::now();
    let error = broker.anonymous().presenting(leaf).expect_refused(V5);
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    began.elapsed()
}

#[test]
fn after_some_refusals_the_answer_comes_earlier_in_the_handshake_and_later_in_time() {
    let broker = registered(FLEET, "", "[standing]\nrefused-pause-max = \"2s\"\n");
    let (bad, good) = (issue("sensor-bad"), issue("sensor-1"));
    broker.enrol(&bad, "sensor-bad");
    broker.enrol(&good, "sensor-1");
    broker.revoke(&bad);
    for _ in 0..5 {
        refused_in_full(&broker, &bad);
    }
    assert!(refused_at_once(&broker, &bad) >= Duration::from_secs(1));
    assert!(refused_at_once(&broker, &bad) >= Duration::from_secs(2));
    // Meanwhile whoever is good gets in from the same address as ever.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| refused_at_once(&broker, &bad));
        for _ in 0..20 {
            let mut client = broker.anonymous().presenting(&good).connect(&connect(V5, "a"), V5);
            client.publish("devices/sensor-1/status", "x", 0);
        }
        assert!(waits.join().expect("it is refused") >= Duration::from_secs(2));
    });
    assert_eq!(broker.labelled("signet_tls_failures_total", "{cause=\"refused_before\"}"), 3.0);
    assert_eq!(broker.labelled("signet_registry_refused_total", "{standing=\"revoked\"}"), 5.0);
}

#[test]
fn many_tries_at_once_are_not_all_kept_waiting() {
    let broker = registered(FLEET, "", "[standing]\nrefused-pause-max = \"2s\"\n");
    let unknown = issue("sensor-1");
    for _ in 0..5 {
        refused_in_full(&broker, &unknown);
    }
    std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| refused_at_once(&broker, &unknown))).collect();
        let took: Vec<_> = tries.into_iter().map(|one| one.join().expect("it is refused")).collect();
        let waited = took.iter().filter(|took| **took >= Duration::from_secs(1)).count();
        assert!((1..8).contains(&waited), "{took:?}");
    });
}

#[test]
fn a_device_that_is_activated_gets_in_at_once() {
    let broker = registered(FLEET, TICKETS, "");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    broker.suspend(&device);
    for _ in 0..5 {
        refused_in_full(&broker, &device);
    }
    refused_at_once(&broker, &device);
    broker.activate(&device);
    let mut client = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    client.publish("devices/sensor-1/status", "x", 0);
}

#[test]
fn nobody_is_barred_after_the_clock_was_set_for_what_was_before() {
    let broker = registered(FLEET, "", "[standing]\nrefused-pause-max = \"1s\"\n");
    let device = issue("sensor-1");
    for _ in 0..5 {
        refused_in_full(&broker, &device);
    }
    refused_at_once(&broker, &device);
    broker.broker().clock_was_set(Jump { by: Duration::from_secs(3600), forward: false });
    refused_in_full(&broker, &device);
}

#[test]
fn a_resumed_session_does_not_come_past_it() {
    let broker = registered(FLEET, TICKETS, "[standing]\nrefused-pause-max = \"1s\"\n");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    let known = broker.anonymous().presenting(&device).with_memory();
    known.connect(&connect(V5, "a"), V5).expect_nothing();
    broker.revoke(&device);
    for _ in 0..5 {
        refused_in_full(&broker, &device);
    }
    let mut resumed = known.open(V5).expect("the handshake itself is good");
    assert!(resumed.is_resumed());
    resumed.send(connect(V5, "a").bytes());
    resumed.expect_closed();
    assert_eq!(broker.tls_failures(1).by_cause.get("refused_before"), Some(&1));
}

#[test]
fn who_shows_the_certificate_of_another_does_not_make_it_wait() {
    let broker = registered(FLEET, "", "");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    for _ in 0..20 {
        let _ = broker.anonymous().pretending(&device, issue("thief").key()).expect_refused(V5);
    }
    let mut client = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    client.publish("devices/sensor-1/status", "x", 0);
}

#[test]
fn one_good_device_behind_the_address_of_many_bad_ones_gets_in() {
    let broker = registered(FLEET, "", "[standing]\nrefused-pause-max = \"1s\"\n");
    let good = issue("sensor-1");
    broker.enrol(&good, "sensor-1");
    let foreign = issue_as(&signet_certs_dev::LeafProfile::device(
        "sensor-2",
        signet_certs_dev::Validity::past(time::OffsetDateTime::now_utc()),
    ));
    // Refused by TLS, and from some time on mostly at the door.
    let turned_away =
        |broker: &TestBroker| broker.labelled("signet_not_admitted_total", "{reason=\"address_refused\"}");
    let mut tries = 0;
    while turned_away(&broker) < 20.0 {
        let leaf = if tries < 5 { foreign.clone() } else { issue("unknown") };
        let _ = broker.anonymous().presenting(&leaf).open(V5).map(|mut client| {
            client.send(connect(V5, "a").bytes());
            client.receive_or_end()
        });
        tries += 1;
        assert!(tries < 500, "the address is never slowed");
    }
    let got_in = (0..500).find_map(|_| {
        let mut client = broker.anonymous().presenting(&good).open(V5).ok()?;
        client.try_connect(&connect(V5, "a")).then_some(client)
    });
    let mut client = got_in.expect("one in sixteen may begin");
    client.publish("devices/sensor-1/status", "x", 0);
    // The door is open for the others too, now that somebody good has come.
    let before = turned_away(&broker);
    for _ in 0..20 {
        refused_in_full(&broker, &issue("unknown"));
    }
    assert_eq!(turned_away(&broker), before);
}

#[test]
fn an_expired_certificate_is_told_so_each_time_since_the_clock_may_be_wrong_and_nobody_has_proven_it() {
    let broker = registered(FLEET, "", "[standing]\nrefused-pause-max = \"1s\"\n");
    let ended = issue_as(&signet_certs_dev::LeafProfile::device(
        "sensor-1",
        signet_certs_dev::Validity::past(time::OffsetDateTime::now_utc()),
    ));
    for _ in 0..8 {
        let _ = broker.anonymous().presenting(&ended).expect_refused(V5);
    }
    let seen = broker.tls_failures(8).by_cause;
    assert_eq!((seen.get("certificate_expired"), seen.get("refused_before")), (Some(&8), None));
}

/// The names that the authority may give to unknown certificates, which it registers by itself.
fn let_in(broker: &TestBroker, names: &str) {
    let ca = broker.registry().registry().cas().next().expect("the fixture has registered one").id;
    let settings = CaSettings {
        registers: true,
        unknown: UnknownPolicy::Auto,
        ..CaSettings::registered_only(vec![names.parse().expect("a pattern")])
    };
    broker.must(Command::UpdateCa { ca, settings });
}

#[test]
fn who_is_never_let_in_by_policy_is_barred_until_the_authority_may_give_its_name() {
    let broker = registered(FLEET, "", "[standing]\nrefused-pause-max = \"1s\"\n");
    let_in(&broker, "lamp*");
    let device = issue("sensor-1");
    for _ in 0..5 {
        refused_in_full(&broker, &device);
    }
    refused_at_once(&broker, &device);
    let_in(&broker, "sensor*");
    let mut client = broker.anonymous().presenting(&device).connect(&connect(V5, "a"), V5);
    client.publish("devices/sensor-1/status", "x", 0);
}

#[test]
fn who_is_not_let_in_by_policy_is_looked_at_again_when_an_operator_approves() {
    let broker = registered(FLEET, "", "[standing]\nrefused-pause-max = \"1s\"\n");
    let_in(&broker, "*");
    let (old, next) = (issue("sensor-1"), issue("sensor-1"));
    broker.enrol(&old, "sensor-1");
    // A thing with a suspended certificate takes no other one.
    broker.suspend(&old);
    for _ in 0..5 {
        refused_in_full(&broker, &next);
    }
    refused_at_once(&broker, &next);
    let (thing, until) = (ThingName::try_from("sensor-1").expect("a name"), Some(Wall(u64::MAX / 2)));
    broker.must(Command::ApproveThing { thing, until });
    let mut client = broker.anonymous().presenting(&next).connect(&connect(V5, "a"), V5);
    client.publish("devices/sensor-1/status", "x", 0);
}

#[test]
fn strangers_that_are_refused_use_up_nothing_of_the_one_whose_name_they_show() {
    let broker = registered(FLEET, "", "");
    let limits = "connects-per-principal-per-second = 1";
    let tables = "[registry]\nmode = \"on\"\n";
    broker.reload_settings(Settings { limits, tables, ..Settings::default() }).expect("good settings");
    let device = issue("sensor-1");
    broker.enrol(&device, "sensor-1");
    for _ in 0..10 {
        refused_in_full(&broker, &issue("sensor-1"));
    }
    let good = || broker.anonymous().presenting(&device).open(V5).expect("the handshake itself is good");
    assert!(good().try_connect(&connect(V5, "a")));
    // What it does itself counts.
    assert!((0..50).any(|_| !good().try_connect(&connect(V5, "a"))));
}

#[test]
fn another_list_pardons_whom_a_list_refused_and_nobody_whom_the_registry_refuses() {
    let broker = registered(FLEET, "", "[standing]\nrefused-pause-max = \"1s\"\n");
    let (unknown, listed) = (issue("sensor-1"), issue("sensor-2"));
    broker.enrol(&listed, "sensor-2");
    for _ in 0..5 {
        refused_in_full(&broker, &unknown);
    }
    refused_at_once(&broker, &unknown);
    let list = |serials: &[&signet_certs_dev::Serial]| {
        broker.reload_file("issuing.crl", &TestBroker::crl_with(serials)).expect("the list is good");
    };
    list(&[listed.serial()]);
    for _ in 0..6 {
        let _ = broker.anonymous().presenting(&listed).expect_refused(V5);
    }
    let seen = broker.tls_failures(7).by_cause;
    assert_eq!(seen.get("refused_before"), Some(&2), "one of each: {seen:?}");
    list(&[]);
    refused_at_once(&broker, &unknown);
    let mut back = broker.anonymous().presenting(&listed).connect(&connect(V5, "a"), V5);
    back.publish("devices/sensor-2/status", "x", 0);
}
