//! What operators and the broker say to each other over the admin socket: JSON, one type per answer.

use serde::{Deserialize, Serialize};

/// `GET /status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The broker's version.
    pub version: String,
    /// Seconds since the broker was started.
    pub uptime_seconds: u64,
    /// Where it listens.
    pub listeners: Vec<ListenerStatus>,
    /// Connections that have sent CONNECT.
    pub connections: u64,
    /// Peers that have not finished their TLS handshake.
    pub half_open: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Packets that carried a message in and out since the start.
    pub messages_received: u64,
    /// Messages sent since the start.
    pub messages_sent: u64,
    /// Handshakes that failed since the start.
    pub tls_failures: u64,
    /// Publish, subscribe and receive attempts that the policy refused since the start.
    pub access_denied: u64,
    /// Counts every accepted reload; the state in force is that of this generation.
    pub generation: u64,
}

/// One listener in [`Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ListenerStatus {
    /// The address it is bound to.
    pub address: String,
    /// Connections open now.
    pub connections: u64,
    /// Entries of its revocation lists.
    pub revoked_certificates: u64,
}

/// `POST /reload`, on success.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reloaded {
    /// The generation now in force.
    pub generation: u64,
    /// What was found changed, a sentence each. Empty when the files are as they were.
    pub changed: Vec<String>,
    /// Settings that changed in the file but need a restart.
    pub needs_restart: Vec<String>,
    /// Doubtful things that do not stop the reload.
    pub warnings: Vec<String>,
}

/// One session in `GET /sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SessionRow {
    /// The certified name.
    pub name: String,
    /// `device`, `claim` or `operator`.
    pub role: String,
    /// The client id within that name.
    pub client_id: String,
    /// Whether a connection has it now.
    pub connected: bool,
    /// The peer's address, when connected.
    pub address: Option<String>,
    /// `3.1.1` or `5.0`, when connected.
    pub protocol: Option<String>,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages that wait to be sent or acknowledged.
    pub queued: u64,
}

/// `POST /sessions/kick`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kick {
    /// The certified name.
    pub name: String,
    /// Only this client id.
    pub client_id: Option<String>,
}

/// The answer to [`Kick`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kicked {
    /// Connections that were told to close.
    pub closed: u64,
}

/// Any refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refusal {
    /// What was wrong, a line each.
    pub problems: Vec<String>,
}
