//! The key, the signing request, and what a certificate must be to be ours.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::asn1::{BitString, ObjectIdentifier};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, Version};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use zeroize::Zeroizing;

use crate::platform::{Rng, Secret, Signer, SignerError};

/// The most bytes of a certificate that the device takes (DER). Brokers for small clients issue about 500.
pub const CERTIFICATE_BYTES_MAX: usize = 1536;

/// `ecdsa-with-SHA256` (RFC 5758, section 3.2).
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// Whether `name` can name a device: a letter or a digit, then at most 63 of letters, digits, `.`, `_`, `:` and `-`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(b))
}

/// P-256 keys in memory: 32 bytes, sealed when they are stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct SoftwareSigner;

fn secret_key(secret: &Secret) -> Result<p256::SecretKey, SignerError> {
    p256::SecretKey::from_slice(secret).map_err(|_| SignerError::NotAKey)
}

impl Signer for SoftwareSigner {
    fn generate(&mut self, rng: &mut dyn Rng) -> Result<Secret, SignerError> {
        // All but one of 2^32 candidates are scalars of the group: a source that gives none in eight is broken.
        for _ in 0..8 {
            let mut candidate = Zeroizing::new([0; 32]);
            rng.fill(candidate.as_mut_slice());
            if p256::SecretKey::from_slice(candidate.as_slice()).is_ok() {
                return Ok(Zeroizing::new(candidate.to_vec()));
            }
        }
        Err(SignerError::Hardware)
    }

    fn public_key(&mut self, secret: &Secret) -> Result<[u8; 65], SignerError> {
        let point = secret_key(secret)?.public_key().to_sec1_point(false);
        point.as_bytes().try_into().map_err(|_| SignerError::NotAKey)
    }

    fn request(&mut self, secret: &Secret, name: &str) -> Result<Vec<u8>, SignerError> {
        if !is_name(name) {
            return Err(SignerError::Name);
        }
        let key = secret_key(secret)?;
        let public = key.public_key().to_public_key_der().map_err(|_| SignerError::NotAKey)?;
        let build = || -> Result<Vec<u8>, x509_cert::der::Error> {
            let info = CertReqInfo {
                version: Version::V1,
                subject: Name::from_str(&alloc::format!("CN={name}"))?,
                public_key: SubjectPublicKeyInfoOwned::from_der(public.as_bytes())?,
                attributes: Default::default(),
            };
            let signature: DerSignature = SigningKey::from(&key).sign(&info.to_der()?);
            let algorithm = AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None };
            let signature = BitString::from_bytes(signature.as_bytes())?;
            CertReq { info, algorithm, signature }.to_der()
        };
        build().map_err(|_| SignerError::Name)
    }

    fn tls_key(&mut self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SignerError> {
        let document = secret_key(secret)?.to_pkcs8_der().map_err(|_| SignerError::NotAKey)?;
        Ok(Zeroizing::new(document.as_bytes().to_vec()))
    }
}

/// A certificate of the device: what of it the device needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate.
    pub der: Vec<u8>,
    /// From when it is valid, in seconds since 1970.
    pub not_before: u64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: u64,
    /// The uncompressed point of its key.
    pub public_key: [u8; 65],
}

impl Leaf {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// Not an X.509 certificate of a P-256 key, or larger than [`CERTIFICATE_BYTES_MAX`].
    pub fn read(der: &[u8]) -> Result<Self, CertificateFault> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateFault::TooLarge);
        }
        let certificate = Certificate::from_der(der).map_err(|_| CertificateFault::Unreadable)?;
        let tbs = certificate.tbs_certificate();
        let spki = tbs.subject_public_key_info().to_der().map_err(|_| CertificateFault::Unreadable)?;
        let key = p256::PublicKey::from_public_key_der(&spki).map_err(|_| CertificateFault::NotOurKey)?;
        let public_key =
            key.to_sec1_point(false).as_bytes().try_into().map_err(|_| CertificateFault::NotOurKey)?;
        let validity = tbs.validity();
        Ok(Self {
            der: der.to_vec(),
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
            public_key,
        })
    }

    /// Reads the one certificate of `pem`.
    ///
    /// # Errors
    ///
    /// No PEM, several blocks, another kind of block, or as [`Leaf::read`].
    pub fn read_pem(pem: &str) -> Result<Self, CertificateFault> {
        let (label, der) =
            x509_cert::der::pem::decode_vec(pem.as_bytes()).map_err(|_| CertificateFault::Unreadable)?;
        if label != "CERTIFICATE" {
            return Err(CertificateFault::Unreadable);
        }
        Self::read(&der)
    }

    /// Its id as the broker writes it: the SHA-256 of the DER in lower-case hex.
    #[must_use]
    pub fn id(&self) -> CertificateId {
        CertificateId(Sha256::digest(&self.der).into())
    }
}

/// A certificate in PEM.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> alloc::string::String {
    use x509_cert::der::pem::{LineEnding, encode_string};
    // It fails for more than memory holds only.
    encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default()
}

/// A signing request in PEM.
#[must_use]
pub fn certificate_request_pem(der: &[u8]) -> alloc::string::String {
    use x509_cert::der::pem::{LineEnding, encode_string};
    encode_string("CERTIFICATE REQUEST", LineEnding::LF, der).unwrap_or_default()
}

/// The SHA-256 of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateId(pub [u8; 32]);

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a certificate is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    /// Not one certificate in PEM.
    Unreadable,
    /// More than [`CERTIFICATE_BYTES_MAX`].
    TooLarge,
    /// For a key that this device did not make.
    NotOurKey,
    /// It is not what the id beside it says.
    NotItsId,
    /// Not valid at this time.
    NotValidNow,
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "not one readable certificate",
            Self::TooLarge => "the certificate is too large",
            Self::NotOurKey => "the certificate is not for our key",
            Self::NotItsId => "the certificate does not have the id that came with it",
            Self::NotValidNow => "the certificate is not valid now",
        })
    }
}

impl core::error::Error for CertificateFault {}
