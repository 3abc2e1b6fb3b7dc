//! What a change of standing does to a running broker: revocation and its consequences, suspension, expiry, quarantine,
//! clones, and those who are refused again and again. Over mutual TLS, with a registry.

mod clones;
mod demoted;
mod expiry;
mod hammering;
mod in_flight;
mod listed;
mod quarantine;
mod revocation;
mod sight;

/// Devices write what is theirs and read their commands; the one called admin reads everything.
const FLEET: &str = "\
user admin
topic read #
topic write devices/+/commands/#

pattern readwrite devices/%u/#
";

/// Session tickets are given out.
const TICKETS: &str = "session-tickets = 2";

/// Not authorized, of CONNACK.
const NOT_AUTHORIZED: u8 = 0x87;
/// Maximum connect time, of DISCONNECT: the certificate has ended.
const MAXIMUM_CONNECT_TIME: u8 = 0xA0;
/// Administrative action, of DISCONNECT.
const ADMINISTRATIVE_ACTION: u8 = 0x98;
