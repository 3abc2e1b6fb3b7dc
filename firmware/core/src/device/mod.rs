//! The state machine.

mod credentials;
mod enrolling;
mod fetch;
mod session;
mod token;
mod update;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::backoff::Backoff;
use crate::enrol::Enrolment;
use crate::enrol::token::Redemption;
use crate::factory::{Claim, Factory};
use crate::io::{Action, Connect, Event, Failure, Input, LastWill, Now, ProvisioningError, Rung};
use crate::ota;
use crate::platform::{Platform, Rng as _, Secret, Signer as _};
use crate::schedule::believable;
use crate::slots::{Credential, Marker, Slot, Slots};
use crate::store::{Store, StoreFault, StoreState};
use crate::telemetry::Queue;
use crate::topic;
use crate::trial::Trial;
use fetch::Fetch;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// What can be set. [`Settings::default`] is what the documentation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Seconds between two readings, 60. A command changes it until the next start.
    pub interval_secs: u32,
    /// Keep alive in seconds, 60.
    pub keep_alive_secs: u16,
    /// How long a connection may take to be made, in milliseconds, 30 000.
    pub connect_timeout_ms: u32,
    /// How long an answer of provisioning may take, in milliseconds, 10 000.
    pub answer_timeout_ms: u32,
    /// Readings that are kept while there is no connection, 240: four hours of one a minute.
    pub readings_max: usize,
    /// How long the old credential is kept after a rotation, in seconds, 7 days.
    pub grace_secs: u32,
    /// How long a rotation may take until its candidate is given up, in seconds, 24 hours.
    pub watchdog_secs: u32,
    /// The first window of the back-off, in milliseconds, 2000.
    pub backoff_base_ms: u64,
    /// The last window of the back-off, in milliseconds, 5 minutes.
    pub backoff_cap_ms: u64,
    /// What runs, for updates and reports.
    pub running: ota::Running,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval_secs: 60,
            keep_alive_secs: 60,
            connect_timeout_ms: 30_000,
            answer_timeout_ms: 10_000,
            readings_max: 240,
            grace_secs: 7 * 24 * 3600,
            watchdog_secs: 24 * 3600,
            backoff_base_ms: 2_000,
            backoff_cap_ms: 300_000,
            running: ota::Running {
                version: String::from(env!("CARGO_PKG_VERSION")),
                chip: String::from("host"),
                counter: 0,
                key: None,
            },
        }
    }
}

/// What a device is put together from.
pub struct Parts<P: Platform> {
    /// The flash region of the credentials.
    pub flash: P::Flash,
    /// Randomness.
    pub rng: P::Rng,
    /// Keys.
    pub signer: P::Signer,
    /// Sealing.
    pub sealing: P::Sealing,
    /// Images.
    pub images: P::Images,
}

/// Where the device is with its connection.
#[derive(Debug)]
enum Phase {
    /// It waits.
    Waiting { until: u64 },
    /// It has asked for a connection.
    Connecting { rung: Rung, deadline: u64 },
    /// It has asked a server over HTTPS.
    Asking { what: Asking, deadline: u64 },
    /// It is connected.
    Online(Session),
}

/// What is asked over HTTPS.
#[derive(Debug)]
enum Asking {
    /// A certificate for a token.
    Token(Box<Redemption>),
    /// An image.
    Image(Fetch),
}

/// A connection.
#[derive(Debug)]
struct Session {
    rung: Rung,
    since: u64,
    /// The subscription to commands that is under way.
    subscribing: Option<u32>,
    enrolment: Option<Box<Enrolment>>,
}

/// How a rotation stands.
#[derive(Debug)]
struct Rotation {
    /// Not before this moment, in milliseconds.
    retry_at: u64,
    backoff: Backoff,
    /// Somebody asked for it.
    commanded: bool,
    /// The one that is under way was asked for.
    by_command: bool,
}

/// A start that waits for its result to be acknowledged.
#[derive(Debug)]
struct PendingReboot {
    id: u32,
    deadline: u64,
    reason: crate::io::RebootReason,
}

