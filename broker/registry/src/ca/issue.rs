//! What is signed: certificates of devices, and of authorities.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
};
use signet_identity::{CertificateId, ThingName};
use time::OffsetDateTime;

use super::signer::Adapter;
use super::{Issuer, IssuerError, PublicKey, Signer, SignerError};
use crate::{SerialNumber, Wall};

/// The shortest validity period that is issued.
pub const VALIDITY_MIN: Duration = Duration::from_secs(60);
/// The longest validity period that is issued: 50 years of 365 days.
pub const VALIDITY_MAX: Duration = Duration::from_secs(50 * 365 * 86_400);
/// The longest time that a certificate is valid before it was issued: 30 days.
pub const BACKDATE_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The most characters of a common name (RFC 5280 appendix A.1, ub-common-name).
pub const COMMON_NAME_CHARS_MAX: usize = 64;
/// The most bytes of the address of a revocation list.
pub const CRL_URL_BYTES_MAX: usize = 1024;

/// Why a profile, a name or an address cannot be used in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The validity is shorter than [`VALIDITY_MIN`] or longer than [`VALIDITY_MAX`].
    #[error("a validity of {0:?} is not issued: it must be between a minute and 50 years")]
    Validity(Duration),
    /// The certificate would be valid for longer than [`BACKDATE_MAX`] before it was issued.
    #[error("a certificate is backdated by at most 30 days")]
    Backdate,
    /// The address is not an http or https URL in ASCII, or is longer than [`CRL_URL_BYTES_MAX`].
    #[error("the address of a revocation list must be an http or https URL in ASCII")]
    CrlUrl,
    /// The name of an authority is empty, too long, or has control characters.
    #[error("the name of an authority has 1 to {COMMON_NAME_CHARS_MAX} characters and no control characters")]
    AuthorityName,
}

/// Where a revocation list is fetched from: an http or https URL in ASCII (RFC 5280 section 4.2.1.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlUrl(Arc<str>);

impl TryFrom<&str> for CrlUrl {
    type Error = ProfileError;

    fn try_from(text: &str) -> Result<Self, ProfileError> {
        let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let good = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
            && text.len() <= CRL_URL_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if good { Ok(Self(text.into())) } else { Err(ProfileError::CrlUrl) }
    }
}

impl fmt::Display for CrlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The common name of an authority: 1 to [`COMMON_NAME_CHARS_MAX`] characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityName(Arc<str>);

impl TryFrom<&str> for AuthorityName {
    type Error = ProfileError;

    fn try_from(text: &str) -> Result<Self, ProfileError> {
        let good = (1..=COMMON_NAME_CHARS_MAX).contains(&text.chars().count())
            && !text.chars().any(char::is_control);
        if good { Ok(Self(text.into())) } else { Err(ProfileError::AuthorityName) }
    }
}

/// How a device's certificate is made, apart from its name and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    validity: Duration,
    backdate: Duration,
    crl_url: Option<CrlUrl>,
}

/// 90 days, backdated by an hour, without a place for a revocation list.
impl Default for Profile {
    fn default() -> Self {
        Self {
            validity: Duration::from_secs(90 * 86_400),
            backdate: Duration::from_secs(3600),
            crl_url: None,
        }
    }
}

impl Profile {
    /// Certificates that are valid for `validity` from when they are issued, to the second, and for `backdate` before:
    /// for devices whose clock is behind.
    ///
    /// # Errors
    /// [`ProfileError::Validity`], [`ProfileError::Backdate`].
    pub fn new(validity: Duration, backdate: Duration) -> Result<Self, ProfileError> {
        check_validity(validity)?;
        if backdate > BACKDATE_MAX {
            return Err(ProfileError::Backdate);
        }
        Ok(Self { validity, backdate, crl_url: None })
    }

    /// The same, with the place where the authority's revocation list is.
    #[must_use]
    pub fn with_crl_url(mut self, url: CrlUrl) -> Self {
        self.crl_url = Some(url);
        self
    }

