//! What somebody hostile can do to a broker with little memory: each flood has its test and its figure.
//!
//! The broker is a process of its own under `memory-max = "64MiB"`, with idle devices connected, while somebody good goes
//! on connecting and publishing. Every test asserts that the peak of its resident memory stayed below the ceiling, that
//! somebody good was served meanwhile, and that all is as before afterwards.
//!
//! `cargo test` runs it small. `SIGNET_FLOODS=full` runs it at the size that the manual tells; `SIGNET_BIN` names another
//! program, such as a release build. Each test prints its figures as a line of JSON, and appends it to the file that
//! `SIGNET_FLOODS_OUT` names. `SIGNET_FLOODS_BESIDE=mosquitto` puts Debian's Mosquitto in the broker's place (`beside.rs`);
//! `SIGNET_FLOODS_MIB` is another ceiling than 64 MiB, or 96 for a program that is not optimized.

mod beside;
mod ceiling;
mod devices;
mod half_open;
mod hoarders;
mod kill;
mod mutated;
mod site;
mod strangers;
