//! Kills of the broker at random moments, the same ones in every run with the same seed.

use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Kills unless `SIGNET_CRASH_CYCLES` says otherwise.
const CYCLES: u64 = 20;
/// Nothing that a broker is asked takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run of kills: how many, and by which seed.
pub(crate) struct Kills {
    pub(crate) cycles: u64,
    pub(crate) seed: u64,
    random: u64,
}

/// When the broker is killed: after so much work, and then within this time, in the middle of what comes next.
pub(crate) struct Moment {
    done: u64,
    life: Duration,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

impl Kills {
    /// As many as `SIGNET_CRASH_CYCLES` says, by this seed or that of `SIGNET_CRASH_SEED`.
    pub(crate) fn by(seed: u64) -> Self {
        let seed = setting("SIGNET_CRASH_SEED", seed);
        Self { cycles: setting("SIGNET_CRASH_CYCLES", CYCLES), seed, random: seed }
    }

    /// The next number below `bound`, of SplitMix64.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// The next moment: after less work than `done_max`, and less time than `life_max`.
    pub(crate) fn moment(&mut self, done_max: u64, life_max: Duration) -> Moment {
        let done = self.below(done_max);
        let life = Duration::from_micros(self.below(u64::try_from(life_max.as_micros()).unwrap()));
        Moment { done, life }
    }
}

impl Moment {
    /// Lets work be done, as `count` tells, until the moment is there, kills the broker and says that it is `over`.
    pub(crate) fn kill(&self, broker: &Child, count: &AtomicU64, over: &AtomicBool, said: &str) {
        let patience = Instant::now() + PATIENCE;
        while count.load(Ordering::Relaxed) < self.done {
            assert!(Instant::now() < patience, "{said}: no answers");
            pause();
        }
        // The moment of the kill is what is tried here, and nothing is waited for.
        std::thread::sleep(self.life);
        let process = rustix::process::Pid::from_raw(i32::try_from(broker.id()).unwrap()).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        over.store(true, Ordering::Relaxed);
    }
}

/// Leaves the processors to the broker for a moment.
pub(crate) fn pause() {
    std::thread::park_timeout(Duration::from_millis(1));
}
