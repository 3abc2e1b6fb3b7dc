//! The Signet broker: the I/O edge and the command line.
//!
//! Everything that MQTT, the policy and the certificate decide is decided in other crates; here are sockets, TLS,
//! tasks, files, signals and metrics. `broker/docs/architecture.md` says what is where.

pub mod admin;
pub mod admission;
pub mod allocator;
pub mod ca;
mod census;
pub mod cli;
pub mod clock;
mod clones;
mod consequences;
mod departures;
pub mod directory;
pub mod io;
mod listed;
pub mod listener;
pub mod lists;
mod live;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod pages;
pub mod penalty;
pub mod provisioning;
pub mod reload;
pub mod runtimes;
pub mod server;
pub mod start;
pub mod state;
pub mod store;
pub mod tls;
pub mod tokens;

mod background;
mod handshake;
mod https;
mod kept;
mod lifecycle;
mod link;
mod portions;
mod principals;
mod rotation;
mod seats;
mod signing;
mod standing;
mod supervisor;
mod trail;
mod turns;
mod vital;
