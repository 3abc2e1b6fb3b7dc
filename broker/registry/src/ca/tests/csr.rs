use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use proptest::prelude::*;

use super::*;
use crate::KeyHash;

const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const EMAIL: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const CHALLENGE_PASSWORD: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];
const UNSTRUCTURED_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 2];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
const CERTIFICATE_TYPE: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 37, 0];
const SHA1_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P224: &[u8] = &[0x2b, 0x81, 4, 0, 33];
const SECP256K1: &[u8] = &[0x2b, 0x81, 4, 0, 10];
const RSA_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const SHA256_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];

const UTF8: u8 = 12;
const PRINTABLE: u8 = 19;
const BMP: u8 = 30;

fn rdn(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
    set(&[&seq(&[&oid(kind), &tlv(tag, &[value])])])
}

fn named(name: &str) -> Vec<u8> {
    seq(&[&rdn(CN, UTF8, name.as_bytes())])
}

fn extension(kind: &[u8], value: &[u8]) -> Vec<u8> {
    seq(&[&oid(kind), &tlv(4, &[value])])
}

fn attribute(kind: &[u8], value: &[u8]) -> Vec<u8> {
    seq(&[&oid(kind), &set(&[value])])
}

fn requesting(extensions: &[&[u8]]) -> Vec<u8> {
    attribute(EXTENSION_REQUEST, &seq(extensions))
}

fn signature_algorithm(kind: &[u8]) -> Vec<u8> {
    seq(&[&oid(kind)])
}

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    fn signed(&self, info: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), info).unwrap();
        seq(&[info, &signature_algorithm(SHA256_ECDSA), &tlv(3, &[&[0], signature.as_ref()])])
    }

    fn request(&self, subject: &[u8], attributes: &[&[u8]]) -> Vec<u8> {
        self.signed(&info(subject, &self.spki(), attributes))
    }
}

fn info(subject: &[u8], spki: &[u8], attributes: &[&[u8]]) -> Vec<u8> {
    seq(&[&[2, 1, 0], subject, spki, &tlv(0xa0, attributes)])
}

/// A request with the key `spki` and a signature that nobody made.
fn unsigned(spki: &[u8]) -> Vec<u8> {
    seq(&[&info(&seq(&[]), spki, &[]), &signature_algorithm(SHA256_ECDSA), &tlv(3, &[&[0, 0x30, 0]])])
}

fn for_sensor() -> CsrPolicy {
    CsrPolicy { keys: KeyKinds::default(), subject: SubjectRule::MustEqual(thing("sensor-001")) }
}

fn for_claim() -> CsrPolicy {
    CsrPolicy { keys: KeyKinds::default(), subject: SubjectRule::Ignore }
}

fn refused(bytes: &[u8], policy: &CsrPolicy) -> CsrError {
    CheckedCsr::parse(bytes, policy).expect_err("the request was accepted")
}

#[test]
fn a_request_gives_its_public_key_and_the_hash_of_it() {
    let key = Key::new();
    for subject in [seq(&[]), named("sensor-001"), seq(&[&rdn(CN, PRINTABLE, b"sensor-001")])] {
        let der = key.request(&subject, &[]);
        let checked = CheckedCsr::parse(&der, &for_sensor()).unwrap();
        assert_eq!(checked.public_key().spki_der(), key.spki());
        assert_eq!(checked.public_key().kind(), KeyKind::P256);
        assert_eq!(checked.key_hash(), KeyHash::of_spki(&key.spki()));
    }
}

#[test]
fn a_request_is_taken_as_pem_with_text_around_it_and_under_the_old_label() {
    let der = Key::new().request(&named("sensor-001"), &[]);
    for label in ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"] {
        let text = format!("Certificate Request:\n{}\n", to_pem(label, der.clone()));
        assert!(CheckedCsr::parse(text.as_bytes(), &for_sensor()).is_ok(), "{label}");
        let crlf = text.replace('\n', "\r\n");
        assert!(CheckedCsr::parse(crlf.as_bytes(), &for_sensor()).is_ok(), "{label} with CRLF");
    }
}

