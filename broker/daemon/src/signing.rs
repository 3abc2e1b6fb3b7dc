//! Signing one certificate: for the holder of a token, for one who renews a certificate, for a new operator.
//!
//! A signature comes between two questions to the registry: whether the key may be certified, before, and whether what was
//! signed comes into force, after. Of two who race only one gets a yes to the second; what was signed for the other is
//! thrown away. All of it waits for a key and for the disk: for threads that may.

use std::time::Duration;

use signet_identity::{CertificateId, PrincipalKey, Role, ThingName};
use signet_registry::ca::{IssueError, Profile, PublicKey, issue, random_serial};
use signet_registry::{Actor, Attempt, Command, IssueFor, NewCertificate, TokenHash};

use crate::ca::{Authority, IssueRefused};
use crate::store::RegistryService;

/// What gives the right to a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Right {
    /// A one-time token, which is used up by it.
    Token(TokenHash),
    /// A certificate in force, which the new one takes the place of.
    Renewal(CertificateId),
    /// The word of somebody at the administration socket, for a new operator.
    Operator,
}

impl Right {
    /// What is refused, when it is.
    pub(crate) const fn attempt(&self) -> Attempt {
        match self {
            Self::Token(_) => Attempt::Token,
            Self::Renewal(_) => Attempt::Renew,
            Self::Operator => Attempt::Issue,
        }
    }
}

/// The certificates of a thing with which nobody has ever connected.
pub(crate) fn never_connected(registry: &RegistryService, thing: &ThingName) -> Vec<CertificateId> {
    let snapshot = registry.registry();
    let held = snapshot.thing(thing.as_str()).map(|thing| thing.certificates().to_vec()).unwrap_or_default();
    held.into_iter().filter(|id| registry.last_seen(id).is_none()).collect()
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
        right: &Right,
        name: &ThingName,
        key: &PublicKey,
        validity: Option<Duration>,
        actor: Actor,
    ) -> Result<Vec<u8>, IssueRefused> {
        let now = registry.now();
        let operator = PrincipalKey { role: Role::Operator, name: name.clone() };
        let unseen = never_connected(registry, name);
        let to = match right {
            Right::Token(token) => IssueFor::Token { token, never_connected: &unseen },
            Right::Renewal(asker) => IssueFor::Renewal(asker),
            Right::Operator => IssueFor::Holder(&operator),
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
            Right::Token(token) => Command::UseToken { token: *token, certificate, never_connected: unseen },
            Right::Renewal(asker) => Command::Renew { certificate, asker: *asker },
            Right::Operator => Command::Issue { certificate, holder: operator },
        };
        registry.execute(command, actor)?;
        Ok(issued.der)
    }
}
