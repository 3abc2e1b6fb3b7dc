//! Certificates over HTTPS.

use super::{DAY, Entry, KIB, MIB, bytes, count, count_or, key, required, secs};
use crate::schema::Kind;
use crate::schema::TakesEffect::{Reload, Restart};

/// `[[https]]`.
pub(super) const HTTPS: &[Entry] = &[
    required(
        "address",
        Kind::Address,
        Restart,
        "Where to give certificates over HTTPS. Port 0 lets the kernel choose a port, which is logged. It needs [ca].",
    ),
    required("certificate", Kind::File, Reload, "PEM file with the server's certificate chain, leaf first."),
    required(
        "private-key",
        Kind::File,
        Reload,
        "PEM file with the private key of the leaf, mode 0600 or 0640.",
    ),
    key(
        "client-ca",
        Kind::Files,
        "[]",
        Reload,
        "PEM or DER files with the trust anchors of client certificates. Empty: the broker's own authority. A client needs no certificate, but one that it shows must be good.",
    ),
    key(
        "crl",
        Kind::Files,
        "[]",
        Reload,
        "PEM or DER files with certificate revocation lists of these anchors; one past its nextUpdate is not good for anything. What the registry says of a certificate holds in any case.",
    ),
    key(
        "services",
        Kind::Choices(&["provision", "est"]),
        "[\"provision\", \"est\"]",
        Reload,
        "What is served: `provision` is POST /provision and POST /generate-token, `est` is everything below /.well-known/est.",
    ),
    key(
        "max-connections",
        count(1, 65_536),
        "256",
        Reload,
        "Connections open at once on this address, handshakes included.",
    ),
    key(
        "requests-per-address-per-minute",
        count_or("no limit", 1_000_000),
        "120",
        Reload,
        "Requests that one peer address (an IPv6 /64 counts as one) may make per minute; beyond it: 429. Raise it when a fleet sits behind one translated address.",
    ),
    key("body-bytes-max", bytes(KIB, MIB), "\"32KiB\"", Reload, "Largest body of a request; beyond it: 413."),
    key("handshake-timeout", secs(1, 120), "\"10s\"", Reload, "From accept to the end of the TLS handshake."),
    key(
        "header-timeout",
        secs(1, 120),
        "\"15s\"",
        Reload,
        "For a request's header to come in, from the end of the handshake or of the answer before; then the connection ends.",
    ),
    key("body-timeout", secs(1, 120), "\"15s\"", Reload, "For a request's body to come in; beyond it: 408."),
];

/// `[[est.label]]`.
pub(super) const EST_LABEL: &[Entry] = &[
    key(
        "name",
        Kind::Characters,
        "\"\"",
        Reload,
        "The label in /.well-known/est/NAME/simpleenroll. Empty: the path without a label.",
    ),
    key(
        "validity",
        secs(60, 50 * 365 * DAY),
        "",
        Reload,
        "How long certificates of this label are valid, in whole seconds. Absent: as [ca] says.",
    ),
    key(
        "approval",
        Kind::Flag,
        "false",
        Reload,
        "Whether an enrolment is answered with 202 until an operator approves it (`signet est pending`). A renewal is not.",
    ),
    key(
        "columns",
        count_or("one line, without a line end", 76),
        "0",
        Reload,
        "Characters on a line of base64 in answers. strongSwan reads one line only; `openssl base64 -d` and libest want 64 or 76.",
    ),
];
