//! What can be wrong with bytes, and what to say about it.

use std::fmt;

use crate::basics::{PacketType, Version};
use crate::reason::ReasonCode;

/// Why a stream of bytes cannot be split into packets. The stream cannot be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The packet exceeds the maximum packet size that this side announced.
    #[error("the packet has {bytes} bytes, at most {bytes_max} are accepted")]
    PacketTooLarge {
        /// What the fixed header announces, itself included.
        bytes: usize,
        /// The limit, in the same measure.
        bytes_max: u32,
    },
    /// The remaining length does not end after four bytes.
    #[error("the remaining length is longer than four bytes")]
    LengthTooLong,
    /// The remaining length has leading zeros.
    #[error("the remaining length is not encoded in the fewest bytes")]
    LengthNotMinimal,
}

impl FrameError {
    /// The reason code for DISCONNECT or CONNACK.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::LengthTooLong | Self::LengthNotMinimal => ReasonCode::MalformedPacket,
        }
    }

    /// The clause that the bytes break.
    #[must_use]
    pub const fn clause(self) -> &'static str {
        match self {
            Self::PacketTooLarge { .. } => "MQTT5-3.2.2-15",
            Self::LengthTooLong => "MQTT5 §2.1.4, MQTT3 §2.2.3",
            Self::LengthNotMinimal => "MQTT5-1.5.5-1, MQTT3 §2.2.3",
        }
    }

    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::PacketTooLarge { .. } => "packet_too_large",
            Self::LengthTooLong => "remaining_length_too_long",
            Self::LengthNotMinimal => "remaining_length_not_minimal",
        }
    }
}

/// Why one whole packet is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    kind: DecodeErrorKind,
    packet: Option<PacketType>,
    version: Version,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident, $label:literal, $message:literal, $reason:ident, $v5:literal, $v311:literal;)*) => {
        /// What is wrong with a packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DecodeErrorKind {
            $($(#[$doc])* $name,)*
        }

        impl DecodeErrorKind {
            /// Every kind, so that metrics can be laid out in advance.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The reason code for DISCONNECT or CONNACK.
            #[must_use]
            pub const fn reason(self) -> ReasonCode {
                match self { $(Self::$name => ReasonCode::$reason,)* }
            }

            /// A bounded label for metrics.
            #[must_use]
            pub const fn metric_label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }

            const fn clause_of(self, version: Version) -> &'static str {
                match (self, version) {
                    $((Self::$name, Version::V5) => $v5, (Self::$name, Version::V311) => $v311,)*
                }
            }
        }
    };
}

