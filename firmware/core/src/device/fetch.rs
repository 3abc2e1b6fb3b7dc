//! An image from an address of HTTPS. The connection to the broker is given up for it: there is memory for one TLS at a time.

use alloc::vec::Vec;

use super::{Asking, Device, MINUTE, Phase, SECOND};
use crate::https::{Answer, SILENCE_MS, Url};
use crate::io::{Action, Now};
use crate::ota::{Outcome, PART_BYTES_MAX, Progress, Refused};
use crate::platform::{Platform, Rng as _};

/// How much longer than the server's silence a question may take, in milliseconds: who drives the device ends it first.
const GRACE: u64 = 5_000;
/// How often in a row an address is asked in vain.
const FETCHES_MAX: u8 = 8;
/// The first pause between two of these, in milliseconds; each is twice as long as the one before, up to the last.
const PAUSE: u64 = 5 * SECOND;
const PAUSE_MAX: u64 = 10 * MINUTE;

/// An image that comes.
#[derive(Debug)]
pub(super) struct Fetch {
    /// Bytes of the answer that the device has already: the server did not begin where it was asked to.
    skip: u32,
    /// What is not a part yet.
    block: Vec<u8>,
}

impl<P: Platform> Device<P> {
    /// Asks for what is missing of the image.
    pub(super) fn fetch(&mut self, url: &Url, now: Now, out: &mut Vec<Action>) {
        let Phase::Online(session) = &self.phase else { return };
        let Some(updating) = &mut self.update else { return };
        // A rotation that is under way is finished first.
        if session.enrolment.is_some() || session.subscribing.is_some() {
            updating.ask_again = now.mono.saturating_add(SECOND);
            return;
        }
        let ask = url.get(updating.update.wanted());
        self.queue.disconnected();
        let fetch = Fetch { skip: 0, block: Vec::with_capacity(PART_BYTES_MAX as usize) };
        self.phase = Phase::Asking { what: Asking::Image(fetch), deadline: Self::silence(now) };
        out.push(Action::Ask(ask));
    }

    const fn silence(now: Now) -> u64 {
        now.mono.saturating_add(SILENCE_MS as u64 + GRACE)
    }

    /// A part of the answer came.
    pub(super) fn fetched(&mut self, answer: Answer<'_>, now: Now, out: &mut Vec<Action>) {
        let taken = match answer {
            Answer::Begin { status, length } => self.fetch_begins(status, length),
            Answer::Part(bytes) => self.fetch_part(bytes),
            // Whatever made it whole has ended the phase.
            Answer::End => Ok(Fetched::Busy),
        };
        if let Phase::Asking { deadline, .. } = &mut self.phase {
            *deadline = Self::silence(now);
        }
        match taken {
            Ok(Fetched::Wait) => return,
            Ok(Fetched::Busy) => self.fetch_failed(now, out),
            Ok(Fetched::Whole) => {
                self.phase = Phase::Waiting { until: now.mono };
                self.install(now, out);
                // There is nobody to wait for: the new image says how it went.
                if let Some(reboot) = &mut self.reboot {
                    reboot.deadline = now.mono;
                }
            }
            Err(refused) => self.end_update(Outcome::Refused(refused), out),
        }
        // Back to the broker, or into the new image.
        out.push(Action::Disconnect);
        self.phase = Phase::Waiting { until: now.mono };
    }

    fn fetch_begins(&mut self, status: u16, length: u32) -> Result<Fetched, Refused> {
        let Phase::Asking { what: Asking::Image(fetch), .. } = &mut self.phase else {
            return Ok(Fetched::Wait);
        };
        let Some(updating) = &self.update else { return Ok(Fetched::Busy) };
        let (size, wanted) = (updating.update.manifest().size, updating.update.wanted());
        let expected = match status {
            200 => {
                fetch.skip = wanted;
                size
            }
            206 => size - wanted,
            408 | 429 | 500..=599 => return Ok(Fetched::Busy),
            _ => return Err(Refused::Address),
        };
        if length == expected { Ok(Fetched::Wait) } else { Err(Refused::Address) }
    }

    fn fetch_part(&mut self, bytes: &[u8]) -> Result<Fetched, Refused> {
        let Phase::Asking { what: Asking::Image(fetch), .. } = &mut self.phase else {
            return Ok(Fetched::Wait);
        };
        let Some(updating) = &mut self.update else { return Ok(Fetched::Busy) };
        let skipped = bytes.len().min(fetch.skip as usize);
        // Just bounded by it.
        fetch.skip -= skipped as u32;
        let mut rest = bytes.get(skipped..).unwrap_or_default();
        while !rest.is_empty() {
            let (wanted, size) = (updating.update.wanted(), updating.update.manifest().size);
            let part = PART_BYTES_MAX.min(size - wanted) as usize;
            let (now, later) = rest.split_at(rest.len().min(part - fetch.block.len()));
            fetch.block.extend_from_slice(now);
            rest = later;
            if fetch.block.len() < part {
                break;
            }
            let progress = updating.update.part(wanted, &fetch.block, &mut self.images)?;
            fetch.block.clear();
            updating.fetches = 0;
            if progress == Progress::Complete {
                return Ok(Fetched::Whole);
            }
        }
        Ok(Fetched::Wait)
    }

    /// The address brought nothing, or not all of it. It is asked again later, from where it stopped.
    pub(super) fn fetch_failed(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(updating) = &mut self.update else { return };
        updating.fetches = updating.fetches.saturating_add(1);
        if updating.fetches >= FETCHES_MAX {
            // Said at the next connection.
            self.phase = Phase::Waiting { until: now.mono };
            return self.end_update(Outcome::Refused(Refused::Unreachable), out);
        }
        let window = (PAUSE << updating.fetches.min(16)).min(PAUSE_MAX);
        updating.ask_again = now.mono.saturating_add(window / 2 + self.rng.below(window / 2));
    }
}

/// What a part of the answer led to.
enum Fetched {
    Wait,
    /// Not now.
    Busy,
    /// The image is whole, and the one that was signed.
    Whole,
}
