//! The life of one sensor on virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use signet_device_core::telemetry::Reading;
use signet_device_core::{Action, Device, Event, Failure, Input, Message, Now, Rung};
use signet_identity::CertificateId;

use super::broker::{Broker, Peer};
use super::{DAY, HOUR, START, Weather, wall};
use crate::faults::Dice;
use crate::outcome::Happened;
use crate::unit::{Simulated, Unit};

/// What a message takes there and back, in milliseconds.
const TRIP: u64 = 40;

/// So many events are remembered for a device that is lost.
const RECENT: usize = 16;

/// One sensor.
pub(super) struct Life {
    pub(super) unit: Unit,
    device: Option<Device<Simulated>>,
    dice: Dice,
    /// When it was switched on, and until when it is off.
    booted: u64,
    off_until: u64,
    clock: Option<i64>,
    peer: Option<Peer>,
    fault_at: Option<u64>,
    cut_off: Option<Failure>,
    /// An operator has revoked it, and has not agreed to its return.
    pub(super) barred: bool,
    enrolled: bool,
    /// Its last events, with their day.
    recent: VecDeque<(u64, Event)>,
    pub(super) counts: Happened,
}

/// An input that owns what it says.
enum Told {
    Tick,
    Connected,
    Ended(Failure),
    Subscribed(u32, usize),
    Acknowledged(u32),
    Message(String, Vec<u8>),
    Sampled,
}

impl Life {
    pub(super) fn new(unit: Unit, dice: Dice) -> Self {
        Self {
            unit,
            device: None,
            dice,
            booted: 0,
            off_until: 0,
            clock: None,
            peer: None,
            fault_at: None,
            cut_off: None,
            barred: false,
            enrolled: false,
            recent: VecDeque::new(),
            counts: Happened::default(),
        }
    }

    pub(super) fn is_online(&self) -> bool {
        self.peer.as_ref().is_some_and(Peer::is_device)
            && matches!(self.device.as_ref().and_then(Device::online), Some(Rung::Own(_)))
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.peer.is_some()
    }

    pub(super) const fn was_enrolled(&self) -> bool {
        self.enrolled
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.device.as_ref()?.thing()
    }

    pub(super) fn certificate(&self) -> Option<CertificateId> {
        let credential = self.device.as_ref()?.credential()?;
        Some(CertificateId::of(&credential.leaf.der))
    }

    /// What happened to it last.
    pub(super) fn recently(&self) -> String {
        let events: Vec<String> =
            self.recent.iter().map(|(day, event)| format!("day {day} {event:?}")).collect();
        events.join(", ")
    }

    /// Why its connection has to end, if it has.
    pub(super) fn judged(&self, broker: &Broker, now: u64) -> Option<Failure> {
        broker.judge(self.peer.as_ref()?, wall(now)).err()
    }

    /// Its connection ends; it notices when it lives next.
    pub(super) fn cut_off(&mut self, failure: Failure, _now: u64) {
        self.peer = None;
        self.cut_off = Some(failure);
    }

    /// From now on nothing goes wrong.
    pub(super) fn mend(&mut self, now: u64) {
        self.fault_at = None;
        self.unit.flash.power_on();
        self.off_until = self.off_until.min(now);
    }

    /// When it wants to live next.
    pub(super) fn wakes_at(&self, now: u64) -> u64 {
        let Some(device) = &self.device else { return self.off_until.max(now + 1) };
        let wanted = self.booted.saturating_add(device.next_deadline());
        wanted.min(self.fault_at.unwrap_or(u64::MAX)).min(now + DAY).max(now + 1)
    }

    /// Lives: what is due happens. `broker` is missing while it is away.
    pub(super) fn live(&mut self, now: u64, mut broker: Option<&mut Broker>, weather: Option<Weather>) {
        if self.device.is_none() {
            if now < self.off_until {
                return;
            }
            self.switch_on(now, &mut broker, weather);
        }
        if let Some(failure) = self.cut_off.take() {
            self.tell(Told::Ended(failure), now, &mut broker, weather);
        }
        self.tell(Told::Tick, now, &mut broker, weather);
        self.suffer(now, &mut broker, weather);
    }

    fn switch_on(&mut self, now: u64, broker: &mut Option<&mut Broker>, weather: Option<Weather>) {
        self.booted = now;
        self.clock = None;
        self.peer = None;
        self.cut_off = None;
        let mut actions = Vec::new();
        let device = self.unit.boot(Now { mono: 0, wall: None }, &mut actions);
        let lapsed = device.credential().is_some_and(|c| c.leaf.not_after < START + now / 1_000);
        self.counts.lapsed += u64::from(lapsed);
        self.device = Some(device);
        let mut told = VecDeque::new();
        for action in actions {
            self.act(action, now, broker, weather, &mut told);
        }
        if self.fault_at.is_none() {
            self.fault_at = weather.and_then(|weather| weather.device).map(|mean| self.later(now, mean));
        }
    }

    fn later(&mut self, now: u64, mean: Duration) -> u64 {
        now.saturating_add(u64::try_from(self.dice.next(mean).as_millis()).unwrap_or(u64::MAX))
    }

    fn switch_off(&mut self, until: u64) {
        self.device = None;
        self.peer = None;
        self.off_until = until;
    }

