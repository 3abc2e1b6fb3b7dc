//! Certificates of X.509 version 1, as plain `openssl x509 -req` of OpenSSL 3.0 makes: clients' own and the
//! server's.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    AlertDescription as Alert, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use signet_certs_dev::{
    Authority, CrlProfile, Extension, Extensions, KeyKind, Leaf, LeafProfile, Purpose, Validity,
};
use signet_identity::{IdentitySource, NameRule, identify};
use std::sync::Arc;

use super::support::{
    BOTH, NOW, Outcome, World, build, days, ders, handshake, judge, load, long, options, root, unix,
};
use crate::tls::{
    EkuRule, Ended, FailureCause, FailureContext, FailureRecord, Source, SourceProblem, TlsListener,
    TlsOptions, TrustOptions, TrustWarning, VerifyFailure, X509V1, hello::Progress,
};

const ACCEPT: TrustOptions = TrustOptions {
    x509_v1: X509V1::Accept,
    eku: EkuRule::IfPresent,
    stale: crate::tls::StaleCrl::Reject,
    coverage: crate::tls::CrlCoverage::Leaf,
    expired_grace: std::time::Duration::ZERO,
};

fn with(trust: TrustOptions) -> TlsOptions {
    TlsOptions { trust, ..options() }
}

/// Root and issuing authority are anchors, and version 1 is accepted.
fn accepting(world: &World) -> TlsListener {
    build(&world.sources_with(&[]), &with(ACCEPT))
}

fn version_1(issuer: &Authority, profile: &LeafProfile) -> Leaf {
    issuer.issue_version_1(profile, Extensions::Dropped).unwrap()
}

fn device(issuer: &Authority, name: &str) -> Leaf {
    version_1(issuer, &LeafProfile::device(name, days(90)))
}

/// Has `leaf` refused over both versions of TLS.
#[track_caller]
fn refused(world: &World, listener: &TlsListener, leaf: &Leaf, alert: Alert, label: &str) {
    for version in BOTH {
        let outcome = handshake(listener, &world.client(version, leaf));
        let failure = outcome.failure().expect("a refusal is kept");
        assert_eq!(failure.metric_label(), label, "{version:?}: {failure}");
        assert_eq!(outcome.alert(), Some(alert), "{version:?}");
        assert!(outcome.kind.is_none(), "{version:?}");
    }
    assert_eq!(judge(listener, leaf).unwrap_err().metric_label(), label);
    assert!(listener.verifier().cache().is_empty(), "a refused certificate was cached");
}

#[test]
fn a_leaf_of_version_1_below_an_anchor_is_admitted_where_the_listener_says_so() {
    let world = World::new();
    for issuer in [&world.root, &world.issuing] {
        for key in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048] {
            let leaf = version_1(issuer, &LeafProfile::device("sensor-001", days(90)).with_key(key));
            for version in BOTH {
                let listener = accepting(&world);
                let outcome = handshake(&listener, &world.client(version, &leaf));
                outcome.succeeded();
                let judged = listener.judge(&outcome.chain, unix(NOW)).unwrap();
                assert_eq!(listener.verifier().cache().len(), 1, "judged anew");
                assert_eq!(judged.not_after(), days(90).not_after.unix_timestamp());
                let named = identify(&outcome.chain[0], IdentitySource::Cn, &NameRule::default()).unwrap();
                assert_eq!((&*named.name, named.certificate), ("sensor-001", judged.certificate()));
            }
        }
    }
}

#[test]
fn issuers_with_other_keys_may_have_signed() {
    let world = World::new();
    for key in [KeyKind::P384, KeyKind::Rsa2048, KeyKind::Rsa4096] {
        let other = Authority::root("Other", key, long()).unwrap();
        let mut sources = world.sources();
        sources.client_ca.push(Source::new("other.crt", other.certificate_pem()));
        let listener = build(&sources, &with(ACCEPT));
        handshake(&listener, &world.client(BOTH[1], &device(&other, "d"))).succeeded();
    }
}

