//! Reload: the next state is built whole, and replaces the old one or changes nothing.

use crate::{LESSON, SHARED};
use signet_certs_dev::{LeafProfile, Validity};
use signet_tests::build::*;
use signet_tests::test_broker::{Settings, TestBroker, certificate, issue, issue_as};
use time::OffsetDateTime;

#[test]
fn new_policy_counts_for_live_connections_at_once() {
    let broker = TestBroker::start(SHARED);
    let mut client = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    client.publish("c/a", "x", 0);
    broker.reload_policy("role device\ntopic readwrite d/#\n").expect("the policy is good");
    client.publish("c/a", "x", 0x87);
    client.publish("d/a", "x", 0);
    broker.reload_policy(SHARED).expect("the policy is good");
    client.publish("c/a", "x", 0);
    client.publish("d/a", "x", 0x87);
}

#[test]
fn broken_policy_is_refused_with_file_and_line_and_the_old_one_stays() {
    let broker = TestBroker::start(LESSON);
    let mut client = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    for broken in
        ["topic readwrit c/#\n", "user\n", "pattern write devices/x/#\n", "nonsense\n", "topic read a#b\n"]
    {
        let text = format!("{LESSON}\nuser sensor-001\n{broken}");
        let problems = broker.reload_policy(&text).expect_err("the policy is broken");
        assert!(problems.iter().any(|problem| problem.contains("acl.conf:10")), "{broken:?}: {problems:?}");
        client.publish("devices/sensor-001/status", "x", 0);
        client.publish("devices/sensor-002/status", "x", 0x87);
    }
    broker.reload_policy(LESSON).expect("the policy is good again");
    client.publish("devices/sensor-001/status", "x", 0);
}

#[test]
fn subscription_that_the_new_policy_refuses_is_closed_and_others_stay() {
    let policy = "user sensor-001\ntopic readwrite a/#\n\nuser sensor-002\ntopic readwrite a/#\n";
    let broker = TestBroker::start(policy);
    for version in BOTH {
        broker.reload_policy(policy).expect("the policy is good");
        let mut loses = broker.device("sensor-001").connect(&connect(version, "a"), version);
        loses.subscribe("a/x", 1);
        let mut keeps = broker.device("sensor-002").connect(&connect(version, "a"), version);
        keeps.subscribe("a/x", 1);
        let next = "user sensor-001\ntopic readwrite b/#\n\nuser sensor-002\ntopic readwrite a/#\n";
        broker.reload_policy(next).expect("the policy is good");
        loses.expect_closed_with(0x87);
        keeps.expect_nothing();
        keeps.publish("b/x", "x", if version == V5 { 0x87 } else { 0 });
    }
}

#[test]
fn queued_message_is_judged_by_the_policy_in_force_when_it_is_delivered() {
    let broker = TestBroker::start(SHARED);
    let open = connect(V5, "a").persistent();
    let mut away = broker.device("sensor-001").connect(&open, V5);
    away.subscribe("c/a", 1);
    away.subscribe("c/b", 1);
    away.send(disconnect());
    away.expect_closed();
    let mut sender = broker.device("sensor-002").connect(&connect(V5, "s"), V5);
    sender.publish("c/a", "no longer", 0);
    sender.publish("c/b", "still", 0);
    broker.reload_policy("user sensor-001\ntopic read c/b\n").expect("the policy is good");
    let (mut back, _, _) = broker.device("sensor-001").connected(&open, V5);
    back.expect_publish("c/b", "still");
    back.expect_nothing();
}

#[test]
fn retained_message_of_a_publisher_that_lost_its_right_is_not_delivered() {
    let broker = TestBroker::start(SHARED);
    let mut sender = broker.device("sensor-001").connect(&connect(V5, "s"), V5);
    sender.send(publish(V5, "c/a", "x").qos1(1).retain().bytes());
    sender.expect_puback(1, 0);
    let mut reader = broker.device("sensor-002").connect(&connect(V5, "r"), V5);
    reader.subscribe("c/a", 1);
    reader.expect_publish("c/a", "x");
    broker
        .reload_policy("user sensor-001\ntopic read c/#\n\nuser sensor-002\ntopic readwrite c/#\n")
        .expect("the policy is good");
    let mut late = broker.device("sensor-002").connect(&connect(V5, "late"), V5);
    late.subscribe("c/a", 1);
    late.expect_nothing();
}

