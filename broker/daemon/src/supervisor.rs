//! What systemd is told: that the broker is ready, that it stops, and, as long as it does its work, that it lives.
//!
//! The protocol is a line of text to a datagram socket that `NOTIFY_SOCKET` names (`sd_notify(3)`), every so often when
//! `WATCHDOG_USEC` asks for it. A broker whose threads hang says nothing, and is ended and started again.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::server::Broker;

/// Intervals are at least so long, whatever is asked for.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The supervisor's socket, if there is one.
struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Supervisor {
    /// `None`: nobody supervises this process, or its socket cannot be used, which is logged.
    fn of_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&name),
        };
        let made = address.and_then(|address| Ok(Self { socket: UnixDatagram::unbound()?, address }));
        made.inspect_err(
            |error| tracing::warn!(%error, socket = ?name, "the supervisor cannot be told anything"),
        )
        .ok()
    }

    fn tell(&self, state: &str) {
        if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address) {
            tracing::warn!(%error, state, "the supervisor could not be told");
        }
    }
}

/// How often the supervisor wants to hear that this process lives; `None`: never.
fn watchdog_interval() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    // It may be meant for another process, such as a shell that started this one.
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|usec| *usec > 0).map(Duration::from_micros)
}

/// The broker accepts connections: tells so, and from now on that it lives, as long as every runtime of `work` gets its turn.
pub(crate) fn ready(broker: &Arc<Broker>, work: Vec<Handle>) {
    let Some(supervisor) = Supervisor::of_environment() else { return };
    supervisor.tell("READY=1\nSTATUS=accepting connections");
    let Some(interval) = watchdog_interval() else { return };
    // Twice in the time would do.
    let every = (interval / 3).max(INTERVAL_MIN);
    let watched = Arc::downgrade(broker);
    let watch = move || {
        let mut stopping = false;
        while let Some(broker) = watched.upgrade() {
            if !stopping && broker.is_stopping() {
                stopping = true;
                supervisor.tell("STOPPING=1");
            }
            // While it stops, the runtimes end one after the other.
            if stopping || is_well(&broker, &work, every) {
                supervisor.tell("WATCHDOG=1");
            }
            drop(broker);
            std::thread::park_timeout(every);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("signet-watchdog".to_owned()).spawn(watch) {
        tracing::error!(%error, "the watchdog cannot be started: the supervisor will end this process");
    }
}

/// Whether each runtime does a piece of work within `patience`, and the registry's writer is there.
fn is_well(broker: &Broker, work: &[Handle], patience: Duration) -> bool {
    let (done, answers) = sync_channel(work.len());
    for runtime in work {
        let done = done.clone();
        drop(runtime.spawn(async move { done.try_send(()) }));
    }
    let end = Instant::now() + patience;
    let all =
        work.iter().all(|_| answers.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok());
    let registry = broker.registry().is_none_or(|registry| registry.is_running());
    if !all || !registry {
        tracing::error!(
            threads = all,
            registry,
            "this process does not do its work: the supervisor is not told that it lives"
        );
    }
    all && registry
}
