//! Every bound of the core, by name and with its unit.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// What happens to a connected client whose queue of QoS 1 and 2 messages passes `outbox_bytes_max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Its connection ends with 0x97; a persistent session keeps what `queued_bytes_max` allows.
    #[default]
    Close,
    /// The newest message is dropped and counted.
    DropNewest,
}

/// The bounds. A change through [`crate::Hub::set_limits`] holds for what happens after it; nothing that is stored is
/// cut back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet from an admitted client, in bytes with the fixed header; announced as Maximum Packet Size.
    /// Overrun: 0x95.
    pub packet_bytes_max: NonZeroU32,
    /// Largest CONNECT, in bytes: what a peer may make us buffer before it is known to speak MQTT. Overrun: closed.
    pub connect_packet_bytes_max: NonZeroU32,
    /// How long a peer may take from the handshake to a whole CONNECT.
    pub connect_timeout: Duration,
    /// Longest client identifier, in bytes. Overrun: CONNACK 0x85.
    pub client_id_bytes_max: usize,
    /// Longest keep alive, in seconds; `None`: the client decides, 0 (never) included. 5.0 clients get a Server Keep
    /// Alive, a 3.1.1 client that asks for more is refused, as Mosquitto does.
    pub keep_alive_secs_max: Option<NonZeroU16>,
    /// Longest session expiry, in seconds; `u32::MAX`: no end. Also the expiry of 3.1.1 sessions with Clean Session
    /// 0.
    pub session_expiry_secs_max: u32,
    /// Longest will delay, in seconds; longer ones are cut.
    pub will_delay_secs_max: u32,
    /// Sessions in the broker, connected or not. Overrun: CONNACK 0x97.
    pub sessions_max: usize,
    /// Sessions of one principal, connected or not. Overrun: CONNACK 0x97.
    pub sessions_per_principal_max: usize,
    /// The same for a provisioning claim, which many devices share and whose sessions end with their connections.
    pub sessions_per_claim_max: usize,
    /// Subscriptions of one session. Overrun: SUBACK 0x97.
    pub subscriptions_per_session_max: usize,
    /// Subscriptions of all sessions of one principal. Overrun: SUBACK 0x97, as where they take more than 1 KiB each on average,
    /// and 256 KiB together: a filter takes twice its length, and 512 bytes cover one of 64.
    pub subscriptions_per_principal_max: usize,
    /// Levels of a topic or filter. Overrun: topic 0x90 and closed, filter 0x8F.
    pub topic_levels_max: usize,
    /// QoS 1 and 2 messages in flight from a client, announced as Receive Maximum. Overrun: 0x93.
    pub receive_max: NonZeroU16,
    /// QoS 2 identifiers that a 3.1.1 client, which knows no Receive Maximum, may hold without releasing them.
    /// Overrun: closed.
    pub unreleased_qos2_max: usize,
    /// QoS 1 and 2 messages in flight to a client, at most what it allows with its Receive Maximum.
    pub inflight_max: NonZeroU16,
    /// QoS 1 and 2 messages of one session that wait beyond those in flight. Overrun: the newest is dropped and
    /// counted.
    pub queued_messages_max: usize,
    /// Bytes of messages that wait for a session that is not connected. Overrun: the newest is dropped and counted.
    pub queued_bytes_max: usize,
    /// Bytes of messages that wait for all sessions of one principal, or are in flight to them. Overrun: the newest is dropped
    /// and counted, but for what is connected: it has `drain_bytes_max` of its own.
    pub queued_bytes_per_principal_max: usize,
    /// Bytes of messages that wait for a connected client. Overrun: QoS 0 is dropped and counted; QoS 1 and 2: see
    /// `slow_consumer`.
    pub outbox_bytes_max: usize,
    /// What overruns of `outbox_bytes_max` by QoS 1 and 2 do.
    pub slow_consumer: SlowConsumer,
    /// Bytes of messages that one [`crate::Input::Wake`] hands out.
    pub drain_bytes_max: usize,
    /// Retained messages that wait for one session after its subscriptions. Overrun: dropped and counted.
    pub retained_replay_max: usize,
    /// Highest topic alias that a client may use, announced as Topic Alias Maximum. Overrun: 0x94.
    pub topic_alias_in_max: u16,
    /// Topic aliases used towards a client, at most what it allows.
    pub topic_alias_out_max: u16,
    /// Retained messages in the broker. Overrun: 0x97; a message whose publisher cannot be told so (3.1.1, QoS 0, a will) is
    /// routed to those who subscribe now, and not retained.
    pub retained_messages_max: usize,
    /// Bytes of retained messages in the broker. Overrun: as `retained_messages_max`.
    pub retained_bytes_max: usize,
    /// Retained messages of one principal. Overrun: as `retained_messages_max`.
    pub retained_messages_per_principal_max: usize,
    /// Bytes of retained messages of one principal. Overrun: as `retained_messages_max`.
    pub retained_bytes_per_principal_max: usize,
    /// Payloads up to this size, in bytes, those that are retained, and those that wait for somebody who is not connected are copied
    /// out of the read buffer. Larger ones on their way to who is connected keep it alive instead: it is as large as their packet, or four
    /// times that at most.
    pub payload_copy_bytes_max: usize,
}

const MIB: usize = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: NonZeroU32::new(262_144).unwrap_or(NonZeroU32::MAX),
            connect_packet_bytes_max: NonZeroU32::new(131_072).unwrap_or(NonZeroU32::MAX),
            connect_timeout: Duration::from_secs(5),
            client_id_bytes_max: 1024,
            keep_alive_secs_max: None,
            session_expiry_secs_max: u32::MAX,
            will_delay_secs_max: 24 * 3600,
            sessions_max: 1_000_000,
            sessions_per_principal_max: 100,
            sessions_per_claim_max: 1000,
            subscriptions_per_session_max: 1000,
            subscriptions_per_principal_max: 10_000,
            topic_levels_max: 200,
            receive_max: NonZeroU16::new(100).unwrap_or(NonZeroU16::MAX),
            unreleased_qos2_max: 1024,
            inflight_max: NonZeroU16::new(100).unwrap_or(NonZeroU16::MAX),
            queued_messages_max: 1000,
            queued_bytes_max: 16 * MIB,
            queued_bytes_per_principal_max: 64 * MIB,
            outbox_bytes_max: 16 * MIB,
            slow_consumer: SlowConsumer::Close,
            drain_bytes_max: 64 * 1024,
            retained_replay_max: 100_000,
            topic_alias_in_max: 16,
            topic_alias_out_max: 16,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1024 * MIB,
            retained_messages_per_principal_max: 10_000,
            retained_bytes_per_principal_max: 16 * MIB,
            payload_copy_bytes_max: 16 * 1024,
        }
    }
}
