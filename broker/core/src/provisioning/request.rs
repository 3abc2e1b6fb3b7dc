//! What a device asks.

use std::collections::BTreeMap;
use std::fmt;

use signet_wire::ClientId;
use zeroize::Zeroizing;

use super::document::{self, Value};
use super::{ErrorCode, Format, Operation, Rejection, RequestTopic};

/// The most bytes of a request's payload.
pub const PAYLOAD_BYTES_MAX: usize = 8192;
/// The most bytes of an ownership token; the clients' buffers are of 512.
const TOKEN_BYTES_MAX: usize = 256;

/// An ownership token, as it is sent: proof for whoever has it together with the certificate that it was given to. It is
/// zeroized when dropped and never shown.
#[derive(PartialEq, Eq)]
pub struct OwnershipToken(Zeroizing<String>);

impl OwnershipToken {
    /// The token of this text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the answer that carries it and for its hash.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OwnershipToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnershipToken(..)")
    }
}

/// What a payload says.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// `CreateCertificateFromCsr`: the signing request, as text.
    Csr(String),
    /// `CreateKeysAndCertificate`: nothing. What devices send there differs, and is not read.
    Keys,
    /// `RegisterThing`.
    Thing {
        /// Which certificate, proven.
        token: OwnershipToken,
        /// What the device says of itself.
        parameters: BTreeMap<String, String>,
    },
}

/// Where the answer goes: to one connection, once. It cannot be copied.
#[derive(Debug, PartialEq, Eq)]
pub struct ReplyTo {
    pub(crate) connection: u64,
    pub(crate) topic: RequestTopic,
}

impl ReplyTo {
    /// The connection that asked; see [`Connection::number`](crate::Connection::number).
    #[must_use]
    pub const fn connection(&self) -> u64 {
        self.connection
    }

    /// The topic of the request.
    #[must_use]
    pub const fn topic(&self) -> &RequestTopic {
        &self.topic
    }
}

/// A request of a connection whose principal may publish it.
#[derive(Debug)]
pub struct Request {
    /// What it says, or why that cannot be read: then it is to be answered with this.
    pub payload: Result<Payload, Rejection>,
    /// The client identifier of the connection.
    pub client_id: ClientId,
    /// Where the answer goes.
    pub reply_to: ReplyTo,
}

impl Request {
    /// What is asked for.
    #[must_use]
    pub const fn operation(&self) -> &Operation {
        &self.reply_to.topic.operation
    }
}

/// Reads the payload of a request.
///
/// # Errors
/// The rejection to answer with: 400 `InvalidPayload` for what is too large, unreadable, nested too deeply, has a key twice or a value
/// of the wrong type; 400 `InvalidCertificateOwnershipToken` for a token that is missing or impossible.
pub fn read_payload(operation: &Operation, format: Format, bytes: &[u8]) -> Result<Payload, Rejection> {
    const INVALID: ErrorCode = ErrorCode::InvalidPayload;
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(INVALID.because("The payload is larger than 8192 bytes."));
    }
    if *operation == Operation::CreateKeys {
        return Ok(Payload::Keys);
    }
    let mut entries = match document::read(bytes, format) {
        Ok(Value::Map(entries)) => entries,
        Ok(Value::Text(_) | Value::Other) => return Err(INVALID.because("The payload must be one map.")),
        Err(document::Unreadable) => {
            return Err(INVALID.because("The payload cannot be read in the encoding of its topic."));
        }
    };
    match operation {
        Operation::CreateFromCsr => match Value::take(&mut entries, "certificateSigningRequest") {
            Some(Value::Text(csr)) => Ok(Payload::Csr(csr)),
            Some(_) => Err(INVALID.because("certificateSigningRequest must be text.")),
            None => Err(INVALID.because("certificateSigningRequest is missing.")),
        },
        Operation::CreateKeys => Ok(Payload::Keys),
        Operation::RegisterThing(_) => {
            let token = token(Value::take(&mut entries, "certificateOwnershipToken"))?;
            let parameters = parameters(Value::take(&mut entries, "parameters"))?;
            Ok(Payload::Thing { token, parameters })
        }
    }
}

fn token(value: Option<Value>) -> Result<OwnershipToken, Rejection> {
    const INVALID: ErrorCode = ErrorCode::InvalidCertificateOwnershipToken;
    match value {
        Some(Value::Text(text)) if text.is_empty() => {
            Err(INVALID.because("Certificate ownership token cannot be empty."))
        }
        Some(Value::Text(text)) if text.len() > TOKEN_BYTES_MAX => {
            Err(INVALID.because("The certificate ownership token is unknown, used, expired, or not yours."))
        }
        Some(Value::Text(text)) => Ok(OwnershipToken::new(text)),
        Some(_) => Err(ErrorCode::InvalidPayload.because("certificateOwnershipToken must be text.")),
        None => Err(INVALID.because("Certificate ownership token cannot be empty.")),
    }
}

