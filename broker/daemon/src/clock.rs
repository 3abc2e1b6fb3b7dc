//! The one place of the broker that reads the clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;
use signet_core::{Mono, Now, Wall};

/// Monotonic time since its creation, and the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), wall: wall() }
    }

    /// Monotonic time.
    pub fn mono(&self) -> Mono {
        Mono::new(self.started.elapsed())
    }

    /// The instant of the runtime's timers that corresponds to `at`; far in the future when it cannot be represented.
    pub fn instant(&self, at: Mono) -> tokio::time::Instant {
        let far = Duration::from_secs(365 * 24 * 3600);
        let std = self.started.checked_add(at.elapsed()).unwrap_or_else(|| self.started + far);
        tokio::time::Instant::from_std(std)
    }
}

/// The wall clock; 1970 when it stands before that.
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The wall clock, as certificates are judged by.
pub fn unix_time() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(wall().0))
}
