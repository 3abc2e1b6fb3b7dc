//! The configuration of a listener: versions, suites, protocol names, record sizes, and its own certificate.

use std::num::NonZeroU16;
use std::sync::Arc;

use rustls::{ClientConfig, NamedGroup};
use signet_certs_dev::{LeafProfile, Purpose, Validity};
use time::Duration;

use super::support::{BOTH, NOW, TLS12, TLS13, World, build, days, handshake, options, unix};
use crate::tls::hello::ClientHello;
use crate::tls::{
    ListenerSources, Source, SourceProblem, TlsListener, TlsOptions, TlsVersions, TrustWarning,
};

fn edited(config: &Arc<ClientConfig>, edit: impl FnOnce(&mut ClientConfig)) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    edit(&mut config);
    Arc::new(config)
}

#[track_caller]
fn problem(sources: &ListenerSources) -> SourceProblem {
    let mut errors = TlsListener::build(sources, &options(), None, unix(NOW)).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0).problem
}

#[test]
fn only_the_configured_versions_are_spoken() {
    let world = World::new();
    let device = world.device("d");
    let spoken = |versions| {
        let listener = build(&world.sources(), &TlsOptions { versions, ..options() });
        BOTH.map(|version| handshake(&listener, &world.client(version, &device)).kind.is_some())
    };
    assert_eq!(spoken(TlsVersions::V12AndV13), [true, true]);
    assert_eq!(spoken(TlsVersions::V12), [true, false]);
    assert_eq!(spoken(TlsVersions::V13), [false, true]);
}

#[test]
fn both_protocol_names_are_answered_and_none_is_needed() {
    let world = World::new();
    let listener = world.listener();
    for version in BOTH {
        let client = world.client(version, &world.device("d"));
        let answered = |names: &[&str]| {
            let names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            let outcome = handshake(&listener, &edited(&client, |config| config.alpn_protocols = names));
            outcome.succeeded();
            outcome.alpn.map(|name| String::from_utf8(name).unwrap())
        };
        assert_eq!(answered(&[]), None);
        assert_eq!(answered(&["mqtt"]).as_deref(), Some("mqtt"));
        assert_eq!(answered(&["x-amzn-mqtt-ca"]).as_deref(), Some("x-amzn-mqtt-ca"));
        assert_eq!(answered(&["h2", "mqtt"]).as_deref(), Some("mqtt"));
        assert_eq!(answered(&["h2", "http/1.1"]), None);
    }
}

#[test]
fn aes_128_comes_first_whatever_the_client_prefers() {
    use rustls::CipherSuite as Suite;
    let world = World::new();
    let device = world.device("d");
    let listener = world.listener();
    let chosen = |version| {
        let name = "localhost".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(world.client(version, &device), name).unwrap();
        let config = listener.server_config(None);
        let mut server = rustls::ServerConnection::new(config).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        server.read_tls(&mut hello.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        server.negotiated_cipher_suite().map(|suite| suite.suite())
    };
    assert_eq!(chosen(TLS13), Some(Suite::TLS13_AES_128_GCM_SHA256));
    assert_eq!(chosen(TLS12), Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256));
}

#[test]
fn the_hybrid_group_is_offered_first_or_not_at_all() {
    let world = World::new();
    let groups = |post_quantum| -> Vec<NamedGroup> {
        let listener = build(&world.sources(), &TlsOptions { post_quantum, ..options() });
        let config = listener.server_config(None);
        config.crypto_provider().kx_groups.iter().map(|group| group.name()).collect()
    };
    let classic = [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];
    assert_eq!(groups(false), classic);
    assert_eq!(groups(true)[0], NamedGroup::X25519MLKEM768);
    assert_eq!(groups(true)[1..], classic);
}

#[test]
fn records_are_no_larger_than_the_listener_says() {
    let world = World::new();
    let device = world.device("d");
    for version in BOTH {
        for bytes in [128, 512, 1000] {
            let fragment_bytes_max = NonZeroU16::new(bytes).unwrap();
            let listener = build(&world.sources(), &TlsOptions { fragment_bytes_max, ..options() });
            let outcome = handshake(&listener, &world.client(version, &device));
            outcome.succeeded();
            let largest = *outcome.server_records.iter().max().unwrap();
            // Plaintext, plus what encryption adds: content type, tag, and in TLS 1.2 the explicit nonce.
            assert!(largest <= usize::from(bytes) + 24, "{version:?}: {largest} of {bytes}");
            assert!(largest + 24 >= usize::from(bytes), "nothing was cut: {version:?}: {largest} of {bytes}");
        }
    }
}

