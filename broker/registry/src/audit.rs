//! The audit trail: every event in a chain of hashes.
//!
//! A row's hash covers the hash of the row before it, its own number and the text of its event as it is stored. So a
//! row that was edited, removed, put in or moved breaks the chain there, and that the end was cut off shows when the
//! head is known from elsewhere: from a backup, from a log, from the last verification. Whoever can write the database
//! can compute a new chain; the head that was noted elsewhere is what they cannot change.

use std::borrow::Borrow;
use std::fmt;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::id::stored_by_display;
use crate::{DecodeError, Event, IdError};

/// What every chain begins with, so that its hashes mean nothing elsewhere.
const DOMAIN: &[u8] = b"signet audit trail 1\0";

/// The hash of a row and all before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Hash {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        signet_identity::CertificateId::from_hex(text).map(|id| Self(*id.as_bytes())).ok_or(IdError::NotHex32)
    }
}

stored_by_display!(Hash);

/// The end of a chain: the number and the hash of its last row. It displays as `NUMBER:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The number of the last row; 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// The head of the empty chain.
    pub const EMPTY: Self = Self { seq: 0, hash: Hash([0; 32]) };

    /// The row that follows, with `event`.
    #[must_use]
    pub fn next(&self, event: &Event) -> AuditRow {
        self.next_text(event.encode())
    }

    fn next_text(&self, event: String) -> AuditRow {
        let seq = self.seq.saturating_add(1);
        let hash = hash(&self.hash, seq, &event);
        AuditRow { seq, event, previous: self.hash, hash }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl std::str::FromStr for Head {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (seq, hash) = text.split_once(':').ok_or(IdError::NotHex32)?;
        Ok(Self { seq: seq.parse().map_err(|_| IdError::NotHex32)?, hash: hash.parse()? })
    }
}

/// One row of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Counts from 1 without gaps.
    pub seq: u64,
    /// The event as [`Event::encode`] wrote it: with time, actor and change. Nothing else of a row counts; columns that
    /// a store derives from it for searching are not covered by the hash.
    pub event: String,
    /// The hash of the row before.
    pub previous: Hash,
    /// The hash of this row.
    pub hash: Hash,
}

impl AuditRow {
    /// The head of the chain that ends with this row.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// The event.
    ///
    /// # Errors
    /// [`DecodeError`] when the text is damaged or of a newer version.
    pub fn decode(&self) -> Result<Event, DecodeError> {
        Event::decode(&self.event)
    }
}

fn hash(previous: &Hash, seq: u64, event: &str) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(DOMAIN);
    context.update(&previous.0);
    context.update(&seq.to_be_bytes());
    context.update(event.as_bytes());
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Hash(out)
}

/// Where and how a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail is broken at row {seq}: {why}")]
pub struct Broken {
    /// The number of the first row that is not right, or that is missing.
    pub seq: u64,
    /// What is not right.
    pub why: Why,
}

/// What is not right with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Rows are missing before this one, or it stands in another's place.
    #[error("row {found} stands there; rows were removed or reordered")]
    Sequence {
        /// The number of the row that was found.
        found: u64,
    },
    /// The row does not follow from the one before.
    #[error("it does not follow from the row before; one of them was replaced")]
    Link,
    /// The row's content is not what was hashed.
    #[error("its content is not what was recorded; it was edited")]
    Edited,
    /// The chain ends before the row that is known to have been there.
    #[error("the trail ends before it; rows were cut off")]
    CutOff,
    /// The chain is whole, and is not the one whose head is known.
    #[error("it is not the row that is known from elsewhere; the trail was rewritten")]
    Rewritten,
}

impl Why {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Sequence { .. } => "sequence",
            Self::Link => "link",
            Self::Edited => "edited",
            Self::CutOff => "cut_off",
            Self::Rewritten => "rewritten",
        }
    }
}

/// Verifies a chain row by row, in constant memory.
#[derive(Debug, Clone)]
pub struct Verifier {
    head: Head,
    expected: Option<Head>,
}

impl Verifier {
    /// Verifies what follows `from` ([`Head::EMPTY`] for a whole trail). With `expected`, a row that is known from
    /// elsewhere must be in it.
    #[must_use]
    pub const fn new(from: Head, expected: Option<Head>) -> Self {
        Self { head: from, expected }
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// [`Broken`] when the row is not the one that was recorded at this place.
    pub fn push(&mut self, row: &AuditRow) -> Result<(), Broken> {
        let seq = self.head.seq.saturating_add(1);
        let broken = |why| Err(Broken { seq, why });
        if row.seq != seq {
            return broken(Why::Sequence { found: row.seq });
        }
        if row.previous != self.head.hash {
            return broken(Why::Link);
        }
        if row.hash != hash(&row.previous, row.seq, &row.event) {
            return broken(Why::Edited);
        }
        if self.expected.is_some_and(|known| known.seq == seq && known.hash != row.hash) {
            return broken(Why::Rewritten);
        }
        self.head = row.head();
        Ok(())
    }

    /// The head of the chain, when there are no more rows.
    ///
    /// # Errors
    /// [`Broken`] when the row that is known from elsewhere was not reached.
    pub fn finish(self) -> Result<Head, Broken> {
        match self.expected {
            Some(known) if known.seq > self.head.seq => {
                Err(Broken { seq: self.head.seq.saturating_add(1), why: Why::CutOff })
            }
            _ => Ok(self.head),
        }
    }
}

/// Verifies a whole trail, and says its head. With `expected`, the row that is known from elsewhere must be in it.
///
/// # Errors
/// [`Broken`] with the first row that is not the one that was recorded.
pub fn verify<R: Borrow<AuditRow>>(
    rows: impl IntoIterator<Item = R>,
    expected: Option<Head>,
) -> Result<Head, Broken> {
    let mut verifier = Verifier::new(Head::EMPTY, expected);
    for row in rows {
        verifier.push(row.borrow())?;
    }
    verifier.finish()
}
