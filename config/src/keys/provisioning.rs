//! Provisioning of devices.

use super::{DAY, Entry, count, count_or, key, secs};
use crate::schema::Kind;
use crate::schema::TakesEffect::{Reload, Restart};

/// `[provisioning]`.
pub(super) const PROVISIONING: &[Entry] = &[
    key(
        "hook-command",
        Kind::File,
        "",
        Reload,
        "Program that is asked before a thing is registered: JSON on its standard input, JSON from its standard output. Absent: none is asked.",
    ),
    key(
        "hook-url",
        Kind::Characters,
        "\"\"",
        Reload,
        "Address of a service that is asked instead, by POST: `http://HOST:PORT/PATH`, on this machine or a trusted network.",
    ),
    key(
        "hook-deadline",
        Kind::Time { min_ms: 10, max_ms: 700, zero: None, never: false },
        "\"500ms\"",
        Reload,
        "How long the hook may take. No answer by then is a no. Small devices give up 1 s after their request, and every answer leaves within 800 ms; the rest of that is for the registry and its disk.",
    ),
    key(
        "hooks-max",
        count(1, 1024),
        "16",
        Restart,
        "Hooks under way at once, a quarter of them for one claim or device. Others wait, within their deadline.",
    ),
    key(
        "requests-in-flight-max",
        count(1, 65_536),
        "256",
        Reload,
        "Requests that wait or are under way at once, over all connections, a quarter of them of one claim or device. More are answered with 429 (Throttling) at once.",
    ),
    key(
        "requests-per-principal-per-second",
        count_or("no bound", 100_000),
        "200",
        Reload,
        "Requests per second of one claim, all its devices together; twice as many may come in a burst. More: 429. A device needs two.",
    ),
    key(
        "requests-per-device-per-second",
        count_or("no bound", 100_000),
        "2",
        Reload,
        "Requests per second of one device for its own next certificate, over MQTT and signatures over EST; twice as many may come in a burst. More: 429. A rotation needs two.",
    ),
    key(
        "just-in-time-per-authority-per-second",
        count_or("no bound", 100_000),
        "50",
        Reload,
        "Unknown certificates of one outside authority that are registered in a second; twice as many may come in a burst. More: CONNACK 0x89 (3 in MQTT 3.1.1), and an alarm.",
    ),
    key(
        "requests-per-address-per-second",
        count_or("no bound", 100_000),
        "200",
        Reload,
        "Requests per second from one address; an IPv6 /64 counts as one. More: 429.",
    ),
    key(
        "ownership-token-validity",
        secs(1, DAY),
        "\"1h\"",
        Reload,
        "From a certificate to the registration of its thing, in whole seconds. A certificate that is not registered by then is deleted.",
    ),
    key(
        "rotation-grace",
        secs(0, 30 * DAY),
        "\"1h\"",
        Reload,
        "How long the certificate that a rotation replaced stays in force after its successor has connected once, in whole seconds.",
    ),
    key(
        "alarm-refusals",
        count(1, 1_000_000),
        "20",
        Reload,
        "So many refused requests of one claim within a minute, by its own doing, are an alarm: a warning in the log, a metric, a note in the audit trail.",
    ),
    key(
        "suspend-claim-refusals",
        count_or("only an operator suspends", 1_000_000),
        "0",
        Reload,
        "So many refused requests of one claim within ten minutes, by its own doing, suspend it.",
    ),
    key(
        "threads",
        count_or("by the number of processors", 1024),
        "0",
        Restart,
        "Threads that check requests and sign, apart from the traffic.",
    ),
];
