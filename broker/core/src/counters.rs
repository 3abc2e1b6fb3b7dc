//! Counts of what happened, for `$SYS` and the metrics page.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Connections count on one of these, so that two busy cores seldom write the same cache line.
const SHARDS: usize = 8;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of some of the connections.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Shard {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// All counts at one moment; each only ever grows.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Adds up.
            #[must_use]
            pub fn snapshot(&self) -> Counts {
                let mut counts = Counts::default();
                for shard in &self.shards {
                    $(counts.$name += shard.$name.load(Relaxed);)*
                }
                counts
            }
        }

        impl Counts {
            /// Every count with its name, a bounded label for metrics.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Bytes read from clients, all packets.
    bytes_received,
    /// Bytes written to clients, all packets.
    bytes_sent,
    /// Packets of any kind from clients.
    packets_received,
    /// Packets of any kind to clients.
    packets_sent,
    /// PUBLISH packets from clients.
    publish_received,
    /// PUBLISH packets to clients.
    publish_sent,
    /// Payload bytes of PUBLISH packets from clients.
    publish_bytes_received,
    /// Payload bytes of PUBLISH packets to clients.
    publish_bytes_sent,
    /// Messages lost to a bound of a queue.
    dropped_queue_full,
    /// Messages that expired before they were sent.
    dropped_expired,
    /// Messages larger than the receiver's Maximum Packet Size (`[MQTT5-3.1.2-25]`).
    dropped_too_large,
    /// Retained messages lost to `retained_replay_max`.
    dropped_retained_replay,
    /// Messages for a shared subscription without a member that may have them.
    dropped_no_member,
    /// PUBLISH packets that the policy refused.
    denied_publish,
    /// PUBLISH packets whose response topic the publisher may not read.
    denied_response_topic,
    /// Filters in SUBSCRIBE that the policy refused.
    denied_subscribe,
    /// Messages that their subscriber may not receive.
    denied_receive,
    /// Retained messages whose publisher may no longer publish there.
    denied_retained_source,
    /// Wills that were not sent because the policy refused them.
    denied_will,
    /// Subscriptions that a new policy took away.
    subscriptions_revoked,
    /// Filters in SUBSCRIBE refused by `subscriptions_per_session_max`.
    quota_subscriptions,
    /// PUBLISH packets and wills that a bound of the store kept from being retained: refused where that can be said,
    /// else routed only.
    quota_retained,
    /// PUBLISH packets of QoS 0 that were dropped because memory runs short.
    shed_qos0,
    /// PUBLISH packets of QoS 1 and 2 that were refused because memory runs short.
    shed_publish,
    /// Filters in SUBSCRIBE that were refused because memory runs short.
    shed_subscriptions,
    /// CONNECT packets that were refused because memory runs short.
    shed_connects,
    /// Filters in SUBSCRIBE refused by `subscriptions_per_principal_max`.
    quota_subscriptions_of_principal,
    /// Requests for certificates that were handed on.
    enrol_requests,
    /// Answers to them that were sent.
    enrol_answers,
    /// Answers to them that were not sent: nobody subscribed, or may have them, or they are too large.
    enrol_answers_dropped,
    /// Network connections.
    sockets,
    /// CONNECT packets that were accepted.
    connects,
    /// CONNECT packets that were refused.
    connects_refused,
    /// Connections that gave way to a newer one of the same session.
    takeovers,
    /// Sessions that were resumed.
    resumed,
    /// Sessions that ended because their expiry interval was over.
    sessions_expired,
    /// Wills that were sent.
    wills_sent,
    /// Messages of a shared subscription that went to another member when theirs ended.
    shared_redelivered,
}

/// The counters of a broker.
#[derive(Debug, Default)]
pub struct Counters {
    shards: [Shard; SHARDS],
}

impl Counters {
    /// The shard of a connection or session with this number.
    pub(crate) fn shard(&self, number: u64) -> &Shard {
        // SHARDS is a power of two: the mask is always a valid index.
        &self.shards[(number as usize) & (SHARDS - 1)]
    }

    /// PUBLISH packets that came from clients, without the other counts.
    #[must_use]
    pub fn publishes_received(&self) -> u64 {
        self.shards.iter().map(|shard| shard.publish_received.load(Relaxed)).sum()
    }

    /// Counts bytes that the edge read from a client. `number` is [`crate::Connection::number`].
    pub fn add_bytes_received(&self, number: u64, bytes: u64) {
        self.shard(number).bytes_received.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes that the edge wrote to a client. `number` is [`crate::Connection::number`].
    pub fn add_bytes_sent(&self, number: u64, bytes: u64) {
        self.shard(number).bytes_sent.fetch_add(bytes, Relaxed);
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Adds `by`.
pub(crate) fn count_by(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}
