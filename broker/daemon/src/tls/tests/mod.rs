//! Certificates good and bad through real handshakes in memory, on a clock that stands still.

mod anchors_and_chains;
mod cached;
mod cases;
mod failures;
mod grace;
mod hellos;
mod keys;
mod listeners;
mod paths;
mod refusals;
mod resumption;
mod revocation;
mod sources;
mod support;
mod version_one;
