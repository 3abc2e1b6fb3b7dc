//! MQTT listeners.

use super::{DAY, Entry, KIB, bytes, count, key, required, secs};
use crate::schema::Kind;
use crate::schema::TakesEffect::{Reload, Restart};

/// `[[listener]]`.
pub(super) const LISTENER: &[Entry] = &[
    required(
        "address",
        Kind::Address,
        Restart,
        "Where to listen. Port 0 lets the kernel choose a port, which is logged.",
    ),
    required("certificate", Kind::File, Reload, "PEM file with the server's certificate chain, leaf first."),
    required(
        "private-key",
        Kind::File,
        Reload,
        "PEM file with the private key of the leaf, mode 0600 or 0640: one that everybody can read, or its group can change, is refused.",
    ),
    required(
        "client-ca",
        Kind::Files,
        Reload,
        "PEM or DER files with the trust anchors of client certificates, at least one. An intermediate may be an anchor. The server's own CA is not trusted unless it is named here.",
    ),
    key(
        "crl",
        Kind::Files,
        "[]",
        Reload,
        "PEM or DER files with certificate revocation lists. Every certificate of the chain is looked up in the lists of its issuer; when there is any list, a client whose own issuer has none is refused.",
    ),
    key(
        "crl-stale",
        Kind::Choice(&["reject", "grace", "warn"]),
        "\"reject\"",
        Reload,
        "What a list past its nextUpdate means: its issuer's certificates are refused, or refused after `crl-grace`, or accepted with a warning in the log.",
    ),
    key(
        "crl-grace",
        secs(60, 365 * DAY),
        "\"24h\"",
        Reload,
        "With `crl-stale = \"grace\"`: how long after nextUpdate a list is still used.",
    ),
    key(
        "crl-stale-by-issuer",
        Kind::ChoiceOf(&["reject", "grace", "warn"]),
        "{}",
        Reload,
        "What `crl-stale` is for the lists of single authorities, by the issuer's name as the log and the metrics show it, such as `{ \"CN=Factory CA\" = \"warn\" }`.",
    ),
    key(
        "tls-versions",
        Kind::Choices(&["1.2", "1.3"]),
        "[\"1.2\", \"1.3\"]",
        Reload,
        "TLS versions spoken. There is nothing older.",
    ),
    key(
        "identity",
        Kind::Choice(&["cn", "san-uri", "san-dns", "fingerprint"]),
        "\"cn\"",
        Reload,
        "The part of the certificate that names the client. One source: a certificate without it is refused, never read in another way.",
    ),
    key(
        "name-extra-characters",
        Kind::Characters,
        "\"\"",
        Reload,
        "Characters accepted in names besides A-Z a-z 0-9 . _ : - (the first one must be a letter or a digit). Never / + # $ %, space or control characters.",
    ),
    key("name-length-max", count(1, 128), "64", Reload, "Longest name, in characters."),
    key(
        "san-uri-prefix",
        Kind::Characters,
        "\"\"",
        Reload,
        "With `identity = \"san-uri\"`: what the URI must begin with; the name is what follows, which must not contain a slash. For example `spiffe://example.org/device/`.",
    ),
    key(
        "client-id",
        Kind::Choice(&["any", "identity", "identity-prefix"]),
        "\"any\"",
        Reload,
        "Client ids that a client may use: any, its name, or its name with or without `:suffix`. Every name has client ids of its own, so `any` lets nobody take over another's session. A policy that uses %c needs one of the other two.",
    ),
    key(
        "max-connections",
        count(1, 1_000_000),
        "10000",
        Reload,
        "Connections open at once on this listener, handshakes included. The start is refused when the process may not open so many files.",
    ),
    key(
        "max-fragment-size",
        bytes(128, 16 * KIB),
        "16384",
        Reload,
        "Largest plaintext of a TLS record that is sent. Lower it for clients with small receive buffers that cannot ask for it.",
    ),
    key(
        "session-tickets",
        count(0, 4),
        "0",
        Reload,
        "TLS 1.3 session tickets sent after a full handshake; with 0 no session is resumed, in TLS 1.2 neither. Some small clients report a ticket as a read error.",
    ),
    key(
        "require-client-auth-eku",
        Kind::Flag,
        "true",
        Reload,
        "Whether a client certificate must have the extended key usage extension. Where the extension is present it must contain clientAuth in any case.",
    ),
    key(
        "x509-v1",
        Kind::Choice(&["refuse", "accept"]),
        "\"refuse\"",
        Reload,
        "Whether certificates of X.509 version 1 are accepted, which OpenSSL 3.0 makes without `-extfile`: the server's own, and a client's that a trust anchor issued directly, which takes `require-client-auth-eku = false` too. They say nothing about what they are for. Authorities of version 1 are refused in any case.",
    ),
    key(
        "post-quantum",
        Kind::Choice(&["prefer", "off"]),
        "\"prefer\"",
        Reload,
        "Whether the hybrid key exchange X25519MLKEM768 is offered, first in order.",
    ),
    key("handshake-timeout", secs(1, 120), "\"10s\"", Reload, "From accept to the end of the TLS handshake."),
];
