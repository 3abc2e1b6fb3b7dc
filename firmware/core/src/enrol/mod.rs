//! Getting a certificate over MQTT: by claim, or with the certificate in use (a rotation). The topics and payloads are those of
//! AWS IoT's fleet provisioning, so that either end can be somebody else's.
//!
//! [`Enrolment`] knows which answer it waits for. Every other one is refused and changes nothing.

pub mod payload;
pub mod token;

use alloc::string::String;
use alloc::vec::Vec;

pub use payload::{Created, Provisioned, Rejection};

use crate::identity::{CertificateFault, Leaf, is_name};
use crate::io::{AnswerFault, Message};
use crate::platform::Secret;
use crate::slots::Credential;
use crate::topic::{self, Answer, Format};

/// The longest payload of an answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4096;
/// The longest ownership token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;
/// How often a request is sent before it is given up.
pub const TRIES_MAX: u8 = 3;

/// What the certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The first one, or one after all others were lost.
    Claim,
    /// The next one of the thing of this name.
    Rotation(String),
}

/// How it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// For what.
    pub purpose: Purpose,
    /// By which template.
    pub template: String,
    /// In which form.
    pub format: Format,
    /// The serial number: the common name of the request, and the parameter `SerialNumber` of the template.
    pub serial: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The subscription to the answers is under way.
    Subscribing(u32),
    /// The signing request is under way.
    Certificate,
    /// The registration of the thing is under way.
    Thing { leaf: Leaf, token: String },
    /// It is over.
    Over,
}

/// A request for a certificate, under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    terms: Terms,
    secret: Secret,
    public_key: [u8; 65],
    request: Vec<u8>,
    step: Step,
    tries: u8,
    deadline: u64,
    timeout_ms: u64,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Wait.
    Wait,
    /// Publish this.
    Publish(String, Vec<u8>),
    /// The credential is complete and in force; store it.
    Complete(Credential),
    /// It failed.
    Failed(Fault),
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The broker said no.
    Rejected(Rejection),
    /// It said nothing.
    NoAnswer,
    /// It does not let us hear its answers.
    NotGranted,
}

impl Enrolment {
    /// Begins. The answers have to be subscribed to under the number `subscription`: [`topic::answers`].
    #[must_use]
    pub const fn begin(
        terms: Terms,
        secret: Secret,
        public_key: [u8; 65],
        request: Vec<u8>,
        subscription: u32,
        now_mono: u64,
        timeout_ms: u64,
    ) -> Self {
        let deadline = now_mono.saturating_add(timeout_ms);
        let step = Step::Subscribing(subscription);
        Self { terms, secret, public_key, request, step, tries: 0, deadline, timeout_ms }
    }

    /// How it is asked for.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Until when the answer must be there, in milliseconds.
    #[must_use]
    pub const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// SUBACK.
    pub fn subscribed(&mut self, id: u32, granted: &[bool], now_mono: u64) -> Next {
        if self.step != Step::Subscribing(id) {
            return Next::Wait;
        }
        if granted.len() != 4 || granted.contains(&false) {
            self.step = Step::Over;
            return Next::Failed(Fault::NotGranted);
        }
        self.step = Step::Certificate;
        self.tries = 0;
        self.send(now_mono)
    }

    /// Time passed.
    pub fn tick(&mut self, now_mono: u64) -> Next {
        if now_mono < self.deadline || self.step == Step::Over {
            return Next::Wait;
        }
        if self.tries >= TRIES_MAX || matches!(self.step, Step::Subscribing(_)) {
            self.step = Step::Over;
            return Next::Failed(Fault::NoAnswer);
        }
        self.send(now_mono)
    }

    fn send(&mut self, now_mono: u64) -> Next {
        self.tries += 1;
        self.deadline = now_mono.saturating_add(self.timeout_ms);
        let Terms { template, format, serial, .. } = &self.terms;
        match &self.step {
            Step::Subscribing(_) | Step::Over => Next::Wait,
            Step::Certificate => {
                Next::Publish(topic::create(*format), payload::create_request(&self.request, *format))
            }
            Step::Thing { token, .. } => Next::Publish(
                topic::provision(template, *format),
                payload::provision_request(token, &[("SerialNumber", serial)], *format),
            ),
        }
    }

    /// A message came on one of the topics of the answers.
    ///
    /// # Errors
    ///
    /// It is not the answer that is waited for. Nothing changed, and the wait goes on.
    pub fn answer(
        &mut self,
        answer: Answer,
        message: Message<'_>,
        wall: Option<u64>,
        now_mono: u64,
    ) -> Result<Next, AnswerFault> {
        if message.retained {
            return Err(AnswerFault::Stale);
        }
        if message.payload.len() > ANSWER_BYTES_MAX {
            return Err(AnswerFault::Payload);
        }
        match (&self.step, answer) {
            (Step::Certificate, Answer::Created) => self.created(message.payload, wall, now_mono),
            (Step::Thing { .. }, Answer::Provisioned) => self.provisioned(message.payload),
            (Step::Certificate, Answer::CreateRejected) | (Step::Thing { .. }, Answer::ProvisionRejected) => {
                let rejection =
                    payload::rejected(message.payload, self.terms.format).ok_or(AnswerFault::Payload)?;
                self.step = Step::Over;
                Ok(Next::Failed(Fault::Rejected(rejection)))
            }
            _ => Err(AnswerFault::NotAwaited),
        }
    }

    fn created(&mut self, bytes: &[u8], wall: Option<u64>, now_mono: u64) -> Result<Next, AnswerFault> {
        let created = payload::created(bytes, self.terms.format).ok_or(AnswerFault::Payload)?;
        let leaf = Leaf::read_pem(&created.certificate_pem).map_err(AnswerFault::Certificate)?;
        if leaf.public_key != self.public_key {
            return Err(AnswerFault::Certificate(CertificateFault::NotOurKey));
        }
        if alloc::format!("{}", leaf.id()) != created.certificate_id {
            return Err(AnswerFault::Certificate(CertificateFault::NotItsId));
        }
        if wall.is_some_and(|wall| wall < leaf.not_before || wall > leaf.not_after) {
            return Err(AnswerFault::Certificate(CertificateFault::NotValidNow));
        }
        self.step = Step::Thing { leaf, token: created.ownership_token };
        self.tries = 0;
        Ok(self.send(now_mono))
    }

    fn provisioned(&mut self, bytes: &[u8]) -> Result<Next, AnswerFault> {
        let provisioned = payload::provisioned(bytes, self.terms.format).ok_or(AnswerFault::Payload)?;
        let thing = provisioned.thing_name;
        let ours = match &self.terms.purpose {
            Purpose::Claim => is_name(&thing),
            Purpose::Rotation(own) => thing == *own,
        };
        if !ours {
            return Err(AnswerFault::Name);
        }
        match core::mem::replace(&mut self.step, Step::Over) {
            Step::Thing { leaf, .. } => {
                Ok(Next::Complete(Credential { leaf, secret: self.secret.clone(), thing }))
            }
            step => {
                self.step = step;
                Err(AnswerFault::NotAwaited)
            }
        }
    }
}
