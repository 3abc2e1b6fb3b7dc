//! Updates: asking for the parts, the trial after the start, and the way back.
//!
//! The note of the trial is written before the bootloader hears of the image, so no image boots without a trial. What is to
//! happen to it is noted before it is done, and what was noted is done again after a cut.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Device, SECOND, Updating};
use crate::command::CommandError;
use crate::io::{Action, Event, Now, Publish, RebootReason};
use crate::ota::{self, Outcome, Progress, Refused, SignedManifest, Update, Wanted};
use crate::platform::{Images as _, Platform};
use crate::store::StoreFault;
use crate::topic;
use crate::trial::{Stage, Trial};

const TRIAL: &str = "ota_trial";
const COUNTER: &str = "ota_counter";

/// After how long a part is asked for again, in milliseconds.
const ASK_AGAIN: u64 = 10 * SECOND;

impl<P: Platform> Device<P> {
    /// At the start: how the image that runs stands, and the anti-rollback counter.
    pub(super) fn judge_image(&mut self, now: Now, out: &mut Vec<Action>) {
        let noted = match self.store_usable {
            true => {
                self.slots.store().read([], [COUNTER, TRIAL]).map(|([], noted)| noted).unwrap_or_default()
            }
            false => [None; 2],
        };
        let [counter, trial] = noted.map(Option::unwrap_or_default);
        let running = &mut self.settings.running;
        running.counter = running.counter.max(u32::try_from(counter).unwrap_or(u32::MAX));
        self.trial = Trial::unpack(trial);
        match self.trial {
            // The note is lost; the bootloader's is not.
            None if self.images.on_trial() => {
                self.trial_deadline = Some(now.mono.saturating_add(ota::TRIAL_MS));
            }
            None => {}
            Some(trial) if trial.place == self.images.running() => self.judge_trial(trial, now, out),
            Some(_) => self.came_back(out),
        }
    }

    /// What was tried does not run: what runs boots from now on. The trial is forgotten when the broker has heard of it.
    fn came_back(&mut self, out: &mut Vec<Action>) {
        if self.images.keep().is_ok() {
            out.push(Action::Event(Event::Update(Outcome::Reverted)));
        }
    }

    /// The image of `trial` runs.
    fn judge_trial(&mut self, trial: Trial, now: Now, out: &mut Vec<Action>) {
        self.trial_deadline = Some(now.mono.saturating_add(ota::TRIAL_MS));
        if trial.stage == Stage::Proven {
            return self.confirm_image(out);
        }
        let boots = trial.boots.saturating_add(1);
        // An image whose starts cannot be counted could be started for ever.
        let counted = self.set_trial(Some(Trial { boots, ..trial }), out).is_ok();
        if boots > ota::TRIAL_BOOTS_MAX + ota::REVERTS_MAX {
            out.push(Action::Event(Event::Update(Outcome::Stuck)));
            self.notes.push_back((Outcome::Stuck, None));
            self.trial_deadline = None;
        } else if !counted || boots > ota::TRIAL_BOOTS_MAX || trial.stage == Stage::Reverting {
            self.revert_image(now, out);
        }
    }

    fn set_trial(&mut self, trial: Option<Trial>, out: &mut Vec<Action>) -> Result<(), StoreFault> {
        self.note(TRIAL, trial.map_or(0, Trial::pack), out)?;
        self.trial = trial;
        Ok(())
    }

    fn note(&mut self, key: &str, value: u64, out: &mut Vec<Action>) -> Result<(), StoreFault> {
        if !self.store_usable {
            return Err(StoreFault::Worn);
        }
        self.slots.store().set_number(key, value).inspect_err(|fault| self.store_failed(*fault, out))
    }

    pub(super) fn tick_image(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.trial_deadline.is_none_or(|deadline| now.mono < deadline) {
            return;
        }
        self.trial_deadline = Some(now.mono.saturating_add(ota::TRIAL_MS));
        match self.trial {
            Some(Trial { stage: Stage::Proven, .. }) => self.confirm_image(out),
            _ => self.revert_image(now, out),
        }
    }

    /// Gives the image that runs up. When the flash does not let it, it is tried again later.
    fn revert_image(&mut self, now: Now, out: &mut Vec<Action>) {
        self.trial_deadline = Some(now.mono.saturating_add(ota::TRIAL_MS));
        if let Some(trial) = self.trial {
            // The bootloader's note counts also when this one cannot be written.
            let _ = self.set_trial(Some(Trial { stage: Stage::Reverting, ..trial }), out);
        }
        if self.images.revert().is_ok() {
            out.push(Action::Event(Event::Update(Outcome::Reverted)));
            out.push(Action::Reboot(RebootReason::Reverted));
        }
    }

    /// The broker has accepted the device: the image works. What cannot be noted now is noted later; until then it is on trial.
    pub(super) fn confirm_image(&mut self, out: &mut Vec<Action>) {
        if self.trial_deadline.is_none() && !self.is_stuck() || self.prove_image(out).is_none() {
            return;
        }
        self.trial_deadline = None;
        out.push(Action::Event(Event::Update(Outcome::Confirmed)));
        if self.trial.is_none() {
            self.notes.push_back((Outcome::Confirmed, None));
        }
    }

