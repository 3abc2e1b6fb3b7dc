//! Time: the chip's timer, and the time of day once SNTP has told it.

use core::cell::Cell;

use critical_section::Mutex;
use embassy_net::Stack;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use signet_device_core::Now;
use signet_device_core::platform::Clock;
use signet_device_tls::net::ask_time;

use crate::Random;

/// Unix seconds at the start of the timer.
static EPOCH: Mutex<Cell<Option<u64>>> = Mutex::new(Cell::new(None));
/// Somebody wants to know what time it is.
pub static WANTED: Signal<CriticalSectionRawMutex, ()> = Signal::new();
/// The clock was set.
pub static SET: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often the time is asked for anew, for the drift of the crystal.
const AGAIN_AFTER: Duration = Duration::from_secs(6 * 3600);

/// The chip's clocks.
pub struct Clocks;

impl Clock for Clocks {
    fn now(&self) -> Now {
        let epoch = critical_section::with(|section| EPOCH.borrow(section).get());
        let now = Instant::now();
        Now { mono: now.as_millis(), wall: epoch.map(|epoch| epoch + now.as_secs()) }
    }
}

/// Asks the time server for the time of day whenever somebody wants to know it, and every six hours.
#[embassy_executor::task]
pub async fn keep(stack: Stack<'static>, mut random: Random) {
    let server = option_env!("SIGNET_NTP_SERVER").unwrap_or("pool.ntp.org");
    loop {
        stack.wait_config_up().await;
        match with_timeout(ANSWER_WITHIN, ask_time(stack, server, &mut random)).await {
            Ok(Some(secs)) => {
                let epoch = secs.saturating_sub(Instant::now().as_secs());
                critical_section::with(|section| EPOCH.borrow(section).set(Some(epoch)));
                SET.signal(());
            }
            _ => {
                log::warn!("no time from {server}; allow UDP 123 to it, or name another server at build time")
            }
        }
        WANTED.reset();
        let again = if Clocks.now().wall.is_some() { AGAIN_AFTER } else { ANSWER_WITHIN };
        embassy_futures::select::select(WANTED.wait(), Timer::after(again)).await;
    }
}