#[test]
fn a_client_gets_the_size_that_it_asks_for_or_the_listeners_if_that_is_less() {
    let world = World::new();
    let sizes = |own: u16| {
        let fragment_bytes_max = NonZeroU16::new(own).unwrap();
        let listener = build(&world.sources(), &TlsOptions { fragment_bytes_max, ..options() });
        [None, Some(300), Some(512), Some(1023), Some(1024), Some(4096), Some(16_384)].map(|limit| {
            let hello = ClientHello { max_fragment_length: limit, ..ClientHello::default() };
            listener.server_config(Some(&hello)).max_fragment_size.unwrap() - 5
        })
    };
    assert_eq!(sizes(16_384), [16_384, 512, 512, 512, 1024, 4096, 16_384]);
    assert_eq!(sizes(1000), [1000, 512, 512, 1000, 1000, 1000, 1000]);
    assert_eq!(sizes(200), [200; 7]);
}

#[test]
fn the_extended_master_secret_is_required_only_where_sessions_are_resumed() {
    let world = World::new();
    let required = |session_tickets| {
        build(&world.sources(), &TlsOptions { session_tickets, ..options() }).server_config(None).require_ems
    };
    assert_eq!((required(0), required(1)), (false, true));
}

#[test]
fn tickets_are_sent_as_configured() {
    let world = World::new();
    for session_tickets in [0, 1, 2] {
        let listener = build(&world.sources(), &TlsOptions { session_tickets, ..options() });
        let config = listener.server_config(None);
        assert_eq!(config.send_tls13_tickets, usize::from(session_tickets));
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.ticketer.enabled());
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let world = World::new();
    let mut sources = world.sources();
    sources.private_key = Source::new("other.key", world.device("d").key_pem());
    let certificate = "server.crt".to_owned();
    assert_eq!(problem(&sources), SourceProblem::KeyMismatch { certificate });
}

#[test]
fn broken_keys_are_refused_each_with_its_reason() {
    let world = World::new();
    let with_key = |text: &str| {
        let mut sources = world.sources();
        sources.private_key = Source::new("server.key", text);
        problem(&sources)
    };
    assert_eq!(with_key(""), SourceProblem::Empty);
    assert_eq!(with_key("nothing here"), SourceProblem::NoKey);
    assert_eq!(with_key(&world.server.certificate_pem()), SourceProblem::NoKey);
    let twice = world.server.key_pem() + &world.server.key_pem();
    assert_eq!(with_key(&twice), SourceProblem::SeveralKeys);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(with_key(encrypted), SourceProblem::KeyEncrypted);
    let garbage = "-----BEGIN PRIVATE KEY-----\nMAMCAQA=\n-----END PRIVATE KEY-----\n";
    assert_eq!(with_key(garbage), SourceProblem::KeyUnusable);
}

#[test]
fn broken_server_certificates_are_refused_each_with_its_reason() {
    let world = World::new();
    let with = |profile: &LeafProfile| {
        let server = world.issuing.issue(profile).unwrap();
        let mut sources = world.sources();
        sources.certificate = Source::new("server.crt", server.chain_pem());
        sources.private_key = Source::new("server.key", server.key_pem());
        problem(&sources)
    };
    let expired = with(&LeafProfile::localhost(Validity::past(NOW)));
    assert_eq!(expired, SourceProblem::ServerExpired { ago: "24 hours".into() });
    let early = with(&LeafProfile::localhost(Validity::future(NOW)));
    assert!(matches!(early, SourceProblem::ServerNotYetValid { .. }));
    let client_only = with(&LeafProfile::localhost(days(9)).with_purposes(&[Purpose::ClientAuth]));
    assert_eq!(client_only, SourceProblem::ServerNotForServers);
    let mut sources = world.sources();
    sources.certificate = Source::new("server.crt", world.issuing.certificate_pem());
    sources.private_key =
        Source::new("server.key", crate::tls::Source::new("", world.issuing.key()).bytes.to_vec());
    assert_eq!(problem(&sources), SourceProblem::ServerIsAuthority);
    sources.certificate = Source::new("server.crt", "no certificate");
    assert_eq!(problem(&sources), SourceProblem::Nothing { expected: "certificate" });
}

