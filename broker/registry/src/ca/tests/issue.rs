use std::collections::HashSet;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

use super::*;
use crate::{NewCertificate, SerialNumber};

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    let (rest, parsed) = X509Certificate::from_der(der).unwrap();
    assert!(rest.is_empty());
    parsed
}

/// The extensions by their number below 2.5.29, with whether they are critical.
fn extensions(certificate: &X509Certificate<'_>) -> Vec<(String, bool)> {
    let mut all: Vec<_> =
        certificate.extensions().iter().map(|one| (one.oid.to_id_string(), one.critical)).collect();
    all.sort();
    all
}

fn expected(list: &[(u8, bool)]) -> Vec<(String, bool)> {
    let mut all: Vec<_> = list.iter().map(|(last, critical)| (format!("2.5.29.{last}"), *critical)).collect();
    all.sort();
    all
}

#[test]
fn every_field_of_a_certificate_is_the_brokers_and_the_key_is_the_devices() {
    let root = root();
    let issuer = below(&root, 3000 * DAY);
    let key = device_key();
    let serial = [0x9a; 16];
    let url = CrlUrl::try_from("http://ca.example/crl").unwrap();
    let profile = Profile::new(90 * DAY, Duration::from_secs(3600)).unwrap().with_crl_url(url);
    let issued = issue(&issuer, &key, &thing("sensor_1:a.b"), &profile, NOW, serial).unwrap();
    let certificate = parsed(&issued.der);

    assert_eq!(certificate.version(), X509Version::V3);
    // Positive: a zero byte before the first bit that is set (RFC 5280 section 4.1.2.2).
    assert_eq!(certificate.raw_serial(), [&[0][..], &serial].concat());
    assert_eq!(issued.serial, SerialNumber::new(&serial).unwrap());
    assert_eq!(certificate.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2");
    assert_eq!(certificate.signature_algorithm, certificate.tbs_certificate.signature);
    assert_eq!(certificate.issuer().as_raw(), parsed(issuer.certificate_der()).subject().as_raw());
    let subject: Vec<_> = certificate.subject().iter_attributes().collect();
    assert_eq!(subject.len(), 1);
    assert_eq!(subject[0].attr_type().to_id_string(), "2.5.4.3");
    assert_eq!(subject[0].attr_value().data, b"sensor_1:a.b");
    assert_eq!(certificate.public_key().raw, key.spki_der());
    let now = NOW.unix_secs();
    assert_eq!(certificate.validity().not_before.timestamp(), now - 3600);
    assert_eq!(certificate.validity().not_after.timestamp(), now + 90 * 86_400);
    assert_eq!((issued.not_before, issued.not_after), (now - 3600, now + 90 * 86_400));
    assert!(!issued.shortened);
    check_leaf_extensions(&certificate, &issuer);
    verify(&issued.der, &[&issuer], &root, NOW, None).unwrap();
}

fn check_leaf_extensions(certificate: &X509Certificate<'_>, issuer: &Issuer) {
    let all = [(15, true), (19, true), (37, false), (14, false), (35, false), (31, false)];
    assert_eq!(extensions(certificate), expected(&all));
    let issuing = parsed(issuer.certificate_der());
    let issuing_id = issuing.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => assert_eq!(usage.flags, 1, "digitalSignature alone"),
            ParsedExtension::BasicConstraints(basic) => {
                assert!(!basic.ca && basic.path_len_constraint.is_none());
            }
            // A SEQUENCE of the one purpose id-kp-clientAuth.
            ParsedExtension::ExtendedKeyUsage(_) => {
                assert_eq!(extension.value, [0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2]);
            }
            ParsedExtension::SubjectKeyIdentifier(id) => assert_eq!(id.0.len(), 20),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                assert_eq!(id.key_identifier.as_ref().map(|id| id.0), issuing_id);
                assert!(id.authority_cert_issuer.is_none() && id.authority_cert_serial.is_none());
            }
            ParsedExtension::CRLDistributionPoints(points) => {
                assert_eq!(points.points.len(), 1);
                assert!(format!("{points:?}").contains("http://ca.example/crl"));
            }
            other => panic!("unexpected extension {other:?}"),
        }
    }
}

#[test]
fn the_registry_reads_the_same_facts_from_the_certificate() {
    let issuer = root();
    let key = device_key();
    let issued = issue(&issuer, &key, &thing("sensor-001"), &Profile::default(), NOW, [1; 16]).unwrap();
    let facts = NewCertificate::read(&issued.der, issuer.key_hash()).unwrap().facts().clone();
    assert_eq!(facts.id, issued.certificate_id);
    assert_eq!(facts.serial, issued.serial);
    assert_eq!(facts.public_key, key.hash());
    assert_eq!((facts.not_before, facts.not_after), (issued.not_before, issued.not_after));
    let pem = pem::parse(issued.pem()).unwrap();
    assert_eq!((pem.tag(), pem.contents()), ("CERTIFICATE", &issued.der[..]));
}

