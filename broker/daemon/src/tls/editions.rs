//! Which editions of revocation lists have been in force, and which were published: remembered over a restart, so that an old list
//! cannot come back while the broker is down.

use std::cmp::Ordering;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::crl::{age_order, sha256};
use crate::ca::replace;

/// The most lists that are remembered of those in force, and of those published; the ones seen first are forgotten then.
const EDITIONS_MAX: usize = 4096;
/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// The version of a file that remembers published lists. A program that does not know them must not take it for one without
/// them: it would publish an older list.
const VERSION: u32 = 2;
/// The version of one that remembers none: every program before reads it.
const VERSION_OF_SEEN: u32 = 1;

/// One edition of one list. Lists of one key that differ in their issuing distribution point are different lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Edition {
    /// The SHA-256 of the issuer's SubjectPublicKeyInfo.
    #[serde(with = "hex")]
    pub issuer_key: [u8; 32],
    /// The SHA-256 of the issuing distribution point.
    #[serde(with = "hex")]
    pub point: [u8; 32],
    /// The issuer's name, for people.
    pub issuer: String,
    /// cRLNumber, big-endian without leading zeros; `None` in a list of version 1.
    #[serde(with = "number")]
    pub number: Option<Vec<u8>>,
    /// thisUpdate, Unix seconds.
    pub this_update: i64,
}

impl Edition {
    /// A list with this number of all certificates of the authority with this key: it has no issuing distribution point.
    pub(crate) fn of_all(issuer_key: [u8; 32], issuer: String, number: u64, this_update: i64) -> Self {
        let octets = number.to_be_bytes();
        let leading = octets.iter().take_while(|octet| **octet == 0).count().min(octets.len() - 1);
        let number = octets.get(leading..).map(<[u8]>::to_vec);
        Self { issuer_key, point: sha256(&[]), issuer, number, this_update }
    }

    fn is_same_list(&self, other: &Self) -> bool {
        self.issuer_key == other.issuer_key && self.point == other.point
    }

    fn age_order(&self, other: &Self) -> Ordering {
        age_order((self.number.as_deref(), self.this_update), (other.number.as_deref(), other.this_update))
    }
}

/// Number and time, for a message.
impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = &self.number {
            f.write_str("number 0x")?;
            number.iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
            f.write_str(", ")?;
        }
        write!(f, "thisUpdate {}", self.this_update)
    }
}

/// Why what was remembered cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EditionsError {
    /// The operating system.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// It is not what the broker wrote.
    #[error(
        "{}: this is not what the broker remembered of revocation lists: {reason}\n  hint: restore it, or remove it if the lists in \
         force are known to be the newest", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer version of this program wrote it.
    #[error(
        "{}: what was remembered of revocation lists has version {found}, this program reads up to {VERSION}\n  hint: use the newer \
         program, or remove the file if the lists in force are known to be the newest", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// The newest edition of each list: of those that were in force, and apart from them of those that this broker published. A list
/// that was published never was in force for that alone, so a copy that is older than it may come into force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Editions {
    seen: Vec<Edition>,
    published: Vec<Edition>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    lists: Vec<Edition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    published: Vec<Edition>,
}