#[test]
fn by_default_it_is_refused_and_the_hint_names_the_switch() {
    let world = World::new();
    let leaf = device(&world.issuing, "d");
    let lax = with(TrustOptions { eku: EkuRule::IfPresent, ..TrustOptions::default() });
    for options in [options(), lax] {
        let listener = build(&world.sources_with(&[]), &options);
        refused(&world, &listener, &leaf, Alert::UnsupportedCertificate, "version_one");
        let outcome = handshake(&listener, &world.client(BOTH[1], &leaf));
        let error = outcome.server.unwrap_err();
        let context = FailureContext {
            at_ms: 0,
            peer: "192.0.2.1:5".parse().unwrap(),
            listener: "l",
            hello: &Progress::Complete(outcome.hello.unwrap()),
            received: true,
            flight_sent: true,
            fragment_bytes_max: 16_384,
            version: None,
            refusal: outcome.refusal.as_ref(),
        };
        let record = FailureRecord::new(&context, Ended::Tls(&error));
        assert_eq!(record.cause, FailureCause::CertificateVersionOne);
        assert!(record.reason.contains("X.509 version 1"), "{}", record.reason);
        assert!(record.hint.contains("x509-v1") && record.hint.contains("-extfile"), "{}", record.hint);
        assert_eq!(record.certificate.unwrap().subject, "CN=d");
        assert_eq!(record.alert.unwrap().name, "unsupported_certificate");
    }
}

#[test]
fn without_an_extended_key_usage_it_needs_a_listener_that_asks_for_none() {
    let world = World::new();
    let strict = with(TrustOptions { eku: EkuRule::Required, ..ACCEPT });
    let listener = build(&world.sources_with(&[]), &strict);
    refused(&world, &listener, &device(&world.issuing, "d"), Alert::UnsupportedCertificate, "wrong_purpose");
}

#[test]
fn a_client_without_the_key_is_refused_over_both_versions() {
    let world = World::new();
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048] {
        let profile = |name| LeafProfile::device(name, days(90)).with_key(kind);
        let victim = version_1(&world.issuing, &profile("victim"));
        let thief = version_1(&world.issuing, &profile("thief"));
        let listener = accepting(&world);
        for version in BOTH {
            let stolen = Some((ders(&victim.chain()), thief.key()));
            let outcome = handshake(&listener, &world.client_with(version, stolen).into());
            assert_eq!(outcome.failure(), Some(&VerifyFailure::NotTheKeyHolder), "{version:?} {kind:?}");
            assert_eq!(outcome.alert(), Some(Alert::DecryptError), "{version:?} {kind:?}");
            assert!(outcome.kind.is_none());
        }
    }
}

#[test]
fn another_key_under_the_issuers_name_is_refused() {
    let world = World::new();
    let namesake = root("Root");
    refused(&world, &accepting(&world), &device(&namesake, "d"), Alert::UnknownCA, "namesake_issuer");
}

#[test]
fn an_unknown_issuer_is_refused() {
    let world = World::new();
    let foreign = root("Foreign");
    refused(&world, &accepting(&world), &device(&foreign, "d"), Alert::UnknownCA, "unknown_issuer");
}

#[test]
fn of_two_anchors_with_one_name_either_may_have_signed() {
    let world = World::new();
    let (old, new) = (root("Rolling"), root("Rolling"));
    let mut sources = world.sources();
    sources.client_ca.push(Source::new("old.crt", old.certificate_pem()));
    sources.client_ca.push(Source::new("new.crt", new.certificate_pem()));
    let listener = build(&sources, &with(ACCEPT));
    for authority in [&old, &new] {
        judge(&listener, &device(authority, "d")).unwrap();
    }
    assert_eq!(
        judge(&listener, &device(&root("Rolling"), "d")).unwrap_err().metric_label(),
        "namesake_issuer"
    );
}

#[test]
fn below_an_intermediate_that_only_the_client_sends_it_is_refused() {
    let world = World::new();
    let listener = build(&world.sources(), &with(ACCEPT));
    let leaf = device(&world.issuing, "d");
    refused(&world, &listener, &leaf, Alert::UnknownCA, "version_one_below_intermediate");
    let issuer = "CN=Issuing".to_owned();
    assert_eq!(judge(&listener, &leaf).unwrap_err(), VerifyFailure::VersionOneBelowIntermediate { issuer });
    // Where it is not sent either, it is merely unknown.
    let alone = listener.judge(&ders(&leaf.chain()[..1]), unix(NOW)).unwrap_err();
    assert_eq!(alone, VerifyFailure::UnknownIssuer { missing: "CN=Issuing".into() });
    // A certificate of version 3 from there is admitted by the same listener.
    judge(&listener, &world.device("d")).unwrap();
}

