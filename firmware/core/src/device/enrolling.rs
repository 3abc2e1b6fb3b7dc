//! Enrolment by claim, and rotation.

use alloc::vec::Vec;

use super::{Device, MINUTE, Phase, SECOND};
use crate::enrol::{Enrolment, Fault, Next, Purpose, Terms};
use crate::io::{Action, Event, Message, Now, ProvisioningError, Publish, Rung};
use crate::platform::{Platform, Rng as _, Secret, Signer as _, SignerError};
use crate::schedule::renewal;
use crate::slots::{Credential, Marker, Slot};
use crate::store::StoreFault;
use crate::topic::{self, Answer};

impl<P: Platform> Device<P> {
    /// Connected with the claim: ask for a certificate.
    pub(super) fn begin_claim(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(secret) = self.key_for_enrolment(now, out) else { return };
        if let Err(fault) = self.begin(Purpose::Claim, secret, now, out) {
            self.cannot_begin(Event::KeyFault(fault), now, out);
        }
    }

    /// The key to be certified; without one it is said, and tried again later.
    pub(super) fn key_for_enrolment(&mut self, now: Now, out: &mut Vec<Action>) -> Option<Secret> {
        match self.claim_key() {
            Ok(secret) => return Some(secret),
            Err(ClaimKey::Signer(fault)) => self.cannot_begin(Event::KeyFault(fault), now, out),
            Err(ClaimKey::Store(fault)) => {
                self.store_failed(fault, out);
                let unusable = Event::ProvisioningError(ProvisioningError::StoreUnusable);
                self.cannot_begin(unusable, now, out);
            }
        }
        None
    }

    pub(super) fn cannot_begin(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        out.push(Action::Event(event));
        out.push(Action::Disconnect);
        self.wait(now, 15 * MINUTE);
    }

    /// The key for an enrolment by claim. Who had a certificate asks with its key again: so the broker sees that it is the same
    /// device, and not somebody who found a claim. A new key is in the flash before the broker hears of it, for the same reason.
    fn claim_key(&mut self) -> Result<Secret, ClaimKey> {
        if !self.fresh_key {
            let newest = Slot::ALL.into_iter().filter_map(|slot| self.held(slot));
            let newest = newest.max_by_key(|credential| credential.leaf.not_before);
            if let Some(credential) = newest {
                return Ok(credential.secret.clone());
            }
            if let Some(pending) = &self.pending {
                return Ok(pending.clone());
            }
        }
        let secret = self.signer.generate(&mut self.rng).map_err(ClaimKey::Signer)?;
        self.slots.put_pending(&secret, &mut self.rng).map_err(ClaimKey::Store)?;
        self.pending = Some(secret.clone());
        self.fresh_key = false;
        Ok(secret)
    }

