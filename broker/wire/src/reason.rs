//! Reason codes of MQTT 5.0 and the return codes of 3.1.1 that they become.

use std::fmt;

use crate::basics::PacketType;

macro_rules! reason_codes {
    ($($name:ident = $value:literal, $label:literal;)*) => {
        /// A reason code (MQTT5 §2.4). Below 0x80: success; from 0x80: failure.
        ///
        /// 0x00 has three names in the specification: Success, Normal disconnection
        /// ([`ReasonCode::NORMAL_DISCONNECTION`]) and Granted QoS 0 ([`ReasonCode::GRANTED_QOS_0`]).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the specification's own names")]
        pub enum ReasonCode {
            #[default]
            $($name = $value,)*
        }

        impl TryFrom<u8> for ReasonCode {
            /// The value that is no reason code.
            type Error = u8;

            fn try_from(value: u8) -> Result<Self, u8> {
                match value {
                    $($value => Ok(Self::$name),)*
                    other => Err(other),
                }
            }
        }

        impl ReasonCode {
            /// Every reason code, in order of its value.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// A bounded label for metrics and logs.
            #[must_use]
            pub const fn metric_label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "success";
    GrantedQoS1 = 0x01, "granted_qos_1";
    GrantedQoS2 = 0x02, "granted_qos_2";
    DisconnectWithWill = 0x04, "disconnect_with_will";
    NoMatchingSubscribers = 0x10, "no_matching_subscribers";
    NoSubscriptionExisted = 0x11, "no_subscription_existed";
    ContinueAuthentication = 0x18, "continue_authentication";
    ReAuthenticate = 0x19, "re_authenticate";
    UnspecifiedError = 0x80, "unspecified_error";
    MalformedPacket = 0x81, "malformed_packet";
    ProtocolError = 0x82, "protocol_error";
    ImplementationSpecificError = 0x83, "implementation_specific_error";
    UnsupportedProtocolVersion = 0x84, "unsupported_protocol_version";
    ClientIdentifierNotValid = 0x85, "client_identifier_not_valid";
    BadUserNameOrPassword = 0x86, "bad_user_name_or_password";
    NotAuthorized = 0x87, "not_authorized";
    ServerUnavailable = 0x88, "server_unavailable";
    ServerBusy = 0x89, "server_busy";
    Banned = 0x8A, "banned";
    ServerShuttingDown = 0x8B, "server_shutting_down";
    BadAuthenticationMethod = 0x8C, "bad_authentication_method";
    KeepAliveTimeout = 0x8D, "keep_alive_timeout";
    SessionTakenOver = 0x8E, "session_taken_over";
    TopicFilterInvalid = 0x8F, "topic_filter_invalid";
    TopicNameInvalid = 0x90, "topic_name_invalid";
    PacketIdentifierInUse = 0x91, "packet_identifier_in_use";
    PacketIdentifierNotFound = 0x92, "packet_identifier_not_found";
    ReceiveMaximumExceeded = 0x93, "receive_maximum_exceeded";
    TopicAliasInvalid = 0x94, "topic_alias_invalid";
    PacketTooLarge = 0x95, "packet_too_large";
    MessageRateTooHigh = 0x96, "message_rate_too_high";
    QuotaExceeded = 0x97, "quota_exceeded";
    AdministrativeAction = 0x98, "administrative_action";
    PayloadFormatInvalid = 0x99, "payload_format_invalid";
    RetainNotSupported = 0x9A, "retain_not_supported";
    QoSNotSupported = 0x9B, "qos_not_supported";
    UseAnotherServer = 0x9C, "use_another_server";
    ServerMoved = 0x9D, "server_moved";
    SharedSubscriptionsNotSupported = 0x9E, "shared_subscriptions_not_supported";
    ConnectionRateExceeded = 0x9F, "connection_rate_exceeded";
    MaximumConnectTime = 0xA0, "maximum_connect_time";
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription_identifiers_not_supported";
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard_subscriptions_not_supported";
}

impl ReasonCode {
    /// 0x00 in DISCONNECT: the will is not sent.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// 0x00 in SUBACK.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// Whether the code says failure (0x80 and above).
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self as u8 >= 0x80
    }
}

/// Who sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

impl ReasonCode {
    /// Whether `sender` may say this in a packet of that type (the tables of MQTT5 §3.2.2.2, §3.4.2.1 to §3.7.2.1, §3.9.3,
    /// §3.11.3, §3.14.2.1 and §3.15.2.1).
    pub(crate) const fn allowed_in(self, packet: PacketType, sender: Sender) -> bool {
        let by_server = matches!(sender, Sender::Server);
        let value = self as u8;
        match packet {
            PacketType::ConnAck => matches!(
                value,
                0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F
            ),
            // "No matching subscribers" is for the server to say.
            PacketType::PubAck | PacketType::PubRec => {
                matches!(value, 0x00 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
                    || by_server && value == 0x10
            }
            PacketType::PubRel | PacketType::PubComp => matches!(value, 0x00 | 0x92),
            PacketType::SubAck => {
                matches!(value, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
            }
            PacketType::UnsubAck => matches!(value, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
            PacketType::Disconnect => {
                matches!(value, 0x00 | 0x80..=0x83 | 0x90 | 0x93..=0x99)
                    || if by_server {
                        matches!(value, 0x87 | 0x89 | 0x8B | 0x8D..=0x8F | 0x9A..=0xA2)
                    } else {
                        value == 0x04
                    }
            }
            PacketType::Auth => value == 0x18 || if by_server { value == 0x00 } else { value == 0x19 },
            _ => false,
        }
    }
}

/// The label and the value: `not_authorized (0x87)`.
impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.metric_label(), *self as u8)
    }
}