fn parameters(value: Option<Value>) -> Result<BTreeMap<String, String>, Rejection> {
    let wrong = ErrorCode::InvalidPayload.because("parameters must be a map of text to text.");
    match value {
        None => Ok(BTreeMap::new()),
        Some(Value::Map(entries)) => entries
            .into_iter()
            .map(|(name, value)| match value {
                Value::Text(text) => Ok((name, text)),
                Value::Map(_) | Value::Other => Err(wrong),
            })
            .collect(),
        Some(Value::Text(_) | Value::Other) => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signet_identity::TemplateName;

    fn register() -> Operation {
        Operation::RegisterThing(TemplateName::try_from("t").unwrap())
    }

    fn code(operation: &Operation, payload: &str) -> ErrorCode {
        read_payload(operation, Format::Json, payload.as_bytes()).unwrap_err().code
    }

    #[test]
    fn a_signing_request_is_taken_out_whatever_stands_beside_it() {
        let payload = r#"{"other":{"x":[1,2]},"certificateSigningRequest":"PEM\n"}"#;
        let read = read_payload(&Operation::CreateFromCsr, Format::Json, payload.as_bytes());
        assert_eq!(read, Ok(Payload::Csr("PEM\n".to_owned())));
    }

    #[test]
    fn asking_for_keys_needs_no_payload_and_takes_any_of_bounded_size() {
        for payload in [&b""[..], b"{}", b"[1,2", b"\xff\xff", &[b'x'; PAYLOAD_BYTES_MAX]] {
            assert_eq!(read_payload(&Operation::CreateKeys, Format::Json, payload), Ok(Payload::Keys));
        }
        let large = [b'x'; PAYLOAD_BYTES_MAX + 1];
        let rejected = read_payload(&Operation::CreateKeys, Format::Cbor, &large).unwrap_err();
        assert_eq!(rejected.code, ErrorCode::InvalidPayload);
    }

    #[test]
    fn a_registration_has_a_token_and_may_have_parameters() {
        let payload = br#"{"parameters":{"SerialNumber":"1"},"certificateOwnershipToken":"t"}"#;
        let Ok(Payload::Thing { token, parameters }) = read_payload(&register(), Format::Json, payload)
        else {
            panic!("it can be read")
        };
        assert_eq!(token.expose(), "t");
        assert_eq!(parameters.get("SerialNumber").map(String::as_str), Some("1"));
        let bare = br#"{"certificateOwnershipToken":"t"}"#;
        assert!(matches!(read_payload(&register(), Format::Json, bare), Ok(Payload::Thing { .. })));
    }

    #[test]
    fn each_wrong_payload_has_its_code() {
        use ErrorCode::{InvalidCertificateOwnershipToken as Token, InvalidPayload as Payload};
        for (payload, expected) in [
            ("", Payload),
            ("[]", Payload),
            ("\"x\"", Payload),
            (r#"{"certificateOwnershipToken":"t"}{}"#, Payload),
            (r#"{"certificateOwnershipToken":"t","certificateOwnershipToken":"t"}"#, Payload),
            (r#"{"certificateOwnershipToken":7}"#, Payload),
            (r#"{"certificateOwnershipToken":"t","parameters":[]}"#, Payload),
            (r#"{"certificateOwnershipToken":"t","parameters":{"a":1}}"#, Payload),
            (r#"{"certificateOwnershipToken":"t","parameters":{"a":"1","a":"2"}}"#, Payload),
            (r#"{"certificateOwnershipToken":"t","parameters":{"a":{"b":"c"}}}"#, Payload),
            ("{}", Token),
            (r#"{"certificateOwnershipToken":""}"#, Token),
        ] {
            assert_eq!(code(&register(), payload), expected, "{payload}");
        }
        let long = format!(r#"{{"certificateOwnershipToken":"{}"}}"#, "x".repeat(257));
        assert_eq!(code(&register(), &long), Token);
        for payload in ["{}", r#"{"certificateSigningRequest":null}"#, r#"{"CertificateSigningRequest":"x"}"#]
        {
            assert_eq!(code(&Operation::CreateFromCsr, payload), Payload, "{payload}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = OwnershipToken::new("very secret".to_owned());
        assert!(!format!("{token:?}").contains("secret"));
    }
}