#[test]
fn a_profile_without_a_list_puts_no_distribution_point_into_the_certificate() {
    let issuer = root();
    let issued = issued_by(&issuer);
    let all = [(15, true), (19, true), (37, false), (14, false), (35, false)];
    assert_eq!(extensions(&parsed(&issued.der)), expected(&all));
}

#[test]
fn ten_thousand_serial_numbers_are_different_positive_and_of_at_most_17_bytes() {
    let issuer = root();
    let key = device_key();
    let serials: HashSet<_> = (0..10_000).map(|_| random_serial().unwrap()).collect();
    assert_eq!(serials.len(), 10_000);
    // The same key twice: not the serial number that a hash of the key would give.
    let mut certified = HashSet::new();
    for serial in serials.into_iter().take(64) {
        let issued = issue(&issuer, &key, &thing("sensor-001"), &Profile::default(), NOW, serial).unwrap();
        let certificate = parsed(&issued.der);
        let raw = certificate.raw_serial();
        assert!(raw[0] < 0x80 && raw.len() <= 17);
        assert_eq!(SerialNumber::new(raw), Some(issued.serial));
        assert!(certified.insert(issued.serial));
    }
}

#[test]
fn a_serial_number_of_small_value_is_encoded_in_the_fewest_bytes_and_zero_is_refused() {
    let issuer = root();
    let mut serial = [0; 16];
    serial[15] = 5;
    let one = |serial| issue(&issuer, &device_key(), &thing("sensor-001"), &Profile::default(), NOW, serial);
    assert_eq!(parsed(&one(serial).unwrap().der).raw_serial(), [5]);
    assert_eq!(one([0; 16]), Err(IssueError::Serial));
}

#[test]
fn no_certificate_is_valid_outside_its_authoritys_time() {
    let root = root();
    let issuer = below(&root, 10 * DAY);
    assert_eq!(issuer.not_after(), NOW.unix_secs() + 10 * 86_400);
    let issued = issued_by(&issuer);
    assert_eq!(issued.not_after, issuer.not_after());
    assert!(issued.shortened);
    let back = Profile::new(DAY, 30 * DAY).unwrap();
    let issued = issue(&issuer, &device_key(), &thing("sensor-001"), &back, NOW, [1; 16]).unwrap();
    assert_eq!(issued.not_before, issuer.not_before());
    assert_eq!(issued.not_after, NOW.unix_secs() + 86_400);
    assert!(!issued.shortened);

    let longer = below(&root, 4000 * DAY);
    assert_eq!(longer.not_after(), root.not_after());
}

#[test]
fn an_authority_that_is_over_or_has_not_begun_signs_nothing() {
    let issuer = root();
    let at = |secs| {
        issue(&issuer, &device_key(), &thing("a"), &Profile::default(), Wall::from_unix_secs(secs), [1; 16])
    };
    assert!(at(issuer.not_after()).is_ok());
    let over = Wall::from_unix_secs(issuer.not_after());
    assert_eq!(at(issuer.not_after() + 1), Err(IssueError::Issuer(IssuerError::Expired(over))));
    assert!(at(issuer.not_before()).is_ok());
    // A clock that stands at 1970.
    let begin = Wall::from_unix_secs(issuer.not_before());
    assert_eq!(at(0), Err(IssueError::Issuer(IssuerError::NotYetValid(begin))));
}

#[test]
fn dates_from_2050_on_are_written_and_past_the_year_9999_refused() {
    let name = AuthorityName::try_from("Long").unwrap();
    let key = signer();
    let made = make_root(&name, &*key, VALIDITY_MAX, NOW, [1; 16]).unwrap();
    assert_eq!(parsed(&made.der).validity().not_after.timestamp(), made.not_after);
    let far = Wall::from_unix_secs(253_402_300_000);
    assert_eq!(make_root(&name, &*key, VALIDITY_MAX, far, [1; 16]), Err(IssueError::Clock));
}

#[test]
fn a_name_that_a_certificate_cannot_carry_is_refused() {
    let issuer = root();
    let rule = NameRule::new(128, "").unwrap();
    let one = |len: usize| {
        let name = ThingName::new(&"a".repeat(len), &rule).unwrap();
        issue(&issuer, &device_key(), &name, &Profile::default(), NOW, [1; 16])
    };
    assert!(one(64).is_ok());
    assert_eq!(one(65), Err(IssueError::NameTooLong));
}

#[test]
fn the_authoritys_own_key_is_not_certified() {
    let signer = signer();
    let name = AuthorityName::try_from("Test Root").unwrap();
    let made = make_root(&name, &*signer, DAY, NOW, [1; 16]).unwrap();
    let issuer = Issuer::load(&made.der, signer.clone(), NOW).unwrap();
    let own = issue(&issuer, signer.public_key(), &thing("a"), &Profile::default(), NOW, [1; 16]);
    assert_eq!(own, Err(IssueError::AuthorityKey));
}

