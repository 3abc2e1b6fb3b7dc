//! Last-seen data: written by and by, and at the end.

use std::net::{IpAddr, Ipv4Addr};

use signet_registry::TlsVersion;

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

#[test]
fn what_was_seen_is_there_after_a_stop() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    let held = authority.issue(&service, "sensor-1");
    assert_eq!(service.seen(&held.id, ADDRESS, TlsVersion::V12), None);
    let before = service.seen(&held.id, ADDRESS, TlsVersion::V13).unwrap();
    assert_eq!((before.connects, before.tls), (1, TlsVersion::V12));
    let seen = service.last_seen(&held.id).unwrap();
    assert_eq!((seen.connects, seen.tls, seen.address, seen.last), (2, TlsVersion::V13, ADDRESS, NOW));
    let events = service.head().seq;
    drop(service);
    let service = home.open();
    assert_eq!(service.last_seen(&held.id), Some(seen));
    assert_eq!(service.head().seq, events, "it is no event");
}

#[test]
fn nothing_is_kept_of_certificates_that_the_registry_does_not_know() {
    let home = Home::new();
    let service = home.open();
    let stranger = CertificateId::of(b"a stranger");
    service.seen(&stranger, ADDRESS, TlsVersion::V13);
    drop(service);
    assert_eq!(home.open().last_seen(&stranger), None);
}

#[test]
fn what_was_seen_goes_with_its_certificate() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    let certificate = authority.sign();
    let id = certificate.facts().id;
    // Pending and nobody's: the one that may be deleted at once.
    let claim = authority.sign();
    let asker = claim.facts().id;
    let template = signet_registry::TemplateSpec {
        name: signet_identity::TemplateName::try_from("fleet").unwrap(),
        kind: signet_registry::TemplateKind::Fleet,
        enabled: true,
        keys: false,
        body: "{}".into(),
    };
    let spec = signet_registry::ClaimSpec {
        name: name("claim-1"),
        templates: vec![template.name.clone()],
        devices_max: None,
        until: None,
        from: Vec::new(),
        listed_only: false,
        keys: false,
    };
    service.execute(Command::SetTemplate(template), operator()).unwrap();
    service.execute(Command::CreateClaim { claim: spec, certificate: claim }, operator()).unwrap();
    let token = signet_registry::TokenHash::of(b"token");
    let until = NOW.after(Duration::from_secs(60));
    service.execute(Command::BeginEnrolment { certificate, asker, token, until }, operator()).unwrap();
    service.seen(&id, ADDRESS, TlsVersion::V13);
    assert!(service.last_seen(&id).is_some());
    service.execute(Command::DeleteCertificate(id), operator()).unwrap();
    assert_eq!(service.last_seen(&id), None);
    drop(service);
    assert_eq!(home.open().last_seen(&id), None);
}
