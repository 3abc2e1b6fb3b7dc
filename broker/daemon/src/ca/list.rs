//! The revocation list of an authority: written here where its key is here, taken from outside where it is not.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use signet_registry::ca::{CrlEntry, CrlError, crl};
use signet_registry::{SerialNumber, Wall};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::{Authority, AuthorityError, read, replace};
use crate::store::RegistryService;
use crate::tls::Edition;

/// The largest own revocation list that is read back, in bytes: about a million entries.
const CRL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Between two looks at a list that comes from outside.
const OUTSIDE_LOOK: Duration = Duration::from_secs(60);

/// A revocation list that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenList {
    /// Where it is.
    pub path: PathBuf,
    /// Its number.
    pub number: u64,
    /// How many certificates are in it.
    pub entries: usize,
    /// When it was made.
    pub this_update: Wall,
    /// When the next one is due at the latest.
    pub next_update: Wall,
    /// The list as PEM.
    pub pem: String,
    /// The list in DER.
    pub der: Vec<u8>,
}

/// What a look at a list from outside found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The list that is published from now on, when it is another than before.
    pub news: Option<Arc<WrittenList>>,
    /// How many revocations that this broker knows are not in the list that is published.
    pub missing: usize,
}

impl Authority {
    /// Signs the revocation list of this moment and puts it in the place of the last one.
    ///
    /// # Errors
    /// [`ListError`]; then the last one stays. [`ListError::NoKey`] for an authority whose key is not here.
    pub fn write_list(&self, registry: &RegistryService) -> Result<Arc<WrittenList>, ListError> {
        if !self.signs {
            return Err(ListError::NoKey { path: self.crl_file.clone() });
        }
        let _one_at_a_time = self.listing.lock();
        let last = self.list().map_or(0, |list| list.number);
        let snapshot = registry.snapshot();
        let this_update = registry.now();
        let next_update = this_update.after(self.crl_validity);
        // Milliseconds, which grow also over a restart and over a restored registry.
        let number = this_update.0.max(snapshot.last_event_at().0).max(last.saturating_add(1));
        let entries = snapshot
            .revocations(&self.issuer.key_hash(), this_update)
            .map(|(serial, revoked_at, reason)| CrlEntry { serial, revoked_at, reason });
        let list = crl(&self.issuer, entries, number, this_update, next_update)?;
        let pem = list.pem();
        replace(&self.crl_file, pem.as_bytes(), 0o644)
            .map_err(|source| ListError::File { path: self.crl_file.clone(), source })?;
        let path = self.crl_file.clone();
        let written =
            WrittenList { path, number, entries: list.entries, this_update, next_update, pem, der: list.der };
        let written = Arc::new(written);
        self.list.store(Some(Arc::clone(&written)));
        Ok(written)
    }

    /// The revocation list that was written last; `None` when there has never been one that can be read.
    #[must_use]
    pub fn list(&self) -> Option<Arc<WrittenList>> {
        self.list.load_full()
    }

    /// The file that the revocation list is in.
    #[must_use]
    pub fn list_file(&self) -> &Path {
        &self.crl_file
    }

    /// When a revocation list that was just written is renewed, whatever happens; one from outside is looked at again.
    #[must_use]
    pub fn list_renewed_after(&self) -> Duration {
        if self.signs { self.crl_validity / 2 } else { OUTSIDE_LOOK }
    }

    /// Looks at the list of an authority whose key is not here: a new one in its file is published from then on. `admits`
    /// remembers what is to be published, and says whether it is no older than what was seen before, over restarts too.
    ///
    /// # Errors
    /// [`ListError`]; then the last one stays.
    pub(crate) fn look_at_list(
        &self,
        registry: &RegistryService,
        admits: impl FnOnce(Edition) -> bool,
    ) -> Result<Looked, ListError> {
        let _one_at_a_time = self.listing.lock();
        let last = self.list();
        let there = read(&self.crl_file, CRL_BYTES_MAX).map_err(|error| match error {
            AuthorityError::File { path, source } => ListError::File { path, source },
            _ => self.outside("it cannot be read"),
        })?;
        let text = String::from_utf8_lossy(&there);
        let news = match &last {
            Some(last) if last.pem == text => None,
            _ => {
                let list = self.outside_list(&there, last.as_deref())?;
                let key = *self.issuer().key_hash().as_bytes();
                let issuer = self.issuer().subject().to_string();
                if !admits(Edition::of_all(key, issuer, list.number, list.this_update.unix_secs())) {
                    return Err(self.outside(
                        "it is older than a list of this authority that was published or in force before",
                    ));
                }
                Some(Arc::new(list))
            }
        };
        if let Some(news) = &news {
            self.list.store(Some(Arc::clone(news)));
        }
        let missing = self.list().map_or(0, |list| self.missing_in(&list, registry));
        Ok(Looked { news, missing })
    }