    /// Whether the image that runs was given up, and nothing else starts.
    fn is_stuck(&self) -> bool {
        self.trial.is_some_and(|trial| trial.place == self.images.running() && trial.stage != Stage::Proven)
    }

    fn prove_image(&mut self, out: &mut Vec<Action>) -> Option<()> {
        let Some(trial) = self.trial else { return self.images.keep().ok() };
        if trial.stage != Stage::Proven {
            self.set_trial(Some(Trial { stage: Stage::Proven, ..trial }), out).ok()?;
        }
        self.images.keep().ok()?;
        let running = &mut self.settings.running;
        running.counter = running.counter.max(trial.counter);
        let counter = running.counter;
        self.note(COUNTER, counter.into(), out).ok()
    }

    /// How the last update ended, while the broker has not heard of it.
    pub(super) fn trial_outcome(&self) -> Option<Outcome> {
        let trial = self.trial?;
        if trial.place != self.images.running() {
            // The restart into it is still to come, or it came to nothing.
            return self.reboot.is_none().then_some(Outcome::Reverted);
        }
        (trial.stage == Stage::Proven && self.trial_deadline.is_none()).then_some(Outcome::Confirmed)
    }

    /// The broker has taken what [`Self::trial_outcome`] said.
    pub(super) fn trial_reported(&mut self, out: &mut Vec<Action>) {
        // When the flash does not let it be forgotten, it is said again at the next connection.
        let _ = self.set_trial(None, out);
    }

    pub(super) fn begin_update(
        &mut self,
        signed: &SignedManifest,
        command_id: Option<String>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let id = command_id.clone();
        let on_trial = self.trial.is_some() || self.trial_deadline.is_some();
        if self.update.is_some() || on_trial || self.reboot.is_some() {
            return self.result("ota", id.as_deref(), Err(CommandError::Busy), out);
        }
        // Without a store there would be no trial.
        let usable = if self.store_usable { Ok(()) } else { Err(Refused::Flash) };
        let begun = signed
            .verify(&self.settings.running)
            .and_then(|manifest| usable.map(|()| manifest))
            .and_then(|manifest| Update::begin(manifest, &mut self.images));
        match begun {
            Ok(update) => {
                let ask_again = Self::first_ask(&update, now);
                self.update = Some(Updating { update, ask_again, fetches: 0, command_id });
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
            updating.ask_again = updating.ask_again.max(Self::first_ask(&updating.update, now));
        }
    }

    /// When an update is asked for. What is to be said on this connection is said before it is given up for another one.
    fn first_ask(update: &Update, now: Now) -> u64 {
        if update.url().is_some() { now.mono.saturating_add(SECOND) } else { now.mono }
    }

    pub(super) fn ask_for_image(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(thing) = self.name() else { return };
        let Some(updating) = &mut self.update else { return };
        if now.mono < updating.ask_again {
            return;
        }
        if let Some(url) = updating.update.url() {
            return self.fetch(&url, now, out);
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
            Ok(Progress::Complete) => self.install(now, out),
            Err(refused) => self.end_update(Outcome::Refused(refused), out),
        }
    }

    /// The image is whole: it boots next.
    pub(super) fn install(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(counter) = self.update.as_ref().map(|updating| updating.update.manifest().counter) else {
            return;
        };
        match self.select_image(counter, out) {
            Ok(()) => {
                self.end_update(Outcome::Installed, out);
                self.reboot_after_result(RebootReason::NewImage, now);
            }
            Err(refused) => self.end_update(Outcome::Refused(refused), out),
        }
    }

    /// Lets the image that was written boot next: on trial, whatever is cut.
    fn select_image(&mut self, counter: u32, out: &mut Vec<Action>) -> Result<(), Refused> {
        let trial = Trial::of(self.images.running().other(), counter);
        self.set_trial(Some(trial), out).map_err(|_| Refused::Flash)?;
        if self.images.boot_next().is_ok() {
            return Ok(());
        }
        // While it cannot be told what boots next, the trial stays noted, and the next start finds out.
        if self.images.keep().is_ok() {
            let _ = self.set_trial(None, out);
        }
        Err(Refused::Flash)
    }

    /// An update is over. What cannot be said now is said at the next connection; that it is installed, the new image says.
    pub(super) fn end_update(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        let id = self.update.take().and_then(|updating| updating.command_id);
        out.push(Action::Event(Event::Update(outcome)));
        if self.name().is_some() {
            self.report_outcome(outcome, id.as_deref(), out);
        } else if outcome != Outcome::Installed {
            self.notes.push_back((outcome, id));
        }
    }
}

impl From<Refused> for CommandError {
    fn from(refused: Refused) -> Self {
        Self::Image(refused)
    }
}