/// The sensor.
pub struct Device<P: Platform> {
    settings: Settings,
    factory: Option<Factory>,
    slots: Slots<P::Flash, P::Sealing>,
    rng: P::Rng,
    signer: P::Signer,
    images: P::Images,

    marker: Marker,
    credentials: [Option<Credential>; 2],
    /// The keys as the TLS library wants them, once they were needed: to make one costs a multiplication on the curve.
    tls_keys: [Option<TlsKey>; 2],
    working_claim: Option<Claim>,
    /// The working claim was refused, and that of the factory is tried.
    skip_working_claim: bool,
    pending: Option<Secret>,
    /// The next enrolment by claim makes a new key, because the broker did not want the old one.
    fresh_key: bool,
    store_usable: bool,
    /// In what state the store was found.
    store_state: StoreState,

    phase: Phase,
    /// Which credential of the order is tried.
    position: usize,
    /// How often it was refused in a row.
    refusals: u8,
    /// The try of the candidate that is under way, or that found no broker, is counted already.
    charged: bool,
    clock_asked: bool,
    backoff: Backoff,
    enrol_backoff: Backoff,
    rotation: Rotation,

    interval_secs: u32,
    next_sample: u64,
    queue: Queue,
    last_id: u32,
    update: Option<Updating>,
    /// The image that has not proven itself, as noted in the store.
    trial: Option<Trial>,
    trial_deadline: Option<u64>,
    /// The result of the last update, on its way to the broker.
    trial_report: Option<u32>,
    /// Results that are sent at the next connection.
    notes: VecDeque<(ota::Outcome, Option<String>)>,
    reboot: Option<PendingReboot>,
}

/// A secret and what the TLS library wants for it.
type TlsKey = (Secret, Secret);

/// An update under way.
#[derive(Debug)]
struct Updating {
    update: ota::Update,
    /// When it goes on, in milliseconds.
    ask_again: u64,
    /// How often its address was asked in vain, in a row.
    fetches: u8,
    command_id: Option<String>,
}

impl<P: Platform> Device<P> {
    /// Starts: reads the flash, repairs what a power cut left, and waits for the first tick.
    ///
    /// `factory` is what the factory partition holds; without it there is nothing to connect to.
    pub fn new(
        parts: Parts<P>,
        factory: Option<Factory>,
        mut settings: Settings,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Self {
        if let Some(factory) = &factory {
            let key = &mut settings.running.key;
            *key = key.take().or_else(|| factory.ota_key.clone());
        }
        let (store, state) = Store::open(parts.flash);
        out.push(Action::Event(Event::Store(state)));
        let backoff = Backoff::new(settings.backoff_base_ms, settings.backoff_cap_ms);
        let mut device = Self {
            queue: Queue::new(settings.readings_max),
            interval_secs: settings.interval_secs,
            factory,
            slots: Slots::new(store, parts.sealing),
            rng: parts.rng,
            signer: parts.signer,
            images: parts.images,
            marker: Marker::default(),
            credentials: [None, None],
            tls_keys: [None, None],
            working_claim: None,
            skip_working_claim: false,
            pending: None,
            fresh_key: false,
            store_usable: state.is_usable(),
            store_state: state,
            phase: Phase::Waiting { until: now.mono },
            position: 0,
            refusals: 0,
            charged: false,
            clock_asked: false,
            backoff: backoff.clone(),
            enrol_backoff: Backoff::new(settings.backoff_base_ms.saturating_mul(2), HOUR),
            rotation: Rotation {
                retry_at: 0,
                backoff: Backoff::new(30 * SECOND, 6 * HOUR),
                commanded: false,
                by_command: false,
            },
            next_sample: now.mono,
            last_id: 0,
            update: None,
            trial: None,
            trial_deadline: None,
            trial_report: None,
            notes: VecDeque::new(),
            reboot: None,
            settings,
        };
        device.load(out);
        device.judge_image(now, out);
        // A power failure ends for a whole fleet at once: the first connection waits like any other.
        let wait = device.backoff.next(&mut device.rng);
        device.backoff.reset();
        device.phase = Phase::Waiting { until: now.mono.saturating_add(wait) };
        device
    }

    fn load(&mut self, out: &mut Vec<Action>) {
        if !self.store_usable {
            return;
        }
        match self.slots.load() {
            Ok(loaded) => {
                self.marker = loaded.marker;
                self.credentials = loaded.credentials;
                self.working_claim = loaded.claim;
                self.pending = loaded.pending;
                out.extend(loaded.unusable.into_iter().map(|slot| Action::Event(Event::SlotUnusable(slot))));
            }
            Err(fault) => self.store_failed(fault, out),
        }
    }

    /// The flash, as it is now; the device is over.
    pub fn into_flash(self) -> P::Flash {
        self.slots.into_parts().0.into_flash()
    }

    /// The credential in use or to be tried, whatever comes first.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        self.marker.active.or(self.marker.candidate()).and_then(|slot| self.held(slot))
    }

