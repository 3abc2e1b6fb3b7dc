use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, PublicKeyData as _,
};

use super::*;

/// An authority as another tool makes it: PEM of its certificate, and its key.
fn foreign(
    kind: &'static rcgen::SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> (String, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(kind).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, "Example Issuing");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_der())
}

fn load((certificate, key): &(String, Vec<u8>)) -> Result<Issuer, IssuerError> {
    Issuer::load(certificate.as_bytes(), Arc::new(KeySigner::from_pkcs8(key).unwrap()), NOW)
}

fn refused(change: impl FnOnce(&mut CertificateParams)) -> IssuerError {
    load(&foreign(&rcgen::PKCS_ECDSA_P256_SHA256, change)).unwrap_err()
}

#[test]
fn an_existing_authority_of_each_kind_of_key_signs() {
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
        let issuer = load(&foreign(kind, |_| {})).unwrap();
        assert_eq!(&**issuer.subject(), "O=Example, CN=Example Issuing");
        verify(&issued_by(&issuer).der, &[], &issuer, NOW, None).unwrap();
    }
}

#[test]
fn an_authority_without_key_usage_is_not_restricted() {
    let issuer = load(&foreign(&rcgen::PKCS_ECDSA_P256_SHA256, |params| params.key_usages.clear())).unwrap();
    assert!(issuer.signs_crls());
    verify(&issued_by(&issuer).der, &[], &issuer, NOW, None).unwrap();
}

#[test]
fn a_certificate_that_may_not_sign_is_refused() {
    assert_eq!(refused(|params| params.is_ca = IsCa::NoCa), IssuerError::NotAuthority);
    assert_eq!(refused(|params| params.is_ca = IsCa::ExplicitNoCa), IssuerError::NotAuthority);
    let crl_only = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(refused(crl_only), IssuerError::KeyUsage);
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    assert_eq!(refused(server), IssuerError::ExtendedKeyUsage);
    let client = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    assert!(load(&foreign(&rcgen::PKCS_ECDSA_P256_SHA256, client)).is_ok());
}

#[test]
fn constraints_that_are_not_evaluated_are_refused() {
    let names = |params: &mut CertificateParams| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    };
    assert_eq!(refused(names), IssuerError::NameConstraints);
    let unknown = |critical| {
        move |params: &mut CertificateParams| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            extension.set_criticality(critical);
            params.custom_extensions = vec![extension];
        }
    };
    assert_eq!(refused(unknown(true)), IssuerError::CriticalExtension("1.2.3".to_owned()));
    assert!(load(&foreign(&rcgen::PKCS_ECDSA_P256_SHA256, unknown(false))).is_ok());
}

#[test]
fn a_certificate_with_another_key_is_refused() {
    let (certificate, _) = foreign(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let (_, other) = foreign(kind, |_| {});
        assert_eq!(load(&(certificate.clone(), other)).unwrap_err(), IssuerError::KeyMismatch);
    }
}

#[test]
fn an_authority_outside_its_time_is_refused() {
    let over = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2025, 12, 31);
    assert!(matches!(refused(over), IssuerError::Expired(_)));
    let early = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    assert!(matches!(refused(early), IssuerError::NotYetValid(_)));
}

#[test]
fn a_key_that_no_authority_has_here_is_refused() {
    let (ed25519, _) = foreign(&rcgen::PKCS_ED25519, |_| {});
    assert_eq!(Issuer::load(ed25519.as_bytes(), signer(), NOW).unwrap_err(), IssuerError::KeyKind);
}

#[test]
fn anything_but_one_certificate_is_refused() {
    let key = signer();
    let (one, _) = foreign(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let der = pem::parse(&one).unwrap().into_contents();
    let table = [
        (Vec::new(), IssuerError::NotOne(0)),
        (one.repeat(2).into_bytes(), IssuerError::NotOne(2)),
        ([&der[..], &[0]].concat(), IssuerError::Unreadable),
        (vec![0x30; 1 << 20], IssuerError::Unreadable),
        (to_pem("CERTIFICATE", b"hello".to_vec()).into_bytes(), IssuerError::Unreadable),
    ];
    for (bytes, error) in table {
        assert_eq!(Issuer::load(&bytes, key.clone(), NOW).unwrap_err(), error);
    }
}

/// A root whose subject is the DER `name`, signed by hand: rcgen cannot write such names.
fn named(name: &[u8]) -> Result<Issuer, IssuerError> {
    let key = signer();
    let algorithm = seq(&[&oid(SHA256_ECDSA)]);
    let basic = seq(&[&oid(&[0x55, 0x1d, 19]), &[1, 1, 0xff], &tlv(4, &[&seq(&[&[1, 1, 0xff]])])]);
    let validity = seq(&[&tlv(23, &[b"250101000000Z"]), &tlv(23, &[b"350101000000Z"])]);
    let spki = key.public_key().encoder().subject_public_key_info();
    let extensions = tlv(0xa3, &[&seq(&[&basic])]);
    let tbs = seq(&[&[0xa0, 3, 2, 1, 2], &[2, 1, 7], &algorithm, name, &validity, name, &spki, &extensions]);
    let signature = key.sign(&tbs).unwrap();
    Issuer::load(&seq(&[&tbs, &algorithm, &tlv(3, &[&[0], &signature])]), key, NOW)
}

#[test]
fn a_subject_that_would_not_be_the_same_issuer_is_refused_and_any_other_string_type_is_kept() {
    let value = |kind: &[u8], tag: u8, text: &[u8]| seq(&[&oid(kind), &tlv(tag, &[text])]);
    let component: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
    let (example, com) = (set(&[&value(component, 22, b"example")]), set(&[&value(component, 22, b"com")]));
    let name = set(&[&value(CN, 12, b"Example")]);
    let both = set(&[&value(CN, 12, b"Example"), &value(&[0x55, 4, 10], 12, b"Org")]);
    for subject in [seq(&[]), seq(&[&com, &example, &name]), seq(&[&both])] {
        assert_eq!(named(&subject).unwrap_err(), IssuerError::Subject);
    }
    let wide: Vec<u8> = "Example".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let teletex = set(&[&value(CN, 20, b"Example")]);
    for subject in [seq(&[&com, &name]), seq(&[&set(&[&value(CN, 30, &wide)])]), seq(&[&teletex])] {
        let issuer = named(&subject).unwrap();
        verify(&issued_by(&issuer).der, &[], &issuer, NOW, None).unwrap();
    }
}

#[test]
fn an_authority_shows_no_key() {
    let issuer = root();
    let shown = format!("{issuer:?}");
    assert!(shown.contains("Test Root") && !shown.contains("signer"), "{shown}");
}
