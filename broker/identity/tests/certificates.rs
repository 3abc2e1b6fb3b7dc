//! One certificate for every way in which a name can be given or fail to be.
//!
//! The certificates are written byte by byte where no issuing software would make them. Their signatures are not valid: reading
//! a name does not verify anything.

mod der;

use der::{Certificate, attribute, dns, name, set, uri};
use signet_identity::{
    CertificateId, Eku, IdentityError, IdentitySource, NameError, NameRule, Validity, describe,
    extended_key_usage, identify,
};

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const T61: u8 = 0x14;
const IA5: u8 = 0x16;
const UNIVERSAL: u8 = 0x1c;
const BMP: u8 = 0x1e;

const CN: &[u8] = &[0x55, 4, 3];
const O: &[u8] = &[0x55, 4, 10];

fn by_cn(subject: Vec<u8>) -> Result<String, IdentityError> {
    let der = Certificate { subject, ..Certificate::default() }.der();
    identify(&der, IdentitySource::Cn, &NameRule::default()).map(|identified| identified.name.to_string())
}

fn by_one_cn(tag: u8, value: &[u8]) -> Result<String, IdentityError> {
    by_cn(name(&[set(&[attribute(CN, tag, value)])]))
}

fn by_san(source: IdentitySource, names: &[Vec<u8>], rule: &NameRule) -> Result<String, IdentityError> {
    // A CN that must not be fallen back to.
    let subject = name(&[set(&[attribute(CN, UTF8, b"fall-back")])]);
    let der = Certificate { subject, san: Some(names.concat()), ..Certificate::default() }.der();
    identify(&der, source, rule).map(|identified| identified.name.to_string())
}

#[test]
fn a_single_common_name_of_the_grammar_is_the_name() {
    assert_eq!(by_one_cn(UTF8, b"sensor-001").unwrap(), "sensor-001");
    assert_eq!(by_one_cn(PRINTABLE, b"sn0123030405060708EE").unwrap(), "sn0123030405060708EE");
    let long = "x".repeat(64);
    assert_eq!(by_one_cn(UTF8, long.as_bytes()).unwrap(), long);
    let beside_others = name(&[
        set(&[attribute(O, UTF8, b"Signet / +#")]),
        set(&[attribute(CN, UTF8, b"a"), attribute(O, UTF8, b"b")]),
    ]);
    assert_eq!(by_cn(beside_others).unwrap(), "a");
}

#[test]
fn a_subject_without_common_name_gives_no_name() {
    assert_eq!(by_cn(name(&[])), Err(IdentityError::NoCommonName));
    assert_eq!(by_cn(name(&[set(&[attribute(O, UTF8, b"admin")])])), Err(IdentityError::NoCommonName));
}

#[test]
fn two_common_names_are_refused_whether_in_one_rdn_or_in_two_and_even_when_equal() {
    let several = Err(IdentityError::SeveralCommonNames { count: 2 });
    let admin = || attribute(CN, UTF8, b"admin");
    let sensor = || attribute(CN, UTF8, b"sensor-001");
    assert_eq!(by_cn(name(&[set(&[admin()]), set(&[sensor()])])), several);
    assert_eq!(by_cn(name(&[set(&[admin(), sensor()])])), several);
    assert_eq!(by_cn(name(&[set(&[admin()]), set(&[admin()])])), several);
}

#[test]
fn a_common_name_of_another_string_type_is_refused() {
    let universal: Vec<u8> = "admin".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
    let bmp: Vec<u8> = "admin".encode_utf16().flat_map(u16::to_be_bytes).collect();
    for (tag, value) in [
        (T61, b"admin".as_slice()),
        (IA5, b"admin"),
        (BMP, &bmp),
        (UNIVERSAL, &universal),
        // OCTET STRING, and [12] of the context class, which shares its number with UTF8String.
        (0x04, b"admin"),
        (0x8c, b"admin"),
        // UTF8String in the constructed form, which DER forbids.
        (0x2c, b"\x0c\x05admin"),
    ] {
        let refused = by_one_cn(tag, value);
        let expected = IdentityError::CommonNameEncoding { tag: u32::from(tag & 0x1f) };
        assert_eq!(refused, Err(expected), "tag {tag:#x}");
    }
}

#[test]
fn a_common_name_that_is_not_utf8_is_refused() {
    assert_eq!(by_one_cn(UTF8, b"admin\xff"), Err(IdentityError::CommonNameNotUtf8));
    // An overlong '/'.
    assert_eq!(by_one_cn(UTF8, b"a\xc0\xafb"), Err(IdentityError::CommonNameNotUtf8));
    assert_eq!(by_one_cn(PRINTABLE, b"admin\xff"), Err(IdentityError::CommonNameNotUtf8));
}