    /// The name that the broker gave the device.
    #[must_use]
    pub fn thing(&self) -> Option<&str> {
        self.credential().map(|credential| credential.thing.as_str())
    }

    /// Which slot counts.
    #[must_use]
    pub const fn marker(&self) -> Marker {
        self.marker
    }

    /// With what the device is connected.
    #[must_use]
    pub const fn online(&self) -> Option<Rung> {
        match &self.phase {
            Phase::Online(session) => Some(session.rung),
            _ => None,
        }
    }

    /// Whether a rotation is under way: asked for, or its candidate is on trial.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        let asked = matches!(&self.phase, Phase::Online(session) if session.enrolment.is_some());
        asked || self.marker.trial || self.rotation.commanded
    }

    /// Readings that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    fn held(&self, slot: Slot) -> Option<&Credential> {
        self.credentials[slot as usize].as_ref()
    }

    const fn id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    fn store_failed(&mut self, fault: StoreFault, out: &mut Vec<Action>) {
        self.store_usable = false;
        out.push(Action::Event(Event::StoreFault(fault)));
    }

    /// The time of day, if it can be believed.
    fn wall(&self, now: Now) -> Option<u64> {
        let own = self.marker.active.and_then(|slot| self.held(slot));
        believable(now.wall, own.map(|credential| &credential.leaf))
    }

    /// Takes what happened and says what to do.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Action>) {
        match input {
            Input::Tick => {}
            Input::Connected => self.connected(now, out),
            Input::Ended(failure) => self.ended(failure, now, out),
            Input::Subscribed { id, granted } => self.subscribed(id, &granted, now, out),
            Input::Acknowledged { id, accepted } => self.acknowledged(id, accepted, now, out),
            Input::Message(message) => self.message(message, now, out),
            Input::Answered(answer) => match &self.phase {
                Phase::Asking { what: Asking::Token(_), .. } => self.redeemed(answer, now, out),
                Phase::Asking { what: Asking::Image(_), .. } => self.fetched(answer, now, out),
                // Nothing was asked.
                _ => {}
            },
            Input::Sampled(reading) => self.sampled(reading, now, out),
            Input::RotateNow => self.rotation.commanded = true,
        }
        self.tick(now, out);
    }

    /// When [`Device::handle`] wants a [`Input::Tick`] at the latest, in milliseconds.
    #[must_use]
    pub fn next_deadline(&self) -> u64 {
        let phase = match &self.phase {
            Phase::Waiting { until } => *until,
            Phase::Connecting { deadline, .. } | Phase::Asking { deadline, .. } => *deadline,
            Phase::Online(session) => {
                session.enrolment.as_ref().map_or(u64::MAX, |enrolment| enrolment.deadline())
            }
        };
        let sample = if self.credential().is_some() { self.next_sample } else { u64::MAX };
        // Parts of an image are asked for while there is somebody to ask.
        let asking = match (&self.update, &self.phase) {
            (Some(updating), Phase::Online(_)) => updating.ask_again,
            _ => u64::MAX,
        };
        let trial = self.trial_deadline.unwrap_or(u64::MAX);
        let reboot = self.reboot.as_ref().map_or(u64::MAX, |reboot| reboot.deadline);
        phase.min(sample).min(asking).min(trial).min(reboot)
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        self.tick_image(now, out);
        self.tick_credentials(now, out);
        if let Some(reboot) = self.reboot.take_if(|reboot| now.mono >= reboot.deadline) {
            out.push(Action::Reboot(reboot.reason));
        }
        if self.credential().is_some() && now.mono >= self.next_sample {
            self.next_sample = now.mono.saturating_add(u64::from(self.interval_secs) * SECOND);
            out.push(Action::Sample);
        }
        let clock_came = self.clock_asked && self.wall(now).is_some();
        match &self.phase {
            Phase::Waiting { until } if now.mono >= *until || clock_came => self.connect(now, out),
            Phase::Connecting { deadline, .. } | Phase::Asking { deadline, .. } if now.mono >= *deadline => {
                out.push(Action::Disconnect);
                self.ended(Failure::Unreachable, now, out);
            }
            Phase::Online(_) => self.tick_online(now, out),
            _ => {}
        }
    }

    /// Waits before the next connection.
    fn wait(&mut self, now: Now, at_least: u64) {
        let jittered = self.backoff.next(&mut self.rng);
        let until = now.mono.saturating_add(at_least.saturating_add(jittered));
        self.phase = Phase::Waiting { until };
    }

    /// Tries the next connection, if there are a time of day and a credential.
    fn connect(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.wall(now).is_none() {
            if !self.clock_asked {
                self.clock_asked = true;
                out.push(Action::Event(Event::ClockUnknown));
            }
            out.push(Action::SetClock);
            self.phase = Phase::Waiting { until: now.mono.saturating_add(5 * SECOND) };
            return;
        }
        self.clock_asked = false;
        let rung = self.choose(now, out);
        let Some(rung) = rung else { return };
        if rung == Rung::Token {
            return self.redeem(now, out);
        }
        match self.connection(rung) {
            Ok(connect) => {
                let deadline = now.mono.saturating_add(u64::from(connect.timeout_ms));
                self.phase = Phase::Connecting { rung, deadline };
                out.push(Action::Connect(connect));
            }
            Err(fault) => {
                out.push(Action::Event(Event::KeyFault(fault)));
                self.refused(rung);
                self.wait(now, MINUTE);
            }
        }
    }

    fn connection(&mut self, rung: Rung) -> Result<Connect, crate::platform::SignerError> {
        use crate::platform::SignerError;
        let (certificate, key, client_id, will) = match rung {
            Rung::Own(slot) => {
                let credential = self.credentials[slot as usize].as_ref().ok_or(SignerError::NotAKey)?;
                let will = LastWill { topic: topic::status(&credential.thing), payload: "offline" };
                let key = match &self.tls_keys[slot as usize] {
                    Some((secret, key)) if *secret == credential.secret => key.clone(),
                    _ => self.signer.tls_key(&credential.secret)?,
                };
                self.tls_keys[slot as usize] = Some((credential.secret.clone(), key.clone()));
                (credential.leaf.der.clone(), key, credential.thing.clone(), Some(will))
            }
            Rung::Token => return Err(SignerError::NotAKey),
            Rung::Claim => {
                let claim = self.claim().ok_or(SignerError::NotAKey)?;
                let serial = self.factory.as_ref().map(|factory| factory.serial.clone());
                (claim.certificate.clone(), claim.key.clone(), serial.unwrap_or_default(), None)
            }
        };
        Ok(Connect {
            rung,
            certificate,
            key,
            client_id,
            will,
            keep_alive_secs: self.settings.keep_alive_secs,
            timeout_ms: self.settings.connect_timeout_ms,
        })
    }

    fn provisioning_error(&mut self, error: ProvisioningError, now: Now, out: &mut Vec<Action>) {
        out.push(Action::Event(Event::ProvisioningError(error)));
        self.position = 0;
        self.refusals = 0;
        self.skip_working_claim = false;
        // Loud, and slow: what is wrong is not going to change within minutes.
        let until = 15 * MINUTE + self.rng.below(45 * MINUTE);
        self.phase = Phase::Waiting { until: now.mono.saturating_add(until) };
    }
}
