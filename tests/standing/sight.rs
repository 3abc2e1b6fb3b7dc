//! What the metrics show of the registry.

use crate::FLEET;
use signet_certs_dev::{LeafProfile, Validity};
use signet_identity::ThingName;
use signet_registry::{Command, Line};
use signet_tests::build::*;
use signet_tests::registered::registered;
use signet_tests::test_broker::{issue, issue_as};
use time::{Duration, OffsetDateTime};

#[test]
fn certificates_are_counted_by_status_issuer_and_days_left() {
    let broker = registered(FLEET, "", "");
    let now = OffsetDateTime::now_utc();
    let ending = |name: &str, days: i64| {
        let validity =
            Validity { not_before: now - Duration::days(1), not_after: now + Duration::days(days) };
        issue_as(&LeafProfile::device(name, validity))
    };
    for (n, days) in [0, 0, 3, 20, 60, 300, 1000].into_iter().enumerate() {
        let leaf = ending(&format!("sensor-{n}"), days);
        if days > 0 {
            broker.enrol(&leaf, &format!("sensor-{n}"));
        }
    }
    let (revoked, suspended) = (issue("revoked-1"), issue("suspended-1"));
    broker.enrol(&revoked, "revoked-1");
    broker.enrol(&suspended, "suspended-1");
    broker.revoke(&revoked);
    broker.suspend(&suspended);
    let thing = ThingName::try_from("sensor-2").expect("a name");
    broker.must(Command::Quarantine { thing, why: Line::new("test") });
    broker.broker().count_certificates();
    let shown = |name: &str, labels: &str| broker.labelled(name, labels);
    for (status, count) in [("active", 5.0), ("revoked", 1.0), ("inactive", 1.0), ("pending-activation", 0.0)]
    {
        assert_eq!(shown("signet_certificates", &format!("{{status=\"{status}\"}}")), count, "{status}");
    }
    for (within, count) in
        [("expired", 0.0), ("1d", 0.0), ("7d", 1.0), ("30d", 1.0), ("90d", 1.0), ("365d", 1.0), ("more", 1.0)]
    {
        let label = format!("{{within=\"{within}\"}}");
        assert_eq!(shown("signet_certificates_ending", &label), count, "{within}");
    }
    let ca = broker.registry().registry().cas().next().expect("one authority").id.to_string();
    let label = format!("{{ca=\"{}\"}}", &ca[..16]);
    assert_eq!(shown("signet_certificates_by_issuer", &label), 7.0);
    assert_eq!(broker.metric("signet_things_quarantined"), 1.0);
    assert_eq!(shown("signet_registry_connects_total", &label), 0.0);
    let known = issue("sensor-9");
    broker.enrol(&known, "sensor-9");
    for _ in 0..3 {
        broker.anonymous().presenting(&known).connect(&connect(V5, "a"), V5).expect_nothing();
    }
    assert_eq!(shown("signet_registry_connects_total", &label), 3.0);
    let mut stranger = broker.anonymous().presenting(&issue("stranger")).open(V5).expect("a handshake");
    stranger.send(connect(V5, "a").bytes());
    let _ = stranger.receive();
    assert_eq!(shown("signet_registry_refused_total", "{standing=\"unknown\"}"), 1.0);
    assert_eq!(shown("signet_clock_jumps_total", "{direction=\"forward\"}"), 0.0);
}
