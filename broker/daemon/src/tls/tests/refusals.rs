//! Every bad certificate, over both versions: the alert that the client reads and the reason that we keep.

use rustls::AlertDescription as Alert;
use signet_certs_dev::{CrlProfile, KeyKind, KeyUse, Leaf, LeafProfile, Purpose, Validity};

use super::support::{
    BOTH, NOW, TLS12, TLS13, World, build, days, ders, handshake, judge, long, options, root,
};
use crate::tls::{
    DeviceVerifier, EkuRule, Source, TlsListener, TlsOptions, TrustOptions, VerifyFailure, Which,
};

/// Has `leaf` refused over both versions.
#[track_caller]
fn refused(world: &World, listener: &TlsListener, leaf: &Leaf, alert: Alert, label: &str) {
    for version in BOTH {
        let outcome = handshake(listener, &world.client(version, leaf));
        let refusal = outcome.refusal.as_ref().expect("a refusal is kept");
        assert_eq!(refusal.failure.metric_label(), label, "{version:?}: {}", refusal.failure);
        assert_eq!(outcome.alert(), Some(alert), "{version:?}");
        assert_eq!(refusal.leaf, signet_identity::describe(leaf.certificate()));
        assert!(outcome.kind.is_none(), "{version:?}");
    }
    assert!(listener.verifier().cache().is_empty(), "a refused chain was cached");
}

#[test]
fn a_good_certificate_is_admitted_over_both_versions() {
    let world = World::new();
    let device = world.device("sensor-001");
    for version in BOTH {
        let listener = world.listener();
        let outcome = handshake(&listener, &world.client(version, &device));
        outcome.succeeded();
        assert_eq!(outcome.refusal, None);
        let judged = listener.judge(&outcome.chain, super::support::unix(NOW)).unwrap();
        assert_eq!(judged.certificate(), signet_identity::CertificateId::of(device.certificate()));
        assert_eq!(judged.not_after(), days(90).not_after.unix_timestamp());
    }
}

#[test]
fn an_expired_certificate_gets_certificate_expired() {
    let world = World::new();
    let leaf = world.issuing.issue(&LeafProfile::device("d", Validity::past(NOW))).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::CertificateExpired, "expired");
}

#[test]
fn a_certificate_of_the_future_gets_certificate_expired_and_its_own_reason() {
    let world = World::new();
    let leaf = world.issuing.issue(&LeafProfile::device("d", Validity::future(NOW))).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::CertificateExpired, "not_yet_valid");
}

#[test]
fn the_first_and_last_second_of_validity_are_good_and_the_ones_beside_are_not() {
    let world = World::new();
    let listener = world.listener();
    let leaf = world.device("d");
    let (begin, end) = (days(90).not_before, days(90).not_after);
    let judge_at = |moment| {
        let chain = ders(&leaf.chain());
        listener.judge(&chain, super::support::unix(moment)).map_err(|failure| failure.metric_label())
    };
    let second = time::Duration::SECOND;
    // Twice, so that the cache judges the second time.
    for _ in 0..2 {
        assert!(judge_at(begin).is_ok());
        assert!(judge_at(end).is_ok());
        assert_eq!(judge_at(begin - second), Err("not_yet_valid"));
        assert_eq!(judge_at(end + second), Err("expired"));
    }
}

#[test]
fn a_foreign_authority_gets_unknown_ca_and_is_named() {
    let world = World::new();
    let leaf = root("Foreign").issue(&LeafProfile::device("sensor-001", days(90))).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::UnknownCA, "unknown_issuer");
    let failure = judge(&world.listener(), &leaf).unwrap_err();
    assert_eq!(failure, VerifyFailure::UnknownIssuer { missing: "CN=Foreign".into() });
}

#[test]
fn an_authority_made_anew_under_its_old_name_gets_unknown_ca_and_its_own_reason() {
    let world = World::new();
    let leaf = root("Root").issue(&LeafProfile::device("sensor-001", days(90))).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::UnknownCA, "namesake_issuer");
}

#[test]
fn a_self_signed_certificate_gets_unknown_ca() {
    let world = World::new();
    let own = root("sensor-001");
    // A leaf whose issuer is itself by name: what `openssl req -x509` makes.
    let leaf = own.issue(&LeafProfile::device("sensor-001", days(90))).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::UnknownCA, "unknown_issuer");
}

