//! What the tests of the whole broker share.
//!
//! [`build`] writes packets and [`received`] reads them, neither with the broker's own codec. [`virtual_broker`] runs
//! wire and core on virtual time; [`test_broker`] runs the daemon, and [`raw_client`] speaks to it over TLS.

pub mod build;
pub mod raw_client;
pub mod received;
pub mod registered;
pub mod test_broker;
pub mod virtual_broker;

/// What nearly every conformance test needs.
pub mod prelude {
    pub use crate::build::*;
    pub use crate::received::{Acked, Properties, Published, Received};
    pub use crate::virtual_broker::{Accepted, Client, VirtualBroker, device, in_both};
    pub use std::time::Duration;
}
