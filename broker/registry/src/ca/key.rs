//! Public keys: which kinds are taken, and how they are checked.

use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use rcgen::PublicKeyData as _;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::KeyHash;

/// The smallest RSA modulus that is ever taken, in bits.
pub const RSA_BITS_MIN: u32 = 2048;
/// The largest RSA modulus that is ever taken, in bits: a verification costs its square.
pub const RSA_BITS_MAX: u32 = 8192;
/// The least RSA public exponent: F4, as NIST SP 800-56B section 6.2 demands.
const RSA_EXPONENT_MIN: u64 = 65_537;

/// What a public key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// RSA with a modulus of so many bits.
    Rsa(u32),
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::P521 => f.write_str("P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa(bits) => write!(f, "RSA of {bits} bits"),
        }
    }
}

/// The kinds of keys that are certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyKinds {
    /// P-256.
    pub p256: bool,
    /// P-384.
    pub p384: bool,
    /// P-521.
    pub p521: bool,
    /// Ed25519.
    pub ed25519: bool,
    /// RSA, with a modulus of so many bits; those outside [`RSA_BITS_MIN`] and [`RSA_BITS_MAX`] are refused in any case.
    pub rsa_bits: Option<RangeInclusive<u32>>,
}

/// P-256, P-384 and RSA of 2048 to 4096 bits.
impl Default for KeyKinds {
    fn default() -> Self {
        Self { p256: true, p384: true, p521: false, ed25519: false, rsa_bits: Some(RSA_BITS_MIN..=4096) }
    }
}

impl KeyKinds {
    /// Every kind that can be certified at all.
    #[must_use]
    pub const fn every() -> Self {
        Self {
            p256: true,
            p384: true,
            p521: true,
            ed25519: true,
            rsa_bits: Some(RSA_BITS_MIN..=RSA_BITS_MAX),
        }
    }

    /// Whether a key of the kind `kind` is certified.
    #[must_use]
    pub fn allow(&self, kind: KeyKind) -> bool {
        match kind {
            KeyKind::P256 => self.p256,
            KeyKind::P384 => self.p384,
            KeyKind::P521 => self.p521,
            KeyKind::Ed25519 => self.ed25519,
            KeyKind::Rsa(bits) => self.rsa_bits.as_ref().is_some_and(|allowed| allowed.contains(&bits)),
        }
    }
}

/// Why a public key cannot be certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not one SubjectPublicKeyInfo in DER.
    #[error("the public key cannot be read")]
    Unreadable,
    /// It is of an algorithm or a curve that this broker does not know: P-224, secp256k1, DSA.
    #[error("the public key is of an algorithm or curve that is not supported")]
    Unsupported,
    /// It is an RSA key with so many bits, which is too few or too many for any use here.
    #[error("the RSA key has {0} bits, {RSA_BITS_MIN} to {RSA_BITS_MAX} are taken")]
    RsaSize(u32),
    /// Its RSA public exponent is even, less than 65537 or longer than 64 bits.
    #[error("the RSA key's public exponent is weak")]
    RsaExponent,
    /// It is not a key: a point that is not on its curve or not in the uncompressed form, an even modulus.
    #[error("the public key's value is not valid")]
    Value,
    /// It is a good key of a kind that the policy does not allow.
    #[error("keys of the kind {0} are not allowed")]
    NotAllowed(KeyKind),
}

impl KeyError {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Unreadable => "key_unreadable",
            Self::Unsupported => "key_unsupported",
            Self::RsaSize(_) | Self::RsaExponent => "key_weak",
            Self::Value => "key_invalid",
            Self::NotAllowed(_) => "key_not_allowed",
        }
    }
}

/// A public key that was checked: of a known kind, of sufficient strength, on its curve.
///
/// Two encodings of one key are equal here: the DER is written anew, as it stands in the certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    spki: Box<[u8]>,
    encoder: rcgen::SubjectPublicKeyInfo,
}

