//! The one place of the broker that reads the clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustls::time_provider::TimeProvider;
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

/// The time by which certificates are judged: the wall clock, but never less than what has passed since it was last taken
/// for right. A clock that is set back makes no certificate good again that has ended meanwhile.
#[derive(Debug)]
pub struct JudgingClock(Mutex<Now>);

impl JudgingClock {
    /// The wall clock is right now.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self(Mutex::new(now))
    }

    /// An operator says that the wall clock is right now.
    pub fn trust(&self, now: Now) {
        *self.0.lock() = now;
    }

    /// The time at `now`.
    #[must_use]
    pub fn wall(&self, now: Now) -> Wall {
        let right = *self.0.lock();
        now.wall.max(right.wall.after(now.mono.since(right.mono)))
    }
}

/// The clocks of a running broker, and the time by which it judges. Handshakes ask it too, so that a clock that is set back
/// neither revives what has ended nor turns those away whose certificate begins after what it shows.
#[derive(Debug)]
pub struct Judge {
    clock: Clock,
    judging: JudgingClock,
}

impl Judge {
    /// The wall clock is right now.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, judging: JudgingClock::new(clock.now()) }
    }

    /// The clocks.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// [`JudgingClock::trust`], now.
    pub fn trust(&self) {
        self.judging.trust(self.clock.now());
    }

    /// [`JudgingClock::wall`], now.
    #[must_use]
    pub fn wall(&self) -> Wall {
        self.judging.wall(self.clock.now())
    }

    /// The same, as certificates have it.
    #[must_use]
    pub fn unix_time(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.wall().0))
    }
}

impl TimeProvider for Judge {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix_time())
    }
}

/// How far the wall clock may be from where the monotonic clock says it should be. Slewing it is far below that.
const JUMP_MIN: Duration = Duration::from_secs(5);

/// The wall clock was set, or the machine slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// By how much.
    pub by: Duration,
    /// Whether it shows a later time than it should.
    pub forward: bool,
}

/// Notices that the wall clock was set: it and the monotonic clock no longer agree on how much time has passed.
#[derive(Debug, Clone, Copy)]
pub struct JumpWatch {
    last: Now,
}

impl JumpWatch {
    /// A watch that begins now.
    #[must_use]
    pub const fn new(now: Now) -> Self {
        Self { last: now }
    }

    /// What happened since the last look. Each jump is told once.
    pub fn look(&mut self, now: Now) -> Option<Jump> {
        let expected = self.last.wall.after(now.mono.since(self.last.mono));
        self.last = now;
        let by = Duration::from_millis(now.wall.0.abs_diff(expected.0));
        (by >= JUMP_MIN).then_some(Jump { by, forward: now.wall > expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: u64, wall: u64) -> Now {
        Now { mono: Mono::new(Duration::from_secs(mono)), wall: Wall(wall * 1000) }
    }

    #[test]
    fn time_that_passes_on_both_clocks_is_no_jump() {
        let mut watch = JumpWatch::new(at(0, 1_000_000));
        for step in 1..1000 {
            // A clock that is slewed goes wrong by half a second in a quarter of an hour.
            assert_eq!(watch.look(at(step * 900, 1_000_000 + step * 900 + step / 2)), None);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_good_again_until_somebody_says_that_it_is_right() {
        let (day, year) = (86_400, 365 * 86_400);
        let start = 1_800_000_000;
        let clock = JudgingClock::new(at(0, start));
        assert_eq!(clock.wall(at(100, start + 100)), Wall((start + 100) * 1000));
        assert_eq!(clock.wall(at(200, start + 200 - day)), Wall((start + 200) * 1000), "a day back");
        assert_eq!(clock.wall(at(300, 300)), Wall((start + 300) * 1000), "1970");
        let later = start + 10 * year;
        assert_eq!(clock.wall(at(400, later)), Wall(later * 1000), "ten years on: to be refused is safe");
        assert_eq!(clock.wall(at(500, start + 500)), Wall((start + 500) * 1000), "and back");
        clock.trust(at(600, start - day));
        assert_eq!(clock.wall(at(700, start - day + 100)), Wall((start - day + 100) * 1000));
    }

    #[test]
    fn ten_years_on_and_back_are_two_jumps_of_that_size() {
        let mut watch = JumpWatch::new(at(0, 1_000_000));
        let by = Duration::from_secs(3650 * 86_400);
        assert_eq!(watch.look(at(5, 1_000_005 + by.as_secs())), Some(Jump { by, forward: true }));
        assert_eq!(watch.look(at(10, 1_000_010)), Some(Jump { by, forward: false }));
        assert_eq!(watch.look(at(15, 1_000_015)), None);
    }

    #[test]
    fn a_clock_that_is_set_is_told_once_for_each_time() {
        let mut watch = JumpWatch::new(at(0, 1_000_000));
        let day = 86_400;
        assert_eq!(
            watch.look(at(5, 1_000_005 + day)),
            Some(Jump { by: Duration::from_secs(day), forward: true })
        );
        assert_eq!(watch.look(at(10, 1_000_010 + day)), None);
        assert_eq!(
            watch.look(at(15, 15)),
            Some(Jump { by: Duration::from_secs(1_000_000 + day), forward: false })
        );
        assert_eq!(watch.look(at(20, 20)), None);
    }
}
