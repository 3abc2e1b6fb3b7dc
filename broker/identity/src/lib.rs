//! broker/identity
