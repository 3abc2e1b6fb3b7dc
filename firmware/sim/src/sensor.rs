//! One sensor in real time: a task that does what the state machine says, and breaks what the dice say.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use signet_device_core::telemetry::Reading;
use signet_device_core::{Action, Device, Event, Failure, Input, Message, Now, Rung};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::faults::{Dice, Faults};
use crate::link::{Broker, Heard, Link};
use crate::unit::{Simulated, Unit};

/// How long a time server takes.
const SNTP: Duration = Duration::from_millis(50);
/// The pause of a slow link: 256 bytes each.
const SLOW: Duration = Duration::from_millis(120);
/// The most writes until an armed power cut happens; an enrolment takes about 270, a rotation 180.
const CUT_WITHIN: u64 = 300;

/// What the fleet tells all sensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orders {
    /// What goes wrong from now on.
    pub(crate) faults: bool,
    /// How often everybody was told to rotate.
    pub(crate) rotations: u32,
}

/// What can be seen of a sensor from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) serial: String,
    pub(crate) thing: Option<String>,
    /// The SHA-256 of the certificate in use.
    pub(crate) certificate: Option<[u8; 32]>,
    pub(crate) online: bool,
    /// When the broker acknowledged a message last.
    pub(crate) acknowledged: Option<Instant>,
    /// From the first start until it was online as itself for the first time.
    pub(crate) enrolled_after: Option<Duration>,
    pub(crate) counts: Counts,
    pub(crate) last_alarm: Option<String>,
}

/// What happened to a sensor.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    pub(crate) rotations: u64,
    pub(crate) fallbacks: u64,
    pub(crate) power_cuts: u64,
    pub(crate) resets: u64,
    pub(crate) breaks: u64,
    pub(crate) slow: u64,
    pub(crate) wrong_clocks: u64,
    pub(crate) bad_claims: u64,
    pub(crate) refused: u64,
    pub(crate) rejected: u64,
    pub(crate) alarms: u64,
}

/// A sensor's view, shared with the fleet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<View>>);

impl Shared {
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that a sensor's task needs.
pub(crate) struct Sensor {
    pub(crate) unit: Unit,
    pub(crate) broker: Broker,
    pub(crate) faults: Faults,
    pub(crate) dice: Dice,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) shared: Shared,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Box<Link>, Failure>> + Send>>;

/// What lasts from one power-on to the next power-off.
struct Powered {
    device: Device<Simulated>,
    since: Instant,
    /// How far the clock is off, in seconds, once it is set.
    clock: Option<i64>,
    clock_at: Option<Instant>,
    connecting: Option<Connecting>,
    link: Option<Box<Link>>,
    reset_at: Option<Instant>,
    break_at: Option<Instant>,
}

/// Why the power went off.
enum Off {
    Cut,
    Reset,
    Commanded,
    Finished,
}

/// How far the fleet's orders are followed. A person would repeat an order that a power cut made the device forget.
#[derive(Default)]
struct Told {
    rotations: u32,
    /// The certificate that is to be replaced.
    had: Option<[u8; 32]>,
}

impl Told {
    /// Whether the device is to be told to rotate, when everybody was told so many times.
    fn wants_rotation(&mut self, rotations: u32, device: &Device<Simulated>) -> bool {
        if self.rotations == rotations || !matches!(device.online(), Some(Rung::Own(_))) {
            return false;
        }
        let has = device.credential().map(|credential| credential.leaf.id().0);
        let had = *self.had.get_or_insert(has.unwrap_or_default());
        if has != Some(had) {
            (self.rotations, self.had) = (rotations, None);
            return false;
        }
        !device.is_rotating()
    }
}

/// What woke the task.
enum Woken {
    Time,
    Connected(Result<Box<Link>, Failure>),
    Heard(Result<Heard, Failure>),
    ClockSet,
    Reset,
    Break,
    Orders(bool),
}

impl Sensor {
    /// Runs until the fleet is gone.
    pub(crate) async fn run(mut self) {
        let first = Instant::now();
        let mut told = Told::default();
        loop {
            let off = self.powered(first, &mut told).await;
            if self.has_ended(&off) {
                return;
            }
            sleep(Duration::from_millis(50 + self.dice.below(1_500))).await;
        }
    }

    /// Notes why the power went off; whether that was the end.
    fn has_ended(&self, off: &Off) -> bool {
        let mut view = self.shared.view();
        view.online = false;
        match off {
            Off::Finished => return true,
            Off::Cut => view.counts.power_cuts += 1,
            Off::Reset => view.counts.resets += 1,
            Off::Commanded => {}
        }
        false
    }

    fn is_faulty(&self) -> bool {
        self.orders.borrow().faults
    }

