//! The cache of verified chains: it spares work and never changes a judgement.

use std::sync::Arc;

use signet_certs_dev::{KeyKind, LeafProfile};

use super::support::{NOW, TLS13, World, build, days, ders, handshake, judge, load, long, options, unix};
use crate::tls::{ChainCache, DeviceVerifier, EkuRule, TlsListener, Trust, TrustOptions, VerifyFailure};

fn trust(anchors: &[String], options: TrustOptions) -> Arc<Trust> {
    Arc::new(load(anchors, &[], options, None).unwrap().0)
}

#[test]
fn a_device_that_comes_again_is_found_in_the_cache() {
    let world = World::new();
    let listener = world.listener();
    let client = world.client(TLS13, &world.device("d"));
    for _ in 0..3 {
        handshake(&listener, &client).succeeded();
        assert_eq!(listener.verifier().cache().len(), 1);
    }
}

#[test]
fn revoked_after_it_was_cached_is_refused() {
    let world = World::new();
    let device = world.device("d");
    let before = build(&world.sources_with(&[&world.crl(1, &[])]), &options());
    judge(&before, &device).unwrap();
    let sources = world.sources_with(&[&world.crl(2, &[&device])]);
    let (after, _) = TlsListener::build(&sources, &options(), Some(&before), unix(NOW)).unwrap();
    assert_eq!(after.verifier().cache().len(), 1, "the cache is taken over");
    assert_eq!(judge(&after, &device).unwrap_err().metric_label(), "revoked");
    let outcome = handshake(&after, &world.client(TLS13, &device));
    assert_eq!(outcome.failure().unwrap().metric_label(), "revoked");
}

#[test]
fn an_authority_that_is_removed_takes_its_cached_devices_with_it() {
    let world = World::new();
    let device = world.device("d");
    let before = world.listener();
    judge(&before, &device).unwrap();
    let mut sources = world.sources();
    let other = super::support::root("Other");
    sources.client_ca = vec![crate::tls::Source::new("other.crt", other.certificate_pem())];
    let (after, _) = TlsListener::build(&sources, &options(), Some(&before), unix(NOW)).unwrap();
    assert_eq!(judge(&after, &device).unwrap_err().metric_label(), "unknown_issuer");
}

#[test]
fn a_stricter_rule_counts_for_cached_devices() {
    let world = World::new();
    let leaf = world.issuing.issue(&LeafProfile::atecc608("sn01", days(90))).unwrap();
    let anchors = [world.root.certificate_pem()];
    let cache = Arc::new(ChainCache::default());
    let lenient = TrustOptions { eku: EkuRule::IfPresent, ..TrustOptions::default() };
    let chain = ders(&leaf.chain());
    DeviceVerifier::new(trust(&anchors, lenient), Arc::clone(&cache)).judge(&chain, unix(NOW)).unwrap();
    let strict = DeviceVerifier::new(trust(&anchors, TrustOptions::default()), cache);
    assert_eq!(strict.judge(&chain, unix(NOW)).unwrap_err(), VerifyFailure::MissingPurpose);
}

#[test]
fn the_same_leaf_without_its_intermediate_is_judged_on_its_own() {
    let world = World::new();
    let device = world.device("d");
    let listener = world.listener();
    judge(&listener, &device).unwrap();
    let alone = ders(&device.chain()[..1]);
    assert_eq!(listener.judge(&alone, unix(NOW)).unwrap_err().metric_label(), "unknown_issuer");
    judge(&listener, &device).unwrap();
}

#[test]
fn junk_behind_a_chain_replaces_the_devices_own_entry_only() {
    let world = World::new();
    let (device, neighbour) = (world.device("d"), world.device("n"));
    let listener = world.listener();
    judge(&listener, &neighbour).unwrap();
    for n in 0..5_u8 {
        let mut chain = device.chain();
        chain.push(vec![n; 40]);
        // Junk is skipped or refused as webpki sees fit; either way nothing piles up.
        let _judged = listener.judge(&ders(&chain), unix(NOW));
        assert!(listener.verifier().cache().len() <= 2);
    }
    judge(&listener, &neighbour).unwrap();
}

#[test]
fn a_cut_in_another_place_is_another_chain() {
    // The bytes of both lists are equal when joined; only the lengths tell them apart.
    let world = World::new();
    let device = world.device("d");
    let listener = world.listener();
    judge(&listener, &device).unwrap();
    let [leaf, issuing] = device.chain().try_into().unwrap();
    let joined = [leaf.as_slice(), issuing.as_slice()].concat();
    assert!(listener.judge(&ders(&[joined]), unix(NOW)).is_err());
    let (head, tail) = issuing.split_at(10);
    let shifted = [[leaf.as_slice(), head].concat(), tail.to_vec()];
    assert!(listener.judge(&ders(&shifted), unix(NOW)).is_err());
}

#[test]
fn the_window_of_an_entry_is_the_narrowest_of_its_path() {
    let world = World::new();
    let short = world.root.intermediate("Short", KeyKind::P256, days(10), 0).unwrap();
    let leaf = short.issue(&LeafProfile::device("d", days(90))).unwrap();
    let listener = world.listener();
    let judged = judge(&listener, &leaf).unwrap();
    assert_eq!(judged.not_after(), days(10).not_after.unix_timestamp());
    let later = unix(NOW + time::Duration::days(11));
    let failure = listener.judge(&ders(&leaf.chain()), later).unwrap_err();
    assert!(
        matches!(failure, VerifyFailure::Expired { which: crate::tls::Which::Authority, .. }),
        "{failure}"
    );
}

#[test]
fn with_and_without_the_cache_every_judgement_is_the_same() {
    let world = World::new();
    let foreign = super::support::root("Foreign");
    let short = world.root.intermediate("Short", KeyKind::P256, long(), 0).unwrap();
    let leaves = [
        world.device("good"),
        foreign.issue(&LeafProfile::device("foreign", days(90))).unwrap(),
        short.issue(&LeafProfile::device("other", days(30))).unwrap(),
        world.issuing.issue(&LeafProfile::atecc608("sn01", days(90))).unwrap(),
    ];
    let anchors = [world.root.certificate_pem()];
    let cached =
        DeviceVerifier::new(trust(&anchors, TrustOptions::default()), Arc::new(ChainCache::default()));
    let plain = DeviceVerifier::new(trust(&anchors, TrustOptions::default()), Arc::new(ChainCache::new(0)));
    for offset in [0, 0, 20, 40, 100, 0] {
        let at = unix(NOW + time::Duration::days(offset));
        for leaf in &leaves {
            let chain = ders(&leaf.chain());
            assert_eq!(cached.judge(&chain, at), plain.judge(&chain, at));
        }
    }
    assert_eq!((cached.cache().len(), plain.cache().len()), (2, 0));
}
