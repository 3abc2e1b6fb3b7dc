//! Certificates and claims whose time is over: refused, closed, or let in to recover.

use crate::{FLEET, MAXIMUM_CONNECT_TIME, NOT_AUTHORIZED, TICKETS};
use signet_certs_dev::{Leaf, LeafProfile, Validity};
use signet_identity::Role;
use signet_registry::Wall;
use signet_tests::build::*;
use signet_tests::received::Received;
use signet_tests::registered::{registered, registered_own};
use signet_tests::test_broker::{TestBroker, issue, issue_as};
use time::{Duration, OffsetDateTime};

const GRACE: &str = "[standing]\nexpired-grace = \"1h\"\n";

/// A certificate whose last second is so many seconds from now.
fn ending_in(name: &str, secs: i64) -> Leaf {
    let now = OffsetDateTime::now_utc();
    let validity =
        Validity { not_before: now - Duration::days(30), not_after: now + Duration::seconds(secs) };
    issue_as(&LeafProfile::device(name, validity))
}

/// A registered certificate that has just expired: its connection has ended with it.
fn just_expired(broker: &TestBroker) -> Leaf {
    let leaf = ending_in("sensor-1", 2);
    broker.enrol(&leaf, "sensor-1");
    let mut live = broker.anonymous().presenting(&leaf).connect(&connect(V5, "x"), V5);
    live.expect_closed_with(MAXIMUM_CONNECT_TIME);
    leaf
}

/// Whoever is in quarantine reaches its recovery topics, and nothing else that its policy gives it.
#[track_caller]
fn assert_quarantined(broker: &TestBroker, leaf: &Leaf) {
    let mut client = broker.anonymous().presenting(leaf).connect(&connect(V5, "q"), V5);
    client.publish("devices/sensor-1/certs/status", "x", 0);
    client.subscribe("devices/sensor-1/certs/#", 1);
    client.publish("devices/sensor-1/status", "x", NOT_AUTHORIZED);
    client.send(subscribe(V5, 5, &[sub("devices/sensor-1/#", 1)]));
    client.expect_suback(5, &[NOT_AUTHORIZED]);
}

#[test]
fn without_a_grace_an_expired_certificate_is_refused() {
    let broker = registered(FLEET, "", "");
    let expired = ending_in("sensor-1", -60);
    let _ = broker.anonymous().presenting(&expired).expect_refused(V5);
    assert_eq!(broker.tls_failures(1).by_cause.get("certificate_expired"), Some(&1));
}

#[test]
fn within_the_grace_an_expired_certificate_reaches_its_recovery_topics() {
    let broker = registered(FLEET, "", GRACE);
    let expired = just_expired(&broker);
    assert_quarantined(&broker, &expired);
    // The second time, the verified chain comes out of the cache.
    assert_quarantined(&broker, &expired);
    let long_ago = ending_in("sensor-1", -3700);
    let _ = broker.anonymous().presenting(&long_ago).expect_refused(V5);
}

#[test]
fn a_revoked_certificate_has_no_grace() {
    let broker = registered(FLEET, "", GRACE);
    let expired = just_expired(&broker);
    broker.revoke(&expired);
    let mut refused = broker.anonymous().presenting(&expired).open(V5).expect("the handshake itself is good");
    refused.send(connect(V5, "a").bytes());
    assert!(matches!(refused.receive(), Received::ConnAck { code: NOT_AUTHORIZED, .. }));
}

#[test]
fn without_a_registry_the_grace_is_the_same_for_devices_and_none_for_operators() {
    let settings = signet_tests::test_broker::Settings { tables: GRACE, ..Default::default() };
    let broker = TestBroker::start_with(FLEET, settings);
    assert_quarantined(&broker, &ending_in("sensor-1", -60));
    let operator = ending_in("admin", -60);
    let mut refused =
        broker.anonymous().presenting(&operator).open(V5).expect("the handshake itself is good");
    refused.send(connect(V5, "a").bytes());
    assert!(matches!(refused.receive(), Received::ConnAck { code: NOT_AUTHORIZED, .. }));
}

#[test]
fn a_connection_ends_with_its_certificate_and_comes_back_into_quarantine() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let broker = registered(FLEET, TICKETS, GRACE);
        let device = ending_in("sensor-1", 1);
        broker.enrol(&device, "sensor-1");
        let versions: &'static [_] = Box::leak(Box::new([version]));
        let known = broker.anonymous().presenting(&device).versions(versions).with_memory();
        let mut live = known.connect(&connect(V5, "q").persistent(), V5);
        live.publish("devices/sensor-1/status", "x", 0);
        live.subscribe("devices/sensor-1/commands/#", 1);
        live.expect_closed_with(MAXIMUM_CONNECT_TIME);
        let mut back = known.connect(&connect(V5, "q"), V5);
        assert!(back.is_resumed(), "{version:?}");
        back.publish("devices/sensor-1/status", "x", NOT_AUTHORIZED);
        back.publish("devices/sensor-1/certs/status", "x", 0);
    }
}

#[test]
fn a_reload_leaves_those_in_quarantine_alone() {
    let broker = registered(FLEET, "", GRACE);
    let expired = just_expired(&broker);
    let mut client = broker.anonymous().presenting(&expired).connect(&connect(V5, "q"), V5);
    broker.reload_policy(FLEET).expect("the policy is good");
    client.expect_nothing();
    client.publish("devices/sensor-1/certs/status", "x", 0);
}

#[test]
fn a_claims_connection_ends_when_its_time_does() {
    let broker = registered_own(FLEET, "");
    let claim = issue("line-1");
    let now = broker.registry().now();
    broker.claim(&claim, "line-1", Wall(now.0 + 1500));
    let mut live = broker.anonymous().presenting(&claim).connect(&connect(V5, "a"), V5);
    live.expect_nothing();
    live.expect_closed_with(MAXIMUM_CONNECT_TIME);
    let mut late = broker.anonymous().presenting(&claim).open(V5).expect("the handshake itself is good");
    late.send(connect(V5, "a").bytes());
    assert!(matches!(late.receive(), Received::ConnAck { code: NOT_AUTHORIZED, .. }));
    assert_eq!(broker.broker().session_rows().len(), 0);
    let claims = signet_identity::PrincipalKey {
        role: Role::Claim,
        name: signet_identity::ThingName::try_from("line-1").expect("a name"),
    };
    assert!(broker.broker().hub().sessions().iter().all(|session| session.principal != claims));
}
