//! What operators are told of connections and subscriptions while it happens, with the topics and fields of AWS IoT Core:
//! `$aws/events/presence/{connected,disconnected,connect_failed}/<client id>` and
//! `$aws/events/subscriptions/{subscribed,unsubscribed}/<client id>`.
//!
//! A connection puts what happened into a bounded queue and goes on; one task writes the JSON and publishes it. When the queue
//! is full the event is left out and counted. Nothing is told of a client id with `+` or `#`, which could not stand in a topic.

mod versions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use serde::Serialize;
use signet_core::{CloseReason, Now, Refusal};
use signet_identity::Principal;
use signet_registry::ca::random_serial;
use signet_wire::{ClientId, SubscriptionFilter, TopicName};
use tokio::sync::mpsc;

use crate::directory::Live;
use crate::server::Broker;
use versions::Versions;

/// Events that wait to be published.
const EVENTS_QUEUED_MAX: usize = 65_536;
/// What they may hold in all, in bytes.
const EVENTS_QUEUED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What an event holds beside its filters, in bytes, roughly.
const EVENT_BYTES: usize = 256;
/// Filters in one event; more come in further ones.
const FILTERS_TOLD_MAX: usize = 64;

/// What happened.
#[derive(Debug)]
enum What {
    Connected,
    Disconnected(CloseReason),
    Refused,
    Subscribed(Vec<SubscriptionFilter>),
    Unsubscribed(Vec<SubscriptionFilter>),
}

impl What {
    /// The levels of its topic that say so.
    const fn event_type(&self) -> &'static str {
        match self {
            Self::Connected => "presence/connected",
            Self::Disconnected(_) => "presence/disconnected",
            Self::Refused => "presence/connect_failed",
            Self::Subscribed(_) => "subscriptions/subscribed",
            Self::Unsubscribed(_) => "subscriptions/unsubscribed",
        }
    }
}

/// What happened, and to whom.
#[derive(Debug)]
struct Happened {
    what: What,
    number: u64,
    principal: Principal,
    client_id: ClientId,
    address: SocketAddr,
    at: Now,
    bytes: usize,
}

/// The queue, and whether anything goes into it.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    enabled: AtomicBool,
    queue: mpsc::Sender<Happened>,
    queued_bytes: AtomicUsize,
    /// Taken by the task that publishes.
    waiting: Mutex<Option<mpsc::Receiver<Happened>>>,
    told: IntCounterVec,
    left_out: IntCounter,
}

impl Lifecycle {
    /// An empty queue, with its metrics in `registry`.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let (queue, waiting) = mpsc::channel(EVENTS_QUEUED_MAX);
        let told = IntCounterVec::new(
            Opts::new("lifecycle_events_total", "Connections and subscriptions that operators were told of."),
            &["event"],
        )?;
        let left_out = IntCounter::new(
            "lifecycle_events_left_out_total",
            "Connections and subscriptions that operators were not told of, because too many waited.",
        )?;
        registry.register(Box::new(told.clone()))?;
        registry.register(Box::new(left_out.clone()))?;
        let (enabled, queued_bytes) = (AtomicBool::new(false), AtomicUsize::new(0));
        Ok(Self { enabled, queue, queued_bytes, waiting: Mutex::new(Some(waiting)), told, left_out })
    }

    /// Whether anything is told.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// A CONNECT was accepted.
    pub(crate) fn connected(&self, live: &Live, client_id: Option<&ClientId>, at: Now) {
        self.put(What::Connected, live, client_id, at);
    }

    /// A connection whose CONNECT had been accepted has ended.
    pub(crate) fn disconnected(
        &self,
        live: &Live,
        client_id: Option<&ClientId>,
        reason: CloseReason,
        at: Now,
    ) {
        self.put(What::Disconnected(reason), live, client_id, at);
    }

    /// A CONNECT was refused.
    pub(crate) fn refused(&self, live: &Live, client_id: Option<&ClientId>, refusal: Refusal, at: Now) {
        if is_authorization(refusal) {
            self.put(What::Refused, live, client_id, at);
        }
    }

    /// Subscriptions were made.
    pub(crate) fn subscribed(
        &self,
        live: &Live,
        client_id: Option<&ClientId>,
        filters: &[SubscriptionFilter],
        at: Now,
    ) {
        for filters in filters.chunks(FILTERS_TOLD_MAX) {
            self.put(What::Subscribed(filters.to_vec()), live, client_id, at);
        }
    }

    /// Subscriptions were ended by their client.
    pub(crate) fn unsubscribed(
        &self,
        live: &Live,
        client_id: Option<&ClientId>,
        filters: &[SubscriptionFilter],
        at: Now,
    ) {
        for filters in filters.chunks(FILTERS_TOLD_MAX) {
            self.put(What::Unsubscribed(filters.to_vec()), live, client_id, at);
        }
    }

    fn put(&self, what: What, live: &Live, client_id: Option<&ClientId>, at: Now) {
        let Some(client_id) = client_id.filter(|id| self.is_enabled() && !id.contains(['+', '#'])) else {
            return;
        };
        let filters = match &what {
            What::Subscribed(filters) | What::Unsubscribed(filters) => filters.as_slice(),
            _ => &[],
        };
        let bytes = EVENT_BYTES + filters.iter().map(|filter| filter.filter().len()).sum::<usize>();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > EVENTS_QUEUED_BYTES_MAX {
            self.left_out(bytes);
            return;
        }
        let happened = Happened {
            what,
            number: live.number,
            principal: live.principal.clone(),
            client_id: client_id.clone(),
            address: live.address,
            at,
            bytes,
        };
        if self.queue.try_send(happened).is_err() {
            self.left_out(bytes);
        }
    }

    fn left_out(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.left_out.inc();
    }
}