#[test]
fn a_revoked_certificate_gets_certificate_revoked() {
    let world = World::new();
    let (good, bad) = (world.device("good"), world.device("bad"));
    let listener = build(&world.sources_with(&[&world.crl(1, &[&bad])]), &options());
    for version in BOTH {
        let outcome = handshake(&listener, &world.client(version, &bad));
        assert_eq!(outcome.alert(), Some(Alert::CertificateRevoked));
        let issuer = "CN=Issuing".to_owned();
        assert_eq!(outcome.failure(), Some(&VerifyFailure::Revoked { which: Which::Leaf, issuer }));
        handshake(&listener, &world.client(version, &good)).succeeded();
    }
}

#[test]
fn a_server_certificate_gets_unsupported_certificate() {
    let world = World::new();
    let profile = LeafProfile::device("d", days(90)).with_purposes(&[Purpose::ServerAuth]);
    let leaf = world.issuing.issue(&profile).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::UnsupportedCertificate, "wrong_purpose");
}

#[test]
fn any_extended_key_usage_does_not_stand_for_client_auth() {
    let world = World::new();
    let profile = LeafProfile::device("d", days(90)).with_purposes(&[Purpose::Any]);
    let leaf = world.issuing.issue(&profile).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::UnsupportedCertificate, "wrong_purpose");
}

#[test]
fn client_auth_beside_other_purposes_is_admitted() {
    let world = World::new();
    let purposes = [Purpose::ServerAuth, Purpose::ClientAuth];
    let profile = LeafProfile::device("d", days(90)).with_purposes(&purposes);
    judge(&world.listener(), &world.issuing.issue(&profile).unwrap()).unwrap();
}

#[test]
fn no_extended_key_usage_is_refused_where_one_is_required_and_only_there() {
    let world = World::new();
    let leaf = world.issuing.issue(&LeafProfile::atecc608("sn0123030405060708EE", days(90))).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::UnsupportedCertificate, "wrong_purpose");
    let trust = TrustOptions { eku: EkuRule::IfPresent, ..TrustOptions::default() };
    let lenient = build(&world.sources(), &TlsOptions { trust, ..options() });
    for version in BOTH {
        handshake(&lenient, &world.client(version, &leaf)).succeeded();
    }
    // Where none is needed, a wrong one is as wrong as ever.
    let profile = LeafProfile::device("d", days(90)).with_purposes(&[Purpose::ServerAuth]);
    let wrong = world.issuing.issue(&profile).unwrap();
    assert_eq!(judge(&lenient, &wrong).unwrap_err(), VerifyFailure::WrongPurpose);
}

#[test]
fn a_key_usage_without_signature_and_agreement_gets_unsupported_certificate() {
    let world = World::new();
    let profile = LeafProfile::device("d", days(90)).with_key_uses(&[KeyUse::KeyEncipherment]);
    let leaf = world.issuing.issue(&profile).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::UnsupportedCertificate, "wrong_purpose");
    for good in [&[][..], &[KeyUse::KeyAgreement], &[KeyUse::DigitalSignature]] {
        let profile = LeafProfile::device("d", days(90)).with_key_uses(good);
        judge(&world.listener(), &world.issuing.issue(&profile).unwrap()).unwrap();
    }
}

#[test]
fn an_authority_cannot_connect_as_a_device() {
    let world = World::new();
    let listener = world.listener();
    let chain = ders(&[world.issuing.certificate().to_vec()]);
    let failure = listener.judge(&chain, super::support::unix(NOW)).unwrap_err();
    assert_eq!(failure.metric_label(), "chain_rules");
}

#[test]
fn a_device_cannot_issue_certificates() {
    let world = World::new();
    let device = world.device("sensor-001");
    let child =
        device.misused_as_authority().unwrap().issue(&LeafProfile::device("admin", days(90))).unwrap();
    assert_eq!(child.chain().len(), 3);
    refused(&world, &world.listener(), &child, Alert::CertificateUnknown, "chain_rules");
}

#[test]
fn a_path_longer_than_the_authority_allows_is_refused() {
    let world = World::new();
    let below = world.issuing.intermediate("Below", KeyKind::P256, long(), 0).unwrap();
    let leaf = below.issue(&LeafProfile::device("d", days(90))).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::CertificateUnknown, "chain_rules");
}

#[test]
fn an_unknown_critical_extension_gets_bad_certificate() {
    let world = World::new();
    let profile = LeafProfile::device("d", days(90));
    let unknown = |critical| signet_certs_dev::Extension { oid: &[0x2a, 3, 4], critical, value: &[5, 0] };
    let leaf = world.issuing.issue_with_extension(&profile, unknown(true)).unwrap();
    refused(&world, &world.listener(), &leaf, Alert::BadCertificate, "unparsable");
    let harmless = world.issuing.issue_with_extension(&profile, unknown(false)).unwrap();
    judge(&world.listener(), &harmless).unwrap();
}