impl PublicKey {
    /// Reads the SubjectPublicKeyInfo `der` (RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    /// [`KeyError`], all but [`KeyError::NotAllowed`].
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let Ok(([], parsed)) = SubjectPublicKeyInfo::from_der(der) else { return Err(KeyError::Unreadable) };
        // The kinds are told apart by their algorithm identifiers, curve included.
        let encoder = rcgen::SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Unsupported)?;
        let kind = kind_of(&parsed, &encoder)?;
        ParsedPublicKey::new(verifier(kind), encoder.der_bytes()).map_err(|_| KeyError::Value)?;
        let spki = encoder.subject_public_key_info().into();
        Ok(Self { kind, spki, encoder })
    }

    /// The same, when `allowed` allows the kind.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_spki_allowed(der: &[u8], allowed: &KeyKinds) -> Result<Self, KeyError> {
        let key = Self::from_spki(der)?;
        if allowed.allow(key.kind) { Ok(key) } else { Err(KeyError::NotAllowed(key.kind)) }
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The SubjectPublicKeyInfo in DER, as it stands in a certificate.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The SHA-256 of [`PublicKey::spki_der`]: the registry finds reused keys by it.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash::of_spki(&self.spki)
    }

    /// Whether `signature`, in the form of X.509, is this key's over `message`, with the algorithm of
    /// [`SignatureAlgorithm::of`](super::SignatureAlgorithm::of). Keys that are no authority's verify nothing.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        super::SignatureAlgorithm::of(self.kind)
            .is_some_and(|algorithm| algorithm.verify(self, message, signature))
    }

    /// The subjectPublicKey bits: for an elliptic curve the point, for RSA the RSAPublicKey.
    pub(super) fn raw(&self) -> &[u8] {
        self.encoder.der_bytes()
    }

    pub(super) const fn encoder(&self) -> &rcgen::SubjectPublicKeyInfo {
        &self.encoder
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.kind, self.hash())
    }
}

fn kind_of(
    parsed: &SubjectPublicKeyInfo<'_>,
    encoder: &rcgen::SubjectPublicKeyInfo,
) -> Result<KeyKind, KeyError> {
    let algorithm = encoder.algorithm();
    if *algorithm == rcgen::PKCS_ED25519 {
        return Ok(KeyKind::Ed25519);
    }
    match parsed.parsed().map_err(|_| KeyError::Unreadable)? {
        Parsed::RSA(key) => {
            let modulus = strip_zeros(key.modulus);
            let bits = bits(modulus).ok_or(KeyError::Value)?;
            if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
                return Err(KeyError::RsaSize(bits));
            }
            let exponent = key.try_exponent().map_err(|_| KeyError::RsaExponent)?;
            if exponent < RSA_EXPONENT_MIN || exponent % 2 == 0 {
                return Err(KeyError::RsaExponent);
            }
            if modulus.last().is_none_or(|byte| byte % 2 == 0) {
                Err(KeyError::Value)
            } else {
                Ok(KeyKind::Rsa(bits))
            }
        }
        Parsed::EC(point) => {
            let (kind, len) = if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
                (KeyKind::P256, 65)
            } else if *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 {
                (KeyKind::P384, 97)
            } else {
                (KeyKind::P521, 133)
            };
            // RFC 5480 section 2.2: the uncompressed form must be understood, the compressed one may be.
            let uncompressed = point.data().len() == len && point.data().first() == Some(&4);
            if uncompressed { Ok(kind) } else { Err(KeyError::Value) }
        }
        _ => Err(KeyError::Unsupported),
    }
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or(&[])
}

/// The length of the big-endian number `magnitude` in bits; `None` for zero.
fn bits(magnitude: &[u8]) -> Option<u32> {
    let first = magnitude.first()?;
    u32::try_from(magnitude.len()).ok()?.checked_mul(8)?.checked_sub(first.leading_zeros())
}

/// An algorithm that verifies with keys of the kind `kind`; the digest is of no matter where it is used.
fn verifier(kind: KeyKind) -> &'static dyn VerificationAlgorithm {
    match kind {
        KeyKind::P256 => &signature::ECDSA_P256_SHA256_ASN1,
        KeyKind::P384 => &signature::ECDSA_P384_SHA384_ASN1,
        KeyKind::P521 => &signature::ECDSA_P521_SHA512_ASN1,
        KeyKind::Ed25519 => &signature::ED25519,
        KeyKind::Rsa(_) => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}
