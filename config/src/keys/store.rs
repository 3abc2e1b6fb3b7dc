//! What outlives the process.

use super::{Entry, GIB, MIB, bytes, key};
use crate::schema::Kind;
use crate::schema::TakesEffect::Restart;

/// `[store]`.
pub(super) const STORE: &[Entry] = &[
    key(
        "directory",
        Kind::File,
        "",
        Restart,
        "Folder of sessions, queued and retained messages, made with mode 0700. One process at a time can have it. Absent: they are kept in memory and end with the process.",
    ),
    key(
        "durability",
        Kind::Choice(&["strict", "batched", "memory"]),
        "\"strict\"",
        Restart,
        "With a folder: `strict`, an acknowledgement leaves after what it promises is on disk; `batched`, it is on disk within `batched-interval` after; `memory`, never. See [what survives what](durability.md).",
    ),
    key(
        "durability-linger",
        Kind::Time { min_ms: 0, max_ms: 1000, zero: Some("not at all"), never: false },
        "\"2ms\"",
        Restart,
        "With `strict`: how long a change waits for others that share its write. A message that its receivers acknowledge within this time costs no write.",
    ),
    key(
        "batched-interval",
        Kind::Time { min_ms: 10, max_ms: 3_600_000, zero: None, never: false },
        "\"1s\"",
        Restart,
        "With `batched`: how long after it is acknowledged a change may not be on disk. What was acknowledged in this time is lost in a crash.",
    ),
    key(
        "journal-bytes-max",
        bytes(MIB, 16 * GIB),
        "\"64MiB\"",
        Restart,
        "Bytes of changes that are not on disk yet. At the bound nothing more is read from clients that publish QoS 1 and 2 or connect to a session that is kept, until the disk has caught up.",
    ),
    key(
        "corrupt",
        Kind::Choice(&["refuse", "quarantine"]),
        "\"refuse\"",
        Restart,
        "What a damaged store means: the broker does not start and says what to do, or it moves the store aside, says so, and begins with an empty one.",
    ),
];

/// `[registry]`.
pub(super) const REGISTRY: &[Entry] = &[
    key(
        "mode",
        Kind::Choice(&["off", "on"]),
        "\"off\"",
        Restart,
        "With `on` every client certificate is looked up in the registry: one that is not in it, or is suspended or revoked there, is refused, unless its authority admits unknown ones. With `off` a certificate that a trust anchor vouches for and no list revokes is good.",
    ),
    key(
        "directory",
        Kind::File,
        "\"registry\"",
        Restart,
        "Folder of the registry and its audit trail, made with mode 0700. One process at a time can have it.",
    ),
];
