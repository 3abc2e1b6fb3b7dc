//! Latencies and their percentiles.

use std::time::Duration;

/// The percentiles of a distribution that are kept.
const KEPT: [f64; 13] = [0.0, 1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0];

/// Latencies of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    sorted: Vec<Duration>,
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<T: IntoIterator<Item = Duration>>(all: T) -> Self {
        let mut sorted: Vec<Duration> = all.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

impl Latencies {
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// In milliseconds: the smallest value that at least so many percent do not exceed. NaN of nothing.
    pub(crate) fn ms(&self, percentile: f64) -> f64 {
        let rank = (percentile / 100.0 * self.sorted.len() as f64).ceil();
        // Not negative, and far below 2^52.
        let index = (rank as usize).clamp(1, self.sorted.len().max(1)) - 1;
        self.sorted.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }

    /// Percentile and milliseconds, as many points as a plot needs.
    pub(crate) fn distribution(&self) -> Vec<(f64, f64)> {
        if self.sorted.is_empty() {
            return Vec::new();
        }
        KEPT.iter().map(|percentile| (*percentile, self.ms(*percentile))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_occurred() {
        let all: Latencies = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([0.0, 1.0, 50.0, 99.0, 100.0].map(|p| all.ms(p)), [1.0, 1.0, 50.0, 99.0, 100.0]);
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn of_one_value_every_percentile_is_that_value_and_of_none_nothing_is_known() {
        let one: Latencies = [Duration::from_millis(7)].into_iter().collect();
        assert_eq!([one.ms(1.0), one.ms(99.9)], [7.0, 7.0]);
        assert!(Latencies::default().ms(50.0).is_nan());
        assert!(Latencies::default().distribution().is_empty());
    }
}
