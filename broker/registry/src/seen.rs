//! When and from where certificates connected.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use signet_identity::CertificateId;

use crate::Wall;

/// How many parts the book has, each with a lock of its own.
const SHARDS: usize = 64;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

impl TlsVersion {
    /// The version as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// What was seen of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// When it connected for the first time.
    pub first: Wall,
    /// When it connected last.
    pub last: Wall,
    /// Where it connected from last.
    pub address: IpAddr,
    /// With which version of TLS.
    pub tls: TlsVersion,
    /// How often it connected.
    pub connects: u64,
}

/// An entry, and whether it changed since it was taken for the store.
#[derive(Debug)]
struct Entry {
    seen: Seen,
    changed: bool,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<CertificateId, Entry>,
    /// The ids of the changed entries, each once.
    changed: Vec<CertificateId>,
}

/// What was seen of every certificate that the registry knows.
///
/// It is written at every connection, so it is neither an event nor decided upon, and a crash may lose the last of it.
/// It holds one entry for each certificate that has connected; [`forget`](Self::forget) those that are deleted.
#[derive(Debug)]
pub struct SeenBook {
    shards: [Mutex<Shard>; SHARDS],
}

impl Default for SeenBook {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl SeenBook {
    /// The book with these entries, as they were stored.
    pub fn restore(entries: impl IntoIterator<Item = (CertificateId, Seen)>) -> Self {
        let book = Self::default();
        for (id, seen) in entries {
            book.shard(&id).entries.insert(id, Entry { seen, changed: false });
        }
        book
    }

    /// Notes that the certificate `id` has connected, and says what was seen of it before.
    pub fn note(&self, id: &CertificateId, now: Wall, address: IpAddr, tls: TlsVersion) -> Option<Seen> {
        let shard = &mut *self.shard(id);
        let before = shard.entries.get(id);
        let unchanged = before.is_none_or(|entry| !entry.changed);
        let before = before.map(|entry| entry.seen);
        let (first, connects) = before.map_or((now, 0), |seen| (seen.first, seen.connects));
        let seen = Seen { first, last: now, address, tls, connects: connects.saturating_add(1) };
        shard.entries.insert(*id, Entry { seen, changed: true });
        if unchanged {
            shard.changed.push(*id);
        }
        before
    }

    /// What was seen of the certificate `id`.
    #[must_use]
    pub fn get(&self, id: &CertificateId) -> Option<Seen> {
        self.shard(id).entries.get(id).map(|entry| entry.seen)
    }

    /// Drops what was seen of the certificate `id`.
    pub fn forget(&self, id: &CertificateId) {
        self.shard(id).entries.remove(id);
    }

    /// Takes what changed since the last call, one entry for each certificate, for the store.
    pub fn take_changed(&self) -> Vec<(CertificateId, Seen)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = &mut *shard.lock().unwrap_or_else(PoisonError::into_inner);
            for id in shard.changed.drain(..) {
                if let Some(entry) = shard.entries.get_mut(&id).filter(|entry| entry.changed) {
                    entry.changed = false;
                    all.push((id, entry.seen));
                }
            }
        }
        all
    }

    /// How many certificates have been seen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).entries.len())
            .sum()
    }

    /// Whether none has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of the book that the entry of `id` is in. Ids are hashes, so any byte spreads them.
    fn shard(&self, id: &CertificateId) -> MutexGuard<'_, Shard> {
        let [.., last] = id.as_bytes();
        let index = usize::from(*last) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn the_first_sight_stays_and_the_last_one_moves() {
        let book = SeenBook::default();
        let id = CertificateId::of(b"a");
        assert_eq!(book.note(&id, Wall(1), HERE, TlsVersion::V12), None);
        let before = book.note(&id, Wall(2), HERE, TlsVersion::V13).unwrap();
        assert_eq!((before.last, before.tls, before.connects), (Wall(1), TlsVersion::V12, 1));
        let seen = book.get(&id).unwrap();
        assert_eq!((seen.first, seen.last, seen.tls, seen.connects), (Wall(1), Wall(2), TlsVersion::V13, 2));
        assert_eq!(book.get(&CertificateId::of(b"b")), None);
    }

    #[test]
    fn what_changed_is_taken_once_for_each_certificate() {
        let book = SeenBook::default();
        let [a, b] = [b"a", b"b"].map(|der| CertificateId::of(der));
        for at in 0..1000 {
            book.note(&a, Wall(at), HERE, TlsVersion::V13);
        }
        book.note(&b, Wall(5), HERE, TlsVersion::V13);
        book.forget(&b);
        let taken = book.take_changed();
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].0, taken[0].1.connects), (a, 1000));
        assert!(book.take_changed().is_empty());
        book.note(&a, Wall(1000), HERE, TlsVersion::V13);
        assert_eq!(book.take_changed().len(), 1);
    }

    #[test]
    fn a_restored_book_goes_on_where_it_was() {
        let book = SeenBook::default();
        let id = CertificateId::of(b"a");
        book.note(&id, Wall(1), HERE, TlsVersion::V12);
        let stored = book.take_changed();
        let book = SeenBook::restore(stored);
        assert_eq!(book.len(), 1);
        assert!(book.take_changed().is_empty());
        assert_eq!(book.note(&id, Wall(9), HERE, TlsVersion::V12).unwrap().first, Wall(1));
    }
}
