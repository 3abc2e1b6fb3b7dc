//! Ids: of keys, serial numbers, authorities and tokens.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use signet_identity::{CertificateId, Serial, ThingName};

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let hash = digest::digest(&digest::SHA256, bytes);
    for (to, from) in out.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    out
}

macro_rules! thirty_two_bytes {
    ($name:ident) => {
        impl $name {
            /// The value with these bytes, as a store keeps them.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&CertificateId::from_bytes(self.0), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                CertificateId::from_hex(text).map(|id| Self(*id.as_bytes())).ok_or(IdError::NotHex32)
            }
        }

        stored_by_display!($name);
    };
}

/// Serde through `Display` and `FromStr`: one parser for every way in.
macro_rules! stored_by_display {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text =
                    <std::borrow::Cow<'de, str> as serde::Deserialize<'de>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use stored_by_display;

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Something else than 64 hexadecimal digits.
    #[error("64 hexadecimal digits are needed")]
    NotHex32,
    /// Not 1 to 20 bytes in hexadecimal digits, which is what a serial number may have (RFC 5280 section 4.1.2.2).
    #[error("a serial number has 1 to 20 bytes, in hexadecimal digits")]
    Serial,
    /// Not an address, or not an address, a slash and a prefix length.
    #[error("an IP address is needed, or a network as in 192.0.2.0/24")]
    Network,
}

/// The SHA-256 of a public key: of the DER of its SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

thirty_two_bytes!(KeyHash);

impl KeyHash {
    /// The hash of the SubjectPublicKeyInfo `spki_der`.
    #[must_use]
    pub fn of_spki(spki_der: &[u8]) -> Self {
        Self(sha256(spki_der))
    }
}

/// The SHA-256 of a secret token. The secret itself is never stored, logged or part of an event.
///
/// Tables are searched by it in variable time: that could tell how a hash begins, which says nothing about the secret.
#[derive(Clone, Copy, PartialOrd, Ord, Eq)]
pub struct TokenHash([u8; 32]);

thirty_two_bytes!(TokenHash);

impl TokenHash {
    /// The hash of the token `secret`.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(sha256(secret))
    }
}

/// In constant time.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// A request for a certificate that an operator has to approve: the SHA-256 of the device's name, the label and the signing request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId([u8; 32]);

thirty_two_bytes!(RequestId);

impl RequestId {
    /// The id of the signing request `csr` for the device `name` at `label`; `None` is the label without a name. What an operator
    /// approves is a certificate as that label gives it, and the client chooses the label.
    #[must_use]
    pub fn of(name: &ThingName, label: Option<&str>, csr: &[u8]) -> Self {
        let sized = |text: &str| [&(text.len() as u64).to_be_bytes(), text.as_bytes()].concat();
        let label = label.map_or_else(|| vec![0], |label| [vec![1], sized(label)].concat());
        Self(sha256(&[&sized(name.as_str()), &label, csr].concat()))
    }
}

/// A registered authority: the SHA-256 of its certificate, which the `$aws` interface calls `caCertificateId`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaId([u8; 32]);

thirty_two_bytes!(CaId);

impl CaId {
    /// The id of the authority with the certificate `der`.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(der))
    }
}

impl From<CertificateId> for CaId {
    fn from(id: CertificateId) -> Self {
        Self(*id.as_bytes())
    }
}

/// The most bytes of a serial number (RFC 5280 section 4.1.2.2).
pub const SERIAL_BYTES_MAX: usize = 20;

/// A serial number as a key: its magnitude, without leading zero bytes, held in place.
///
/// Two encodings of one number are equal here. It displays as lower-case hexadecimal digits, `00` for zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber {
    // The length is first so that the derived order is that of the numbers.
    len: u8,
    bytes: [u8; SERIAL_BYTES_MAX],
}

impl SerialNumber {
    /// Zero: the lowest number.
    pub const ZERO: Self = Self { len: 0, bytes: [0; SERIAL_BYTES_MAX] };

    /// The number with the big-endian bytes `bytes`; `None` when more than 20 of them remain without leading zeros.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let digits = bytes.get(zeros..)?;
        let mut held = [0; SERIAL_BYTES_MAX];
        held.get_mut(..digits.len())?.copy_from_slice(digits);
        Some(Self { len: u8::try_from(digits.len()).ok()?, bytes: held })
    }

    /// The magnitude, big-endian, without leading zero bytes; empty for zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl TryFrom<&Serial> for SerialNumber {
    type Error = IdError;

    fn try_from(serial: &Serial) -> Result<Self, IdError> {
        Self::new(serial.as_bytes()).ok_or(IdError::Serial)
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 0 {
            return f.write_str("00");
        }
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SerialNumber {
    type Err = IdError;

    /// Hexadecimal digits in either case, with or without the colons that `openssl` prints.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let digits =
            digits.filter(|d| !d.is_empty() && d.len() <= 2 * SERIAL_BYTES_MAX + 2).ok_or(IdError::Serial)?;
        let bytes: Vec<u8> =
            digits.rchunks(2).rev().map(|pair| pair.iter().fold(0, |sum, d| sum << 4 | d)).collect();
        Self::new(&bytes).ok_or(IdError::Serial)
    }
}

stored_by_display!(SerialNumber);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_of_one_number_are_one_serial() {
        let number = SerialNumber::new(&[0, 0xab, 1]).unwrap();
        assert_eq!(number, SerialNumber::new(&[0xab, 1]).unwrap());
        assert_eq!(number, "AB:01".parse().unwrap());
        assert_eq!(number, "00ab01".parse().unwrap());
        assert_ne!(number, "0ab1".parse().unwrap());
        assert_eq!(number.to_string(), "ab01");
        assert_eq!(SerialNumber::new(&[0]).unwrap().to_string(), "00");
        assert_eq!("ab1".parse::<SerialNumber>().unwrap().to_string(), "0ab1");
    }

    #[test]
    fn a_serial_has_at_most_20_bytes() {
        assert!(SerialNumber::new(&[0xff; 20]).is_some());
        let mut signed = vec![0];
        signed.extend([0xff; 20]);
        assert!(SerialNumber::new(&signed).is_some());
        assert!(SerialNumber::new(&[0xff; 21]).is_none());
        for text in ["", "xyz", &"f".repeat(42), "é"] {
            assert_eq!(text.parse::<SerialNumber>(), Err(IdError::Serial), "{text:?}");
        }
    }

    #[test]
    fn serials_are_ordered_as_numbers() {
        let number = |bytes: &[u8]| SerialNumber::new(bytes).unwrap();
        assert!(number(&[2]) < number(&[1, 0]));
        assert!(number(&[1, 0]) < number(&[1, 1]));
    }

    #[test]
    fn ids_are_stored_as_they_are_shown() {
        let hash = TokenHash::of(b"abc");
        let text = serde_json::to_string(&hash).unwrap();
        assert_eq!(text, format!("\"{hash}\""));
        assert_eq!(serde_json::from_str::<TokenHash>(&text).unwrap(), hash);
        assert_ne!(hash, TokenHash::of(b"abd"));
        assert!(serde_json::from_str::<KeyHash>("\"ab\"").is_err());
        assert!(serde_json::from_str::<SerialNumber>("\"\"").is_err());
    }
}
