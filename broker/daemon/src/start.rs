//! From settings to a running broker: checks that need the operating system, threads, sockets, background work.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use signet_config::{Checked, Problem};
use signet_core::Mono;
use signet_wire::Version;

use crate::admin::socket::{AdminSocket, SocketError};
use crate::admission::AdmissionLimits;
use crate::ca::{Authorities, AuthorityError};
use crate::clock::{Clock, Judge};
use crate::https::Door;
use crate::kept::{self, RestoreError};
use crate::listener::Listening;
use crate::lists::Memory;
use crate::runtimes::Runtimes;
use crate::server::{Broker, ConfigSource};
use crate::state::{self, BuildError};
use crate::store::messages::MessagesError;
use crate::store::{Options, RegistryService, StoreError};
use crate::tls::EditionsError;

/// How many connections the kernel may hold for us that we have not accepted. Its overflow costs the peer a second.
const LISTEN_BACKLOG: i32 = 4096;
/// Descriptors that the process needs besides one per connection: files, sockets, reactors, tables of the message store.
const DESCRIPTORS_RESERVED: u64 =
    64 + crate::admin::serve::CONNECTIONS_MAX as u64 + crate::store::messages::TABLE_FILES_MAX as u64;

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has problems.
    #[error("{}", signet_config::render(.0))]
    Config(Vec<Problem>),
    /// Files that the configuration names have problems.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}\n  hint: {}", bind_reason(.source), bind_hint(.source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The process may not open enough descriptors.
    #[error(
        "max-connections of all listeners needs {needed} file descriptors, but this process may open {allowed}\n  \
         hint: raise the limit (LimitNOFILE= in the systemd unit, ulimit -n in a shell), or lower max-connections"
    )]
    Descriptors {
        /// What the configuration asks for.
        needed: u64,
        /// What the operating system allows.
        allowed: u64,
    },
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] SocketError),
    /// What is remembered of revocation lists.
    #[error(transparent)]
    Lists(#[from] EditionsError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] StoreError),
    /// Sessions and messages on disk.
    #[error(transparent)]
    Messages(#[from] MessagesError),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Threads or metrics could not be set up.
    #[error("the broker's threads cannot be started: {0}")]
    Threads(String),
}

fn bind_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not use that port".to_owned(),
        _ => error.to_string(),
    }
}

fn bind_hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "stop the other program (`ss -ltnp` shows which), or change [[listener]] address"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; the usual port for MQTT over TLS is 8883"
        }
        _ => "see [[listener]] address",
    }
}

/// Reads and checks the configuration.
pub(crate) fn read(source: &ConfigSource) -> Result<Checked, Vec<Problem>> {
    match source {
        ConfigSource::Toml(path) => signet_config::load(path),
        ConfigSource::Mosquitto(path) => {
            let here = std::env::current_dir().unwrap_or_default();
            let import = signet_config::mosquitto::load(path, &here).map_err(|problem| vec![problem])?;
            let doubts: Vec<Problem> = import
                .warnings()
                .map(|line| Problem {
                    file: line.file.clone(),
                    line: line.line,
                    column: 0,
                    message: format!("{} ({}): {}", line.option, line.verdict.as_str(), line.note),
                    hint: None,
                })
                .collect();
            let mut checked = import.config?;
            checked.warnings.extend(doubts);
            Ok(checked)
        }
        ConfigSource::Fixed(checked) => Ok((**checked).clone()),
    }
}

