//! Why a key in a token cannot be used.

use std::path::PathBuf;

use signet_registry::ca::KeyError;

/// Why a key in a PKCS #11 token cannot be used. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// The shared library.
    #[error(
        "{}: the PKCS #11 module cannot be loaded: {reason}\n  hint: install the driver of the token; the module is its shared \
         library, by its full path, such as /usr/lib/softhsm/libsofthsm2.so", path.display()
    )]
    Module {
        /// The library.
        path: PathBuf,
        /// What the loader or the library said.
        reason: String,
    },
    /// No token has that label or serial number.
    #[error(
        "no token is called {wanted:?}; there {}\n  hint: name the token's label or serial number, plug it in, and look whether \
         this user may reach it",
        listed("is no token at all", "are: ", found)
    )]
    NoToken {
        /// The label or serial number.
        wanted: String,
        /// Those that are there, label and serial number.
        found: Vec<String>,
    },
    /// Several tokens have that label.
    #[error("several tokens are called {wanted:?}: {}\n  hint: name the serial number", found.join(", "))]
    SeveralTokens {
        /// The label.
        wanted: String,
        /// Those that have it, label and serial number.
        found: Vec<String>,
    },
    /// The PIN file.
    #[error("{0}")]
    PinFile(String),
    /// The token wants a PIN and none is configured.
    #[error(
        "the token {token:?} wants a PIN\n  hint: write it into a file of mode 0600 and name that in pkcs11-pin-file"
    )]
    PinNeeded {
        /// The token.
        token: String,
    },
    /// The token refused the PIN.
    #[error(
        "{}: the token {token:?} refuses this PIN\n  hint: write the right one into the file; this one is not tried again, so that \
         the token does not lock itself", file.display()
    )]
    PinWrong {
        /// The token.
        token: String,
        /// Where the PIN came from.
        file: PathBuf,
    },
    /// The token refused this PIN before, so it was not tried.
    #[error(
        "{}: the token {token:?} has refused this PIN before, and it was not tried again\n  hint: write the right one into the \
         file; if it is right, `touch` the file", file.display()
    )]
    PinRefusedBefore {
        /// The token.
        token: String,
        /// Where the PIN is.
        file: PathBuf,
    },
    /// One more wrong PIN would lock the token.
    #[error(
        "the token {token:?} has one try left before it locks itself, which is not taken here\n  hint: log in with the token's own \
         tool, which sets the count back"
    )]
    PinLastTry {
        /// The token.
        token: String,
    },
    /// The token has locked its user PIN.
    #[error(
        "the token {token:?} is locked after too many wrong PINs\n  hint: its security officer can set a new user PIN"
    )]
    PinLocked {
        /// The token.
        token: String,
    },
    /// No private key has that label.
    #[error(
        "the token {token:?} has no private key {key:?}; there {}\n  hint: `signet ca init` makes it, or name another one in \
         pkcs11-key",
        listed("is none at all", "are: ", found)
    )]
    NoKey {
        /// The token.
        token: String,
        /// The label.
        key: String,
        /// The labels of those that are there.
        found: Vec<String>,
    },
    /// Several private keys have that label.
    #[error(
        "the token {token:?} has {count} private keys {key:?}\n  hint: give the authority's a label of its own"
    )]
    SeveralKeys {
        /// The token.
        token: String,
        /// The label.
        key: String,
        /// How many.
        count: usize,
    },
    /// A key of that label is there, and one was to be made.
    #[error(
        "the token {token:?} has a key {key:?} already, and nothing is overwritten\n  hint: choose another label, or use the key \
         that is there with --existing-key"
    )]
    KeyExists {
        /// The token.
        token: String,
        /// The label.
        key: String,
    },
    /// The public key cannot be read from the token.
    #[error(
        "the token {token:?} does not give the public key {key:?}\n  hint: the public key must be in the token beside the private \
         one, under the same label"
    )]
    NoPublicKey {
        /// The token.
        token: String,
        /// The label.
        key: String,
    },
    /// The key is none that an authority can have here.
    #[error("the key {key:?} in the token cannot be an authority's: {error}")]
    Key {
        /// The label.
        key: String,
        /// What is wrong with it.
        error: KeyError,
    },
    /// The key is of a kind that no authority has here.
    #[error("the key {key:?} in the token cannot be an authority's: a P-256, P-384 or RSA key is needed")]
    KeyKind {
        /// The label.
        key: String,
    },
    /// The token does not do what is needed.
    #[error(
        "the token {token:?} cannot do {mechanism}\n  hint: use a key of another kind, or look whether the token's settings forbid it"
    )]
    Mechanism {
        /// The token.
        token: String,
        /// The mechanism, by its name in the standard.
        mechanism: &'static str,
    },
    /// What the key signs does not verify with its public key.
    #[error(
        "the private key {key:?} in the token does not belong to the public key that is used with it\n  hint: the two key objects \
         and the certificate must be of one pair"
    )]
    Mismatch {
        /// The label.
        key: String,
    },
    /// The token did not answer in time.
    #[error("{0}")]
    Late(String),
    /// A call failed.
    #[error("the token cannot be used: {call} said {reason}")]
    Call {
        /// The function of PKCS #11.
        call: String,
        /// What it said.
        reason: String,
    },
}

fn listed(none: &str, some: &str, found: &[String]) -> String {
    if found.is_empty() { none.to_owned() } else { format!("{some}{}", found.join(", ")) }
}

impl From<cryptoki::error::Error> for Pkcs11Error {
    fn from(error: cryptoki::error::Error) -> Self {
        match error {
            cryptoki::error::Error::Pkcs11(value, function) => {
                Self::Call { call: format!("C_{function:?}"), reason: format!("{value:?}") }
            }
            other => Self::Call { call: "the module".to_owned(), reason: other.to_string() },
        }
    }
}
