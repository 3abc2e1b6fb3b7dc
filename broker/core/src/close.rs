//! Why connections end: one closed set for the peer's reason code, the operator, and the dashboard.

use std::fmt;

use signet_wire::{ConnectError, DecodeError, FrameError, ReasonCode};

/// A rule that a well-formed packet broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A packet before CONNECT, or of a kind that only a server sends (`[MQTT5-3.1.0-1]`).
    UnexpectedPacket,
    /// More unreleased QoS 2 messages than the Receive Maximum (`[MQTT5-3.3.4-7]`), or than a 3.1.1 client may hold.
    ReceiveMaximumExceeded,
    /// A topic alias above the Topic Alias Maximum (`[MQTT5-3.3.2-9]`).
    TopicAliasTooHigh,
    /// An empty topic with an alias that is not set on this connection (MQTT5 §3.3.2.3.4).
    TopicAliasUnknown,
    /// A subscription identifier from a client (`[MQTT5-3.3.4-6]`).
    SubscriptionIdFromClient,
    /// More levels than `topic_levels_max`.
    TopicTooDeep,
    /// An acknowledgement that does not fit the state of its packet identifier (MQTT5 §4.3).
    AckOutOfOrder,
    /// AUTH without an authentication method in CONNECT (`[MQTT5-4.12.0-7]`).
    AuthWithoutMethod,
    /// A session expiry in DISCONNECT after one of 0 in CONNECT (MQTT5 §3.14.2.2.2).
    SessionExpiryFromZero,
}

impl Violation {
    /// What a 5.0 client is told.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAliasTooHigh => ReasonCode::TopicAliasInvalid,
            Self::TopicTooDeep => ReasonCode::TopicNameInvalid,
            Self::UnexpectedPacket
            | Self::TopicAliasUnknown
            | Self::SubscriptionIdFromClient
            | Self::AckOutOfOrder
            | Self::AuthWithoutMethod
            | Self::SessionExpiryFromZero => ReasonCode::ProtocolError,
        }
    }

    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::UnexpectedPacket => "unexpected_packet",
            Self::ReceiveMaximumExceeded => "receive_maximum_exceeded",
            Self::TopicAliasTooHigh => "topic_alias_too_high",
            Self::TopicAliasUnknown => "topic_alias_unknown",
            Self::SubscriptionIdFromClient => "subscription_id_from_client",
            Self::TopicTooDeep => "topic_too_deep",
            Self::AckOutOfOrder => "ack_out_of_order",
            Self::AuthWithoutMethod => "auth_without_method",
            Self::SessionExpiryFromZero => "session_expiry_from_zero",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnexpectedPacket => "a packet that may not be sent here",
            Self::ReceiveMaximumExceeded => "more QoS 2 messages in flight than the Receive Maximum",
            Self::TopicAliasTooHigh => "a topic alias above the Topic Alias Maximum",
            Self::TopicAliasUnknown => "an empty topic with a topic alias that is not set",
            Self::SubscriptionIdFromClient => "a subscription identifier in a PUBLISH from a client",
            Self::TopicTooDeep => "a topic with more levels than topic_levels_max",
            Self::AckOutOfOrder => "an acknowledgement of the wrong kind for its packet identifier",
            Self::AuthWithoutMethod => "AUTH without an authentication method in CONNECT",
            Self::SessionExpiryFromZero => "a session expiry interval in DISCONNECT where CONNECT had 0",
        })
    }
}

