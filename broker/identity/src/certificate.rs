//! What is read from a certificate beside its names.

use std::fmt;

use aws_lc_rs::digest;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The SHA-256 of a certificate's DER bytes. It displays as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificateId([u8; 32]);

impl CertificateId {
    /// The id of the certificate with the bytes `der`.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut id = [0; 32];
        let hash = digest::digest(&digest::SHA256, der);
        for (to, from) in id.iter_mut().zip(hash.as_ref()) {
            *to = *from;
        }
        Self(id)
    }

    /// The id with these bytes, as a registry stores them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id of 64 hexadecimal digits, in either case of letters; `None` for any other text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut id = [0; 32];
        for (to, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *to = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(id))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The most bytes of a serial number that [`Serial`] displays. RFC 5280 section 4.1.2.2 allows 20.
const SERIAL_SHOWN_MAX: usize = 32;

/// A certificate's serial number: the contents of its INTEGER, big-endian. It displays as lower-case hexadecimal
/// digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// The serial number with the INTEGER contents `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The contents of the INTEGER, a leading zero byte for the sign included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, rest) = self.0.split_at(self.0.len().min(SERIAL_SHOWN_MAX));
        shown.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        if rest.is_empty() { Ok(()) } else { f.write_str("...") }
    }
}

/// How a moment stands to a certificate's validity period (RFC 5280 section 4.1.2.5: both ends belong to it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Within the period.
    Valid,
    /// Before it.
    NotYetValid,
    /// After it.
    Expired,
}

impl Validity {
    /// Judges `now` against the period. All three are Unix seconds.
    #[must_use]
    pub const fn judge(not_before: i64, not_after: i64, now: i64) -> Self {
        if now < not_before {
            Self::NotYetValid
        } else if now > not_after {
            Self::Expired
        } else {
            Self::Valid
        }
    }

    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
        }
    }
}

/// What a certificate says about its extended key usage (RFC 5280 section 4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eku {
    /// There is no such extension.
    Absent,
    /// The extension is there and lists `id-kp-clientAuth`.
    ClientAuth,
    /// The extension is there and does not list `id-kp-clientAuth` (`anyExtendedKeyUsage` does not stand for it),
    /// or it is there twice, or it, or the certificate, is malformed.
    Other,
}

/// What the certificate `leaf_der` says about its extended key usage. Whether a missing extension is
/// accepted is the caller's policy.
#[must_use]
pub fn extended_key_usage(leaf_der: &[u8]) -> Eku {
    let Ok(certificate) = parse(leaf_der) else {
        return Eku::Other;
    };
    match certificate.extended_key_usage() {
        Ok(None) => Eku::Absent,
        Ok(Some(usage)) if usage.value.client_auth => Eku::ClientAuth,
        Ok(Some(_)) | Err(_) => Eku::Other,
    }
}

/// The bytes do not hold exactly one certificate.
pub(crate) struct Unparsable;

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Unparsable> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Unparsable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_id_is_the_sha256_of_the_bytes_in_lower_case() {
        let id = CertificateId::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(id.to_string(), text);
        assert_eq!(CertificateId::from_hex(text), Some(id));
        assert_eq!(CertificateId::from_hex(&text.to_uppercase()), Some(id));
        assert_eq!(CertificateId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn a_text_that_is_not_64_hexadecimal_digits_is_no_certificate_id() {
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(CertificateId::from_hex(&text[1..]), None);
        assert_eq!(CertificateId::from_hex(&format!("{text}0")), None);
        assert_eq!(CertificateId::from_hex(&text.replacen('b', "g", 1)), None);
        assert_eq!(CertificateId::from_hex(&text.replacen("ba", "é", 1)), None);
    }

    #[test]
    fn both_ends_belong_to_the_validity_period() {
        assert_eq!(Validity::judge(10, 20, 9), Validity::NotYetValid);
        assert_eq!(Validity::judge(10, 20, 10), Validity::Valid);
        assert_eq!(Validity::judge(10, 20, 20), Validity::Valid);
        assert_eq!(Validity::judge(10, 20, 21), Validity::Expired);
    }

    #[test]
    fn a_long_serial_is_shown_cut_off() {
        assert_eq!(Serial::from_bytes(&[0, 0xab, 1]).to_string(), "00ab01");
        let long = Serial::from_bytes(&[0x11; 33]).to_string();
        assert_eq!(long, format!("{}...", "11".repeat(32)));
    }
}
