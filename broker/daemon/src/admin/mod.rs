//! The ways in for operators: a Unix socket for commands, a loopback HTTP address for metrics and health.

pub mod api;
pub mod backup;
pub mod client;
pub mod http;
pub mod judge;
pub mod registry;
pub(crate) mod serve;
pub mod socket;