kinds! {
    /// Packet type 0, or 15 in 3.1.1.
    ReservedType, "reserved_packet_type", "the packet type is reserved", MalformedPacket, "MQTT5 §2.1.2", "MQTT3-4.8.0-1";
    /// Flags of the fixed header that this packet type does not have.
    Flags, "fixed_header_flags", "the flags of the fixed header are not the ones of this packet type", MalformedPacket, "MQTT5-2.1.3-1", "MQTT3-2.2.2-2";
    /// A client sent what only a server may send.
    ServerOnly, "server_only_packet", "only a server sends this packet", ProtocolError, "MQTT5 §2.1.2", "MQTT3-4.8.0-1";
    /// A server sent what only a client may send.
    ClientOnly, "client_only_packet", "only a client sends this packet", ProtocolError, "MQTT5 §2.1.2", "MQTT3-4.8.0-1";
    /// CONNECT on a connection that is already past it.
    SecondConnect, "second_connect", "a second CONNECT on one connection", ProtocolError, "MQTT5-3.1.0-2", "MQTT3-3.1.0-2";
    /// The first packet is something else.
    NotConnect, "not_connect", "the first packet is not CONNECT", ProtocolError, "MQTT5-3.1.0-1", "MQTT3-3.1.0-1";
    /// The packet ends before its fields do.
    Truncated, "truncated", "the packet ends inside a field", MalformedPacket, "MQTT5 §4.13.1", "MQTT3-4.8.0-1";
    /// The packet goes on behind its last field.
    Surplus, "surplus_bytes", "bytes behind the last field", MalformedPacket, "MQTT5 §4.13.1", "MQTT3-4.8.0-1";
    /// A variable byte integer inside the packet does not end after four bytes.
    VarintTooLong, "varint_too_long", "a variable byte integer is longer than four bytes", MalformedPacket, "MQTT5 §1.5.5", "MQTT3 §2.2.3";
    /// A variable byte integer inside the packet has leading zeros.
    VarintNotMinimal, "varint_not_minimal", "a variable byte integer is not encoded in the fewest bytes", MalformedPacket, "MQTT5-1.5.5-1", "MQTT3 §2.2.3";
    /// A string is not well-formed UTF-8, or has a surrogate.
    NotUtf8, "string_not_utf8", "a string is not well-formed UTF-8", MalformedPacket, "MQTT5-1.5.4-1", "MQTT3-1.5.3-1";
    /// A string contains U+0000.
    Nul, "string_nul", "a string contains U+0000", MalformedPacket, "MQTT5-1.5.4-2", "MQTT3-1.5.3-2";
    /// A string contains a character that a receiver may refuse: U+0001 to U+001F, U+007F to U+009F, or a non-character.
    Control, "string_control", "a string contains a control character or a non-character", MalformedPacket, "MQTT5 §1.5.4", "MQTT3 §1.5.3";
    /// The packet identifier is 0.
    PacketIdZero, "packet_id_zero", "the packet identifier is 0", ProtocolError, "MQTT5-2.2.1-3", "MQTT3-2.3.1-1";
    /// The protocol name is neither `MQTT` nor the `MQIsdp` of MQTT 3.1.
    ProtocolName, "protocol_name", "the protocol name is not MQTT", UnsupportedProtocolVersion, "MQTT5-3.1.2-1", "MQTT3-3.1.2-1";
    /// The reserved bit of the connect flags is set.
    ConnectReserved, "connect_reserved_flag", "the reserved flag of CONNECT is set", MalformedPacket, "MQTT5-3.1.2-3", "MQTT3-3.1.2-3";
    /// The will flag is 0 and the will QoS is not.
    WillQosWithoutWill, "will_qos_without_will", "a will QoS without a will", MalformedPacket, "MQTT5-3.1.2-11", "MQTT3-3.1.2-13";
    /// The will flag is 0 and the will retain flag is 1.
    WillRetainWithoutWill, "will_retain_without_will", "a will retain flag without a will", MalformedPacket, "MQTT5-3.1.2-13", "MQTT3-3.1.2-15";
    /// The will QoS is 3.
    WillQosThree, "will_qos_3", "the will QoS is 3", MalformedPacket, "MQTT5-3.1.2-12", "MQTT3-3.1.2-14";
    /// The will topic is empty or contains a wildcard.
    WillTopic, "will_topic", "the will topic is empty or contains a wildcard", MalformedPacket, "MQTT5-4.7.3-1", "MQTT3-4.7.3-1";
    /// The password flag without the user name flag, in 3.1.1.
    PasswordWithoutUsername, "password_without_user_name", "a password without a user name", MalformedPacket, "MQTT5 §3.1.2.9", "MQTT3-3.1.2-22";
    /// PUBLISH with both QoS bits set.
    QosThree, "qos_3", "both QoS bits are set", MalformedPacket, "MQTT5-3.3.1-4", "MQTT3-3.3.1-4";
    /// PUBLISH with DUP and QoS 0.
    DupAtQosZero, "dup_at_qos_0", "the DUP flag at QoS 0", MalformedPacket, "MQTT5-3.3.1-2", "MQTT3-3.3.1-2";
    /// PUBLISH without a topic and, in 5.0, without an alias.
    TopicEmpty, "topic_empty", "the topic is empty and there is no topic alias", ProtocolError, "MQTT5 §3.3.2.1", "MQTT3-4.7.3-1";
    /// PUBLISH to a topic with `+` or `#`.
    TopicWildcard, "topic_wildcard", "the topic contains a wildcard", MalformedPacket, "MQTT5-3.3.2-2", "MQTT3-3.3.2-2";
    /// SUBSCRIBE or UNSUBSCRIBE without a filter.
    NoFilters, "no_filters", "no topic filter", ProtocolError, "MQTT5-3.8.3-2", "MQTT3-3.8.3-3";
    /// Reserved bits of the subscription options are set.
    SubscribeOptions, "subscribe_reserved_bits", "reserved bits of the subscription options are set", MalformedPacket, "MQTT5-3.8.3-5", "MQTT3-3.8.3-4";
    /// The requested QoS is 3.
    SubscribeQosThree, "subscribe_qos_3", "the requested QoS is 3", ProtocolError, "MQTT5 §3.8.3.1", "MQTT3-3.8.3-4";
    /// The retain handling is 3.
    RetainHandlingThree, "retain_handling_3", "the retain handling is 3", ProtocolError, "MQTT5 §3.8.3.1", "MQTT3-3.8.3-4";
    /// No Local on a shared subscription.
    NoLocalShared, "no_local_on_shared", "no local on a shared subscription", ProtocolError, "MQTT5-3.8.3-4", "MQTT3 §3.8.3";
    /// A reason code or return code that the packet does not have, or that this side may not send.
    Reason, "reason_code", "a reason code that this packet, or this sender, does not have", ProtocolError, "MQTT5 §2.4", "MQTT3 §3.2.2.3";
    /// SUBACK or UNSUBACK without a reason code.
    NoReasons, "no_reason_codes", "no reason code", MalformedPacket, "MQTT5-3.9.3-1", "MQTT3 §3.9.3";
    /// Reserved acknowledge flags of CONNACK are set.
    AckFlags, "connack_flags", "reserved acknowledge flags of CONNACK are set", MalformedPacket, "MQTT5-3.2.2-1", "MQTT3 §3.2.2.1";
    /// CONNACK refuses and says that a session is present.
    SessionPresent, "session_present_on_refusal", "session present on a refused connection", ProtocolError, "MQTT5-3.2.2-6", "MQTT3-3.2.2-4";
    /// A property identifier that does not exist.
    PropertyUnknown, "property_unknown", "an unknown property identifier", MalformedPacket, "MQTT5 §2.2.2.2", "MQTT5 §2.2.2.2";
    /// A property that this packet does not have.
    PropertyNotAllowed, "property_not_allowed", "a property that this packet does not have", MalformedPacket, "MQTT5 §2.2.2.2", "MQTT5 §2.2.2.2";
    /// A property that this packet has only in the other direction.
    PropertyWrongSide, "property_wrong_side", "a property that only the other side may send", ProtocolError, "MQTT5 §2.2.2.2", "MQTT5 §2.2.2.2";
    /// A property twice that may be there once.
    PropertyTwice, "property_twice", "a property that is there twice", ProtocolError, "MQTT5 §2.2.2.2", "MQTT5 §2.2.2.2";
    /// A property with a value out of its range, such as a boolean of 2 or a receive maximum of 0.
    PropertyValue, "property_value", "a property whose value is out of range", ProtocolError, "MQTT5 §2.2.2.2", "MQTT5 §2.2.2.2";
    /// The topic alias is 0.
    TopicAliasZero, "topic_alias_zero", "the topic alias is 0", TopicAliasInvalid, "MQTT5-3.3.2-8", "MQTT5-3.3.2-8";
    /// The response topic is empty or contains a wildcard.
    ResponseTopic, "response_topic", "the response topic is empty or contains a wildcard", ProtocolError, "MQTT5-3.3.2-14", "MQTT5-3.3.2-14";
    /// Authentication data without an authentication method.
    AuthDataWithoutMethod, "auth_data_without_method", "authentication data without a method", ProtocolError, "MQTT5 §3.1.2.11.10", "MQTT5 §3.1.2.11.10";
    /// AUTH without an authentication method.
    AuthWithoutMethod, "auth_without_method", "AUTH without an authentication method", ProtocolError, "MQTT5 §3.15.2.2.2", "MQTT5 §3.15.2.2.2";
    /// More user properties, or more bytes of them, than are accepted: a limit of this implementation.
    UserProperties, "user_properties", "more user properties than this side accepts", QuotaExceeded, "MQTT5 §4.13.2", "MQTT5 §4.13.2";
}

