//! How names and ids are stored: as the text that they display as, read back through the parser of their type.
//!
//! A [`ThingName`] was admitted by the rule that was configured then. Reading it back asks only for what every rule
//! asks for, so that a registry stays readable when the rule is narrowed.

use std::fmt;
use std::sync::LazyLock;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::{CertificateId, GroupName, NAME_LEN_MAX, NameRule, Role, TemplateName, ThingName};

/// The widest rule that a configuration can ask for.
static WIDEST: LazyLock<NameRule> = LazyLock::new(|| NameRule::widest(NAME_LEN_MAX));

/// Reads a text without keeping it, whether the format lends it or not.
struct Text<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(|why| E::custom(format_args!("{text:?} is not {}: {why}", self.what)))
    }
}

macro_rules! stored_as_text {
    ($($type:ty, $what:literal, $parse:expr;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text { what: $what, parse: $parse })
            }
        }
    )*};
}

stored_as_text! {
    ThingName, "a name", |text| ThingName::new(text, &WIDEST).map_err(|e| e.to_string());
    GroupName, "the name of a group", |text| GroupName::try_from(text).map_err(|e| e.to_string());
    TemplateName, "the name of a template", |text| TemplateName::try_from(text).map_err(|e| e.to_string());
    CertificateId, "a certificate id", |text| CertificateId::from_hex(text).ok_or_else(|| "64 hexadecimal digits are needed".into());
    Role, "a role", |text| Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| "device, claim or operator is needed".into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
        let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
        T::deserialize(deserializer)
    }

    #[test]
    fn a_name_of_a_widened_rule_is_read_back_and_a_harmful_one_is_not() {
        assert_eq!(read::<ThingName>("a@b=c").unwrap().as_str(), "a@b=c");
        assert!(read::<ThingName>(&"x".repeat(128)).is_ok());
        for text in ["", "a/b", "a+", "a#", "$a", "a%u", "a b", "a\n", "é", &"x".repeat(129)] {
            assert!(read::<ThingName>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_other_names_and_ids_are_read_by_their_own_grammar() {
        assert_eq!(read::<GroupName>("sensors").unwrap().as_str(), "sensors");
        assert!(read::<GroupName>("operator").is_err());
        assert_eq!(read::<TemplateName>("fleet_1").unwrap().as_str(), "fleet_1");
        assert!(read::<TemplateName>("a.b").is_err());
        let id = CertificateId::of(b"abc");
        assert_eq!(read::<CertificateId>(&id.to_string()).unwrap(), id);
        assert!(read::<CertificateId>("ab").is_err());
        assert_eq!(read::<Role>("claim").unwrap(), Role::Claim);
        assert!(read::<Role>("Claim").is_err());
    }
}