/// Why a CONNECT that could be decoded was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Another protocol name or level (`[MQTT5-3.1.2-1]`, `[MQTT3-3.1.2-2]`).
    UnsupportedVersion,
    /// 3.1.1: an empty client identifier with Clean Session 0 (`[MQTT3-3.1.3-8]`).
    ClientIdEmpty,
    /// The listener's rule binds the client identifier to the certificate's identity, and this one is another.
    ClientIdNotOwned,
    /// Longer than `client_id_bytes_max`.
    ClientIdTooLong,
    /// The certificate is good and is not registered here.
    CertificateUnknown,
    /// The certificate is registered and waits to be activated.
    CertificatePending,
    /// The certificate would be registered at its first connection, but not at this moment: the client tries again.
    CertificateLater,
    /// The certificate, its claim or its authority is suspended.
    CertificateInactive,
    /// The certificate was revoked.
    CertificateRevoked,
    /// The certificate has expired, and the grace for that is for devices.
    CertificateExpired,
    /// An authentication method; none is offered, the certificate decides (`[MQTT5-4.12.0-1]`).
    AuthenticationMethod,
    /// 3.1.1: a keep alive above `keep_alive_secs_max`, which that version cannot negotiate.
    KeepAliveTooLong,
    /// `sessions_max` is reached.
    TooManySessions,
    /// `sessions_per_principal_max`, or `sessions_per_claim_max`, is reached.
    TooManySessionsOfPrincipal,
    /// The CONNACK is larger than the client's Maximum Packet Size.
    ConnAckTooLarge,
    /// The will's topic has more levels than `topic_levels_max`.
    WillTopicTooDeep,
    /// A will below `$aws/`, or of a claim, which has none.
    WillNotAllowed,
    /// Memory runs short, and this client has no session yet.
    Overloaded,
    /// This principal connects faster than it may.
    ConnectRate,
    /// The disk does not keep up with what must outlive the process, and the session would be added to it.
    StoreBehind,
}

