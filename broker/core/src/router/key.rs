//! The text of a filter without a wildcard, as a key of the map.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

/// So many bytes lie in the map itself, where a look-up finds them without waiting for memory once more: a level of a kind, one
/// for the device's name, one for what is said.
const SHORT_MAX: usize = 38;

/// It is looked up by its bytes.
pub(super) enum Key {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

impl Key {
    pub(super) fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(text.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(text.as_bytes().into()),
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<[u8]>::borrow(self).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Borrow::<[u8]>::borrow(self) == Borrow::<[u8]>::borrow(other)
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_text_whether_it_is_short_or_long() {
        for len in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 300, 65_535] {
            let text = "x".repeat(len);
            let key = Key::new(&text);
            assert_eq!(Borrow::<[u8]>::borrow(&key), text.as_bytes());
            assert_eq!(matches!(key, Key::Short { .. }), len <= SHORT_MAX);
            assert!(key == Key::new(&text) && key != Key::new(&format!("{text}\0")));
        }
    }

    #[test]
    fn a_device_in_the_map_of_exact_filters_takes_a_cache_line() {
        assert_eq!(size_of::<(Key, super::super::set::Slot<std::sync::Arc<u64>>)>(), 64);
    }
}
