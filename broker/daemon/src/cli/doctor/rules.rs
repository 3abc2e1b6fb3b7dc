//! What a certificate must be by itself: version, purposes, key, validity, name.

use signet_identity::{IdentityError, IdentitySource, NameRule, identify};
use signet_registry::Wall;

use super::certificate::{Certificate, Key};
use super::chain::Path;
use super::finding::Finding;
use crate::tls::{EkuRule, X509V1, in_words};

/// What ends sooner is warned of, in seconds.
const ENDS_SOON_SECS: i64 = 14 * 86_400;
/// 2026-01-01: a clock before this program existed is wrong.
const EPOCH_SECS: i64 = 1_767_225_600;

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A device's, an operator's, a backend's.
    Client,
    /// The broker's own.
    Server,
}

/// The rules of a listener, or the strict ones when there is none.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) used: Use,
    pub(super) eku: EkuRule,
    pub(super) x509_v1: X509V1,
    pub(super) source: IdentitySource,
    pub(super) names: NameRule,
}

impl Rules {
    /// The defaults of a listener.
    pub(super) fn strict(used: Use) -> Self {
        Self {
            used,
            eku: EkuRule::default(),
            x509_v1: X509V1::default(),
            source: IdentitySource::default(),
            names: NameRule::default(),
        }
    }
}

/// How messages call a certificate.
pub(super) fn whose(certificate: &Certificate, used: Use) -> String {
    match used {
        Use::Client => format!("the certificate \"{}\"", certificate.subject),
        Use::Server => format!("the server's certificate \"{}\"", certificate.subject),
    }
}

/// A Unix second for people.
pub(super) fn moment(secs: i64) -> String {
    Wall::from_unix_secs(secs).to_string()
}

/// Everything about the certificate that does not depend on who trusts it. `now` is in Unix seconds.
pub(super) fn check(
    leaf: &Certificate,
    path: &Path<'_>,
    rules: &Rules,
    now: i64,
    findings: &mut Vec<Finding>,
) {
    check_form(leaf, rules, findings);
    check_validity(leaf, path, rules.used, now, findings);
    if rules.used == Use::Client
        && let Err(error) = identify(&leaf.der, rules.source, &rules.names)
        // A certificate that cannot be read has been reported.
        && error != IdentityError::Unreadable
    {
        let (reason, hint) = (error.to_string(), error.hint());
        findings.push(Finding::NoUsableName { whose: whose(leaf, rules.used), reason, hint });
    }
}

fn check_form(leaf: &Certificate, rules: &Rules, findings: &mut Vec<Finding>) {
    let whose = whose(leaf, rules.used);
    if leaf.version_one {
        findings.push(match (rules.x509_v1, rules.used) {
            (X509V1::Refuse, Use::Client) => Finding::VersionOne { whose: whose.clone() },
            _ => Finding::VersionOneTolerated { whose: whose.clone() },
        });
    }
    if leaf.authority {
        findings.push(Finding::LeafIsAuthority { whose: whose.clone() });
    }
    let (wanted, fits) = match rules.used {
        Use::Client => ("clientAuth", leaf.purposes.as_ref().is_none_or(|purposes| purposes.client)),
        Use::Server => {
            ("serverAuth", leaf.purposes.as_ref().is_none_or(|purposes| purposes.server || purposes.any))
        }
    };
    match &leaf.purposes {
        Some(purposes) if !fits => {
            findings.push(Finding::WrongPurpose { whose: whose.clone(), found: purposes.words(), wanted });
        }
        // Of version 1 that much is said already.
        None if rules.used == Use::Client && rules.eku == EkuRule::Required && !leaf.version_one => {
            findings.push(Finding::MissingPurpose { whose: whose.clone() });
        }
        _ => {}
    }
    if let Some(usage) = leaf.usage
        && !usage.digital_signature
        && !(rules.used == Use::Client && usage.key_agreement)
    {
        findings.push(Finding::WrongKeyUsage { whose: whose.clone(), found: usage.words() });
    }
    if !leaf.key.is_accepted() {
        findings.push(Finding::KeyNotAccepted { whose, found: leaf.key.words() });
    }
    if let super::certificate::Signature::Weak(algorithm) = &leaf.signature {
        findings.push(Finding::WeakSignature { subject: leaf.subject.clone(), algorithm: algorithm.clone() });
    }
}

fn check_validity(leaf: &Certificate, path: &Path<'_>, used: Use, now: i64, findings: &mut Vec<Finding>) {
    check_window(whose(leaf, used), leaf, now, findings);
    let ends_soon = leaf.not_after - now;
    if (0..ENDS_SOON_SECS).contains(&ends_soon) && leaf.not_before <= now {
        let (left, at) = (in_words(ends_soon), moment(leaf.not_after));
        findings.push(Finding::EndsSoon { whose: whose(leaf, used), left, at });
    }
    for authority in &path.authorities {
        check_window(format!("the authority \"{}\"", authority.subject), authority, now, findings);
        if (now..leaf.not_after).contains(&authority.not_after) {
            let (authority, at) = (authority.subject.clone(), moment(authority.not_after));
            findings.push(Finding::AuthorityEndsFirst { authority, at });
        }
    }
}

fn check_window(whose: String, certificate: &Certificate, now: i64, findings: &mut Vec<Finding>) {
    let (begin, end) = (certificate.not_before, certificate.not_after);
    if now < begin {
        findings.push(Finding::NotYetValid { whose, wait: in_words(begin - now), at: moment(begin) });
    } else if now > end {
        findings.push(Finding::Expired { whose, ago: in_words(now - end), at: moment(end) });
    }
}

/// Whether it is rather this machine's clock that is wrong. `others` are moments that must lie in the past, each with what
/// happened then.
pub(super) fn check_clock(path: &Path<'_>, others: &[(String, i64)], now: i64, findings: &mut Vec<Finding>) {
    let suspect = |reason: String| Finding::ClockSuspect { reason };
    if now < EPOCH_SECS {
        findings.push(suspect(format!("it is {}, before this program was made", moment(now))));
        return;
    }
    let authorities = path
        .authorities
        .iter()
        .map(|authority| (format!("the authority \"{}\" was made", authority.subject), authority.not_before));
    if let Some((what, at)) = authorities.chain(others.iter().cloned()).find(|(_, at)| *at > now) {
        let (wait, at) = (in_words(at - now), moment(at));
        findings.push(suspect(format!("{what} {wait} from now by it, at {at}")));
    }
}

/// What costs a small device more than it should.
pub(super) fn check_cost(leaf: &Certificate, path: &Path<'_>, used: Use, findings: &mut Vec<Finding>) {
    let mut cost = |whose: String, key: &Key| match key {
        Key::Rsa(bits) => findings.push(Finding::RsaKey { whose, bits: *bits }),
        Key::P384 => findings.push(Finding::SlowCurve { whose, curve: "P-384".to_owned() }),
        Key::P256 | Key::Other(_) => {}
    };
    cost(whose(leaf, used), &leaf.key);
    // A device verifies the server's chain; nobody makes it verify its own.
    if used == Use::Server {
        for authority in &path.authorities {
            cost(format!("the authority \"{}\"", authority.subject), &authority.key);
        }
    }
}
