//! The threads of one broker, and what each of them does.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use signet_config::Checked;
use tokio::runtime::Runtime;

use crate::admin::http::{admin_routes, metrics_routes};
use crate::admin::registry::Peer;
use crate::admin::socket::AdminSocket;
use crate::allocator::Threads;
use crate::directory::Directory;
use crate::listener;
use crate::portions;
use crate::server::Broker;
use crate::start::StartError;
use crate::vital;

/// Niceness added to the threads that do handshakes, so that messages go first.
const HANDSHAKE_NICENESS: i32 = 10;

/// The threads of one broker.
#[derive(Debug)]
pub struct Runtimes {
    traffic: Runtime,
    handshakes: Runtime,
    pub(crate) admin: Runtime,
    /// The core's timers.
    timers: Runtime,
    /// Where certificates are asked for and signed; only when the broker is an authority.
    pub(crate) enrolment: Option<Runtime>,
    pub(crate) metrics_address: Option<SocketAddr>,
    admin_socket: Option<AdminSocket>,
}

impl Runtimes {
    pub(crate) fn new(config: &Checked, admin_socket: Option<AdminSocket>) -> Result<Self, StartError> {
        let threads = |error: std::io::Error| StartError::Threads(error.to_string());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let traffic_threads = config.system.traffic_threads.map_or(cores, |n| usize::from(n.get()));
        let traffic = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(traffic_threads)
            .thread_name("signet-traffic")
            .enable_all()
            .build()
            .map_err(threads)?;
        let handshakes = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(handshake_threads(config))
            .thread_name("signet-tls")
            .on_thread_start(work_behind_the_traffic)
            .on_thread_unpark(portions::begin_again)
            .enable_all()
            .build()
            .map_err(threads)?;
        let admin = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("signet-admin")
            .enable_all()
            .build()
            .map_err(threads)?;
        let timers = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("signet-timers")
            .enable_all()
            .build()
            .map_err(threads)?;
        let enrolment_threads =
            config.provisioning.threads.map_or(cores.div_ceil(2).max(2), |n| usize::from(n.get()));
        let enrolment = config.ca.as_ref().map(|_| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(enrolment_threads)
                .thread_name("signet-enrol")
                .on_thread_start(lower_priority)
                .enable_all()
                .build()
        });
        let enrolment = enrolment.transpose().map_err(threads)?;
        Ok(Self { traffic, handshakes, admin, timers, enrolment, metrics_address: None, admin_socket })
    }

    pub(crate) fn serve(
        mut self,
        broker: &Arc<Broker>,
        sockets: Vec<TcpListener>,
        https_sockets: Vec<TcpListener>,
        metrics: Option<TcpListener>,
    ) -> Result<Self, StartError> {
        let threads = |error: std::io::Error| StartError::Threads(error.to_string());
        let (admin, timers) = (self.admin.handle(), self.timers.handle());
        let handshakes = self.handshakes.handle();
        vital::spawn(handshakes, "giving turns to handshakes", Arc::clone(&broker.turns).give());
        let departing = Arc::clone(&broker.departures).take_down(Arc::clone(&broker.offers));
        vital::spawn(handshakes, "taking connections down", departing);
        for (socket, listening) in sockets.into_iter().zip(&broker.listeners) {
            let accepting = listener::accept(
                Arc::clone(broker),
                Arc::clone(listening),
                socket,
                self.traffic.handle().clone(),
            );
            vital::spawn(handshakes, "accepting connections", accepting);
        }
        for (socket, door) in https_sockets.into_iter().zip(&broker.doors) {
            let accepting = crate::https::accept(Arc::clone(broker), Arc::clone(door), socket);
            vital::spawn(handshakes, "accepting HTTPS connections", accepting);
        }
        let _inside = self.admin.enter();
        if let Some(socket) = metrics {
            self.metrics_address = socket.local_addr().ok();
            let socket = tokio::net::TcpListener::from_std(socket).map_err(threads)?;
            let routes = metrics_routes(Arc::clone(broker));
            self.admin.spawn(crate::admin::serve::serve(socket, routes));
        }
        if let Some(socket) = self.admin_socket.as_mut().and_then(AdminSocket::take_listener) {
            let socket = tokio::net::UnixListener::from_std(socket).map_err(threads)?;
            let routes = admin_routes(Arc::clone(broker));
            let service = routes.into_make_service_with_connect_info::<Peer>();
            self.admin.spawn(async move { axum::serve(socket, service).await });
        }
        vital::spawn(
            admin,
            "writing revocation lists",
            crate::background::revocation_lists(Arc::clone(broker)),
        );
        vital::spawn(admin, "the watch over revocation lists", crate::lists::watch(Arc::clone(broker)));
        vital::spawn(
            admin,
            "the watch over the files of revocation lists",
            crate::lists::watch_files(Arc::clone(broker)),
        );
        vital::spawn(admin, "telling of connections", crate::lifecycle::publish(Arc::clone(broker)));
        vital::spawn(admin, "rotating certificates", crate::rotation::follow(Arc::clone(broker)));
        vital::spawn(admin, "counting certificates", crate::census::count(Arc::clone(broker)));
        // A long listing for an operator must not hold these up.
        vital::spawn(timers, "the timers", crate::background::timers(Arc::clone(broker)));
        vital::spawn(timers, "closing connections", crate::background::closings(Arc::clone(broker)));
        vital::spawn(timers, "publishing $SYS", crate::background::sys_topics(Arc::clone(broker)));
        vital::spawn(timers, "the watch over the clock", crate::background::watch_clock(Arc::clone(broker)));
        let threads = Threads::new(self.handles());
        vital::spawn(timers, "the watch over memory", crate::memory::watch(Arc::clone(broker), threads));
        vital::spawn(admin, "the watch over tokens", crate::background::watch_tokens(Arc::clone(broker)));
        vital::spawn(admin, "the watch over files", crate::background::watch_files(Arc::clone(broker)));
        Ok(self)
    }

    /// All that the broker needs to do its work.
    pub(crate) fn handles(&self) -> Vec<tokio::runtime::Handle> {
        let all = [&self.traffic, &self.handshakes, &self.admin, &self.timers];
        all.into_iter().chain(&self.enrolment).map(|runtime| runtime.handle().clone()).collect()
    }

    /// Waits until no connection is left, at most `within`; how many are.
    pub(crate) fn drain(&self, directory: &Directory, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        self.admin.block_on(async {
            while !directory.is_empty() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        directory.len()
    }

    /// Ends the threads. Tasks that still run are dropped at their next wait.
    pub(crate) fn end(self) {
        let patience = Duration::from_secs(1);
        self.handshakes.shutdown_timeout(patience);
        self.traffic.shutdown_timeout(patience);
        if let Some(enrolment) = self.enrolment {
            enrolment.shutdown_timeout(patience);
        }
        self.timers.shutdown_timeout(patience);
        self.admin.shutdown_timeout(patience);
    }
}

/// How many threads do handshakes.
pub(crate) fn handshake_threads(config: &Checked) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    config.system.handshake_threads.map_or(cores.div_ceil(2), |n| usize::from(n.get()))
}