    /// A list that somebody else signed with this authority's key.
    fn outside_list(&self, text: &[u8], last: Option<&WrittenList>) -> Result<WrittenList, ListError> {
        let list = read_back(&self.crl_file, text)
            .ok_or_else(|| self.outside("it is not one list in PEM with a number and a next update"))?;
        let (_, parsed) = CertificateRevocationList::from_der(&list.der)
            .map_err(|_| self.outside("it is no revocation list"))?;
        let (_, authority) = X509Certificate::from_der(self.issuer().certificate_der())
            .map_err(|_| self.outside("the authority's certificate cannot be read"))?;
        if parsed.issuer().as_raw() != authority.subject().as_raw()
            || parsed.verify_signature(authority.public_key()).is_err()
        {
            return Err(self.outside("it is not signed by this authority"));
        }
        if parsed.extensions().iter().any(|extension| extension.critical) {
            return Err(self.outside("it is not a complete list: it has a critical extension"));
        }
        if last.is_some_and(|last| list.number <= last.number) {
            return Err(
                self.outside("it is not newer than the one that is published: its number is not higher")
            );
        }
        Ok(list)
    }

    /// How many certificates of this authority are revoked here and not in `list`.
    fn missing_in(&self, list: &WrittenList, registry: &RegistryService) -> usize {
        let Ok((_, parsed)) = CertificateRevocationList::from_der(&list.der) else { return 0 };
        let listed: HashSet<_> = parsed
            .iter_revoked_certificates()
            .filter_map(|entry| SerialNumber::new(entry.raw_serial()))
            .collect();
        let snapshot = registry.snapshot();
        let revoked = snapshot.revocations(&self.issuer().key_hash(), registry.now());
        revoked.filter(|(serial, ..)| !listed.contains(serial)).count()
    }

    fn outside(&self, reason: &'static str) -> ListError {
        ListError::Outside { path: self.crl_file.clone(), reason }
    }
}

/// Why there is no new revocation list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It was not signed.
    #[error(transparent)]
    Sign(#[from] CrlError),
    /// The key is not here.
    #[error(
        "the key of this authority is not here (key = \"none\"): its list is signed where the key is\n  hint: put that list at {}",
        path.display()
    )]
    NoKey {
        /// Where the list belongs.
        path: PathBuf,
    },
    /// A list from outside cannot be used.
    #[error("{}: {reason}\n  hint: sign a complete list with the authority's key and put it there", path.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It was not written, or cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// The revocation list in a file, if there is one. One that cannot be read is replaced: what it should say is in the registry,
/// and the next number comes from the clock too.
pub(super) fn last(path: &Path) -> Result<Option<WrittenList>, AuthorityError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read(path, CRL_BYTES_MAX)?;
    Ok(read_back(path, &bytes))
}

/// What a revocation list of ours says.
fn read_back(path: &Path, pem: &[u8]) -> Option<WrittenList> {
    use x509_parser::prelude::FromDer as _;
    let der = CertificateRevocationListDer::from_pem_slice(pem).ok()?;
    let (_, parsed) = x509_parser::prelude::CertificateRevocationList::from_der(&der).ok()?;
    Some(WrittenList {
        path: path.to_owned(),
        number: parsed.crl_number().and_then(|number| u64::try_from(number).ok())?,
        entries: parsed.iter_revoked_certificates().count(),
        this_update: Wall::from_unix_secs(parsed.last_update().timestamp()),
        next_update: Wall::from_unix_secs(parsed.next_update()?.timestamp()),
        pem: String::from_utf8(pem.to_vec()).ok()?,
        der: der.to_vec(),
    })
}
