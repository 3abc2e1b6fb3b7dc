//! The settings, in types that cannot hold a value out of bounds. Nothing here was read from the files it names.

use crate::Problem;
use signet_acl::ParseOptions;
use signet_identity::{GroupName, IdentitySource, NameRule, ThingName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The file it came from.
    pub file: PathBuf,
    /// The doors to the broker, at least one, no address twice (port 0 excepted).
    pub listeners: Vec<Listener>,
    /// Who may do what.
    pub acl: Acl,
    /// Which certified names have a role of their own.
    pub identity: Identity,
    /// The bounds of everything that a peer can make grow.
    pub limits: Limits,
    /// How operators reach the running broker.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
    /// Where state is kept.
    pub store: crate::Store,
    /// Whether certificates are looked up.
    pub registry: crate::Registry,
    /// The authority that this broker is; `None`: it issues no certificates.
    pub ca: Option<crate::Ca>,
    /// The doors for devices that get or renew a certificate.
    pub https: Vec<crate::Https>,
    /// The labels of EST, none twice.
    pub est_labels: Vec<crate::EstLabel>,
    /// What follows when the last certificate of a name is revoked.
    pub revocation: crate::Revocation,
    /// What a certificate may do that is no longer quite good.
    pub standing: crate::StandingRules,
    /// How one certificate in two hands is noticed.
    pub clones: crate::Clones,
    /// How devices ask for certificates over MQTT.
    pub provisioning: crate::Provisioning,
    /// What operators are told about the fleet while it happens.
    pub events: crate::Events,
    /// Threads and intervals.
    pub system: System,
    /// Doubtful settings that do not stop the start, to be logged.
    pub warnings: Vec<Problem>,
}

/// One `[[listener]]`: an address that speaks MQTT over mutually authenticated TLS, and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Where to listen. Port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// PEM file with the server's certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key of the leaf.
    pub private_key: PathBuf,
    /// PEM or DER files with the trust anchors of client certificates; at least one.
    pub client_ca: Vec<PathBuf>,
    /// PEM or DER files with the revocation lists.
    pub crl: Vec<PathBuf>,
    /// What a revocation list past its `nextUpdate` means.
    pub crl_stale: CrlStale,
    /// The same for the lists of single issuers, by the issuer's name.
    pub crl_stale_by_issuer: BTreeMap<String, CrlStale>,
    /// The TLS versions spoken.
    pub tls_versions: TlsVersions,
    /// Which part of the certificate names the client; one source, no fall-back.
    pub identity: IdentitySource,
    /// Which names are accepted.
    pub names: NameRule,
    /// Which client ids a principal may use.
    pub client_id: ClientIdRule,
    /// Connections open at once on this listener.
    pub connections_max: NonZeroU32,
    /// The largest plaintext of a TLS record that we send, in bytes, 128 to 16384.
    pub fragment_bytes_max: NonZeroU16,
    /// TLS 1.3 session tickets sent after each full handshake; 0 switches resumption off, TLS 1.2 included.
    pub session_tickets: u8,
    /// Whether a certificate without the extended key usage extension is refused. One that has the extension
    /// must contain clientAuth in any case.
    pub require_client_auth_eku: bool,
    /// What is done with certificates of X.509 version 1.
    pub x509_v1: X509V1,
    /// Whether the hybrid key exchange X25519MLKEM768 is offered, first in order.
    pub post_quantum: PostQuantum,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
}

/// What is done when a certificate revocation list is past its `nextUpdate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlStale {
    /// Every certificate of that issuer is refused.
    Reject,
    /// The list is used for so long after `nextUpdate`, then as [`CrlStale::Reject`].
    Grace(Duration),
    /// The list is used, and its age is logged and counted.
    Warn,
}

/// What is done with certificates of X.509 version 1, which have no extensions: the server's own, and clients'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum X509V1 {
    /// They are refused.
    Refuse,
    /// They are accepted, a client's when a trust anchor issued it directly.
    Accept,
}

/// TLS versions of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersions {
    /// TLS 1.3, and TLS 1.2 for those that have nothing newer.
    V12AndV13,
    /// TLS 1.2 only.
    V12,
    /// TLS 1.3 only.
    V13,
}

