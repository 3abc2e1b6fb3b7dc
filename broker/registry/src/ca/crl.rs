//! Revocation lists, for those who do not ask this broker.

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason as Reason, RevokedCertParams,
    SerialNumber as Serial,
};

use super::issue::date;
use super::signer::Adapter;
use super::{IssueError, Issuer};
use crate::{RevocationReason, SerialNumber, Wall};

/// One revoked certificate of the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrlEntry {
    /// Its serial number.
    pub serial: SerialNumber,
    /// When it was revoked.
    pub revoked_at: Wall,
    /// Why.
    pub reason: RevocationReason,
}

/// Why no revocation list was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// The authority's key usage lacks cRLSign (RFC 5280 section 4.2.1.3).
    #[error("the authority may not sign revocation lists: its key usage lacks cRLSign")]
    KeyUsage,
    /// The next list would not come after this one.
    #[error("the next update of a revocation list must be later than this one")]
    NextUpdate,
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] IssueError),
}

/// A revocation list that was just signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    /// The list in DER.
    pub der: Vec<u8>,
    /// How many certificates are in it.
    pub entries: usize,
}

impl Crl {
    /// The list as PEM, with a line end after it.
    #[must_use]
    pub fn pem(&self) -> String {
        super::to_pem("X509 CRL", self.der.clone())
    }
}

/// Signs a complete version 2 revocation list of `issuer`'s certificates (RFC 5280 section 5), sorted by serial number.
/// When a serial number comes twice, the earlier revocation is kept.
///
/// `number` must grow from list to list (section 5.2.3); the caller keeps it. Dates are to the second. It takes about
/// 100 bytes for each entry while it is made.
///
/// # Errors
/// [`CrlError`].
pub fn crl(
    issuer: &Issuer,
    entries: impl IntoIterator<Item = CrlEntry>,
    number: u64,
    this_update: Wall,
    next_update: Wall,
) -> Result<Crl, CrlError> {
    if !issuer.signs_crls() {
        return Err(CrlError::KeyUsage);
    }
    if next_update.unix_secs() <= this_update.unix_secs() {
        return Err(CrlError::NextUpdate);
    }
    let mut entries: Vec<CrlEntry> = entries.into_iter().collect();
    entries.sort_unstable();
    entries.dedup_by_key(|entry| entry.serial);
    let revoked: Result<Vec<_>, IssueError> = entries.iter().map(revoked).collect();
    let params = CertificateRevocationListParams {
        this_update: date(this_update.unix_secs())?,
        next_update: date(next_update.unix_secs())?,
        crl_number: Serial::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked?,
        key_identifier_method: KeyIdMethod::PreSpecified(issuer.key_id().to_vec()),
    };
    let adapter = Adapter::new(issuer.signer());
    let signed = issuer.to_rcgen(&adapter).and_then(|issuer| params.signed_by(&issuer));
    let signed = signed.map_err(|error| adapter.explain(&error))?;
    Ok(Crl { der: signed.der().to_vec(), entries: entries.len() })
}

fn revoked(entry: &CrlEntry) -> Result<RevokedCertParams, IssueError> {
    Ok(RevokedCertParams {
        serial_number: Serial::from_slice(entry.serial.as_bytes()),
        revocation_time: date(entry.revoked_at.unix_secs())?,
        reason_code: Some(match entry.reason {
            RevocationReason::Unspecified => Reason::Unspecified,
            RevocationReason::KeyCompromise => Reason::KeyCompromise,
            RevocationReason::CaCompromise => Reason::CaCompromise,
            RevocationReason::AffiliationChanged => Reason::AffiliationChanged,
            RevocationReason::Superseded => Reason::Superseded,
            RevocationReason::CessationOfOperation => Reason::CessationOfOperation,
            RevocationReason::PrivilegeWithdrawn => Reason::PrivilegeWithdrawn,
        }),
        invalidity_date: None,
    })
}