#[test]
fn outside_its_validity_it_is_refused() {
    let world = World::new();
    for (validity, label) in [(Validity::past(NOW), "expired"), (Validity::future(NOW), "not_yet_valid")] {
        let leaf = version_1(&world.issuing, &LeafProfile::device("d", validity));
        refused(&world, &accepting(&world), &leaf, Alert::CertificateExpired, label);
    }
    let listener = accepting(&world);
    let chain = ders(&device(&world.issuing, "d").chain());
    let (begin, end) = (days(90).not_before, days(90).not_after);
    let second = time::Duration::SECOND;
    // Twice, so that the cache judges the second time.
    for _ in 0..2 {
        let labels = [begin - second, begin, end, end + second].map(|moment| {
            listener.judge(&chain, unix(moment)).map_or_else(|failure| failure.metric_label(), |_| "good")
        });
        assert_eq!(labels, ["not_yet_valid", "good", "good", "expired"]);
    }
}

#[test]
fn an_expired_anchor_admits_nobody_and_one_that_ends_soon_bounds_the_connection() {
    let world = World::new();
    let old = Authority::root("Old", KeyKind::P256, Validity::past(NOW)).unwrap();
    let short = Authority::root("Short", KeyKind::P256, days(10)).unwrap();
    let mut sources = world.sources();
    sources.client_ca.push(Source::new("old.crt", old.certificate_pem()));
    sources.client_ca.push(Source::new("short.crt", short.certificate_pem()));
    let listener = TlsListener::build(&sources, &with(ACCEPT), None, unix(NOW)).unwrap().0;
    let failure = judge(&listener, &device(&old, "d")).unwrap_err();
    assert!(
        matches!(failure, VerifyFailure::Expired { which: crate::tls::Which::Authority, .. }),
        "{failure}"
    );
    let judged = judge(&listener, &device(&short, "d")).unwrap();
    assert_eq!(judged.not_after(), days(10).not_after.unix_timestamp());
}

#[test]
fn a_revoked_one_is_refused_and_one_that_was_admitted_too() {
    let world = World::new();
    let (bad, good) = (device(&world.issuing, "bad"), device(&world.issuing, "good"));
    let before = accepting(&world);
    let judged = judge(&before, &bad).unwrap();
    let list = world.crl(1, &[&bad]);
    let sources = world.sources_with(&[&list]);
    let after = TlsListener::build(&sources, &with(ACCEPT), Some(&before), unix(NOW)).unwrap().0;
    assert_eq!(after.judge_again(&judged, unix(NOW)).unwrap_err().metric_label(), "revoked");
    judge(&after, &good).unwrap();
    for version in BOTH {
        let outcome = handshake(&after, &world.client(version, &bad));
        assert_eq!(outcome.failure().map(VerifyFailure::metric_label), Some("revoked"));
        assert_eq!(outcome.alert(), Some(Alert::CertificateRevoked));
        handshake(&after, &world.client(version, &good)).succeeded();
    }
    // The root has no list, so what it issued has no known standing.
    assert_eq!(judge(&after, &device(&world.root, "d")).unwrap_err().metric_label(), "crl_missing");
    let stale = world.issuing.crl(&CrlProfile::new(2, NOW - time::Duration::days(60), 30, &[])).unwrap();
    let stale = build(&world.sources_with(&[&stale]), &with(ACCEPT));
    assert_eq!(judge(&stale, &good).unwrap_err().metric_label(), "crl_stale");
}

#[test]
fn when_the_switch_goes_back_the_cache_and_live_connections_follow() {
    let world = World::new();
    let (old, new) = (device(&world.issuing, "old"), world.device("new"));
    let before = accepting(&world);
    let (old_judged, new_judged) = (judge(&before, &old).unwrap(), judge(&before, &new).unwrap());
    let refuse = with(TrustOptions { x509_v1: X509V1::Refuse, ..ACCEPT });
    let after = TlsListener::build(&world.sources_with(&[]), &refuse, Some(&before), unix(NOW)).unwrap().0;
    assert_eq!(after.trust().generation(), 2);
    assert_eq!(judge(&after, &old).unwrap_err(), VerifyFailure::VersionOne);
    assert_eq!(after.judge_again(&old_judged, unix(NOW)).unwrap_err(), VerifyFailure::VersionOne);
    judge(&after, &new).unwrap();
    after.judge_again(&new_judged, unix(NOW)).unwrap();
}

