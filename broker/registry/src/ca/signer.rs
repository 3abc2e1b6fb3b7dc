//! The key of an authority, wherever it lives.

use std::cell::RefCell;
use std::sync::Arc;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::{IssueError, KeyKind, PublicKey};

/// How an authority signs. The algorithm goes with the kind of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256 (RFC 5758 section 3.2).
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384 (RFC 5758 section 3.2).
    EcdsaP384Sha384,
    /// RSA PKCS #1 v1.5 with SHA-256 (RFC 4055 section 5).
    RsaPkcs1Sha256,
}

impl SignatureAlgorithm {
    /// The algorithm that an authority with a key of the kind `kind` signs with; `None` when it cannot be an authority's.
    #[must_use]
    pub const fn of(kind: KeyKind) -> Option<Self> {
        match kind {
            KeyKind::P256 => Some(Self::EcdsaP256Sha256),
            KeyKind::P384 => Some(Self::EcdsaP384Sha384),
            KeyKind::Rsa(_) => Some(Self::RsaPkcs1Sha256),
            KeyKind::P521 | KeyKind::Ed25519 => None,
        }
    }

    const fn rcgen(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::EcdsaP384Sha384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::RsaPkcs1Sha256 => &rcgen::PKCS_RSA_SHA256,
        }
    }

    pub(super) fn verify(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.verifier(), key.raw()).verify(message, signature).is_ok()
    }

    fn verifier(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP384Sha384 => &signature::ECDSA_P384_SHA384_ASN1,
            Self::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// Why an authority's key did not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The key cannot be reached now: an HSM that is unplugged, a session that ended.
    #[error("the authority's key cannot be reached: {0}")]
    Unavailable(String),
    /// Whatever holds the key refused, or failed at it.
    #[error("the authority's key did not sign: {0}")]
    Failed(String),
    /// What it gave is not a signature of its own public key over what was to be signed. Nothing was issued.
    #[error("the authority's key gave a signature that does not verify")]
    FalseSignature,
}

/// The private key of an authority: in memory, in an HSM, in another process.
///
/// `sign` may block, so it is called off the threads that carry traffic. Every signature is verified with
/// [`Signer::public_key`] before it leaves this crate.
pub trait Signer: Send + Sync {
    /// The public key that belongs to it.
    fn public_key(&self) -> &PublicKey;

    /// The algorithm it signs with, the one that [`SignatureAlgorithm::of`] gives for its key.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// Signs `message`, which is not yet hashed. The signature is as X.509 carries it: for ECDSA the DER of
    /// `Ecdsa-Sig-Value` (RFC 5480 appendix A), not the two numbers side by side that a PKCS #11 token gives.
    ///
    /// # Errors
    /// [`SignerError`] when there is no signature.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

impl<S: Signer + ?Sized> Signer for Arc<S> {
    fn public_key(&self) -> &PublicKey {
        (**self).public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        (**self).algorithm()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        (**self).sign(message)
    }
}

/// A [`Signer`] as rcgen wants it. rcgen's error carries no text, so the reason for a failure is kept aside.
pub(super) struct Adapter<'a> {
    signer: &'a dyn Signer,
    failure: RefCell<Option<SignerError>>,
}

impl<'a> Adapter<'a> {
    pub(super) const fn new(signer: &'a dyn Signer) -> Self {
        Self { signer, failure: RefCell::new(None) }
    }

    /// Why nothing came of it: because the key did not sign, or because it could not be encoded.
    pub(super) fn explain(&self, error: &rcgen::Error) -> IssueError {
        match self.failure.take() {
            Some(failure) => IssueError::Signer(failure),
            None => IssueError::Encode(error.to_string()),
        }
    }

    fn sign_and_verify(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let signature = self.signer.sign(message)?;
        // A fault in signing can give away an ECDSA or RSA-CRT key, and a wrong encoding a certificate that nobody takes.
        if self.signer.algorithm().verify(self.signer.public_key(), message, &signature) {
            Ok(signature)
        } else {
            Err(SignerError::FalseSignature)
        }
    }
}

impl rcgen::PublicKeyData for Adapter<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.signer.public_key().raw()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.signer.algorithm().rcgen()
    }
}

impl rcgen::SigningKey for Adapter<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.sign_and_verify(message).map_err(|failure| {
            self.failure.replace(Some(failure));
            rcgen::Error::RemoteKeyError
        })
    }
}

/// Stands in for a key where only the other bytes of a certificate matter.
pub(super) struct Unsigned<'a>(pub(super) &'a dyn Signer);

impl rcgen::PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().raw()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm().rcgen()
    }
}

impl rcgen::SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}