impl DecodeError {
    pub(crate) const fn new(kind: DecodeErrorKind, packet: Option<PacketType>, version: Version) -> Self {
        Self { kind, packet, version }
    }

    /// What is wrong.
    #[must_use]
    pub const fn kind(self) -> DecodeErrorKind {
        self.kind
    }

    /// The packet; `None` when even the type is reserved.
    #[must_use]
    pub const fn packet(self) -> Option<PacketType> {
        self.packet
    }

    /// The reason code for DISCONNECT or CONNACK of 5.0; for 3.1.1, which closes without a word, what it would be.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        self.kind.reason()
    }

    /// The clause of the connection's version that the packet breaks.
    #[must_use]
    pub const fn clause(self) -> &'static str {
        use DecodeErrorKind as Kind;
        use PacketType as Type;
        // Where the specification repeats a rule for one packet, that packet's own statement says more.
        match (self.kind, self.packet, self.version) {
            (Kind::Flags, Some(Type::PubRel), Version::V5) => "MQTT5-3.6.1-1",
            (Kind::Flags, Some(Type::Subscribe), Version::V5) => "MQTT5-3.8.1-1",
            (Kind::Flags, Some(Type::Unsubscribe), Version::V5) => "MQTT5-3.10.1-1",
            (Kind::Flags, Some(Type::Disconnect), Version::V5) => "MQTT5-3.14.1-1",
            (Kind::Flags, Some(Type::Auth), Version::V5) => "MQTT5-3.15.1-1",
            (Kind::Flags, Some(Type::PubRel), Version::V311) => "MQTT3-3.6.1-1",
            (Kind::Flags, Some(Type::Subscribe), Version::V311) => "MQTT3-3.8.1-1",
            (Kind::Flags, Some(Type::Unsubscribe), Version::V311) => "MQTT3-3.10.1-1",
            (Kind::Flags, Some(Type::Disconnect), Version::V311) => "MQTT3-3.14.1-1",
            (Kind::NoFilters, Some(Type::Unsubscribe), Version::V5) => "MQTT5-3.10.3-2",
            (Kind::NoFilters, Some(Type::Unsubscribe), Version::V311) => "MQTT3-3.10.3-2",
            (Kind::NoReasons, Some(Type::UnsubAck), _) => "MQTT5-3.11.3-1",
            (Kind::Reason, Some(Type::ConnAck), Version::V5) => "MQTT5-3.2.2-8",
            (Kind::Reason, Some(Type::PubAck), _) => "MQTT5-3.4.2-1",
            (Kind::Reason, Some(Type::PubRec), _) => "MQTT5-3.5.2-1",
            (Kind::Reason, Some(Type::PubRel), _) => "MQTT5-3.6.2-1",
            (Kind::Reason, Some(Type::PubComp), _) => "MQTT5-3.7.2-1",
            (Kind::Reason, Some(Type::SubAck), Version::V5) => "MQTT5-3.9.3-2",
            (Kind::Reason, Some(Type::SubAck), Version::V311) => "MQTT3-3.9.3-2",
            (Kind::Reason, Some(Type::UnsubAck), _) => "MQTT5-3.11.3-2",
            (Kind::Reason, Some(Type::Disconnect), _) => "MQTT5-3.14.2-1",
            (Kind::Reason, Some(Type::Auth), _) => "MQTT5-3.15.2-1",
            (Kind::PropertyWrongSide, Some(Type::Publish), _) => "MQTT5-3.3.4-6",
            (Kind::PropertyWrongSide, Some(Type::Disconnect), _) => "MQTT5-3.14.2-2",
            (Kind::ResponseTopic, Some(Type::Connect), _) => "MQTT5 §3.1.3.2.6",
            (kind, _, version) => kind.clause_of(version),
        }
    }

    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        self.kind.metric_label()
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = self.packet.map_or("packet", PacketType::name);
        write!(f, "{packet}: {} [{}]", self.kind.message(), self.clause())
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({:?}: {self})", self.kind)
    }
}

