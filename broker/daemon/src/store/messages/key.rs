//! The keys of the store. Numbers are big-endian, so that rows of one session lie together, in the order in which they
//! are needed: bodies first, then each session with what belongs to it, then retained messages.
//!
//! | Key | Row |
//! |---|---|
//! | `00 01` | the schema version |
//! | `00 02` | the number of the last commit |
//! | `10` message | the body of a message that waits for one or more sessions |
//! | `20` session `01` | the session |
//! | `20` session `02` filter | a subscription |
//! | `20` session `03` entry | a message that waits |
//! | `20` session `04` entry | how far its exchange of QoS 2 is |
//! | `20` session `05` identifier | a QoS 2 message of the client that is not released |
//! | `30` topic | a retained message |
//!
//! A filter or topic that is longer than a key should be stands as `ff` and its SHA-256; the row has it whole.

use std::borrow::Cow;

use aws_lc_rs::digest;
use signet_core::journal::SessionNumber;
use signet_wire::{PacketId, SubscriptionFilter};

use super::row::RowError;

const META: u8 = 0x00;
const BODY: u8 = 0x10;
const SESSION: u8 = 0x20;
const RETAINED: u8 = 0x30;

const META_SCHEMA: u8 = 1;
const META_COMMIT: u8 = 2;

const OF_ITSELF: u8 = 1;
const OF_SUBSCRIPTION: u8 = 2;
const OF_ENTRY: u8 = 3;
const OF_EXCHANGE: u8 = 4;
const OF_RECEIVED: u8 = 5;

/// A longer text is not put into a key, in bytes.
const TEXT_IN_KEY_BYTES_MAX: usize = 512;
/// What no text begins with: it is not UTF-8.
const HASHED: u8 = 0xff;

/// The number of a body in the store.
pub(super) type BodyNumber = u64;

/// A key, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Schema,
    Commit,
    Body(BodyNumber),
    Session(SessionNumber),
    /// [`text_in_key`] of the filter.
    Subscription(SessionNumber, &'a [u8]),
    Entry(SessionNumber, u64),
    Exchange(SessionNumber, u64),
    Received(SessionNumber, PacketId),
    /// [`text_in_key`] of the topic.
    Retained(&'a [u8]),
}

impl<'a> Key<'a> {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Schema => vec![META, META_SCHEMA],
            Self::Commit => vec![META, META_COMMIT],
            Self::Body(number) => joined(&[&[BODY], &number.to_be_bytes()]),
            Self::Session(session) => of_session(session, OF_ITSELF, &[]),
            Self::Subscription(session, filter) => of_session(session, OF_SUBSCRIPTION, filter),
            Self::Entry(session, entry) => of_session(session, OF_ENTRY, &entry.to_be_bytes()),
            Self::Exchange(session, entry) => of_session(session, OF_EXCHANGE, &entry.to_be_bytes()),
            Self::Received(session, id) => of_session(session, OF_RECEIVED, &id.get().to_be_bytes()),
            Self::Retained(topic) => joined(&[&[RETAINED], topic]),
        }
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, RowError> {
        let unknown = RowError::Value("a key");
        let (table, rest) = bytes.split_first().ok_or(RowError::Short)?;
        match (*table, rest) {
            (META, [META_SCHEMA]) => Ok(Self::Schema),
            (META, [META_COMMIT]) => Ok(Self::Commit),
            (BODY, number) => Ok(Self::Body(number_of(number)?)),
            (SESSION, rest) => {
                let (session, rest) = rest.split_at_checked(8).ok_or(RowError::Short)?;
                let session = number_of(session)?;
                let (part, rest) = rest.split_first().ok_or(RowError::Short)?;
                match (*part, rest) {
                    (OF_ITSELF, []) => Ok(Self::Session(session)),
                    (OF_SUBSCRIPTION, filter) => Ok(Self::Subscription(session, filter)),
                    (OF_ENTRY, entry) => Ok(Self::Entry(session, number_of(entry)?)),
                    (OF_EXCHANGE, entry) => Ok(Self::Exchange(session, number_of(entry)?)),
                    (OF_RECEIVED, [high, low]) => {
                        let id = PacketId::new(u16::from_be_bytes([*high, *low])).ok_or(unknown)?;
                        Ok(Self::Received(session, id))
                    }
                    _ => Err(unknown),
                }
            }
            (RETAINED, topic) => Ok(Self::Retained(topic)),
            _ => Err(unknown),
        }
    }
}

fn number_of(bytes: &[u8]) -> Result<u64, RowError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| RowError::Value("a number in a key"))
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn of_session(session: SessionNumber, part: u8, rest: &[u8]) -> Vec<u8> {
    joined(&[&[SESSION], &session.to_be_bytes(), &[part], rest])
}

/// How a filter or a topic stands in a key.
pub(super) fn text_in_key(text: &[u8]) -> Cow<'_, [u8]> {
    if text.len() <= TEXT_IN_KEY_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    Cow::Owned(joined(&[&[HASHED], digest::digest(&digest::SHA256, text).as_ref()]))
}

/// What the keys of everything that belongs to a session begin with.
pub(super) fn session_prefix(session: SessionNumber) -> Vec<u8> {
    joined(&[&[SESSION], &session.to_be_bytes()])
}

/// A filter as it is written in SUBSCRIBE.
pub(super) fn filter_text(filter: &SubscriptionFilter) -> Vec<u8> {
    match filter.group() {
        None => filter.filter().as_bytes().to_vec(),
        Some(group) => joined(&[b"$share/", group.as_str().as_bytes(), b"/", filter.filter().as_bytes()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let id = PacketId::new(7).unwrap();
        for key in [
            Key::Schema,
            Key::Commit,
            Key::Body(1 << 40),
            Key::Session(3),
            Key::Subscription(3, b"a/+/#"),
            Key::Entry(3, 9),
            Key::Exchange(3, 9),
            Key::Received(3, id),
            Key::Retained(b"a/b"),
        ] {
            assert_eq!(Key::decode(&key.encode()), Ok(key));
        }
    }

    #[test]
    fn keys_sort_bodies_before_sessions_and_sessions_by_number_with_themselves_first() {
        let id = PacketId::MIN;
        let keys = [
            Key::Body(u64::MAX),
            Key::Session(1),
            Key::Subscription(1, b"\xff"),
            Key::Entry(1, 2),
            Key::Entry(1, 256),
            Key::Exchange(1, 0),
            Key::Received(1, id),
            Key::Session(2),
            Key::Session(256),
            Key::Retained(b"$"),
        ];
        assert!(keys.map(Key::encode).is_sorted());
    }

    #[test]
    fn a_long_text_is_hashed_and_a_short_one_is_not() {
        let long = vec![b'x'; 65_535];
        assert_eq!(&*text_in_key(&long[..512]), &long[..512]);
        assert_eq!(text_in_key(&long).len(), 33);
        assert_ne!(text_in_key(&long), text_in_key(&long[..600]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let session = Key::Session(1).encode();
        for end in 0..session.len() {
            assert!(Key::decode(&session[..end]).is_err(), "{end}");
        }
        for bytes in [&b"\x40"[..], b"\x00\x03", b"\x10\x00", &[&session[..], b"x"].concat()] {
            assert!(Key::decode(bytes).is_err(), "{bytes:?}");
        }
        assert!(Key::decode(&Key::Received(1, PacketId::MIN).encode()[..10]).is_err());
    }
}