#[test]
fn a_request_of_another_encoder_is_taken() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "sensor-001");
    let pem = params.serialize_request(&pair).unwrap().pem().unwrap();
    let checked = CheckedCsr::parse(pem.as_bytes(), &for_sensor()).unwrap();
    assert_eq!(checked.public_key().kind(), KeyKind::P384);
}

#[test]
fn what_the_aws_example_for_fleet_provisioning_sends_is_taken_and_none_of_its_wishes() {
    let key = Key::new();
    let wishes = requesting(&[
        &extension(KEY_USAGE, &[3, 2, 7, 0x80]),
        &extension(CERTIFICATE_TYPE, &[3, 2, 7, 0x80]),
    ]);
    let der = key.request(&named("Fleet Provisioning Demo"), &[&wishes]);
    let checked = CheckedCsr::parse(&der, &for_claim()).unwrap();
    assert_eq!(checked.public_key().spki_der(), key.spki());
    assert!(matches!(refused(&der, &for_sensor()), CsrError::OtherName { .. }));
}

#[test]
fn wishes_that_grant_nothing_are_ignored() {
    let key = Key::new();
    let usage = seq(&[&oid(CLIENT_AUTH)]);
    for harmless in [
        extension(BASIC_CONSTRAINTS, &seq(&[])),
        extension(KEY_USAGE, &[3, 2, 5, 0xe0]),
        extension(EXTENDED_KEY_USAGE, &usage),
        extension(SUBJECT_KEY_ID, &tlv(4, &[&[7; 20]])),
    ] {
        let der = key.request(&seq(&[]), &[&requesting(&[&harmless])]);
        assert!(CheckedCsr::parse(&der, &for_sensor()).is_ok(), "{harmless:02x?}");
    }
}

#[test]
fn a_request_that_asks_for_more_than_a_device_gets_is_refused() {
    let key = Key::new();
    let ca_true = seq(&[&[1, 1, 0xff]]);
    let path_len = seq(&[&[2, 1, 3]]);
    let san_admin = seq(&[&tlv(0x82, &[b"admin"])]);
    let server = seq(&[&oid(SERVER_AUTH), &oid(CLIENT_AUTH)]);
    let any = seq(&[&oid(ANY_USAGE)]);
    let table = [
        ("CA:TRUE", extension(BASIC_CONSTRAINTS, &ca_true), CsrError::Authority),
        ("a path length", extension(BASIC_CONSTRAINTS, &path_len), CsrError::Authority),
        ("keyCertSign", extension(KEY_USAGE, &[3, 2, 2, 0x84]), CsrError::Authority),
        ("cRLSign", extension(KEY_USAGE, &[3, 2, 1, 0x82]), CsrError::Authority),
        ("Netscape SSL CA", extension(CERTIFICATE_TYPE, &[3, 2, 2, 0x84]), CsrError::Authority),
        ("Netscape SSL server", extension(CERTIFICATE_TYPE, &[3, 2, 6, 0xc0]), CsrError::Usage),
        ("serverAuth", extension(EXTENDED_KEY_USAGE, &server), CsrError::Usage),
        ("any usage", extension(EXTENDED_KEY_USAGE, &any), CsrError::Usage),
        ("SAN admin", extension(ALTERNATIVE_NAME, &san_admin), CsrError::AlternativeName),
        (
            "name constraints",
            extension(NAME_CONSTRAINTS, &seq(&[])),
            CsrError::Extension("2.5.29.30".to_owned()),
        ),
        ("unknown", extension(&[0x2a, 3], &[5, 0]), CsrError::Extension("1.2.3".to_owned())),
        ("unreadable", extension(KEY_USAGE, &[5, 0]), CsrError::Extension("2.5.29.15".to_owned())),
    ];
    for (what, extension, error) in table {
        let der = key.request(&seq(&[]), &[&requesting(&[&extension])]);
        for policy in [for_sensor(), for_claim()] {
            assert_eq!(refused(&der, &policy), error, "{what}");
        }
    }
}