    fn begin(
        &mut self,
        purpose: Purpose,
        secret: Secret,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<(), SignerError> {
        let id = self.id();
        let factory = self.factory.as_ref().ok_or(SignerError::Name)?;
        let template = match purpose {
            Purpose::Claim => factory.template.clone(),
            Purpose::Rotation(_) => factory.rotation_template.clone(),
        };
        let terms = Terms { purpose, template, format: factory.format, serial: factory.serial.clone() };
        let public_key = self.signer.public_key(&secret)?;
        let request = self.signer.request(&secret, &terms.serial)?;
        out.push(Action::Subscribe { id, filters: topic::answers(&terms.template, terms.format) });
        let timeout = u64::from(self.settings.answer_timeout_ms);
        let enrolment = Enrolment::begin(terms, secret, public_key, request, id, now.mono, timeout);
        if let Phase::Online(session) = &mut self.phase {
            session.enrolment = Some(enrolment.into());
        }
        Ok(())
    }

    /// Starts a rotation when it is time.
    pub(super) fn maybe_rotate(&mut self, now: Now, out: &mut Vec<Action>) {
        let Phase::Online(session) = &self.phase else { return };
        let (Rung::Own(slot), None) = (session.rung, &session.enrolment) else { return };
        if session.subscribing.is_some() || !self.store_usable || now.mono < self.rotation.retry_at {
            return;
        }
        let Some(credential) = self.held(slot) else { return };
        let due = now.wall.is_some_and(|wall| wall >= renewal(&credential.leaf));
        if !due && !self.rotation.commanded {
            return;
        }
        let purpose = Purpose::Rotation(credential.thing.clone());
        self.rotation.by_command = core::mem::take(&mut self.rotation.commanded);
        out.push(Action::Event(Event::RotationStarted));
        let begun = self.signer.generate(&mut self.rng).and_then(|key| self.begin(purpose, key, now, out));
        if let Err(fault) = begun {
            out.push(Action::Event(Event::KeyFault(fault)));
            self.postpone_rotation(MINUTE, now, out);
        }
    }

    /// Gives a rotation up until later, at least `at_least` milliseconds.
    pub(super) fn postpone_rotation(&mut self, at_least: u64, now: Now, out: &mut Vec<Action>) {
        out.push(Action::Event(Event::RotationAborted));
        self.rotation.commanded = false;
        let wait = at_least + self.rotation.backoff.next(&mut self.rng);
        self.rotation.retry_at = now.mono.saturating_add(wait);
    }

    /// The connection ended during an enrolment. Returns how long to wait at least.
    pub(super) fn enrolment_lost(&mut self, rung: Rung, now: Now, out: &mut Vec<Action>) -> u64 {
        match rung {
            Rung::Claim | Rung::Token => {
                self.position = 0;
                self.enrol_backoff.next(&mut self.rng)
            }
            // The broker did not say no: the rotation goes on when the connection is back.
            Rung::Own(_) => {
                out.push(Action::Event(Event::RotationAborted));
                self.rotation.commanded = self.rotation.by_command;
                self.rotation.retry_at = now.mono;
                0
            }
        }
    }

    /// A message on a topic of the answers.
    pub(super) fn enrol_answer(
        &mut self,
        answer: Answer,
        message: Message<'_>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Phase::Online(session) = &mut self.phase else { return };
        let Some(enrolment) = &mut session.enrolment else { return };
        match enrolment.answer(answer, message, now.wall, now.mono) {
            Ok(next) => self.enrol_next(next, now, out),
            Err(fault) => out.push(Action::Event(Event::AnswerRefused(fault))),
        }
    }

    /// Whether a message is an answer to the enrolment that is under way.
    pub(super) fn as_answer(&self, topic: &str) -> Option<Answer> {
        let Phase::Online(session) = &self.phase else { return None };
        let terms = session.enrolment.as_ref()?.terms();
        Answer::of(topic, &terms.template, terms.format)
    }

    pub(super) fn enrol_next(&mut self, next: Next, now: Now, out: &mut Vec<Action>) {
        match next {
            Next::Wait => {}
            Next::Publish(topic, payload) => {
                let id = self.id();
                out.push(Action::Publish(Publish { id, topic, payload, retain: false }));
            }
            Next::Complete(credential) => self.keep(credential, now, out),
            Next::Failed(fault) => self.enrol_failed(fault, now, out),
        }
    }

    /// The broker has registered a credential: store it, then try it.
    pub(super) fn keep(&mut self, credential: Credential, now: Now, out: &mut Vec<Action>) {
        let slot = self.marker.spare();
        let since = now.wall.and_then(|wall| u32::try_from(wall).ok()).unwrap_or(0);
        let marker = Marker { trial: true, failures: 0, since, ..self.marker };
        let stored = self.slots.put(slot, &credential, &mut self.rng);
        match stored.and_then(|()| self.slots.set_marker(marker)) {
            Ok(()) => {
                self.credentials[slot as usize] = Some(credential);
                self.marker = marker;
                self.position = 0;
                self.refusals = 0;
                self.charged = false;
                self.backoff.reset();
                out.push(Action::Event(Event::CandidateStored(slot)));
                out.push(Action::Disconnect);
                self.queue.disconnected();
                self.phase = Phase::Waiting { until: now.mono };
            }
            Err(fault) => {
                // What the flash did not take does not count, and what was there before may be gone.
                self.credentials[slot as usize] = None;
                self.store_failed(fault, out);
                self.end_enrolment(MINUTE, now, out);
            }
        }
    }

    fn enrol_failed(&mut self, fault: Fault, now: Now, out: &mut Vec<Action>) {
        // A broker that has no time now has some soon; what else is wrong takes longer to change.
        let busy = matches!(&fault, Fault::Rejected(rejection) if matches!(rejection.status_code, 429 | 503));
        let by_claim = matches!(&self.phase, Phase::Online(session) if session.rung == Rung::Claim);
        match fault {
            Fault::Rejected(rejection) => {
                if !busy && self.resume_candidate(now, out) {
                    out.push(Action::Event(Event::Rejected(rejection)));
                    return;
                }
                if by_claim && !rejection.is_transient() {
                    // Perhaps it is the key that the broker does not want.
                    self.fresh_key = true;
                }
                out.push(Action::Event(Event::Rejected(rejection)));
            }
            Fault::NoAnswer => out.push(Action::Event(Event::NoAnswer)),
            Fault::NotGranted => out.push(Action::Event(Event::AnswersNotGranted)),
        }
        self.end_enrolment(if busy { 5 * SECOND } else { MINUTE }, now, out);
    }

    /// The broker gives the credential in use no successor, and the other slot has a newer one: a candidate that was given up.
    /// The broker may have accepted that one once, when the device did not hear of it, and then takes requests from it alone.
    /// It is tried anew.
    fn resume_candidate(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        let Phase::Online(session) = &self.phase else { return false };
        let Rung::Own(slot) = session.rung else { return false };
        let begins = |slot: Slot| self.held(slot).map(|credential| credential.leaf.not_before);
        let newer = begins(slot.other()).is_some_and(|other| begins(slot).is_some_and(|own| own < other));
        if !newer || self.marker.trial || self.marker.active != Some(slot) {
            return false;
        }
        let since = now.wall.and_then(|wall| u32::try_from(wall).ok()).unwrap_or(0);
        self.set_marker(Marker { active: Some(slot), trial: true, failures: 0, since }, out);
        self.postpone_rotation(MINUTE, now, out);
        out.push(Action::Disconnect);
        self.position = 0;
        self.charged = false;
        self.phase = Phase::Waiting { until: now.mono.saturating_add(self.rng.below(1_000)) };
        true
    }

    /// Ends an enrolment in vain. A rotation waits `at_least` so many milliseconds.
    fn end_enrolment(&mut self, at_least: u64, now: Now, out: &mut Vec<Action>) {
        let Phase::Online(session) = &mut self.phase else { return };
        session.enrolment = None;
        let rung = session.rung;
        match rung {
            Rung::Own(_) => self.postpone_rotation(at_least, now, out),
            Rung::Claim | Rung::Token => {
                out.push(Action::Disconnect);
                self.position = 0;
                let wait = self.enrol_backoff.window() / 2 + self.enrol_backoff.next(&mut self.rng);
                let until = now.mono.saturating_add(wait).saturating_add(self.rng.below(1_000));
                self.phase = Phase::Waiting { until };
            }
        }
    }
}

enum ClaimKey {
    Signer(SignerError),
    Store(StoreFault),
}
