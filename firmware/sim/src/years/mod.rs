//! Years of virtual time in minutes: the same devices against the broker's own registry, authority and templates.

mod broker;
mod life;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use signet_device_core::Settings;
use signet_device_core::topic::Format;
use signet_registry::Wall;

use crate::faults::{Dice, Level};
use crate::outcome::Outcome;
use crate::unit::{Begin, Given, Unit};
use broker::Broker;
use life::Life;

/// When the simulation begins: 2027-01-01.
const START: u64 = 1_798_761_600;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// How long the devices have after the last fault.
const CALM: u64 = 10 * DAY;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Years {
    /// How many years.
    pub years: u32,
    /// How many devices.
    pub devices: usize,
    /// How many days a certificate is valid.
    pub validity_days: u32,
    /// What goes wrong.
    pub level: Level,
    /// The seed of everything.
    pub seed: u64,
}

/// How often things go wrong over years.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// On average one fault of a device in this time.
    device: Option<Duration>,
    /// On average one outage of the broker in this time.
    broker: Option<Duration>,
    /// On average one revocation in the fleet in this time, for each hundred devices.
    revocation: Option<Duration>,
    wrong_clocks: u32,
}

impl Weather {
    const fn of(level: Level) -> Self {
        const fn days(days: u64) -> Option<Duration> {
            Some(Duration::from_secs(days * 86_400))
        }
        match level {
            Level::None => Self { device: None, broker: None, revocation: None, wrong_clocks: 0 },
            Level::Some => {
                Self { device: days(20), broker: days(60), revocation: days(90), wrong_clocks: 50 }
            }
            Level::Many => {
                Self { device: days(6), broker: days(15), revocation: days(30), wrong_clocks: 200 }
            }
        }
    }
}

/// The world: one clock, one broker, many devices.
struct World {
    broker: Broker,
    lives: Vec<Life>,
    /// When each device wants to be looked at next.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    next: Vec<u64>,
    now: u64,
    down_until: u64,
    approvals: Vec<(u64, usize)>,
    dice: Dice,
    restarts: u64,
    /// Devices that were online although they were revoked.
    intruders: u64,
}

fn wall(now: u64) -> Wall {
    Wall((START * 1_000 + now).cast_signed().unsigned_abs())
}

