//! What an enrolled device does while it is connected: status, telemetry, commands.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::{Device, PendingReboot, Phase, SECOND};
use crate::command::{self, Command, CommandError, CommandResult, Report};
use crate::enrol::Next;
use crate::io::{Action, AnswerFault, Event, Message, Now, Publish, RebootReason, Rung};
use crate::platform::Platform;
use crate::schedule::renewal;
use crate::telemetry::Reading;
use crate::topic::{self, ToDevice};

/// How many readings are under way at a time.
const WINDOW: usize = 4;

impl<P: Platform> Device<P> {
    /// Says hello, and listens.
    pub(super) fn begin_session(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(thing) = self.name() else { return };
        let id = self.id();
        if let Phase::Online(session) = &mut self.phase {
            session.subscribing = Some(id);
        }
        out.push(Action::Subscribe { id, filters: Self::filters(&thing) });
        let id = self.id();
        let online = Publish { id, topic: topic::status(&thing), payload: b"online".to_vec(), retain: true };
        out.push(Action::Publish(online));
        self.resume_update(now);
        while let Some((outcome, id)) = self.notes.pop_front() {
            self.report_outcome(outcome, id.as_deref(), out);
        }
        if let Some(outcome) = self.trial_outcome() {
            self.report_outcome(outcome, None, out);
            self.trial_report = Some(self.last_id);
        }
        self.flush(out);
    }

    /// The name of the device on the connection that it has.
    pub(super) fn name(&self) -> Option<String> {
        let Phase::Online(session) = &self.phase else { return None };
        let Rung::Own(slot) = session.rung else { return None };
        self.held(slot).map(|credential| credential.thing.clone())
    }

    pub(super) fn tick_online(&mut self, now: Now, out: &mut Vec<Action>) {
        let next = match &mut self.phase {
            Phase::Online(session) => session.enrolment.as_mut().map(|enrolment| enrolment.tick(now.mono)),
            _ => None,
        };
        if let Some(next) = next {
            self.enrol_next(next, now, out);
        }
        self.ask_for_image(now, out);
        self.maybe_rotate(now, out);
    }

    pub(super) fn subscribed(&mut self, id: u32, granted: &[bool], now: Now, out: &mut Vec<Action>) {
        let Phase::Online(session) = &mut self.phase else { return };
        if session.subscribing == Some(id) {
            session.subscribing = None;
            // The filter of the broker's request to rotate may be missing in a policy; then the calendar decides alone.
            if granted.first() != Some(&true) {
                out.push(Action::Event(Event::CommandsNotGranted));
            }
            return;
        }
        let next = session.enrolment.as_mut().map_or(Next::Wait, |e| e.subscribed(id, granted, now.mono));
        self.enrol_next(next, now, out);
    }

    pub(super) fn acknowledged(&mut self, id: u32, accepted: bool, now: Now, out: &mut Vec<Action>) {
        let _ = now;
        if !accepted {
            out.push(Action::Event(Event::PublishRefused));
        }
        if self.trial_report.take_if(|report| *report == id).is_some() && accepted {
            self.trial_reported(out);
        }
        if self.queue.settled(id) {
            self.flush(out);
        }
        if let Some(reboot) = self.reboot.take_if(|reboot| reboot.id == id) {
            out.push(Action::Reboot(reboot.reason));
        }
    }

    pub(super) fn sampled(&mut self, reading: Option<Reading>, now: Now, out: &mut Vec<Action>) {
        let Some(reading) = reading else {
            out.push(Action::Event(Event::SensorFault));
            return;
        };
        self.queue.push(reading, now, self.name().is_some());
        match self.queue.take_dropped() {
            0 => {}
            dropped => out.push(Action::Event(Event::ReadingsDropped(dropped))),
        }
        self.flush(out);
    }

    /// Sends readings that wait.
    fn flush(&mut self, out: &mut Vec<Action>) {
        let Some(thing) = self.name() else { return };
        loop {
            let id = self.last_id.wrapping_add(1);
            let Some(payload) = self.queue.send(&thing, id, WINDOW) else { return };
            self.last_id = id;
            let topic = topic::telemetry(&thing);
            out.push(Action::Publish(Publish { id, topic, payload, retain: false }));
        }
    }

    /// A message came.
    pub(super) fn message(&mut self, message: Message<'_>, now: Now, out: &mut Vec<Action>) {
        if let Some(answer) = self.as_answer(message.topic) {
            return self.enrol_answer(answer, message, now, out);
        }
        if message.topic.starts_with("$aws/") {
            out.push(Action::Event(Event::AnswerRefused(AnswerFault::NotAwaited)));
            return;
        }
        let Some(thing) = self.name() else { return };
        // A retained command is one of long ago, or a way to make a device do something at every start.
        if message.retained {
            return;
        }
        match ToDevice::of(message.topic, &thing) {
            None => {}
            Some(ToDevice::Rotate) => self.rotation_asked(now),
            Some(ToDevice::ImagePart(offset)) => self.image_part(offset, message.payload, now, out),
            Some(ToDevice::Command(name)) => self.command(name, message.payload, now, out),
        }
    }