/// Begins or ends telling, as the configuration in force says.
pub(crate) fn configure(broker: &Broker, enabled: bool) {
    broker.lifecycle.enabled.store(enabled, Ordering::Relaxed);
    broker.hub().report_subscriptions(enabled);
}

/// Publishes what happens until the broker ends.
pub(crate) async fn publish(broker: Arc<Broker>) {
    let Some(mut waiting) = broker.lifecycle.waiting.lock().take() else { return };
    let mut versions = Versions::default();
    // Tells the connections of this run of the broker from those of other runs. Without random numbers runs look alike.
    let run = random_serial().map_or(0, u128::from_be_bytes) as u64;
    while let Some(happened) = waiting.recv().await {
        broker.lifecycle.queued_bytes.fetch_sub(happened.bytes, Ordering::Relaxed);
        let version = versions.of(&happened);
        let event_type = happened.what.event_type();
        let topic = format!("$aws/events/{event_type}/{}", &*happened.client_id);
        // A client id that makes the topic too long is told of to nobody.
        let Ok(topic) = TopicName::try_from(topic) else { continue };
        if !broker.hub().is_heard(&topic) {
            continue;
        }
        if let Ok(payload) = serde_json::to_vec(&Told::new(&happened, version, run)) {
            broker.lifecycle.told.with_label_values(&[event_type]).inc();
            let _ = broker.hub().publish_event(topic, Bytes::from(payload), broker.clock.now());
        }
    }
}

/// An event as it is published.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_name: Option<&'a str>,
    /// Unix milliseconds.
    timestamp: u64,
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_initiated_disconnect: Option<bool>,
    session_identifier: String,
    /// The certificate's id.
    principal_identifier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_failure_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_number: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<String>,
}

impl<'a> Told<'a> {
    fn new(happened: &'a Happened, version: Option<u64>, run: u64) -> Self {
        let mut told = Self {
            client_id: &happened.client_id,
            thing_name: happened.principal.thing().map(|thing| thing.as_str()),
            timestamp: happened.at.wall.0,
            event_type: happened.what.event_type().rsplit('/').next().unwrap_or_default(),
            client_initiated_disconnect: None,
            session_identifier: format!("{run:016x}{:016x}", happened.number),
            principal_identifier: happened.principal.certificate().to_string(),
            disconnect_reason: None,
            connect_failure_reason: None,
            ip_address: None,
            version_number: version,
            topics: Vec::new(),
        };
        let address = || Some(happened.address.ip().to_canonical().to_string());
        match &happened.what {
            What::Connected => told.ip_address = address(),
            What::Disconnected(reason) => {
                let (by_client, reason) = disconnect_reason(reason);
                told.client_initiated_disconnect = Some(by_client);
                told.disconnect_reason = Some(reason);
            }
            What::Refused => {
                told.connect_failure_reason = Some("AUTHORIZATION_FAILED");
                told.ip_address = address();
            }
            What::Subscribed(filters) | What::Unsubscribed(filters) => {
                told.topics = filters.iter().map(ToString::to_string).collect();
            }
        }
        told
    }
}

/// Whether a refusal is one of rights, and not of form.
const fn is_authorization(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::ClientIdNotOwned
            | Refusal::CertificateUnknown
            | Refusal::CertificatePending
            | Refusal::CertificateInactive
            | Refusal::CertificateRevoked
            | Refusal::CertificateExpired
            | Refusal::WillNotAllowed
            | Refusal::AuthenticationMethod
    )
}

/// Whether the client asked for its end, and why it ended, out of AWS's set.
const fn disconnect_reason(reason: &CloseReason) -> (bool, &'static str) {
    match reason {
        CloseReason::Disconnected | CloseReason::DisconnectedWithWill(_) => {
            (true, "CLIENT_INITIATED_DISCONNECT")
        }
        CloseReason::PeerClosed | CloseReason::TransportFailed => (false, "CONNECTION_LOST"),
        CloseReason::KeepAliveTimeout => (false, "MQTT_KEEP_ALIVE_TIMEOUT"),
        CloseReason::TakenOver => (false, "DUPLICATE_CLIENTID"),
        CloseReason::NotAuthorized => (false, "FORBIDDEN_ACCESS"),
        CloseReason::CertificateRevoked | CloseReason::CertificateExpired | CloseReason::ClaimEnded => {
            (false, "AUTH_ERROR")
        }
        CloseReason::SlowConsumer | CloseReason::Overloaded => (false, "THROTTLED"),
        CloseReason::ServerShuttingDown => (false, "SERVER_INITIATED_DISCONNECT"),
        CloseReason::Administrative => (false, "API_INITIATED_DISCONNECT"),
        CloseReason::Unsettled | CloseReason::Abandoned => (false, "SERVER_ERROR"),
        CloseReason::ConnectTimeout
        | CloseReason::BadConnect(_)
        | CloseReason::Refused(_)
        | CloseReason::Unframable(_)
        | CloseReason::Undecodable(_)
        | CloseReason::Violation(_)
        | CloseReason::PeerPacketLimit => (false, "CLIENT_ERROR"),
    }
}
