//! The grace for certificates that have expired: the client's own alone, in full judgements, cached ones and later ones.

use std::sync::Arc;
use std::time::Duration;

use signet_certs_dev::{KeyKind, LeafProfile};
use time::OffsetDateTime;

use super::support::{NOW, World, days, ders, load, unix};
use crate::tls::{ChainCache, DeviceVerifier, Trust, TrustOptions, VerifyFailure, Which};

const GRACE_DAYS: i64 = 7;

fn trust(world: &World, crls: &[String], grace_days: i64) -> Arc<Trust> {
    let grace = Duration::from_secs(u64::try_from(grace_days).unwrap() * 86_400);
    let options = TrustOptions { expired_grace: grace, ..TrustOptions::default() };
    // Lists are verified by the authority that is an anchor.
    let mut anchors = vec![world.root.certificate_pem()];
    if !crls.is_empty() {
        anchors.push(world.issuing.certificate_pem());
    }
    Arc::new(load(&anchors, crls, options, None).unwrap().0)
}

fn after_days(count: i64) -> OffsetDateTime {
    NOW + time::Duration::days(count)
}

fn is_expired(failure: &VerifyFailure, whose: Which) -> bool {
    matches!(failure, VerifyFailure::Expired { which, .. } if *which == whose)
}

#[test]
fn an_expired_certificate_is_good_until_the_grace_is_over() {
    let world = World::new();
    let leaf = world.issuing.issue(&LeafProfile::device("d", days(30))).unwrap();
    let chain = ders(&leaf.chain());
    for cache in [ChainCache::default(), ChainCache::new(0)] {
        let verifier = DeviceVerifier::new(trust(&world, &[], GRACE_DAYS), Arc::new(cache));
        for day in [0, 29, 31, 36] {
            let judged = verifier.judge(&chain, unix(after_days(day))).unwrap();
            assert_eq!(judged.not_after(), days(30).not_after.unix_timestamp(), "day {day}");
            assert_eq!(judged.usable_until() - judged.not_after(), GRACE_DAYS * 86_400);
            verifier.judge_again(&judged, unix(after_days(36))).unwrap();
            let late = verifier.judge_again(&judged, unix(after_days(38))).unwrap_err();
            assert!(is_expired(&late, Which::Leaf));
        }
        let late = verifier.judge(&chain, unix(after_days(38))).unwrap_err();
        assert!(is_expired(&late, Which::Leaf), "{late}");
    }
}

#[test]
fn without_a_grace_there_is_none_whatever_the_cache_knows() {
    let world = World::new();
    let leaf = world.issuing.issue(&LeafProfile::device("d", days(30))).unwrap();
    let chain = ders(&leaf.chain());
    let cache = Arc::new(ChainCache::default());
    let lenient = DeviceVerifier::new(trust(&world, &[], GRACE_DAYS), Arc::clone(&cache));
    let judged = lenient.judge(&chain, unix(after_days(31))).unwrap();
    let strict = DeviceVerifier::new(trust(&world, &[], 0), cache);
    let refused = strict.judge(&chain, unix(after_days(31))).unwrap_err();
    assert!(is_expired(&refused, Which::Leaf));
    // A live connection that came by the grace of a listener that has none any more.
    let refused = strict.judge_again(&judged, unix(after_days(31))).unwrap_err();
    assert!(is_expired(&refused, Which::Leaf));
}

#[test]
fn authorities_have_no_grace() {
    let world = World::new();
    let short = world.root.intermediate("Short", KeyKind::P256, days(20), 0).unwrap();
    let verifier = DeviceVerifier::new(trust(&world, &[], GRACE_DAYS), Arc::default());
    // The leaf ends before its authority, and the grace ends with the authority.
    let leaf = short.issue(&LeafProfile::device("d", days(18))).unwrap();
    let chain = ders(&leaf.chain());
    let judged = verifier.judge(&chain, unix(after_days(19))).unwrap();
    assert_eq!(judged.usable_until(), days(20).not_after.unix_timestamp());
    let refused = verifier.judge(&chain, unix(after_days(21))).unwrap_err();
    assert!(is_expired(&refused, Which::Authority), "{refused}");
    // The leaf outlives its authority: there is nothing to be graceful about.
    let leaf = short.issue(&LeafProfile::device("d", days(40))).unwrap();
    let refused = verifier.judge(&ders(&leaf.chain()), unix(after_days(21))).unwrap_err();
    assert!(is_expired(&refused, Which::Authority), "{refused}");
}

#[test]
fn the_grace_is_for_expiry_and_for_nothing_else() {
    let world = World::new();
    let verifier = |crls: &[String]| DeviceVerifier::new(trust(&world, crls, GRACE_DAYS), Arc::default());
    let leaf = world.issuing.issue(&LeafProfile::device("d", days(30))).unwrap();
    let early = verifier(&[]).judge(&ders(&leaf.chain()), unix(after_days(-30))).unwrap_err();
    assert!(matches!(early, VerifyFailure::NotYetValid { .. }), "{early}");
    let foreign = super::support::root("Foreign");
    let other = foreign.issue(&LeafProfile::device("d", days(30))).unwrap();
    let refused = verifier(&[]).judge(&ders(&other.chain()), unix(after_days(31))).unwrap_err();
    assert_eq!(refused.metric_label(), "unknown_issuer");
    let revoked = verifier(&[world.crl(1, &[&leaf]).pem()]);
    let refused = revoked.judge(&ders(&leaf.chain()), unix(after_days(0))).unwrap_err();
    assert_eq!(refused.metric_label(), "revoked");
}
