//! Private keys: made here, read from a file's contents, written for one.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs8::pkcs5::{self, EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument};
use zeroize::Zeroizing;

use super::{KeyError, PublicKey, SignatureAlgorithm, Signer, SignerError};

/// The most bytes of a key file.
pub const KEY_FILE_BYTES_MAX: usize = 65_536;
/// The fewest bytes of a passphrase that a key is encrypted with.
pub const PASSPHRASE_BYTES_MIN: usize = 8;
/// The most memory that reading a key encrypted with scrypt may take, in bytes.
pub const SCRYPT_BYTES_MAX: u64 = 256 << 20;
/// The most rounds of scrypt's parallelization parameter in a file.
pub const SCRYPT_LANES_MAX: u16 = 16;
/// The most iterations of PBKDF2 in a file.
pub const PBKDF2_ITERATIONS_MAX: u32 = 10_000_000;

/// scrypt with N = 2^14, r = 8, p = 5 takes 16 MiB: OpenSSL reads nothing above 32 MiB.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 5;

const PKCS8: &str = "PRIVATE KEY";
const PKCS8_ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";

/// What a key file is encrypted with. It is zeroized when dropped and never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// The passphrase of these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The first line of a passphrase file, without its line end, as `openssl -passin file:` takes it.
    #[must_use]
    pub fn first_line(contents: &[u8]) -> Self {
        let line = contents.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
        Self::new(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// A private key as PEM text. It is zeroized when dropped; it can neither be shown, nor cloned, nor serialized.
pub struct PrivateKeyPem(Zeroizing<String>);

impl PrivateKeyPem {
    /// The text, for the one reply or file that must carry it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(..)")
    }
}

/// Why a private key could not be made, read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// The file has more than [`KEY_FILE_BYTES_MAX`] bytes.
    #[error("the key file has {0} bytes, at most {KEY_FILE_BYTES_MAX} are read")]
    TooLong(usize),
    /// The file has no private key in PEM.
    #[error("there is no private key in PEM in the file")]
    NoKey,
    /// The file has several private keys.
    #[error("there is more than one private key in the file")]
    SeveralKeys,
    /// What is between the PEM lines is damaged.
    #[error("the private key cannot be read: the file is damaged")]
    Damaged,
    /// The key is encrypted, and no passphrase was given.
    #[error("the private key is encrypted: a passphrase is needed")]
    PassphraseNeeded,
    /// The passphrase is wrong. A damaged file cannot be told from it.
    #[error("the passphrase is wrong, or the file is damaged")]
    WrongPassphrase,
    /// A passphrase is too short to encrypt with.
    #[error("the passphrase has {0} bytes, at least {PASSPHRASE_BYTES_MIN} are needed")]
    ShortPassphrase(usize),
    /// The encryption is none that is read here.
    #[error(
        "the private key is encrypted in a way that is not supported; \
         `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW` writes it anew"
    )]
    Encryption,
    /// The file asks for more work to derive the key than is done here.
    #[error("the file asks for more work to check its passphrase than is allowed")]
    Cost,
    /// It is not a P-256, P-384 or RSA key.
    #[error("the private key is not a P-256, P-384 or RSA key, or is damaged")]
    Unsupported,
    /// The public part is not good enough.
    #[error("the private key is not usable: {0}")]
    Key(#[from] KeyError),
    /// The cryptographic library failed at something that cannot fail.
    #[error("the cryptographic library failed")]
    Library,
}

impl From<Unspecified> for KeyFileError {
    fn from(Unspecified: Unspecified) -> Self {
        Self::Library
    }
}

/// What kind of key to make for an authority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NewKey {
    /// NIST P-256.
    #[default]
    P256,
    /// NIST P-384.
    P384,
}

