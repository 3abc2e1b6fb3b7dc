//! `[registry]` and `[ca]`: who exists, and who says so.

use std::path::PathBuf;
use std::time::Duration;

/// `[registry]`: whether certificates are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registry {
    /// They are not: a certificate that a trust anchor vouches for, and that no list revokes, is good.
    Off,
    /// Every certificate is looked up in the registry that lives in this folder.
    On {
        /// The folder, of mode 0700.
        directory: PathBuf,
    },
}

impl Registry {
    /// The folder, when there is a registry.
    #[must_use]
    pub fn directory(&self) -> Option<&std::path::Path> {
        match self {
            Self::Off => None,
            Self::On { directory } => Some(directory),
        }
    }
}

/// `[ca]`: the authority that this broker is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    /// The folder with `issuing.crt`, and with `issuing.key` unless the key is in a token.
    pub directory: PathBuf,
    /// Where the private key is.
    pub key: CaKey,
    /// Authorities that this broker was before, each in a folder of its own: they issue nothing.
    pub previous: Vec<PreviousCa>,
    /// How long a device's certificate is valid from when it is issued, whole seconds.
    pub certificate_validity: Duration,
    /// How long it is valid before that, whole seconds.
    pub backdate: Duration,
    /// The kinds of keys that are certified, at least one.
    pub keys: Vec<KeyKind>,
    /// How long a revocation list is valid; it is renewed when half of it is over. Whole seconds.
    pub crl_validity: Duration,
    /// Where revocation lists are written; `None`: `issuing.crl` in the folder.
    pub crl_file: Option<PathBuf>,
    /// The address in certificates at which the list can be fetched.
    pub crl_url: Option<String>,
}

/// An authority that this broker was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousCa {
    /// The folder with its `issuing.crt`.
    pub directory: PathBuf,
    /// Where its private key is; `None`: not here, and its revocation list comes from where it is.
    pub key: Option<CaKey>,
}

/// Where the private key of the authority is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaKey {
    /// In `issuing.key` in the folder.
    File {
        /// The file whose first line is the passphrase; `None` when the key is not encrypted.
        passphrase_file: Option<PathBuf>,
    },
    /// In a token that is reached through PKCS #11, such as an HSM: it never leaves it.
    Pkcs11(Pkcs11),
}

/// A private key in a PKCS #11 token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11 {
    /// The shared library that speaks to the token.
    pub module: PathBuf,
    /// The token's label or serial number.
    pub token: String,
    /// The label (CKA_LABEL) of the key pair.
    pub key: String,
    /// The file whose first line is the user PIN; `None` when the token has a keypad of its own, or needs no login.
    pub pin_file: Option<PathBuf>,
}

/// Kinds of public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// RSA with 2048 to 4096 bits.
    Rsa,
}
