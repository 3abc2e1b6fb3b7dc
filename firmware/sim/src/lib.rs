//! A fleet of sensors on the host.
//!
//! Each is the state machine of the chip's firmware with a flash, a clock and a link of its own, all of which fail as the seed says.
//! [`fleet`] runs thousands of them in real time against a broker; [`years`] runs them through years of virtual time against
//! the broker's own registry and authority. Both end with a verdict: every device online under its own name, none twice, none
//! lost.

pub mod cli;
pub mod faults;
pub mod flash;
pub mod fleet;
mod link;
pub mod outcome;
mod sensor;
mod slow;
pub mod unit;
pub mod years;