#[test]
fn a_common_name_outside_of_the_grammar_is_refused_with_its_character() {
    let character = |found, position| IdentityError::Name(NameError::Character { found, position });
    let first = |found| IdentityError::Name(NameError::FirstCharacter { found });
    for (value, expected) in [
        (b"admin\0".as_slice(), character('\0', 6)),
        (b"admin\0.evil", character('\0', 6)),
        (b"sensor-000001/telemetry", character('/', 14)),
        (b"a+b", character('+', 2)),
        (b"+", first('+')),
        (b"#", first('#')),
        (b"a#", character('#', 2)),
        (b"a%u", character('%', 2)),
        (b"%u", first('%')),
        (b"$SYS", first('$')),
        (b"admin ", character(' ', 6)),
        (b" admin", first(' ')),
        (b"ad\nmin", character('\n', 3)),
        (b".hidden", first('.')),
        (b"*", first('*')),
        (b"admin\x7f", character('\x7f', 6)),
        ("аdmin".as_bytes(), first('а')),
        ("sensor-０1".as_bytes(), character('０', 8)),
        ("admi\u{200b}n".as_bytes(), character('\u{200b}', 5)),
        ("a\u{202e}nimd".as_bytes(), character('\u{202e}', 2)),
        ("se\u{301}nsor".as_bytes(), character('\u{301}', 3)),
    ] {
        assert_eq!(by_one_cn(UTF8, value), Err(expected), "{:?}", String::from_utf8_lossy(value));
    }
    assert_eq!(by_one_cn(PRINTABLE, b"a/b"), Err(character('/', 2)));
}

#[test]
fn an_empty_common_name_is_refused() {
    assert_eq!(by_one_cn(UTF8, b""), Err(IdentityError::Name(NameError::Empty)));
}

#[test]
fn a_common_name_that_is_too_long_is_refused() {
    let too_long = |len| Err(IdentityError::Name(NameError::TooLong { len, max: 64 }));
    assert_eq!(by_one_cn(UTF8, &[b'x'; 65]), too_long(65));
    assert_eq!(by_one_cn(UTF8, &[b'x'; 200]), too_long(200));
}

#[test]
fn bytes_that_are_not_exactly_one_certificate_are_refused() {
    let subject = name(&[set(&[attribute(CN, UTF8, b"a")])]);
    let der = Certificate { subject, ..Certificate::default() }.der();
    let sources =
        [IdentitySource::Cn, IdentitySource::SanUri, IdentitySource::SanDns, IdentitySource::Fingerprint];
    let refused = |bytes: &[u8]| {
        let identified = |source| identify(bytes, source, &NameRule::default());
        sources.into_iter().all(|source| identified(source) == Err(IdentityError::Unreadable))
    };
    assert!(!refused(&der));
    assert!(refused(&[]));
    assert!(refused(&[der.as_slice(), &[0]].concat()));
    for cut in 0..der.len() {
        assert!(refused(&der[..cut]), "cut to {cut} bytes");
    }
}

#[test]
fn a_single_uri_is_the_name_and_the_common_name_is_no_fall_back() {
    let rule = NameRule::default();
    let san = |names: &[Vec<u8>]| by_san(IdentitySource::SanUri, names, &rule);
    assert_eq!(
        san(&[dns("x.example"), uri("urn:dev:mac:0024befffe804ff1")]).unwrap(),
        "urn:dev:mac:0024befffe804ff1"
    );
    assert_eq!(san(&[dns("x.example")]), Err(IdentityError::NoUri));
    let two = [uri("urn:a"), uri("urn:a")];
    assert_eq!(san(&two), Err(IdentityError::SeveralUris { count: 2 }));
    let slash = NameError::Character { found: '/', position: 8 };
    assert_eq!(san(&[uri("spiffe://example.org/a")]), Err(slash.into()));
}

#[test]
fn a_uri_prefix_is_taken_off_exactly() {
    let rule = NameRule::default().with_uri_prefix("spiffe://example.org/device/");
    let san = |text: &str| by_san(IdentitySource::SanUri, &[uri(text)], &rule);
    assert_eq!(san("spiffe://example.org/device/sensor-001").unwrap(), "sensor-001");
    assert_eq!(san("spiffe://example.net/device/sensor-001"), Err(IdentityError::UriPrefix));
    assert_eq!(san("SPIFFE://example.org/device/sensor-001"), Err(IdentityError::UriPrefix));
    assert_eq!(san("spiffe://example.org/device/"), Err(NameError::Empty.into()));
    let slash = NameError::Character { found: '/', position: 2 };
    assert_eq!(san("spiffe://example.org/device/a/b"), Err(slash.into()));
}

