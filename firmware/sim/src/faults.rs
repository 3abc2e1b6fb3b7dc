//! What goes wrong, and how often.

use std::time::Duration;

use clap::ValueEnum;

/// Numbers that look random and repeat with their seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Those of a seed and of one of its users.
    #[must_use]
    pub const fn new(seed: u64, user: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ user.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    /// The next.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll().checked_rem(bound).unwrap_or(0)
    }

    /// Whether something that happens so many times in a thousand happens now.
    pub fn happens(&mut self, per_mille: u32) -> bool {
        self.below(1_000) < u64::from(per_mille)
    }

    /// When something next happens that happens once in `mean` on average.
    pub fn next(&mut self, mean: Duration) -> Duration {
        // Uniform over (0, 1]; the logarithm makes the waiting time of independent events of it.
        let uniform = (self.roll() >> 11) as f64 / (1_u64 << 53) as f64;
        mean.mul_f64(-(1.0 - uniform).max(f64::MIN_POSITIVE).ln())
    }
}

/// How much goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Nothing.
    None,
    /// As in a bad building.
    Some,
    /// As nobody has it.
    Many,
}

/// The faults of a level.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Starts at which the flash is set to lose its power during a later write, of a thousand.
    pub cuts: u32,
    /// On average one reset in this time.
    pub resets: Option<Duration>,
    /// On average one broken connection in this time.
    pub breaks: Option<Duration>,
    /// Of these, so many of a thousand break without a word: nothing comes any more, and nothing says so.
    pub silent_breaks: u32,
    /// Parts of what comes over a connection that are lost and sent again, of a thousand.
    pub losses: u32,
    /// Connections that are slow, of a thousand.
    pub slow: u32,
    /// Answers of the time server that are years off, of a thousand.
    pub wrong_clocks: u32,
    /// Devices that come with a claim which the broker does not take, before the good one, of a thousand.
    pub bad_claims: u32,
}

impl Level {
    /// What it means.
    #[must_use]
    pub fn faults(self) -> Faults {
        let (cuts, resets, breaks, silent_breaks, losses, slow, wrong_clocks, bad_claims) = match self {
            Self::None => (0, None, None, 0, 0, 0, 0, 0),
            Self::Some => (150, Some(120), Some(60), 50, 10, 100, 150, 20),
            Self::Many => (400, Some(40), Some(20), 100, 50, 200, 400, 50),
        };
        let (resets, breaks) = (resets.map(Duration::from_secs), breaks.map(Duration::from_secs));
        Faults { cuts, resets, breaks, silent_breaks, losses, slow, wrong_clocks, bad_claims }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_user_others() {
        let rolls = |seed, user| {
            let mut dice = Dice::new(seed, user);
            [dice.roll(), dice.roll(), dice.roll()]
        };
        assert_eq!(rolls(1, 2), rolls(1, 2));
        assert_ne!(rolls(1, 2), rolls(1, 3));
        assert_ne!(rolls(1, 2), rolls(2, 2));
    }

    #[test]
    fn waiting_times_have_their_mean() {
        let mut dice = Dice::new(7, 7);
        let total: Duration = (0..10_000).map(|_| dice.next(Duration::from_secs(10))).sum();
        assert!((90_000..110_000).contains(&total.as_secs()), "{total:?}");
    }

    #[test]
    fn a_probability_is_kept() {
        let mut dice = Dice::new(3, 3);
        let hits = (0..10_000).filter(|_| dice.happens(150)).count();
        assert!((1_350..1_650).contains(&hits), "{hits}");
        assert!(!dice.happens(0) && dice.happens(1_000));
    }
}
