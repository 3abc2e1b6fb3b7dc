//! Getting the first certificate with a one-time token: `POST /provision`, a question over HTTPS.
//!
//! [`Redemption`] takes the answer as it comes. What it accepts is what the claim flow accepts: a certificate for our key,
//! valid now, for the name that we have.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::payload::Rejection;
use crate::https::{Answer, Ask, Url};
use crate::identity::{CertificateFault, Leaf, certificate_request_pem};
use crate::io::AnswerFault;
use crate::platform::Secret;
use crate::slots::Credential;

/// The longest answer that is read, in bytes: a certificate and the authorities above it, PEM in JSON.
pub const ANSWER_BYTES_MAX: usize = 12 * 1024;
/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 256;

/// A token and where it is taken.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The secret.
    pub secret: Zeroizing<String>,
    /// The address of `POST /provision`.
    pub url: Url,
}

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Token").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Request<'a> {
    token: &'a str,
    csr: &'a str,
}

#[derive(Deserialize)]
struct Provisioned {
    device_id: String,
    certificate: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    message: String,
}

/// A token that is being redeemed.
#[derive(Debug)]
pub struct Redemption {
    serial: String,
    secret: Secret,
    public_key: [u8; 65],
    status: u16,
    body: Vec<u8>,
}

/// What the part of an answer led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// There is more to come.
    Wait,
    /// The certificate is in force; store it.
    Complete(Credential),
    /// The broker said no.
    Rejected(Rejection),
}

impl Redemption {
    /// Asks for a certificate of the key behind `request` (PKCS#10, DER) for the device `serial`.
    #[must_use]
    pub fn begin(
        token: &Token,
        serial: &str,
        secret: Secret,
        public_key: [u8; 65],
        request: &[u8],
    ) -> (Self, Ask) {
        let csr = certificate_request_pem(request);
        let body = Zeroizing::new(
            serde_json::to_vec(&Request { token: &token.secret, csr: &csr }).unwrap_or_default(),
        );
        let redemption = Self { serial: serial.into(), secret, public_key, status: 0, body: Vec::new() };
        (redemption, token.url.post_json(&body))
    }

    /// Takes the next part of the answer.
    ///
    /// # Errors
    ///
    /// It is not the answer to our question. It is over then: whether the token is used up cannot be told.
    pub fn answered(&mut self, answer: Answer<'_>, wall: Option<u64>) -> Result<Redeemed, AnswerFault> {
        match answer {
            Answer::Begin { status, length } => {
                if length as usize > ANSWER_BYTES_MAX {
                    return Err(AnswerFault::Payload);
                }
                self.status = status;
                self.body.clear();
            }
            Answer::Part(part) => {
                if self.body.len() + part.len() > ANSWER_BYTES_MAX {
                    return Err(AnswerFault::Payload);
                }
                self.body.extend_from_slice(part);
            }
            Answer::End if self.status == 200 => return self.provisioned(wall).map(Redeemed::Complete),
            Answer::End => return Ok(Redeemed::Rejected(self.rejection())),
        }
        Ok(Redeemed::Wait)
    }

    fn provisioned(&self, wall: Option<u64>) -> Result<Credential, AnswerFault> {
        let provisioned: Provisioned =
            serde_json::from_slice(&self.body).map_err(|_| AnswerFault::Payload)?;
        // The request says the name, and the token is for nobody else.
        if provisioned.device_id != self.serial {
            return Err(AnswerFault::Name);
        }
        let leaf = Leaf::read_pem(&provisioned.certificate).map_err(AnswerFault::Certificate)?;
        if leaf.public_key != self.public_key {
            return Err(AnswerFault::Certificate(CertificateFault::NotOurKey));
        }
        if wall.is_some_and(|wall| wall < leaf.not_before || wall > leaf.not_after) {
            return Err(AnswerFault::Certificate(CertificateFault::NotValidNow));
        }
        Ok(Credential { leaf, secret: self.secret.clone(), thing: provisioned.device_id })
    }

    fn rejection(&self) -> Rejection {
        let said: Option<Refusal> = serde_json::from_slice(&self.body).ok();
        let (error_code, error_message) =
            said.map_or_else(Default::default, |said| (said.error, said.message));
        Rejection { status_code: self.status, error_code, error_message }
    }
}