/// What is read first: the rest of a version that is not known is not looked at.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Editions {
    /// Reads what [`Self::store`] wrote; nothing when there is no file.
    ///
    /// # Errors
    /// [`EditionsError`]. A file that is there and cannot be read is never taken for none.
    pub fn load(path: &Path) -> Result<Self, EditionsError> {
        let file = |source| EditionsError::File { path: path.to_owned(), source };
        let damaged = |reason: String| EditionsError::Damaged { path: path.to_owned(), reason };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(file(error)),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(damaged("it is too long".to_owned()));
            }
            Ok(_) => {}
        }
        let bytes = std::fs::read(path).map_err(file)?;
        let wrong = |error: serde_json::Error| damaged(error.to_string());
        let Head { version: found } = serde_json::from_slice(&bytes).map_err(wrong)?;
        if found > VERSION {
            return Err(EditionsError::Newer { path: path.to_owned(), found });
        }
        // For some hours published lists were written as version 1.
        let stored: Stored = serde_json::from_slice(&bytes).map_err(wrong)?;
        if stored.version < VERSION_OF_SEEN {
            return Err(damaged(format!("there is no version {found}")));
        }
        Ok(Self { seen: stored.lists, published: stored.published })
    }

    /// Writes it in the place of what is there, with mode 0600. Where nothing was published, programs that know of no published
    /// lists can read it.
    ///
    /// # Errors
    /// [`EditionsError::File`].
    pub fn store(&self, path: &Path) -> Result<(), EditionsError> {
        let file = |source| EditionsError::File { path: path.to_owned(), source };
        let Self { seen, published } = self.clone();
        let version = if published.is_empty() { VERSION_OF_SEEN } else { VERSION };
        let stored = Stored { version, lists: seen, published };
        let bytes = serde_json::to_vec_pretty(&stored).map_err(|error| file(error.into()))?;
        replace(path, &bytes, 0o600).map_err(file)
    }

    /// Remembers an edition that is in force unless a newer one of its list was; whether it is news.
    pub fn see(&mut self, edition: Edition) -> bool {
        remember(&mut self.seen, edition)
    }

    /// Remembers an edition that is published unless a newer one of its list was; whether it is news.
    pub fn publish(&mut self, edition: Edition) -> bool {
        remember(&mut self.published, edition)
    }

    /// The edition of the same list that was in force and is newer than this one.
    #[must_use]
    pub fn newer_than(&self, edition: &Edition) -> Option<&Edition> {
        newer(&self.seen, edition)
    }

    /// The edition of the same list that was published and is newer than this one.
    #[must_use]
    pub fn newer_published(&self, edition: &Edition) -> Option<&Edition> {
        newer(&self.published, edition)
    }
}

fn remember(editions: &mut Vec<Edition>, edition: Edition) -> bool {
    match editions.iter_mut().find(|known| known.is_same_list(&edition)) {
        Some(known) if edition.age_order(known).is_gt() => {
            *known = edition;
            true
        }
        Some(_) => false,
        None => {
            if editions.len() >= EDITIONS_MAX {
                editions.remove(0);
            }
            editions.push(edition);
            true
        }
    }
}

fn newer<'a>(editions: &'a [Edition], edition: &Edition) -> Option<&'a Edition> {
    editions.iter().find(|known| known.is_same_list(edition) && edition.age_order(known).is_lt())
}

fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

mod hex {
    use serde::de::Error;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::to_hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        super::from_hex(&text)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| Error::custom("64 hexadecimal digits are needed"))
    }
}