/// Beside a lower priority, what it takes to offer the processor for a moment ([`portions::Offers`]).
fn work_behind_the_traffic() {
    lower_priority();
    portions::prepare_offers();
}

/// A kernel that refuses leaves the thread at the usual priority: slower messages in a storm, nothing else.
fn lower_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), HANDSHAKE_NICENESS) {
        tracing::debug!(%error, "handshake threads keep the usual priority");
    }
}

/// Waits for SIGINT, SIGTERM or a stop by an operator. SIGHUP reloads.
pub(crate) fn wait_for_stop(broker: &Arc<Broker>, runtimes: &Runtimes) {
    use tokio::signal::unix::{SignalKind, signal};
    runtimes.admin.block_on(async {
        let signals = (|| {
            Ok::<_, std::io::Error>([
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ])
        })();
        let [mut interrupt, mut terminate, mut hangup] = match signals {
            Ok(signals) => signals,
            Err(error) => {
                tracing::error!(%error, "signals cannot be received; only `signet stop` ends this broker");
                broker.stop_requested().await;
                return;
            }
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                () = broker.stop_requested() => return,
                _ = hangup.recv() => {
                    let broker = Arc::clone(broker);
                    // The outcome, good or bad, is logged by the reload itself.
                    drop(tokio::task::spawn_blocking(move || {
                        broker.trust_clock();
                        broker.reload("SIGHUP")
                    }));
                }
            }
        }
    });
}
