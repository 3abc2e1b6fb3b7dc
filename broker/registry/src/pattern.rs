//! Which names an authority may give.

use std::fmt;
use std::str::FromStr;

use signet_identity::{NAME_LEN_MAX, NameRule};

use crate::id::stored_by_display;

/// A set of names: a text in which each `*` stands for any characters, also none.
///
/// `sensor-*` is every name that begins with `sensor-`; `*` is every name; a text without `*` is that one name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamePattern(Box<str>);

/// Why a text is no [`NamePattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No characters, or more than a name can have.
    #[error("a pattern of names has 1 to {NAME_LEN_MAX} characters")]
    Length,
    /// A character that is neither `*` nor possible in a name.
    #[error("{0:?} cannot be part of a name, nor is it *")]
    Character(char),
}

impl NamePattern {
    /// Whether `name` is one of the names.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to go on when the text after the last `*` does not fit: that `*` takes one more byte.
        let mut last_star = None;
        while let Some(byte) = name.get(n) {
            match pattern.get(p) {
                Some(b'*') => {
                    last_star = Some((p + 1, n));
                    p += 1;
                }
                Some(expected) if expected == byte => (p, n) = (p + 1, n + 1),
                _ => match &mut last_star {
                    None => return false,
                    Some((after, taken)) => {
                        *taken += 1;
                        (p, n) = (*after, *taken);
                    }
                },
            }
        }
        pattern.iter().skip(p).all(|rest| *rest == b'*')
    }

    /// Whether some text is matched by both patterns.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        meet(self.0.as_bytes(), other.0.as_bytes())
    }
}

/// Whether two patterns have a common text. Time and memory grow with the product of the lengths, at most 128 each.
fn meet(left: &[u8], right: &[u8]) -> bool {
    // reach[j]: the rest of `left` from i and the rest of `right` from j have a common text.
    let mut below = vec![false; right.len() + 1];
    for i in (0..=left.len()).rev() {
        let mut reach = vec![false; right.len() + 1];
        for j in (0..=right.len()).rev() {
            let (l, r) = (left.get(i), right.get(j));
            let right_on = || reach.get(j + 1).copied().unwrap_or(false);
            let left_on = below.get(j).copied().unwrap_or(false);
            let common = match (l, r) {
                (None, None) => true,
                (Some(b'*'), Some(_)) => left_on || right_on(),
                (Some(b'*'), None) => left_on,
                (Some(_), Some(b'*')) => right_on() || left_on,
                (None, Some(b'*')) => right_on(),
                (Some(l), Some(r)) => l == r && below.get(j + 1).copied().unwrap_or(false),
                (None, Some(_)) | (Some(_), None) => false,
            };
            if let Some(slot) = reach.get_mut(j) {
                *slot = common;
            }
        }
        below = reach;
    }
    below.first().copied().unwrap_or(false)
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > NAME_LEN_MAX {
            return Err(PatternError::Length);
        }
        // What some name rule could admit is judged by asking for a rule with that character.
        let possible = |c: &char| *c == '*' || NameRule::new(1, &c.to_string()).is_ok();
        match text.chars().find(|c| !possible(c)) {
            None => Ok(Self(text.into())),
            Some(found) => Err(PatternError::Character(found)),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

stored_by_display!(NamePattern);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> NamePattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        assert!(pattern("sensor-*").matches("sensor-1"));
        assert!(pattern("sensor-*").matches("sensor-"));
        assert!(!pattern("sensor-*").matches("sensor"));
        assert!(!pattern("sensor-*").matches("Sensor-1"));
        assert!(!pattern("sensor.1").matches("sensor-1"));
        assert!(pattern("sn*01*EE").matches("sn012301EE"));
        assert!(!pattern("sn*01*EE").matches("sn012301EF"));
        assert!(pattern("gate").matches("gate"));
        assert!(!pattern("gate").matches("gate1"));
        assert!(!pattern("gate").matches(""));
    }

    #[test]
    fn patterns_overlap_when_one_name_can_be_both() {
        for (a, b, common) in [
            ("sensor-*", "sensor-1", true),
            ("sensor-*", "*-1", true),
            ("sensor-*", "gate-*", false),
            ("*", "x", true),
            ("a*b", "b*a", false),
            ("a*", "*b", true),
            ("sn*", "s*", true),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), common, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), common, "{b} {a}");
        }
    }

    #[test]
    fn a_pattern_that_could_match_no_name_is_refused() {
        assert_eq!("".parse::<NamePattern>(), Err(PatternError::Length));
        assert_eq!("x".repeat(129).parse::<NamePattern>(), Err(PatternError::Length));
        for c in ['/', '+', '#', '$', '%', ' ', '\n', 'é'] {
            assert_eq!(format!("a{c}").parse::<NamePattern>(), Err(PatternError::Character(c)));
        }
    }

    proptest! {
        #[test]
        fn a_name_in_both_sets_makes_them_overlap(a in "[ab*]{1,8}", b in "[ab*]{1,8}", name in "[ab]{1,8}") {
            let (a, b) = (pattern(&a), pattern(&b));
            if a.matches(&name) && b.matches(&name) {
                prop_assert!(a.overlaps(&b));
            }
            prop_assert!(a.overlaps(&a));
            // A name is a pattern that only it matches.
            prop_assert_eq!(a.matches(&name), a.overlaps(&pattern(&name)));
        }
    }
}