impl std::error::Error for DecodeError {}

/// Why a CONNECT is refused by the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The client speaks a version that this codec does not (`[MQTT3-3.1.2-2]`, `[MQTT5-3.1.2-2]`).
    UnacceptableProtocolVersion {
        /// In which version to say so: 3.1.1 to older clients, 5.0 to newer ones.
        answer_as: Version,
    },
    /// A 3.1.1 client wants to resume a session without saying whose (`[MQTT3-3.1.3-8]`).
    IdentifierRejected,
    /// Not a CONNECT, or a malformed one.
    Malformed(DecodeError),
}

impl ConnectError {
    /// The CONNACK to send before closing: its version and its reason code. `None` when the connection is to be closed without
    /// one, as for malformed 3.1.1 packets (`[MQTT3-3.1.4-1]`) and for peers that do not speak MQTT at all.
    #[must_use]
    pub const fn answer(self) -> Option<(Version, ReasonCode)> {
        match self {
            Self::UnacceptableProtocolVersion { answer_as } => {
                Some((answer_as, ReasonCode::UnsupportedProtocolVersion))
            }
            Self::IdentifierRejected => Some((Version::V311, ReasonCode::ClientIdentifierNotValid)),
            Self::Malformed(error) => match (error.version, error.kind) {
                (_, DecodeErrorKind::NotConnect | DecodeErrorKind::ProtocolName) | (Version::V311, _) => None,
                (Version::V5, _) => Some((Version::V5, error.reason())),
            },
        }
    }