/// Starts everything.
pub(crate) fn start(source: ConfigSource, config: Checked) -> Result<(Arc<Broker>, Runtimes), StartError> {
    crate::logging::init(config.log.format, config.log.level);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    crate::pages::choose(crate::memory::ceiling_of(&config));
    check_descriptors(&config)?;
    let mut memory = Memory::open(&config)?;
    let judge = Arc::new(Judge::new(Clock::start()));
    let built = state::build(&config, None, memory.editions(), &judge)?;
    for warning in &built.warnings {
        tracing::warn!("{warning}");
    }
    let registered = Registered::open(&config)?;
    let messages = kept::open(&config.store, crate::memory::ceiling_of(&config))?;
    let policy = built.policy_hash;
    let (lists, written) = memory.see(built.listeners.iter().chain(&built.https));
    if memory.forgets() && !lists.is_empty() {
        tracing::warn!(
            "which revocation lists were seen is forgotten at a restart, and an older one accepted then: set [system] \
             state-directory"
        );
    }
    let sockets = config.listeners.iter().map(|l| bind(l.address)).collect::<Result<Vec<_>, _>>()?;
    let mut listeners = Vec::new();
    for (index, (socket, tls)) in sockets.iter().zip(&built.listeners).enumerate() {
        let address = socket.local_addr().map_err(|error| StartError::Threads(error.to_string()))?;
        listeners.push(Arc::new(Listening::new(index, address, &config.listeners[index], Arc::clone(tls))));
    }
    let https_sockets = config.https.iter().map(|door| bind(door.address)).collect::<Result<Vec<_>, _>>()?;
    let mut doors = Vec::new();
    for ((socket, tls), settings) in https_sockets.iter().zip(&built.https).zip(&config.https) {
        let address = socket.local_addr().map_err(|error| StartError::Threads(error.to_string()))?;
        doors.push(Arc::new(Door::new(address, settings, Arc::clone(tls))));
    }
    let mut admin_socket = match &source {
        ConfigSource::Fixed(_) => None,
        _ => Some(AdminSocket::bind(&config.admin.socket)?),
    };
    let metrics = config.admin.metrics_address.map(bind).transpose()?;
    let runtimes = Runtimes::new(&config, admin_socket.take())?;
    let broker = Arc::new(
        Broker::new(source, config, built, listeners, doors, registered, memory)
            .map_err(|error| StartError::Threads(error.to_string()))?,
    );
    crate::trail::started(&broker, &policy, &lists);
    if let Err(error) = written {
        crate::lists::tell_unwritten(&broker, &error);
    }
    crate::consequences::enforce_changes(&broker);
    kept::restore(&broker, messages).map_err(|error| match error {
        RestoreError::Store(error) => error.into(),
        RestoreError::Threads(why) => StartError::Threads(why),
    })?;
    crate::lifecycle::configure(&broker, broker.config.load().events.lifecycle);
    crate::provisioning::start(&broker, runtimes.enrolment.as_ref().map(|runtime| runtime.handle().clone()));
    let runtimes = runtimes.serve(&broker, sockets, https_sockets, metrics)?;
    broker.set_ready(true);
    for listening in &broker.listeners {
        tracing::info!(address = %listening.address, "listening: MQTT 3.1.1 and 5.0 over mutual TLS");
    }
    for door in &broker.doors {
        tracing::info!(address = %door.address, "listening: certificates over HTTPS");
    }
    Ok((broker, runtimes))
}

/// The registry and the authority, those that the configuration asks for.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) registry: Option<Arc<RegistryService>>,
    pub(crate) authorities: Authorities,
}

impl Registered {
    fn open(config: &Checked) -> Result<Self, StartError> {
        let Some(directory) = config.registry.directory() else {
            return Ok(Self { registry: None, authorities: Authorities::default() });
        };
        // What has expired within the grace keeps its place: it comes to get its successor.
        let limits = signet_registry::Limits {
            expired_grace: config.standing.expired_grace,
            ..signet_registry::Limits::default()
        };
        let options = Options { limits, ..Options::default() };
        let registry = RegistryService::open_with(directory, options)?;
        let counts = registry.registry().counts();
        tracing::info!(
            directory = %directory.display(), last_event = %registry.head(), things = registry.registry().things_count(),
            active = counts.active, revoked = counts.revoked, "the registry is open and its audit trail is whole"
        );
        let authorities = Authorities::load(config.ca.as_ref(), &registry)?;
        Ok(Self { registry: Some(Arc::new(registry)), authorities })
    }
}

/// Whether the process may open as many descriptors as the settings ask for; it raises its own limit when it can.
pub(crate) fn check_descriptors(config: &Checked) -> Result<(), StartError> {
    let most = config.listeners.iter().map(|listener| listener.connections_max);
    let most = most.chain(config.https.iter().map(|door| door.connections_max));
    let wanted: u64 = most.map(|most| u64::from(most.get())).sum();
    let needed = wanted + DESCRIPTORS_RESERVED;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let mut allowed = limit.current.unwrap_or(u64::MAX);
    if allowed < needed && limit.maximum.is_none_or(|maximum| maximum >= needed) {
        // The soft limit is ours to raise up to the hard one.
        let raised = rustix::process::Rlimit { current: Some(needed), maximum: limit.maximum };
        if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_ok() {
            allowed = needed;
        }
    }
    if allowed < needed { Err(StartError::Descriptors { needed, allowed }) } else { Ok(()) }
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let make = || -> std::io::Result<TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        // A restart must not wait for old connections to time out. On Linux this does not let two listeners share a port.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Without this, CONNACK waits 40 ms for the peer's delayed acknowledgement. On Linux every accepted socket inherits it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(socket.into())
    };
    make().map_err(|source| StartError::Bind { address, source })
}