#[test]
fn keys_that_are_not_accepted_are_not_accepted_in_version_1_either() {
    let world = World::new();
    let listener = accepting(&world);
    for key in [KeyKind::P521, KeyKind::Ed25519] {
        let leaf = version_1(&world.issuing, &LeafProfile::device("d", days(90)).with_key(key));
        assert_eq!(judge(&listener, &leaf).unwrap_err().metric_label(), "weak_or_unknown_key", "{key:?}");
    }
}

#[test]
fn a_signature_of_a_kind_that_is_not_accepted_is_refused() {
    let world = World::new();
    for key in [KeyKind::P521, KeyKind::Ed25519] {
        let other = Authority::root("Other", key, long()).unwrap();
        let mut sources = world.sources();
        sources.client_ca.push(Source::new("other.crt", other.certificate_pem()));
        let listener = build(&sources, &with(ACCEPT));
        let failure = judge(&listener, &device(&other, "d")).unwrap_err();
        assert!(matches!(failure, VerifyFailure::SignatureNotAccepted { .. }), "{key:?}: {failure}");
    }
}

#[test]
fn extensions_in_version_1_are_refused() {
    let world = World::new();
    let profile = LeafProfile::device("d", days(90)).with_purposes(&[Purpose::ServerAuth]);
    let leaf = world.issuing.issue_version_1(&profile, Extensions::Kept).unwrap();
    refused(&world, &accepting(&world), &leaf, Alert::BadCertificate, "unparsable");
}

#[test]
fn no_single_changed_byte_is_taken_for_the_same() {
    let world = World::new();
    let leaf = device(&world.issuing, "d");
    let listener = accepting(&world);
    judge(&listener, &leaf).unwrap();
    for at in 0..leaf.certificate().len() {
        let mut der = leaf.certificate().to_vec();
        der[at] ^= 1;
        assert!(listener.judge(&ders(&[der]), unix(NOW)).is_err(), "byte {at} counts for nothing");
    }
    let longer = [leaf.certificate(), &[0]].concat();
    assert!(listener.judge(&ders(&[longer]), unix(NOW)).is_err());
}

#[test]
fn bytes_after_the_signature_are_refused() {
    let world = World::new();
    let leaf = device(&world.issuing, "d");
    let [0x30, 0x82, high, low, fields @ ..] = leaf.certificate() else { panic!("a long SEQUENCE") };
    let length = u16::from_be_bytes([*high, *low]) + 2;
    let padded = [&[0x30, 0x82][..], &length.to_be_bytes(), fields, &[0x05, 0x00]].concat();
    let failure = accepting(&world).judge(&ders(&[padded]), unix(NOW)).unwrap_err();
    assert_eq!(failure.metric_label(), "unparsable", "{failure}");
}

#[test]
fn a_leaf_of_version_1_is_no_authority() {
    let world = World::new();
    let listener = accepting(&world);
    let authority = device(&world.issuing, "d").misused_as_authority().unwrap();
    let below =
        [authority.issue(&LeafProfile::device("below", days(30))).unwrap(), device(&authority, "below")];
    for leaf in &below {
        for version in BOTH {
            let outcome = handshake(&listener, &world.client(version, leaf));
            assert!(outcome.failure().is_some() && outcome.kind.is_none(), "{outcome:?}");
        }
    }
    assert!(listener.verifier().cache().is_empty());
}

#[test]
fn an_anchor_of_version_1_is_refused_with_the_way_out() {
    let old = root("Old");
    let pem = Source::new("old.crt", old.certificate_version_1().unwrap());
    let world = World::new();
    let mut sources = world.sources();
    sources.client_ca.push(pem);
    for trust in [TrustOptions::default(), ACCEPT] {
        let errors = TlsListener::build(&sources, &with(trust), None, unix(NOW)).unwrap_err();
        let subject = "CN=Old".to_owned();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].problem, SourceProblem::AnchorVersionOne { subject });
        assert!(errors[0].to_string().contains("openssl req -x509"), "{}", errors[0]);
    }
    // The way out: version 3 of the same name and key. What was issued before stays good.
    let good = load(&[old.certificate_pem()], &[], ACCEPT, None).unwrap().0;
    assert_eq!(good.anchor_subjects().collect::<Vec<_>>(), ["CN=Old"]);
}

