//! The clocks of Mbed TLS: those of the device.

use mbedtls_rs::sys::hook::timer::{MbedtlsTimer, hook_timer};
use mbedtls_rs::sys::hook::wall_clock::{MbedtlsWallClock, hook_wall_clock};
use mbedtls_rs::sys::tm;
use signet_device_core::platform::Clock;

use crate::broken_down;

/// A clock of the device for Mbed TLS.
pub struct TlsClock<C>(pub C);

impl<C: Clock> MbedtlsTimer for TlsClock<C> {
    fn now(&self) -> i64 {
        i64::try_from(self.0.now().mono).unwrap_or(i64::MAX)
    }
}

impl<C: Clock> MbedtlsWallClock for TlsClock<C> {
    fn instant(&self) -> Option<tm> {
        self.0.now().wall.and_then(broken_down)
    }
}

impl<C: Clock + Send + Sync> TlsClock<C> {
    /// Lets Mbed TLS go by this clock.
    ///
    /// # Safety
    ///
    /// Nothing of Mbed TLS runs yet, and the clock works from now on.
    #[allow(unsafe_code, reason = "Mbed TLS keeps its hooks in statics")]
    pub unsafe fn hook(&'static self) {
        // SAFETY: the caller's promise.
        unsafe {
            hook_timer(Some(self));
            hook_wall_clock(Some(self));
        }
    }
}
