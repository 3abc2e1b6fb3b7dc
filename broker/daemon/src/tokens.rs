//! One-time tokens: the secret that lets one device get one certificate, once.
//!
//! The secret is shown to whoever makes it and to nobody after that: the registry keeps its hash, the device it is for,
//! and when it ends. It is used by `POST /provision` and as the password of an EST enrolment.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use signet_identity::ThingName;
use signet_registry::{
    Actor, Command, Line, Registry, RegistryError, ThingSpec, Token, TokenHash, TokenSpec, Wall,
};
use zeroize::Zeroizing;

use crate::store::{ExecuteError, RegistryService};

/// The random bytes of a token.
const SECRET_BYTES: usize = 32;
/// How long a token is good when nobody says how long.
pub const VALIDITY_DEFAULT: Duration = Duration::from_secs(3600);
/// The shortest that a token is good.
pub const VALIDITY_MIN: Duration = Duration::from_secs(60);
/// The longest that a token is good: long enough for a parcel, too short to be forgotten.
pub const VALIDITY_MAX: Duration = Duration::from_secs(90 * 86_400);

/// The text of a token, 256 random bits as base64url: wiped from memory, and never in a log.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    fn random() -> Result<Self, TokenError> {
        let mut bytes = Zeroizing::new([0u8; SECRET_BYTES]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| TokenError::NoRandomness)?;
        Ok(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))))
    }

    /// The text, for the one answer that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A token that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedToken {
    /// The device that it is for; added when it uses the token and does not exist.
    pub thing: ThingSpec,
    /// How long it is good; [`VALIDITY_DEFAULT`] when `None`.
    pub validity: Option<Duration>,
    /// What it is for, for people.
    pub note: Line,
}

/// A token that was made.
#[derive(Debug)]
pub struct MadeToken {
    /// The secret. There is no other copy of it.
    pub secret: Secret,
    /// By which it is listed and revoked.
    pub id: TokenHash,
    /// The device that it is for.
    pub device: ThingName,
    /// The first moment at which it is expired.
    pub until: Wall,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The validity is out of bounds.
    #[error("a token is good for a minute to 90 days, not for {} s", .0.as_secs())]
    Validity(Duration),
    /// The random number generator does not work.
    #[error("there is no randomness to make a token of")]
    NoRandomness,
    /// The registry or its store.
    #[error(transparent)]
    Registry(#[from] ExecuteError),
}

/// Makes a token. It waits for the disk.
///
/// # Errors
/// [`TokenError`]; then there is none.
pub async fn create(
    registry: &RegistryService,
    wanted: WantedToken,
    actor: Actor,
) -> Result<MadeToken, TokenError> {
    let validity = wanted.validity.unwrap_or(VALIDITY_DEFAULT);
    if !(VALIDITY_MIN..=VALIDITY_MAX).contains(&validity) {
        return Err(TokenError::Validity(validity));
    }
    let secret = Secret::random()?;
    let id = TokenHash::of(secret.expose().as_bytes());
    let until = registry.now().after(validity);
    let device = wanted.thing.name.clone();
    let spec = TokenSpec { hash: id, thing: wanted.thing, until, note: wanted.note };
    registry.submit(Command::CreateToken(spec), actor).answer().await?;
    Ok(MadeToken { secret, id, device, until })
}

/// The token whose secret `shown` is, when it can be used at `now`.
///
/// # Errors
/// [`RegistryError::OneTimeToken`]; whether it is unknown, used or expired is not said.
pub fn usable<'a>(registry: &'a Registry, shown: &str, now: Wall) -> Result<&'a Token, RegistryError> {
    // The hash is what is compared, so nothing can be learned of a secret from how long this takes.
    let token = registry.token(&TokenHash::of(shown.as_bytes())).ok_or(RegistryError::OneTimeToken)?;
    if is_usable(token, now) { Ok(token) } else { Err(RegistryError::OneTimeToken) }
}

/// Whether nobody has used it and it is not over.
#[must_use]
pub fn is_usable(token: &Token, now: Wall) -> bool {
    token.used.is_none() && now < token.spec.until
}

#[cfg(test)]
mod tests {
    use super::*;
    use signet_registry::Limits;

    #[test]
    fn a_secret_has_256_bits_is_never_the_same_and_is_not_shown() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_eq!(URL_SAFE_NO_PAD.decode(one.expose()).unwrap().len(), 32);
        assert_ne!(one.expose(), other.expose());
        assert!(!format!("{one:?}").contains(one.expose()));
    }

    #[test]
    fn a_token_is_good_until_its_end_and_not_at_it() {
        let mut registry = Registry::new(Limits::default());
        let (now, until) = (Wall(1_000_000), Wall(4_600_000));
        let thing = ThingSpec::named(ThingName::try_from("sensor-1").unwrap());
        let spec = TokenSpec { hash: TokenHash::of(b"secret"), thing, until, note: Line::default() };
        for event in registry.decide(Command::CreateToken(spec), &Actor::Broker, now).unwrap() {
            registry.apply(&event);
        }
        assert_eq!(usable(&registry, "secret", now).unwrap().spec.thing.name.as_str(), "sensor-1");
        assert!(usable(&registry, "secret", Wall(until.0 - 1)).is_ok());
        for (secret, at) in [("secret", until), ("Secret", now), ("", now)] {
            assert_eq!(usable(&registry, secret, at), Err(RegistryError::OneTimeToken), "{secret:?} at {at}");
        }
    }
}