    /// Somebody wants a rotation now.
    fn rotation_asked(&mut self, now: Now) {
        self.rotation.commanded = true;
        self.rotation.retry_at = now.mono;
    }

    fn command(&mut self, name: &str, payload: &[u8], now: Now, out: &mut Vec<Action>) {
        let received = command::read(name, payload);
        let id = received.id.as_deref();
        match received.command {
            Err(error) => self.result(name, id, Err(error), out),
            Ok(Command::Interval(secs)) => {
                self.interval_secs = secs;
                self.next_sample = now.mono.saturating_add(u64::from(secs) * SECOND);
                self.result(name, id, Ok(None), out);
            }
            Ok(Command::Identify(secs)) => {
                out.push(Action::Identify(secs));
                self.result(name, id, Ok(None), out);
            }
            Ok(Command::Rotate) if self.is_rotating() => {
                self.result(name, id, Err(CommandError::Busy), out);
            }
            Ok(Command::Rotate) => {
                self.rotation_asked(now);
                self.result(name, id, Ok(None), out);
            }
            Ok(Command::Report) => self.report(name, id, now, out),
            Ok(Command::Reboot) => {
                self.result(name, id, Ok(None), out);
                self.reboot_after_result(RebootReason::Commanded, now);
            }
            Ok(Command::Update(signed)) => self.begin_update(&signed, received.id, now, out),
        }
    }

    /// Starts again when the result that was published last is the broker's, or two seconds later.
    pub(super) fn reboot_after_result(&mut self, reason: RebootReason, now: Now) {
        self.reboot =
            Some(PendingReboot { id: self.last_id, deadline: now.mono.saturating_add(2 * SECOND), reason });
    }

    fn report(&mut self, name: &str, id: Option<&str>, now: Now, out: &mut Vec<Action>) {
        let Phase::Online(session) = &self.phase else { return };
        let Rung::Own(slot) = session.rung else { return };
        let Some(credential) = self.held(slot) else { return };
        let (firmware, chip) = (self.settings.running.version.clone(), self.settings.running.chip.clone());
        let certificate = credential.leaf.id().to_string();
        let report = Report {
            firmware: &firmware,
            chip: &chip,
            uptime: now.mono / SECOND,
            certificate: &certificate,
            not_after: credential.leaf.not_after,
            renewal: renewal(&credential.leaf),
            slot: slot.as_str(),
            interval: self.interval_secs,
            queued: self.queue.len(),
        };
        self.result(name, id, Ok(Some(report)), out);
    }

    /// Publishes the result of a command.
    pub(super) fn result(
        &mut self,
        command: &str,
        id: Option<&str>,
        result: Result<Option<Report<'_>>, CommandError>,
        out: &mut Vec<Action>,
    ) {
        let Some(thing) = self.name() else { return };
        let (ok, error, report) = match result {
            Ok(report) => (true, None, report),
            Err(error) => (false, Some(error.as_str()), None),
        };
        // Only the beginning of a name that nobody could have meant.
        let command: String = command.chars().take(64).collect();
        let result = CommandResult { device: &thing, command: &command, id, ok, error, report };
        let payload = result.payload();
        let id = self.id();
        out.push(Action::Publish(Publish { id, topic: topic::results(&thing), payload, retain: false }));
    }

    /// Publishes how an update went.
    pub(super) fn report_outcome(
        &mut self,
        outcome: crate::ota::Outcome,
        id: Option<&str>,
        out: &mut Vec<Action>,
    ) {
        use crate::ota::Outcome;
        let Some(thing) = self.name() else { return };
        let (ok, what) = match outcome {
            Outcome::Installed => (true, "installed, starting it".into()),
            Outcome::Confirmed => (true, format!("confirmed {}", self.settings.running.version)),
            Outcome::Reverted => {
                (false, "the new image did not reach the broker; the old one is back".into())
            }
            Outcome::Stuck => {
                (false, "the new image did not reach the broker, and the old one does not start".into())
            }
            Outcome::Refused(refused) => (false, refused.as_str().to_string()),
        };
        let payload = UpdateResult { device: &thing, command: "ota", id, ok, state: &what };
        let payload = serde_json::to_vec(&payload).unwrap_or_default();
        let id = self.id();
        out.push(Action::Publish(Publish { id, topic: topic::results(&thing), payload, retain: false }));
    }
}

#[derive(serde::Serialize)]
struct UpdateResult<'a> {
    device: &'a str,
    command: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    ok: bool,
    state: &'a str,
}
