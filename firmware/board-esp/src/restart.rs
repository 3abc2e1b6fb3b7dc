//! Restarts: the watchdog, what a panic does, and how often in a row.

use core::cell::RefCell;

use critical_section::Mutex;
use esp_hal::rtc_cntl::{Rwdt, RwdtStage, RwdtStageAction};
use esp_hal::time::Duration;
use portable_atomic::{AtomicU32, Ordering::Relaxed};
use signet_device_core::backoff::restart_pause_secs;

/// Starts since the broker has taken a message. It survives every restart but that of the power.
#[esp_hal::ram(unstable(rtc_fast, persistent))]
static STARTS: AtomicU32 = AtomicU32::new(0);
static WATCHDOG: Mutex<RefCell<Option<Rwdt>>> = Mutex::new(RefCell::new(None));

/// Counts this start, and starts the watchdog. How many starts in a row have reached nobody.
pub fn begin(mut watchdog: Rwdt) -> u32 {
    // The longest that the agent may be busy with one thing. A handshake takes a few seconds.
    watchdog.set_timeout(RwdtStage::Stage0, Duration::from_secs(60));
    // Not the whole system: the count of starts stays.
    watchdog.set_stage_action(RwdtStage::Stage0, RwdtStageAction::ResetCore);
    watchdog.enable();
    critical_section::with(|section| WATCHDOG.borrow(section).replace(Some(watchdog)));
    let starts = STARTS.load(Relaxed).saturating_add(1);
    STARTS.store(starts, Relaxed);
    starts
}

/// The broker has taken a message: what runs works.
pub fn succeeded() {
    STARTS.store(0, Relaxed);
}

/// Whoever runs is alive.
pub fn feed() {
    critical_section::with(|section| {
        // A panic may come here from anywhere.
        if let Ok(mut watchdog) = WATCHDOG.borrow(section).try_borrow_mut() {
            watchdog.iter_mut().for_each(Rwdt::feed);
        }
    });
}

/// Waits without the executor.
pub fn pause(secs: u32) {
    for _ in 0..secs {
        feed();
        esp_hal::delay::Delay::new().delay_millis(1_000);
    }
}

/// After a panic: a restart, soon at first and later seldom. The trial of a new image counts its starts itself.
#[unsafe(no_mangle)]
extern "Rust" fn custom_halt() -> ! {
    pause(restart_pause_secs(STARTS.load(Relaxed)));
    esp_hal::system::software_reset()
}