#[test]
fn every_problem_is_reported_at_once() {
    let world = World::new();
    let mut sources = world.sources();
    sources.private_key = Source::new("server.key", "");
    sources.client_ca = vec![Source::new("a.crt", ""), Source::new("b.crt", world.server.certificate_pem())];
    let errors = TlsListener::build(&sources, &options(), None, unix(NOW)).unwrap_err();
    let files: Vec<_> = errors.iter().map(|error| error.file.as_str()).collect();
    assert_eq!(files, ["server.key", "a.crt", "b.crt"]);
}

#[test]
fn an_expired_server_certificate_in_force_does_not_keep_a_revocation_out() {
    let world = World::new();
    let device = world.device("d");
    let before = build(&world.sources_with(&[]), &options());
    let later = NOW + Duration::days(100);
    let crl =
        world.issuing.crl(&signet_certs_dev::CrlProfile::new(1, later, 30, &[device.serial()])).unwrap();
    let sources = world.sources_with(&[&crl]);
    let (after, warnings) = TlsListener::build(&sources, &options(), Some(&before), unix(later)).unwrap();
    assert!(
        matches!(&warnings[..], [TrustWarning::ServerEnds { left_secs, .. }] if *left_secs < 0),
        "{warnings:?}"
    );
    assert_eq!(super::support::judge(&after, &device).unwrap_err().metric_label(), "revoked");
}

#[test]
fn a_server_certificate_that_ends_soon_is_warned_of() {
    let mut world = World::new();
    world.server = world.issuing.issue(&LeafProfile::localhost(days(5))).unwrap();
    let (listener, warnings) = TlsListener::build(&world.sources(), &options(), None, unix(NOW)).unwrap();
    assert!(matches!(&warnings[..], [TrustWarning::ServerEnds { .. }]), "{warnings:?}");
    assert_eq!(listener.certificate_not_after(), days(5).not_after.unix_timestamp());
}

#[test]
fn a_key_that_does_not_fit_fails_the_trial_in_both_versions() {
    let world = World::new();
    let listener = world.listener();
    let config = listener.server_config(None);
    let certified = |leaf: &signet_certs_dev::Leaf, key: &[u8]| {
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.to_vec()).unwrap();
        let key = config.crypto_provider().key_provider.load_private_key(key).unwrap();
        rustls::sign::CertifiedKey::new(super::support::ders(&leaf.chain()), key)
    };
    let tried = |key: rustls::sign::CertifiedKey, versions| {
        let mut config = rustls::ServerConfig::clone(&config);
        config.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key.clone()));
        crate::tls::selftest::self_test(&config, versions, crate::tls::Inside::Mqtt, &key)
    };
    let other = world.device("other");
    for versions in [TlsVersions::V12, TlsVersions::V13] {
        tried(certified(&world.server, world.server.key()), versions).unwrap();
        let problem = tried(certified(&world.server, other.key()), versions).unwrap_err();
        assert!(matches!(problem, SourceProblem::SelfTest { .. }), "{problem}");
    }
}

#[test]
fn the_content_hash_changes_with_every_file() {
    let world = World::new();
    let first = world.sources_with(&[&world.crl(1, &[])]);
    let hash = first.content_hash();
    assert_eq!(build(&first, &options()).content_hash(), hash);
    let changes: [fn(&mut ListenerSources); 4] = [
        |sources| sources.certificate.bytes.push(b'\n'),
        |sources| sources.private_key.bytes.push(b'\n'),
        |sources| sources.client_ca[1].bytes.push(b'\n'),
        |sources| sources.crl[0].bytes.push(b'\n'),
    ];
    for change in changes {
        let mut changed = first.clone();
        change(&mut changed);
        assert_ne!(changed.content_hash(), hash);
    }
}