/// Which client ids a principal may use on a listener. Every principal has a name space of client ids of its own,
/// whichever rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientIdRule {
    /// Any.
    Any,
    /// Exactly the principal's name.
    Identity,
    /// The principal's name, or that name followed by `:` and any suffix.
    IdentityPrefix,
}

/// Use of the hybrid post-quantum key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostQuantum {
    /// Offered, and preferred when the client has it.
    Prefer,
    /// Not offered.
    Off,
}

/// `[acl]`: the policy file and how it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Acl {
    /// The policy, in the grammar of Mosquitto's `acl_file`.
    pub file: PathBuf,
    /// How that file is understood.
    pub options: ParseOptions,
}

/// `[identity]`: names with a role of their own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identity {
    /// Names whose bearers are operators.
    pub operators: BTreeSet<ThingName>,
    /// Groups of names; a policy grants rights to a group with `role GROUP`.
    pub groups: BTreeMap<GroupName, BTreeSet<ThingName>>,
}

impl Identity {
    /// The groups that `name` is in, in alphabetical order; at most [`signet_identity::GROUPS_MAX`].
    pub fn groups_of<'a>(&'a self, name: &'a ThingName) -> impl Iterator<Item = &'a GroupName> {
        self.groups.iter().filter(|(_, members)| members.contains(name)).map(|(group, _)| group)
    }
}

/// `[limits]`: bounds in the unit that the name ends with, or in items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet of an admitted client, in bytes with its header.
    pub packet_bytes_max: NonZeroU32,
    /// Largest CONNECT, in bytes with its header.
    pub connect_packet_bytes_max: NonZeroU32,
    /// From the end of the TLS handshake to a complete CONNECT.
    pub connect_timeout: Duration,
    /// Bytes that a peer may send until its TLS handshake is over.
    pub handshake_bytes_max: usize,
    /// Peers between accept and their CONNECT, over all listeners.
    pub handshakes_in_flight_max: NonZeroU32,
    /// Handshakes that one address may start per second; `None`: as many as it likes.
    pub handshakes_per_address_per_second: Option<NonZeroU32>,
    /// Connections that one address may hold open; `None`: as many as it likes.
    pub connections_per_address_max: Option<NonZeroU32>,
    /// Connections that one principal may begin per second; `None`: as many as it likes.
    pub connects_per_principal_per_second: Option<NonZeroU32>,
    /// Messages that one principal may publish per second; `None`: as many as it likes.
    pub publishes_per_principal_per_second: Option<NonZeroU32>,
    /// Bytes that one principal may send per second; `None`: as many as it likes.
    pub bytes_per_principal_per_second: Option<NonZeroU64>,
    /// Longest client id, in bytes.
    pub client_id_bytes_max: usize,
    /// Longest keep alive, in whole seconds; `None`: the client decides.
    pub keep_alive_secs_max: Option<NonZeroU16>,
    /// The longest that a session outlives its connection, in whole seconds; `u32::MAX`: for ever.
    pub session_expiry_secs_max: u32,
    /// Longest will delay, in whole seconds.
    pub will_delay_secs_max: u32,
    /// Sessions in the broker, connected or not.
    pub sessions_max: usize,
    /// Sessions of one principal.
    pub sessions_per_principal_max: usize,
    /// Connections of one provisioning claim.
    pub sessions_per_claim_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_per_session_max: usize,
    /// Subscriptions of all sessions of one principal.
    pub subscriptions_per_principal_max: usize,
    /// Levels of a topic name or filter.
    pub topic_levels_max: usize,
    /// QoS 1 and 2 messages in flight from a client.
    pub receive_max: NonZeroU16,
    /// QoS 2 identifiers that a 3.1.1 client may hold without releasing them.
    pub unreleased_qos2_max: usize,
    /// QoS 1 and 2 messages in flight to a client.
    pub inflight_max: NonZeroU16,
    /// QoS 1 and 2 messages that wait for one session beyond those in flight.
    pub queued_messages_max: usize,
    /// Bytes of messages that wait for a session that is not connected.
    pub queued_bytes_max: usize,
    /// Bytes of messages that wait for all sessions of one principal.
    pub queued_bytes_per_principal_max: NameShare,
    /// Bytes of messages that wait for a connected client.
    pub outbox_bytes_max: usize,
    /// What happens to a connected client whose QoS 1 and 2 messages pass `outbox_bytes_max`.
    pub slow_consumer: SlowConsumer,
    /// Bytes of messages handed to one connection before others have their turn.
    pub drain_bytes_max: usize,
    /// Retained messages that wait for one session after its subscriptions.
    pub retained_replay_max: usize,
    /// Highest topic alias that a client may use; 0: none.
    pub topic_alias_in_max: u16,
    /// Topic aliases used towards a client; 0: none.
    pub topic_alias_out_max: u16,
    /// Retained messages in the broker.
    pub retained_messages_max: usize,
    /// Bytes of retained messages in the broker.
    pub retained_bytes_max: usize,
    /// Retained messages of one principal.
    pub retained_messages_per_principal_max: usize,
    /// Bytes of retained messages of one principal.
    pub retained_bytes_per_principal_max: NameShare,
    /// Resident memory of the process.
    pub memory_max: MemoryMax,
}