    /// A fault, when one is due.
    fn suffer(&mut self, now: u64, broker: &mut Option<&mut Broker>, weather: Option<Weather>) {
        let Some(mean) = weather.and_then(|weather| weather.device) else { return };
        if self.fault_at.is_none_or(|at| now < at) || self.device.is_none() {
            return;
        }
        self.fault_at = Some(self.later(now, mean));
        match self.dice.below(10) {
            // The power will fail during one of the next writes.
            0..=3 => {
                let (nth, noise) = (1 + self.dice.below(300), self.dice.roll());
                self.unit.flash.cut_power_in(nth, noise);
            }
            4..=5 => {
                self.counts.resets += 1;
                let off = 1_000 + self.dice.below(HOUR);
                self.switch_off(now + off);
            }
            // Off for the night, or in a drawer for months.
            6 => {
                self.counts.resets += 1;
                let long = if self.dice.happens(100) { 200 * DAY } else { 5 * DAY };
                let off = HOUR + self.dice.below(long);
                self.switch_off(now + off);
            }
            _ => {
                self.counts.breaks += 1;
                self.peer = None;
                self.tell(Told::Ended(Failure::Lost), now, broker, weather);
            }
        }
    }

    /// Tells the device something and does what it says, until it says nothing more.
    fn tell(&mut self, first: Told, now: u64, broker: &mut Option<&mut Broker>, weather: Option<Weather>) {
        let mut told = VecDeque::from([first]);
        let mut now = now;
        while let Some(next) = told.pop_front() {
            let Some(device) = self.device.as_mut() else { return };
            let seconds = START + now / 1_000;
            let moment = Now {
                mono: now.saturating_sub(self.booted),
                wall: self.clock.map(|off| seconds.saturating_add_signed(off)),
            };
            let mut actions = Vec::new();
            feed(device, moment, &next, &mut actions);
            if self.unit.flash.is_cut() {
                self.counts.power_cuts += 1;
                let off = 1_000 + self.dice.below(HOUR);
                self.switch_off(now + off);
                return;
            }
            for action in actions {
                self.act(action, now, broker, weather, &mut told);
            }
            now += TRIP;
        }
    }

    fn act(
        &mut self,
        action: Action,
        now: u64,
        broker: &mut Option<&mut Broker>,
        weather: Option<Weather>,
        told: &mut VecDeque<Told>,
    ) {
        match action {
            Action::Connect(connect) => {
                self.peer = None;
                told.push_back(match broker.as_deref_mut() {
                    None => Told::Ended(Failure::Unreachable),
                    Some(_) if self.clock.is_some_and(|off| off > 0) => Told::Ended(Failure::ServerUntrusted),
                    Some(broker) => match broker.connect(&connect.certificate, wall(now)) {
                        Ok(peer) => {
                            self.counts.connections += 1;
                            self.peer = Some(peer);
                            Told::Connected
                        }
                        Err(failure) => Told::Ended(failure),
                    },
                });
            }
            Action::Subscribe { id, filters } => told.push_back(Told::Subscribed(id, filters.len())),
            Action::Publish(publish) => {
                if let (Some(peer), Some(broker)) = (self.peer.clone(), broker.as_deref_mut()) {
                    told.push_back(Told::Acknowledged(publish.id));
                    self.counts.messages += u64::from(peer.is_device());
                    let answer = broker.publish(&peer, &publish.topic, &publish.payload, wall(now));
                    told.extend(answer.map(|(topic, payload)| Told::Message(topic, payload)));
                }
            }
            Action::Ask(_) => told.push_back(Told::Ended(Failure::Unreachable)),
            Action::Disconnect => self.peer = None,
            Action::SetClock => {
                const YEAR: i64 = 365 * 86_400;
                let wrong = weather.is_some_and(|weather| self.dice.happens(weather.wrong_clocks));
                self.counts.wrong_clocks += u64::from(wrong);
                self.clock = Some(match wrong {
                    false => 0,
                    true if self.dice.happens(500) => -20 * YEAR,
                    true => 20 * YEAR,
                });
            }
            Action::Sample => told.push_back(Told::Sampled),
            Action::Identify(_) => {}
            Action::Reboot(_) => self.switch_off(now + 1_000),
            Action::Event(event) => self.note(event, now),
        }
    }

    fn note(&mut self, event: Event, now: u64) {
        match &event {
            Event::Enrolled { .. } => self.enrolled = true,
            Event::Rotated(_) => self.counts.rotations += 1,
            Event::FellBack(_) => self.counts.fallbacks += 1,
            Event::Refused(..) => self.counts.refused += 1,
            Event::Rejected(_) => self.counts.rejected += 1,
            _ => {}
        }
        self.counts.alarms += u64::from(event.is_alarm());
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now / DAY, event));
    }

    pub(super) fn add_to(&self, happened: &mut Happened) {
        *happened += &self.counts;
        happened.boots += self.unit.boots();
    }
}

/// Gives one input to the device.
fn feed(device: &mut Device<Simulated>, now: Now, told: &Told, actions: &mut Vec<Action>) {
    let input = match told {
        Told::Tick => Input::Tick,
        Told::Connected => Input::Connected,
        Told::Ended(failure) => Input::Ended(*failure),
        Told::Subscribed(id, filters) => Input::Subscribed { id: *id, granted: vec![true; *filters] },
        Told::Acknowledged(id) => Input::Acknowledged { id: *id, accepted: true },
        Told::Message(topic, payload) => Input::Message(Message { topic, payload, retained: false }),
        Told::Sampled => Input::Sampled(Some(Reading { centi_celsius: 2_100, centi_percent: 4_500 })),
    };
    device.handle(now, input, actions);
}
