//! An authority whose key is not here: it signs nothing.

use signet_registry::ca::{PublicKey, SignatureAlgorithm, Signer, SignerError};

/// Stands in for a key that is elsewhere.
#[derive(Debug)]
pub(super) struct Keyless {
    public: PublicKey,
    algorithm: SignatureAlgorithm,
}

impl Keyless {
    /// `None` when a key of this kind cannot be an authority's.
    pub(super) fn new(public: PublicKey) -> Option<Self> {
        let algorithm = SignatureAlgorithm::of(public.kind())?;
        Some(Self { public, algorithm })
    }
}

impl Signer for Keyless {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignerError> {
        Err(SignerError::Unavailable(
            "the configuration says that it is not here (key = \"none\")".to_owned(),
        ))
    }
}
