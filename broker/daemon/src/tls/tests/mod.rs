//! Certificates good and bad through real handshakes in memory.
