//! The cache of verified chains: it spares work and never changes a judgement.

use std::sync::Arc;

use signet_certs_dev::{CrlProfile, KeyKind, LeafProfile};

use super::cases::{Ca, constrained, dns};
use super::support::{NOW, TLS13, World, build, days, ders, handshake, judge, load, long, options, unix};
use crate::tls::{
    ChainCache, DeviceVerifier, EkuRule, Source, TlsListener, Trust, TrustOptions, VerifyFailure,
};

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
    assert_eq!(judge(&after, &world.device("another")).unwrap_err().metric_label(), "unknown_issuer");
}

/// With a memory of issuers, and without.
fn verifiers(anchors: &[String]) -> (DeviceVerifier, DeviceVerifier) {
    let verifier = |cache| DeviceVerifier::new(trust(anchors, TrustOptions::default()), Arc::new(cache));
    (verifier(ChainCache::default()), verifier(ChainCache::new(0)))
}

#[test]
fn the_second_device_of_an_issuer_is_judged_as_the_first_was() {
    let world = World::new();
    let (remembers, forgets) = verifiers(&[world.root.certificate_pem()]);
    for name in ["a", "b", "c"] {
        let chain = ders(&world.device(name).chain());
        assert_eq!(remembers.judge(&chain, unix(NOW)), forgets.judge(&chain, unix(NOW)));
        assert_eq!((remembers.cache().issuers.len(), forgets.cache().issuers.len()), (1, 0));
    }
}

#[test]
fn a_known_issuer_vouches_for_nobody_whom_it_did_not_issue_or_who_is_not_good() {
    let world = World::new();
    let (remembers, forgets) = verifiers(&[world.root.certificate_pem()]);
    remembers.judge(&ders(&world.device("good").chain()), unix(NOW)).unwrap();
    let impostor = super::support::root("Issuing").issue(&LeafProfile::device("d", days(90))).unwrap();
    let server = world.issuing.issue(&LeafProfile::localhost(days(90))).unwrap();
    let short = world.issuing.issue(&LeafProfile::device("d", days(10))).unwrap();
    let no_purpose = world.issuing.issue(&LeafProfile::atecc608("sn01", days(90))).unwrap();
    let issuing = world.issuing.certificate().to_vec();
    let below = world.device("d").misused_as_authority().unwrap();
    let misused = below.issue(&LeafProfile::device("e", days(90))).unwrap();
    let chains = [
        (
            "another key of its name",
            vec![impostor.certificate().to_vec(), issuing.clone()],
            0,
            "namesake_issuer",
        ),
        ("another purpose", server.chain(), 0, "wrong_purpose"),
        ("no purpose", no_purpose.chain(), 0, "wrong_purpose"),
        ("expired", short.chain(), 11, "expired"),
        ("issued by a device", misused.chain(), 0, "chain_rules"),
        ("the issuer is not shown", world.device("d").chain()[..1].to_vec(), 0, "unknown_issuer"),
        ("the issuer itself has ended", world.device("d").chain(), 10_000, "expired"),
    ];
    for (case, chain, after, expected) in chains {
        let (chain, at) = (ders(&chain), unix(NOW + time::Duration::days(after)));
        let failure = remembers.judge(&chain, at).unwrap_err();
        assert_eq!((failure.metric_label(), Err(failure)), (expected, forgets.judge(&chain, at)), "{case}");
    }
}

#[test]
fn a_known_issuer_does_not_lend_the_authorities_above_it_to_who_shows_others_or_none() {
    let root = super::support::root("Root");
    let old = root.intermediate("Upper", KeyKind::P256, long(), 1).unwrap();
    let new = root.renewed("Upper", &old, long(), 1).unwrap();
    let issuing = old.intermediate("Issuing", KeyKind::P256, long(), 0).unwrap();
    let leaf = issuing.issue(&LeafProfile::device("d", days(90))).unwrap().certificate().to_vec();
    let next = issuing.issue(&LeafProfile::device("e", days(90))).unwrap().certificate().to_vec();
    let below = |leaf: &[u8], upper: &[u8]| ders(&[leaf, issuing.certificate(), upper].map(<[u8]>::to_vec));
    let (remembers, forgets) = verifiers(&[root.certificate_pem()]);
    remembers.judge(&below(&leaf, old.certificate()), unix(NOW)).unwrap();
    let alone = ders(&[next.clone(), issuing.certificate().to_vec()]);
    let failure = remembers.judge(&alone, unix(NOW)).unwrap_err();
    assert_eq!((failure.metric_label(), Err(failure)), ("unknown_issuer", forgets.judge(&alone, unix(NOW))));
    for upper in [new.certificate(), old.certificate(), new.certificate()] {
        let chain = below(&next, upper);
        assert_eq!(remembers.judge(&chain, unix(NOW)), forgets.judge(&chain, unix(NOW)));
    }
}

#[test]
fn an_issuer_that_is_revoked_takes_those_with_it_that_it_was_known_for() {
    let world = World::new();
    let before = world.listener();
    judge(&before, &world.device("d")).unwrap();
    let revoked = world.root.crl(&CrlProfile::new(1, NOW, 30, &[world.issuing.serial()])).unwrap();
    let mut sources = world.sources();
    let issuers_own = [world.crl(1, &[]).pem(), world.issuing.certificate_pem()].concat();
    sources.crl = vec![Source::new("root.crl", revoked.pem()), Source::new("issuing.crl", issuers_own)];
    let (after, _) = TlsListener::build(&sources, &options(), Some(&before), unix(NOW)).unwrap();
    assert_eq!(after.verifier().cache().issuers.len(), 1, "the memory is taken over");
    assert_eq!(judge(&after, &world.device("another")).unwrap_err().metric_label(), "revoked");
}

#[test]
fn an_issuer_with_name_constraints_is_not_remembered_and_they_count_for_the_next() {
    for constrained_root in [false, true] {
        let names = constrained(&["example.org"], &[]);
        let (root, issuing) = if constrained_root {
            (Ca::with("Root", names), Ca::new("Issuing"))
        } else {
            (Ca::new("Root"), Ca::with("Issuing", names))
        };
        let anchors = [Source::new("root.crt", root.own().to_vec())];
        let trust =
            Trust::load(&anchors, (&[], &[]), None, TrustOptions::default(), None, unix(NOW)).unwrap().0;
        let verifier = DeviceVerifier::new(Arc::new(trust), Arc::default());
        let within = issuing.leaf(|params| params.subject_alt_names = vec![dns("a.example.org")]);
        let outside = issuing.leaf(|params| params.subject_alt_names = vec![dns("a.example.net")]);
        verifier.judge(&[within, root.above(&issuing)], unix(NOW)).unwrap();
        let failure = verifier.judge(&[outside, root.above(&issuing)], unix(NOW)).unwrap_err();
        assert_eq!((failure.metric_label(), verifier.cache().issuers.len()), ("chain_rules", 0));
    }
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