impl Refusal {
    /// The CONNACK's reason code; the encoder maps it to a return code for 3.1.1.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::UnsupportedVersion => ReasonCode::UnsupportedProtocolVersion,
            Self::ClientIdEmpty | Self::ClientIdNotOwned | Self::ClientIdTooLong | Self::KeepAliveTooLong => {
                ReasonCode::ClientIdentifierNotValid
            }
            Self::CertificateUnknown
            | Self::CertificatePending
            | Self::CertificateInactive
            | Self::CertificateRevoked
            | Self::CertificateExpired
            | Self::WillNotAllowed => ReasonCode::NotAuthorized,
            Self::CertificateLater => ReasonCode::ServerBusy,
            Self::AuthenticationMethod => ReasonCode::BadAuthenticationMethod,
            Self::TooManySessions | Self::TooManySessionsOfPrincipal => ReasonCode::QuotaExceeded,
            Self::ConnAckTooLarge => ReasonCode::PacketTooLarge,
            Self::WillTopicTooDeep => ReasonCode::TopicNameInvalid,
            Self::Overloaded => ReasonCode::ServerBusy,
            Self::ConnectRate => ReasonCode::ConnectionRateExceeded,
            Self::StoreBehind => ReasonCode::ServerUnavailable,
        }
    }

    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::UnsupportedVersion => "unsupported_version",
            Self::ClientIdEmpty => "client_id_empty",
            Self::ClientIdNotOwned => "client_id_not_owned",
            Self::ClientIdTooLong => "client_id_too_long",
            Self::CertificateUnknown => "certificate_unknown",
            Self::CertificatePending => "certificate_pending",
            Self::CertificateLater => "certificate_later",
            Self::CertificateInactive => "certificate_inactive",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateExpired => "certificate_expired",
            Self::AuthenticationMethod => "authentication_method",
            Self::KeepAliveTooLong => "keep_alive_too_long",
            Self::TooManySessions => "too_many_sessions",
            Self::TooManySessionsOfPrincipal => "too_many_sessions_of_principal",
            Self::ConnAckTooLarge => "connack_too_large",
            Self::WillTopicTooDeep => "will_topic_too_deep",
            Self::WillNotAllowed => "will_not_allowed",
            Self::Overloaded => "overloaded_at_connect",
            Self::ConnectRate => "connect_rate",
            Self::StoreBehind => "store_behind",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnsupportedVersion => "the protocol version is not 3.1.1 or 5.0",
            Self::ClientIdEmpty => "an empty client identifier needs Clean Session 1 in MQTT 3.1.1",
            Self::ClientIdNotOwned => {
                "the listener binds the client identifier to the certificate's name, and this one differs"
            }
            Self::ClientIdTooLong => "the client identifier is longer than client_id_bytes_max",
            Self::CertificateUnknown => "the certificate is valid and not registered with this broker",
            Self::CertificatePending => "the certificate is registered and has not been activated",
            Self::CertificateLater => {
                "the certificate cannot be registered at this moment: connect again later"
            }
            Self::CertificateInactive => "the certificate is suspended",
            Self::CertificateRevoked => "the certificate was revoked",
            Self::CertificateExpired => "the certificate has expired",
            Self::AuthenticationMethod => {
                "the client asks for enhanced authentication; the certificate is the only one here"
            }
            Self::KeepAliveTooLong => "the keep alive is longer than keep_alive_secs_max",
            Self::TooManySessions => "sessions_max is reached",
            Self::TooManySessionsOfPrincipal => "this identity has as many sessions as it may",
            Self::ConnAckTooLarge => "the client's Maximum Packet Size has no room for CONNACK",
            Self::WillTopicTooDeep => "the will's topic has more levels than topic_levels_max",
            Self::WillNotAllowed => "a will below $aws, or of a claim, is not taken",
            Self::Overloaded => "the broker has no memory to spare for a new session; try again later",
            Self::ConnectRate => "this identity connects more often than it may; try again later",
            Self::StoreBehind => {
                "the broker's disk does not keep up, so no session can be stored; try again later"
            }
        })
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client's DISCONNECT with reason 0x00: the one end that discards the will (`[MQTT5-3.14.4-3]`).
    Disconnected,
    /// The client's DISCONNECT with another reason; the will is sent.
    DisconnectedWithWill(ReasonCode),
    /// The peer closed or reset the connection without a DISCONNECT.
    PeerClosed,
    /// Reading or writing failed at the edge.
    TransportFailed,
    /// No whole CONNECT within `connect_timeout`.
    ConnectTimeout,
    /// The first packet is no CONNECT of MQTT 3.1.1 or 5.0.
    BadConnect(ConnectError),
    /// CONNECT was understood and refused.
    Refused(Refusal),
    /// The stream could not be cut into packets; 0x95 when one is too large.
    Unframable(FrameError),
    /// A packet could not be decoded.
    Undecodable(DecodeError),
    /// A packet broke a rule.
    Violation(Violation),
    /// Nothing arrived for one and a half times the keep alive (`[MQTT5-3.1.2-22]`, `[MQTT3-3.1.2-24]`).
    KeepAliveTimeout,
    /// The same principal connected again with the same client identifier (`[MQTT5-3.1.4-3]`, `[MQTT3-3.1.4-2]`).
    TakenOver,
    /// A QoS 2 message came again while the connection before it was still routing it: whether it is routed or refused is known when
    /// it comes the next time.
    Unsettled,
    /// A new policy refuses what this session subscribes to.
    NotAuthorized,
    /// The client reads too slowly: `outbox_bytes_max` of QoS 1 and 2 messages wait.
    SlowConsumer,
    /// Memory runs short: a 3.1.1 publisher that cannot be refused its message, or a peer that had to make room.
    Overloaded,
    /// A packet that must be sent is larger than the client's Maximum Packet Size.
    PeerPacketLimit,
    /// The broker stops.
    ServerShuttingDown,
    /// An operator ended the connection.
    Administrative,
    /// The certificate was revoked or its thing suspended.
    CertificateRevoked,
    /// The certificate's validity ended.
    CertificateExpired,
    /// The time of the provisioning claim is over.
    ClaimEnded,
    /// The connection's owner gave up without a reason: its task failed.
    Abandoned,
}

