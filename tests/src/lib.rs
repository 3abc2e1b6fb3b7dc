//! What the tests of the whole broker share.
//!
//! [`build`] writes packets and [`received`] reads them, neither with the broker's own codec. [`virtual_broker`] runs
//! wire and core on virtual time.
#![expect(clippy::unwrap_used, reason = "test support: a surprise is a failed test")]

pub mod build;
pub mod received;
pub mod virtual_broker;

/// What nearly every conformance test needs.
pub mod prelude {
    pub use crate::build::*;
    pub use crate::received::{Acked, Properties, Published, Received};
    pub use crate::virtual_broker::{Accepted, Client, VirtualBroker, device, in_both};
    pub use std::time::Duration;
}
