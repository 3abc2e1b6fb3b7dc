//! How a certificate is shown to an operator, whatever is wrong with it.

use std::fmt::{self, Write};

use x509_parser::prelude::{AttributeTypeAndValue, X509Certificate, X509Name};

use crate::certificate::parse;
use crate::{CertificateId, Serial};

/// The longest name that a summary shows, in characters; the rest is cut off and marked with `...`.
const NAME_SHOWN_MAX: usize = 512;

/// The longest single value of a name that a summary shows, in characters.
const VALUE_SHOWN_MAX: usize = 128;

/// A certificate in the words of a log record. All texts are printable ASCII on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSummary {
    /// The SHA-256 of the bytes.
    pub certificate: CertificateId,
    /// The subject, or `unreadable`.
    pub subject: String,
    /// The issuer, or `unreadable`.
    pub issuer: String,
    /// The serial number in hexadecimal, or `unreadable`.
    pub serial: String,
    /// First and last second of the validity period in Unix seconds.
    pub validity: Option<(i64, i64)>,
}

/// Describes the certificate `leaf_der` for a failure record. It never fails: what cannot be read is said to be
/// `unreadable`.
#[must_use]
pub fn describe(leaf_der: &[u8]) -> CertificateSummary {
    let certificate = CertificateId::of(leaf_der);
    let Ok(parsed) = parse(leaf_der) else {
        let unreadable = || "unreadable".to_owned();
        return CertificateSummary {
            certificate,
            subject: unreadable(),
            issuer: unreadable(),
            serial: unreadable(),
            validity: None,
        };
    };
    CertificateSummary {
        certificate,
        subject: shown_name(parsed.subject()),
        issuer: shown_name(parsed.issuer()),
        serial: Serial::from_bytes(parsed.raw_serial()).to_string(),
        validity: Some(validity(&parsed)),
    }
}

impl fmt::Display for CertificateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "subject \"{}\", issuer \"{}\", serial {}, sha256 {}",
            self.subject, self.issuer, self.serial, self.certificate
        )
    }
}

pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let period = certificate.validity();
    (period.not_before.timestamp(), period.not_after.timestamp())
}

/// A distinguished name in the order of the certificate: `O=Signet, CN=a + OU=b`.
pub(crate) fn shown_name(name: &X509Name<'_>) -> String {
    let mut text = Bounded::new(NAME_SHOWN_MAX);
    for (index, rdn) in name.iter_rdn().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        for (index, attribute) in rdn.iter().enumerate() {
            if index > 0 {
                text.push_str(" + ");
            }
            push_attribute(&mut text, attribute);
        }
    }
    text.finish()
}

fn push_attribute(text: &mut Bounded, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    text.push_str(match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => other,
    });
    text.push_str("=");
    let mut value = Bounded::new(VALUE_SHOWN_MAX);
    let bytes = attribute.as_slice();
    match attribute.attr_value().tag().0 {
        UTF8_STRING | 18 | PRINTABLE_STRING | 22 | 26 => match std::str::from_utf8(bytes) {
            Ok(characters) => characters.chars().for_each(|c| value.push_escaped(c)),
            Err(_) => push_hex(&mut value, bytes),
        },
        // T61 is shown as Latin-1, as most software wrote it; what matters here is that nothing is hidden.
        20 => bytes.iter().for_each(|byte| value.push_escaped(char::from(*byte))),
        30 => {
            let units = bytes.chunks(2).map(|unit| match unit {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => u16::from(b'?'),
            });
            char::decode_utf16(units)
                .for_each(|c| value.push_escaped(c.unwrap_or(char::REPLACEMENT_CHARACTER)));
        }
        _ => push_hex(&mut value, bytes),
    }
    text.push_str(&value.finish());
}

/// Tag number of UTF8String (X.680, section 8).
pub(crate) const UTF8_STRING: u32 = 12;
/// Tag number of PrintableString.
pub(crate) const PRINTABLE_STRING: u32 = 19;

fn push_hex(text: &mut Bounded, bytes: &[u8]) {
    text.push_str("#");
    for byte in bytes {
        if text.full() {
            break;
        }
        text.push_str(&format!("{byte:02x}"));
    }
}

/// A text that stops growing at a bound, so that a certificate of megabytes makes a record of a line.
struct Bounded {
    text: String,
    left: usize,
    cut: bool,
}

impl Bounded {
    fn new(max: usize) -> Self {
        Self { text: String::new(), left: max, cut: false }
    }

    fn full(&self) -> bool {
        self.cut
    }

    /// Adds ASCII text whole, or marks the end.
    fn push_str(&mut self, text: &str) {
        if self.cut {
            return;
        }
        if text.len() > self.left {
            self.cut = true;
            self.text.push_str("...");
            return;
        }
        self.left -= text.len();
        self.text.push_str(text);
    }

    /// Adds a character so that it cannot be taken for another, end the line, or be read as part of the name's
    /// syntax.
    fn push_escaped(&mut self, c: char) {
        let mut escaped = String::new();
        let written = match c {
            ',' | '+' | '=' | '"' | '\\' | '<' | '>' | ';' => write!(escaped, "\\{c}"),
            ' '..='~' => write!(escaped, "{c}"),
            _ => write!(escaped, "{}", c.escape_unicode()),
        };
        if written.is_ok() {
            self.push_str(&escaped);
        }
    }

    fn finish(self) -> String {
        self.text
    }
}
