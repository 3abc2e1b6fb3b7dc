//! Names: of things, of groups of things, of provisioning templates.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The longest name that any [`NameRule`] admits, in bytes (a name is ASCII, so also in characters).
pub const NAME_LEN_MAX: usize = 128;

/// The longest name under the default rule, in bytes.
const NAME_LEN_DEFAULT: usize = 64;

/// The characters that every rule admits after the first place, beside ASCII letters and digits.
const PUNCTUATION: &str = "._:-";

/// The characters that no rule may admit: MQTT's level separator and wildcards, the mark of reserved topics, the mark
/// of variables in access rules, and the space. Control and non-ASCII characters are refused by class.
const NEVER: &str = "/+#$% ";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no characters.
    #[error("the name is empty")]
    Empty,
    /// The text is longer than the rule admits.
    #[error("the name has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Length of the text in bytes.
        len: usize,
        /// The rule's bound in bytes.
        max: usize,
    },
    /// The first character is not an ASCII letter or digit.
    #[error("the name begins with {found:?}, it must begin with an ASCII letter or digit")]
    FirstCharacter {
        /// The character.
        found: char,
    },
    /// A character that the rule does not admit.
    #[error("the name has {found:?} at character {position}, which is not allowed")]
    Character {
        /// The character.
        found: char,
        /// Its place, counted from 1.
        position: usize,
    },
    /// A group may not be named like a role.
    #[error("the name is that of a built-in role")]
    Reserved,
}

/// Why a configuration may not widen names in the way it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameRuleError {
    /// The bound on the length is zero or above [`NAME_LEN_MAX`].
    #[error("names can be 1 to {NAME_LEN_MAX} bytes long, not {0}")]
    Length(usize),
    /// A character that may never be part of a name.
    #[error("{0:?} can never be part of a name (only printable ASCII, and none of / + # $ % or space)")]
    Character(char),
}

/// What a [`ThingName`] may look like. The default is `[A-Za-z0-9][A-Za-z0-9._:-]{0,63}`.
///
/// Configuration can widen the set of characters and change the length within bounds that keep a name harmless: it is
/// one topic level, never a wildcard, never a variable, never begins a reserved topic, and prints as itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRule {
    len_max: usize,
    /// One bit per ASCII character.
    extra: u128,
    uri_prefix: Option<Box<str>>,
}

impl Default for NameRule {
    fn default() -> Self {
        Self { len_max: NAME_LEN_DEFAULT, extra: 0, uri_prefix: None }
    }
}

impl NameRule {
    /// A rule that admits up to `len_max` bytes (1 to [`NAME_LEN_MAX`]) and the characters of `extra` beside the
    /// default ones. The first character stays an ASCII letter or digit.
    ///
    /// # Errors
    /// [`NameRuleError`] when the length is out of bounds, or `extra` holds a character that is never admitted.
    pub fn new(len_max: usize, extra: &str) -> Result<Self, NameRuleError> {
        if !(1..=NAME_LEN_MAX).contains(&len_max) {
            return Err(NameRuleError::Length(len_max));
        }
        let mut bits = 0u128;
        for found in extra.chars() {
            if !found.is_ascii_graphic() || NEVER.contains(found) {
                return Err(NameRuleError::Character(found));
            }
            bits |= 1 << u32::from(found);
        }
        Ok(Self { len_max, extra: bits, uri_prefix: None })
    }

    /// The rule that admits whatever some rule of up to `len_max` bytes admits.
    pub(crate) fn widest(len_max: usize) -> Self {
        let harmless = |c: &char| c.is_ascii_graphic() && !NEVER.contains(*c);
        let extra = (0..=127u8).map(char::from).filter(harmless).fold(0, |bits, c| bits | 1 << u32::from(c));
        Self { len_max, extra, uri_prefix: None }
    }

    /// With [`IdentitySource::SanUri`](crate::IdentitySource::SanUri): the URI must begin with exactly `prefix`,
    /// and the name is what follows, for instance `spiffe://example.org/device/`. Without a prefix the whole URI is
    /// the name, which suits `urn:` URIs only, since a name has no `/`.
    #[must_use]
    pub fn with_uri_prefix(mut self, prefix: &str) -> Self {
        self.uri_prefix = Some(prefix.into());
        self
    }

    pub(crate) fn uri_prefix(&self) -> Option<&str> {
        self.uri_prefix.as_deref()
    }

    /// Whether `text` is a name under this rule.
    ///
    /// # Errors
    /// The first reason why it is not.
    pub fn check(&self, text: &str) -> Result<(), NameError> {
        if text.len() > self.len_max {
            return Err(NameError::TooLong { len: text.len(), max: self.len_max });
        }
        let Some(first) = text.chars().next() else {
            return Err(NameError::Empty);
        };
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::FirstCharacter { found: first });
        }
        match text.chars().enumerate().find(|(_, c)| !self.admits(*c)) {
            None => Ok(()),
            Some((index, found)) => Err(NameError::Character { found, position: index + 1 }),
        }
    }

    fn admits(&self, c: char) -> bool {
        c.is_ascii_alphanumeric()
            || PUNCTUATION.contains(c)
            || (c.is_ascii() && self.extra & (1 << u32::from(c)) != 0)
    }
}

/// The name of a thing, or of another principal: the text that `%u` stands for in an access rule.
///
/// It holds only what a [`NameRule`] admits, so it is ASCII, is exactly one topic level, and contains no wildcard.
/// Names compare byte by byte: `Sensor-1` and `sensor-1` are two names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThingName(Arc<str>);

