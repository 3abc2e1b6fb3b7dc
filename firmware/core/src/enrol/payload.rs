//! The payloads of provisioning, in JSON and CBOR. Keys are camelCase text, values are text, and what is not known is skipped.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decoder, Encoder};
use serde::{Deserialize, Serialize};

use super::TOKEN_BYTES_MAX;
use crate::topic::Format;

/// A certificate was signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The SHA-256 of the certificate's DER, 64 lower-case hex digits.
    pub certificate_id: String,
    /// The certificate.
    pub certificate_pem: String,
    /// What registers the thing.
    #[serde(rename = "certificateOwnershipToken")]
    pub ownership_token: String,
}

/// The thing is registered and the certificate in force.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provisioned {
    /// The name.
    pub thing_name: String,
    /// What the template gives the device. Text to text.
    #[serde(default)]
    pub device_configuration: BTreeMap<String, String>,
}

/// The broker said no.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// As of HTTP.
    pub status_code: u16,
    /// A word for programs.
    pub error_code: String,
    /// A sentence for people.
    pub error_message: String,
}

impl Rejection {
    /// Whether asking again later may help without anybody doing something.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self.status_code, 408 | 409 | 429 | 500..)
    }
}

/// The request for a certificate.
#[must_use]
pub fn create_request(csr_der: &[u8], format: Format) -> Vec<u8> {
    let pem = crate::identity::certificate_request_pem(csr_der);
    match format {
        Format::Json => {
            #[derive(Serialize)]
            #[serde(rename_all = "camelCase")]
            struct Request<'a> {
                certificate_signing_request: &'a str,
            }
            serde_json::to_vec(&Request { certificate_signing_request: &pem }).unwrap_or_default()
        }
        Format::Cbor => cbor(|e| {
            e.map(1)?.str("certificateSigningRequest")?.str(&pem)?;
            Ok(())
        }),
    }
}

/// The request to register the thing.
#[must_use]
pub fn provision_request(token: &str, parameters: &[(&str, &str)], format: Format) -> Vec<u8> {
    match format {
        Format::Json => {
            #[derive(Serialize)]
            #[serde(rename_all = "camelCase")]
            struct Request<'a> {
                certificate_ownership_token: &'a str,
                parameters: BTreeMap<&'a str, &'a str>,
            }
            let parameters = parameters.iter().copied().collect();
            serde_json::to_vec(&Request { certificate_ownership_token: token, parameters })
                .unwrap_or_default()
        }
        Format::Cbor => cbor(|e| {
            e.map(2)?.str("certificateOwnershipToken")?.str(token)?;
            e.str("parameters")?.map(parameters.len() as u64)?;
            for (name, value) in parameters {
                e.str(name)?.str(value)?;
            }
            Ok(())
        }),
    }
}

type Encoded = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

fn cbor(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Encoded) -> Vec<u8> {
    let mut bytes = Vec::new();
    match write(&mut Encoder::new(&mut bytes)) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// The answer to [`create_request`]; `None` when it is not one.
#[must_use]
pub fn created(bytes: &[u8], format: Format) -> Option<Created> {
    let created: Created = match format {
        Format::Json => serde_json::from_slice(bytes).ok()?,
        Format::Cbor => {
            let mut fields = Fields::read(bytes)?;
            Created {
                certificate_id: fields.text("certificateId")?,
                certificate_pem: fields.text("certificatePem")?,
                ownership_token: fields.text("certificateOwnershipToken")?,
            }
        }
    };
    let id_is_hex = created.certificate_id.len() == 64
        && created.certificate_id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let token_fits = (1..=TOKEN_BYTES_MAX).contains(&created.ownership_token.len());
    (id_is_hex && token_fits).then_some(created)
}

/// The answer to [`provision_request`]; `None` when it is not one.
#[must_use]
pub fn provisioned(bytes: &[u8], format: Format) -> Option<Provisioned> {
    match format {
        Format::Json => serde_json::from_slice(bytes).ok(),
        Format::Cbor => {
            let mut fields = Fields::read(bytes)?;
            Some(Provisioned {
                thing_name: fields.text("thingName")?,
                device_configuration: fields.maps.remove("deviceConfiguration").unwrap_or_default(),
            })
        }
    }
}

/// The broker's refusal; `None` when it is not one.
#[must_use]
pub fn rejected(bytes: &[u8], format: Format) -> Option<Rejection> {
    match format {
        Format::Json => serde_json::from_slice(bytes).ok(),
        Format::Cbor => {
            let mut fields = Fields::read(bytes)?;
            Some(Rejection {
                status_code: u16::try_from(*fields.numbers.get("statusCode")?).ok()?,
                error_code: fields.text("errorCode")?,
                error_message: fields.text("errorMessage")?,
            })
        }
    }
}

/// The members of a CBOR map that are of a kind that answers have.
#[derive(Default)]
struct Fields {
    texts: BTreeMap<String, String>,
    numbers: BTreeMap<String, u64>,
    maps: BTreeMap<String, BTreeMap<String, String>>,
}

impl Fields {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        let mut fields = Self::default();
        let mut known = Vec::new();
        for_each_key(&mut decoder, |decoder, key| {
            // A repeated member is an attempt to be read in two ways.
            if known.contains(&key) {
                return None;
            }
            known.push(key.clone());
            use minicbor::data::Type;
            match decoder.datatype().ok()? {
                Type::String => drop(fields.texts.insert(key, decoder.str().ok()?.to_owned())),
                Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                    fields.numbers.insert(key, decoder.u64().ok()?);
                }
                Type::Map | Type::MapIndef if key == "deviceConfiguration" => {
                    let mut map = BTreeMap::new();
                    for_each_key(decoder, |decoder, key| {
                        let value = decoder.str().ok()?.to_owned();
                        map.insert(key, value).is_none().then_some(())
                    })?;
                    fields.maps.insert(key, map);
                }
                _ => decoder.skip().ok()?,
            }
            Some(())
        })?;
        (decoder.position() == bytes.len()).then_some(fields)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.texts.remove(key)
    }
}

/// Calls `each` after every key of the map that comes next, of definite or indefinite length.
fn for_each_key(
    decoder: &mut Decoder<'_>,
    mut each: impl FnMut(&mut Decoder<'_>, String) -> Option<()>,
) -> Option<()> {
    match decoder.map().ok()? {
        Some(members) => {
            for _ in 0..members {
                let key = decoder.str().ok()?.to_owned();
                each(decoder, key)?;
            }
        }
        None => {
            while decoder.datatype().ok()? != minicbor::data::Type::Break {
                let key = decoder.str().ok()?.to_owned();
                each(decoder, key)?;
            }
            // The break itself.
            decoder.skip().ok()?;
        }
    }
    Some(())
}