    /// The reason code; for the log and metrics also where [`Self::answer`] is `None`.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::UnacceptableProtocolVersion { .. } => ReasonCode::UnsupportedProtocolVersion,
            Self::IdentifierRejected => ReasonCode::ClientIdentifierNotValid,
            Self::Malformed(error) => error.reason(),
        }
    }

    /// The clause that decides.
    #[must_use]
    pub const fn clause(self) -> &'static str {
        match self {
            Self::UnacceptableProtocolVersion { answer_as: Version::V311 } => "MQTT3-3.1.2-2",
            Self::UnacceptableProtocolVersion { answer_as: Version::V5 } => "MQTT5-3.1.2-2",
            Self::IdentifierRejected => "MQTT3-3.1.3-8",
            Self::Malformed(error) => error.clause(),
        }
    }

    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::UnacceptableProtocolVersion { .. } => "unacceptable_protocol_version",
            Self::IdentifierRejected => "identifier_rejected",
            Self::Malformed(error) => error.metric_label(),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnacceptableProtocolVersion { .. } => {
                write!(f, "CONNECT: the protocol version is not supported [{}]", self.clause())
            }
            Self::IdentifierRejected => {
                write!(f, "CONNECT: no client identifier and no clean session [{}]", self.clause())
            }
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<DecodeError> for ConnectError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// Why a packet cannot be written. Each is a mistake of the program that built the packet, never of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The packet would exceed [`crate::PACKET_BYTES_MAX`].
    #[error("the packet is longer than MQTT can express")]
    PacketTooLarge,
    /// A field with a two-byte length has more than 65535 bytes.
    #[error("the {0} is longer than 65535 bytes")]
    FieldTooLong(&'static str),
    /// The packet, or what it says, does not exist in this version.
    #[error("{0} cannot be said in MQTT {1}")]
    NotInVersion(&'static str, Version),
    /// A list that must have an element has none.
    #[error("the packet has no {0}")]
    Empty(&'static str),
    /// The fields contradict each other or the specification.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A reason code that this packet does not have.
    #[error("the packet does not have the reason code {0}")]
    Reason(ReasonCode),
}
