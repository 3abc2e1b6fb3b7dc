//! The authority that this broker is, and those that it was before.

use std::sync::Arc;

use signet_registry::Wall;

use super::{Authority, AuthorityError, CERTIFICATE_FILE, FILE_BYTES_MAX, read};
use crate::store::RegistryService;

/// The authority that this broker is, and those that it was.
#[derive(Debug, Default)]
pub struct Authorities {
    /// It issues; `None` without `[ca]`.
    pub current: Option<Arc<Authority>>,
    /// They only write their revocation lists.
    pub previous: Vec<Arc<Authority>>,
}

/// Authorities whose files are read and whose tokens are open, and which the registry need not know yet.
#[derive(Debug)]
pub struct Opened {
    settings: Option<signet_config::Ca>,
    authorities: Authorities,
}

impl Opened {
    /// Reads those that the settings name. It may wait for a token, up to its deadline, and for a passphrase.
    ///
    /// # Errors
    /// [`AuthorityError`], all but [`AuthorityError::Register`].
    pub fn read(settings: Option<&signet_config::Ca>, now: Wall) -> Result<Self, AuthorityError> {
        let authorities = match settings {
            None => Authorities::default(),
            Some(settings) => {
                let previous = settings
                    .previous
                    .iter()
                    .map(|previous| Authority::load_previous(settings, previous, now).map(Arc::new))
                    .collect::<Result<Vec<_>, _>>()?;
                Authorities { current: Some(Arc::new(Authority::load(settings, now)?)), previous }
            }
        };
        Ok(Self { settings: settings.cloned(), authorities })
    }

    /// Whether they are what `settings` name now.
    #[must_use]
    pub fn are_of(&self, settings: Option<&signet_config::Ca>) -> bool {
        self.authorities.are_unchanged(self.settings.as_ref(), settings)
    }

    /// Makes the registry know them.
    ///
    /// # Errors
    /// [`AuthorityError::Register`].
    pub fn register(self, registry: &RegistryService) -> Result<Authorities, AuthorityError> {
        for authority in self.authorities.previous.iter().chain(&self.authorities.current) {
            if authority.register(registry)? {
                let subject = authority.issuer().subject();
                tracing::info!(%subject, id = %authority.issuer().id(), "this broker's authority is registered");
            }
        }
        Ok(self.authorities)
    }
}

impl Authorities {
    /// Reads those that the settings name, and makes the registry know them.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn load(
        settings: Option<&signet_config::Ca>,
        registry: &RegistryService,
    ) -> Result<Self, AuthorityError> {
        Opened::read(settings, registry.now())?.register(registry)
    }

    /// All of them, the one that issues first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Authority>> {
        self.current.iter().chain(&self.previous)
    }

    /// Whether what the settings name is what is in force: nothing has to be read again.
    #[must_use]
    pub fn are_unchanged(&self, old: Option<&signet_config::Ca>, new: Option<&signet_config::Ca>) -> bool {
        let certificate = |settings: &signet_config::Ca| {
            let bytes = read(&settings.directory.join(CERTIFICATE_FILE), FILE_BYTES_MAX).ok()?;
            let pem = pem::parse(bytes.as_slice()).map(pem::Pem::into_contents).ok();
            Some(pem.unwrap_or_else(|| bytes.to_vec()))
        };
        old == new
            && match (&self.current, new) {
                (None, None) => true,
                (Some(current), Some(settings)) => {
                    certificate(settings).as_deref() == Some(current.issuer().certificate_der())
                }
                _ => false,
            }
    }
}