#[test]
fn a_certificate_that_is_none_gets_bad_certificate() {
    let world = World::new();
    let listener = world.listener();
    let device = world.device("d");
    for version in BOTH {
        let mut cut = device.certificate().to_vec();
        cut.pop();
        let client = world.client_with(version, Some((ders(&[cut]), device.key())));
        let outcome = handshake(&listener, &client.into());
        assert_eq!(outcome.alert(), Some(Alert::BadCertificate));
        assert_eq!(outcome.failure().unwrap().metric_label(), "unparsable");
    }
}

#[test]
fn anothers_certificate_gets_decrypt_error() {
    let world = World::new();
    let (mine, anothers) = (world.device("mine"), world.device("anothers"));
    for version in BOTH {
        let listener = world.listener();
        let client = world.client_with(version, Some((ders(&anothers.chain()), mine.key())));
        let outcome = handshake(&listener, &client.into());
        assert_eq!(outcome.alert(), Some(Alert::DecryptError));
        assert_eq!(outcome.failure(), Some(&VerifyFailure::NotTheKeyHolder));
        // The chain itself is good, so it may be cached; that does not help the next attempt.
        let client = world.client_with(version, Some((ders(&anothers.chain()), mine.key())));
        assert_eq!(handshake(&listener, &client.into()).alert(), Some(Alert::DecryptError));
    }
}

#[test]
fn no_certificate_gets_certificate_required() {
    let world = World::new();
    for version in BOTH {
        let outcome = handshake(&world.listener(), &world.client_with(version, None).into());
        assert_eq!(outcome.alert(), Some(Alert::CertificateRequired));
        assert_eq!(outcome.server, Err(rustls::Error::NoCertificatesPresented));
        assert_eq!(outcome.refusal, None);
    }
}

#[test]
fn a_stale_list_gets_unknown_ca_and_says_whose_list_and_since_when() {
    let world = World::new();
    let device = world.device("d");
    let old = CrlProfile::new(1, NOW - time::Duration::days(60), 30, &[]);
    let listener = build(&world.sources_with(&[&world.issuing.crl(&old).unwrap()]), &options());
    let outcome = handshake(&listener, &world.client(TLS13, &device));
    assert_eq!(outcome.alert(), Some(Alert::UnknownCA));
    let since = (NOW - time::Duration::days(30)).unix_timestamp().unsigned_abs();
    assert!(
        matches!(outcome.failure(), Some(VerifyFailure::CrlStale { issuer, next_update, .. })
            if issuer == "CN=Issuing" && *next_update == since),
        "{:?}",
        outcome.failure()
    );
}

#[test]
fn a_chain_of_eight_certificates_is_looked_at_and_one_of_nine_is_not() {
    let world = World::new();
    let leaf = world.device("d");
    let with_junk = |count: usize| {
        let mut chain = leaf.chain();
        chain.resize(count, world.server.certificate().to_vec());
        world.listener().judge(&ders(&chain), super::support::unix(NOW))
    };
    with_junk(8).unwrap();
    let failure = with_junk(9).unwrap_err();
    assert_eq!(
        failure,
        VerifyFailure::TooManyCertificates { count: 9, max: DeviceVerifier::CERTIFICATES_MAX }
    );
}

#[test]
fn a_chain_of_more_than_32_kib_is_not_looked_at() {
    let world = World::new();
    let leaf = world.device("d");
    let chain = [leaf.certificate().to_vec(), vec![0; DeviceVerifier::CHAIN_BYTES_MAX]];
    let failure = world.listener().judge(&ders(&chain), super::support::unix(NOW)).unwrap_err();
    assert_eq!(failure.metric_label(), "chain_too_long");
    let client = world.client_with(TLS12, Some((ders(&chain), leaf.key())));
    assert_eq!(handshake(&world.listener(), &client.into()).alert(), Some(Alert::BadCertificate));
}

#[test]
fn an_expired_anchor_is_called_an_authority_that_expired() {
    let world = World::new();
    let old = signet_certs_dev::Authority::root("Old", KeyKind::P256, Validity::past(NOW)).unwrap();
    let leaf = old.issue(&LeafProfile::device("d", days(90))).unwrap();
    let mut sources = world.sources();
    sources.client_ca.push(Source::new("old.crt", old.certificate_pem()));
    let listener = build(&sources, &options());
    let failure = judge(&listener, &leaf).unwrap_err();
    assert!(matches!(failure, VerifyFailure::Expired { which: Which::Authority, .. }), "{failure}");
}
