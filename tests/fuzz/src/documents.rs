//! What people and devices hand to the broker as files or fields: policies, settings, certificates, requests, lists.

use std::path::Path;

use rustls_pki_types::UnixTime;
use signet::tls::hello::{Progress, parse as parse_hello};
use signet::tls::{Source, Trust, TrustOptions};
use signet_acl::{DenyCause, ParseOptions, Policy, Subject};
use signet_identity::{
    CertificateId, IdentitySource, NameRule, Principal, ThingName, Validity, describe, identify,
};
use signet_registry::ca::{CSR_BYTES_MAX, CheckedCsr, CsrPolicy, KeyKinds, SubjectRule};
use signet_registry::{Event, KeyHash, NewCertificate};
use signet_wire::{TopicFilter, TopicName};

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Takes `data` for an access policy and, behind the first NUL byte, a topic or filter that two devices ask for.
///
/// # Panics
/// When something does not hold that must hold.
pub fn policy(data: &[u8]) {
    let Some(all) = text(data) else { return };
    let (rules, asked) = all.split_once('\0').unwrap_or((all, "d/a/x"));
    let (policy, _) = match Policy::parse(rules, "fuzz.acl", &ParseOptions::default()) {
        Ok(compiled) => compiled,
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            return;
        }
    };
    for name in ["a", "b.c:1"] {
        let principal = device(name);
        let subject = Subject { principal: &principal, client_id: "+/#" };
        if let Ok(topic) = TopicName::try_from(asked) {
            let answers = || (policy.may_publish(&subject, &topic), policy.may_receive(&subject, &topic));
            assert_eq!(answers(), answers(), "an answer that changes");
        }
        let Ok(filter) = TopicFilter::try_from(asked) else { continue };
        // A topic that the filter matches. It may be denied by a rule all the same, but not for want of one.
        let below = asked.replace('+', "q").replace('#', "q/q");
        if policy.may_subscribe(&subject, &filter).is_ok()
            && let Ok(topic) = TopicName::try_from(below)
            && filter.matches(&topic)
            && let Err(denied) = policy.may_receive(&subject, &topic)
        {
            assert_ne!(
                denied.because,
                DenyCause::NoRule,
                "{asked} was granted, nothing lets {} through",
                &*topic
            );
        }
    }
}

fn device(name: &str) -> Principal {
    let name = ThingName::try_from(name).expect("a name");
    let certificate = CertificateId::of(name.as_str().as_bytes());
    Principal::device(name, certificate, Vec::new())
}

/// Takes `data` for a configuration file, in this broker's language and in Mosquitto's.
///
/// # Panics
/// When something does not hold that must hold.
pub fn configuration(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Err(problems) = signet_config::parse(text, Path::new("/nowhere/signet.toml")) {
        assert!(!problems.is_empty(), "refused without a reason");
        assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
    }
    let import =
        signet_config::mosquitto::import(text, Path::new("/nowhere/mosquitto.conf"), Path::new("/nowhere"));
    assert!(!import.report().contains('\0') || text.contains('\0'));
}

/// Takes `data` for a certificate in DER.
///
/// # Panics
/// When something does not hold that must hold.
pub fn certificate(data: &[u8]) {
    let summary = describe(data);
    for shown in [&summary.subject, &summary.issuer] {
        assert!(shown.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{shown:?} is not printable ASCII");
    }
    let sources =
        [IdentitySource::Cn, IdentitySource::SanUri, IdentitySource::SanDns, IdentitySource::Fingerprint];
    for source in sources {
        let Ok(identified) = identify(data, source, &NameRule::default()) else { continue };
        assert!(
            !identified.name.as_str().contains(['/', '+', '#', '$', '%', ' ', '\0']),
            "{}",
            identified.name
        );
        assert_eq!(identified.certificate, CertificateId::of(data));
        let inside = identified.judge_validity(identified.not_before);
        assert!(inside == Validity::Valid || identified.not_after < identified.not_before);
        assert_ne!(identified.judge_validity(identified.not_after.saturating_add(1)), Validity::Valid);
    }
    // What is taken into the registry, another crate reads too: it may refuse what this one reads, and never panics.
    let _ = NewCertificate::read(data, KeyHash::of_spki(b"issuer"));
}

/// Takes `data` for a certificate signing request, in PEM or DER.
///
/// # Panics
/// When something does not hold that must hold.
pub fn signing_request(data: &[u8]) {
    let name = ThingName::try_from("sensor-1").expect("a name");
    for subject in [SubjectRule::Ignore, SubjectRule::MustEqual(name)] {
        let policy = CsrPolicy { keys: KeyKinds::default(), subject };
        match CheckedCsr::parse(data, &policy) {
            Ok(_) => assert!(data.len() <= CSR_BYTES_MAX),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Takes `data` for a file of revocation lists of the authority of the seeds.
///
/// # Panics
/// When something does not hold that must hold.
pub fn revocation_list(data: &[u8]) {
    let anchors = [Source::new("ca.pem", include_bytes!("../seeds/authority.pem").as_slice())];
    let lists = [Source::new("ca.crl", data)];
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
    match Trust::load(&anchors, (&lists, &[]), None, TrustOptions::default(), None, now) {
        Ok((_, warnings)) => assert!(warnings.iter().all(|warning| !warning.to_string().is_empty())),
        Err(errors) => assert!(!errors.is_empty(), "refused without a reason"),
    }
}

/// Takes `data` for the first bytes of a TLS connection.
///
/// # Panics
/// When something does not hold that must hold.
pub fn client_hello(data: &[u8]) {
    let whole = parse_hello(data);
    // Less of it is never more: what is complete stays so, whatever follows.
    if let Progress::Complete(hello) = &whole {
        let mut longer = data.to_vec();
        longer.push(0);
        match parse_hello(&longer) {
            Progress::Complete(same) => assert_eq!(format!("{hello:?}"), format!("{same:?}")),
            other => panic!("complete, then {other:?}"),
        }
    }
}

/// Takes `data` for a row of the registry.
///
/// # Panics
/// When something does not hold that must hold.
pub fn stored_record(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(event) = Event::decode(text) {
        // What was read is written and read as the same.
        let again = Event::decode(&event.encode()).expect("what was written can be read");
        assert_eq!(again, event, "{text}");
    }
}

/// Takes `data` for a row of the store of sessions and messages: the length of its key in two bytes, the key, and the value.
///
/// # Panics
/// When something does not hold that must hold.
pub fn stored_row(data: &[u8]) {
    use signet::store::messages::decode;
    use signet_core::{Mono, Now, Wall};

    let now = Now { mono: Mono::START, wall: Wall(1_800_000_000_000) };
    // What is read twice is the same, and what is refused says why.
    match (decode(data, now), decode(data, now)) {
        (Ok(one), Ok(two)) => assert_eq!(format!("{one:?}"), format!("{two:?}")),
        (Err(one), Err(two)) => {
            assert_eq!((one.to_string(), one.to_string().is_empty()), (two.to_string(), false))
        }
        other => panic!("it reads in two ways: {other:?}"),
    }
}