#[test]
fn extensions_and_attributes_that_come_twice_are_refused() {
    let key = Key::new();
    let harmless = extension(KEY_USAGE, &[3, 2, 7, 0x80]);
    let authority = extension(BASIC_CONSTRAINTS, &seq(&[&[1, 1, 0xff]]));
    let twice = key.request(&seq(&[]), &[&requesting(&[&harmless, &harmless])]);
    assert_eq!(refused(&twice, &for_claim()), CsrError::Extension("2.5.29.15".to_owned()));
    let hidden = key.request(&seq(&[]), &[&requesting(&[&harmless]), &requesting(&[&authority])]);
    assert_eq!(refused(&hidden, &for_claim()), CsrError::Attribute("1.2.840.113549.1.9.14".to_owned()));
}

#[test]
fn attributes_other_than_wishes_are_refused() {
    let key = Key::new();
    let password = attribute(CHALLENGE_PASSWORD, &tlv(UTF8, &[b"hunter2"]));
    let error = refused(&key.request(&seq(&[]), &[&password]), &for_claim());
    assert_eq!(error, CsrError::ChallengePassword);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let unknown = attribute(UNSTRUCTURED_NAME, &tlv(UTF8, &[b"Example"]));
    let error = refused(&key.request(&seq(&[]), &[&unknown]), &for_claim());
    assert_eq!(error, CsrError::Attribute("1.2.840.113549.1.9.2".to_owned()));
}

#[test]
fn another_name_is_refused_and_the_same_name_in_other_letters_is_another() {
    let key = Key::new();
    let wide: Vec<u8> = "sensor-001".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let table = [
        named("admin"),
        named("sensor-002"),
        named("Sensor-001"),
        named("sensor-001 "),
        named("sensor-001\0"),
        named(""),
        seq(&[&rdn(CN, BMP, &wide)]),
    ];
    for subject in table {
        let error = refused(&key.request(&subject, &[]), &for_sensor());
        assert!(matches!(error, CsrError::OtherName { .. }), "{subject:02x?}: {error}");
    }
}

