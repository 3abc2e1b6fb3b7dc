//! broker/daemon
