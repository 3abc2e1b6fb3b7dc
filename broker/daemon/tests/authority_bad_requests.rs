//! Bad signing requests, given to a running broker: each is refused in clear words, gives no certificate and adds nobody, and
//! leaves a row in the audit trail.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::time::{Duration, Instant};

use rcgen::{
    Attribute, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    KeyPair,
};
use setup::Setup;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

/// challengePassword, 1.2.840.113549.1.9.7.
const CHALLENGE_PASSWORD: &[u64] = &[1, 2, 840, 113_549, 1, 9, 7];

/// RSA of 1024 bits, as `openssl req -newkey rsa:1024 -subj /CN=sensor-1` makes it.
const RSA_1024: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIIBUjCBvAIBADATMREwDwYDVQQDDAhzZW5zb3ItMTCBnzANBgkqhkiG9w0BAQEF
AAOBjQAwgYkCgYEA4bpky1w9Smmo1GHLbTkdBBMhrHrK1kHRbSeNDDzywpjVw1Fr
9cL72vSY5rPRIdOmrWz1zaBRLH82WUc7FsAncsHjkcz+BcHunU92+TNPjeWoghIV
Nj6Y8iyCdkEyFjRLNp9xM1uWIsyygts+0HAkXPn2DPjA2EHsBX1yiBnzrucCAwEA
AaAAMA0GCSqGSIb3DQEBCwUAA4GBAL9en8c6u3ap5iTNzHC9jNnUBASPTN33yK7b
z37b1B7ZP9+cA6sb+SkSAjMufXZHdmEq8vvf56wcqQM+zOO0PPFhdSlWNFBG+Utn
kmXq4vsXram8L66voIwEvrksQ1jNiHItb5JvxkXKsokM7X9+nlfeR6opgtrV342Q
lN49mw0F
-----END CERTIFICATE REQUEST-----
";

/// rcgen keeps one value of each kind, so a second name is a pseudonym at first.
fn named(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (name, kind) in names.iter().zip([DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 65])]) {
        params.distinguished_name.push(kind, *name);
    }
    params
}

fn pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der))
}

fn request(params: &CertificateParams) -> String {
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn asking_to_be_an_authority() -> String {
    let mut params = named(&["sensor-1"]);
    // BasicConstraints: cA TRUE.
    let ca = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]);
    params.custom_extensions.push(ca);
    request(&params)
}

fn asking_to_be_a_server() -> String {
    let mut params = named(&["sensor-1"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    request(&params)
}

/// Two common names: pseudonym (2.5.4.65) becomes commonName (2.5.4.3), and the request is signed again.
fn with_two_names() -> String {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let key = KeyPair::generate().unwrap();
    let der = named(&["sensor-1", "admin"]).serialize_request(&key).unwrap().der().to_vec();
    let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
    let mut info = parsed.certification_request_info.raw.to_vec();
    let at = info.windows(3).position(|oid| oid == [0x55, 4, 65]).unwrap();
    info[at + 2] = 3;
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der()).unwrap();
    let signature = signer.sign(&SystemRandom::new(), &info).unwrap();
    let algorithm = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let mut bits = vec![3, u8::try_from(signature.as_ref().len() + 1).unwrap(), 0];
    bits.extend(signature.as_ref());
    let content = [&info[..], &algorithm, &bits].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    pem(&[&[0x30, 0x82], &length[..], &content].concat())
}

fn with_a_false_signature() -> String {
    let key = KeyPair::generate().unwrap();
    let mut der = named(&["sensor-0"]).serialize_request(&key).unwrap().der().to_vec();
    // What was signed is not what is there.
    let at = der.windows(8).position(|name| name == b"sensor-0").unwrap();
    der[at + 7] = b'1';
    pem(&der)
}

fn with_a_megabyte_of_attributes() -> String {
    // PrintableString of a million letters.
    let mut value = vec![0x13, 0x83, 0x0f, 0x42, 0x40];
    value.extend(std::iter::repeat_n(b'a', 1_000_000));
    let attribute = Attribute { oid: CHALLENGE_PASSWORD, values: value };
    let params = named(&["sensor-1"]);
    let request = params.serialize_request_with_attributes(&KeyPair::generate().unwrap(), vec![attribute]);
    request.unwrap().pem().unwrap()
}

#[test]
fn every_bad_request_is_refused_recorded_and_gives_nothing() {
    let setup = Setup::started();
    // A device that is there, and a key that is taken.
    let taken = KeyPair::generate().unwrap();
    let good = named(&["sensor-9"]).serialize_request(&taken).unwrap().pem().unwrap();
    fs::write(setup.path("good.csr"), good).unwrap();
    setup.ask(&["device", "add", "sensor-9", "--csr", "good.csr"]);
    let reused = named(&["sensor-1"]).serialize_request(&taken).unwrap().pem().unwrap();
    let cases = [
        ("an authority", asking_to_be_an_authority(), "certificate authority"),
        ("a server", asking_to_be_a_server(), "usage"),
        ("another's name", request(&named(&["sensor-9"])), "sensor-9"),
        ("two names", with_two_names(), "more than one subject"),
        ("a weak key", RSA_1024.to_owned(), "1024"),
        ("a key that is taken", reused, "key"),
        ("a megabyte", with_a_megabyte_of_attributes(), "bytes"),
        ("a false signature", with_a_false_signature(), "signature"),
        ("no request at all", "garbage".to_owned(), "request"),
    ];
    let rows =
        || setup.ask(&["audit", "list", "--kind", "refused", "--limit", "1000"]).as_array().unwrap().clone();
    for (what, csr, word) in cases {
        let before = rows().len();
        fs::write(setup.path("bad.csr"), csr).unwrap();
        let said = setup.refused(&["device", "add", "sensor-1", "--csr", "bad.csr"]);
        assert!(said.contains(word), "{what}: {said}");
        // Nobody was added, and nothing was issued.
        setup.refused(&["device", "show", "sensor-1"]);
        // The row is written beside the answer.
        let end = Instant::now() + Duration::from_secs(20);
        let mut after = rows();
        while after.len() == before && Instant::now() < end {
            after = rows();
        }
        assert_eq!(after.len(), before + 1, "{what}: {said}");
        let row = after.last().unwrap();
        let text = row["text"].as_str().unwrap();
        assert!(text.contains("sensor-1") && text.contains(word), "{what}: {text}");
        assert!(row["actor"].as_str().unwrap().starts_with("local uid"), "{what}: {row}");
    }
    let issued = setup.ask(&["audit", "list", "--kind", "certificate_added"]);
    assert_eq!(issued.as_array().unwrap().len(), 1, "sensor-9's alone: {issued}");
    // The nearest thing that is right.
    fs::write(setup.path("good.csr"), request(&named(&["sensor-1"]))).unwrap();
    setup.ask(&["device", "add", "sensor-1", "--csr", "good.csr"]);
    setup.ask(&["audit", "verify"]);
}
