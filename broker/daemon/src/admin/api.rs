//! What operators and the broker say to each other over the admin socket: JSON, one type per answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tls::{Direction, FailedDevice, FailureGroup, FailureRecord, KeptFailure};

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

/// `GET /tls/failures`, with `?after=NUMBER` only newer records, and with `&wait-seconds=SECONDS` (at most 30) waiting for
/// one if there is none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FailuresWanted {
    /// Records with a higher number than this.
    pub after: Option<u64>,
    /// How long to wait for one.
    pub wait_seconds: Option<u64>,
}

/// The answer to [`FailuresWanted`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureReport {
    /// Handshakes that failed since the start.
    pub total: u64,
    /// The same by cause, those that occurred.
    pub by_cause: BTreeMap<String, u64>,
    /// Failures that left no record: one address leaves a few at once, and then one every few seconds.
    pub not_kept: u64,
    /// How many records one address leaves at once.
    pub records_per_address: u64,
    /// After how many seconds it leaves one more.
    pub refill_seconds: u64,
    /// The number of the newest record, to ask with `after` from.
    pub newest: u64,
    /// Records after `after` that were gone already.
    pub missed: u64,
    /// The last ones, oldest first, at most 1000.
    pub records: Vec<FailureRow>,
    /// By cause and device, the most frequent first, at most 1000. Empty in an answer to `after`.
    pub groups: Vec<FailureGroupRow>,
    /// Groups that gave way to newer ones.
    pub groups_forgotten: u64,
}

/// One trouble of one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureGroupRow {
    /// Why, out of a closed set.
    pub cause: String,
    /// The device: its certificate's subject, or its address.
    pub device: String,
    /// How many handshakes failed so.
    pub count: u64,
    /// How many of these left a record.
    pub kept: u64,
    /// When first, in Unix milliseconds.
    pub first_ms: u64,
    /// When last, in Unix milliseconds.
    pub last_ms: u64,
    /// The newest.
    pub last: FailureRow,
}

/// One failed handshake.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureRow {
    /// The number of the record; absent for a failure that left none.
    pub number: Option<u64>,
    /// Failures of the same address before this one that left no record.
    pub not_kept_before: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Address and port.
    pub peer: String,
    /// The listener's address.
    pub listener: String,
    /// The server name that the client asked for.
    pub sni: Option<String>,
    /// The TLS version agreed upon, or the newest offered.
    pub version: Option<String>,
    /// Equal for equal client programs.
    pub client: Option<String>,
    /// The certificate's subject.
    pub subject: Option<String>,
    /// The certificate's issuer.
    pub issuer: Option<String>,
    /// The certificate's serial number, hexadecimal.
    pub serial: Option<String>,
    /// First and last second of the certificate's validity, Unix seconds.
    pub validity: Option<(i64, i64)>,
    /// The certificate's SHA-256, hexadecimal.
    pub certificate: Option<String>,
    /// Why, out of a closed set.
    pub cause: String,
    /// Why, in detail.
    pub reason: String,
    /// The alert: `sent:unknown_ca(48)`.
    pub alert: Option<String>,
    /// What to do.
    pub hint: String,
}

impl From<&FailureRecord> for FailureRow {
    fn from(record: &FailureRecord) -> Self {
        let certificate = record.certificate.as_ref();
        Self {
            number: None,
            not_kept_before: 0,
            at_ms: record.at_ms,
            peer: record.peer.to_string(),
            listener: record.listener.clone(),
            sni: record.sni.clone(),
            version: record.version.map(str::to_owned),
            client: record.client.clone(),
            subject: certificate.map(|c| c.subject.clone()),
            issuer: certificate.map(|c| c.issuer.clone()),
            serial: certificate.map(|c| c.serial.clone()),
            validity: certificate.and_then(|c| c.validity),
            certificate: certificate.map(|c| c.sha256.clone()),
            cause: record.cause.metric_label().to_owned(),
            reason: record.reason.clone(),
            alert: record.alert.as_ref().map(|alert| {
                let way = match alert.direction {
                    Direction::Sent => "sent",
                    Direction::Received => "received",
                };
                format!("{way}:{}({})", alert.name, alert.code)
            }),
            hint: record.hint.to_owned(),
        }
    }
}

impl From<&KeptFailure> for FailureRow {
    fn from(kept: &KeptFailure) -> Self {
        Self {
            number: Some(kept.number),
            not_kept_before: kept.not_kept_before,
            ..Self::from(kept.record.as_ref())
        }
    }
}

impl From<&FailureGroup> for FailureGroupRow {
    fn from(group: &FailureGroup) -> Self {
        let last = FailureRow::from(group.last.as_ref());
        let device = match (&group.device, &last.subject) {
            (FailedDevice::Certificate(_), Some(subject)) => subject.clone(),
            (FailedDevice::Certificate(id), None) => id.to_string(),
            (FailedDevice::Address(address), _) => address.to_string(),
        };
        Self {
            cause: group.cause.metric_label().to_owned(),
            device,
            count: group.count,
            kept: group.kept,
            first_ms: group.first_ms,
            last_ms: group.last_ms,
            last,
        }
    }
}
