//! When to come back: exponential back-off with full jitter, so that a fleet does not return at once.

use crate::platform::Rng;

/// Doubles a window from `base_ms` to `cap_ms` and picks a moment in it.
#[derive(Debug, Clone)]
pub struct Backoff {
    base_ms: u64,
    cap_ms: u64,
    attempt: u32,
}

impl Backoff {
    /// A back-off with these bounds, in milliseconds.
    #[must_use]
    pub const fn new(base_ms: u64, cap_ms: u64) -> Self {
        Self { base_ms, cap_ms, attempt: 0 }
    }

    /// How long to wait now: anything from nothing to the whole window, which then doubles.
    pub fn next(&mut self, rng: &mut impl Rng) -> u64 {
        let window = self.window();
        self.attempt = self.attempt.saturating_add(1);
        rng.below(window.saturating_add(1))
    }

    /// The window of the next wait.
    #[must_use]
    pub fn window(&self) -> u64 {
        let doubled = 1_u64.checked_shl(self.attempt).and_then(|n| n.checked_mul(self.base_ms));
        doubled.unwrap_or(self.cap_ms).min(self.cap_ms)
    }

    /// Starts over: it worked.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// How long to pause before the next restart, in seconds, after `starts` starts in a row that reached nobody. The first few are
/// quick, since most faults are over then; who crashes at every start does not wear itself out, and comes back within the hour.
#[must_use]
pub const fn restart_pause_secs(starts: u32) -> u32 {
    match starts {
        0..=3 => 1,
        4..=14 => 1 << (starts - 3),
        _ => 3_600,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(u64);

    impl Rng for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (self.0 >> 56) as u8;
            }
        }
    }

    #[test]
    fn the_window_doubles_to_its_cap_and_a_wait_lies_anywhere_in_it() {
        let (mut backoff, mut rng) = (Backoff::new(1_000, 60_000), Counting(1));
        for window in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert_eq!(backoff.window(), window);
            assert!(backoff.next(&mut rng) <= window);
        }
        for _ in 0..100 {
            assert!(backoff.next(&mut rng) <= 60_000, "it never overflows");
        }
        backoff.reset();
        assert_eq!(backoff.window(), 1_000);
    }

    #[test]
    fn a_thousand_devices_do_not_come_back_at_once() {
        let mut buckets = [0_u32; 10];
        for seed in 0..1_000 {
            let wait = Backoff::new(10_000, 60_000).next(&mut Counting(seed * 7_919));
            buckets[(wait / 1_001) as usize] += 1;
        }
        assert!(buckets.iter().all(|bucket| (50..200).contains(bucket)), "{buckets:?}");
    }

    #[test]
    fn a_device_that_crashes_at_every_start_pauses_longer_and_never_more_than_an_hour() {
        let pauses: std::vec::Vec<u32> = (0..40).map(restart_pause_secs).collect();
        assert!(pauses.is_sorted());
        assert_eq!((pauses[3], pauses[4], pauses[14], pauses[39]), (1, 2, 2_048, 3_600));
        assert_eq!(restart_pause_secs(u32::MAX), 3_600);
    }
}
