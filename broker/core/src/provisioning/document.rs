//! Documents of JSON and CBOR, read as the few shapes that requests have.
//!
//! Both are read by one visitor, so that they are bounded and refused alike: maps nest at most [`DEPTH_MAX`] deep, no key comes
//! twice in one map, nothing follows the document. What has another type than text or map is known to be there and not kept.

use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Format;

/// How deep lists and maps may nest, the document itself included.
pub const DEPTH_MAX: u8 = 8;
/// Entries of one map, so that looking for a repeated key stays cheap.
const ENTRIES_MAX: usize = 256;

/// A value of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A text string.
    Text(String),
    /// A map with text keys.
    Map(Vec<(String, Value)>),
    /// Anything else: numbers, lists, byte strings, nothing.
    Other,
}

impl Value {
    /// The entry `key` of a map, taken out.
    pub(super) fn take(entries: &mut Vec<(String, Self)>, key: &str) -> Option<Self> {
        let place = entries.iter().position(|(name, _)| name == key)?;
        Some(entries.swap_remove(place).1)
    }
}

/// It is not one document of that encoding within the bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Reads a whole document. The caller has bounded its length.
pub(super) fn read(bytes: &[u8], format: Format) -> Result<Value, Unreadable> {
    match format {
        Format::Json => serde_json::from_slice::<Whole>(bytes).map(|whole| whole.0).map_err(|_| Unreadable),
        Format::Cbor => {
            let mut rest = bytes;
            let limit = usize::from(DEPTH_MAX) + 2;
            let whole = ciborium::de::from_reader_with_recursion_limit::<Whole, _>(&mut rest, limit)
                .map_err(|_| Unreadable)?;
            if rest.is_empty() { Ok(whole.0) } else { Err(Unreadable) }
        }
    }
}

/// The document itself.
struct Whole(Value);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Node { depth_left: DEPTH_MAX }.deserialize(deserializer).map(Self)
    }
}

/// Reads one value and what is in it.
#[derive(Clone, Copy)]
struct Node {
    depth_left: u8,
}

impl Node {
    fn inner<E: Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left }),
            None => Err(E::custom("nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without tags")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            if entries.len() >= ENTRIES_MAX || entries.iter().any(|(name, _)| *name == key) {
                return Err(A::Error::custom("too many keys, or one twice"));
            }
            let value = map.next_value_seed(inner)?;
            entries.push((key, value));
        }
        Ok(Value::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        // How ciborium shows a tag.
        Err(A::Error::custom("a tag"))
    }
}

/// A key: a text string and nothing that can be turned into one.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn json(text: &str) -> Result<Value, Unreadable> {
        read(text.as_bytes(), Format::Json)
    }

    fn cbor(hex: &str) -> Result<Value, Unreadable> {
        let hex: String = hex.split_whitespace().collect();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        read(&bytes, Format::Cbor)
    }

    #[test]
    fn maps_of_text_are_read_in_both_encodings() {
        let expected = Value::Map(vec![("a".to_owned(), text("b"))]);
        assert_eq!(json(" {\"a\" : \"\\u0062\"} \n").unwrap(), expected);
        assert_eq!(cbor("a1 61 61 61 62").unwrap(), expected);
        // Indefinite lengths, of the map and of both texts.
        assert_eq!(cbor("bf 7f 61 61 ff 7f 61 62 60 ff ff").unwrap(), expected);
        // A length in more bytes than it needs.
        assert_eq!(cbor("b8 01 78 01 61 79 00 01 62").unwrap(), expected);
    }

    #[test]
    fn what_has_another_type_is_there_and_is_not_text() {
        assert_eq!(json("{\"a\":1,\"b\":[\"x\"],\"c\":null,\"d\":1e400}"), Err(Unreadable));
        let Ok(Value::Map(entries)) = json("{\"a\":1,\"b\":[\"x\"],\"c\":null,\"d\":true,\"e\":-1.5}") else {
            panic!("a map")
        };
        assert!(entries.iter().all(|(_, value)| *value == Value::Other));
        // A byte string is not text, as a value or as a key.
        assert_eq!(cbor("a1 61 61 41 62").unwrap(), Value::Map(vec![("a".to_owned(), Value::Other)]));
        assert_eq!(cbor("a1 41 61 61 62"), Err(Unreadable));
        assert_eq!(cbor("a1 01 61 62"), Err(Unreadable));
    }

    #[test]
    fn a_key_that_comes_twice_is_refused_at_every_level() {
        assert_eq!(json("{\"a\":\"1\",\"a\":\"2\"}"), Err(Unreadable));
        assert_eq!(json("{\"a\":\"1\",\"\\u0061\":\"2\"}"), Err(Unreadable));
        assert_eq!(json("{\"x\":{\"a\":1,\"a\":1}}"), Err(Unreadable));
        assert_eq!(cbor("a2 61 61 61 62 61 61 61 63"), Err(Unreadable));
    }

    #[test]
    fn nothing_may_follow_and_nothing_may_be_missing() {
        for text in ["", " ", "{", "{}x", "{} {}", "{\"a\"}", "{\"a\":\"b\"", "\u{feff}{}", "nul"] {
            assert_eq!(json(text), Err(Unreadable), "{text}");
        }
        assert_eq!(read(b"{\"a\":\"\xff\"}", Format::Json), Err(Unreadable));
        for hex in [
            "",
            "a0 00",
            "a1",
            "a1 61 61",
            "a1 61 61 62 62",
            "bf 61 61 61 62",
            "a1 61 61 61 ff",
            "ff",
            "7f 61",
        ] {
            assert_eq!(cbor(hex), Err(Unreadable), "{hex}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested =
            |depth: usize| format!("{}{}", "{\"a\":".repeat(depth - 1), "{}") + &"}".repeat(depth - 1);
        assert!(json(&nested(DEPTH_MAX.into())).is_ok());
        assert_eq!(json(&nested(usize::from(DEPTH_MAX) + 1)), Err(Unreadable));
        assert_eq!(json(&"[".repeat(8000)), Err(Unreadable));
        assert!(cbor(&("a1 61 61".repeat(DEPTH_MAX as usize - 1) + "a0")).is_ok());
        assert_eq!(cbor(&("a1 61 61".repeat(DEPTH_MAX.into()) + "a0")), Err(Unreadable));
        assert_eq!(cbor(&"81".repeat(8000)), Err(Unreadable));
        assert_eq!(cbor(&"9f".repeat(8000)), Err(Unreadable));
        assert_eq!(cbor(&"c1".repeat(8000)), Err(Unreadable));
    }

    #[test]
    fn tags_are_refused_wherever_they_stand() {
        // Tag 55799 before the map, tag 0 before a key, before a value, and a bignum.
        for hex in ["d9 d9 f7 a0", "a1 c0 61 61 61 62", "a1 61 61 c0 61 62"] {
            assert_eq!(cbor(hex), Err(Unreadable), "{hex}");
        }
    }

    #[test]
    fn an_announced_length_costs_nothing() {
        for hex in [
            "7b ff ff ff ff ff ff ff ff",
            "5b 7f ff ff ff ff ff ff ff 00",
            "bb ff ff ff ff ff ff ff ff",
            "9b 00 00 00 ff ff ff ff ff 00",
        ] {
            assert_eq!(cbor(hex), Err(Unreadable), "{hex}");
        }
    }
}
