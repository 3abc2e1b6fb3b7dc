//! The board under the agent: time, the time server, a pretended sensor, and what can be seen of it from outside.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use signet_device_agent::Runtime;
use signet_device_core::ota::Outcome;
use signet_device_core::platform::Clock;
use signet_device_core::telemetry::Reading;
use signet_device_core::{Connect, Event, Now, Rung};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::faults::{Dice, Faults};
use crate::flash::Flash;
use crate::outcome::Happened;

/// How long a time server takes.
const SNTP: Duration = Duration::from_millis(50);
/// What a wrong time server is off.
const YEAR: i64 = 365 * 86_400;

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
    /// The version of the firmware that runs.
    pub(crate) version: Option<String>,
    /// From the first start until it was online as itself for the first time.
    pub(crate) enrolled_after: Option<Duration>,
    pub(crate) counts: Happened,
    pub(crate) last_alarm: Option<String>,
}

/// A sensor's view, shared with the fleet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<View>>);

impl Shared {
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With what a connection is tried.
struct Tried {
    certificate: [u8; 32],
    name: String,
}

/// How far the fleet's orders are followed. A person would repeat an order that a power cut made the device forget.
#[derive(Default)]
struct Told {
    rotations: u32,
    /// The certificate that is to be replaced.
    had: Option<[u8; 32]>,
    /// The device has the order, and has not given it up.
    under_way: bool,
}

/// One board, through all its boots.
pub(crate) struct Board {
    flash: Flash,
    pub(crate) shared: Shared,
    faults: Faults,
    dice: RefCell<Dice>,
    orders: RefCell<watch::Receiver<Orders>>,
    /// When it was switched on first, and last.
    first: Instant,
    since: Cell<Instant>,
    /// How far the clock is off, in seconds, once it is set.
    clock: Cell<Option<i64>>,
    clock_at: Cell<Option<Instant>>,
    tried: RefCell<Option<Tried>>,
    told: RefCell<Told>,
    dead: Notify,
}

impl Board {
    pub(crate) fn new(
        flash: Flash,
        shared: Shared,
        faults: Faults,
        dice: Dice,
        orders: watch::Receiver<Orders>,
    ) -> Self {
        let now = Instant::now();
        Self {
            flash,
            shared,
            faults,
            dice: RefCell::new(dice),
            orders: RefCell::new(orders),
            first: now,
            since: Cell::new(now),
            clock: Cell::new(None),
            clock_at: Cell::new(None),
            tried: RefCell::default(),
            told: RefCell::default(),
            dead: Notify::new(),
        }
    }

    /// The power is on.
    pub(crate) fn power_on(&self) {
        self.since.set(Instant::now());
        self.clock.set(None);
        self.clock_at.set(None);
        self.told.borrow_mut().under_way = false;
    }

    /// Waits until the power fails in the middle of a write.
    pub(crate) async fn power_fails(&self) {
        self.dead.notified().await;
    }

    /// Whether the chip has power. From the word on that was cut, nothing that it does reaches anybody.
    pub(crate) fn is_alive(&self) -> bool {
        let alive = !self.flash.is_cut();
        if !alive {
            self.dead.notify_one();
        }
        alive
    }

    /// Ends at once on a chip with power, and never on one without.
    pub(crate) async fn powered(&self) {
        if !self.is_alive() {
            pending::<()>().await;
        }
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.orders.borrow().borrow().faults
    }

    /// The faults, while there are any.
    pub(crate) fn faults(&self) -> Option<Faults> {
        self.is_faulty().then_some(self.faults)
    }

    pub(crate) fn happens(&self, per_mille: u32) -> bool {
        per_mille > 0 && self.dice.borrow_mut().happens(per_mille)
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.dice.borrow_mut().below(bound)
    }

    pub(crate) fn next(&self, mean: Duration) -> Duration {
        self.dice.borrow_mut().next(mean)
    }

    /// How far the clock is off.
    pub(crate) fn clock_off(&self) -> i64 {
        self.clock.get().unwrap_or(0)
    }

    /// A connection is tried.
    pub(crate) fn tries(&self, with: &Connect) {
        let certificate = Sha256::digest(&with.certificate).into();
        self.tried.replace(Some(Tried { certificate, name: with.client_id.clone() }));
    }