#[test]
fn an_authority_with_name_constraints_issues_none() {
    // permittedSubtrees: directoryName with the one common name "d".
    const CONSTRAINTS: &[u8] = &[
        0x30, 0x16, 0xa0, 0x14, 0x30, 0x12, 0xa4, 0x10, 0x30, 0x0e, 0x31, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55,
        0x04, 0x03, 0x0c, 0x03, b'd', b'-', b'1',
    ];
    let world = World::new();
    let extension = Extension { oid: &[0x55, 0x1d, 0x1e], critical: true, value: CONSTRAINTS };
    let bound = world.root.certificate_with_extension(extension).unwrap();
    let mut sources = world.sources();
    sources.client_ca = vec![Source::new("bound.crt", bound)];
    let listener = build(&sources, &with(ACCEPT));
    let failure = judge(&listener, &device(&world.root, "d-1")).unwrap_err();
    assert!(matches!(failure, VerifyFailure::ChainRules { .. }), "{failure}");
}

/// Takes any server's certificate, and checks that the server has its key.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crate::tls::version_one::verify_tls12_signature(
            message,
            cert,
            dss,
            &crate::tls::provider::CLIENT_SIGNATURES,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crate::tls::version_one::verify_tls13_signature(
            message,
            cert,
            dss,
            &crate::tls::provider::CLIENT_SIGNATURES,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crate::tls::provider::CLIENT_SIGNATURES.supported_schemes()
    }
}

/// A client that takes the server for what it is.
fn dial(
    world: &World,
    listener: &TlsListener,
    version: &'static SupportedProtocolVersion,
    leaf: &Leaf,
) -> Outcome {
    let mut client = ClientConfig::clone(&world.client(version, leaf));
    client.dangerous().set_certificate_verifier(Arc::new(AnyServer));
    handshake(listener, &Arc::new(client))
}

#[test]
fn a_server_certificate_of_version_1_is_served_where_the_listener_says_so() {
    for key in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048] {
        let mut world = World::new();
        world.server = version_1(&world.root, &LeafProfile::localhost(days(90)).with_key(key));
        let sources = world.sources_with(&[]);
        let (listener, warnings) = TlsListener::build(&sources, &with(ACCEPT), None, unix(NOW)).unwrap();
        assert_eq!(warnings, [TrustWarning::ServerVersionOne { file: "server.crt".into() }]);
        for version in BOTH {
            let outcome = dial(&world, &listener, version, &device(&world.issuing, "d"));
            outcome.succeeded();
            dial(&world, &listener, version, &world.device("d")).succeeded();
        }
    }
}

#[test]
fn a_server_certificate_of_version_1_is_refused_by_default_with_the_way_out() {
    let mut world = World::new();
    world.server = version_1(&world.root, &LeafProfile::localhost(days(90)));
    let errors = TlsListener::build(&world.sources(), &options(), None, unix(NOW)).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].problem, SourceProblem::ServerVersionOne);
    let sentence = errors[0].to_string();
    for part in ["version 1", "-extfile", "x509-v1"] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn a_key_that_is_not_that_of_the_version_1_server_certificate_is_refused() {
    let mut world = World::new();
    world.server = version_1(&world.root, &LeafProfile::localhost(days(90)));
    let mut sources = world.sources();
    sources.private_key = Source::new("server.key", world.device("other").key_pem());
    let errors = TlsListener::build(&sources, &with(ACCEPT), None, unix(NOW)).unwrap_err();
    let certificate = "server.crt".to_owned();
    assert_eq!(errors[0].problem, SourceProblem::KeyMismatch { certificate });
    let expired = version_1(&world.root, &LeafProfile::localhost(Validity::past(NOW)));
    let mut sources = world.sources();
    sources.certificate = Source::new("server.crt", expired.certificate_pem());
    sources.private_key = Source::new("server.key", expired.key_pem());
    let errors = TlsListener::build(&sources, &with(ACCEPT), None, unix(NOW)).unwrap_err();
    assert_eq!(errors[0].problem, SourceProblem::ServerExpired { ago: "24 hours".into() });
}
