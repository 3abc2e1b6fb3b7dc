//! First boot by a one-time token.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Asking, Device, MINUTE, Phase};
use crate::enrol::token::{Redeemed, Redemption};
use crate::https::Answer;
use crate::io::{Action, Event, Now, Rung};
use crate::platform::{Platform, Signer as _, SignerError};

/// How much longer than the server's silence a question may take, in milliseconds: who drives the device ends it first.
const GRACE: u64 = 5_000;

impl<P: Platform> Device<P> {
    /// Asks for a certificate with the token of the factory data.
    pub(super) fn redeem(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(secret) = self.key_for_enrolment(now, out) else { return };
        let begun = (|| {
            let factory = self.factory.as_ref().ok_or(SignerError::Name)?;
            let token = factory.token.as_ref().ok_or(SignerError::Name)?;
            let public_key = self.signer.public_key(&secret)?;
            let request = self.signer.request(&secret, &factory.serial)?;
            Ok(Redemption::begin(token, &factory.serial, secret.clone(), public_key, &request))
        })();
        match begun {
            Ok((redemption, ask)) => {
                let deadline = now.mono.saturating_add(u64::from(ask.timeout_ms) + GRACE);
                self.phase = Phase::Asking { what: Asking::Token(Box::new(redemption)), deadline };
                out.push(Action::Ask(ask));
            }
            Err(fault) => self.cannot_begin(Event::KeyFault(fault), now, out),
        }
    }

    /// A part of the answer to the token came.
    pub(super) fn redeemed(&mut self, answer: Answer<'_>, now: Now, out: &mut Vec<Action>) {
        let Phase::Asking { what: Asking::Token(redemption), deadline } = &mut self.phase else { return };
        *deadline = now.mono.saturating_add(u64::from(crate::https::SILENCE_MS) + GRACE);
        match redemption.answered(answer, now.wall) {
            Ok(Redeemed::Wait) => {}
            Ok(Redeemed::Complete(credential)) => {
                self.phase = Phase::Waiting { until: now.mono };
                self.keep(credential, now, out);
            }
            Ok(Redeemed::Rejected(rejection)) => {
                // A conflict goes away when an operator retires a certificate; the token is as good as it was.
                let transient = rejection.is_transient();
                out.push(Action::Event(Event::Rejected(rejection)));
                self.not_redeemed(!transient, now);
            }
            Err(fault) => {
                out.push(Action::Event(Event::AnswerRefused(fault)));
                out.push(Action::Disconnect);
                self.not_redeemed(true, now);
            }
        }
    }

    /// The token brought nothing.
    fn not_redeemed(&mut self, refused: bool, now: Now) {
        if refused {
            self.refused(Rung::Token);
        }
        let wait = self.enrol_backoff.next(&mut self.rng);
        self.wait(now, wait.max(MINUTE / 6));
    }
}
