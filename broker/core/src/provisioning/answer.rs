//! What a device is answered.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use signet_identity::{CertificateId, ThingName};
use signet_wire::{EncodeError, Packet, Publish, Version, encode};
use zeroize::Zeroizing;

use super::rejection::RejectionDocument;
use super::{Format, OwnershipToken, Rejection};

/// Room for an answer. One of the usual size is written without moving, so no copy of a secret is left behind.
const ANSWER_BYTES_USUAL: usize = 4096;

/// A private key as PEM, on its way to the one device that asked for it. It is zeroized when dropped and never shown.
pub struct PrivateKey(Zeroizing<String>);

impl PrivateKey {
    /// The key of this PEM text.
    #[must_use]
    pub fn new(pem: Zeroizing<String>) -> Self {
        Self(pem)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A certificate that was signed and waits for its thing.
#[derive(Debug)]
pub struct CertificateAnswer {
    /// Its id: 64 hexadecimal digits in the answer.
    pub certificate_id: CertificateId,
    /// The leaf alone, as PEM with `\n` line ends.
    pub certificate_pem: String,
    /// What the thing is registered with.
    pub token: OwnershipToken,
    /// The key, when the broker made it.
    pub private_key: Option<PrivateKey>,
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// To both ways to create a certificate.
    Certificate(Box<CertificateAnswer>),
    /// The thing is registered and its certificate in force.
    Thing {
        /// Its name.
        name: ThingName,
        /// What the template has for the device.
        device_configuration: BTreeMap<String, String>,
    },
    /// No.
    Rejected(Rejection),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateDocument<'a> {
    certificate_id: &'a str,
    certificate_pem: &'a str,
    certificate_ownership_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingDocument<'a> {
    device_configuration: &'a BTreeMap<String, String>,
    thing_name: &'a str,
}

impl Answer {
    /// Whether it says yes.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        !matches!(self, Self::Rejected(_))
    }

    /// Whether it carries a private key.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Certificate(certificate) if certificate.private_key.is_some())
    }

    /// The document. Every field is there always; lengths are definite in CBOR, and there are no tags.
    ///
    /// Empty when it cannot be written, which no value of these types does. The memory is zeroized when the last handle is dropped.
    #[must_use]
    pub fn encode(&self, format: Format) -> Bytes {
        match self {
            Self::Certificate(certificate) => {
                let id = certificate.certificate_id.to_string();
                let document = CertificateDocument {
                    certificate_id: &id,
                    certificate_pem: &certificate.certificate_pem,
                    certificate_ownership_token: certificate.token.expose(),
                    private_key: certificate.private_key.as_ref().map(|key| key.0.as_str()),
                };
                written(&document, format)
            }
            Self::Thing { name, device_configuration } => {
                written(&ThingDocument { device_configuration, thing_name: name.as_str() }, format)
            }
            Self::Rejected(rejection) => written(&RejectionDocument::from(*rejection), format),
        }
    }
}

fn written(document: &impl Serialize, format: Format) -> Bytes {
    let mut bytes = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_USUAL));
    let done = match format {
        Format::Json => serde_json::to_writer(&mut *bytes, document).is_ok(),
        Format::Cbor => ciborium::into_writer(document, &mut *bytes).is_ok(),
    };
    if done { Bytes::from_owner(bytes) } else { Bytes::new() }
}

/// An answer on its way to the connection that asked. Its content is never shown.
pub struct Reply {
    pub(crate) publish: Publish,
    pub(crate) secret: bool,
}

impl Reply {
    /// Whether it carries a private key: whoever writes it zeroizes what it was written to.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.secret
    }

    /// Appends the PUBLISH to `out`, which has room for it before its first byte is written.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is as before then.
    pub fn write(self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let packet = Packet::Publish(self.publish);
        out.reserve(signet_wire::encoded_len(&packet, version));
        encode(&packet, version, out)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("topic", &self.publish.topic).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provisioning::ErrorCode;

    fn certificate(private_key: Option<&str>) -> Answer {
        Answer::Certificate(Box::new(CertificateAnswer {
            certificate_id: CertificateId::of(b"x"),
            certificate_pem: "-----BEGIN CERTIFICATE-----\nMA/+=\n-----END CERTIFICATE-----\n".to_owned(),
            token: OwnershipToken::new("the-token".to_owned()),
            private_key: private_key.map(|pem| PrivateKey::new(Zeroizing::new(pem.to_owned()))),
        }))
    }

    #[test]
    fn an_accepted_certificate_has_all_its_fields_and_escapes_nothing_but_line_ends() {
        let json = certificate(None).encode(Format::Json);
        let text = std::str::from_utf8(&json).unwrap();
        let id = CertificateId::of(b"x").to_string();
        assert_eq!(id.len(), 64);
        assert_eq!(
            text,
            format!(
                "{{\"certificateId\":\"{id}\",\"certificatePem\":\"-----BEGIN CERTIFICATE-----\\nMA/+=\\n-----END \
                 CERTIFICATE-----\\n\",\"certificateOwnershipToken\":\"the-token\"}}"
            )
        );
    }

    #[test]
    fn a_private_key_is_a_fourth_field_and_is_shown_nowhere() {
        let answer = certificate(Some("KEY"));
        assert!(answer.is_secret());
        assert!(!format!("{answer:?}").contains("KEY") && !format!("{answer:?}").contains("the-token"));
        let json = answer.encode(Format::Json);
        assert!(std::str::from_utf8(&json).unwrap().ends_with(",\"privateKey\":\"KEY\"}"));
        let cbor = answer.encode(Format::Cbor);
        // A map of four with text keys and text values.
        assert_eq!(cbor[0], 0xa4);
        assert_eq!(&cbor[1..15], b"\x6dcertificateId");
        assert_eq!(&cbor[15..17], [0x78, 64]);
    }

    #[test]
    fn a_registered_thing_always_has_a_device_configuration() {
        let name = ThingName::try_from("fp_1").unwrap();
        let answer = Answer::Thing { name, device_configuration: BTreeMap::new() };
        assert_eq!(&*answer.encode(Format::Json), br#"{"deviceConfiguration":{},"thingName":"fp_1"}"#);
        assert_eq!(&*answer.encode(Format::Cbor), b"\xa2\x73deviceConfiguration\xa0\x69thingName\x64fp_1");
    }

    #[test]
    fn a_rejection_always_has_its_three_fields() {
        for code in ErrorCode::ALL {
            let answer = Answer::Rejected(code.because("why"));
            let json = answer.encode(Format::Json);
            let (status, name) = (code.status(), code.as_str());
            let expected =
                format!("{{\"statusCode\":{status},\"errorCode\":\"{name}\",\"errorMessage\":\"why\"}}");
            assert_eq!(&*json, expected.as_bytes());
            let cbor = answer.encode(Format::Cbor);
            let head = [&[0xa3, 0x6a][..], b"statusCode", &[0x19], &status.to_be_bytes()].concat();
            assert!(cbor.starts_with(&head), "{cbor:02x?}");
        }
    }
}
