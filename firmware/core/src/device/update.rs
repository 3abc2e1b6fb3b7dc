//! Updates: asking for the parts, the trial after the start, and the way back.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Device, Phase, SECOND, Updating};
use crate::command::CommandError;
use crate::io::{Action, Event, Now, Publish, RebootReason};
use crate::ota::{self, Outcome, Progress, Refused, SignedManifest, Update, Wanted};
use crate::platform::{Images as _, Platform};
use crate::topic;

const BOOTS: &str = "ota_boots";
const COUNTER: &str = "ota_counter";
const REVERTED: &str = "ota_reverted";

/// After how long a part is asked for again, in milliseconds.
const ASK_AGAIN: u64 = 10 * SECOND;

impl<P: Platform> Device<P> {
    /// At the start: how the image that runs stands, and the anti-rollback counter.
    pub(super) fn judge_image(&mut self, now: Now, out: &mut Vec<Action>) {
        let names = [COUNTER, REVERTED, BOOTS];
        let noted = self.slots.store().read([], names).map(|([], noted)| noted).unwrap_or_default();
        let [counter, reverted, boots] = noted.map(Option::unwrap_or_default);
        let running = &mut self.settings.running;
        running.counter = running.counter.max(u32::try_from(counter).unwrap_or(u32::MAX));
        if reverted != 0 {
            self.notes.push_back(Outcome::Reverted);
            self.note(REVERTED, 0, out);
        }
        if !self.images.on_trial() {
            return;
        }
        let boots = boots.saturating_add(1);
        self.note(BOOTS, boots, out);
        self.trial_deadline = Some(now.mono.saturating_add(ota::TRIAL_MS));
        if boots > ota::TRIAL_BOOTS_MAX {
            self.revert_image(out);
        }
    }

    fn note(&mut self, key: &str, value: u64, out: &mut Vec<Action>) {
        if self.store_usable
            && let Err(fault) = self.slots.store().set_number(key, value)
        {
            self.store_failed(fault, out);
        }
    }

    pub(super) fn tick_image(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.trial_deadline.is_some_and(|deadline| now.mono >= deadline) {
            self.revert_image(out);
        }
    }

    fn revert_image(&mut self, out: &mut Vec<Action>) {
        self.trial_deadline = None;
        self.note(BOOTS, 0, out);
        self.note(REVERTED, 1, out);
        if self.images.revert().is_ok() {
            out.push(Action::Event(Event::Update(Outcome::Reverted)));
            out.push(Action::Reboot(RebootReason::Reverted));
        }
    }

    /// The broker has accepted the device: the image works.
    pub(super) fn confirm_image(&mut self, out: &mut Vec<Action>) {
        if self.trial_deadline.take().is_none() {
            return;
        }
        if self.images.confirm().is_ok() {
            self.note(COUNTER, self.settings.running.counter.into(), out);
            self.note(BOOTS, 0, out);
            out.push(Action::Event(Event::Update(Outcome::Confirmed)));
            self.notes.push_back(Outcome::Confirmed);
        }
    }

    pub(super) fn begin_update(
        &mut self,
        signed: &SignedManifest,
        command_id: Option<String>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let id = command_id.clone();
        if self.update.is_some() || self.trial_deadline.is_some() || self.reboot.is_some() {
            return self.result("ota", id.as_deref(), Err(CommandError::Busy), out);
        }
        let begun = signed
            .verify(&self.settings.running)
            .and_then(|manifest| Update::begin(manifest, &mut self.images));
        match begun {
            Ok(update) => {
                self.update = Some(Updating { update, ask_again: now.mono, command_id });
                self.result("ota", id.as_deref(), Ok(None), out);
            }
            Err(refused) => {
                out.push(Action::Event(Event::Update(Outcome::Refused(refused))));
                self.result("ota", id.as_deref(), Err(CommandError::Image(refused)), out);
            }
        }
    }

    /// Connected again: go on where it stopped.
    pub(super) fn resume_update(&mut self, now: Now) {
        if let Some(updating) = &mut self.update {
            updating.ask_again = now.mono;
        }
    }

    pub(super) fn ask_for_image(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(thing) = self.name() else { return };
        let Some(updating) = &mut self.update else { return };
        if now.mono < updating.ask_again {
            return;
        }
        updating.ask_again = now.mono.saturating_add(ASK_AGAIN);
        let wanted = Wanted {
            version: &updating.update.manifest().version,
            offset: updating.update.wanted(),
            bytes_max: ota::PART_BYTES_MAX,
        };
        let payload = serde_json::to_vec(&wanted).unwrap_or_default();
        let id = self.id();
        out.push(Action::Publish(Publish { id, topic: topic::image_wanted(&thing), payload, retain: false }));
    }

    pub(super) fn image_part(&mut self, offset: u32, part: &[u8], now: Now, out: &mut Vec<Action>) {
        let Some(updating) = &mut self.update else { return };
        match updating.update.part(offset, part, &mut self.images) {
            Ok(Progress::Ignored) => {}
            Ok(Progress::Want(_)) => {
                updating.ask_again = now.mono;
                self.ask_for_image(now, out);
            }
            Ok(Progress::Complete) => {
                self.end_update(Outcome::Installed, out);
                self.reboot_after_result(RebootReason::NewImage, now);
            }
            Err(refused) => self.end_update(Outcome::Refused(refused), out),
        }
    }

    fn end_update(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        let id = self.update.take().and_then(|updating| updating.command_id);
        out.push(Action::Event(Event::Update(outcome)));
        debug_assert!(matches!(self.phase, Phase::Online(_)) || !matches!(outcome, Outcome::Installed));
        self.report_outcome(outcome, id.as_deref(), out);
    }
}

impl From<Refused> for CommandError {
    fn from(refused: Refused) -> Self {
        Self::Image(refused)
    }
}
