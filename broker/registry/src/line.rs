//! Text for people, on one line.

use std::fmt;
use std::fmt::Write as _;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes of a [`Line`].
pub const LINE_BYTES_MAX: usize = 512;

/// A text from outside that is kept for people: on one line, without control characters, at most [`LINE_BYTES_MAX`].
///
/// What does not fit the rule is escaped or cut off, so a name in a certificate cannot forge a line of a log. It is never
/// compared for a decision.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Line(Box<str>);

impl Line {
    /// The line that shows `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut line = String::with_capacity(text.len().min(LINE_BYTES_MAX));
        for c in text.chars() {
            let before = line.len();
            if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                // Writing into a String cannot fail.
                let _ = write!(line, "{}", c.escape_unicode());
            } else {
                line.push(c);
            }
            if line.len() > LINE_BYTES_MAX {
                line.truncate(before);
                break;
            }
        }
        Self(line.into())
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl Deref for Line {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_feed_and_a_bidi_override_are_escaped() {
        assert_eq!(&*Line::new("a\nb\u{202e}c"), "a\\u{a}b\\u{202e}c");
        assert_eq!(&*Line::new("CN=sensor-1, é"), "CN=sensor-1, é");
    }

    proptest! {
        #[test]
        fn a_line_is_bounded_printable_and_stays_itself(text in any::<String>(), times in 1usize..40) {
            let line = Line::new(&text.repeat(times));
            prop_assert!(line.len() <= LINE_BYTES_MAX);
            prop_assert!(!line.contains(char::is_control));
            prop_assert_eq!(&Line::new(&line), &line);
        }
    }
}