    /// The same for certificates that are valid for `validity` from when they are issued.
    ///
    /// # Errors
    /// [`ProfileError::Validity`].
    pub fn with_validity(mut self, validity: Duration) -> Result<Self, ProfileError> {
        check_validity(validity)?;
        self.validity = validity;
        Ok(self)
    }

    /// How long its certificates are valid from when they are issued.
    #[must_use]
    pub const fn validity(&self) -> Duration {
        self.validity
    }

    /// How long its certificates are valid before they were issued.
    #[must_use]
    pub const fn backdate(&self) -> Duration {
        self.backdate
    }
}

fn check_validity(validity: Duration) -> Result<(), ProfileError> {
    if (VALIDITY_MIN..=VALIDITY_MAX).contains(&validity) {
        Ok(())
    } else {
        Err(ProfileError::Validity(validity))
    }
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The authority's certificate is not valid now.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The profile, or the validity of an authority, is impossible.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The authority's path length allows no authority below it (RFC 5280 section 4.2.1.9).
    #[error("the authority may sign no other authority: its path length is 0")]
    PathLength,
    /// The name is longer than a common name may be.
    #[error("the name has more than {COMMON_NAME_CHARS_MAX} characters, which a certificate cannot carry")]
    NameTooLong,
    /// The key is the authority's own: whoever has the one could act as the other.
    #[error("the public key is the authority's own")]
    AuthorityKey,
    /// The serial number is zero: the random number generator does not work.
    #[error("the serial number is zero")]
    Serial,
    /// The clock is past the calendar of certificates, the year 9999.
    #[error("the clock or the validity is past the year 9999")]
    Clock,
    /// The authority's key did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The certificate could not be put together.
    #[error("the certificate could not be encoded: {0}")]
    Encode(String),
}

impl IssueError {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::Issuer(_) => "issuer",
            Self::Profile(_) => "profile",
            Self::PathLength => "path_length",
            Self::NameTooLong => "name_too_long",
            Self::AuthorityKey => "authority_key",
            Self::Serial => "serial",
            Self::Clock => "clock",
            Self::Signer(_) => "signer",
            Self::Encode(_) => "encode",
        }
    }
}

/// A certificate that was just signed. It comes into force by what the registry does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// The SHA-256 of the DER.
    pub certificate_id: CertificateId,
    /// The serial number, with the issuer's key unique.
    pub serial: SerialNumber,
    /// First second of the validity period, in Unix seconds.
    pub not_before: i64,
    /// Last second of the validity period, in Unix seconds.
    pub not_after: i64,
    /// Whether the authority's own end cut the validity short.
    pub shortened: bool,
}

impl Issued {
    /// The certificate as PEM, with a line end after it.
    #[must_use]
    pub fn pem(&self) -> String {
        super::to_pem("CERTIFICATE", self.der.clone())
    }
}

/// 128 random bits for a serial number, from the cryptographic library.
///
/// # Errors
/// [`Unspecified`] when there is no randomness.
pub fn random_serial() -> Result<[u8; 16], Unspecified> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(bytes)
}

/// Certifies `key` as that of the thing `name`, for client authentication and nothing else.
///
/// Nothing but the key comes from whoever asks. The validity begins `profile.backdate()` before `now` and ends
/// `profile.validity()` after it, within the authority's own. `serial` is random; see [`random_serial`].
///
/// # Errors
/// [`IssueError`].
pub fn issue(
    issuer: &Issuer,
    key: &PublicKey,
    name: &ThingName,
    profile: &Profile,
    now: Wall,
    serial: [u8; 16],
) -> Result<Issued, IssueError> {
    if name.as_str().chars().count() > COMMON_NAME_CHARS_MAX {
        return Err(IssueError::NameTooLong);
    }
    let mut draft = Draft::new(name.as_str(), now, profile.backdate, profile.validity, serial)?;
    draft.params.is_ca = IsCa::ExplicitNoCa;
    draft.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    draft.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    draft.place_crl(profile.crl_url.as_ref());
    draft.sign_by(issuer, key, now)
}

