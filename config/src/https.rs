//! `[[https]]` and `[[est.label]]`: the door for devices that have no certificate yet, or renew theirs.

use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

/// One `[[https]]`: an address that gives certificates over HTTPS, and does nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Https {
    /// Where to listen. Port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// PEM file with the server's certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key of the leaf.
    pub private_key: PathBuf,
    /// PEM or DER files with the trust anchors of client certificates; never empty: the broker's own authority when
    /// nothing was written.
    pub client_ca: Vec<PathBuf>,
    /// PEM or DER files with the revocation lists.
    pub crl: Vec<PathBuf>,
    /// Whether `/provision` and `/generate-token` are served.
    pub provision: bool,
    /// Whether EST is served.
    pub est: bool,
    /// Connections open at once, handshakes included.
    pub connections_max: NonZeroU32,
    /// Requests that one address may make per minute; `None`: as many as it likes.
    pub requests_per_address_per_minute: Option<NonZeroU32>,
    /// The largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// For the header of a request to come in, from when the one before was answered.
    pub header_timeout: Duration,
    /// For the body of a request to come in.
    pub body_timeout: Duration,
}

/// One `[[est.label]]`: how EST answers below `/.well-known/est/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstLabel {
    /// The label; `None` is the path without one.
    pub name: Option<String>,
    /// How long its certificates are valid; `None`: as `[ca]` says. Whole seconds.
    pub validity: Option<Duration>,
    /// Whether an operator approves each enrolment. A renewal needs none.
    pub approval: bool,
    /// Characters on a line of base64 in answers; `None`: all on one line, without a line end.
    pub columns: Option<NonZeroU8>,
}

impl EstLabel {
    /// The path without a label, when the configuration does not speak of it.
    pub const DEFAULT: Self = Self { name: None, validity: None, approval: false, columns: None };
}
