//! When a certificate is renewed, and whether the clock can be believed.

use crate::identity::Leaf;

const DAY: u64 = 24 * 60 * 60;

/// No clock that is set shows an earlier time: this firmware was not written yet (2026-01-01).
pub const CLOCK_FLOOR: u64 = 1_767_225_600;

/// The time of day, when it can be believed: not before this firmware existed, and not before the device's own certificate
/// began, which the broker dated.
#[must_use]
pub fn believable(wall: Option<u64>, own: Option<&Leaf>) -> Option<u64> {
    // Authorities back-date what they issue for slow clocks; a day more is no sign of a wrong one.
    let floor = own.map_or(CLOCK_FLOOR, |leaf| CLOCK_FLOOR.max(leaf.not_before.saturating_sub(DAY)));
    wall.filter(|wall| *wall >= floor)
}

/// When `leaf` is to be renewed, in seconds since 1970: at 75 % of its validity, or 30 days before its end when that comes
/// first and leaves at least half of the validity (a certificate of 40 days would otherwise be renewed on its tenth). Up to a
/// twentieth of the validity, at most a day, is taken off, by the certificate's own bits, so that a fleet that was made in
/// one hour is not renewed in one hour.
#[must_use]
pub fn renewal(leaf: &Leaf) -> u64 {
    let validity = leaf.not_after.saturating_sub(leaf.not_before);
    let three_quarters = leaf.not_before.saturating_add(validity / 4 * 3);
    let month_before = leaf.not_after.saturating_sub(30 * DAY);
    let half = leaf.not_before.saturating_add(validity / 2);
    let due = if month_before >= half { three_quarters.min(month_before) } else { three_quarters };
    let spread = (validity / 20).min(DAY);
    due.saturating_sub(jitter(leaf, spread))
}

/// A number up to `spread` that is the certificate's own, so that it is the same after a restart.
fn jitter(leaf: &Leaf, spread: u64) -> u64 {
    let id = leaf.id().0;
    let bits = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
    // The product of a 32-bit number and at most a day in seconds.
    (u64::from(bits) * spread) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn leaf(days_tenths: u64) -> Leaf {
        let not_before = 1_800_000_000;
        let not_after = not_before + days_tenths * DAY / 10;
        Leaf { der: vec![days_tenths as u8], not_before, not_after, public_key: [0; 65] }
    }

    #[test]
    fn whichever_comes_first_counts() {
        for (days_tenths, due_percent, jitter_percent) in
            [(900, 66.7, 1.2), (3650, 75.0, 0.3), (10, 75.0, 5.0), (400, 75.0, 2.6), (1200, 75.0, 0.9)]
        {
            let leaf = leaf(days_tenths);
            let validity = (leaf.not_after - leaf.not_before) as f64;
            let percent = (renewal(&leaf) - leaf.not_before) as f64 / validity * 100.0;
            assert!(
                percent <= due_percent + 0.1 && percent >= due_percent - jitter_percent,
                "{days_tenths} tenths of a day are renewed at {percent} %"
            );
        }
    }

    #[test]
    fn a_certificate_has_its_own_moment_and_keeps_it() {
        let moments: alloc::collections::BTreeSet<u64> = (0..100_u8)
            .map(|n| {
                let leaf = Leaf { der: vec![n], ..leaf(900) };
                assert_eq!(renewal(&leaf), renewal(&leaf.clone()));
                renewal(&leaf)
            })
            .collect();
        assert!(moments.len() > 95, "only {} moments for 100 devices", moments.len());
    }

    #[test]
    fn a_clock_from_before_the_firmware_or_the_certificate_is_not_believed() {
        assert_eq!(believable(None, None), None);
        assert_eq!(believable(Some(0), None), None, "1970");
        assert_eq!(believable(Some(CLOCK_FLOOR - 1), None), None);
        assert_eq!(believable(Some(CLOCK_FLOOR), None), Some(CLOCK_FLOOR));
        let own = leaf(900);
        assert_eq!(believable(Some(own.not_before - 2 * DAY), Some(&own)), None);
        assert_eq!(believable(Some(own.not_before), Some(&own)), Some(own.not_before));
    }
}