    /// What the time server says: how far it is off.
    fn time_server(&self) -> i64 {
        if self.happens(self.faults().map_or(0, |faults| faults.wrong_clocks)) {
            self.shared.view().counts.wrong_clocks += 1;
            return if self.happens(500) { -6 * YEAR } else { 14 * YEAR };
        }
        0
    }

    /// Online as itself.
    fn online(&self) {
        let mut view = self.shared.view();
        view.online = true;
        if let Some(Tried { certificate, name }) = &*self.tried.borrow() {
            view.certificate = Some(*certificate);
            view.thing = Some(name.clone());
        }
        view.enrolled_after.get_or_insert(self.first.elapsed());
    }
}

/// What the agent sees of its board.
pub(crate) struct Powered(pub(crate) Rc<Board>);

impl Clock for Powered {
    fn now(&self) -> Now {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let wall = self.0.clock.get().map(|off| seconds.saturating_add_signed(off));
        Now { mono: u64::try_from(self.0.since.get().elapsed().as_millis()).unwrap_or(u64::MAX), wall }
    }
}

impl Runtime for Powered {
    async fn until(&self, mono: u64) {
        self.0.powered().await;
        // A deadline may be as far away as there are numbers.
        let far = Duration::from_secs(365 * 86_400);
        sleep_until(self.0.since.get() + Duration::from_millis(mono).min(far)).await;
    }

    fn set_clock(&mut self) {
        if self.0.clock_at.get().is_none() {
            self.0.clock_at.set(Some(Instant::now() + SNTP));
        }
    }

    async fn roused(&self) {
        let board = &self.0;
        let mut orders = board.orders.borrow().clone();
        let clock = async {
            match board.clock_at.get() {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let told = async {
            if orders.changed().await.is_err() {
                // The fleet is gone, and this board soon.
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = clock => {
                board.clock_at.set(None);
                board.clock.set(Some(board.time_server()));
            }
            () = told => {
                board.orders.replace(orders);
            }
        }
    }

    async fn sample(&mut self) -> Option<Reading> {
        let centi_celsius = 2_000 + i16::try_from(self.0.below(500)).unwrap_or_default();
        let centi_percent = 4_000 + u16::try_from(self.0.below(2_000)).unwrap_or_default();
        Some(Reading { centi_celsius, centi_percent })
    }

    fn rotation_wanted(&mut self) -> bool {
        let wanted = self.0.orders.borrow().borrow().rotations;
        let mut told = self.0.told.borrow_mut();
        if told.rotations == wanted {
            return false;
        }
        let (online, has) = {
            let view = self.0.shared.view();
            (view.online, view.certificate)
        };
        let Some(has) = has.filter(|_| online) else { return false };
        if *told.had.get_or_insert(has) != has {
            *told = Told { rotations: wanted, ..Told::default() };
            return false;
        }
        !std::mem::replace(&mut told.under_way, true)
    }

    fn acknowledged(&mut self) {
        let mut view = self.0.shared.view();
        if view.online {
            view.acknowledged = Some(Instant::now());
            view.counts.messages += 1;
        }
    }

    fn identify(&mut self, _: u16) {}

    fn note(&mut self, event: &Event) {
        // Power failed: what the device says about its flash is the cut and no more.
        if !self.0.is_alive() {
            return;
        }
        match event {
            Event::Online(Rung::Own(_)) => self.0.online(),
            Event::RotationAborted => self.0.told.borrow_mut().under_way = false,
            _ => {}
        }
        let mut view = self.0.shared.view();
        match event {
            Event::Online(_) => view.counts.connections += 1,
            Event::Rotated(_) => view.counts.rotations += 1,
            Event::FellBack(_) => view.counts.fallbacks += 1,
            Event::Refused(..) => view.counts.refused += 1,
            Event::Rejected(_) => view.counts.rejected += 1,
            Event::Update(Outcome::Confirmed) => view.counts.updates += 1,
            Event::Update(Outcome::Reverted) => view.counts.reverts += 1,
            Event::Update(Outcome::Refused(_)) => view.counts.images_refused += 1,
            _ => {}
        }
        if event.is_alarm() {
            view.counts.alarms += 1;
            view.last_alarm = Some(format!("{event:?}"));
        }
    }
}
