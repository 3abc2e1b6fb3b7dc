//! Time: the machine's timer, which never goes back, and the real-time clock as the time of day.

use core::ptr;

use signet_device_core::Now;
use signet_device_core::platform;

/// `mtime` of the CLINT, 10 MHz.
const MTIME: usize = 0x0200_bff8;
const MTIME_HZ: u64 = 10_000_000;
/// The goldfish real-time clock, nanoseconds since 1970.
const RTC: usize = 0x0010_1000;
/// A clock before this was never set: the first second of 2024.
const PLAUSIBLE_SECS: u64 = 1_704_067_200;

fn read32(address: usize) -> u32 {
    // SAFETY: both devices are mapped at these addresses on the `virt` machine, and reading them has no effect that
    // anything else relies on.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(address)) }
}

/// Ticks of the machine's timer.
pub fn ticks() -> u64 {
    loop {
        let high = read32(MTIME + 4);
        let low = read32(MTIME);
        if high == read32(MTIME + 4) {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

/// Milliseconds since the machine was switched on.
pub fn millis() -> u64 {
    ticks() / (MTIME_HZ / 1000)
}

/// Seconds since 1970, when the clock is set.
pub fn wall_secs() -> Option<u64> {
    // Reading the low word latches the high one.
    let low = read32(RTC);
    let secs = (u64::from(read32(RTC + 4)) << 32 | u64::from(low)) / 1_000_000_000;
    (secs >= PLAUSIBLE_SECS).then_some(secs)
}

/// The clocks of the machine.
pub struct Clocks;

impl platform::Clock for Clocks {
    fn now(&self) -> Now {
        Now { mono: millis(), wall: wall_secs() }
    }
}

/// The time of the network stack. It is polled without sleeping, so there is nobody to wake.
struct NetworkTime;

impl embassy_time_driver::Driver for NetworkTime {
    fn now(&self) -> u64 {
        ticks() / (MTIME_HZ / embassy_time_driver::TICK_HZ)
    }

    fn schedule_wake(&self, _: u64, _: &core::task::Waker) {}
}

embassy_time_driver::time_driver_impl!(static NETWORK_TIME: NetworkTime = NetworkTime);
