//! The properties of MQTT 5.0.

/// The most user properties that a received packet may have. The specification sets no limit; without one, 256 KiB of empty pairs
/// would become over 3 MiB of memory.
pub const USER_PROPERTIES_MAX: usize = 64;

/// The most bytes of names and values that the user properties of a received packet may have together.
pub const USER_PROPERTIES_BYTES_MAX: usize = 8192;
