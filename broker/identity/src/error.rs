//! Why a certificate gives no identity.

use crate::NameError;

/// Why [`identify`](crate::identify) gave no name. Each way to fail is a variant of its own.
///
/// The peer only learns that it is not authorized; the operator gets [`Display`](std::fmt::Display) and
/// [`hint`](Self::hint), the dashboard [`metric_label`](Self::metric_label). Text from the certificate is escaped
/// in all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are not one DER certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// The subject has no common name.
    #[error("the subject has no common name (CN)")]
    NoCommonName,
    /// The subject has more than one common name, in one or several relative distinguished names.
    #[error("the subject has {count} common names (CN), it must have exactly one")]
    SeveralCommonNames {
        /// How many there are.
        count: usize,
    },
    /// The common name is of another string type than UTF8String and PrintableString.
    #[error("the common name is a {}, it must be a UTF8String or PrintableString", asn1_name(*tag))]
    CommonNameEncoding {
        /// The ASN.1 tag number.
        tag: u32,
    },
    /// The bytes of the common name are not UTF-8.
    #[error("the common name is not well-formed UTF-8")]
    CommonNameNotUtf8,
    /// The extension with the alternative names is there twice, or is malformed, or one of its names is.
    #[error("the subject alternative names cannot be read")]
    AlternativeNamesUnreadable,
    /// There is no URI among the alternative names.
    #[error("the subject alternative names hold no URI")]
    NoUri,
    /// There is more than one URI among the alternative names.
    #[error("the subject alternative names hold {count} URIs, there must be exactly one")]
    SeveralUris {
        /// How many there are.
        count: usize,
    },
    /// The URI does not begin with the configured prefix.
    #[error("the URI among the subject alternative names does not begin with the configured prefix")]
    UriPrefix,
    /// There is no DNS name among the alternative names.
    #[error("the subject alternative names hold no DNS name")]
    NoDnsName,
    /// There is more than one DNS name among the alternative names.
    #[error("the subject alternative names hold {count} DNS names, there must be exactly one")]
    SeveralDnsNames {
        /// How many there are.
        count: usize,
    },
    /// The text is there, and is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl IdentityError {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NoCommonName => "no_cn",
            Self::SeveralCommonNames { .. } => "several_cns",
            Self::CommonNameEncoding { .. } => "cn_encoding",
            Self::CommonNameNotUtf8 => "cn_not_utf8",
            Self::AlternativeNamesUnreadable => "san_unreadable",
            Self::NoUri => "no_san_uri",
            Self::SeveralUris { .. } => "several_san_uris",
            Self::UriPrefix => "san_uri_prefix",
            Self::NoDnsName => "no_san_dns",
            Self::SeveralDnsNames { .. } => "several_san_dns",
            Self::Name(NameError::Empty) => "name_empty",
            Self::Name(NameError::TooLong { .. }) => "name_too_long",
            Self::Name(NameError::FirstCharacter { .. }) => "name_first_character",
            Self::Name(NameError::Character { .. }) => "name_character",
            Self::Name(NameError::Reserved) => "name_reserved",
        }
    }

    /// What the operator can do about it, in one sentence.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable => "issue the certificate again; what the peer sent is not one DER certificate",
            Self::NoCommonName => {
                "put the device's name into the CN of the certificate, or choose another source of identity for this listener"
            }
            Self::SeveralCommonNames { .. } => {
                "issue the certificate with one CN; which of several is meant is ambiguous"
            }
            Self::CommonNameEncoding { .. } | Self::CommonNameNotUtf8 => {
                "issue the certificate with the CN as UTF8String or PrintableString"
            }
            Self::AlternativeNamesUnreadable => {
                "issue the certificate again with one well-formed subjectAltName extension"
            }
            Self::NoUri | Self::SeveralUris { .. } => {
                "issue the certificate with exactly one URI among its subject alternative names"
            }
            Self::UriPrefix => {
                "compare the URI of the certificate with the prefix in this listener's configuration"
            }
            Self::NoDnsName | Self::SeveralDnsNames { .. } => {
                "issue the certificate with exactly one DNS name among its subject alternative names"
            }
            Self::Name(_) => {
                "issue the certificate with a name of ASCII letters, digits and . _ : - that begins with a letter or digit"
            }
        }
    }
}

/// The ASN.1 string types by tag number (X.680, section 8).
const fn asn1_name(tag: u32) -> &'static str {
    match tag {
        12 => "UTF8String",
        18 => "NumericString",
        19 => "PrintableString",
        20 => "TeletexString (T61String)",
        22 => "IA5String",
        26 => "VisibleString",
        28 => "UniversalString",
        30 => "BMPString",
        _ => "value that is not a text",
    }
}
