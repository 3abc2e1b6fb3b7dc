//! A fleet of sensors on the host.
//!
//! Each is the agent of the chip's firmware on a board with a flash, a clock and a network of its own, all of which fail as the seed
//! says; only TLS is rustls here and Mbed TLS there.
//! [`fleet`] runs thousands of them in real time against a broker; [`years`] runs them through years of virtual time against
//! the broker's own registry and authority. Both end with a verdict: every device online under its own name, none twice, none
//! lost.

mod board;
pub mod chip;
pub mod cli;
pub mod faults;
pub mod flash;
pub mod fleet;
mod link;
pub mod outcome;
pub mod release;
mod sensor;
pub mod unit;
mod wire;
pub mod years;
