//! Signing for those who ask over the network: for the holder of a token, and for one who renews a certificate.
//!
//! A signature comes between two questions to the registry: whether the key may be certified, before, and whether what was
//! signed comes into force, after. Of two who race only one gets a yes to the second; what was signed for the other is
//! thrown away. All of it waits for a key and for the disk: for threads that may.

use std::time::Duration;

use signet_identity::{CertificateId, ThingName};
use signet_registry::ca::{IssueError, Profile, PublicKey, issue, random_serial};
use signet_registry::{Actor, Attempt, Command, IssueFor, NewCertificate, TokenHash};

use crate::ca::{Authority, IssueRefused};
use crate::store::RegistryService;

/// What gives the right to a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// A one-time token, which is used up by it.
    Token(TokenHash),
    /// A certificate in force, which the new one takes the place of.
    Renewal(CertificateId),
}

impl Right {
    /// What is refused, when it is.
    pub(crate) const fn attempt(self) -> Attempt {
        match self {
            Self::Token(_) => Attempt::Token,
            Self::Renewal(_) => Attempt::Renew,
        }
    }
}

impl Authority {
    /// Certifies `key` for `name` by `right`, and answers when the certificate is in force and that is on the disk: the
    /// certificate in DER. `validity` is that of the authority's profile when `None`.
    ///
    /// # Errors
    /// [`IssueRefused`]; then nothing came into force, and a token is as good as before.
    pub(crate) fn certify(
        &self,
        registry: &RegistryService,
        right: Right,
        name: &ThingName,
        key: &PublicKey,
        validity: Option<Duration>,
        actor: Actor,
    ) -> Result<Vec<u8>, IssueRefused> {
        let now = registry.now();
        let to = match &right {
            Right::Token(token) => IssueFor::Token(token),
            Right::Renewal(asker) => IssueFor::Renewal(asker),
        };
        registry.registry().may_issue(to, &key.hash(), now)?;
        let own;
        let profile: &Profile = match validity {
            None => self.profile(),
            Some(validity) => {
                own = self.profile().clone().with_validity(validity).map_err(IssueError::Profile)?;
                &own
            }
        };
        let serial = random_serial().map_err(|_| IssueError::Serial)?;
        let issued = issue(self.issuer(), key, name, profile, now, serial)?;
        let certificate = NewCertificate::read(&issued.der, self.issuer().key_hash())
            .map_err(|error| IssueError::Encode(error.to_string()))?;
        let command = match right {
            Right::Token(token) => Command::UseToken { token, certificate },
            Right::Renewal(asker) => Command::Renew { certificate, asker },
        };
        registry.execute(command, actor)?;
        Ok(issued.der)
    }
}