mod number {
    use serde::de::Error;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        number: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        number.as_deref().map(super::to_hex).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::from_hex(&text).ok_or_else(|| Error::custom("hexadecimal digits are needed")))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edition(key: u8, number: Option<&[u8]>, this_update: i64) -> Edition {
        Edition {
            issuer_key: [key; 32],
            point: [0; 32],
            issuer: "CN=Issuing".to_owned(),
            number: number.map(<[u8]>::to_vec),
            this_update,
        }
    }

    #[test]
    fn what_was_seen_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lists.json");
        let mut editions = Editions::load(&path).unwrap();
        assert!(editions.see(edition(1, Some(&[2, 0]), 100)));
        assert!(editions.see(edition(2, None, 100)));
        assert!(editions.publish(edition(1, Some(&[3, 0]), 100)));
        editions.store(&path).unwrap();
        let again = Editions::load(&path).unwrap();
        assert_eq!(again, editions);
        assert!(again.newer_than(&edition(1, Some(&[0xff]), 999)).is_some());
        assert!(
            again.newer_than(&edition(1, Some(&[2, 0]), 100)).is_none(),
            "what was published was not in force"
        );
        assert!(again.newer_published(&edition(1, Some(&[2, 0]), 100)).is_some());
        assert!(again.newer_published(&edition(2, None, 99)).is_none());
        // Another issuer's numbers are its own.
        assert!(again.newer_than(&edition(3, Some(&[1]), 1)).is_none());
        assert!(again.newer_than(&edition(2, None, 99)).is_some());
    }

    #[test]
    fn an_older_edition_does_not_replace_a_newer_one() {
        let mut editions = Editions::default();
        assert!(editions.see(edition(1, Some(&[5]), 100)));
        assert!(!editions.see(edition(1, Some(&[4]), 200)));
        assert!(!editions.see(edition(1, Some(&[5]), 100)));
        assert_eq!(editions.newer_than(&edition(1, Some(&[4]), 200)), Some(&edition(1, Some(&[5]), 100)));
    }

    #[test]
    fn what_was_written_before_anything_was_published_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lists.json");
        std::fs::write(&path, "{\"version\":1,\"lists\":[]}").unwrap();
        assert_eq!(Editions::load(&path).unwrap(), Editions::default());
    }

    /// What the first program that wrote such files reads, and the next one, which wrote published lists as version 1.
    fn read_before(path: &Path) -> [bool; 2] {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct First {
            version: u32,
            #[serde(rename = "lists")]
            _lists: Vec<Edition>,
        }
        let bytes = std::fs::read(path).unwrap();
        let first = serde_json::from_slice(&bytes).is_ok_and(|First { version, .. }| version == 1);
        let next = serde_json::from_slice(&bytes).is_ok_and(|Stored { version, .. }| version == 1);
        [first, next]
    }

    #[test]
    fn an_older_program_reads_what_remembers_nothing_published_and_refuses_what_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lists.json");
        let mut editions = Editions::default();
        editions.see(edition(1, Some(&[2]), 100));
        editions.store(&path).unwrap();
        assert_eq!(read_before(&path), [true, true]);
        editions.publish(edition(1, Some(&[3]), 100));
        editions.store(&path).unwrap();
        assert_eq!(read_before(&path), [false, false]);
        assert_eq!(Editions::load(&path).unwrap(), editions);
    }

    #[test]
    fn published_lists_that_were_written_as_version_1_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lists.json");
        let mut editions = Editions::default();
        editions.publish(edition(1, Some(&[3]), 100));
        editions.store(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"version\": 2"), "{text}");
        std::fs::write(&path, text.replace("\"version\": 2", "\"version\": 1")).unwrap();
        assert_eq!(Editions::load(&path).unwrap(), editions);
    }

    #[test]
    fn a_file_of_a_newer_program_is_refused_as_such_whatever_else_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lists.json");
        std::fs::write(&path, "{\"version\":3,\"editions\":{}}").unwrap();
        let refused = Editions::load(&path).unwrap_err();
        assert!(matches!(refused, EditionsError::Newer { found: 3, .. }), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("version 3, this program reads up to 2"), "{said}");
        assert!(said.contains("lists.json") && said.contains("use the newer program"), "{said}");
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lists.json");
        for text in
            ["", "{}", "{\"version\":0,\"lists\":[]}", "{\"version\":2}", "{\"version\":1,\"lists\":[{}]}"]
        {
            std::fs::write(&path, text).unwrap();
            let said = Editions::load(&path).unwrap_err().to_string();
            assert!(said.contains("hint"), "{text}: {said}");
        }
    }

    #[test]
    fn no_more_than_the_bound_is_remembered() {
        let mut editions = Editions::default();
        for n in 0..=u32::try_from(EDITIONS_MAX).unwrap() {
            let mut one = edition(0, None, 0);
            one.point[..4].copy_from_slice(&n.to_be_bytes());
            assert!(editions.see(one));
        }
        assert_eq!(editions.seen.len(), EDITIONS_MAX);
    }
}