    async fn powered(&mut self, first: Instant, told: &mut Told) -> Off {
        let mut actions = Vec::new();
        let now = Now { mono: 0, wall: None };
        let device = self.unit.boot(now, &mut actions);
        let mut power = Powered {
            device,
            since: Instant::now(),
            clock: None,
            clock_at: None,
            connecting: None,
            link: None,
            reset_at: None,
            break_at: None,
        };
        if self.is_faulty() {
            self.arm(&mut power);
        }
        loop {
            let off = self.perform(&mut power, &mut actions, first, told).await;
            if let Some(off) = off {
                return off;
            }
            let woken = self.wait(&mut power).await;
            if let Some(off) = self.woken(woken, &mut power, &mut actions).await {
                return off;
            }
        }
    }

    /// Sets the traps of this power-on.
    fn arm(&mut self, power: &mut Powered) {
        let now = Instant::now();
        if self.dice.happens(self.faults.cuts) {
            let (nth, noise) = (1 + self.dice.below(CUT_WITHIN), self.dice.roll());
            self.unit.flash.cut_power_in(nth, noise);
        }
        power.reset_at = self.faults.resets.map(|mean| now + self.dice.next(mean));
    }

    /// Waits for the next thing that happens.
    async fn wait(&mut self, power: &mut Powered) -> Woken {
        let deadline = Duration::from_millis(power.device.next_deadline().min(3_600_000));
        let deadline = (power.since + deadline).max(Instant::now() + Duration::from_millis(1));
        let far = Instant::now() + Duration::from_secs(3_600);
        let clock_at = power.clock_at.unwrap_or(far);
        let (reset_at, break_at) = (power.reset_at.unwrap_or(far), power.break_at.unwrap_or(far));
        let connecting = async {
            match power.connecting.as_mut() {
                Some(connecting) => connecting.await,
                None => std::future::pending().await,
            }
        };
        let heard = async {
            match power.link.as_mut() {
                Some(link) => link.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep_until(deadline) => Woken::Time,
            connected = connecting => Woken::Connected(connected),
            heard = heard => Woken::Heard(heard),
            () = sleep_until(clock_at) => Woken::ClockSet,
            () = sleep_until(reset_at) => Woken::Reset,
            () = sleep_until(break_at) => Woken::Break,
            changed = self.orders.changed() => Woken::Orders(changed.is_ok()),
        }
    }

    /// Tells the device what happened.
    async fn woken(&mut self, woken: Woken, power: &mut Powered, actions: &mut Vec<Action>) -> Option<Off> {
        match woken {
            Woken::Time => power.handle(Input::Tick, actions),
            Woken::ClockSet => {
                power.clock_at = None;
                power.clock = Some(self.time_server());
                power.handle(Input::Tick, actions);
            }
            Woken::Connected(result) => {
                power.connecting = None;
                match result {
                    Ok(link) => {
                        power.link = Some(link);
                        let breaks = self.faults.breaks.filter(|_| self.is_faulty());
                        power.break_at = breaks.map(|mean| Instant::now() + self.dice.next(mean));
                        self.shared.view().counts.connections += 1;
                        power.handle(Input::Connected, actions);
                    }
                    Err(failure) => power.handle(Input::Ended(failure), actions),
                }
            }
            Woken::Heard(Ok(heard)) => self.heard(heard, power, actions).await,
            Woken::Heard(Err(failure)) => power.lose(failure, actions),
            Woken::Reset => return Some(Off::Reset),
            Woken::Break => {
                self.shared.view().counts.breaks += 1;
                power.lose(Failure::Lost, actions);
            }
            Woken::Orders(false) => return Some(Off::Finished),
            Woken::Orders(true) => self.obey(power),
        }
        None
    }

    /// The fleet has new orders.
    fn obey(&mut self, power: &mut Powered) {
        if self.is_faulty() {
            self.arm(power);
        } else {
            self.unit.flash.power_on();
            (power.reset_at, power.break_at) = (None, None);
        }
    }

    /// What the time server says: how far it is off.
    fn time_server(&mut self) -> i64 {
        const YEAR: i64 = 365 * 86_400;
        if self.is_faulty() && self.dice.happens(self.faults.wrong_clocks) {
            self.shared.view().counts.wrong_clocks += 1;
            return if self.dice.happens(500) { -6 * YEAR } else { 14 * YEAR };
        }
        0
    }

    async fn heard(&mut self, heard: Heard, power: &mut Powered, actions: &mut Vec<Action>) {
        match heard {
            Heard::Subscribed(id, granted) => power.handle(Input::Subscribed { id, granted }, actions),
            Heard::Acknowledged(id, accepted) => {
                let mut view = self.shared.view();
                if accepted && matches!(power.device.online(), Some(Rung::Own(_))) {
                    view.acknowledged = Some(Instant::now());
                    view.counts.messages += 1;
                }
                drop(view);
                power.handle(Input::Acknowledged { id, accepted }, actions);
            }
            Heard::Message(message) => {
                let acknowledged = match power.link.as_mut() {
                    Some(link) => link.acknowledge(&message).await,
                    None => Ok(()),
                };
                let (topic, payload) = (message.topic.as_str(), &message.payload[..]);
                power.handle(Input::Message(Message { topic, payload, retained: message.retain }), actions);
                if let Err(failure) = acknowledged {
                    power.lose(failure, actions);
                }
            }
        }
    }

    /// Does what the device says, until it says nothing more.
    async fn perform(
        &mut self,
        power: &mut Powered,
        actions: &mut Vec<Action>,
        first: Instant,
        told: &mut Told,
    ) -> Option<Off> {
        if told.wants_rotation(self.orders.borrow().rotations, &power.device) {
            power.handle(Input::RotateNow, actions);
        }
        while !actions.is_empty() {
            // The chip is dead from the word on that was cut; what it wanted to do after it does not happen.
            if self.unit.flash.is_cut() {
                return Some(Off::Cut);
            }
            for action in std::mem::take(actions) {
                if let Some(off) = self.act(action, power, actions).await {
                    return Some(off);
                }
            }
        }
        self.look(power, first);
        None
    }

    async fn act(&mut self, action: Action, power: &mut Powered, next: &mut Vec<Action>) -> Option<Off> {
        match action {
            Action::Connect(connect) => {
                power.link = None;
                let slow = self.is_faulty() && self.dice.happens(self.faults.slow);
                self.shared.view().counts.slow += u64::from(slow);
                let off = power.clock.unwrap_or(0);
                let pause = slow.then_some(SLOW);
                let broker = self.broker.clone();
                power.connecting =
                    Some(Box::pin(
                        async move { Link::connect(broker, connect, off, pause).await.map(Box::new) },
                    ));
            }
            Action::Subscribe { id, filters } => {
                if let Some(link) = power.link.as_mut()
                    && let Err(failure) = link.subscribe(id, filters).await
                {
                    power.lose(failure, next);
                }
            }
            Action::Publish(publish) => {
                if let Some(link) = power.link.as_mut()
                    && let Err(failure) = link.publish(publish).await
                {
                    power.lose(failure, next);
                }
            }
            Action::Disconnect => {
                power.connecting = None;
                if let Some(link) = power.link.take() {
                    link.disconnect().await;
                }
            }
            Action::SetClock => {
                power.clock_at.get_or_insert(Instant::now() + SNTP);
            }
            Action::Sample => {
                let reading = Reading {
                    centi_celsius: 2_000 + self.dice.below(500) as i16,
                    centi_percent: 4_000 + self.dice.below(2_000) as u16,
                };
                power.handle(Input::Sampled(Some(reading)), next);
            }
            Action::Identify(_) => {}
            Action::Reboot(_) => return Some(Off::Commanded),
            Action::Event(event) => self.note(&event),
        }
        None
    }

    fn note(&self, event: &Event) {
        let mut view = self.shared.view();
        match event {
            Event::Rotated(_) => view.counts.rotations += 1,
            Event::FellBack(_) => view.counts.fallbacks += 1,
            Event::Refused(..) => view.counts.refused += 1,
            Event::Rejected(_) => view.counts.rejected += 1,
            _ => {}
        }
        // Power failed: what the device says about its flash is the cut and no more.
        if event.is_alarm() && !self.unit.flash.is_cut() {
            view.counts.alarms += 1;
            view.last_alarm = Some(format!("{event:?}"));
        }
    }

    /// Lets the fleet see how the device is.
    fn look(&self, power: &Powered, first: Instant) {
        let mut view = self.shared.view();
        view.online = matches!(power.device.online(), Some(Rung::Own(_)));
        if view.online {
            view.thing = power.device.thing().map(str::to_owned);
            view.certificate = power.device.credential().map(|credential| credential.leaf.id().0);
            view.enrolled_after.get_or_insert(first.elapsed());
        }
    }
}

impl Powered {
    fn handle(&mut self, input: Input<'_>, actions: &mut Vec<Action>) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let wall = self.clock.map(|off| seconds.saturating_add_signed(off));
        let mono = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.device.handle(Now { mono, wall }, input, actions);
    }

    /// The connection is gone.
    fn lose(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        self.link = None;
        self.connecting = None;
        self.break_at = None;
        self.handle(Input::Ended(failure), actions);
    }
}