/// Makes the certificate of a root: an authority that signed itself, with room for one authority below it.
///
/// # Errors
/// [`IssueError`].
pub fn make_root(
    name: &AuthorityName,
    signer: &dyn Signer,
    validity: Duration,
    now: Wall,
    serial: [u8; 16],
) -> Result<Issued, IssueError> {
    check_validity(validity)?;
    let mut draft = Draft::new(&name.0, now, AUTHORITY_BACKDATE, validity, serial)?;
    draft.make_authority(1);
    draft.params.use_authority_key_identifier_extension = false;
    draft.set_dates()?;
    let adapter = Adapter::new(signer);
    let certificate = draft.params.self_signed(&adapter);
    draft.finish(certificate, &adapter)
}

/// Makes the certificate of an authority with the key `key` that signs certificates of devices and no authority: its
/// path length is 0. `issuer` is the root; its end is the last that this authority's can be.
///
/// # Errors
/// [`IssueError`].
pub fn make_issuing(
    issuer: &Issuer,
    key: &PublicKey,
    name: &AuthorityName,
    validity: Duration,
    crl_url: Option<&CrlUrl>,
    now: Wall,
    serial: [u8; 16],
) -> Result<Issued, IssueError> {
    check_validity(validity)?;
    if issuer.path_len() == Some(0) {
        return Err(IssueError::PathLength);
    }
    let mut draft = Draft::new(&name.0, now, AUTHORITY_BACKDATE, validity, serial)?;
    draft.make_authority(0);
    draft.place_crl(crl_url);
    draft.sign_by(issuer, key, now)
}

/// So that a certificate of the first minute can be backdated too.
const AUTHORITY_BACKDATE: Duration = Duration::from_secs(86_400);

/// A certificate before it is signed.
struct Draft {
    params: CertificateParams,
    serial: SerialNumber,
    not_before: i64,
    not_after: i64,
    shortened: bool,
}

impl Draft {
    fn new(
        common_name: &str,
        now: Wall,
        backdate: Duration,
        validity: Duration,
        serial: [u8; 16],
    ) -> Result<Self, IssueError> {
        let number = SerialNumber::new(&serial).filter(|number| !number.as_bytes().is_empty());
        let number = number.ok_or(IssueError::Serial)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        Ok(Self {
            params,
            serial: number,
            not_before: now.before(backdate).unix_secs(),
            not_after: now.after(validity).unix_secs(),
            shortened: false,
        })
    }

    fn make_authority(&mut self, path_len: u8) {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
        self.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }

    fn place_crl(&mut self, url: Option<&CrlUrl>) {
        self.params.crl_distribution_points =
            url.map(|url| CrlDistributionPoint { uris: vec![url.to_string()] }).into_iter().collect();
    }

    fn set_dates(&mut self) -> Result<(), IssueError> {
        self.params.not_before = date(self.not_before)?;
        self.params.not_after = date(self.not_after)?;
        Ok(())
    }

    fn sign_by(mut self, issuer: &Issuer, key: &PublicKey, now: Wall) -> Result<Issued, IssueError> {
        issuer.check_validity(now)?;
        if key == issuer.signer().public_key() {
            return Err(IssueError::AuthorityKey);
        }
        self.not_before = self.not_before.max(issuer.not_before());
        self.shortened = self.not_after > issuer.not_after();
        self.not_after = self.not_after.min(issuer.not_after());
        self.set_dates()?;
        let adapter = Adapter::new(issuer.signer());
        let certificate =
            issuer.to_rcgen(&adapter).and_then(|issuer| self.params.signed_by(key.encoder(), &issuer));
        self.finish(certificate, &adapter)
    }

    fn finish(
        self,
        certificate: Result<rcgen::Certificate, rcgen::Error>,
        adapter: &Adapter<'_>,
    ) -> Result<Issued, IssueError> {
        let certificate = certificate.map_err(|error| adapter.explain(&error))?;
        let der = certificate.der().to_vec();
        Ok(Issued {
            certificate_id: CertificateId::of(&der),
            der,
            serial: self.serial,
            not_before: self.not_before,
            not_after: self.not_after,
            shortened: self.shortened,
        })
    }
}

pub(super) fn date(unix_secs: i64) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(unix_secs).map_err(|_| IssueError::Clock)
}