/// The ceiling of the process's resident memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMax {
    /// What the control group allows, less a reserve; none where it allows everything.
    ControlGroup,
    /// So many bytes.
    Bytes(NonZeroU64),
    /// None.
    Unbounded,
}

/// How many bytes of messages one principal may have the broker keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameShare {
    /// As it was written.
    Written(usize),
    /// By default: `most`, or a [`Self::OF_CEILING`]th of the ceiling where that is less.
    Usual {
        /// Bytes without a ceiling.
        most: usize,
        /// Bytes under any ceiling: the largest message must find a place.
        least: usize,
    },
}

impl NameShare {
    /// Nobody has more than one in so many bytes of the ceiling, so that no few names can use it up and keep it.
    pub const OF_CEILING: u64 = 16;

    /// The bound in bytes under a ceiling of resident memory; `None`: there is no ceiling.
    #[must_use]
    pub fn bytes(self, ceiling: Option<u64>) -> usize {
        match (self, ceiling) {
            (Self::Written(bytes) | Self::Usual { most: bytes, .. }, None) | (Self::Written(bytes), _) => {
                bytes
            }
            (Self::Usual { most, least }, Some(ceiling)) => {
                let share = usize::try_from(ceiling / Self::OF_CEILING).unwrap_or(usize::MAX);
                most.min(share.max(least))
            }
        }
    }
}

/// What happens to a connected client whose QoS 1 and 2 messages pass `outbox_bytes_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Its connection ends with 0x97.
    Close,
    /// The newest message is dropped and counted.
    DropNewest,
}

/// `[admin]`: the ways in for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket of the operator commands, made with mode 0600.
    pub socket: PathBuf,
    /// Address of `/metrics`, `/healthz` and `/readyz`, plain HTTP; `None`: not served.
    pub metrics_address: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How a record is written.
    pub format: LogFormat,
    /// The least severe record written.
    pub level: LogLevel,
}

/// How a log record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object on a line.
    Json,
}

/// Severity of log records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What stops the broker from doing its work.
    Error,
    /// What an operator should look at.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Each step of it.
    Trace,
}

impl LogLevel {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[system]`: threads and intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Between two publications of the `$SYS` tree; `None`: not published.
    pub sys_interval: Option<Duration>,
    /// Between two looks at the content of certificate, key, CA, CRL and policy files; `None`: only on request.
    pub watch_files_interval: Option<Duration>,
    /// Where it is remembered which revocation lists were seen; `None`: in the folder of the registry.
    pub state_directory: Option<PathBuf>,
    /// For work in flight to finish after a stop was asked for.
    pub shutdown_timeout: Duration,
    /// Threads that carry MQTT traffic; `None`: by the number of processors.
    pub traffic_threads: Option<NonZeroU16>,
    /// Threads that do TLS handshakes; `None`: by the number of processors.
    pub handshake_threads: Option<NonZeroU16>,
}