#[test]
fn revoked_certificate_is_closed_at_reload_and_refused_afterwards() {
    let broker = TestBroker::start(SHARED);
    for version in BOTH {
        let bad = issue("sensor-bad");
        let mut revoked = broker.anonymous().presenting(&bad).connect(&connect(version, "a"), version);
        let mut stays = broker.device("sensor-001").connect(&connect(version, "a"), version);
        broker.reload_file("issuing.crl", &TestBroker::crl_with(&[bad.serial()])).expect("the list is good");
        revoked.expect_closed_with(0x98);
        stays.expect_nothing();
        let _ = broker.anonymous().presenting(&bad).expect_refused(version);
        // A new certificate of the same name is another certificate.
        let renewed = issue("sensor-bad");
        let mut renewed = broker.anonymous().presenting(&renewed).connect(&connect(version, "a"), version);
        renewed.expect_nothing();
    }
}

#[test]
fn will_of_a_revoked_certificate_is_not_sent() {
    let broker = TestBroker::start(SHARED);
    let mut watcher = broker.device("sensor-001").connect(&connect(V5, "w"), V5);
    watcher.subscribe("c/#", 0);
    let bad = issue("sensor-bad");
    let open = connect(V5, "a").will(will("c/w", "last words"));
    let mut revoked = broker.anonymous().presenting(&bad).connect(&open, V5);
    broker.reload_file("issuing.crl", &TestBroker::crl_with(&[bad.serial()])).expect("the list is good");
    revoked.expect_closed_with(0x98);
    watcher.publish("c/marker", "1", 0);
    watcher.expect_publish("c/marker", "1");
}

#[test]
fn broken_revocation_list_broken_authority_and_mismatched_key_are_refused_and_nothing_changes() {
    let broker = TestBroker::start(SHARED);
    let mut client = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    let generation = broker.broker().status().generation;
    let crl = TestBroker::crl_with(&[]);
    assert!(
        broker
            .reload_file("issuing.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
            .is_err()
    );
    assert!(broker.reload_file("issuing.crl", "").is_err());
    broker.reload_file("issuing.crl", &crl).expect("the list is good");
    let authority = TestBroker::root();
    for broken in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &authority[..authority.len() / 2],
    ] {
        assert!(broker.reload_file("root-ca.crt", broken).is_err());
    }
    broker.reload_file("root-ca.crt", &authority).expect("the authority is good");
    assert!(broker.reload_file("server.key", &certificate("sensor-001").key_pem()).is_err());
    assert_eq!(broker.broker().status().generation, generation + 2, "only the good reloads counted");
    client.expect_nothing();
    let _ = broker.device("revoked").expect_refused(V5);
    let mut other = broker.device("sensor-002").connect(&connect(V5, "a"), V5);
    other.expect_nothing();
}

#[test]
fn new_server_certificate_is_presented_to_new_connections() {
    let broker = TestBroker::start(SHARED);
    let mut old = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    assert_eq!(old.server_certificate().as_deref(), Some(certificate("server").certificate()));
    let next = issue_as(&LeafProfile::localhost(Validity::days_from(OffsetDateTime::now_utc(), 30)));
    assert!(
        broker.reload_file("server-chain.crt", &next.chain_pem()).is_err(),
        "the key is still the old one"
    );
    broker.reload_file("server.key", &next.key_pem()).expect("certificate and key fit");
    let new = broker.device("sensor-002").connect(&connect(V5, "a"), V5);
    assert_eq!(new.server_certificate().as_deref(), Some(next.certificate()));
    old.expect_nothing();
}

#[test]
fn reload_of_unchanged_files_disturbs_nobody() {
    let broker = TestBroker::start(SHARED);
    let mut client = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    client.subscribe("c/a", 1);
    for _ in 0..3 {
        broker.reload_policy(SHARED).expect("the policy is good");
        client.publish("c/a", "x", 0);
        let got = client.expect_publish("c/a", "x");
        client.send(puback(got.packet_id));
    }
}

