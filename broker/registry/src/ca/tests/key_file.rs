use pkcs8::der::Encode as _;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Kdf, Parameters, Pbkdf2Params, ScryptParams};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument};

use super::*;

const MESSAGE: &[u8] = b"to be signed";

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes())
}

fn read(pem: &str, secret: Option<&str>) -> Result<KeySigner, KeyFileError> {
    KeySigner::from_pem(pem.as_bytes(), secret.map(passphrase).as_ref())
}

/// A file that says it is encrypted by `parameters`, with bytes in it that are nothing.
fn encrypted_by(parameters: Parameters) -> String {
    let info = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: parameters.into(),
        encrypted_data: OctetStringRef::new(&[7; 32]).unwrap(),
    };
    to_pem("ENCRYPTED PRIVATE KEY", info.to_der().unwrap())
}

#[test]
fn a_key_is_written_and_read_with_and_without_a_passphrase() {
    for kind in [NewKey::P256, NewKey::P384] {
        let key = KeySigner::generate(kind).unwrap();
        let plain = key.to_pem().unwrap();
        assert!(plain.expose().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(read(plain.expose(), None).unwrap().public_key(), key.public_key());
        assert_eq!(read(plain.expose(), Some("of no matter")).unwrap().public_key(), key.public_key());

        let encrypted = key.to_encrypted_pem(&passphrase("correct horse")).unwrap();
        assert!(encrypted.expose().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        let again = read(encrypted.expose(), Some("correct horse")).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.algorithm(), key.algorithm());
        let no_secret = [None, Some("correct hors"), Some("Correct horse"), Some("")];
        let why = [
            KeyFileError::PassphraseNeeded,
            KeyFileError::WrongPassphrase,
            KeyFileError::WrongPassphrase,
            KeyFileError::WrongPassphrase,
        ];
        for (secret, why) in no_secret.into_iter().zip(why) {
            assert_eq!(read(encrypted.expose(), secret).unwrap_err(), why, "{secret:?}");
        }
    }
}

#[test]
fn two_encryptions_of_one_key_have_nothing_in_common() {
    let key = signer();
    let one = key.to_encrypted_pem(&passphrase("correct horse")).unwrap();
    let other = key.to_encrypted_pem(&passphrase("correct horse")).unwrap();
    let last_lines = |pem: &PrivateKeyPem| pem.expose().lines().nth(3).map(str::to_owned);
    assert_ne!(last_lines(&one), last_lines(&other));
}

#[test]
fn a_short_passphrase_is_refused_when_it_is_chosen() {
    let refused = signer().to_encrypted_pem(&passphrase("1234567")).unwrap_err();
    assert_eq!(refused, KeyFileError::ShortPassphrase(7));
}

#[test]
fn a_passphrase_file_is_read_to_the_end_of_its_first_line() {
    let key = signer();
    let pem = key.to_encrypted_pem(&passphrase("correct horse")).unwrap();
    for file in ["correct horse", "correct horse\n", "correct horse\r\n", "correct horse\nsecond line"] {
        let secret = Passphrase::first_line(file.as_bytes());
        assert!(KeySigner::from_pem(pem.expose().as_bytes(), Some(&secret)).is_ok(), "{file:?}");
    }
    let spaced = Passphrase::first_line(b" correct horse");
    assert!(KeySigner::from_pem(pem.expose().as_bytes(), Some(&spaced)).is_err());
}

#[test]
fn a_key_encrypted_with_pbkdf2_as_openssl_does_is_read() {
    let key = signer();
    let plain = key.to_pem().unwrap();
    let (_, document) = SecretDocument::from_pem(plain.expose()).unwrap();
    let kdf = Kdf::Pbkdf2(Pbkdf2Params::hmac_sha256(2048, &[1; 16]).unwrap());
    let parameters = Parameters { kdf, encryption: EncryptionScheme::Aes256Cbc { iv: [2; 16] } };
    let encrypted = parameters.encrypt("secret", document.as_bytes()).unwrap();
    let info = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: parameters.into(),
        encrypted_data: OctetStringRef::new(&encrypted).unwrap(),
    };
    let pem =
        SecretDocument::try_from(info).unwrap().to_pem("ENCRYPTED PRIVATE KEY", LineEnding::CRLF).unwrap();
    assert_eq!(read(&pem, Some("secret")).unwrap().public_key(), key.public_key());
}

