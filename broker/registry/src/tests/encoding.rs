//! The stored form of events, and certificates as they are read.

use rcgen::{CertificateParams, KeyPair, SerialNumber as RcgenSerial};

use super::*;

fn event(change: Change) -> Event {
    Event { at: START, actor: Actor::Broker, change }
}

#[test]
fn the_stored_form_stays_as_it_is() {
    // What was once written must be read for ever: this text may not change.
    let text = concat!(
        r#"{"v":1,"at":1767225600000,"actor":{"principal":{"role":"claim","name":"line-1","certificate":"#,
        r#""0101010101010101010101010101010101010101010101010101010101010101"}},"#,
        r#""change":{"certificate-revoked":{"certificate":"#,
        r#""0202020202020202020202020202020202020202020202020202020202020202","reason":"key-compromise","cause":"asked"}}}"#
    );
    let change = Change::CertificateRevoked {
        certificate: CertificateId::from_bytes([2; 32]),
        reason: RevocationReason::KeyCompromise,
        cause: Cause::Asked,
    };
    let certificate = CertificateId::from_bytes([1; 32]);
    let actor = Actor::Principal { role: Role::Claim, name: name("line-1"), certificate };
    let event = Event { at: START, actor, change };
    assert_eq!(event.encode(), text);
    assert_eq!(Event::decode(text).unwrap(), event);
    let shown = "2026-01-01T00:00:00Z claim line-1: certificate 0202020202020202 revoked (key-compromise)";
    assert_eq!(event.to_string(), shown);
}

#[test]
fn a_damaged_or_newer_event_is_refused() {
    let text = event(Change::TemplateDeleted { template: template_name("t") }).encode();
    assert!(Event::decode(&text).is_ok());
    let newer = text.replace("\"v\":1", "\"v\":2");
    assert!(matches!(Event::decode(&newer), Err(DecodeError::Newer(2))));
    let newer = newer.replace("template-deleted", "something-new");
    assert!(matches!(Event::decode(&newer), Err(DecodeError::Newer(2))));
    for damaged in [
        text.replace("template-deleted", "something-new"),
        text.replace("\"template\"", "\"name\""),
        text.replace("\"t\"", "\"a.b\""),
        text.replace("\"t\"", "\"t\",\"more\":1"),
        text.replace("\"v\":1,", ""),
        text.replace('}', ""),
        format!("{text} x"),
    ] {
        assert!(matches!(Event::decode(&damaged), Err(DecodeError::Malformed(_))), "{damaged}");
    }
}

#[test]
fn a_name_in_a_certificate_cannot_forge_a_line_of_the_trail() {
    let why = "CN=a\n2026-01-01T00:00:00Z broker: all is well";
    let event = Event::refused(Attempt::Issue, &why, 0, Actor::Unknown("x\ry".into()), START);
    assert!(!event.to_string().contains(['\n', '\r']));
    assert!(Event::decode(&event.encode()).unwrap() == event);
}

fn der(change: impl FnOnce(&mut CertificateParams)) -> (Vec<u8>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    change(&mut params);
    (params.self_signed(&key).unwrap().der().to_vec(), key)
}

#[test]
fn the_facts_of_a_certificate_are_read_from_its_bytes() {
    let (der, key) = der(|params| params.serial_number = Some(RcgenSerial::from_slice(&[0, 0x81, 2])));
    let issuer = KeyHash::of_spki(b"issuer");
    let new = NewCertificate::read(&der, issuer).unwrap();
    let facts = new.facts();
    assert_eq!(facts.id, CertificateId::of(&der));
    assert_eq!(facts.issuer, issuer);
    assert_eq!(facts.serial.to_string(), "8102");
    assert_eq!(facts.public_key, KeyHash::of_spki(&rcgen::PublicKeyData::subject_public_key_info(&key)));
    assert!(facts.not_before < facts.not_after);
    assert_eq!(new.der().as_bytes(), der);
}

#[test]
fn bytes_that_are_not_one_certificate_do_not_come_in() {
    let issuer = KeyHash::of_spki(b"issuer");
    let (good, _) = der(|_| {});
    let read = |bytes: &[u8]| NewCertificate::read(bytes, issuer).unwrap_err();
    assert_eq!(read(&good[..good.len() - 1]), CertificateError::Unreadable);
    assert_eq!(read(&[&good[..], &[0]].concat()), CertificateError::Unreadable);
    assert_eq!(read(b""), CertificateError::Unreadable);
    assert_eq!(read(&[0; CERTIFICATE_BYTES_MAX + 1]), CertificateError::TooLong(CERTIFICATE_BYTES_MAX + 1));
    let (long, _) = der(|params| params.serial_number = Some(RcgenSerial::from_slice(&[1; 21])));
    assert_eq!(read(&long), CertificateError::Serial);
}
