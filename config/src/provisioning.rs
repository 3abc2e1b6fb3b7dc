//! `[provisioning]`: certificates for devices that ask over MQTT, and what an operator has to say to each.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

/// `[provisioning]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioning {
    /// Who is asked before a thing is registered.
    pub hook: Hook,
    /// How long the hook may take, at most 700 ms; no answer by then is a no.
    pub hook_deadline: Duration,
    /// Hooks under way at once.
    pub hooks_max: NonZeroU16,
    /// Requests that wait or are under way at once, over all connections.
    pub requests_in_flight_max: NonZeroU32,
    /// Requests per second of one claim; `None`: as many as it likes.
    pub requests_per_principal_per_second: Option<NonZeroU32>,
    /// Requests per second of one device for its own next certificate; `None`: as many as it likes.
    pub requests_per_device_per_second: Option<NonZeroU32>,
    /// Unknown certificates of one authority that are registered in a second; `None`: as many as come.
    pub just_in_time_per_authority_per_second: Option<NonZeroU32>,
    /// Requests per second from one address; `None`: as many as it likes.
    pub requests_per_address_per_second: Option<NonZeroU32>,
    /// From a certificate to the registration of its thing, whole seconds.
    pub ownership_token_validity: Duration,
    /// How long the certificate that a rotation replaced stays in force after its successor has connected, whole seconds.
    pub rotation_grace: Duration,
    /// Refusals of one claim within a minute that are an alarm.
    pub alarm_refusals: NonZeroU32,
    /// Refusals of one claim within ten minutes that suspend it; `None`: only an operator does.
    pub suspend_claim_refusals: Option<NonZeroU32>,
    /// Threads that sign; `None`: by the number of processors.
    pub threads: Option<NonZeroU16>,
}

/// Who is asked before a thing is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Nobody.
    None,
    /// A program: JSON on its standard input, JSON from its standard output.
    Command(PathBuf),
    /// A service: JSON by POST to this `http://` URL.
    Http(String),
}