/// The bounds that admission keeps, out of the settings.
pub(crate) fn admission_limits(config: &Checked) -> AdmissionLimits {
    let limits = &config.limits;
    AdmissionLimits {
        half_open_max: crate::memory::half_open_max(config),
        connections_per_address_max: limits.connections_per_address_max.map(|n| n.get() as usize),
        connects_per_address_per_second: limits
            .handshakes_per_address_per_second
            .map_or(0, std::num::NonZero::get),
        refused_addresses_slowed: config.standing.refused_pause_max.is_some(),
    }
}

/// The bounds that the core keeps, out of the settings.
pub(crate) fn core_limits(config: &Checked) -> signet_core::Limits {
    let limits = &config.limits;
    let ceiling = crate::memory::ceiling_of(config);
    signet_core::Limits {
        packet_bytes_max: limits.packet_bytes_max,
        connect_packet_bytes_max: limits.connect_packet_bytes_max,
        connect_timeout: limits.connect_timeout,
        client_id_bytes_max: limits.client_id_bytes_max,
        keep_alive_secs_max: limits.keep_alive_secs_max,
        session_expiry_secs_max: limits.session_expiry_secs_max,
        will_delay_secs_max: limits.will_delay_secs_max,
        sessions_max: limits.sessions_max,
        sessions_per_principal_max: limits.sessions_per_principal_max,
        sessions_per_claim_max: limits.sessions_per_claim_max,
        subscriptions_per_session_max: limits.subscriptions_per_session_max,
        subscriptions_per_principal_max: limits.subscriptions_per_principal_max,
        topic_levels_max: limits.topic_levels_max,
        receive_max: limits.receive_max,
        unreleased_qos2_max: limits.unreleased_qos2_max,
        inflight_max: limits.inflight_max,
        queued_messages_max: limits.queued_messages_max,
        queued_bytes_max: limits.queued_bytes_max,
        queued_bytes_per_principal_max: limits.queued_bytes_per_principal_max.bytes(ceiling),
        outbox_bytes_max: limits.outbox_bytes_max,
        drain_bytes_max: limits.drain_bytes_max,
        retained_replay_max: limits.retained_replay_max,
        topic_alias_in_max: limits.topic_alias_in_max,
        topic_alias_out_max: limits.topic_alias_out_max,
        retained_messages_max: limits.retained_messages_max,
        retained_bytes_max: limits.retained_bytes_max,
        retained_messages_per_principal_max: limits.retained_messages_per_principal_max,
        retained_bytes_per_principal_max: limits.retained_bytes_per_principal_max.bytes(ceiling),
        slow_consumer: match limits.slow_consumer {
            signet_config::SlowConsumer::Close => signet_core::SlowConsumer::Close,
            signet_config::SlowConsumer::DropNewest => signet_core::SlowConsumer::DropNewest,
        },
        ..signet_core::Limits::default()
    }
}

/// A protocol version as people write it.
pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

/// When a certificate that ends at `not_after` (Unix seconds) ends on the monotonic clock, as seen at `now`.
pub(crate) fn ends_at(not_after: i64, now: signet_core::Now) -> Mono {
    let last = u64::try_from(not_after).unwrap_or(0);
    // The last second is good to its end.
    reached_at(signet_core::Wall(last.saturating_add(1).saturating_mul(1000)), now)
}