#[test]
fn a_single_dns_name_is_the_name_and_the_common_name_is_no_fall_back() {
    let rule = NameRule::default();
    let san = |names: &[Vec<u8>]| by_san(IdentitySource::SanDns, names, &rule);
    assert_eq!(san(&[uri("urn:a"), dns("sensor-001.example")]).unwrap(), "sensor-001.example");
    assert_eq!(san(&[uri("urn:a")]), Err(IdentityError::NoDnsName));
    assert_eq!(san(&[dns("a"), dns("b"), dns("c")]), Err(IdentityError::SeveralDnsNames { count: 3 }));
    assert_eq!(san(&[dns("*.example")]), Err(NameError::FirstCharacter { found: '*' }.into()));
}

#[test]
fn alternative_names_that_are_absent_malformed_or_given_twice_are_refused() {
    let subject = || name(&[set(&[attribute(CN, UTF8, b"a")])]);
    let rule = NameRule::default();
    let identified =
        |certificate: Certificate, source| identify(&certificate.der(), source, &rule).map(|i| i.name);
    let absent = || Certificate { subject: subject(), ..Certificate::default() };
    assert_eq!(identified(absent(), IdentitySource::SanUri), Err(IdentityError::NoUri));
    assert_eq!(identified(absent(), IdentitySource::SanDns), Err(IdentityError::NoDnsName));
    let unreadable = Err(IdentityError::AlternativeNamesUnreadable);
    for source in [IdentitySource::SanUri, IdentitySource::SanDns] {
        let good = [uri("urn:a"), dns("a")].concat();
        let twice = Certificate { san: Some(good.clone()), san_twice: true, ..absent() };
        assert_eq!(identified(twice, source), unreadable);
        // A second name of the kind that is not text.
        let mixed = [good, der::tlv(0x82, b"b\xff"), der::tlv(0x86, b"urn:\xff")].concat();
        assert_eq!(identified(Certificate { san: Some(mixed), ..absent() }, source), unreadable);
        let cut = Certificate { san: Some(vec![0x82, 9, b'a']), ..absent() };
        assert_eq!(identified(cut, source), unreadable);
    }
}

#[test]
fn the_fingerprint_is_a_name_of_its_own_whatever_the_subject_says() {
    let subject = name(&[set(&[attribute(CN, UTF8, b"a/+#")])]);
    let der = Certificate { subject, ..Certificate::default() }.der();
    let identified = identify(&der, IdentitySource::Fingerprint, &NameRule::default()).unwrap();
    assert_eq!(identified.name.as_str(), CertificateId::of(&der).to_string());
    assert_eq!(identified.certificate, CertificateId::of(&der));
}

#[test]
fn a_widened_rule_admits_what_it_names_and_the_default_does_not() {
    let subject = name(&[set(&[attribute(CN, UTF8, b"user@example.org")])]);
    let der = Certificate { subject, ..Certificate::default() }.der();
    let rule = NameRule::new(64, "@").unwrap();
    assert_eq!(identify(&der, IdentitySource::Cn, &rule).unwrap().name.as_str(), "user@example.org");
    assert!(identify(&der, IdentitySource::Cn, &NameRule::default()).is_err());
}

#[test]
fn serial_issuer_subject_and_validity_are_those_of_the_certificate() {
    let subject = name(&[set(&[attribute(O, UTF8, b"Signet")]), set(&[attribute(CN, UTF8, b"a")])]);
    let der = Certificate { subject, serial: vec![0, 0xab, 0xcd], ..Certificate::default() }.der();
    let identified = identify(&der, IdentitySource::Cn, &NameRule::default()).unwrap();
    assert_eq!(identified.serial.to_string(), "00abcd");
    assert_eq!(identified.subject, "O=Signet, CN=a");
    assert_eq!(identified.issuer, "CN=issuer");
    // 2025-01-01T00:00:00Z and 2035-01-01T00:00:00Z
    assert_eq!((identified.not_before, identified.not_after), (1_735_689_600, 2_051_222_400));
    assert_eq!(identified.judge_validity(1_735_689_599), Validity::NotYetValid);
    assert_eq!(identified.judge_validity(1_735_689_600), Validity::Valid);
    assert_eq!(identified.judge_validity(2_051_222_401), Validity::Expired);
}

