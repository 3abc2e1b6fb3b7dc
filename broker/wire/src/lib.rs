//! broker/wire
