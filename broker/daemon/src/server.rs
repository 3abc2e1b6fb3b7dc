//! The broker as a whole: what its tasks share, how it starts and how it stops.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls_pki_types::UnixTime;
use signet_config::Checked;
use signet_core::{CloseReason, Connection, Consequences, Event, Hub, Now, Wall};
use signet_identity::{PrincipalKey, ThingName};
use signet_registry::Actor;
use signet_wire::{ClientId, Version};
use tokio::sync::watch;

use crate::admin::api::{
    FailureGroupRow, FailureReport, FailureRow, ListenerStatus, Reloaded, SessionRow, Status,
};
use crate::admission::Admission;
use crate::ca::{Authorities, Authority};
use crate::clock::{Clock, Judge};
use crate::clones::CloneWatch;
use crate::consequences;
use crate::departures::Departures;
use crate::directory::{Directory, Live};
use crate::https::{Door, Https};
use crate::kept::{self, Kept};
use crate::lifecycle::Lifecycle;
use crate::listener::Listening;
use crate::lists::Memory;
use crate::logging::{Admit, RateLimit};
use crate::memory;
use crate::metrics::{Metrics, Sampled};
use crate::penalty::Penalties;
use crate::portions::Offers;
use crate::principals::{Principals, Rates};
use crate::provisioning::Provisioning;
use crate::reload::{self, ReloadRefused};
use crate::rotation::Rotations;
use crate::start::{self, StartError};
use crate::state::Built;
use crate::store::RegistryService;
use crate::tls::{FailureLog, FailuresSince};
use crate::turns::Turns;

/// Denials logged per connection and minute.
const EVENTS_LOGGED_PER_MINUTE: u32 = 6;

/// Where the configuration is read from, now and at each reload.
#[derive(Debug, Clone)]
pub enum ConfigSource {
    /// A TOML file.
    Toml(PathBuf),
    /// A mosquitto.conf.
    Mosquitto(PathBuf),
    /// Settings made by a program. The files that they name are read again at each reload.
    Fixed(Box<Checked>),
}