#[test]
fn a_description_never_fails_and_stays_on_one_printable_line() {
    let bmp: Vec<u8> = "b\u{430}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let subject = name(&[
        set(&[attribute(O, UTF8, "A, B\r\n2025 forged line".as_bytes()), attribute(CN, T61, b"t\xe9")]),
        set(&[attribute(CN, BMP, &bmp)]),
        set(&[attribute(&[0x2a, 3], UNIVERSAL, b"\0\0\0a")]),
        set(&[attribute(CN, UTF8, b"\xff")]),
    ]);
    let der = Certificate { subject, ..Certificate::default() }.der();
    let summary = describe(&der);
    assert_eq!(
        summary.subject,
        r"O=A\, B\u{d}\u{a}2025 forged line + CN=t\u{e9}, CN=b\u{430}, 1.2.3=#00000061, CN=#ff"
    );
    assert_eq!(summary.serial, "01");
    assert_eq!(summary.validity, Some((1_735_689_600, 2_051_222_400)));
    assert!(summary.to_string().chars().all(|c| c == ' ' || c.is_ascii_graphic()));

    let unreadable = describe(b"not DER");
    assert_eq!((unreadable.subject.as_str(), unreadable.serial.as_str()), ("unreadable", "unreadable"));
    assert_eq!(unreadable.certificate, CertificateId::of(b"not DER"));
    assert_eq!(unreadable.validity, None);
}

#[test]
fn a_huge_subject_is_described_in_bounded_space() {
    let attribute = attribute(CN, UTF8, &vec![b'\n'; 1_000_000]);
    let many: Vec<Vec<u8>> = (0..1000).map(|_| set(&[der::attribute(O, UTF8, b"Signet")])).collect();
    for subject in [name(&[set(&[attribute])]), name(&many)] {
        let shown = describe(&Certificate { subject, ..Certificate::default() }.der()).subject;
        assert!(shown.len() < 600 && shown.ends_with("..."), "{} characters", shown.len());
    }
}

#[test]
fn extended_key_usage_is_absent_for_clients_or_for_others() {
    let subject = || name(&[set(&[attribute(CN, UTF8, b"a")])]);
    let with = |eku: Option<Vec<u8>>| {
        extended_key_usage(&Certificate { subject: subject(), eku, ..Certificate::default() }.der())
    };
    let usage = |last: u8| der::tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, last]);
    let any = der::tlv(6, &[0x55, 0x1d, 0x25, 0]);
    assert_eq!(with(None), Eku::Absent);
    assert_eq!(with(Some(usage(2))), Eku::ClientAuth);
    assert_eq!(with(Some([usage(1), usage(2)].concat())), Eku::ClientAuth);
    assert_eq!(with(Some(usage(1))), Eku::Other);
    assert_eq!(with(Some(any)), Eku::Other);
    assert_eq!(with(Some(Vec::new())), Eku::Other);
    assert_eq!(with(Some(vec![6, 99, 1])), Eku::Other);
    assert_eq!(extended_key_usage(b"not DER"), Eku::Other);
}

#[test]
fn a_certificate_of_an_ordinary_issuer_is_read_as_issued() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["sensor-002".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Signet");
    params.distinguished_name.push(rcgen::DnType::CommonName, "sensor-001");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).unwrap();
    let rule = NameRule::default();
    let named = |source| identify(certificate.der(), source, &rule).map(|i| i.name.to_string());
    assert_eq!(named(IdentitySource::Cn).unwrap(), "sensor-001");
    assert_eq!(named(IdentitySource::SanDns).unwrap(), "sensor-002");
    assert_eq!(named(IdentitySource::SanUri), Err(IdentityError::NoUri));
    assert_eq!(extended_key_usage(certificate.der()), Eku::ClientAuth);
}

#[test]
fn every_error_has_a_label_of_its_own_and_a_hint() {
    let errors = [
        IdentityError::Unreadable,
        IdentityError::NoCommonName,
        IdentityError::SeveralCommonNames { count: 2 },
        IdentityError::CommonNameEncoding { tag: 20 },
        IdentityError::CommonNameNotUtf8,
        IdentityError::AlternativeNamesUnreadable,
        IdentityError::NoUri,
        IdentityError::SeveralUris { count: 2 },
        IdentityError::UriPrefix,
        IdentityError::NoDnsName,
        IdentityError::SeveralDnsNames { count: 2 },
        NameError::Empty.into(),
        NameError::TooLong { len: 65, max: 64 }.into(),
        NameError::FirstCharacter { found: '\n' }.into(),
        NameError::Character { found: '\u{202e}', position: 2 }.into(),
    ];
    let labels: std::collections::BTreeSet<_> = errors.iter().map(IdentityError::metric_label).collect();
    assert_eq!(labels.len(), errors.len());
    for error in &errors {
        assert!(!error.hint().is_empty());
        assert!(error.to_string().chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{error}");
    }
}
