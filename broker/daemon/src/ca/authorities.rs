//! The authority that this broker is, and those that it was before.

use std::sync::Arc;

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

impl Authorities {
    /// Reads those that the settings name, and makes the registry know them.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn load(
        settings: Option<&signet_config::Ca>,
        registry: &RegistryService,
    ) -> Result<Self, AuthorityError> {
        let Some(settings) = settings else { return Ok(Self::default()) };
        let now = registry.now();
        let previous = settings
            .previous
            .iter()
            .map(|directory| Authority::load_previous(settings, directory, now).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let current = Arc::new(Authority::load(settings, now)?);
        for authority in previous.iter().chain([&current]) {
            if authority.register(registry)? {
                let subject = authority.issuer().subject();
                tracing::info!(%subject, id = %authority.issuer().id(), "this broker's authority is registered");
            }
        }
        Ok(Self { current: Some(current), previous })
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