impl NewKey {
    const fn algorithm(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A [`Signer`] whose key is in the memory of this process. The library that holds it zeroizes it when dropped.
pub struct KeySigner {
    pair: Pair,
    public: PublicKey,
    algorithm: SignatureAlgorithm,
}

impl KeySigner {
    /// Makes a key.
    ///
    /// # Errors
    /// [`KeyFileError::Library`] when the library has no randomness.
    pub fn generate(kind: NewKey) -> Result<Self, KeyFileError> {
        Self::of(Pair::Ecdsa(EcdsaKeyPair::generate(kind.algorithm())?))
    }

    /// Reads the one private key in the PEM text of a key file: PKCS #8, plain or encrypted with PBES2 (RFC 8018
    /// section 6.2), SEC 1 (`EC PRIVATE KEY`) or PKCS #1 (`RSA PRIVATE KEY`). `passphrase` is of no matter for a key that
    /// is not encrypted.
    ///
    /// With an encrypted key it works for up to a second by intention.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn from_pem(file: &[u8], passphrase: Option<&Passphrase>) -> Result<Self, KeyFileError> {
        let section = key_section(file)?;
        let (label, document) = SecretDocument::from_pem(section).map_err(|_| KeyFileError::Damaged)?;
        match label {
            PKCS8 => Self::from_pkcs8(document.as_bytes()),
            PKCS8_ENCRYPTED => {
                let passphrase = passphrase.ok_or(KeyFileError::PassphraseNeeded)?;
                Self::from_pkcs8(decrypt(document.as_bytes(), passphrase)?.as_bytes())
            }
            SEC1 => {
                let der = document.as_bytes();
                let read = |algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der);
                let pair =
                    read(&ECDSA_P256_SHA256_ASN1_SIGNING).or_else(|_| read(&ECDSA_P384_SHA384_ASN1_SIGNING));
                Self::of(Pair::Ecdsa(pair.map_err(|_| KeyFileError::Unsupported)?))
            }
            PKCS1 => {
                let pair =
                    RsaKeyPair::from_der(document.as_bytes()).map_err(|_| KeyFileError::Unsupported)?;
                Self::of(Pair::Rsa(pair))
            }
            _ => Err(KeyFileError::Unsupported),
        }
    }

    /// Reads a PKCS #8 PrivateKeyInfo in DER (RFC 5208 section 5).
    ///
    /// # Errors
    /// [`KeyFileError::Unsupported`] or [`KeyFileError::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyFileError> {
        let read = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).map(Pair::Ecdsa);
        let pair = read(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .or_else(|_| read(&ECDSA_P384_SHA384_ASN1_SIGNING))
            .or_else(|_| RsaKeyPair::from_pkcs8(der).map(Pair::Rsa))
            .map_err(|_| KeyFileError::Unsupported)?;
        Self::of(pair)
    }

    fn of(pair: Pair) -> Result<Self, KeyFileError> {
        let spki: PublicKeyX509Der<'_> = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der()?,
            Pair::Rsa(pair) => pair.public_key().as_der()?,
        };
        let public = PublicKey::from_spki(spki.as_ref())?;
        let algorithm = SignatureAlgorithm::of(public.kind()).ok_or(KeyFileError::Unsupported)?;
        Ok(Self { pair, public, algorithm })
    }

    fn to_pkcs8(&self) -> Result<SecretDocument, KeyFileError> {
        let secret = |der: &[u8]| SecretDocument::try_from(der).map_err(|_| KeyFileError::Library);
        match &self.pair {
            Pair::Ecdsa(pair) => secret(pair.to_pkcs8v1()?.as_ref()),
            Pair::Rsa(pair) => secret(AsDer::<Pkcs8V1Der<'_>>::as_der(pair)?.as_ref()),
        }
    }

    /// The key as PKCS #8 in PEM, not encrypted: for a file that nobody else can read.
    ///
    /// # Errors
    /// [`KeyFileError::Library`].
    pub fn to_pem(&self) -> Result<PrivateKeyPem, KeyFileError> {
        to_pem(&self.to_pkcs8()?, PKCS8)
    }

    /// The key as PKCS #8 in PEM, encrypted with PBES2: scrypt (RFC 7914) and AES-256-CBC. OpenSSL 1.1 and later read it.
    ///
    /// It works for a fraction of a second by intention.
    ///
    /// # Errors
    /// [`KeyFileError::ShortPassphrase`], [`KeyFileError::Library`].
    pub fn to_encrypted_pem(&self, passphrase: &Passphrase) -> Result<PrivateKeyPem, KeyFileError> {
        let secret = passphrase.0.as_slice();
        if secret.len() < PASSPHRASE_BYTES_MIN {
            return Err(KeyFileError::ShortPassphrase(secret.len()));
        }
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        rand::fill(&mut salt)?;
        rand::fill(&mut iv)?;
        let cost =
            scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).map_err(|_| KeyFileError::Library)?;
        let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
            .map_err(|_| KeyFileError::Library)?;
        let encrypted =
            scheme.encrypt(secret, self.to_pkcs8()?.as_bytes()).map_err(|_| KeyFileError::Library)?;
        let encrypted_data = OctetStringRef::new(&encrypted).map_err(|_| KeyFileError::Library)?;
        let info = EncryptedPrivateKeyInfoRef { encryption_algorithm: scheme.into(), encrypted_data };
        to_pem(&SecretDocument::try_from(info).map_err(|_| KeyFileError::Library)?, PKCS8_ENCRYPTED)
    }
}

