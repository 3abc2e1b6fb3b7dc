//! The one table of keys: what there is, what it may hold, what it is when not said, and what it means.
//!
//! The checker takes defaults and bounds from here, the importer takes bounds from here, and a test compares the
//! documentation with it, so that none of them can say something else.

use crate::schema::{Key, Kind, Section, TakesEffect};

const fn key(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    takes_effect: TakesEffect,
    about: &'static str,
) -> Key {
    Key { section, name, default, required: false, takes_effect, about, kind }
}

const fn required(
    section: Section,
    name: &'static str,
    kind: Kind,
    effect: TakesEffect,
    about: &'static str,
) -> Key {
    Key { section, name, default: "", required: true, takes_effect: effect, about, kind }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max, zero: None }
}

const fn count_or(zero: &'static str, max: u64) -> Kind {
    Kind::Count { min: 0, max, zero: Some(zero) }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Bytes { min, max, zero: None }
}

const fn bytes_or(zero: &'static str, max: u64) -> Kind {
    Kind::Bytes { min: 0, max, zero: Some(zero) }
}

const fn secs(min: u64, max: u64) -> Kind {
    Kind::Time { min_ms: min * 1000, max_ms: max * 1000, zero: None, never: false }
}

const fn secs_or(zero: &'static str, max: u64) -> Kind {
    Kind::Time { min_ms: 0, max_ms: max * 1000, zero: Some(zero), never: false }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: u64 = 86_400;

use Section::{Acl, Admin, Identity, Limits, Listener, Log, Store, System};
use TakesEffect::{Reload, Restart};

/// Every key of the configuration file.
pub const KEYS: &[Key] = &[
    required(
        Listener,
        "address",
        Kind::Address,
        Restart,
        "Where to listen. Port 0 lets the kernel choose a port, which is logged.",
    ),
    required(
        Listener,
        "certificate",
        Kind::File,
        Reload,
        "PEM file with the server's certificate chain, leaf first.",
    ),
    required(
        Listener,
        "private-key",
        Kind::File,
        Reload,
        "PEM file with the private key of the leaf, mode 0600 or 0640: one that everybody can read, or its group can change, is refused.",
    ),
    required(
        Listener,
        "client-ca",
        Kind::Files,
        Reload,
        "PEM or DER files with the trust anchors of client certificates, at least one. An intermediate may be an anchor. The server's own CA is not trusted unless it is named here.",
    ),
    key(
        Listener,
        "crl",
        Kind::Files,
        "[]",
        Reload,
        "PEM or DER files with certificate revocation lists. Every certificate of the chain is looked up in the lists of its issuer; when there is any list, a client whose own issuer has none is refused.",
    ),
    key(
        Listener,
        "crl-stale",
        Kind::Choice(&["reject", "grace", "warn"]),
        "\"reject\"",
        Reload,
        "What a list past its nextUpdate means: its issuer's certificates are refused, or refused after `crl-grace`, or accepted with a warning in the log.",
    ),
    key(
        Listener,
        "crl-grace",
        secs(60, 365 * DAY),
        "\"24h\"",
        Reload,
        "With `crl-stale = \"grace\"`: how long after nextUpdate a list is still used.",
    ),
    key(
        Listener,
        "tls-versions",
        Kind::Choices(&["1.2", "1.3"]),
        "[\"1.2\", \"1.3\"]",
        Reload,
        "TLS versions spoken. There is nothing older.",
    ),
    key(
        Listener,
        "identity",
        Kind::Choice(&["cn", "san-uri", "san-dns", "fingerprint"]),
        "\"cn\"",
        Reload,
        "The part of the certificate that names the client. One source: a certificate without it is refused, never read in another way.",
    ),
    key(
        Listener,
        "name-extra-characters",
        Kind::Characters,
        "\"\"",
        Reload,
        "Characters accepted in names besides A-Z a-z 0-9 . _ : - (the first one must be a letter or a digit). Never / + # $ %, space or control characters.",
    ),
    key(Listener, "name-length-max", count(1, 128), "64", Reload, "Longest name, in characters."),
    key(
        Listener,
        "san-uri-prefix",
        Kind::Characters,
        "\"\"",
        Reload,
        "With `identity = \"san-uri\"`: what the URI must begin with; the name is what follows, which must not contain a slash. For example `spiffe://example.org/device/`.",
    ),
    key(
        Listener,
        "client-id",
        Kind::Choice(&["any", "identity", "identity-prefix"]),
        "\"any\"",
        Reload,
        "Client ids that a client may use: any, its name, or its name with or without `:suffix`. Every name has client ids of its own, so `any` lets nobody take over another's session. A policy that uses %c needs one of the other two.",
    ),
    key(
        Listener,
        "max-connections",
        count(1, 1_000_000),
        "20000",
        Reload,
        "Connections open at once on this listener, handshakes included. The start is refused when the process may not open so many files.",
    ),
    key(
        Listener,
        "max-fragment-size",
        bytes(128, 16 * KIB),
        "16384",
        Reload,
        "Largest plaintext of a TLS record that is sent. Lower it for clients with small receive buffers that cannot ask for it.",
    ),
    key(
        Listener,
        "session-tickets",
        count(0, 4),
        "0",
        Reload,
        "TLS 1.3 session tickets sent after a full handshake; with 0 no session is resumed, in TLS 1.2 neither. Some small clients report a ticket as a read error.",
    ),
    key(
        Listener,
        "require-client-auth-eku",
        Kind::Flag,
        "true",
        Reload,
        "Whether a client certificate must have the extended key usage extension. Where the extension is present it must contain clientAuth in any case.",
    ),
    key(
        Listener,
        "post-quantum",
        Kind::Choice(&["prefer", "off"]),
        "\"prefer\"",
        Reload,
        "Whether the hybrid key exchange X25519MLKEM768 is offered, first in order.",
    ),
    key(
        Listener,
        "handshake-timeout",
        secs(1, 120),
        "\"10s\"",
        Reload,
        "From accept to the end of the TLS handshake.",
    ),
    required(
        Acl,
        "file",
        Kind::File,
        Reload,
        "The policy, in the grammar of Mosquitto's acl_file. An empty file denies everything.",
    ),
    key(
        Acl,
        "subscribe-check",
        Kind::Flag,
        "true",
        Reload,
        "Whether a SUBSCRIBE is refused when its filter is not covered by what the client may read. With false it is granted as Mosquitto does; deliveries are checked in any case.",
    ),
    key(
        Acl,
        "allow-pattern-without-variable",
        Kind::Flag,
        "false",
        Reload,
        "Whether a `pattern` rule with neither %u nor %c, which grants the same to everybody, is a warning and not an error.",
    ),
    key(
        Acl,
        "allow-mid-level-variable",
        Kind::Flag,
        "false",
        Reload,
        "Whether %u or %c as a part of a level, such as `dev-%u`, is a warning and not an error. It stands for itself there: such a rule matches the literal text only, as in Mosquitto 2.1.",
    ),
    key(
        Identity,
        "operators",
        Kind::Names,
        "[]",
        Reload,
        "Names whose bearers have the role operator, to which a policy grants rights with `role operator`. Everybody else is a device.",
    ),
    key(
        Identity,
        "groups",
        Kind::Groups,
        "{}",
        Reload,
        "Groups of names, to which a policy grants rights with `role GROUP`.",
    ),
    key(
        Limits,
        "packet-bytes-max",
        bytes(KIB, 256 * MIB - 1),
        "\"256KiB\"",
        Reload,
        "Largest MQTT packet of an admitted client, header included. 5.0 clients are told it as Maximum Packet Size; beyond it: 0x95.",
    ),
    key(
        Limits,
        "connect-packet-bytes-max",
        bytes(KIB, 16 * MIB),
        "\"64KiB\"",
        Reload,
        "Largest CONNECT, will included: what a peer may make the broker buffer before it has said who it is in MQTT.",
    ),
    key(
        Limits,
        "connect-timeout",
        secs(1, 120),
        "\"10s\"",
        Reload,
        "From the end of the TLS handshake to a complete CONNECT.",
    ),
    key(
        Limits,
        "handshakes-in-flight-max",
        count(1, 65_536),
        "4096",
        Reload,
        "Peers between accept and the end of their TLS handshake, over all listeners. When there are more, the oldest one makes room.",
    ),
    key(
        Limits,
        "handshakes-per-address-per-second",
        count_or("no limit", 100_000),
        "50",
        Reload,
        "Connections that one peer address (an IPv6 /64 counts as one) may begin per second; twice as many may come in a burst. Raise it when a fleet sits behind one translated address.",
    ),
    key(
        Limits,
        "connections-per-address-max",
        count_or("no limit", 1_000_000),
        "2048",
        Reload,
        "Connections that one peer address (an IPv6 /64 counts as one) may hold open. Raise it when a fleet sits behind one translated address.",
    ),
    key(
        Limits,
        "client-id-bytes-max",
        bytes(23, 65_535),
        "1024",
        Reload,
        "Longest client id; beyond it: 0x85.",
    ),
    key(
        Limits,
        "keep-alive-max",
        secs_or("the client decides", 65_535),
        "0",
        Reload,
        "Longest keep alive, in whole seconds. A 5.0 client that asks for more, or for none, is told this one; a 3.1.1 client that does is refused.",
    ),
    key(
        Limits,
        "session-expiry-max",
        Kind::Time {
            min_ms: 0,
            max_ms: 10 * 365 * DAY * 1000,
            zero: Some("sessions end with their connection"),
            never: true,
        },
        "\"7d\"",
        Reload,
        "The longest that a session outlives its connection, in whole seconds. A 5.0 client that asks for more is told this one; a 3.1.1 session with clean session 0 gets it.",
    ),
    key(
        Limits,
        "will-delay-max",
        secs_or("wills are sent at once", 365 * DAY),
        "\"1d\"",
        Reload,
        "Longest will delay, in whole seconds; a longer one is cut.",
    ),
    key(
        Limits,
        "sessions-max",
        count(1, 10_000_000),
        "100000",
        Reload,
        "Sessions in the broker, connected or not; beyond it: CONNACK 0x97.",
    ),
    key(
        Limits,
        "sessions-per-principal-max",
        count(1, 1_000_000),
        "100",
        Reload,
        "Sessions of one certified name, connected or not; beyond it: CONNACK 0x97.",
    ),
    key(
        Limits,
        "subscriptions-per-session-max",
        count(1, 1_000_000),
        "1000",
        Reload,
        "Subscriptions of one session; beyond it: SUBACK 0x97.",
    ),
    key(
        Limits,
        "topic-levels-max",
        count(1, 65_535),
        "200",
        Reload,
        "Levels of a topic name or filter; beyond it: 0x90 or 0x8F.",
    ),
    key(
        Limits,
        "receive-max",
        count(1, 65_535),
        "100",
        Reload,
        "Messages of QoS 1 and 2 in flight from a client. 5.0 clients are told it as Receive Maximum; beyond it: 0x93.",
    ),
    key(
        Limits,
        "unreleased-qos2-max",
        count(1, 65_535),
        "1024",
        Reload,
        "QoS 2 packet identifiers that a 3.1.1 client, which knows no Receive Maximum, may hold without releasing them; beyond it: closed.",
    ),
    key(
        Limits,
        "inflight-max",
        count(1, 65_535),
        "100",
        Reload,
        "Messages of QoS 1 and 2 in flight to a client, or fewer when its Receive Maximum says so.",
    ),
    key(
        Limits,
        "queued-messages-max",
        count(1, 10_000_000),
        "1000",
        Reload,
        "Messages of QoS 1 and 2 that wait for one session beyond those in flight; beyond it the newest is dropped and counted.",
    ),
    key(
        Limits,
        "queued-bytes-max",
        bytes(KIB, 4 * GIB),
        "\"4MiB\"",
        Reload,
        "Bytes of messages that wait for a session that is not connected; beyond it the newest is dropped and counted. Not below `packet-bytes-max`.",
    ),
    key(
        Limits,
        "outbox-bytes-max",
        bytes(KIB, 4 * GIB),
        "\"4MiB\"",
        Reload,
        "Bytes of messages that wait for a connected client; beyond it QoS 0 is dropped and counted, for QoS 1 and 2 see `slow-consumer`. Not below `packet-bytes-max`.",
    ),
    key(
        Limits,
        "slow-consumer",
        Kind::Choice(&["close", "drop-newest"]),
        "\"close\"",
        Reload,
        "What happens to a connected client whose QoS 1 and 2 messages pass `outbox-bytes-max`: its connection ends with 0x97, or the newest message is dropped and counted.",
    ),
    key(
        Limits,
        "drain-bytes-max",
        bytes(KIB, 16 * MIB),
        "\"64KiB\"",
        Reload,
        "Bytes of messages handed to one connection before others have their turn.",
    ),
    key(
        Limits,
        "retained-replay-max",
        count(1, 10_000_000),
        "100000",
        Reload,
        "Retained messages that wait for one session after its subscriptions; beyond it they are dropped and counted.",
    ),
    key(
        Limits,
        "topic-alias-in-max",
        count_or("none", 65_535),
        "16",
        Reload,
        "Highest topic alias that a 5.0 client may use, told it as Topic Alias Maximum; beyond it: 0x94.",
    ),
    key(
        Limits,
        "topic-alias-out-max",
        count_or("none", 65_535),
        "16",
        Reload,
        "Topic aliases used towards a 5.0 client, or fewer when it says so.",
    ),
    key(
        Limits,
        "retained-messages-max",
        count_or("nothing is retained", 100_000_000),
        "100000",
        Reload,
        "Retained messages in the broker; beyond it the publish is refused with 0x97. Replacing one is not.",
    ),
    key(
        Limits,
        "retained-bytes-max",
        bytes_or("nothing is retained", 64 * GIB),
        "\"256MiB\"",
        Reload,
        "Bytes of retained messages in the broker; beyond it the publish is refused with 0x97.",
    ),
    key(
        Limits,
        "retained-messages-per-principal-max",
        count_or("nothing is retained", 100_000_000),
        "10000",
        Reload,
        "Retained messages of one certified name; beyond it the publish is refused with 0x97.",
    ),
    key(
        Limits,
        "retained-bytes-per-principal-max",
        bytes_or("nothing is retained", 64 * GIB),
        "\"16MiB\"",
        Reload,
        "Bytes of retained messages of one certified name; beyond it the publish is refused with 0x97.",
    ),
    key(
        Admin,
        "socket",
        Kind::File,
        "\"signet.sock\"",
        Restart,
        "Unix socket of the operator commands, made with mode 0600.",
    ),
    key(
        Admin,
        "metrics-address",
        Kind::Address,
        "",
        Restart,
        "Plain HTTP address of /metrics, /healthz and /readyz. Absent: not served. Anybody who can reach it can read it.",
    ),
    key(
        Log,
        "format",
        Kind::Choice(&["text", "json"]),
        "\"text\"",
        Restart,
        "A line for people, or one JSON object on a line. Both go to standard error.",
    ),
    key(
        Log,
        "level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "\"info\"",
        Restart,
        "The least severe record written.",
    ),
    key(
        Store,
        "durability",
        Kind::Choice(&["memory"]),
        "\"memory\"",
        Restart,
        "Where sessions, queues and retained messages are kept: in memory, so that they end with the process. This version has no other store.",
    ),
    key(
        System,
        "sys-interval",
        secs_or("not published", 3600),
        "\"10s\"",
        Reload,
        "Between two publications of the $SYS tree.",
    ),
    key(
        System,
        "watch-files-interval",
        secs_or("only on request", 3600),
        "\"5s\"",
        Reload,
        "Between two looks at the content of the certificate, key, CA, CRL and policy files; a change is a reload.",
    ),
    key(
        System,
        "shutdown-timeout",
        secs(0, 600),
        "\"10s\"",
        Reload,
        "For work in flight to finish after a stop was asked for.",
    ),
    key(
        System,
        "traffic-threads",
        count_or("by the number of processors", 1024),
        "0",
        Restart,
        "Threads that carry MQTT traffic.",
    ),
    key(
        System,
        "handshake-threads",
        count_or("by the number of processors", 1024),
        "0",
        Restart,
        "Threads that do TLS handshakes, apart from the traffic.",
    ),
];
