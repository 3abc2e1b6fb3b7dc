//! Files with certificates, keys and revocation lists: reading them, and saying what is wrong with one.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use zeroize::Zeroizing;

/// The most bytes that one file may hold: a revocation list of about a million entries.
pub(super) const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The content of a file and the name that messages call it by.
#[derive(Clone)]
pub struct Source {
    /// What messages say: a path, or where the bytes came from.
    pub file: String,
    /// The content; wiped from memory when dropped, since it may be a private key.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl Source {
    /// Bytes that were not read from a file.
    #[must_use]
    pub fn new(file: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { file: file.into(), bytes: Zeroizing::new(bytes.into()) }
    }

    /// Reads a file of certificates or revocation lists, of at most 64 MiB.
    ///
    /// # Errors
    /// When the file is missing, unreadable, empty or too long.
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let file = path.display().to_string();
        let fail = |problem| SourceError { file: file.clone(), problem };
        let unreadable = |error: std::io::Error| fail(SourceProblem::unreadable(&error));
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > FILE_BYTES_MAX {
            return Err(fail(SourceProblem::TooLong));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(fail(SourceProblem::Empty));
        }
        Ok(Self::new(file, bytes))
    }

    /// Reads a private key file. Its owner may read and write it and its group may read it (0640 is how Debian
    /// hands a key to a service); everybody else may do nothing.
    ///
    /// # Errors
    /// As [`Self::read`], and when the file's mode lets the group change it or others at it.
    pub fn read_private(path: &Path) -> Result<Self, SourceError> {
        let source = Self::read(path)?;
        let fail = |problem| SourceError { file: source.file.clone(), problem };
        let metadata = std::fs::metadata(path).map_err(|e| fail(SourceProblem::unreadable(&e)))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o037 == 0 { Ok(source) } else { Err(fail(SourceProblem::KeyReadable { mode })) }
    }

    pub(super) fn error(&self, problem: SourceProblem) -> SourceError {
        SourceError { file: self.file.clone(), problem }
    }

    /// The DER objects in the file: PEM sections in order, or the whole file when it is DER.
    pub(super) fn sections(&self, der_kind: SectionKind) -> Result<Vec<Section>, SourceError> {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(self.error(SourceProblem::Empty));
        }
        // No DER certificate, key or list can begin with a dash; every one begins with a SEQUENCE.
        if self.bytes.first() == Some(&0x30) {
            return Ok(vec![Section { kind: der_kind, der: self.bytes.clone() }]);
        }
        <(SectionKind, Vec<u8>)>::pem_slice_iter(&self.bytes)
            .map(|section| match section {
                Ok((kind, der)) => Ok(Section { kind, der: Zeroizing::new(der) }),
                Err(error) => Err(self.error(SourceProblem::Pem { reason: error.to_string() })),
            })
            .collect()
    }

    /// The one private key in the file, PKCS#8, PKCS#1 or SEC1.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, SourceError> {
        if std::str::from_utf8(&self.bytes).is_ok_and(|text| text.contains("ENCRYPTED")) {
            return Err(self.error(SourceProblem::KeyEncrypted));
        }
        let mut keys = Vec::new();
        for section in self.sections(SectionKind::PrivateKey)? {
            if section.is_key() {
                keys.push(section.der);
            }
        }
        match keys.as_slice() {
            [] => Err(self.error(SourceProblem::NoKey)),
            [der] => {
                PrivateKeyDer::try_from(der.to_vec()).map_err(|_| self.error(SourceProblem::KeyUnusable))
            }
            _ => Err(self.error(SourceProblem::SeveralKeys)),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

/// One DER object of a [`Source`].
pub(super) struct Section {
    pub(super) kind: SectionKind,
    pub(super) der: Zeroizing<Vec<u8>>,
}

impl Section {
    pub(super) fn is_key(&self) -> bool {
        use SectionKind::{EcPrivateKey, PrivateKey, RsaPrivateKey};
        matches!(self.kind, PrivateKey | RsaPrivateKey | EcPrivateKey)
    }

    /// What the section is, in words for a message.
    pub(super) fn noun(&self) -> &'static str {
        match self.kind {
            SectionKind::Certificate => "a certificate",
            SectionKind::Crl => "a revocation list",
            SectionKind::Csr => "a certificate request",
            SectionKind::PublicKey => "a public key",
            _ if self.is_key() => "a private key",
            _ => "something else",
        }
    }
}

