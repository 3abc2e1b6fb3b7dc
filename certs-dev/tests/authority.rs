//! The authority in memory: key kinds, odd names, extensions that no proper authority would add.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use signet_certs_dev::{
    Authority, CrlProfile, CrlScope, Extension, KeyKind, LeafProfile, NameString, Subject, Validity,
};
use time::OffsetDateTime;
use time::macros::datetime;
use x509_parser::parse_x509_crl;
use x509_parser::prelude::{FromDer, X509Certificate};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn root() -> Authority {
    Authority::root("Test root", KeyKind::P256, Validity::days_from(NOW, 100)).unwrap()
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

#[test]
fn every_key_kind_signs_and_is_signed() {
    let root = root();
    // RSA of 3072 and 4096 bits differ from 2048 in nothing but seconds of work.
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048] {
        let validity = Validity::days_from(NOW, 10);
        let issuing = root.intermediate("Issuing", kind, validity, 0).unwrap();
        let leaf = issuing.issue(&LeafProfile::device("d", validity).with_key(kind)).unwrap();
        let issuer = parse(issuing.certificate());
        parse(leaf.certificate()).verify_signature(Some(issuer.public_key())).unwrap();
        assert_eq!(leaf.chain().len(), 2);
    }
}

#[test]
fn names_that_a_broker_must_refuse_can_be_made() {
    let root = root();
    let names = [
        NameString::Utf8("admin\0.evil".into()),
        NameString::Utf8(String::new()),
        NameString::Utf8("a/b+#".into()),
        NameString::Teletex("sensor".into()),
        NameString::Bmp("sensor".into()),
        NameString::Universal("sensor".into()),
        NameString::Ia5("sensor".into()),
    ];
    for name in names {
        let mut profile = LeafProfile::device("", Validity::days_from(NOW, 10));
        profile.subject = Subject { common_name: Some(name.clone()), ..Subject::default() };
        let leaf = root.issue(&profile).unwrap();
        assert_eq!(parse(leaf.certificate()).subject().iter_common_name().count(), 1, "{name:?}");
    }
}

#[test]
fn a_second_common_name_is_a_second_rdn() {
    let mut profile = LeafProfile::device("first", Validity::days_from(NOW, 10));
    profile.subject.second_common_name = Some("second".into());
    let leaf = root().issue(&profile).unwrap();
    let certificate = parse(leaf.certificate());
    let names: Vec<_> = certificate.subject().iter_common_name().map(|cn| cn.as_str().unwrap()).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn an_added_extension_is_covered_by_the_signature() {
    let root = root();
    // 1.2.3.4, a NULL inside.
    let extension = Extension { oid: &[0x2a, 0x03, 0x04], critical: true, value: &[0x05, 0x00] };
    let profile = LeafProfile::device("d", Validity::days_from(NOW, 10));
    let leaf = root.issue_with_extension(&profile, extension).unwrap();
    let certificate = parse(leaf.certificate());
    certificate.verify_signature(Some(parse(root.certificate()).public_key())).unwrap();
    let added = certificate.extensions().last().unwrap();
    assert!(added.critical && added.oid.to_id_string() == "1.2.3.4");

    let crl = root.crl_with_extension(&CrlProfile::new(1, NOW, 7, &[]), extension).unwrap();
    let (_, crl) = parse_x509_crl(crl.der()).unwrap();
    crl.verify_signature(parse(root.certificate()).public_key()).unwrap();
    assert_eq!(crl.extensions().last().unwrap().oid.to_id_string(), "1.2.3.4");
}

#[test]
fn a_scoped_crl_carries_a_critical_issuing_distribution_point() {
    let mut profile = CrlProfile::new(9, NOW, 7, &[]);
    profile.scope = Some(CrlScope::Users);
    let crl = root().crl(&profile).unwrap();
    let (_, crl) = parse_x509_crl(crl.der()).unwrap();
    let point = crl.extensions().iter().find(|e| e.oid.to_id_string() == "2.5.29.28").unwrap();
    assert!(point.critical);
}
