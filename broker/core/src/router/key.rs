//! A filter without a wildcard and what hangs on it, as a place of the map.

use super::set::Slot;
use super::table::Place;

/// So many bytes lie in the map itself, where a look-up finds them without waiting for memory once more: a level of a kind, one
/// for the device's name, one for what is said.
const SHORT_MAX: usize = 38;

/// The text of a filter. It is looked up by its bytes.
enum Key {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

impl Key {
    fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(text.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(text.as_bytes().into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

/// What hangs on a filter without a wildcard. It lies in one cache line: a look-up waits for memory less often.
#[repr(align(64))]
pub(super) struct Exact<S> {
    key: Key,
    pub(super) slot: Slot<S>,
}

impl<S> Exact<S> {
    pub(super) fn new(filter: &str) -> Self {
        Self { key: Key::new(filter), slot: Slot::Empty }
    }
}

impl<S> Place for Exact<S> {
    fn key(&self) -> &[u8] {
        self.key.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_text_whether_it_is_short_or_long() {
        for len in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 300, 65_535] {
            let text = "x".repeat(len);
            let key = Key::new(&text);
            assert_eq!(key.bytes(), text.as_bytes());
            assert_eq!(matches!(key, Key::Short { .. }), len <= SHORT_MAX);
            assert_ne!(key.bytes(), Key::new(&format!("{text}\0")).bytes());
        }
    }

    #[test]
    fn a_device_in_the_map_of_exact_filters_takes_a_cache_line() {
        assert_eq!(size_of::<Option<Exact<std::sync::Arc<u64>>>>(), 64);
    }
}
