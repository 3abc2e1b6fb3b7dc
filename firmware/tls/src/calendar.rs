//! Unix time as a calendar date, as Mbed TLS wants it.

use mbedtls_rs::sys::tm;

/// `secs` since 1970 as a date in UTC; `None` beyond what a date can say.
///
/// Days to civil date by counting 400-year eras from 0000-03-01.
#[must_use]
pub fn broken_down(secs: u64) -> Option<tm> {
    let days = i64::try_from(secs / 86_400).ok()?;
    let of_day = i32::try_from(secs % 86_400).ok()?;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some(tm {
        tm_sec: of_day % 60,
        tm_min: of_day / 60 % 60,
        tm_hour: of_day / 3_600,
        tm_mday: i32::try_from(day).ok()?,
        tm_mon: i32::try_from(month - 1).ok()?,
        tm_year: i32::try_from(year - 1_900).ok()?,
        tm_wday: 0,
        tm_yday: 0,
        tm_isdst: 0,
        ..no_time()
    })
}

/// All zero. The C libraries of hosts have more fields than those of chips.
fn no_time() -> tm {
    tm::default()
}

#[cfg(test)]
mod tests {
    use super::broken_down;

    fn date(secs: u64) -> (i32, i32, i32, i32, i32, i32) {
        let tm = broken_down(secs).expect("a date");
        (tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec)
    }

    #[test]
    fn dates_around_leap_days_and_centuries_are_right() {
        assert_eq!(date(0), (1970, 1, 1, 0, 0, 0));
        assert_eq!(date(951_782_399), (2000, 2, 28, 23, 59, 59));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(date(951_868_800), (2000, 3, 1, 0, 0, 0));
        assert_eq!(date(1_709_164_800), (2024, 2, 29, 0, 0, 0));
        assert_eq!(date(4_107_542_399), (2100, 2, 28, 23, 59, 59));
        assert_eq!(date(4_107_542_400), (2100, 3, 1, 0, 0, 0));
        assert_eq!(date(1_795_219_199), (2026, 11, 20, 23, 59, 59));
    }
}