#[test]
fn the_name_that_was_asked_for_cannot_forge_a_line_of_a_log() {
    let error = refused(&Key::new().request(&named("admin\nok: 1"), &[]), &for_sensor());
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn two_names_are_refused_even_where_the_subject_is_ignored() {
    let key = Key::new();
    let (one, other) = (rdn(CN, UTF8, b"sensor-001"), rdn(CN, UTF8, b"admin"));
    let value = |name: &[u8]| seq(&[&oid(CN), &tlv(UTF8, &[name])]);
    let in_one_rdn = set(&[&value(b"admin"), &value(b"sensor-001")]);
    for subject in [seq(&[&one, &other]), seq(&[&other, &one]), seq(&[&one, &one]), seq(&[&in_one_rdn])] {
        for policy in [for_sensor(), for_claim()] {
            assert_eq!(refused(&key.request(&subject, &[]), &policy), CsrError::SeveralNames);
        }
    }
}

#[test]
fn an_organization_beside_the_name_is_not_a_name_and_an_address_is() {
    let key = Key::new();
    let name = rdn(CN, UTF8, b"sensor-001");
    let form = seq(&[&rdn(ORGANIZATION, UTF8, b"Internet Widgits Pty Ltd"), &name]);
    assert!(CheckedCsr::parse(&key.request(&form, &[]), &for_sensor()).is_ok());
    let address = seq(&[&name, &rdn(EMAIL, 22, b"admin@example.com")]);
    let error = refused(&key.request(&address, &[]), &for_sensor());
    assert_eq!(error, CsrError::SubjectAttribute("1.2.840.113549.1.9.1".to_owned()));
}

#[test]
fn a_false_signature_proves_nothing() {
    let (key, other) = (Key::new(), Key::new());
    let stolen = other.signed(&info(&seq(&[]), &key.spki(), &[]));
    assert_eq!(refused(&stolen, &for_claim()), CsrError::Signature);
    let mut changed = key.request(&named("sensor-002"), &[]);
    let at = changed.windows(10).position(|part| part == b"sensor-002").unwrap();
    changed[at + 9] = b'1';
    assert_eq!(refused(&changed, &for_sensor()), CsrError::Signature);
    assert_eq!(refused(&unsigned(&key.spki()), &for_claim()), CsrError::Signature);
}

#[test]
fn a_signature_with_sha1_or_of_another_kind_of_key_is_refused() {
    let key = Key::new();
    let info = info(&seq(&[]), &key.spki(), &[]);
    for kind in [SHA1_ECDSA, SHA256_RSA] {
        let der = seq(&[&info, &signature_algorithm(kind), &tlv(3, &[&[0, 0x30, 0]])]);
        assert_eq!(refused(&der, &for_claim()), CsrError::Algorithm);
    }
}

fn ec_spki(curve: &[u8], point: &[u8]) -> Vec<u8> {
    seq(&[&seq(&[&oid(EC_KEY), &oid(curve)]), &tlv(3, &[&[0], point])])
}

fn rsa_spki(modulus_bytes: usize, last: u8, exponent: &[u8]) -> Vec<u8> {
    let mut modulus = vec![0xc3; modulus_bytes];
    modulus[modulus_bytes - 1] = last;
    let key = seq(&[&tlv(2, &[&[0], &modulus]), &tlv(2, &[exponent])]);
    seq(&[&seq(&[&oid(RSA_KEY), &[5, 0]]), &tlv(3, &[&[0], &key])])
}

#[test]
fn weak_and_broken_keys_are_refused() {
    const F4: &[u8] = &[1, 0, 1];
    let good = Key::new().spki();
    let point = &good[good.len() - 65..];
    let compressed = [&[2 + point[64] % 2], &point[1..33]].concat();
    let mut off_curve = point.to_vec();
    off_curve[64] ^= 1;
    let table = [
        ("P-224", ec_spki(P224, &[4; 57]), KeyError::Unsupported),
        ("secp256k1", ec_spki(SECP256K1, point), KeyError::Unsupported),
        ("compressed", ec_spki(P256, &compressed), KeyError::Value),
        ("off the curve", ec_spki(P256, &off_curve), KeyError::Value),
        ("at infinity", ec_spki(P256, &[0]), KeyError::Value),
        ("RSA-1024", rsa_spki(128, 1, F4), KeyError::RsaSize(1024)),
        ("RSA-16384", rsa_spki(1900, 1, F4), KeyError::RsaSize(15_200)),
        ("RSA-5120", rsa_spki(640, 1, F4), KeyError::NotAllowed(KeyKind::Rsa(5120))),
        ("e = 1", rsa_spki(256, 1, &[1]), KeyError::RsaExponent),
        ("e = 3", rsa_spki(256, 1, &[3]), KeyError::RsaExponent),
        ("e even", rsa_spki(256, 1, &[1, 0, 2]), KeyError::RsaExponent),
        ("e of 9 bytes", rsa_spki(256, 1, &[1; 9]), KeyError::RsaExponent),
        ("an even modulus", rsa_spki(256, 2, F4), KeyError::Value),
        ("nothing", seq(&[]), KeyError::Unreadable),
    ];
    for (what, spki, error) in table {
        if error == KeyError::Unreadable {
            assert_eq!(PublicKey::from_spki(&spki), Err(error), "{what}");
        } else {
            assert_eq!(refused(&unsigned(&spki), &for_claim()), CsrError::Key(error), "{what}");
        }
    }
}

#[test]
fn an_rsa_key_of_2048_bits_is_taken_and_not_where_the_policy_has_no_rsa() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let info = info(&named("sensor-001"), spki.as_ref(), &[]);
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &info, &mut signature).unwrap();
    let der = seq(&[&info, &seq(&[&oid(SHA256_RSA), &[5, 0]]), &tlv(3, &[&[0], &signature])]);
    let checked = CheckedCsr::parse(&der, &for_sensor()).unwrap();
    assert_eq!(checked.public_key().kind(), KeyKind::Rsa(2048));
    assert_eq!(checked.public_key().spki_der(), spki.as_ref());
    let without = CsrPolicy { keys: KeyKinds { rsa_bits: None, ..KeyKinds::default() }, ..for_sensor() };
    assert_eq!(refused(&der, &without), CsrError::Key(KeyError::NotAllowed(KeyKind::Rsa(2048))));
}

