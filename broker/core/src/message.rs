//! An application message, made once and shared by everyone it is for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use signet_acl::{Subject, Topical};
use signet_identity::Principal;
use signet_wire::{ClientId, PublishProperties, PublishTemplate, QoS, TopicName, Version};

use crate::time::Mono;

/// Who a client is towards the access control: the principal of its certificate and its client identifier.
#[derive(Clone, Debug)]
pub struct Author {
    /// From the certificate.
    pub principal: Principal,
    /// As admitted at CONNECT.
    pub client_id: ClientId,
}

impl Author {
    /// The view that a policy judges.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject { principal: &self.principal, client_id: &self.client_id }
    }
}

/// Where a message comes from.
#[derive(Clone, Debug)]
pub enum Publisher {
    /// The broker itself (`$SYS`, replies of its own services).
    Broker,
    /// A client, by PUBLISH or by its will.
    Client(Arc<Author>),
}

impl Publisher {
    /// The client, unless the broker published.
    #[must_use]
    pub fn author(&self) -> Option<&Arc<Author>> {
        match self {
            Self::Broker => None,
            Self::Client(author) => Some(author),
        }
    }
}

/// An application message. Always behind an [`Arc`]: queues hold pointers, and the bytes that do not depend on the
/// receiver are encoded once per protocol version.
#[derive(Debug)]
pub struct Message {
    /// The topic that it was published to, an alias already resolved.
    pub topic: TopicName,
    /// The application's bytes.
    pub payload: Bytes,
    /// The quality of service of the publisher.
    pub qos: QoS,
    /// The RETAIN flag of the publisher.
    pub retain: bool,
    /// Properties that travel unaltered (`[MQTT5-3.3.2-4]` and following). Topic alias and subscription identifiers,
    /// which belong to one connection, are never in here.
    pub properties: Option<Box<PublishProperties>>,
    /// Who published it.
    pub publisher: Publisher,
    /// When it arrived.
    pub accepted: Mono,
    /// When its Message Expiry Interval is over (`[MQTT5-3.3.2-5]`).
    pub expires: Option<Mono>,
    /// What it counts for in every bound of bytes: topic, payload, properties and a fixed overhead.
    pub bytes: usize,
    /// The last portion of the journal that counts it; 0: none.
    portion: AtomicU64,
    templates: Templates,
}

/// The encoded forms, made on first use.
#[derive(Debug, Default)]
struct Templates {
    v311: OnceLock<PublishTemplate>,
    v5: OnceLock<PublishTemplate>,
}

/// Bookkeeping of one message in memory, in bytes, so that empty messages are not free in a bound of bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

impl Message {
    /// Makes a message. `properties` lose what belongs to the publisher's connection: topic alias and subscription
    /// identifiers.
    #[must_use]
    pub fn new(
        topic: TopicName,
        payload: Bytes,
        qos: QoS,
        retain: bool,
        mut properties: Option<Box<PublishProperties>>,
        publisher: Publisher,
        accepted: Mono,
    ) -> Self {
        let mut bytes = MESSAGE_OVERHEAD_BYTES + topic.len() + payload.len();
        let mut expires = None;
        if let Some(properties) = properties.as_deref_mut() {
            properties.topic_alias = None;
            properties.subscription_ids.clear();
            bytes += properties_bytes(properties);
            expires = properties.message_expiry_secs.map(|secs| accepted.after_secs(secs));
        }
        Self {
            topic,
            payload,
            qos,
            retain,
            properties,
            publisher,
            accepted,
            expires,
            bytes,
            portion: AtomicU64::new(0),
            templates: Templates::default(),
        }
    }

    /// A message that an earlier process kept, and that counts as accepted now. Its expiry is the one given, but no later than
    /// its whole interval from now: a clock that stands wrong keeps nothing for ever.
    #[must_use]
    pub fn kept(mut self, expires: Option<Mono>) -> Self {
        let latest = self.expires;
        self.expires = expires.map(|at| latest.map_or(at, |latest| at.min(latest)));
        self
    }

    /// About what a client has to take of it, in bytes: topic, payload and properties.
    pub(crate) fn content_bytes(&self) -> usize {
        self.bytes.saturating_sub(MESSAGE_OVERHEAD_BYTES)
    }

    /// Its bytes the first time that it is asked for this portion of the journal, then 0. Portions are numbered from 1, and
    /// the journal asks under its lock.
    pub(crate) fn bytes_in(&self, portion: u64) -> usize {
        if self.portion.swap(portion, Ordering::Relaxed) == portion { 0 } else { self.bytes }
    }

    /// The bytes of its PUBLISH that do not depend on the receiver.
    #[must_use]
    pub fn template(&self, version: Version) -> &PublishTemplate {
        let slot = match version {
            Version::V311 => &self.templates.v311,
            Version::V5 => &self.templates.v5,
        };
        slot.get_or_init(|| {
            PublishTemplate::new(version, &self.topic, self.properties.as_deref(), &self.payload)
        })
    }

    /// Whether its Message Expiry Interval is over.
    #[must_use]
    pub fn is_expired(&self, now: Mono) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// The Message Expiry Interval to send at `now`, in seconds: the received one minus the time spent waiting
    /// (`[MQTT5-3.3.2-6]`), rounded up so that a waiting time below one second does not shorten it.
    ///
    /// At least 1: a delivery that began before the expiry is completed after it (`[MQTT5-4.3.3-7]`), and 0 would ask
    /// the receiver to discard it.
    #[must_use]
    pub fn remaining_expiry_secs(&self, now: Mono) -> Option<u32> {
        let left = self.expires?.since(now);
        let secs = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(u32::try_from(secs).unwrap_or(u32::MAX).max(1))
    }
}

impl Topical for Message {
    fn topic(&self) -> &TopicName {
        &self.topic
    }
}

/// The bytes of properties that a message or a will keeps in memory.
pub(crate) fn properties_bytes(properties: &PublishProperties) -> usize {
    let strings = properties.content_type.as_ref().map_or(0, |text| text.len())
        + properties.response_topic.as_ref().map_or(0, |topic| topic.len())
        + properties.correlation_data.as_ref().map_or(0, |data| data.len());
    let users: usize =
        properties.user_properties.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
    size_of::<PublishProperties>() + strings + users
}