impl ThingName {
    /// The same name, if `rule` admits it.
    ///
    /// # Errors
    /// [`NameError`] with the first reason why it does not.
    pub fn under(&self, rule: &NameRule) -> Result<Self, NameError> {
        rule.check(&self.0)?;
        Ok(self.clone())
    }

    /// The name `text`, if `rule` admits it.
    ///
    /// # Errors
    /// [`NameError`] with the first reason why it does not.
    pub fn new(text: &str, rule: &NameRule) -> Result<Self, NameError> {
        rule.check(text)?;
        Ok(Self(text.into()))
    }

    /// The name made of a certificate's fingerprint, which every rule admits.
    pub fn fingerprint(id: &crate::CertificateId) -> Self {
        Self(id.to_string().into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a group of things, for `role NAME` sections of an access policy.
///
/// It follows the default [`NameRule`] and is none of `device`, `claim` and `operator` in any case of letters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// The group's name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for GroupName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        NameRule::default().check(text)?;
        let reserved = crate::Role::ALL.iter().any(|role| text.eq_ignore_ascii_case(role.as_str()));
        if reserved {
            return Err(NameError::Reserved);
        }
        Ok(Self(text.into()))
    }
}

/// The longest template name, in bytes (the bound of the AWS IoT control plane's `TemplateName`).
const TEMPLATE_NAME_LEN_MAX: usize = 36;

/// The name of a provisioning template that a claim may ask for: `[0-9A-Za-z_-]{1,36}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateName(Arc<str>);

impl TemplateName {
    /// The template's name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for TemplateName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > TEMPLATE_NAME_LEN_MAX {
            return Err(NameError::TooLong { len: text.len(), max: TEMPLATE_NAME_LEN_MAX });
        }
        let admitted = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match text.chars().enumerate().find(|(_, c)| !admitted(*c)) {
            None => Ok(Self(text.into())),
            Some((index, found)) => Err(NameError::Character { found, position: index + 1 }),
        }
    }
}

impl TryFrom<&str> for ThingName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::new(text, &NameRule::default())
    }
}

macro_rules! text_like {
    ($($name:ident),*) => {$(
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

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

text_like!(ThingName, GroupName, TemplateName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_grammar_are_admitted() {
        for text in ["a", "0", "sensor-001", "sn0123030405060708EE", "a.b_c:d-e", &"x".repeat(64)] {
            assert_eq!(ThingName::try_from(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn texts_outside_of_the_grammar_are_refused_with_their_reason() {
        let character = |found, position| NameError::Character { found, position };
        for (text, why) in [
            ("", NameError::Empty),
            (&"x".repeat(65), NameError::TooLong { len: 65, max: 64 }),
            (".a", NameError::FirstCharacter { found: '.' }),
            ("-a", NameError::FirstCharacter { found: '-' }),
            ("$SYS", NameError::FirstCharacter { found: '$' }),
            ("a/b", character('/', 2)),
            ("a+", character('+', 2)),
            ("a#", character('#', 2)),
            ("a%u", character('%', 2)),
            ("a b", character(' ', 2)),
            ("a\0", character('\0', 2)),
            ("a\n", character('\n', 2)),
            ("a@b", character('@', 2)),
            ("aé", character('é', 2)),
            ("１", NameError::FirstCharacter { found: '１' }),
        ] {
            assert_eq!(ThingName::try_from(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_rule_widens_names_by_harmless_characters_and_no_others() {
        let rule = NameRule::new(128, "@=").unwrap();
        assert!(ThingName::new("a@b=c", &rule).is_ok());
        assert!(ThingName::new(&"x".repeat(128), &rule).is_ok());
        assert!(ThingName::new("@a", &rule).is_err());
        for never in ['/', '+', '#', '$', '%', ' ', '\0', '\n', '\u{7f}', 'é'] {
            assert_eq!(NameRule::new(64, &never.to_string()), Err(NameRuleError::Character(never)));
        }
        assert_eq!(NameRule::new(0, ""), Err(NameRuleError::Length(0)));
        assert_eq!(NameRule::new(129, ""), Err(NameRuleError::Length(129)));
    }

    #[test]
    fn a_group_is_not_named_like_a_role() {
        assert!(GroupName::try_from("sensors").is_ok());
        for text in ["device", "claim", "operator", "Operator", "DEVICE"] {
            assert_eq!(GroupName::try_from(text), Err(NameError::Reserved));
        }
    }

    #[test]
    fn a_template_name_has_its_own_grammar() {
        assert!(TemplateName::try_from("-Fleet_1").is_ok());
        assert!(TemplateName::try_from(&*"x".repeat(36)).is_ok());
        assert!(TemplateName::try_from(&*"x".repeat(37)).is_err());
        assert!(TemplateName::try_from("a.b").is_err());
        assert!(TemplateName::try_from("").is_err());
    }

    proptest! {
        #[test]
        fn no_rule_lets_a_name_be_more_than_one_plain_topic_level(text in any::<String>(), extra in "[!-~]{0,8}") {
            let Ok(rule) = NameRule::new(NAME_LEN_MAX, &extra) else { return Ok(()); };
            if let Ok(name) = ThingName::new(&text, &rule) {
                prop_assert!(name.is_ascii() && !name.is_empty());
                prop_assert!(!name.contains(['/', '+', '#', '$', '%', ' ']));
                prop_assert!(!name.contains(|c: char| c.is_control()));
            }
        }
    }
}
