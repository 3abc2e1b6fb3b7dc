//! Which credential is tried, and what its success or failure means for the slots.

use alloc::vec::Vec;

use super::{Asking, Device, MINUTE, Phase, Session};
use crate::factory::Claim;
use crate::io::{Action, Event, Failure, Now, ProvisioningError, Rung};
use crate::platform::Platform;
use crate::slots::{FAILURES_MAX, Marker, Slot};
use crate::topic;

/// After how many refusals in a row the next credential is tried.
const REFUSALS_MAX: u8 = 3;

impl<P: Platform> Device<P> {
    /// The claim: that of the working region before that of the factory.
    pub(super) fn claim(&self) -> Option<&Claim> {
        let working = self.working_claim.as_ref().filter(|_| !self.skip_working_claim);
        working.or(self.factory_claim())
    }

    fn factory_claim(&self) -> Option<&Claim> {
        self.factory.as_ref()?.claim.as_ref()
    }

    /// The credentials in the order in which they are tried: the candidate, what is in use, what was, the claim.
    fn order(&self) -> Vec<Rung> {
        let first = self.marker.candidate().or(self.marker.active);
        let slots = first.into_iter().chain(first.map(Slot::other)).filter(|slot| self.held(*slot).is_some());
        let mut order: Vec<Rung> = slots.map(Rung::Own).collect();
        if self.claim().is_some() {
            order.push(Rung::Claim);
        }
        if self.factory.as_ref().is_some_and(|factory| factory.token.is_some()) {
            order.push(Rung::Token);
        }
        order
    }

    fn is_candidate(&self, rung: Rung) -> bool {
        self.marker.candidate().map(Rung::Own) == Some(rung)
    }

    /// The credential for the next connection. Without one, the next moment to look for one is set.
    pub(super) fn choose(&mut self, now: Now, out: &mut Vec<Action>) -> Option<Rung> {
        if self.factory.is_none() && self.credential().is_none() {
            self.provisioning_error(ProvisioningError::NoFactoryData, now, out);
            return None;
        }
        self.give_up_candidate(now, out);
        let order = self.order();
        let Some(rung) = order.get(self.position).copied() else {
            let error = match order.last() {
                Some(Rung::Claim) => ProvisioningError::ClaimRefused,
                Some(Rung::Token) => ProvisioningError::TokenRefused,
                // What would have been tried may be in there.
                _ if self.store_state.is_unreadable() => ProvisioningError::StoreForeign,
                _ => ProvisioningError::NoClaim,
            };
            self.provisioning_error(error, now, out);
            return None;
        };
        if matches!(rung, Rung::Claim | Rung::Token) && !self.store_usable {
            let error = match self.store_state.is_unreadable() {
                true => ProvisioningError::StoreForeign,
                false => ProvisioningError::StoreUnusable,
            };
            self.provisioning_error(error, now, out);
            return None;
        }
        if self.is_candidate(rung) && !self.charged {
            // Counted before the try: a candidate that makes the device crash is given up too.
            self.charged = true;
            let failures = self.marker.failures.saturating_add(1);
            self.set_marker(Marker { failures, ..self.marker }, out);
        }
        Some(rung)
    }

    /// Writes the marker. What is in memory counts even when the flash failed: the connection is worth more.
    pub(super) fn set_marker(&mut self, marker: Marker, out: &mut Vec<Action>) {
        if marker == self.marker {
            return;
        }
        self.marker = marker;
        if self.store_usable
            && let Err(fault) = self.slots.set_marker(marker)
        {
            self.store_failed(fault, out);
        }
    }

    /// Falls back from a candidate that failed too often or too long.
    fn give_up_candidate(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(candidate) = self.marker.candidate() else { return };
        let failed = self.marker.failures >= FAILURES_MAX && !self.charged;
        let since = u64::from(self.marker.since);
        let too_long = now.wall.is_some_and(|wall| {
            since != 0 && wall.saturating_sub(since) > u64::from(self.settings.watchdog_secs)
        });
        // Without anything to fall back to, the only credential stays the first choice.
        if self.marker.active.is_none() || !(failed || too_long) {
            return;
        }
        out.push(Action::Event(Event::FellBack(candidate)));
        self.set_marker(Marker { trial: false, failures: 0, since: 0, ..self.marker }, out);
        self.postpone_rotation(MINUTE, now, out);
        self.position = 0;
        self.refusals = 0;
    }

    /// The old credential's time is over.
    pub(super) fn tick_credentials(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(active) = self.marker.active else { return };
        let over = self.wall(now).is_some_and(|wall| wall >= u64::from(self.marker.since));
        if self.marker.trial || self.marker.since == 0 || !over || !self.store_usable {
            return;
        }
        let old = active.other();
        match self.slots.erase(old) {
            Ok(()) => {
                self.credentials[old as usize] = None;
                self.set_marker(Marker { since: 0, ..self.marker }, out);
                out.push(Action::Event(Event::OldErased(old)));
            }
            Err(fault) => self.store_failed(fault, out),
        }
    }

