//! Wall-clock time, which always comes from outside.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment of the wall clock: milliseconds since 1970-01-01 00:00:00 UTC. It displays as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub u64);

impl Wall {
    /// This moment plus `by`, to the millisecond.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This moment minus `by`, to the millisecond, not before 1970.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The Unix second that this moment lies in, as certificates count.
    #[must_use]
    pub fn unix_secs(self) -> i64 {
        i64::try_from(self.0 / 1000).unwrap_or(i64::MAX)
    }

    /// The beginning of a Unix second; 1970 for one before it.
    #[must_use]
    pub fn from_unix_secs(secs: i64) -> Self {
        Self(u64::try_from(secs).unwrap_or(0).saturating_mul(1000))
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0) * 1_000_000;
        let text =
            OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().and_then(|at| at.format(&Rfc3339).ok());
        match text {
            Some(text) => f.pad(&text),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_utc_and_one_past_the_calendar_as_a_number() {
        assert_eq!(Wall(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Wall(1_767_225_600_250).to_string(), "2026-01-01T00:00:00.25Z");
        assert_eq!(Wall(u64::MAX).to_string(), "18446744073709551615 ms after 1970");
    }

    #[test]
    fn sums_stay_within_bounds() {
        assert_eq!(Wall(5).before(Duration::from_millis(6)), Wall(0));
        assert_eq!(Wall(u64::MAX).after(Duration::from_secs(1)), Wall(u64::MAX));
        assert_eq!(Wall(1999).unix_secs(), 1);
        assert_eq!(Wall::from_unix_secs(-1), Wall(0));
        assert_eq!(Wall::from_unix_secs(i64::MAX), Wall(u64::MAX));
    }
}