#[test]
fn a_file_that_asks_for_endless_work_is_refused_before_the_work() {
    let encryption = EncryptionScheme::Aes256Cbc { iv: [2; 16] };
    let scrypt = |cost_parameter, block_size, parallelization| {
        let salt = [1; 16][..].try_into().unwrap();
        let params = ScryptParams { salt, cost_parameter, block_size, parallelization, key_length: None };
        encrypted_by(Parameters { kdf: Kdf::Scrypt(params), encryption })
    };
    let iterations = |iteration_count| {
        let mut params = Pbkdf2Params::hmac_sha256(1, &[1; 16]).unwrap();
        params.iteration_count = iteration_count;
        encrypted_by(Parameters { kdf: Kdf::Pbkdf2(params), encryption })
    };
    let table = [
        (scrypt(1 << 40, 8, 1), KeyFileError::Cost),
        (scrypt(1 << 63, u16::MAX, 1), KeyFileError::Cost),
        (scrypt(1 << 14, 8, SCRYPT_LANES_MAX + 1), KeyFileError::Cost),
        (scrypt(0, 8, 1), KeyFileError::Encryption),
        (scrypt(3, 8, 1), KeyFileError::Encryption),
        (scrypt(1 << 10, 0, 1), KeyFileError::Encryption),
        (iterations(PBKDF2_ITERATIONS_MAX + 1), KeyFileError::Cost),
        (iterations(0), KeyFileError::Cost),
    ];
    for (file, error) in table {
        assert_eq!(read(&file, Some("secret")).unwrap_err(), error, "{file}");
    }
}

#[test]
fn keys_of_other_tools_are_read() {
    let device = DeviceKey::generate().unwrap();
    let sec1 = device.private.expose();
    assert_eq!(read(sec1, None).unwrap().public_key(), &device.public);
    // `openssl ecparam -genkey` puts the curve before the key, and text may stand around it.
    let curve = to_pem("EC PARAMETERS", vec![6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    let file = format!("Key:\n{curve}{sec1}the end\n");
    assert_eq!(read(&file, None).unwrap().public_key(), &device.public);

    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let signer = KeySigner::from_pkcs8(rsa.serialized_der()).unwrap();
    assert_eq!(signer.algorithm(), SignatureAlgorithm::RsaPkcs1Sha256);
    let again = read(signer.to_pem().unwrap().expose(), None).unwrap();
    assert_eq!(again.public_key(), signer.public_key());
    assert_eq!(again.sign(MESSAGE).unwrap().len(), 256);
}

#[test]
fn anything_but_one_usable_key_is_refused() {
    let key = signer().to_pem().unwrap();
    let key = key.expose();
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let legacy = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let table = [
        (String::new(), KeyFileError::NoKey),
        (root().certificate_pem(), KeyFileError::NoKey),
        (key.repeat(2), KeyFileError::SeveralKeys),
        (key.replace("-----END", "=====END"), KeyFileError::Damaged),
        (key.replace('M', "*"), KeyFileError::Damaged),
        (ed25519.serialize_pem(), KeyFileError::Unsupported),
        (p521.serialize_pem(), KeyFileError::Unsupported),
        (to_pem("PRIVATE KEY", seq(&[])), KeyFileError::Unsupported),
        (to_pem("OPENSSH PRIVATE KEY", seq(&[])), KeyFileError::Unsupported),
        (to_pem("ENCRYPTED PRIVATE KEY", seq(&[])), KeyFileError::Encryption),
        (legacy.to_owned(), KeyFileError::Encryption),
        ("a".repeat(KEY_FILE_BYTES_MAX + 1), KeyFileError::TooLong(KEY_FILE_BYTES_MAX + 1)),
    ];
    for (file, error) in table {
        assert_eq!(read(&file, Some("secret")).unwrap_err(), error, "{file}");
    }
    assert_eq!(KeySigner::from_pem(&[0xff; 10], None).unwrap_err(), KeyFileError::NoKey);
}

#[test]
fn a_device_key_is_p256_in_sec_1_and_different_each_time() {
    let (one, other) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    assert!(one.private.expose().starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
    assert!(one.private.expose().ends_with("-----END EC PRIVATE KEY-----\n"));
    assert_eq!(one.public.kind(), KeyKind::P256);
    assert_ne!(one.public, other.public);
    let signer = read(one.private.expose(), None).unwrap();
    assert_eq!(signer.public_key().hash(), one.public.hash());
}

#[test]
fn nothing_that_is_shown_has_a_secret_in_it() {
    let key = signer();
    let device = DeviceKey::generate().unwrap();
    let secret = passphrase("correct horse");
    let pem = key.to_encrypted_pem(&secret).unwrap();
    let wrong = read(pem.expose(), Some("battery staple")).unwrap_err();
    let shown = format!("{key:?} {device:?} {secret:?} {pem:?} {wrong:?} {wrong}");
    assert!(shown.contains("PrivateKeyPem(..)") && shown.contains("Passphrase(..)"));
    assert!(!shown.contains("horse") && !shown.contains("battery") && !shown.contains("BEGIN"));
    for file in [&device.private, &key.to_pem().unwrap()] {
        let body = file.expose().lines().nth(1).unwrap();
        assert!(!shown.contains(body));
    }
    let numbers = format!("{:?}", "correct horse".as_bytes());
    assert!(!shown.contains(&numbers));
}