impl Signer for KeySigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let failed = |Unspecified| SignerError::Failed("the cryptographic library failed".to_owned());
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => {
                pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(failed)
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySigner").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A key pair for a device that cannot make its own.
#[derive(Debug)]
pub struct DeviceKey {
    /// What is certified.
    pub public: PublicKey,
    /// What the device gets, once: P-256 in SEC 1 (RFC 5915), `EC PRIVATE KEY`.
    pub private: PrivateKeyPem,
}

impl DeviceKey {
    /// Makes a P-256 key.
    ///
    /// # Errors
    /// [`KeyFileError::Library`] when the library has no randomness.
    pub fn generate() -> Result<Self, KeyFileError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
        let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der()?;
        let document = SecretDocument::try_from(der.as_ref()).map_err(|_| KeyFileError::Library)?;
        Ok(Self { public: PublicKey::from_spki(spki.as_ref())?, private: to_pem(&document, SEC1)? })
    }
}

fn to_pem(document: &SecretDocument, label: &'static str) -> Result<PrivateKeyPem, KeyFileError> {
    document.to_pem(label, LineEnding::LF).map(PrivateKeyPem).map_err(|_| KeyFileError::Library)
}

/// The text from BEGIN to END of the one private key in `file`. `openssl ecparam -genkey` writes the curve before it.
fn key_section(file: &[u8]) -> Result<&str, KeyFileError> {
    if file.len() > KEY_FILE_BYTES_MAX {
        return Err(KeyFileError::TooLong(file.len()));
    }
    let text = std::str::from_utf8(file).map_err(|_| KeyFileError::NoKey)?;
    let keys = text.match_indices("-----BEGIN ").filter_map(|(at, begin)| {
        let from = text.get(at..)?;
        let (label, _) = from.get(begin.len()..)?.split_once("-----")?;
        label.ends_with(PKCS8).then_some((from, label))
    });
    let mut keys = keys.take(2);
    let (from, label) = keys.next().ok_or(KeyFileError::NoKey)?;
    if keys.next().is_some() {
        return Err(KeyFileError::SeveralKeys);
    }
    let end = format!("-----END {label}-----");
    let len = from.find(&end).ok_or(KeyFileError::Damaged)? + end.len();
    let section = from.get(..len).ok_or(KeyFileError::Damaged)?;
    // RFC 1421 headers: the encryption of OpenSSL before PKCS #8, one round of MD5.
    if section.contains("Proc-Type:") { Err(KeyFileError::Encryption) } else { Ok(section) }
}

fn decrypt(der: &[u8], passphrase: &Passphrase) -> Result<SecretDocument, KeyFileError> {
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| KeyFileError::Encryption)?;
    let EncryptionScheme::Pbes2(scheme) = &info.encryption_algorithm else {
        return Err(KeyFileError::Encryption);
    };
    let affordable = match &scheme.kdf {
        Kdf::Pbkdf2(pbkdf2) => (1..=PBKDF2_ITERATIONS_MAX).contains(&pbkdf2.iteration_count),
        Kdf::Scrypt(scrypt) => {
            // The library takes the logarithm of N, of which zero has none.
            if !scrypt.cost_parameter.is_power_of_two() {
                return Err(KeyFileError::Encryption);
            }
            let bytes =
                scrypt.cost_parameter.saturating_mul(128).saturating_mul(u64::from(scrypt.block_size));
            bytes <= SCRYPT_BYTES_MAX && scrypt.parallelization <= SCRYPT_LANES_MAX
        }
        _ => return Err(KeyFileError::Encryption),
    };
    if !affordable {
        return Err(KeyFileError::Cost);
    }
    info.decrypt(passphrase.0.as_slice()).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(
            pkcs5::Error::UnsupportedAlgorithm { .. } | pkcs5::Error::AlgorithmParametersInvalid { .. },
        ) => KeyFileError::Encryption,
        _ => KeyFileError::WrongPassphrase,
    })
}
