//! Kinds and sizes of keys.

use rustls::AlertDescription as Alert;
use signet_certs_dev::{KeyKind, LeafProfile, rsa_public_key};

use super::support::{BOTH, World, days, handshake, judge, long};
use crate::tls::{Source, VerifyFailure};

#[test]
fn p256_p384_and_rsa_devices_are_admitted_over_both_versions() {
    let world = World::new();
    let listener = world.listener();
    for key in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048, KeyKind::Rsa3072, KeyKind::Rsa4096] {
        let leaf = world.issuing.issue(&LeafProfile::device("d", days(90)).with_key(key)).unwrap();
        for version in BOTH {
            handshake(&listener, &world.client(version, &leaf)).succeeded();
        }
    }
}

#[test]
fn authorities_with_p384_and_rsa_keys_are_anchors_as_good() {
    let world = World::new();
    for key in [KeyKind::P384, KeyKind::Rsa2048] {
        let root = signet_certs_dev::Authority::root("Other root", key, long()).unwrap();
        let issuing = root.intermediate("Other issuing", key, long(), 0).unwrap();
        let leaf = issuing.issue(&LeafProfile::device("d", days(90))).unwrap();
        let mut sources = world.sources();
        sources.client_ca.push(Source::new("other.crt", root.certificate_pem()));
        let listener = super::support::build(&sources, &super::support::options());
        for version in BOTH {
            handshake(&listener, &world.client(version, &leaf)).succeeded();
        }
    }
}

#[test]
fn server_certificates_with_p384_and_rsa_keys_serve() {
    let mut world = World::new();
    let device = world.device("d");
    for key in [KeyKind::P384, KeyKind::Rsa2048] {
        world.server = world.issuing.issue(&LeafProfile::localhost(days(90)).with_key(key)).unwrap();
        let listener = world.listener();
        for version in BOTH {
            handshake(&listener, &world.client(version, &device)).succeeded();
        }
    }
}

#[test]
fn p521_and_ed25519_are_not_among_what_is_asked_for() {
    let world = World::new();
    let listener = world.listener();
    for key in [KeyKind::P521, KeyKind::Ed25519] {
        let leaf = world.issuing.issue(&LeafProfile::device("d", days(90)).with_key(key)).unwrap();
        let failure = judge(&listener, &leaf).unwrap_err();
        assert_eq!(failure.metric_label(), "weak_or_unknown_key", "{failure}");
        for version in BOTH {
            let outcome = handshake(&listener, &world.client(version, &leaf));
            // A client that heeds what is asked for sends no certificate at all.
            assert_eq!(outcome.alert(), Some(Alert::CertificateRequired), "{key:?}");
        }
    }
}

#[test]
fn rsa_below_2048_and_above_4096_bits_is_refused() {
    let world = World::new();
    let listener = world.listener();
    let judge_bits = |bits: usize| {
        let profile = LeafProfile::device("d", days(90));
        let leaf = world.issuing.issue_for_public_key(&profile, &rsa_public_key(bits)).unwrap();
        judge(&listener, &leaf)
    };
    for bits in [2048, 4096] {
        judge_bits(bits).unwrap();
    }
    for bits in [512, 1024, 2040, 4104, 8192] {
        let found = format!("RSA of {bits} bits");
        assert_eq!(judge_bits(bits).unwrap_err(), VerifyFailure::KeyNotAccepted { found });
    }
}