/// What all tasks of one broker share.
#[derive(Debug)]
pub struct Broker {
    /// The clocks.
    pub clock: Clock,
    judge: Arc<Judge>,
    /// Live connections.
    pub directory: Arc<Directory>,
    /// Bounds on peers without a name.
    pub admission: Arc<Admission>,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// How much memory there is.
    pub memory: memory::Memory,
    /// Whose handshake goes on next.
    pub(crate) turns: Arc<Turns>,
    /// Who has gone and is taken down next.
    pub(crate) departures: Arc<Departures>,
    /// When those that work behind the traffic offer their processor to it.
    pub(crate) offers: Arc<Offers>,
    /// How fast each name comes and sends.
    pub(crate) principals: Principals,
    pub(crate) rates: ArcSwap<Rates>,
    /// Handshakes that failed.
    pub failures: FailureLog,
    pub(crate) listeners: Vec<Arc<Listening>>,
    pub(crate) config: ArcSwap<Checked>,
    /// Where certificates connect from.
    pub(crate) clones: Arc<CloneWatch>,
    /// Who is refused again and again.
    pub(crate) penalties: Arc<Penalties>,
    /// What follows a revocation, by the configuration in force.
    pub(crate) consequences: ArcSwap<Consequences>,
    pub(crate) source: ConfigSource,
    /// Held while a reload is under way; the digest of the files that were last tried.
    pub(crate) reloading: Mutex<reload::Tried>,
    pub(crate) generation: AtomicU64,
    /// What the HTTPS doors share.
    pub(crate) https: Https,
    pub(crate) doors: Vec<Arc<Door>>,
    hub: Arc<Hub>,
    /// Sessions and messages on disk.
    pub(crate) kept: Kept,
    registry: Option<Arc<RegistryService>>,
    authorities: ArcSwap<Authorities>,
    /// A revocation list wants to be written.
    pub(crate) lists_wanted: Arc<tokio::sync::Notify>,
    pub(crate) provisioning: Provisioning,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) rotations: Arc<Rotations>,
    event_limit: RateLimit<(u64, &'static str)>,
    /// Complaints of listeners, by listener and kind.
    complaint_limit: RateLimit<(usize, &'static str)>,
    ready: AtomicBool,
    stopping: watch::Sender<bool>,
}

fn new_hub(config: &Checked, policy: signet_acl::Policy) -> Arc<Hub> {
    let (limits, policy) = (start::core_limits(config), Arc::new(policy));
    match kept::journal(&config.store, memory::ceiling_of(config)) {
        None => Hub::new(limits, policy),
        Some((journal, durability)) => Hub::with_journal(limits, policy, journal, durability),
    }
}

impl Broker {
    pub(crate) fn new(
        source: ConfigSource,
        config: Checked,
        built: Built,
        listeners: Vec<Arc<Listening>>,
        doors: Vec<Arc<Door>>,
        registered: start::Registered,
        lists: Memory,
    ) -> Result<Self, prometheus::Error> {
        let (stopping, _) = watch::channel(false);
        let tried = reload::Tried::new(&config, &built, lists);
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"))?;
        let hub = new_hub(&config, built.policy);
        let offers = Arc::new(Offers::to(&hub));
        Ok(Self {
            lifecycle: Lifecycle::new(metrics.registry())?,
            rotations: Arc::new(Rotations::new(metrics.registry())?),
            clock: built.judge.clock(),
            judge: built.judge,
            directory: Arc::default(),
            admission: Admission::new(start::admission_limits(&config)),
            metrics,
            memory: memory::Memory::new(&config),
            turns: Turns::new(crate::runtimes::handshake_threads(&config), Arc::clone(&offers)),
            departures: Arc::default(),
            offers,
            principals: Principals::default(),
            rates: ArcSwap::from_pointee(Rates::of(&config)),
            failures: FailureLog::default(),
            listeners,
            https: Https::default(),
            doors,
            registry: registered.registry,
            authorities: ArcSwap::from_pointee(registered.authorities),
            lists_wanted: Arc::default(),
            provisioning: Provisioning::new(config.provisioning.hooks_max.get().into()),
            hub,
            kept: Kept::default(),
            clones: Arc::default(),
            penalties: Arc::default(),
            consequences: ArcSwap::from_pointee(consequences::of_settings(&config)),
            config: ArcSwap::from_pointee(config),
            source,
            reloading: Mutex::new(tried),
            generation: AtomicU64::new(1),
            event_limit: RateLimit::new(EVENTS_LOGGED_PER_MINUTE, Duration::from_secs(60)),
            complaint_limit: RateLimit::new(1, Duration::from_secs(10)),
            ready: AtomicBool::new(false),
            stopping,
        })
    }

    /// What judges by the time.
    pub(crate) const fn judge(&self) -> &Arc<Judge> {
        &self.judge
    }

    /// The time by which certificates are judged now; see [`crate::clock::JudgingClock`].
    pub(crate) fn judging_wall(&self) -> Wall {
        self.judge.wall()
    }

    /// The same, as certificates have it.
    pub(crate) fn judging_time(&self) -> UnixTime {
        self.judge.unix_time()
    }

    /// An operator says that the wall clock is right now, also if it was set back.
    pub(crate) fn trust_clock(&self) {
        self.judge.trust();
    }

    /// The core.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The registry, when `[registry] mode` is `on`.
    pub fn registry(&self) -> Option<&Arc<RegistryService>> {
        self.registry.as_ref()
    }

    /// The authority, when there is `[ca]`.
    pub fn authority(&self) -> Option<Arc<Authority>> {
        self.authorities.load().current.clone()
    }

    /// The authority, and those that it was before.
    pub(crate) fn authorities(&self) -> Arc<Authorities> {
        self.authorities.load_full()
    }

    pub(crate) fn set_authorities(&self, authorities: Authorities) {
        self.authorities.store(Arc::new(authorities));
        self.lists_wanted.notify_one();
    }

    /// Whether new connections are accepted.
    pub fn is_ready(&self) -> bool {
        // Without the registry's writer nobody can be revoked.
        self.ready.load(Ordering::Acquire) && self.registry().is_none_or(|registry| registry.is_running())
    }

    /// Why sessions and messages cannot be written to disk now; `None`: they can, or are not to be.
    pub fn store_trouble(&self) -> Option<crate::store::messages::MessagesError> {
        self.kept.trouble()
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Asks the broker to stop in good order.
    pub fn request_stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether a stop has been asked for.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when a stop has been asked for.
    pub async fn stop_requested(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives in `self`, so waiting can only end with the value.
        let _ = stopping.wait_for(|stop| *stop).await;
    }

    /// Reads all files again; the new state replaces the old one, or nothing changes.
    pub fn reload(&self, because: &str) -> Result<Reloaded, ReloadRefused> {
        self.reload_by(because, &Actor::Broker)
    }

    /// The same, for somebody whom the audit trail is to name.
    pub fn reload_by(&self, because: &str, actor: &Actor) -> Result<Reloaded, ReloadRefused> {
        reload::reload(self, because, actor)
    }

    /// Whether a file has changed since the last attempt to reload: what the file watch asks.
    pub fn files_changed(&self) -> bool {
        reload::files_changed(self)
    }

    /// A panic was caught at the edge of one connection.
    pub(crate) fn count_panic(&self, live: &Live) {
        self.metrics.panics.inc();
        tracing::error!(
            id = live.number, name = %live.principal.name(), address = %live.address,
            "a panic in this connection's work ended it; this is a defect, please report it"
        );
    }

    /// A listener has to turn peers away: said once in a while, however many they are.
    pub(crate) fn complain(&self, listener: usize, kind: &'static str, what: impl FnOnce() -> String) {
        match self.complaint_limit.admit((listener, kind), self.clock.mono()) {
            Admit::Log { suppressed } => tracing::warn!(kind, suppressed, "{}", what()),
            Admit::Suppress => self.metrics.log_suppressed.inc(),
        }
    }

    /// Whether somebody may hear of connections and subscriptions. While nobody does, they cost no other thread's time.
    pub(crate) fn tells_of_events(&self) -> bool {
        self.lifecycle.is_enabled() && self.hub().hears_events()
    }

    /// An occurrence on a connection that goes on.
    pub(crate) fn note(&self, live: &Live, connection: &Connection, event: &Event, now: Now) {
        let name = live.principal.name();
        let client_id = connection.client_id().map_or("", |id| id);
        if let Event::Connected { session_present, took_over } = event {
            let version = connection.version().map_or("", start::version_name);
            tracing::info!(
                id = live.number, %name, role = %live.principal.role(), client_id, address = %live.address, version,
                session_present, took_over, "connected"
            );
            if self.tells_of_events() {
                self.lifecycle.connected(live, connection.client_id(), now);
            }
            self.rotations.connected(live.principal.key());
            crate::standing::connected(self, live);
            return;
        }
        match event {
            Event::Subscribed(_) | Event::Unsubscribed(_) if !self.tells_of_events() => return,
            Event::Subscribed(filters) => {
                return self.lifecycle.subscribed(live, connection.client_id(), filters, now);
            }
            Event::Unsubscribed(filters) => {
                return self.lifecycle.unsubscribed(live, connection.client_id(), filters, now);
            }
            _ => {}
        }
        match self.event_limit.admit((live.number, event.metric_label()), now.mono) {
            Admit::Suppress => self.metrics.log_suppressed.inc(),
            Admit::Log { suppressed } => match event {
                Event::Denied { access, cause } => tracing::warn!(
                    id = live.number, %name, client_id, %access, cause = cause.metric_label(), suppressed, "access denied"
                ),
                Event::AnswerDropped { topic, why } => tracing::warn!(
                    id = live.number, %name, client_id, topic = &**topic, suppressed,
                    "an answer to a request for a certificate was not sent: {why}"
                ),
                other => {
                    tracing::warn!(id = live.number, %name, client_id, event = ?other, suppressed, "limit reached");
                }
            },
        }
    }

    /// A connection has ended.
    pub(crate) fn closed(&self, live: &Live, connection: &Connection, reason: &CloseReason, now: Now) {
        if self.tells_of_events() {
            self.lifecycle.disconnected(live, connection.client_id(), *reason, now);
        }
        self.metrics.closed.with_label_values(&[reason.metric_label()]).inc();
        let client_id = connection.client_id().map_or("", |id| id);
        tracing::info!(
            id = live.number, name = %live.principal.name(), client_id, address = %live.address,
            reason = reason.metric_label(), "disconnected: {reason}"
        );
    }

    /// What `signet status` shows.
    pub fn status(&self) -> Status {
        let counts = self.hub.counters().snapshot();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.clock.mono().elapsed().as_secs(),
            listeners: self
                .listeners
                .iter()
                .map(|listening| ListenerStatus {
                    address: listening.address.to_string(),
                    connections: listening.connections() as u64,
                    revoked_certificates: listening
                        .tls
                        .load()
                        .trust()
                        .crls()
                        .map(|crl| crl.entries as u64)
                        .sum(),
                })
                .collect(),
            connections: self.hub.connected_count() as u64,
            half_open: self.admission.half_open() as u64,
            sessions: self.hub.session_count() as u64,
            subscriptions: self.hub.subscription_count() as u64,
            retained_messages: self.hub.retained_fill().0 as u64,
            messages_received: counts.publish_received,
            messages_sent: counts.publish_sent,
            tls_failures: self.failures.since(u64::MAX).total(),
            access_denied: counts.denied_publish + counts.denied_subscribe + counts.denied_receive,
            generation: self.generation.load(Ordering::Relaxed),
        }
    }

    /// What `signet sessions list` shows.
    pub fn session_rows(&self) -> Vec<SessionRow> {
        let mut connected: HashMap<(PrincipalKey, ClientId), (SocketAddr, Version)> = HashMap::new();
        for connection in self.hub.connections() {
            if let Some((client_id, version)) = connection.admitted {
                connected.insert((connection.principal, client_id), (connection.address, version));
            }
        }
        self.hub
            .sessions()
            .into_iter()
            .map(|session| {
                let key = (session.principal, session.client_id);
                let connection = connected.get(&key);
                SessionRow {
                    name: key.0.name.to_string(),
                    role: key.0.role.to_string(),
                    client_id: key.1.to_string(),
                    connected: session.connected,
                    address: connection.map(|(address, _)| address.to_string()),
                    protocol: connection.map(|(_, version)| start::version_name(*version).to_owned()),
                    subscriptions: session.subscriptions as u64,
                    queued: (session.queued_messages + session.inflight) as u64,
                }
            })
            .collect()
    }

    /// Closes the connections of `name`; how many.
    pub fn kick(&self, name: &str, client_id: Option<&str>) -> Result<u64, String> {
        let name =
            ThingName::try_from(name).map_err(|error| format!("{name:?} cannot be a name: {error}"))?;
        let client_id = client_id
            .map(|id| {
                ClientId::try_from(id).map_err(|error| format!("{id:?} cannot be a client id: {error}"))
            })
            .transpose()?;
        let mut closed = 0;
        for role in signet_identity::Role::ALL {
            let key = PrincipalKey { role, name: name.clone() };
            closed += self.hub.kick(&key, client_id.as_ref(), CloseReason::Administrative) as u64;
        }
        if closed == 0 {
            return Err(format!(
                "no connection of {name} is open; `signet sessions list` shows who is connected"
            ));
        }
        let client_id = client_id.as_deref();
        tracing::info!(%name, client_id, closed, "an operator closed connections");
        Ok(closed)
    }

    /// What `signet tls failures` shows.
    pub fn tls_failures(&self) -> FailureReport {
        let (all, groups, groups_forgotten) = self.failures.all();
        FailureReport {
            groups: groups.iter().map(FailureGroupRow::from).collect(),
            groups_forgotten,
            ..self.failure_report(0, &all)
        }
    }

    /// Failed handshakes with a record of a higher number than `after`, without the groups.
    pub fn tls_failures_after(&self, after: u64) -> FailureReport {
        self.failure_report(after, &self.failures.since(after))
    }

    fn failure_report(&self, after: u64, since: &FailuresSince) -> FailureReport {
        let limits = self.failures.limits();
        FailureReport {
            total: since.total(),
            by_cause: since
                .counts()
                .filter(|(_, count)| *count > 0)
                .map(|(cause, count)| (cause.metric_label().to_owned(), count))
                .collect(),
            not_kept: since.not_kept,
            records_per_address: u64::from(limits.burst),
            refill_seconds: limits.refill.as_secs(),
            newest: since.records.last().map_or(after, |kept| kept.number),
            missed: since.missed,
            records: since.records.iter().map(FailureRow::from).collect(),
            groups: Vec::new(),
            groups_forgotten: 0,
        }
    }

    /// What `/metrics` shows.
    pub fn metrics_text(&self) -> Result<String, prometheus::Error> {
        let (retained, retained_bytes) = self.hub.retained_fill();
        let sampled = Sampled {
            counts: self.hub.counters().snapshot(),
            gauges: vec![
                ("clients_connected", self.hub.connected_count() as u64),
                ("half_open", self.admission.half_open() as u64),
                ("sessions", self.hub.session_count() as u64),
                ("subscriptions", self.hub.subscription_count() as u64),
                ("retained_messages", retained as u64),
                ("retained_bytes", retained_bytes as u64),
                ("generation", self.generation.load(Ordering::Relaxed)),
                ("provisioning_in_flight", self.provisioning.in_flight() as u64),
                ("memory_resident_bytes", self.memory.resident()),
                ("memory_resident_bytes_max", self.memory.resident_max()),
                ("memory_ceiling_bytes", self.memory.ceiling().unwrap_or(0)),
                ("memory_pressure", self.hub.pressure() as u64),
            ],
            connections: self
                .listeners
                .iter()
                .map(|listening| (listening.address.to_string(), listening.connections() as u64))
                .chain(self.doors.iter().map(|door| (door.address.to_string(), door.connections() as u64)))
                .collect(),
            lists: crate::lists::sights(self),
            uptime_seconds: self.clock.mono().elapsed().as_secs(),
        };
        let stats = self.registry().map(|registry| registry.stats());
        self.metrics.authority.show(&self.authorities(), stats);
        self.metrics.text(&sampled)
    }
}

/// A running broker: its threads, and the way to stop them.
#[derive(Debug)]
pub struct Server {
    broker: Arc<Broker>,
    runtimes: crate::runtimes::Runtimes,
}

impl Server {
    /// Reads and checks the configuration, builds everything, binds, and accepts connections.
    pub fn start_from(source: ConfigSource) -> Result<Self, StartError> {
        let config = start::read(&source).map_err(StartError::Config)?;
        let (broker, runtimes) = start::start(source, config)?;
        Ok(Self { broker, runtimes })
    }

    /// The addresses that the listeners are bound to, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.broker.listeners.iter().map(|listening| listening.address).collect()
    }

    /// The addresses of HTTPS, in the order of the configuration.
    pub fn https_addresses(&self) -> Vec<SocketAddr> {
        self.broker.doors.iter().map(|door| door.address).collect()
    }

    /// The address of metrics and health, if they are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.runtimes.metrics_address
    }

    /// What the tasks share.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Tells the supervisor, if there is one, that the broker is ready, and from then on that it lives. Runs until SIGINT,
    /// SIGTERM or `signet stop`; SIGHUP reloads. Then stops in good order.
    pub fn run_until_signal(self) {
        // Not before: who has started the broker may have a ready file to write first, which others wait for.
        crate::supervisor::ready(&self.broker, self.runtimes.handles());
        crate::runtimes::wait_for_stop(&self.broker, &self.runtimes);
        self.stop();
    }

    /// Stops in good order: no new connections, DISCONNECT 0x8B to 5.0 clients, what is under way finishes within
    /// `[system] shutdown-timeout`, then the threads end.
    pub fn stop(self) {
        let within = self.broker.config.load().system.shutdown_timeout;
        self.broker.set_ready(false);
        self.broker.request_stop();
        tracing::info!(connections = self.broker.directory.len(), "stopping");
        self.broker.hub().kick_all(CloseReason::ServerShuttingDown);
        let left = self.runtimes.drain(&self.broker.directory, within);
        if left > 0 {
            tracing::warn!(connections = left, "these connections did not end in time and were cut");
        }
        self.runtimes.end();
        self.broker.departures.end();
        self.broker.kept.stop();
        tracing::info!("stopped");
    }
}