#[test]
fn p521_and_ed25519_are_taken_only_where_the_policy_says_so() {
    let p521 = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_ASN1_SIGNING).unwrap();
    let spki: PublicKeyX509Der<'_> = p521.public_key().as_der().unwrap();
    let info = info(&seq(&[]), spki.as_ref(), &[]);
    let signature = p521.sign(&SystemRandom::new(), &info).unwrap();
    let sha512_ecdsa = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
    let p521 = seq(&[&info, &signature_algorithm(&sha512_ecdsa), &tlv(3, &[&[0], signature.as_ref()])]);
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ed25519 = rcgen::CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec();
    for (der, kind) in [(p521, KeyKind::P521), (ed25519, KeyKind::Ed25519)] {
        assert_eq!(refused(&der, &for_claim()), CsrError::Key(KeyError::NotAllowed(kind)));
        let every = CsrPolicy { keys: KeyKinds::every(), ..for_claim() };
        assert_eq!(CheckedCsr::parse(&der, &every).unwrap().public_key().kind(), kind);
    }
}

#[test]
fn a_megabyte_of_attributes_is_refused_by_its_length() {
    let filler = attribute(UNSTRUCTURED_NAME, &tlv(UTF8, &[&vec![b'a'; 1 << 20]]));
    let der = Key::new().request(&seq(&[]), &[&filler]);
    assert_eq!(refused(&der, &for_claim()), CsrError::TooLong(der.len()));
    let just_over = vec![0x30; CSR_BYTES_MAX + 1];
    assert_eq!(refused(&just_over, &for_claim()), CsrError::TooLong(CSR_BYTES_MAX + 1));
}

#[test]
fn anything_but_exactly_one_request_is_refused() {
    let der = Key::new().request(&named("sensor-001"), &[]);
    let pem = to_pem("CERTIFICATE REQUEST", der.clone());
    let table = [
        (Vec::new(), CsrError::NotOne(0)),
        (b"0".to_vec(), CsrError::Unreadable),
        (b"hello".to_vec(), CsrError::NotOne(0)),
        (to_pem("CERTIFICATE", der.clone()).into_bytes(), CsrError::NotOne(0)),
        (pem.repeat(2).into_bytes(), CsrError::NotOne(2)),
        ([&der[..], &[0]].concat(), CsrError::Unreadable),
        ([&der[..], &der[..]].concat(), CsrError::Unreadable),
        (der[..der.len() - 1].to_vec(), CsrError::Unreadable),
        (to_pem("CERTIFICATE REQUEST", b"hello".to_vec()).into_bytes(), CsrError::Unreadable),
        (pem.replace("-----END", "=====END").into_bytes(), CsrError::NotOne(0)),
    ];
    for (bytes, error) in table {
        assert_eq!(refused(&bytes, &for_sensor()), error, "{}", String::from_utf8_lossy(&bytes));
    }
    let version_2 = der.windows(3).position(|part| part == [2, 1, 0]).unwrap();
    let mut changed = der;
    changed[version_2 + 2] = 1;
    assert_eq!(refused(&changed, &for_sensor()), CsrError::Unreadable);
}

#[test]
fn every_refusal_says_what_to_do() {
    let errors = [
        CsrError::TooLong(1),
        CsrError::Key(KeyError::RsaSize(1024)),
        CsrError::Key(KeyError::NotAllowed(KeyKind::P521)),
        CsrError::Signature,
        CsrError::Authority,
        CsrError::OtherName { asked: "admin".into(), allowed: thing("sensor-001") },
    ];
    for error in errors {
        assert!(!error.hint().is_empty() && !error.to_string().is_empty());
        assert!(error.metric_label().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_changed_byte_never_makes_a_request_for_another_key(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let key = Key::new();
        let mut der = key.request(&named("sensor-001"), &[]);
        let at = at.index(der.len());
        der[at] = to;
        if let Ok(checked) = CheckedCsr::parse(&der, &for_sensor()) {
            prop_assert_eq!(checked.public_key().spki_der(), &key.spki()[..]);
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let der = seq(&[&bytes]);
        prop_assert!(CheckedCsr::parse(&bytes, &for_claim()).is_err());
        prop_assert!(CheckedCsr::parse(&der, &for_claim()).is_err());
    }
}
