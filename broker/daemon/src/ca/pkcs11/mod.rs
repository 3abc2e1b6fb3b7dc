//! An authority's key in a token that is reached through PKCS #11: an HSM, a smart card, SoftHSM.
//!
//! The key is made in the token and never leaves it. The module is loaded when the program runs, so nothing of it is
//! needed to build.

mod encoding;
mod error;
mod pin;
#[cfg(test)]
mod tests;
mod token;

use parking_lot::Mutex;
use signet_config::Pkcs11;
use signet_registry::ca::{NewKey, PublicKey, SignatureAlgorithm, Signer, SignerError};
use std::path::Path;

pub use error::Pkcs11Error;
use token::HsmToken;

/// Why a token did not sign.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SignFault {
    /// There is no session any more, or the token is gone; a new session may help.
    Lost(String),
    /// The token refused.
    Refused(String),
}

/// A token with the key, as the signer sees it.
trait Token: Send {
    /// Opens a session in place of any there was, logs in and finds the key.
    fn connect(&mut self) -> Result<(), Pkcs11Error>;

    /// Signs in the session that is open. For an elliptic curve the two numbers side by side.
    fn sign(&mut self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, SignFault>;
}

/// A [`Signer`] whose key is in a token. Signatures are made one after the other.
///
/// A session that is lost is opened again at the next signature, with one login. A PIN that the token refused is not
/// tried again until its file has changed.
pub struct Pkcs11Signer {
    public: PublicKey,
    algorithm: SignatureAlgorithm,
    token: Mutex<Box<dyn Token>>,
}

impl Pkcs11Signer {
    /// Opens the token that `settings` name and finds the key; signs once to see that it can. `state` is the folder in
    /// which it is noted that the token refused a PIN.
    ///
    /// `known` is the public key of the authority's certificate: for tokens that keep no public keys.
    ///
    /// # Errors
    /// [`Pkcs11Error`].
    pub fn open(settings: &Pkcs11, state: &Path, known: Option<PublicKey>) -> Result<Self, Pkcs11Error> {
        let mut token = HsmToken::new(settings.clone(), state)?;
        token.connect()?;
        let public = match (token.public_key()?, known) {
            (Some(public), _) | (None, Some(public)) => public,
            (None, None) => {
                let (token, key) = (settings.token.clone(), settings.key.clone());
                return Err(Pkcs11Error::NoPublicKey { token, key });
            }
        };
        token.check_mechanism(public.kind())?;
        Self::with(Box::new(token), public, &settings.key)
    }

    /// Makes a key pair in the token, which never gives it away, and opens it.
    ///
    /// # Errors
    /// [`Pkcs11Error`]; [`Pkcs11Error::KeyExists`] when the label is taken.
    pub fn generate(settings: &Pkcs11, state: &Path, kind: NewKey) -> Result<Self, Pkcs11Error> {
        HsmToken::new(settings.clone(), state)?.generate(kind)?;
        Self::open(settings, state, None)
    }

    fn with(token: Box<dyn Token>, public: PublicKey, label: &str) -> Result<Self, Pkcs11Error> {
        let algorithm = SignatureAlgorithm::of(public.kind())
            .ok_or_else(|| Pkcs11Error::KeyKind { key: label.to_owned() })?;
        let signer = Self { public, algorithm, token: Mutex::new(token) };
        signer.try_out(label)?;
        Ok(signer)
    }

    /// A signature that is thrown away: what does not fit is found at the start and not at the first device.
    fn try_out(&self, label: &str) -> Result<(), Pkcs11Error> {
        const MESSAGE: &[u8] = b"signet: does this key sign?";
        let call = |reason: String| Pkcs11Error::Call { call: "C_Sign".to_owned(), reason };
        let signature = self.sign(MESSAGE).map_err(|error| call(error.to_string()))?;
        if self.public.verifies(MESSAGE, &signature) {
            Ok(())
        } else {
            Err(Pkcs11Error::Mismatch { key: label.to_owned() })
        }
    }

    fn sign_raw(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let mut token = self.token.lock();
        let lost = match token.sign(self.algorithm, message) {
            Err(SignFault::Lost(why)) => why,
            other => return other.map_err(failed),
        };
        tracing::warn!(reason = %lost, "the session with the authority's token was lost; it is opened again");
        token.connect().map_err(|error| SignerError::Unavailable(error.to_string()))?;
        token.sign(self.algorithm, message).map_err(failed)
    }
}

fn failed(fault: SignFault) -> SignerError {
    match fault {
        SignFault::Lost(why) => SignerError::Unavailable(why),
        SignFault::Refused(why) => SignerError::Failed(why),
    }
}

impl Signer for Pkcs11Signer {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let raw = self.sign_raw(message)?;
        match self.algorithm {
            SignatureAlgorithm::RsaPkcs1Sha256 => Ok(raw),
            SignatureAlgorithm::EcdsaP256Sha256 | SignatureAlgorithm::EcdsaP384Sha384 => {
                encoding::ecdsa_signature(&raw).ok_or(SignerError::FalseSignature)
            }
        }
    }
}

impl std::fmt::Debug for Pkcs11Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs11Signer").field("public", &self.public).finish_non_exhaustive()
    }
}