    /// CONNACK came.
    pub(super) fn connected(&mut self, now: Now, out: &mut Vec<Action>) {
        let Phase::Connecting { rung, .. } = self.phase else { return };
        out.push(Action::Event(Event::Online(rung)));
        self.charged = false;
        self.refusals = 0;
        self.phase = Phase::Online(Session { rung, since: now.mono, subscribing: None, enrolment: None });
        match rung {
            // It is no connection of MQTT.
            Rung::Token => {}
            Rung::Claim => self.begin_claim(now, out),
            Rung::Own(slot) => {
                self.position = 0;
                self.accept(slot, now, out);
                self.confirm_image(out);
                self.begin_session(now, out);
            }
        }
    }

    /// The broker has accepted the credential in `slot`: it is the one in use.
    fn accept(&mut self, slot: Slot, now: Now, out: &mut Vec<Action>) {
        let was = self.marker;
        if was.candidate() == Some(slot) || was.active != Some(slot) {
            let grace = now.wall.map(|wall| wall.saturating_add(u64::from(self.settings.grace_secs)));
            let old = self.held(slot.other()).is_some();
            let since = grace.filter(|_| old).and_then(|grace| u32::try_from(grace).ok()).unwrap_or(0);
            self.set_marker(Marker { active: Some(slot), trial: false, failures: 0, since }, out);
            let thing = self.held(slot).map(|credential| credential.thing.clone());
            out.push(Action::Event(match was.active {
                None => Event::Enrolled { thing: thing.unwrap_or_default() },
                Some(_) => Event::Rotated(slot),
            }));
            self.rotation.backoff.reset();
            self.rotation.retry_at = now.mono;
        } else if was.failures != 0 {
            self.set_marker(Marker { failures: 0, ..was }, out);
        }
        self.enrol_backoff.reset();
        self.fresh_key = false;
        self.forget_enrolment(out);
    }

    /// What only the enrolment needed is erased.
    fn forget_enrolment(&mut self, out: &mut Vec<Action>) {
        if !self.store_usable {
            return;
        }
        let mut result = Ok(());
        if self.pending.take().is_some() {
            result = self.slots.erase_pending();
        }
        if self.working_claim.take().is_some() {
            result = result.and_then(|()| self.slots.erase_claim());
        }
        if let Err(fault) = result {
            self.store_failed(fault, out);
        }
    }

    /// The credential of `rung` was refused.
    pub(super) fn refused(&mut self, rung: Rung) {
        if self.is_candidate(rung) && self.marker.active.is_some() {
            // Its tries are counted in the marker.
            return;
        }
        self.refusals += 1;
        if self.refusals >= REFUSALS_MAX {
            self.refusals = 0;
            let another = self.working_claim.is_some() && self.factory_claim().is_some();
            if rung == Rung::Claim && another && !self.skip_working_claim {
                self.skip_working_claim = true;
            } else {
                self.position += 1;
            }
        }
    }

    /// The connection could not be made, or ended.
    pub(super) fn ended(&mut self, failure: Failure, now: Now, out: &mut Vec<Action>) {
        self.queue.disconnected();
        let connected = match core::mem::replace(&mut self.phase, Phase::Waiting { until: now.mono }) {
            Phase::Waiting { until } => {
                // Nothing was under way: a late report of a connection that is over.
                self.phase = Phase::Waiting { until };
                return;
            }
            Phase::Connecting { rung, .. } => {
                match failure {
                    Failure::Refused(refusal) => {
                        out.push(Action::Event(Event::Refused(rung, refusal)));
                        self.refused(rung);
                        self.charged = false;
                    }
                    Failure::ServerUntrusted => {
                        out.push(Action::Event(Event::ServerUntrusted));
                        // A wrong clock is the usual cause.
                        out.push(Action::SetClock);
                    }
                    // Whether it was the credential cannot be told: the next try counts.
                    Failure::Lost => self.charged = false,
                    Failure::Unreachable | Failure::Busy => {}
                }
                None
            }
            Phase::Asking { what, .. } => {
                if matches!(what, Asking::Image(_)) {
                    self.fetch_failed(now, out);
                }
                if failure == Failure::ServerUntrusted {
                    out.push(Action::Event(Event::ServerUntrusted));
                    out.push(Action::SetClock);
                }
                None
            }
            Phase::Online(session) => Some(session),
        };
        out.push(Action::Event(Event::Offline(failure)));
        let mut at_least = if failure == Failure::ServerUntrusted { MINUTE / 2 } else { 0 };
        if let Some(session) = connected {
            if now.mono.saturating_sub(session.since) >= MINUTE {
                self.backoff.reset();
            }
            if session.enrolment.is_some() {
                at_least = at_least.max(self.enrolment_lost(session.rung, now, out));
            }
            if let (Rung::Own(_), Failure::Refused(refusal)) = (session.rung, failure) {
                // TLS 1.3: the refusal may come after what looked like success.
                out.push(Action::Event(Event::Refused(session.rung, refusal)));
                self.refused(session.rung);
            }
        }
        self.wait(now, at_least);
    }

    /// The filters that an enrolled device listens to.
    pub(super) fn filters(thing: &str) -> Vec<alloc::string::String> {
        alloc::vec![topic::commands(thing), topic::rotate(thing)]
    }
}
