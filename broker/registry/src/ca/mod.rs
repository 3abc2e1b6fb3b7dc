//! The certificate authority that this broker is: what it signs and how.
//!
//! It takes the public key of a signing request and nothing else; subject, extensions, validity and serial number are
//! the broker's own. What was signed comes into force by [`Command::Issue`](crate::Command::Issue) and its kin, which
//! [`Registry::decide`](crate::Registry::decide) judges again.
//!
//! - [`CheckedCsr`] is a signing request that proves possession of its key and asks for nothing that it would not get.
//! - [`Issuer`] is an authority's certificate with the [`Signer`] that has its key: in memory ([`KeySigner`]), in an HSM,
//!   in another process.
//! - [`issue`] signs for a device by a [`Profile`]; [`make_root`] and [`make_issuing`] sign for authorities.
//! - [`crl`] signs the list of those that were revoked.
//!
//! No function here reads a file or a clock. Randomness is that of the cryptographic library.

mod crl;
mod csr;
mod issue;
mod issuer;
mod key;
mod key_file;
mod signer;
#[cfg(test)]
mod tests;

pub use crl::{Crl, CrlEntry, CrlError, crl};
pub use csr::{CSR_BYTES_MAX, CheckedCsr, CsrError, CsrPolicy, Names, SubjectRule};
pub use issue::{
    AuthorityName, BACKDATE_MAX, COMMON_NAME_CHARS_MAX, CRL_URL_BYTES_MAX, CrlUrl, IssueError, Issued,
    Profile, ProfileError, VALIDITY_MAX, VALIDITY_MIN, issue, make_issuing, make_root, random_serial,
};
pub use issuer::{Issuer, IssuerError};
pub use key::{KeyError, KeyKind, KeyKinds, PublicKey, RSA_BITS_MAX, RSA_BITS_MIN};
pub use key_file::{
    DeviceKey, KEY_FILE_BYTES_MAX, KeyFileError, KeySigner, NewKey, PASSPHRASE_BYTES_MIN,
    PBKDF2_ITERATIONS_MAX, Passphrase, PrivateKeyPem, SCRYPT_BYTES_MAX, SCRYPT_LANES_MAX,
};
pub use signer::{SignatureAlgorithm, Signer, SignerError};

fn to_pem(label: &str, der: Vec<u8>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

/// Whether `bytes` are meant as DER: they begin with SEQUENCE, which is also the digit zero, and have no PEM in them.
fn is_der(bytes: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    bytes.first() == Some(&0x30) && !bytes.windows(BEGIN.len()).any(|part| part == BEGIN)
}
