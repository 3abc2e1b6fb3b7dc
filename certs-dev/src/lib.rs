//! The development PKI: a table of roles, good and bad, made into files ([`ensure`]), and the
//! authority behind it for tests that keep everything in memory ([`Authority`]).
//!
//! Nothing made here belongs in production: keys are written unencrypted, and the keys of the
//! authorities are thrown away as soon as the files are written.
//!
//! Only [`ensure`] reads the system clock. Everything else takes the time as an argument, so that
//! a test decides what has expired.

mod authority;
mod der;
mod dev;
mod profile;

pub use authority::{Authority, Crl, Leaf};
pub use der::{Extension, Extensions, rsa_public_key};
pub use dev::{DevPki, IssuedBy, LEAF_DAYS, MemoryPki, ROLES, Role, RolePaths, Window, ensure, ensure_at};
pub use profile::{
    CrlProfile, CrlScope, KeyKind, KeyUse, LeafProfile, NameString, Purpose, Serial, Subject, SubjectAltName,
    Validity,
};

/// Why a certificate, a CRL or the development PKI could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The generator refused the profile or a key operation failed.
    #[error("cannot make the certificate or CRL: {0}")]
    Generate(#[from] rcgen::Error),
    /// The system's random number generator failed.
    #[error("the system's random number generator failed")]
    Random,
    /// DER that was to be changed could not be read.
    #[error("cannot read the DER of {0}")]
    Der(&'static str),
    /// A file or directory of the development PKI could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
