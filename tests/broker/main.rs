//! The whole broker over mutual TLS: what only sockets, files and certificates can show.
//!
//! Packets and time are tried in `tests/conformance`. Every broker here but those of `panics` checks when it goes that no
//! connection's work has panicked.

mod connect;
mod doors;
mod held;
mod leave;
mod names;
mod panics;
mod refusals;
mod reload;
mod stop;

/// The lesson's policy: devices write their telemetry and status and read their commands, the admin reads everything and
/// writes commands.
const LESSON: &str = "\
user admin
topic read #
topic write devices/+/commands/#

pattern write devices/%u/telemetry/#
pattern write devices/%u/status
pattern read devices/%u/commands/#
";

/// What every device shares, for tests that are not about the policy.
const SHARED: &str = "role device\ntopic readwrite c/#\n\nrole operator\ntopic readwrite c/#\ntopic read #\ntopic read $SYS/#\n";