/// A broker, and two clients that are connected before the settings change: `sensor-001`, and `sensor-002` with the client
/// id `a`.
fn before(settings: Settings<'_>) -> (TestBroker, [signet_tests::raw_client::RawClient; 2]) {
    let broker = TestBroker::start_with(SHARED, settings);
    let clients = ["sensor-001", "sensor-002"].map(|name| {
        broker.device(name).connect(&connect(V5, if name == "sensor-001" { name } else { "a" }), V5)
    });
    (broker, clients)
}

#[test]
fn who_becomes_an_operator_or_is_one_no_more_is_closed_and_others_stay() {
    let (broker, [mut promoted, mut other]) = before(Settings::default());
    let operators = Settings { identity: "operators = [\"admin\", \"sensor-001\"]", ..Settings::default() };
    let reloaded = broker.reload_settings(operators).expect("the settings are good");
    assert!(reloaded.changed.iter().any(|what| what.starts_with("1 connections")), "{reloaded:?}");
    promoted.expect_closed_with(0x98);
    other.expect_nothing();
    let mut operator = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    operator.subscribe("#", 0);
    broker.reload_settings(Settings::default()).expect("the settings are good");
    operator.expect_closed_with(0x98);
    other.expect_nothing();
}

#[test]
fn who_joins_or_leaves_a_group_is_closed_and_others_stay() {
    let grouped = Settings { identity: "groups = { hall = [\"sensor-001\"] }", ..Settings::default() };
    let empty = Settings { identity: "operators = []", ..Settings::default() };
    let (broker, [mut member, mut other]) = before(grouped);
    broker.reload_settings(empty).expect("the settings are good");
    member.expect_closed_with(0x98);
    other.expect_nothing();
    let mut again = broker.device("sensor-001").connect(&connect(V5, "a"), V5);
    broker.reload_settings(grouped).expect("the settings are good");
    again.expect_closed_with(0x98);
    other.expect_nothing();
}

#[test]
fn another_source_of_names_closes_everybody() {
    let (broker, clients) = before(Settings::default());
    let settings = Settings { listener: "identity = \"fingerprint\"", ..Settings::default() };
    broker.reload_settings(settings).expect("the settings are good");
    for mut client in clients {
        client.expect_closed_with(0x98);
    }
    let rows = broker.broker().session_rows();
    assert!(rows.iter().all(|row| !row.connected), "{rows:?}");
}

#[test]
fn another_rule_for_client_ids_closes_everybody_and_holds_from_then_on() {
    let (broker, clients) = before(Settings::default());
    let settings = Settings { listener: "client-id = \"identity\"", ..Settings::default() };
    broker.reload_settings(settings).expect("the settings are good");
    for mut client in clients {
        client.expect_closed_with(0x98);
    }
    let mut kept = broker.device("sensor-001").connect(&connect(V5, "sensor-001"), V5);
    kept.expect_nothing();
    let mut refused = broker.device("sensor-002").open(V5).expect("the handshake itself is good");
    assert!(!refused.try_connect(&connect(V5, "a")));
    // The same rule again is no change.
    broker.reload_settings(settings).expect("the settings are good");
    kept.expect_nothing();
}

#[test]
fn after_a_refused_reload_the_files_that_the_new_settings_name_are_watched_too() {
    let broker = TestBroker::start(SHARED);
    assert!(!broker.broker().files_changed());
    broker.put("next.crl", "no list");
    let settings = Settings { listener: "crl-stale = \"warn\"", ..Settings::default() };
    let with_next = |broker: &TestBroker| {
        let text =
            TestBroker::settings_text(settings).replace("crl = [\"issuing.crl\"]", "crl = [\"next.crl\"]");
        broker.put("signet.toml", &text);
    };
    with_next(&broker);
    assert!(broker.broker().files_changed());
    assert!(broker.broker().reload("test").is_err());
    assert!(!broker.broker().files_changed(), "a bad state is tried once");
    // Only the file changes that the state in force does not know.
    broker.put("next.crl", &TestBroker::crl_with(&[]));
    assert!(broker.broker().files_changed());
    broker.broker().reload("test").expect("the list is good now");
    assert!(!broker.broker().files_changed());
}