/// Runs it.
///
/// # Errors
/// The model of the broker cannot be made.
pub fn run(years: &Years, bar: &ProgressBar) -> Result<Outcome> {
    if years.devices == 0 {
        bail!("a fleet has at least one device");
    }
    let began = std::time::Instant::now();
    let end = u64::from(years.years) * 365 * DAY;
    bar.set_length(end / DAY);
    bar.set_style(ProgressStyle::with_template("day {pos}/{len} {wide_bar} {msg} {elapsed_precise}")?);
    let weather = Weather::of(years.level);
    let mut world = World::new(years)?;
    world.live(end, weather, bar)?;
    let mut outcome = Outcome { devices: years.devices, seed: years.seed, ..Outcome::default() };
    world.calm(end + CALM)?;
    bar.finish_and_clear();
    world.judge(&mut outcome);
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

impl World {
    fn new(years: &Years) -> Result<Self> {
        let broker = Broker::new(years.validity_days, wall(0))?;
        let given = Given {
            begin: Begin::Claim(broker.claim.clone()),
            update_key: None,
            template: "fleet".into(),
            rotation_template: "rotation".into(),
            format: Format::Json,
            settings: Settings { interval_secs: 21_600, ..Settings::default() },
            seed: years.seed,
        };
        let mut lives = Vec::with_capacity(years.devices);
        let mut queue = BinaryHeap::new();
        for number in 0..years.devices {
            let mut given = given.clone();
            if number % 2 == 1 {
                given.format = Format::Cbor;
            }
            let dice = Dice::new(years.seed, number as u64);
            lives.push(Life::new(Unit::new(&given, format!("sensor-{number:05}")), dice));
            // They come over the first month.
            queue.push(Reverse((number as u64 * 30 * DAY / years.devices as u64, number)));
        }
        Ok(Self {
            broker,
            next: vec![0; lives.len()],
            lives,
            queue,
            now: 0,
            down_until: 0,
            approvals: Vec::new(),
            dice: Dice::new(years.seed, u64::MAX),
            restarts: 0,
            intruders: 0,
        })
    }

    fn wake(&mut self, number: usize, at: u64) {
        self.next[number] = at;
        self.queue.push(Reverse((at, number)));
    }

    /// Lets one device live until it waits again.
    fn step(&mut self, number: usize, weather: Option<Weather>) {
        let up = self.now >= self.down_until;
        let life = &mut self.lives[number];
        life.live(self.now, up.then_some(&mut self.broker), weather);
        self.intruders += u64::from(life.barred && life.is_online());
        let at = self.lives[number].wakes_at(self.now);
        self.wake(number, at);
    }

    /// Everything until `end`, or until the given moment of the world's own, whatever is first.
    fn devices_until(&mut self, end: u64, weather: Option<Weather>) {
        while let Some(Reverse((at, number))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            // An entry of before something else woke the device.
            if self.next[number] != 0 && self.next[number] != at {
                continue;
            }
            self.now = self.now.max(at);
            self.step(number, weather);
        }
        self.now = self.now.max(end);
    }

    fn live(&mut self, end: u64, weather: Weather, bar: &ProgressBar) -> Result<()> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let next = |dice: &mut Dice, mean: Option<Duration>, now: u64| {
            mean.map_or(u64::MAX, |mean| now.saturating_add(millis(dice.next(mean))))
        };
        let hundreds = u32::try_from(self.lives.len().div_ceil(100)).unwrap_or(u32::MAX);
        let revocation = weather.revocation.map(|mean| mean / hundreds);
        let mut outage_at = next(&mut self.dice, weather.broker, 40 * DAY);
        let mut revoke_at = next(&mut self.dice, revocation, 60 * DAY);
        let mut tick_at = 0;
        while self.now < end {
            let moment = tick_at.min(outage_at).min(revoke_at).min(end);
            self.devices_until(moment, Some(weather));
            if self.now >= tick_at {
                tick_at = self.now + HOUR;
                self.tick()?;
                bar.set_position(self.now / DAY);
                bar.set_message(format!("{} certificates issued", self.broker.issued));
            }
            if self.now >= outage_at {
                self.outage();
                outage_at = next(&mut self.dice, weather.broker, self.now);
            }
            if self.now >= revoke_at {
                self.revoke()?;
                revoke_at = next(&mut self.dice, revocation, self.now);
            }
        }
        Ok(())
    }

    /// The broker's clock, and operators who agree.
    fn tick(&mut self) -> Result<()> {
        self.broker.tick(wall(self.now));
        let (due, later) =
            std::mem::take(&mut self.approvals).into_iter().partition(|(at, _)| *at <= self.now);
        self.approvals = later;
        let due: Vec<(u64, usize)> = due;
        for (_, number) in due {
            let name = self.lives[number].unit.serial().to_owned();
            self.broker.approve(&name, wall(self.now))?;
            self.lives[number].barred = false;
        }
        // Connections whose certificate has lost its standing end.
        for number in 0..self.lives.len() {
            let life = &mut self.lives[number];
            if let Some(failure) = life.judged(&self.broker, self.now) {
                life.cut_off(failure, self.now);
                self.wake(number, self.now);
            }
        }
        Ok(())
    }

    /// The broker is away for some time, and everybody is cut off.
    fn outage(&mut self) {
        self.restarts += 1;
        let long = if self.dice.happens(200) { 3 * DAY } else { HOUR };
        self.down_until = self.now + 1_000 + self.dice.below(long);
        for number in 0..self.lives.len() {
            if self.lives[number].is_connected() {
                self.lives[number].cut_off(signet_device_core::Failure::Lost, self.now);
                self.wake(number, self.now);
            }
        }
    }

    /// An operator revokes a device, and agrees to its return days later.
    fn revoke(&mut self) -> Result<()> {
        let number = self.dice.below(self.lives.len() as u64) as usize;
        let life = &mut self.lives[number];
        if life.barred || !life.was_enrolled() {
            return Ok(());
        }
        if !self.broker.revoke(life.unit.serial(), wall(self.now))? {
            return Ok(());
        }
        life.barred = true;
        life.counts.revoked += 1;
        if let Some(failure) = life.judged(&self.broker, self.now) {
            life.cut_off(failure, self.now);
            self.wake(number, self.now);
        }
        self.approvals.push((self.now + DAY + self.dice.below(10 * DAY), number));
        Ok(())
    }

    /// No faults any more: everything is switched on, and operators have agreed to everything.
    fn calm(&mut self, end: u64) -> Result<()> {
        self.down_until = self.now;
        // What operators agreed to long ago has run out for devices that were in a drawer meanwhile.
        let now = self.now;
        let revoked = self.lives.iter().enumerate().filter(|(_, life)| life.counts.revoked > 0);
        self.approvals = revoked.map(|(number, _)| (now, number)).collect();
        for number in 0..self.lives.len() {
            self.lives[number].mend(self.now);
            self.wake(number, self.now);
        }
        while self.now < end {
            self.tick()?;
            self.devices_until(self.now + HOUR, None);
        }
        Ok(())
    }

    fn judge(&self, outcome: &mut Outcome) {
        let mut certificates = HashMap::new();
        for life in &self.lives {
            let serial = life.unit.serial();
            life.add_to(&mut outcome.happened);
            let Some(certificate) = life.certificate().filter(|_| life.is_online()) else {
                outcome.lost += 1;
                outcome.problem(format!("{serial} cannot be reached: {}", life.recently()));
                continue;
            };
            let holder = self.broker.holder(&certificate, wall(self.now));
            if holder.as_deref() != Some(serial) || life.name() != Some(serial) {
                outcome.lost += 1;
                outcome.problem(format!(
                    "{serial} is called {:?}, and the registry says {holder:?}",
                    life.name()
                ));
                continue;
            }
            outcome.online += 1;
            if let Some(other) = certificates.insert(certificate, serial.to_owned()) {
                outcome.twice += 1;
                outcome.problem(format!("{serial} and {other} have the same certificate"));
            }
        }
        if self.broker.things() != self.lives.len() {
            let things = self.broker.things();
            outcome.problem(format!("the registry has {things} things for {} devices", self.lives.len()));
        }
        if self.intruders > 0 {
            outcome.problem(format!("revoked devices were online {} times", self.intruders));
        }
        outcome.happened.broker_restarts = self.restarts;
        outcome.ok = outcome.problems.is_empty() && outcome.online == outcome.devices;
    }
}