/// A file that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct SourceError {
    /// The file, as it was configured.
    pub file: String,
    /// What is wrong with it.
    pub problem: SourceProblem,
}

/// What is wrong with a file of certificates, keys or revocation lists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceProblem {
    /// The file is not there.
    #[error("there is no such file")]
    Missing,
    /// The system does not let us read it.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// What the system said.
        reason: String,
    },
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// More than 64 MiB.
    #[error("is longer than 64 MiB")]
    TooLong,
    /// A PEM section that cannot be decoded.
    #[error("holds a broken PEM section: {reason}")]
    Pem {
        /// What the decoder said.
        reason: String,
    },
    /// No object of the kind that belongs there.
    #[error("holds no {expected}")]
    Nothing {
        /// "certificate" or "revocation list".
        expected: &'static str,
    },
    /// An object of a kind that does not belong there.
    #[error("holds {found}, which does not belong in a file of {expected}s")]
    Misplaced {
        /// What was found, with its article.
        found: &'static str,
        /// "certificate" or "revocation list".
        expected: &'static str,
    },
    /// A certificate or list that is not well-formed.
    #[error("{what} number {number} cannot be parsed: {reason}")]
    Unparsable {
        /// "certificate" or "revocation list".
        what: &'static str,
        /// Its place in the file, from 1.
        number: usize,
        /// What the parser said.
        reason: String,
    },
    /// A trust anchor that may not issue certificates.
    #[error("\"{subject}\" is not a certificate authority ({missing}) and cannot be a trust anchor")]
    NotAnAuthority {
        /// The certificate's subject.
        subject: String,
        /// The extension that says so.
        missing: &'static str,
    },
    /// A trust anchor of X.509 version 1, which has no extension that would say that it is an authority.
    #[error(
        "\"{subject}\" is a certificate of X.509 version 1, which cannot say that it is an authority's, and cannot be a \
         trust anchor: make the authority's certificate anew from the same key and subject with `openssl req -x509 \
         -key KEY -subj SUBJECT`, which writes version 3; what it issued stays good"
    )]
    AnchorVersionOne {
        /// The certificate's subject.
        subject: String,
    },
    /// Revocation lists revoke all the trust anchors.
    #[error("every trust anchor is revoked by a configured revocation list")]
    EveryAnchorRevoked,
    /// A list whose issuer is not among the trust anchors.
    #[error(
        "was issued by \"{issuer}\", whose certificate is neither in client-ca nor vouched for by one that is, so the \
         signature cannot be checked: put that authority's certificate into this file too, or into client-ca"
    )]
    CrlIssuerUnknown {
        /// The list's issuer.
        issuer: String,
    },
    /// A list whose issuer may not sign lists.
    #[error("was signed by \"{issuer}\", whose key usage does not allow it to sign revocation lists")]
    CrlIssuerNotAllowed {
        /// The list's issuer.
        issuer: String,
    },
    /// Settings for the lists of an issuer that has none.
    #[error(
        "crl-stale-by-issuer names \"{issuer}\", of which there is no list here; there are lists of: {}", known.join("; ")
    )]
    NoListOf {
        /// The name in the settings.
        issuer: String,
        /// The issuers that there are lists of.
        known: Vec<String>,
    },
    /// A list with a false signature.
    #[error("is not signed by the key of its issuer \"{issuer}\"")]
    CrlBadSignature {
        /// The list's issuer.
        issuer: String,
    },
    /// A list of a form that we do not evaluate.
    #[error("is {form}, which is not supported: configure complete, direct revocation lists")]
    CrlForm {
        /// The form, with its article.
        form: &'static str,
    },
    /// A critical extension that we do not know, so the list's meaning is not known either.
    #[error("has a critical extension {oid} that is not understood")]
    CrlCriticalExtension {
        /// The object identifier.
        oid: String,
    },
    /// A serial number of more than 20 octets.
    #[error("lists a serial number of more than 20 octets")]
    CrlSerialTooLong,
    /// An older list than the one in force.
    #[error(
        "is older than the list of \"{issuer}\" in force ({offered} after {in_force}); the newer one is kept"
    )]
    CrlWentBack {
        /// The list's issuer.
        issuer: String,
        /// Number or time of the list in the file.
        offered: String,
        /// Number or time of the list in force.
        in_force: String,
    },
    /// An older list than one that was in force once, at some listener.
    #[error(
        "is older than a list of \"{issuer}\" that this broker has seen ({offered}, and {seen} was seen): what the newer one revokes \
         would be good again\n  hint: fetch the newest list from its authority; if that is really this one, take the entry of this \
         issuer out of {} in [system] state-directory (or the registry's folder) and start again",
        crate::lists::EDITIONS_FILE
    )]
    CrlBehindMemory {
        /// The list's issuer.
        issuer: String,
        /// Number or time of the list in the file.
        offered: String,
        /// Number or time of the newest list seen.
        seen: String,
    },
    /// A private key that others can read.
    #[error(
        "is a private key that others can read or its group can change (mode {mode:04o}): chmod 600 it, or 640"
    )]
    KeyReadable {
        /// The permission bits.
        mode: u32,
    },
    /// A private key under a passphrase.
    #[error("holds an encrypted private key: store it without a passphrase, with mode 0600")]
    KeyEncrypted,
    /// No private key.
    #[error("holds no private key")]
    NoKey,
    /// More than one private key.
    #[error("holds more than one private key")]
    SeveralKeys,
    /// A key of a kind or size that we cannot sign with.
    #[error(
        "holds a private key that cannot be used: ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits, is needed"
    )]
    KeyUnusable,
    /// The key belongs to another certificate.
    #[error("is not the private key of the certificate in {certificate}")]
    KeyMismatch {
        /// The certificate's file.
        certificate: String,
    },
    /// The server's own certificate has expired.
    #[error("the server certificate expired {ago} ago")]
    ServerExpired {
        /// How long ago, in words.
        ago: String,
    },
    /// The server's own certificate is not yet valid.
    #[error("the server certificate becomes valid only in {wait}: look at this machine's clock")]
    ServerNotYetValid {
        /// How long until then, in words.
        wait: String,
    },
    /// The server's own certificate is an authority's.
    #[error("begins with an authority's certificate: the server's own certificate must come first")]
    ServerIsAuthority,
    /// The server's own certificate is of X.509 version 1, and the listener refuses those.
    #[error(
        "the server certificate is of X.509 version 1, as `openssl x509 -req` of OpenSSL 3.0 makes without -extfile, and \
         many clients refuse it: issue it anew with -extfile <(printf 'subjectAltName=DNS:NAME'), NAME being what \
         clients connect to (the key can stay), or set x509-v1 = \"accept\" for this listener"
    )]
    ServerVersionOne,
    /// The server's own certificate is not for servers.
    #[error(
        "the server certificate's extended key usage does not allow serverAuth, so clients would refuse it"
    )]
    ServerNotForServers,
    /// The server's chain and the key were accepted, and still no handshake succeeds.
    #[error("no {version} handshake can be done with this certificate and key: {reason}")]
    SelfTest {
        /// The TLS version tried.
        version: &'static str,
        /// What rustls said.
        reason: String,
    },
    /// rustls refused the configuration.
    #[error("cannot be used for TLS: {reason}")]
    Rustls {
        /// What rustls said.
        reason: String,
    },
}

impl SourceProblem {
    fn unreadable(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable { reason: error.to_string() },
        }
    }
}

/// A span of seconds in the largest unit that fits, for messages: "2 hours".
pub(crate) fn in_words(seconds: i64) -> String {
    let seconds = seconds.unsigned_abs();
    let (count, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7_199 => (seconds / 60, "minute"),
        7_200..=172_799 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
