//! Topic names and client identifiers.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::Split;

use bytes::Bytes;

use crate::text::{Text, TextError};

/// Why a string is no topic name or client identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not an MQTT string at all.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Without a single character (`[MQTT5-4.7.3-1]`, `[MQTT3-4.7.3-1]`).
    #[error("the name is empty")]
    Empty,
    /// A topic name with `+` or `#` (`[MQTT5-3.3.2-2]`, `[MQTT3-3.3.2-2]`).
    #[error("the topic name contains a wildcard")]
    Wildcard,
}

/// Newtypes over `Text` that read as `str`, compare by bytes, and can be looked up in maps by `&str`.
macro_rules! text_newtype {
    ($name:ident, $error:ty) => {
        impl $name {
            /// The name as a text.
            #[must_use]
            pub fn as_text(&self) -> &Text {
                &self.0
            }

            /// The name as a text.
            #[must_use]
            pub fn into_text(self) -> Text {
                self.0
            }

            /// A copy in memory of its own, so that it does not keep a read buffer alive.
            #[must_use]
            pub fn detached(&self) -> Self {
                Self(self.0.detached())
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $error;

            fn try_from(text: &str) -> Result<Self, $error> {
                Self::try_from(Text::try_from(text)?)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                Self::try_from(Text::try_from(text)?)
            }
        }

        impl TryFrom<Bytes> for $name {
            type Error = $error;

            fn try_from(bytes: Bytes) -> Result<Self, $error> {
                Self::try_from(Text::try_from(bytes)?)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::try_from(text)
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}
pub(crate) use text_newtype;

/// The topic of a message: at least one character, no wildcard (`[MQTT5-4.7.3-1]`, `[MQTT5-3.3.2-2]`).
///
/// Any depth that fits into 65535 bytes is accepted here (`[MQTT5-4.7.3-3]`); how deep a topic may be is for the
/// router to limit.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Text);

text_newtype!(TopicName, NameError);

impl TopicName {
    /// The levels between the separators; empty levels count.
    pub fn levels(&self) -> Split<'_, char> {
        self.0.as_str().split('/')
    }

    /// Whether the name begins with `$`: such topics are not matched by a leading wildcard (`[MQTT5-4.7.2-1]`,
    /// `[MQTT3-4.7.2-1]`).
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl TryFrom<Text> for TopicName {
    type Error = NameError;

    fn try_from(text: Text) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        // One pass without an early exit: the compiler makes it wide, and topics are short.
        if text.bytes().fold(false, |found, byte| found | (byte == b'+') | (byte == b'#')) {
            return Err(NameError::Wildcard);
        }
        Ok(Self(text))
    }
}

/// A client identifier with at least one character. A client that sends none has `None` in [`crate::Connect`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Text);

text_newtype!(ClientId, NameError);

impl TryFrom<Text> for ClientId {
    type Error = NameError;

    fn try_from(text: Text) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        Ok(Self(text))
    }
}
