//! What follows from how a certificate stands.

use super::{DAY, Entry, count, key, secs, secs_or};
use crate::schema::Kind;
use crate::schema::TakesEffect::{Reload, Restart};

/// `[revocation]`.
pub(super) const REVOCATION: &[Entry] = &[
    key(
        "will",
        Kind::Choice(&["suppress", "send"]),
        "\"suppress\"",
        Reload,
        "The will of a client whose certificate was revoked: not sent, or sent when its connection closes, as far as the policy allows.",
    ),
    key(
        "retained",
        Kind::Choice(&["status", "all", "keep"]),
        "\"status\"",
        Reload,
        "Retained messages of a name whose last certificate was revoked: those on `status-topics` are removed and others stay, or all are removed, or all stay.",
    ),
    key(
        "status-topics",
        Kind::Topics,
        "[\"devices/%u/status\"]",
        Reload,
        "Topics that say how somebody is, and are false once nobody of that name can be. `%u` is the name; `+` and `#` are wildcards.",
    ),
    key(
        "session",
        Kind::Choice(&["delete", "keep"]),
        "\"delete\"",
        Reload,
        "Sessions of a name whose last certificate was revoked, with subscriptions and queued messages: deleted, or kept until they expire, for the next certificate of that name.",
    ),
];

/// `[standing]`.
pub(super) const STANDING: &[Entry] = &[
    key(
        "expired-grace",
        secs_or("an expired certificate is refused", 365 * DAY),
        "0",
        Restart,
        "How long after its end a device's certificate may still connect, into quarantine: it reaches its recovery topics and nothing else. In whole seconds.",
    ),
    key(
        "recovery-topics",
        Kind::Topics,
        "[\"devices/%u/certs/#\"]",
        Reload,
        "What a device in quarantine may read and write, besides the topics below `$aws` by which it gets a new certificate. `%u` is its name.",
    ),
    key(
        "refused-pause-max",
        secs_or("nobody waits, and no address is slowed", 3600),
        "\"1m\"",
        Reload,
        "The longest that a certificate which is refused again and again waits for the answer: from the sixth refusal on it is refused before its signature is verified, after one second, then two, and so on. Besides, an address from which many come who are refused, and nobody who is good, gets a share of its connections in, down to one in sixteen.",
    ),
];

/// `[clones]`.
pub(super) const CLONES: &[Entry] = &[
    key(
        "action",
        Kind::Choice(&["alarm", "quarantine", "off"]),
        "\"alarm\"",
        Reload,
        "What follows when a device's certificate seems to be in two hands: an alarm, or besides it the device goes into quarantine, which needs the registry; or nobody looks.",
    ),
    key(
        "returns",
        count(2, 1000),
        "5",
        Reload,
        "How often a certificate must come back to an address or TLS client that it had left, while its other connection was still open, to count as being in two hands.",
    ),
    key("within", secs(1, 30 * DAY), "\"10m\"", Reload, "The time within which those returns are counted."),
];