/// When `at` is reached on the monotonic clock, as seen at `now`.
pub(crate) fn reached_at(at: signet_core::Wall, now: signet_core::Now) -> Mono {
    now.mono.after(Duration::from_millis(at.0.saturating_sub(now.wall.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn whoever_is_accepted_is_answered_without_delay() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap(), "inherited from the listener");
    }

    #[test]
    fn a_busy_admin_thread_does_not_hold_up_the_timers() {
        let dir = tempfile::tempdir().unwrap();
        signet_certs_dev::ensure(dir.path()).unwrap();
        std::fs::write(dir.path().join("acl.conf"), "").unwrap();
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"server-chain.crt\"\n\
                    private-key = \"server.key\"\nclient-ca = [\"root-ca.crt\"]\nmax-connections = 10\n\
                    [acl]\nfile = \"acl.conf\"\n[system]\nsys-interval = \"1s\"\nwatch-files-interval = \"0s\"\n";
        let config = signet_config::parse(text, &dir.path().join("signet.toml")).unwrap();
        let (broker, runtimes) = start(ConfigSource::Fixed(Box::new(config.clone())), config).unwrap();
        // A listing that takes for ever.
        let (release, held) = std::sync::mpsc::channel::<()>();
        runtimes.admin.spawn(async move { held.recv() });
        let end = Instant::now() + Duration::from_secs(20);
        while broker.hub().retained_fill().0 == 0 {
            assert!(Instant::now() < end, "the $SYS tree is published");
            std::thread::yield_now();
        }
        drop(release);
        broker.request_stop();
        runtimes.end();
    }

    #[test]
    fn a_new_revocation_list_does_not_wait_for_the_next_look_at_all_files() {
        use signet_certs_dev::{Authority, CrlProfile, KeyKind, Validity};
        let dir = tempfile::tempdir().unwrap();
        signet_certs_dev::ensure(dir.path()).unwrap();
        let now = time::OffsetDateTime::now_utc();
        let root = Authority::root("Lists", KeyKind::P256, Validity::days_from(now, 30)).unwrap();
        let list = |number| root.crl(&CrlProfile::new(number, now, 30, &[])).unwrap().pem();
        let file = dir.path().join("lists.crl");
        std::fs::write(dir.path().join("lists.crt"), root.certificate_pem()).unwrap();
        std::fs::write(&file, list(1)).unwrap();
        std::fs::write(dir.path().join("acl.conf"), "").unwrap();
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"server-chain.crt\"\n\
                    private-key = \"server.key\"\nclient-ca = [\"lists.crt\"]\ncrl = [\"lists.crl\"]\n\
                    max-connections = 10\n[acl]\nfile = \"acl.conf\"\n[system]\nwatch-files-interval = \"1h\"\n";
        let config = signet_config::parse(text, &dir.path().join("signet.toml")).unwrap();
        let (broker, runtimes) = start(ConfigSource::Fixed(Box::new(config.clone())), config).unwrap();
        let in_force = || {
            let lists: Vec<_> = broker.listeners[0].tls.load().trust().editions().collect();
            lists[0].number.clone().unwrap()
        };
        let end = Instant::now() + Duration::from_secs(20);
        // The first look of the watch may come after the first change, so there are several.
        for number in 2_u8.. {
            crate::ca::replace(&file, list(u64::from(number)).as_bytes(), 0o644).unwrap();
            let settled = Instant::now() + Duration::from_secs(2);
            while in_force() != [number] && Instant::now() < settled {
                std::thread::yield_now();
            }
            if in_force() == [number] {
                break;
            }
            assert!(Instant::now() < end, "the list is read");
        }
        broker.request_stop();
        runtimes.end();
    }

    #[test]
    fn what_cannot_be_remembered_of_lists_does_not_keep_the_broker_from_starting() {
        use signet_certs_dev::{Authority, CrlProfile, KeyKind, Validity};
        let dir = tempfile::tempdir().unwrap();
        signet_certs_dev::ensure(dir.path()).unwrap();
        let now = time::OffsetDateTime::now_utc();
        let root = Authority::root("Lists", KeyKind::P256, Validity::days_from(now, 30)).unwrap();
        std::fs::write(dir.path().join("lists.crt"), root.certificate_pem()).unwrap();
        let list = root.crl(&CrlProfile::new(1, now, 30, &[])).unwrap().pem();
        std::fs::write(dir.path().join("lists.crl"), list).unwrap();
        std::fs::write(dir.path().join("acl.conf"), "").unwrap();
        // What is written beside the file first cannot be: a folder with something in it is there.
        std::fs::create_dir_all(dir.path().join("state/revocation-lists.json.new/x")).unwrap();
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"server-chain.crt\"\n\
                    private-key = \"server.key\"\nclient-ca = [\"lists.crt\"]\ncrl = [\"lists.crl\"]\n\
                    max-connections = 10\n[acl]\nfile = \"acl.conf\"\n[system]\nstate-directory = \"state\"\n";
        let config = signet_config::parse(text, &dir.path().join("signet.toml")).unwrap();
        let (broker, runtimes) = start(ConfigSource::Fixed(Box::new(config.clone())), config).unwrap();
        assert_eq!(broker.listeners[0].tls.load().trust().crls().count(), 1);
        broker.request_stop();
        runtimes.end();
    }
}
