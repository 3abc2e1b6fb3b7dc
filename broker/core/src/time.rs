//! Time as an argument: this crate never reads a clock.

use std::time::Duration;

/// Monotonic time since the broker's start. All intervals of the protocol (keep alive, will delay, session and
/// message expiry) are measured on it, so a step of the wall clock disconnects nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(Duration);

impl Mono {
    /// The broker's start.
    pub const START: Self = Self(Duration::ZERO);

    /// The instant `elapsed` after the broker's start.
    #[must_use]
    pub const fn new(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the broker's start this is.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// This instant plus `by`; the end of time when that cannot be represented.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// This instant plus whole seconds.
    #[must_use]
    pub const fn after_secs(self, secs: u32) -> Self {
        self.after(Duration::from_secs(secs as u64))
    }

    /// How long after `earlier` this is; zero when it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Wall-clock time, in milliseconds since 1970-01-01 UTC. Only shown to people and written to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl Wall {
    /// This instant plus `by`, to the millisecond.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The two clocks, read once by the caller for one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For every decision.
    pub mono: Mono,
    /// For people and for what outlives the process.
    pub wall: Wall,
}

impl Now {
    /// What the wall clock shows at `at`, if nobody sets it.
    #[must_use]
    pub fn wall_at(self, at: Mono) -> Wall {
        if at >= self.mono {
            return self.wall.after(at.since(self.mono));
        }
        let before = u64::try_from(self.mono.since(at).as_millis()).unwrap_or(u64::MAX);
        Wall(self.wall.0.saturating_sub(before))
    }

    /// When the wall clock shows `at`, if nobody sets it; the broker's start when that was before.
    #[must_use]
    pub fn mono_at(self, at: Wall) -> Mono {
        match at.0.checked_sub(self.wall.0) {
            Some(ahead) => self.mono.after(Duration::from_millis(ahead)),
            None => {
                let behind = Duration::from_millis(self.wall.0 - at.0);
                Mono::new(self.mono.elapsed().saturating_sub(behind))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clock_tells_what_the_other_shows() {
        let now = Now { mono: Mono::new(Duration::from_secs(100)), wall: Wall(1_000_000) };
        for secs in [0_i64, 50, 100, 101, 5000] {
            let mono = Mono::new(Duration::from_secs(secs as u64));
            let wall = Wall((1_000_000 + (secs - 100) * 1000) as u64);
            assert_eq!(now.wall_at(mono), wall);
            assert_eq!(now.mono_at(wall), mono);
        }
        assert_eq!(now.mono_at(Wall(0)), Mono::START);
        assert_eq!(Now { wall: Wall(5), ..now }.wall_at(Mono::START), Wall(0));
    }
}
