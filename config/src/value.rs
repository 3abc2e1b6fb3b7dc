//! Durations and sizes as people write them.

use std::time::Duration;

/// Units of a duration, longest first so that output uses the largest that fits.
const TIME_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of a size.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `10s`, `500ms`, `2h`, `7d`. `None` when it is none of these or does not fit.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    with_unit(text, &TIME_UNITS).map(Duration::from_millis)
}

/// Reads `256KiB`, `1MiB`, `100B`. `None` when it is none of these or does not fit.
pub(crate) fn size(text: &str) -> Option<u64> {
    with_unit(text, &SIZE_UNITS)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes a duration in the largest unit that divides it.
pub(crate) fn show_duration(value: Duration) -> String {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 { "0s".to_owned() } else { show(millis, &TIME_UNITS) }
}

/// Writes a size in the largest unit that divides it.
pub(crate) fn show_size(value: u64) -> String {
    if value == 0 { "0B".to_owned() } else { show(value, &SIZE_UNITS) }
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let (unit, factor) =
        units.iter().find(|(_, factor)| value.is_multiple_of(*factor)).copied().unwrap_or(("", 1));
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("500 ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2w"), Some(Duration::from_secs(1_209_600)));
        assert_eq!(size("256KiB"), Some(262_144));
        assert_eq!(size("7B"), Some(7));
    }

    #[test]
    fn what_is_nearly_a_unit_is_refused() {
        for text in [
            "",
            "s",
            "10",
            "10S",
            "-1s",
            "1.5s",
            "10s ",
            " 10s",
            "99999999999999999999s",
            "18446744073709551615w",
        ] {
            assert_eq!(duration(text), None, "{text:?}");
        }
        for text in ["256KB", "256kib", "256k", "KiB", "1e3KiB"] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_largest_unit_that_divides_is_written() {
        assert_eq!(show_duration(Duration::from_secs(86_400)), "1d");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(show_size(262_144), "256KiB");
        assert_eq!(show_size(1000), "1000B");
        assert_eq!(show_duration(Duration::ZERO), "0s");
    }
}
