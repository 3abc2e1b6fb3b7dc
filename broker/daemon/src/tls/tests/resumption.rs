//! Sessions that are resumed carry their certificate along without its being looked at, so we look.

use rustls::HandshakeKind::{Full, Resumed};
use signet_certs_dev::LeafProfile;
use time::Duration;

use super::support::{BOTH, NOW, World, build, days, handshake, options, root, unix};
use crate::tls::{Source, TlsListener, TlsOptions};

fn with_tickets() -> TlsOptions {
    TlsOptions { session_tickets: 1, ..options() }
}

#[test]
fn by_default_nothing_is_resumed() {
    let world = World::new();
    let listener = world.listener();
    for version in BOTH {
        let client = world.client(version, &world.device("d"));
        let kinds = [handshake(&listener, &client).kind, handshake(&listener, &client).kind];
        assert_eq!(kinds, [Some(Full), Some(Full)], "{version:?}");
    }
}

#[test]
fn a_resumed_session_is_judged_and_good() {
    let world = World::new();
    let listener = build(&world.sources(), &with_tickets());
    for version in BOTH {
        let client = world.client(version, &world.device("d"));
        handshake(&listener, &client).succeeded();
        let again = handshake(&listener, &client);
        assert_eq!(again.kind, Some(Resumed), "{version:?}");
        listener.judge(&again.chain, unix(NOW)).unwrap();
    }
}

#[test]
fn a_revoked_device_resumes_and_is_refused_by_the_judgement() {
    let world = World::new();
    for version in BOTH {
        let device = world.device("d");
        let before = build(&world.sources_with(&[&world.crl(1, &[])]), &with_tickets());
        let client = world.client(version, &device);
        handshake(&before, &client).succeeded();
        let sources = world.sources_with(&[&world.crl(2, &[&device])]);
        let (after, _) = TlsListener::build(&sources, &with_tickets(), Some(&before), unix(NOW)).unwrap();
        let again = handshake(&after, &client);
        assert_eq!(again.kind, Some(Resumed), "lists alone keep the sessions: {version:?}");
        let failure = after.judge(&again.chain, unix(NOW)).unwrap_err();
        assert_eq!(failure.metric_label(), "revoked");
    }
}

#[test]
fn a_certificate_that_expired_meanwhile_is_refused_by_the_judgement() {
    let world = World::new();
    for version in BOTH {
        let device = world.issuing.issue(&LeafProfile::device("d", days(1))).unwrap();
        let listener = build(&world.sources(), &with_tickets());
        let client = world.client(version, &device);
        handshake(&listener, &client).succeeded();
        let again = handshake(&listener, &client);
        assert_eq!(again.kind, Some(Resumed));
        let later = unix(NOW + Duration::days(2));
        assert_eq!(listener.judge(&again.chain, later).unwrap_err().metric_label(), "expired");
    }
}

#[test]
fn sessions_do_not_outlive_the_authorities_that_they_began_under() {
    let world = World::new();
    for version in BOTH {
        let before = build(&world.sources(), &with_tickets());
        let client = world.client(version, &world.device("d"));
        handshake(&before, &client).succeeded();
        let mut sources = world.sources();
        sources.client_ca.push(Source::new("new.crt", root("New").certificate_pem()));
        let (after, _) = TlsListener::build(&sources, &with_tickets(), Some(&before), unix(NOW)).unwrap();
        let again = handshake(&after, &client);
        again.succeeded();
        assert_eq!(again.kind, Some(Full), "{version:?}");
    }
}

#[test]
fn one_listeners_session_is_not_resumed_at_another() {
    let world = World::new();
    for version in BOTH {
        let (one, other) =
            (build(&world.sources(), &with_tickets()), build(&world.sources(), &with_tickets()));
        let client = world.client(version, &world.device("d"));
        handshake(&one, &client).succeeded();
        assert_eq!(handshake(&other, &client).kind, Some(Full), "{version:?}");
    }
}

#[test]
fn a_session_without_a_certificate_is_refused() {
    let world = World::new();
    assert_eq!(world.listener().judge(&[], unix(NOW)).unwrap_err().metric_label(), "no_certificate");
}
