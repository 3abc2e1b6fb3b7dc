//! An authority's key in a token that is reached through PKCS #11: an HSM, a smart card, SoftHSM.
//!
//! The key is made in the token and never leaves it. The module is loaded when the program runs, so nothing of it is
//! needed to build. Its code runs on a thread of its own, and nobody waits for it longer than [`DEADLINE`].

mod encoding;
mod error;
mod pin;
#[cfg(test)]
mod tests;
mod token;
mod worker;

use parking_lot::Mutex;
use signet_config::Pkcs11;
use signet_registry::ca::{NewKey, PublicKey, SignatureAlgorithm, Signer, SignerError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use error::Pkcs11Error;
use token::HsmToken;
pub use worker::{CALLS_WAITING_MAX, DEADLINE, TokenWatch, rest};
use worker::{KEY_PAIR_DEADLINE, Late, Worker};

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

/// A token that only its own thread locks.
type Held = Arc<Mutex<Box<dyn Token>>>;

/// A [`Signer`] whose key is in a token. Signatures are made one after the other, on the token's thread; each waits at most
/// [`DEADLINE`], also for those before it.
///
/// A session that is lost is opened again at the next signature, with one login. A PIN that the token refused is not
/// tried again until its file has changed.
pub struct Pkcs11Signer {
    public: PublicKey,
    algorithm: SignatureAlgorithm,
    worker: Arc<Worker>,
    deadline: Duration,
    /// Taken when the signer ends: its session is closed on the token's thread.
    token: Option<Held>,
}

impl Drop for Pkcs11Signer {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.worker.discard(token);
        }
    }
}

impl Pkcs11Signer {
    /// Opens the token that `settings` name and finds the key; signs once to see that it can. `state` is the folder in
    /// which it is noted that the token refused a PIN.
    ///
    /// `known` is the public key of the authority's certificate: for tokens that keep no public keys.
    ///
    /// # Errors
    /// [`Pkcs11Error`]; [`Pkcs11Error::Late`] after [`DEADLINE`].
    pub fn open(settings: &Pkcs11, state: &Path, known: Option<PublicKey>) -> Result<Self, Pkcs11Error> {
        let (named, state) = (settings.clone(), state.to_owned());
        let open = move || {
            let mut token = HsmToken::new(named.clone(), &state)?;
            token.connect()?;
            let public = match (token.public_key()?, known) {
                (Some(public), _) | (None, Some(public)) => public,
                (None, None) => {
                    return Err(Pkcs11Error::NoPublicKey { token: named.token, key: named.key });
                }
            };
            token.check_mechanism(public.kind())?;
            Ok((Box::new(token) as Box<dyn Token>, public))
        };
        let worker = Worker::of(settings).map_err(|late| late_opening(late, settings))?;
        Self::open_on(worker, settings, DEADLINE, open)
    }

    /// Makes a key pair in the token, which never gives it away, and opens it.
    ///
    /// # Errors
    /// [`Pkcs11Error`]; [`Pkcs11Error::KeyExists`] when the label is taken.
    pub fn generate(settings: &Pkcs11, state: &Path, kind: NewKey) -> Result<Self, Pkcs11Error> {
        let (named, folder) = (settings.clone(), state.to_owned());
        let late = |late| late_opening(late, settings);
        let worker = Worker::of(settings).map_err(late)?;
        worker
            .run(KEY_PAIR_DEADLINE, move || HsmToken::new(named, &folder)?.generate(kind))
            .map_err(late)??;
        Self::open(settings, state, None)
    }

    /// How the token's thread fares.
    #[must_use]
    pub fn watch(&self) -> Arc<TokenWatch> {
        Arc::clone(self.worker.watch())
    }

    /// Has `open` give the token and its public key on the token's thread, and signs once there: what does not fit is found at
    /// the start and not at the first device. All of it has one deadline.
    fn open_on(
        worker: Arc<Worker>,
        settings: &Pkcs11,
        deadline: Duration,
        open: impl FnOnce() -> Result<(Box<dyn Token>, PublicKey), Pkcs11Error> + Send + 'static,
    ) -> Result<Self, Pkcs11Error> {
        let label = settings.key.clone();
        let opened = worker.run(deadline, move || {
            let (mut token, public) = open()?;
            let algorithm = SignatureAlgorithm::of(public.kind())
                .ok_or_else(|| Pkcs11Error::KeyKind { key: label.clone() })?;
            try_out(&mut *token, &public, algorithm, label)?;
            Ok::<_, Pkcs11Error>((token, public, algorithm))
        });
        let (token, public, algorithm) = opened.map_err(|late| late_opening(late, settings))??;
        Ok(Self { public, algorithm, worker, deadline, token: Some(Arc::new(Mutex::new(token))) })
    }
}

fn late_opening(late: Late, settings: &Pkcs11) -> Pkcs11Error {
    Pkcs11Error::Late(late.explain(&settings.token))
}

/// A signature that is thrown away.
fn try_out(
    token: &mut dyn Token,
    public: &PublicKey,
    algorithm: SignatureAlgorithm,
    label: String,
) -> Result<(), Pkcs11Error> {
    const MESSAGE: &[u8] = b"signet: does this key sign?";
    let signature = sign_with(token, algorithm, MESSAGE)
        .map_err(|error| Pkcs11Error::Call { call: "C_Sign".to_owned(), reason: error.to_string() })?;
    if public.verifies(MESSAGE, &signature) { Ok(()) } else { Err(Pkcs11Error::Mismatch { key: label }) }
}

/// Signs as X.509 carries it, in a new session when the one there was is lost.
fn sign_with(
    token: &mut dyn Token,
    algorithm: SignatureAlgorithm,
    message: &[u8],
) -> Result<Vec<u8>, SignerError> {
    let raw = match token.sign(algorithm, message) {
        Err(SignFault::Lost(why)) => {
            tracing::warn!(reason = %why, "the session with the authority's token was lost; it is opened again");
            token.connect().map_err(|error| SignerError::Unavailable(error.to_string()))?;
            token.sign(algorithm, message)
        }
        other => other,
    };
    let raw = raw.map_err(|fault| match fault {
        SignFault::Lost(why) => SignerError::Unavailable(why),
        SignFault::Refused(why) => SignerError::Failed(why),
    })?;
    match algorithm {
        SignatureAlgorithm::RsaPkcs1Sha256 => Ok(raw),
        SignatureAlgorithm::EcdsaP256Sha256 | SignatureAlgorithm::EcdsaP384Sha384 => {
            encoding::ecdsa_signature(&raw).ok_or(SignerError::FalseSignature)
        }
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
        let Some(token) = self.token.clone() else {
            return Err(SignerError::Unavailable("its session is closed".to_owned()));
        };
        let (message, algorithm) = (message.to_vec(), self.algorithm);
        let call = move || sign_with(&mut **token.lock(), algorithm, &message);
        let late = |late: Late| SignerError::Unavailable(late.explain(self.worker.watch().token()));
        self.worker.run(self.deadline, call).map_err(late)?
    }
}

impl std::fmt::Debug for Pkcs11Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs11Signer").field("public", &self.public).finish_non_exhaustive()
    }
}
