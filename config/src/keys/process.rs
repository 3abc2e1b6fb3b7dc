//! The process itself: how it is asked, what it tells, with what it works.

use super::{Entry, count_or, key, secs, secs_or};
use crate::schema::Kind;
use crate::schema::TakesEffect::{Reload, Restart};

/// `[admin]`.
pub(super) const ADMIN: &[Entry] = &[
    key(
        "socket",
        Kind::File,
        "\"signet.sock\"",
        Restart,
        "Unix socket of the operator commands, made with mode 0600.",
    ),
    key(
        "metrics-address",
        Kind::Address,
        "",
        Restart,
        "Plain HTTP address of /metrics, /healthz and /readyz. Absent: not served. Anybody who can reach it can read it.",
    ),
];

/// `[log]`.
pub(super) const LOG: &[Entry] = &[
    key(
        "format",
        Kind::Choice(&["text", "json"]),
        "\"text\"",
        Restart,
        "A line for people, or one JSON object on a line. Both go to standard error.",
    ),
    key(
        "level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "\"info\"",
        Restart,
        "The least severe record written.",
    ),
];

/// `[events]`.
pub(super) const EVENTS: &[Entry] = &[key(
    "lifecycle",
    Kind::Flag,
    "true",
    Reload,
    "Whether every connect, disconnect, refused connect, subscribe and unsubscribe is told below `$aws/events`, where only operators read.",
)];

/// `[system]`.
pub(super) const SYSTEM: &[Entry] = &[
    key(
        "sys-interval",
        secs_or("not published", 3600),
        "\"10s\"",
        Reload,
        "Between two publications of the $SYS tree.",
    ),
    key(
        "watch-files-interval",
        secs_or("only on request", 3600),
        "\"5s\"",
        Reload,
        "Between two looks at the content of the certificate, key, CA, CRL and policy files; a change is a reload. A changed CRL file is noticed within 50 ms, unless this is 0.",
    ),
    key(
        "state-directory",
        Kind::File,
        "",
        Restart,
        "Folder in which the broker remembers over a restart which revocation lists it has seen, so that an older one is refused. Absent: the [registry] directory; without a registry nothing is remembered.",
    ),
    key(
        "shutdown-timeout",
        secs(0, 600),
        "\"10s\"",
        Reload,
        "For work in flight to finish after a stop was asked for.",
    ),
    key(
        "traffic-threads",
        count_or("by the number of processors", 1024),
        "0",
        Restart,
        "Threads that carry MQTT traffic.",
    ),
    key(
        "handshake-threads",
        count_or("by the number of processors", 1024),
        "0",
        Restart,
        "Threads that do TLS handshakes, apart from the traffic.",
    ),
];
