//! Strings and binary data with the two-byte length of MQTT.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

/// Longest string or binary field, in bytes: its length is a two-byte integer (MQTT5 §1.5.4, §1.5.6).
const FIELD_BYTES_MAX: usize = u16::MAX as usize;

/// Why bytes are not an MQTT string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not well-formed UTF-8; surrogates and code points above U+10FFFF included (`[MQTT5-1.5.4-1]`).
    #[error("the string is not well-formed UTF-8")]
    NotUtf8,
    /// Contains U+0000 (`[MQTT5-1.5.4-2]`).
    #[error("the string contains U+0000")]
    Nul,
    /// Contains a control character or a non-character, which a receiver may refuse (MQTT5 §1.5.4, MQTT3 §1.5.3).
    #[error("the string contains a control character or a non-character")]
    Control,
    /// More than 65535 bytes.
    #[error("the field is longer than 65535 bytes")]
    TooLong,
}

/// A well-formed MQTT UTF-8 string: at most 65535 bytes, without U+0000 (`[MQTT5-1.5.4-1]`, `[MQTT5-1.5.4-2]`,
/// `[MQTT3-1.5.3-1]`, `[MQTT3-1.5.3-2]`).
///
/// U+0001 to U+001F, U+007F to U+009F and the Unicode non-characters are refused too. Both specifications leave that to the
/// receiver; Mosquitto refuses them, and nothing that is printed or logged later has to fear a line break or an escape sequence.
/// U+FEFF is kept (`[MQTT5-1.5.4-3]`), nothing is normalised, and comparison is by bytes.
///
/// Cloning is cheap; a clone of a decoded text keeps the read buffer alive, see [`Text::detached`].
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(ByteString);

impl Text {
    /// A text that is part of the program.
    ///
    /// # Panics
    /// When `text` is longer than 65535 bytes or not printable ASCII; in a `const` that is an error of compilation.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        assert!(text.len() <= FIELD_BYTES_MAX, "longer than 65535 bytes");
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(matches!(bytes[at], b' '..=b'~'), "not printable ASCII");
            at += 1;
        }
        Self(ByteString::from_static(text))
    }

    /// The text as a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes behind the text.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }

    /// A copy in memory of its own, so that it does not keep a read buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(ByteString::from(self.as_str()))
    }

    /// The part of this text that `part` points to, without a copy.
    pub(crate) fn part(&self, part: &str) -> Self {
        Self(self.0.slice_ref(part))
    }
}

impl TryFrom<Bytes> for Text {
    type Error = TextError;

    fn try_from(bytes: Bytes) -> Result<Self, TextError> {
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(TextError::TooLong);
        }
        let class = Class::of(&bytes);
        let text = ByteString::try_from(bytes).map_err(|_| TextError::NotUtf8)?;
        class.check(&text)?;
        Ok(Self(text))
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        check(&text)?;
        Ok(Self(ByteString::from(text)))
    }
}

impl TryFrom<&str> for Text {
    type Error = TextError;

    fn try_from(text: &str) -> Result<Self, TextError> {
        check(text)?;
        Ok(Self(ByteString::from(text)))
    }
}

fn check(text: &str) -> Result<(), TextError> {
    if text.len() > FIELD_BYTES_MAX {
        return Err(TextError::TooLong);
    }
    Class::of(text.as_bytes()).check(text)
}

/// What one pass over the bytes says about the characters.
struct Class {
    below_space: bool,
    above_tilde: bool,
}

impl Class {
    /// Without an early exit, so that the compiler makes the loop wide.
    fn of(bytes: &[u8]) -> Self {
        bytes.iter().fold(Self { below_space: false, above_tilde: false }, |class, &byte| Self {
            below_space: class.below_space | (byte < b' '),
            above_tilde: class.above_tilde | (byte > b'~'),
        })
    }

    fn check(&self, text: &str) -> Result<(), TextError> {
        if self.below_space {
            return Err(if text.as_bytes().contains(&0) { TextError::Nul } else { TextError::Control });
        }
        if self.above_tilde && text.chars().any(is_refused) {
            return Err(TextError::Control);
        }
        Ok(())
    }
}

/// DEL, the C1 controls and the non-characters.
const fn is_refused(c: char) -> bool {
    matches!(c, '\u{7F}'..='\u{9F}' | '\u{FDD0}'..='\u{FDEF}') || (c as u32) & 0xFFFE == 0xFFFE
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

/// `ByteString` hashes and orders as `str` does, so a map keyed by `Text` can be asked with a `&str`.
impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

/// Binary data with a two-byte length: at most 65535 bytes (MQTT5 §1.5.6).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Binary(Bytes);

impl Binary {
    /// Data that is part of the program.
    ///
    /// # Panics
    /// When `data` is longer than 65535 bytes; in a `const` that is an error of compilation.
    #[must_use]
    pub const fn from_static(data: &'static [u8]) -> Self {
        assert!(data.len() <= FIELD_BYTES_MAX, "longer than 65535 bytes");
        Self(Bytes::from_static(data))
    }

    /// The bytes themselves.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A copy in memory of its own, so that it does not keep a read buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl TryFrom<Bytes> for Binary {
    type Error = TextError;

    fn try_from(bytes: Bytes) -> Result<Self, TextError> {
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(TextError::TooLong);
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<&[u8]> for Binary {
    type Error = TextError;

    fn try_from(bytes: &[u8]) -> Result<Self, TextError> {
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(TextError::TooLong);
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }
}

impl Deref for Binary {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Only the size: this type carries passwords and authentication data, which never enter a log.
impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}
