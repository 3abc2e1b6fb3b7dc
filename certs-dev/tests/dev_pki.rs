//! The development PKI as files: made once, remade when it must be, whole under a race.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::os::unix::fs::PermissionsExt as _;

use signet_certs_dev::{MemoryPki, ROLES, Window, ensure_at};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use x509_parser::parse_x509_crl;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn parse(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

#[test]
fn a_second_call_keeps_what_the_first_made() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure_at(dir.path(), NOW).unwrap();
    let key = std::fs::read(first.server().key).unwrap();
    let second = ensure_at(dir.path(), NOW + Duration::days(300)).unwrap();
    assert!(first.made && !second.made);
    assert_eq!(std::fs::read(second.server().key).unwrap(), key);
}

#[test]
fn near_the_end_everything_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    ensure_at(dir.path(), NOW).unwrap();
    let later = NOW + Duration::days(340);
    assert!(ensure_at(dir.path(), later).unwrap().made);
    assert!(!ensure_at(dir.path(), later).unwrap().made);
}

#[test]
fn one_missing_file_has_everything_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure_at(dir.path(), NOW).unwrap();
    let root = std::fs::read(pki.root_ca()).unwrap();
    std::fs::remove_file(pki.named("sensor-002").key).unwrap();
    assert!(ensure_at(dir.path(), NOW).unwrap().made);
    assert_ne!(std::fs::read(pki.root_ca()).unwrap(), root);
}

#[test]
fn private_keys_are_readable_by_their_owner_only_and_nothing_temporary_stays() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure_at(dir.path(), NOW).unwrap();
    for role in ROLES {
        let mode = std::fs::metadata(pki.role(role).key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", role.name);
    }
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".new"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn processes_that_race_find_one_consistent_set() {
    let dir = tempfile::tempdir().unwrap();
    let made: usize = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| ensure_at(dir.path(), NOW))).collect();
        calls.into_iter().map(|call| usize::from(call.join().unwrap().unwrap().made)).sum()
    });
    assert_eq!(made, 1);
    let pki = ensure_at(dir.path(), NOW).unwrap();
    let issuer = std::fs::read(pki.issuing_ca()).unwrap();
    let issuer = parse_x509_pem(&issuer).unwrap().1;
    let issuer = parse(&issuer.contents);
    let sensor = std::fs::read(pki.named("sensor-001").certificate).unwrap();
    let sensor = parse_x509_pem(&sensor).unwrap().1;
    parse(&sensor.contents).verify_signature(Some(issuer.public_key())).unwrap();
}

#[test]
fn every_leaf_has_the_extensions_that_its_role_promises() {
    let pki = MemoryPki::new(NOW).unwrap();
    for role in ROLES {
        let leaf = pki.leaf(role.name).unwrap();
        let certificate = parse(leaf.certificate());
        let cn = certificate.subject().iter_common_name().next().unwrap().as_str().unwrap();
        assert_eq!(cn, role.common_name);
        assert_eq!(leaf.serial().as_bytes().len(), 16);
        assert_eq!(certificate.raw_serial(), leaf.serial().as_bytes(), "{}", role.name);
        assert!(!certificate.is_ca());
        let oids: Vec<_> = certificate.extensions().iter().map(|e| e.oid.to_id_string()).collect();
        for (oid, name) in [("2.5.29.35", "AKI"), ("2.5.29.14", "SKI"), ("2.5.29.15", "KU")] {
            assert!(oids.contains(&oid.to_owned()), "{}: no {name}", role.name);
        }
        assert_eq!(oids.contains(&"2.5.29.37".to_owned()), role.name != "no-eku");
        let valid =
            certificate.validity().is_valid_at(ASN1Time::from_timestamp(NOW.unix_timestamp()).unwrap());
        assert_eq!(valid, role.window == Window::Current, "{}", role.name);
    }
}

#[test]
fn the_crl_lists_the_revoked_role_and_no_other() {
    let pki = MemoryPki::new(NOW).unwrap();
    let (_, crl) = parse_x509_crl(pki.crl.der()).unwrap();
    let listed: Vec<_> = crl.iter_revoked_certificates().map(|r| r.raw_serial()).collect();
    assert_eq!(listed, [pki.leaf("revoked").unwrap().serial().as_bytes()]);
    crl.verify_signature(parse(pki.issuing.certificate()).public_key()).unwrap();
}

#[test]
fn the_issuing_authority_may_have_no_authority_below_it() {
    let pki = MemoryPki::new(NOW).unwrap();
    let issuing = parse(pki.issuing.certificate());
    let constraints = issuing.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca);
    assert_eq!(constraints.path_len_constraint, Some(0));
    issuing.verify_signature(Some(parse(pki.root.certificate()).public_key())).unwrap();
}