impl CloseReason {
    /// The reason code of the DISCONNECT, or before an accepted CONNECT of the CONNACK, that a 5.0 client gets;
    /// `None` when nothing may be sent.
    #[must_use]
    pub const fn v5_code(self) -> Option<ReasonCode> {
        Some(match self {
            Self::Disconnected
            | Self::DisconnectedWithWill(_)
            | Self::PeerClosed
            | Self::TransportFailed
            | Self::ConnectTimeout
            | Self::PeerPacketLimit
            | Self::Abandoned => return None,
            Self::BadConnect(error) => error.reason(),
            Self::Refused(refusal) => refusal.reason(),
            Self::Unframable(error) => error.reason(),
            Self::Undecodable(error) => error.reason(),
            Self::Violation(violation) => violation.reason(),
            Self::KeepAliveTimeout => ReasonCode::KeepAliveTimeout,
            Self::TakenOver => ReasonCode::SessionTakenOver,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
            Self::SlowConsumer => ReasonCode::QuotaExceeded,
            Self::Overloaded | Self::Unsettled => ReasonCode::ServerBusy,
            Self::ServerShuttingDown => ReasonCode::ServerShuttingDown,
            Self::Administrative | Self::CertificateRevoked => ReasonCode::AdministrativeAction,
            Self::CertificateExpired | Self::ClaimEnded => ReasonCode::MaximumConnectTime,
        })
    }

    /// Whether the will is to be sent (`[MQTT5-3.1.2-8]`). A revoked certificate's will is not: nobody trusts its
    /// author any more.
    #[must_use]
    pub const fn sends_will(self) -> bool {
        !matches!(self, Self::Disconnected | Self::CertificateRevoked)
    }

    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::DisconnectedWithWill(_) => "disconnected_with_will",
            Self::PeerClosed => "peer_closed",
            Self::TransportFailed => "transport_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::BadConnect(_) => "bad_connect",
            Self::Refused(refusal) => refusal.metric_label(),
            Self::Unframable(error) => error.metric_label(),
            Self::Undecodable(error) => error.metric_label(),
            Self::Violation(violation) => violation.metric_label(),
            Self::KeepAliveTimeout => "keep_alive_timeout",
            Self::TakenOver => "taken_over",
            Self::Unsettled => "unsettled",
            Self::NotAuthorized => "not_authorized",
            Self::SlowConsumer => "slow_consumer",
            Self::Overloaded => "overloaded",
            Self::PeerPacketLimit => "peer_packet_limit",
            Self::ServerShuttingDown => "server_shutting_down",
            Self::Administrative => "administrative",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateExpired => "certificate_expired",
            Self::ClaimEnded => "claim_ended",
            Self::Abandoned => "abandoned",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the client disconnected"),
            Self::DisconnectedWithWill(reason) => write!(f, "the client disconnected with {reason}"),
            Self::PeerClosed => f.write_str("the peer closed the connection without DISCONNECT"),
            Self::TransportFailed => f.write_str("reading or writing failed"),
            Self::ConnectTimeout => f.write_str("no whole CONNECT within connect_timeout"),
            Self::BadConnect(error) => error.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unframable(error) => error.fmt(f),
            Self::Undecodable(error) => error.fmt(f),
            Self::Violation(violation) => violation.fmt(f),
            Self::KeepAliveTimeout => f.write_str("nothing received for 1.5 times the keep alive"),
            Self::TakenOver => {
                f.write_str("the same identity connected again with the same client identifier")
            }
            Self::Unsettled => f.write_str(
                "a message of QoS 2 is still being taken from the connection before; connect and send it again",
            ),
            Self::NotAuthorized => {
                f.write_str("the new access policy refuses a subscription of this session")
            }
            Self::SlowConsumer => f.write_str("the client reads too slowly: outbox_bytes_max is reached"),
            Self::Overloaded => f.write_str("the broker has no memory to spare; try again later"),
            Self::PeerPacketLimit => {
                f.write_str("a packet that must be sent is larger than the client's Maximum Packet Size")
            }
            Self::ServerShuttingDown => f.write_str("the broker stops"),
            Self::Administrative => f.write_str("an operator ended the connection"),
            Self::CertificateRevoked => f.write_str("the certificate was revoked"),
            Self::CertificateExpired => f.write_str("the certificate has expired"),
            Self::ClaimEnded => f.write_str("the time of the provisioning claim is over"),
            Self::Abandoned => f.write_str("the connection's task failed"),
        }
    }
}
