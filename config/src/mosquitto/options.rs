//! Every option of mosquitto.conf(5), 2.0 and 2.1, and what is done with it.

/// What is done with an option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does {
    /// The same holds here whatever it says.
    Kept(&'static str),
    /// It has no counterpart, and its loss takes nothing from anybody's safety.
    Dropped(&'static str),
    /// It has no counterpart, and starting without it would do what its author did not mean.
    Stops(&'static str),
    /// A flag of which one value holds here. With the other one: the second part.
    Flag { holds: bool, kept: &'static str, otherwise: Otherwise },
    /// A number of which 0, Mosquitto's word for "no such limit", holds here.
    ZeroKept(&'static str),
    /// Part of a bridge: the `connection` line speaks for all of it.
    Bridge,
    /// Part of a plugin: its own line speaks for it.
    PluginPart,
    /// It sets something of ours.
    Sets(Sets),
}

/// What a flag's other value comes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Otherwise {
    /// The start is refused.
    Stops(&'static str),
    /// Reported as unsupported.
    Dropped(&'static str),
    /// Reported as changed.
    Changed(&'static str),
}

/// Options that set something of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sets {
    Listener,
    DefaultPort,
    BindAddress,
    SocketDomain,
    CaFile,
    CertFile,
    KeyFile,
    CrlFile,
    RequireCertificate,
    IdentityAsUsername,
    SubjectAsUsername,
    UsernameAsClientId,
    TlsVersion,
    TlsKeyForm,
    AclFile,
    PerListener,
    MaxConnections,
    GlobalMaxClients,
    MaxInflight,
    MaxQueuedMessages,
    MaxQueuedBytes,
    MaxPacketSize,
    MessageSizeLimit,
    MaxKeepAlive,
    TopicAliasIn,
    TopicAliasOut,
    MaxQos,
    RetainAvailable,
    ClientExpiration,
    Persistence,
    PersistenceLocation,
    Protocol,
    ProtocolVersions,
    LogDest,
    LogType,
    SysInterval,
    IncludeDir,
}

use Does::{Bridge, Dropped, Flag, Kept, PluginPart, Sets as S, Stops, ZeroKept};
use Otherwise as O;

const LOGS: &str =
    "log records go to standard error with their own time stamp; systemd or a container runtime keeps them";
const AT_ONCE: &str = "with persistence true everything is on disk before it is acknowledged, so nothing waits for a save; durability = \"batched\" in [store] waits";
const CERTIFICATES_ONLY: &str =
    "clients are known by their certificate alone: remove it once every client has a certificate";

/// The options. Names that end with `_` stand for all options that begin so.
pub(super) const OPTIONS: &[(&str, Does)] = &[
    ("accept_protocol_versions", S(Sets::ProtocolVersions)),
    ("acl_file", S(Sets::AclFile)),
    ("address", Bridge),
    ("addresses", Bridge),
    (
        "allow_anonymous",
        Flag {
            holds: false,
            kept: "nobody is anonymous here",
            otherwise: O::Stops(
                "clients without a certificate are never admitted: write false, and give every client a certificate",
            ),
        },
    ),
    (
        "allow_duplicate_messages",
        Dropped(
            "a client with overlapping subscriptions gets a message once for each of them in 5.0 and once in 3.1.1 where the protocol lets the broker choose",
        ),
    ),
    (
        "allow_zero_length_clientid",
        Flag {
            holds: true,
            kept: "a client without a client id is given one",
            otherwise: O::Dropped(
                "a client without a client id is given one: client ids carry no rights here",
            ),
        },
    ),
    ("auth_opt_", PluginPart),
    ("auth_plugin", Stops("plugins are not loaded: say in the acl_file who may do what")),
    ("auth_plugin_deny_special_chars", Kept("names never contain + # or /")),
    (
        "auto_id_prefix",
        Dropped(
            "assigned client ids have no prefix of their own: they are unguessable and belong to the certificate's name",
        ),
    ),
    ("autosave_interval", Kept(AT_ONCE)),
    ("autosave_on_changes", Kept(AT_ONCE)),
    ("bind_address", S(Sets::BindAddress)),
    (
        "bind_interface",
        Stops(
            "a listener is bound to an address and not to an interface: write the interface's address after the port",
        ),
    ),
    ("bridge_alpn", Bridge),
    ("bridge_attempt_unsubscribe", Bridge),
    ("bridge_bind_address", Bridge),
    ("bridge_cafile", Bridge),
    ("bridge_capath", Bridge),
    ("bridge_certfile", Bridge),
    ("bridge_ciphers", Bridge),
    ("bridge_ciphers_tls1.3", Bridge),
    ("bridge_identity", Bridge),
    ("bridge_insecure", Bridge),
    ("bridge_keyfile", Bridge),
    ("bridge_max_packet_size", Bridge),
    ("bridge_max_topic_alias", Bridge),
    ("bridge_outgoing_retain", Bridge),
    ("bridge_protocol_version", Bridge),
    ("bridge_psk", Bridge),
    ("bridge_receive_maximum", Bridge),
    ("bridge_reload_type", Bridge),
    ("bridge_require_ocsp", Bridge),
    ("bridge_session_expiry_interval", Bridge),
    ("bridge_tcp_keepalive", Bridge),
    ("bridge_tcp_user_timeout", Bridge),
    ("bridge_tls_use_os_certs", Bridge),
    ("bridge_tls_version", Bridge),
    ("cafile", S(Sets::CaFile)),
    (
        "capath",
        Stops(
            "a folder of CA certificates is not read: name a file that contains them with cafile, since every certificate in it may issue clients",
        ),
    ),
    ("certfile", S(Sets::CertFile)),
    (
        "check_retain_source",
        Flag {
            holds: true,
            kept: "the right of a retained message's publisher is checked again at delivery",
            otherwise: O::Changed(
                "the right of a retained message's publisher is checked again at delivery in any case",
            ),
        },
    ),
    ("ciphers", Dropped("the TLS 1.2 cipher suites are fixed: ECDHE with AES-GCM or ChaCha20-Poly1305")),
    ("ciphers_tls1.3", Dropped("the TLS 1.3 cipher suites are fixed: AES-GCM and ChaCha20-Poly1305")),
    ("cleansession", Bridge),
    ("clientid", Bridge),
    (
        "clientid_prefixes",
        Stops(
            "client ids are not restricted by a list of prefixes: in our TOML, client-id = \"identity-prefix\" binds them to the certificate's name",
        ),
    ),
    ("connection", Stops("bridges are not available in this version")),
    (
        "connection_messages",
        Flag {
            holds: true,
            kept: "connections and disconnections are logged",
            otherwise: O::Changed("connections and disconnections are logged at level info"),
        },
    ),
    ("crlfile", S(Sets::CrlFile)),
    ("dhparamfile", Dropped("key exchange is over elliptic curves only")),
    (
        "disable_client_cert_date_checks",
        Flag {
            holds: false,
            kept: "dates are checked",
            otherwise: O::Stops("an expired certificate is never accepted: renew the certificates"),
        },
    ),
    (
        "enable_control_api",
        Flag {
            holds: false,
            kept: "there is no $CONTROL topic",
            otherwise: O::Dropped("there is no $CONTROL topic: the operator commands use the admin socket"),
        },
    ),
    (
        "enable_proxy_protocol",
        Flag {
            holds: false,
            kept: "the PROXY protocol is not spoken",
            otherwise: O::Stops("the PROXY protocol is not spoken: let clients connect directly"),
        },
    ),
    ("global_max_clients", S(Sets::GlobalMaxClients)),
    (
        "global_max_connections",
        Dropped("connections are bounded for each listener: set max_connections there"),
    ),
    ("global_plugin", Stops("plugins are not loaded: say in the acl_file who may do what")),
    ("http_dir", Dropped("no files are served over HTTP")),
    ("idle_timeout", Bridge),
    ("include_dir", S(Sets::IncludeDir)),
    ("keepalive_interval", Bridge),
    ("keyfile", S(Sets::KeyFile)),
    ("listener", S(Sets::Listener)),
    (
        "listener_allow_anonymous",
        Flag {
            holds: false,
            kept: "nobody is anonymous here",
            otherwise: O::Stops(
                "clients without a certificate are never admitted: write false, and give every client a certificate",
            ),
        },
    ),
    (
        "listener_auto_id_prefix",
        Dropped(
            "assigned client ids have no prefix of their own: they are unguessable and belong to the certificate's name",
        ),
    ),
    ("local_cleansession", Bridge),
    ("local_clientid", Bridge),
    ("local_password", Bridge),
    ("local_username", Bridge),
    ("log_dest", S(Sets::LogDest)),
    ("log_facility", Dropped(LOGS)),
    ("log_timestamp", Dropped(LOGS)),
    ("log_timestamp_format", Dropped(LOGS)),
    ("log_type", S(Sets::LogType)),
    ("max_connections", S(Sets::MaxConnections)),
    (
        "max_inflight_bytes",
        ZeroKept("messages in flight are bounded by their number, and bytes by outbox-bytes-max"),
    ),
    ("max_inflight_messages", S(Sets::MaxInflight)),
    ("max_keepalive", S(Sets::MaxKeepAlive)),
    ("max_packet_size", S(Sets::MaxPacketSize)),
    ("max_qos", S(Sets::MaxQos)),
    ("max_queued_bytes", S(Sets::MaxQueuedBytes)),
    ("max_queued_messages", S(Sets::MaxQueuedMessages)),
    ("max_topic_alias", S(Sets::TopicAliasIn)),
    ("max_topic_alias_broker", S(Sets::TopicAliasOut)),
    ("maximum_qos", S(Sets::MaxQos)),
    (
        "memory_limit",
        ZeroKept(
            "memory is bounded by the limits on sessions, queues and retained messages, not by one figure",
        ),
    ),
    ("message_size_limit", S(Sets::MessageSizeLimit)),
    ("mount_point", Stops("topics are never rewritten: put the prefix into the clients and the acl_file")),
    ("notification_topic", Bridge),
    ("notifications", Bridge),
    ("notifications_local_only", Bridge),
    ("packet_buffer_size", Dropped("buffers grow with what arrives, up to the limits")),
    ("password", Bridge),
    ("password_file", Stops(CERTIFICATES_ONLY)),
    ("per_listener_settings", S(Sets::PerListener)),
    ("persistence", S(Sets::Persistence)),
    ("persistence_file", Dropped("the store is a folder with names of its own")),
    ("persistence_location", S(Sets::PersistenceLocation)),
    ("persistent_client_expiration", S(Sets::ClientExpiration)),
    ("pid_file", Dropped("no process id is written: systemd knows it")),
    ("plugin", Stops("plugins are not loaded: say in the acl_file who may do what")),
    ("plugin_load", Stops("plugins are not loaded: say in the acl_file who may do what")),
    ("plugin_opt_", PluginPart),
    ("plugin_use", PluginPart),
    ("port", S(Sets::DefaultPort)),
    ("protocol", S(Sets::Protocol)),
    ("proxy_protocol_v2_require_tls", Dropped("the PROXY protocol is not spoken")),
    ("psk_file", Stops("pre-shared keys are not accepted: give every client a certificate")),
    ("psk_hint", Stops("pre-shared keys are not accepted: give every client a certificate")),
    (
        "queue_qos0_messages",
        Flag {
            holds: false,
            kept: "QoS 0 messages are not queued for absent clients",
            otherwise: O::Dropped(
                "QoS 0 messages are not queued for absent clients: publish what must arrive with QoS 1",
            ),
        },
    ),
    ("remote_clientid", Bridge),
    ("remote_password", Bridge),
    ("remote_username", Bridge),
    ("require_certificate", S(Sets::RequireCertificate)),
    ("restart_timeout", Bridge),
    ("retain_available", S(Sets::RetainAvailable)),
    (
        "retain_expiry_interval",
        ZeroKept(
            "a retained message expires when its publisher says so with a message expiry, and not by itself",
        ),
    ),
    (
        "retained_persistence",
        Flag {
            holds: true,
            kept: "retained messages are on disk with persistence true",
            otherwise: O::Changed("retained messages are on disk with persistence true, as sessions are"),
        },
    ),
    (
        "retry_interval",
        Kept(
            "messages are sent again when a client reconnects, as MQTT says; Mosquitto ignores the option too",
        ),
    ),
    ("round_robin", Bridge),
    (
        "set_tcp_nodelay",
        Flag {
            holds: true,
            kept: "small packets are never held back",
            otherwise: O::Changed("small packets are never held back"),
        },
    ),
    ("socket_domain", S(Sets::SocketDomain)),
    ("start_type", Bridge),
    ("sys_interval", S(Sets::SysInterval)),
    ("threshold", Bridge),
    ("tls_engine", Stops("OpenSSL engines are not used: name the key with keyfile")),
    ("tls_engine_kpass_sha1", Stops("OpenSSL engines are not used: name an unencrypted key with keyfile")),
    ("tls_keyform", S(Sets::TlsKeyForm)),
    ("tls_version", S(Sets::TlsVersion)),
    ("topic", Bridge),
    ("try_private", Bridge),
    (
        "upgrade_outgoing_qos",
        Flag {
            holds: false,
            kept: "a message is never delivered with more than its own QoS",
            otherwise: O::Dropped(
                "a message is never delivered with more than its own QoS: publish with the QoS that subscribers need",
            ),
        },
    ),
    ("use_identity_as_username", S(Sets::IdentityAsUsername)),
    ("use_subject_as_username", S(Sets::SubjectAsUsername)),
    ("use_username_as_clientid", S(Sets::UsernameAsClientId)),
    ("user", Dropped("the process keeps the user that it was started as: see User= in the systemd unit")),
    ("username", Bridge),
    ("websockets_headers_size", Dropped("WebSockets are not available in this version")),
    ("websockets_log_level", Dropped("WebSockets are not available in this version")),
    ("websockets_origin", Dropped("WebSockets are not available in this version")),
];

/// What is done with the option of that name.
pub(super) fn find(name: &str) -> Option<Does> {
    let exact = OPTIONS.iter().find(|(option, _)| *option == name);
    let family = || OPTIONS.iter().find(|(option, _)| option.ends_with('_') && name.starts_with(option));
    exact.or_else(family).map(|(_, does)| *does)
}
