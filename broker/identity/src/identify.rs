//! From a certificate to the name of its holder.

use x509_parser::asn1_rs::Class;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::certificate::parse;
use crate::describe::{PRINTABLE_STRING, UTF8_STRING, shown_name, validity};
use crate::{CertificateId, IdentityError, NAME_LEN_MAX, NameRule, Serial, ThingName, Validity};

/// Where a listener takes the name of its peers from. One per listener; there is no fall-back to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdentitySource {
    /// The one common name of the subject.
    #[default]
    Cn,
    /// The one URI among the subject alternative names (whole, or what follows a configured prefix, see
    /// [`NameRule::with_uri_prefix`]).
    SanUri,
    /// The one DNS name among the subject alternative names.
    SanDns,
    /// The certificate's SHA-256 in 64 lower-case hexadecimal digits.
    Fingerprint,
}

impl IdentitySource {
    /// The value of the configuration key `identity`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cn => "cn",
            Self::SanUri => "san-uri",
            Self::SanDns => "san-dns",
            Self::Fingerprint => "fingerprint",
        }
    }
}

/// What a certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// The name at the configured source.
    pub name: ThingName,
    /// The SHA-256 of the certificate.
    pub certificate: CertificateId,
    /// The serial number.
    pub serial: Serial,
    /// The issuer as printable ASCII on one line, for records; never for decisions.
    pub issuer: String,
    /// The subject as printable ASCII on one line, for records; never for decisions.
    pub subject: String,
    /// First second of the validity period, in Unix seconds.
    pub not_before: i64,
    /// Last second of the validity period, in Unix seconds.
    pub not_after: i64,
}

impl Identified {
    /// How `now` (Unix seconds) stands to the validity period.
    #[must_use]
    pub const fn judge_validity(&self, now: i64) -> Validity {
        Validity::judge(self.not_before, self.not_after, now)
    }
}

/// The one common name of a certificate's subject, when some rule admits it as a name. Which rule that is, is for whoever
/// asks by [`ThingName::under`]: what a certificate says does not change, and need not be read at each connection.
#[must_use]
pub fn common_name_in(certificate: &X509Certificate<'_>) -> Option<ThingName> {
    ThingName::new(common_name(certificate).ok()?, &NameRule::widest(NAME_LEN_MAX)).ok()
}

/// The name alone that [`identify`] finds.
///
/// # Errors
/// As [`identify`].
pub fn name_of(leaf_der: &[u8], source: IdentitySource, rule: &NameRule) -> Result<ThingName, IdentityError> {
    let parsed = parse(leaf_der).map_err(|_| IdentityError::Unreadable)?;
    name_in(&parsed, source, rule, || CertificateId::of(leaf_der))
}

fn name_in(
    parsed: &X509Certificate<'_>,
    source: IdentitySource,
    rule: &NameRule,
    id: impl FnOnce() -> CertificateId,
) -> Result<ThingName, IdentityError> {
    Ok(match source {
        IdentitySource::Cn => ThingName::new(common_name(parsed)?, rule)?,
        IdentitySource::SanUri => ThingName::new(uri(parsed, rule)?, rule)?,
        IdentitySource::SanDns => ThingName::new(dns_name(parsed)?, rule)?,
        IdentitySource::Fingerprint => ThingName::fingerprint(&id()),
    })
}

/// Names the holder of the certificate `leaf_der`, from `source` alone.
///
/// The certificate is read, not verified: the caller has verified the chain, or the result only describes a failure.
///
/// # Errors
/// [`IdentityError`] when the bytes are not one certificate, or `source` does not hold exactly one name that `rule`
/// admits.
pub fn identify(
    leaf_der: &[u8],
    source: IdentitySource,
    rule: &NameRule,
) -> Result<Identified, IdentityError> {
    let parsed = parse(leaf_der).map_err(|_| IdentityError::Unreadable)?;
    let certificate = CertificateId::of(leaf_der);
    let name = name_in(&parsed, source, rule, || certificate)?;
    let (not_before, not_after) = validity(&parsed);
    Ok(Identified {
        name,
        certificate,
        serial: Serial::from_bytes(parsed.raw_serial()),
        issuer: shown_name(parsed.issuer()),
        subject: shown_name(parsed.subject()),
        not_before,
        not_after,
    })
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, IdentityError> {
    let mut names = certificate.subject().iter_common_name();
    let Some(name) = names.next() else {
        return Err(IdentityError::NoCommonName);
    };
    let more = names.count();
    if more > 0 {
        return Err(IdentityError::SeveralCommonNames { count: more + 1 });
    }
    let header = &name.attr_value().header;
    let tag = header.tag().0;
    let text = tag == UTF8_STRING || tag == PRINTABLE_STRING;
    if !text || header.class() != Class::Universal || header.is_constructed() {
        return Err(IdentityError::CommonNameEncoding { tag });
    }
    std::str::from_utf8(name.as_slice()).map_err(|_| IdentityError::CommonNameNotUtf8)
}

fn uri<'a>(certificate: &'a X509Certificate<'_>, rule: &NameRule) -> Result<&'a str, IdentityError> {
    let (first, count) = alternative_names(certificate, |name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    })?;
    let uri = match (first, count) {
        (Some(uri), 1) => uri,
        (None, _) => return Err(IdentityError::NoUri),
        (Some(_), count) => return Err(IdentityError::SeveralUris { count }),
    };
    match rule.uri_prefix() {
        None => Ok(uri),
        Some(prefix) => uri.strip_prefix(prefix).ok_or(IdentityError::UriPrefix),
    }
}

fn dns_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, IdentityError> {
    let (first, count) = alternative_names(certificate, |name| match name {
        GeneralName::DNSName(dns) => Some(*dns),
        _ => None,
    })?;
    match (first, count) {
        (Some(dns), 1) => Ok(dns),
        (None, _) => Err(IdentityError::NoDnsName),
        (Some(_), count) => Err(IdentityError::SeveralDnsNames { count }),
    }
}

/// The first of the alternative names that `pick` takes, and how many it takes.
fn alternative_names<'a>(
    certificate: &'a X509Certificate<'_>,
    pick: impl Fn(&'a GeneralName<'a>) -> Option<&'a str>,
) -> Result<(Option<&'a str>, usize), IdentityError> {
    let extension =
        certificate.subject_alternative_name().map_err(|_| IdentityError::AlternativeNamesUnreadable)?;
    let Some(extension) = extension else {
        return Ok((None, 0));
    };
    let names = &extension.value.general_names;
    // A malformed name could be the second one of the kind that we look for.
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(IdentityError::AlternativeNamesUnreadable);
    }
    let mut picked = names.iter().filter_map(pick);
    let first = picked.next();
    Ok((first, usize::from(first.is_some()) + picked.count()))
}
