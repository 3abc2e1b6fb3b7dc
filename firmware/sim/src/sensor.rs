//! One sensor in real time: the firmware's agent on a board whose power and network fail as the dice say.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use signet_device_agent::run;
use signet_device_core::{Action, Now};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::{Board, Orders, Powered, Shared};
use crate::faults::{Dice, Faults};
use crate::link::{Broker, Rustls};
use crate::release::Kind;
use crate::unit::Unit;

/// The most writes until an armed power cut happens; an enrolment takes about 270, a rotation 180.
const CUT_WITHIN: u64 = 300;

/// Everything that a sensor is made of.
pub(crate) struct Sensor {
    pub(crate) unit: Unit,
    pub(crate) broker: Broker,
    pub(crate) faults: Faults,
    pub(crate) dice: Dice,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) shared: Shared,
}

/// Why the power went off.
enum Off {
    Cut,
    Reset,
    Commanded,
    Finished,
}

impl Sensor {
    /// Runs until the fleet is gone.
    pub(crate) async fn run(mut self) {
        let (shared, orders) = (self.shared.clone(), self.orders.clone());
        let flash = self.unit.flash.clone();
        let board = Rc::new(Board::new(flash, shared, self.faults, self.dice.clone(), orders));
        loop {
            let off = self.powered(&board).await;
            if self.has_ended(&off) {
                return;
            }
            sleep(Duration::from_millis(50 + board.below(1_500))).await;
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

    /// From one power-on to the next power-off.
    async fn powered(&mut self, board: &Rc<Board>) -> Off {
        board.power_on();
        self.unit.power_on();
        let mut reset_at = None;
        if let Some(faults) = board.faults() {
            if board.happens(faults.cuts) {
                self.unit.flash.cut_power_in(1 + board.below(CUT_WITHIN), board.below(u64::MAX));
            }
            reset_at = faults.resets.map(|mean| Instant::now() + board.next(mean));
        }
        let running = self.unit.runs().1;
        self.shared.view().version = running.as_ref().map(|(version, _)| version.clone());
        let mut actions = Vec::new();
        let mut device = self.unit.start(Now { mono: 0, wall: None }, &mut actions);
        let gives_up = actions.iter().any(|action| matches!(action, Action::Reboot(_)));
        if running.is_some_and(|(_, kind)| kind == Kind::Crashing) && !gives_up {
            return if self.unit.flash.is_cut() { Off::Cut } else { Off::Reset };
        }
        let mut connector = Rustls { broker: self.broker.clone(), board: Rc::clone(board) };
        let mut runtime = Powered(Rc::clone(board));
        let agent = pin!(run(&mut device, actions, &mut connector, &mut runtime));
        let reset = async {
            match reset_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
            if !board.is_faulty() {
                std::future::pending::<()>().await;
            }
        };
        let (flash, orders) = (&self.unit.flash, &mut self.orders);
        let over = async {
            while orders.changed().await.is_ok() {
                if !orders.borrow().faults && !flash.is_cut() {
                    flash.power_on();
                }
            }
        };
        tokio::select! {
            biased;
            () = board.power_fails() => Off::Cut,
            () = over => Off::Finished,
            () = reset => Off::Reset,
            _ = agent => if self.unit.flash.is_cut() { Off::Cut } else { Off::Commanded },
        }
    }
}
