//! What is doubtful about what a listener trusts and shows, and does not stop a start or reload.

use super::crl::Revocation;
use super::source::in_words;

/// The longest time before its nextUpdate that a list is warned of, in seconds.
const WARN_BEFORE_SECS: i64 = 7 * 86_400;
/// A list is warned of when this part of its validity is left, if that is less.
const WARN_LAST_PART: i64 = 3;

/// Something doubtful that does not stop a start or reload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustWarning {
    /// A trust anchor has expired; what it issued is refused.
    #[error(
        "{file}: trust anchor \"{subject}\" expired {ago} ago, and every certificate below it is refused"
    )]
    AnchorExpired {
        /// The file.
        file: String,
        /// The anchor's subject.
        subject: String,
        /// How long ago.
        ago: String,
    },
    /// A trust anchor that a configured list revokes was left out.
    #[error("{file}: trust anchor \"{subject}\" is revoked by a configured list and is not trusted")]
    AnchorRevoked {
        /// The file.
        file: String,
        /// The anchor's subject.
        subject: String,
    },
    /// A list is past its nextUpdate.
    #[error("{file}: the revocation list of \"{issuer}\" was due for renewal {ago} ago; crl-stale decides")]
    CrlStale {
        /// The file.
        file: String,
        /// The list's issuer.
        issuer: String,
        /// How long ago.
        ago: String,
    },
    /// A list nears its nextUpdate.
    #[error("{file}: the revocation list of \"{issuer}\" is due for renewal in {left}")]
    CrlDue {
        /// The file.
        file: String,
        /// The list's issuer.
        issuer: String,
        /// How much time is left.
        left: String,
    },
    /// A list says that it is from the future.
    #[error(
        "{file}: the revocation list of \"{issuer}\" says that it is issued in {wait}: is this machine's clock right?"
    )]
    CrlFromTheFuture {
        /// The file.
        file: String,
        /// The list's issuer.
        issuer: String,
        /// How long until then.
        wait: String,
    },
    /// Two editions of one list; the older is not used.
    #[error("{file}: another file has a newer revocation list of the same issuer, so this one is not used")]
    CrlSuperseded {
        /// The file.
        file: String,
    },
    /// A list is older than the one that another listener's file has; that one is used here too.
    #[error(
        "{file}: the revocation list of \"{issuer}\" is older than the one in {newer}, which is used in its place; see why this \
         copy was not renewed"
    )]
    CrlBehindCopy {
        /// The file.
        file: String,
        /// The list's issuer.
        issuer: String,
        /// The file that has the newer one.
        newer: String,
    },
    /// A list is older than the one that this broker publishes for the same authority.
    #[error(
        "{file}: the revocation list of \"{issuer}\" ({offered}) is older than the one that this broker has published ({published}); see \
         why this copy was not renewed"
    )]
    CrlBehindPublished {
        /// The file.
        file: String,
        /// The list's issuer.
        issuer: String,
        /// Number and time of the list in the file.
        offered: String,
        /// Number and time of the newest that was published.
        published: String,
    },
    /// The server's certificate is of X.509 version 1.
    #[error(
        "{file}: the server certificate is of X.509 version 1, which OpenSSL accepts and many other TLS libraries refuse"
    )]
    ServerVersionOne {
        /// The file.
        file: String,
    },
    /// The server's certificate ends soon or has ended.
    #[error("{file}: the server certificate {}", server_end(*left_secs))]
    ServerEnds {
        /// The file.
        file: String,
        /// Seconds left; negative when it has ended.
        left_secs: i64,
    },
}

fn server_end(left_secs: i64) -> String {
    let words = in_words(left_secs);
    if left_secs < 0 { format!("expired {words} ago") } else { format!("expires in {words}") }
}

/// Whether a list of this validity, with so much time left, is to be renewed soon; both in seconds.
pub(crate) fn is_due(left: i64, validity: Option<i64>) -> bool {
    left < validity.map_or(WARN_BEFORE_SECS, |whole| (whole / WARN_LAST_PART).min(WARN_BEFORE_SECS))
}

/// Warns of the lists that are past their nextUpdate at `now`, that near it, and that are from the future.
pub(super) fn warn_of_ends(revocation: &Revocation, now: i64, warnings: &mut Vec<TrustWarning>) {
    for crl in revocation.lists() {
        let (file, issuer) = (crl.file.clone(), crl.issuer.clone());
        let left = crl.next_update.map(|end| end - now);
        warnings.push(match left {
            _ if crl.this_update > now => {
                TrustWarning::CrlFromTheFuture { file, issuer, wait: in_words(crl.this_update - now) }
            }
            Some(left) if left < 0 => TrustWarning::CrlStale { file, issuer, ago: in_words(left) },
            Some(left) if is_due(left, crl.validity()) => {
                TrustWarning::CrlDue { file, issuer, left: in_words(left) }
            }
            _ => continue,
        });
    }
}