#[test]
fn a_root_and_an_authority_below_it_are_made_for_each_kind_of_key() {
    for (top, middle) in [(NewKey::P384, NewKey::P256), (NewKey::P256, NewKey::P384)] {
        let key = Arc::new(KeySigner::generate(top).unwrap());
        let made =
            make_root(&AuthorityName::try_from("Root Ü").unwrap(), &*key, 3650 * DAY, NOW, [1; 16]).unwrap();
        let certificate = parsed(&made.der);
        assert_eq!(certificate.issuer().as_raw(), certificate.subject().as_raw());
        assert_eq!(extensions(&certificate), expected(&[(15, true), (19, true), (14, false)]));
        let root = Issuer::load(&made.der, key, NOW).unwrap();
        assert_eq!((root.path_len(), root.signs_crls()), (Some(1), true));

        let key = Arc::new(KeySigner::generate(middle).unwrap());
        let name = AuthorityName::try_from("Issuing").unwrap();
        let made = make_issuing(&root, key.public_key(), &name, 1000 * DAY, None, NOW, [2; 16]).unwrap();
        let all = [(15, true), (19, true), (14, false), (35, false)];
        assert_eq!(extensions(&parsed(&made.der)), expected(&all));
        let issuer = Issuer::load(&made.der, key, NOW).unwrap();
        assert_eq!(issuer.path_len(), Some(0));
        verify(&issued_by(&issuer).der, &[&issuer], &root, NOW, None).unwrap();
        assert!(verify(&issued_by(&issuer).der, &[], &root, NOW, None).is_err());
    }
}

#[test]
fn an_authority_with_path_length_0_signs_no_authority() {
    let root = root();
    let issuer = below(&root, 100 * DAY);
    let name = AuthorityName::try_from("Too deep").unwrap();
    let made = make_issuing(&issuer, signer().public_key(), &name, DAY, None, NOW, [1; 16]);
    assert_eq!(made, Err(IssueError::PathLength));
}

#[test]
fn a_device_cannot_sign_for_another() {
    let root = root();
    let key = signer();
    let device =
        issue(&root, key.public_key(), &thing("sensor-001"), &Profile::default(), NOW, [1; 16]).unwrap();
    assert_eq!(Issuer::load(&device.der, key, NOW).unwrap_err(), IssuerError::NotAuthority);
}

#[test]
fn impossible_profiles_names_and_addresses_are_refused() {
    let second = Duration::from_secs(1);
    let over = VALIDITY_MAX + second;
    assert_eq!(Profile::new(over, DAY), Err(ProfileError::Validity(over)));
    assert_eq!(Profile::new(59 * second, DAY), Err(ProfileError::Validity(59 * second)));
    assert_eq!(Profile::new(DAY, BACKDATE_MAX + second), Err(ProfileError::Backdate));
    assert!(
        Profile::new(VALIDITY_MAX, BACKDATE_MAX).is_ok()
            && Profile::new(VALIDITY_MIN, Duration::ZERO).is_ok()
    );
    for url in [
        "",
        "http://",
        "http:///crl",
        "ldap://a/b",
        "file:///etc/passwd",
        "http://a b",
        "http://ü",
        "http://a\n",
    ] {
        assert_eq!(CrlUrl::try_from(url), Err(ProfileError::CrlUrl), "{url:?}");
    }
    for name in ["", "a\nb", &"a".repeat(65)] {
        assert_eq!(AuthorityName::try_from(name), Err(ProfileError::AuthorityName), "{name:?}");
    }
}

/// A signer that gives what it is told to give.
struct Broken(Arc<KeySigner>, fn(Vec<u8>) -> Result<Vec<u8>, SignerError>);

impl Signer for Broken {
    fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.0.sign(message).and_then(self.1)
    }
}

#[test]
fn a_signer_that_fails_or_lies_gives_no_certificate() {
    let key = signer();
    let name = AuthorityName::try_from("Test Root").unwrap();
    let made = make_root(&name, &*key, DAY, NOW, [1; 16]).unwrap();
    let gone = SignerError::Unavailable("the token was removed".to_owned());
    type Lie = fn(Vec<u8>) -> Result<Vec<u8>, SignerError>;
    let lies: [(Lie, SignerError); 3] = [
        (|_| Err(SignerError::Unavailable("the token was removed".to_owned())), gone),
        (|_| Ok(Vec::new()), SignerError::FalseSignature),
        // The two numbers side by side, as a PKCS #11 token gives them.
        (|_| Ok(vec![0x42; 64]), SignerError::FalseSignature),
    ];
    for (lie, error) in lies {
        let issuer = Issuer::load(&made.der, Arc::new(Broken(key.clone(), lie)), NOW).unwrap();
        let result = issue(&issuer, &device_key(), &thing("a"), &Profile::default(), NOW, [1; 16]);
        assert_eq!(result, Err(IssueError::Signer(error)));
    }
}
