//! Who exists: things, certificates, authorities, claims, one-time tokens, templates and requests for approval, and how it came so.
//!
//! Nothing here touches a disk, a clock or a socket. A [`Command`] is decided against the [`Registry`], which gives
//! [`Event`]s and changes nothing; the caller stores them; then they are applied, which cannot fail. The events are the
//! truth: [`Registry::replay`] makes the same registry of them, and each is a row of the audit trail ([`audit`]).
//! A start reads and verifies all of them.
//!
//! - [`Registry::standing`] answers a connection: may this certificate connect, and as whom.
//! - [`Registry::decide`] answers everything that changes something. [`RegistryError`] says why not.
//! - [`Registry::effects`] says which certificates and things lost their standing by events, for those who close connections.
//! - [`SeenBook`] notes when and from where certificates connected. That is neither audited nor decided upon.
//! - [`template`] says which thing a newcomer becomes.
//! - [`ca`] signs.

mod apply;
mod approval;
pub mod audit;
mod authority;
pub mod ca;
mod certificate;
mod command;
mod decide;
mod effects;
mod error;
mod event;
mod event_text;
mod id;
mod line;
mod network;
mod pattern;
mod provisioning;
mod registry;
mod seen;
mod standing;
pub mod template;
mod thing;
mod time;

#[cfg(test)]
mod tests;

pub use approval::{APPROVALS_PER_DEVICE_MAX, Approval, ApprovalRequest};
pub use authority::{Ca, CaSettings, NewCa, PATTERNS_MAX, UnknownPolicy};
pub use certificate::{
    CERTIFICATE_BYTES_MAX, Certificate, CertificateError, Der, Enrolment, Facts, NewCertificate, Pending,
    RevocationReason, Source, Status, StatusKind, Succession,
};
pub use command::{Command, Enter, IfExists, Override, Overrides, RegisterThing, Selector};
pub use decide::IssueFor;
pub use effects::{Effects, Lost};
pub use error::{Fault, RegistryError};
pub use event::{Actor, Attempt, Cause, Change, DecodeError, DeletedBecause, EVENT_VERSION, Event, Topic};
pub use id::{CaId, IdError, KeyHash, RequestId, SERIAL_BYTES_MAX, SerialNumber, TokenHash};
pub use line::{LINE_BYTES_MAX, Line};
pub use network::Network;
pub use pattern::{NamePattern, PatternError};
pub use provisioning::{
    CLAIM_NETWORKS_MAX, CLAIM_TEMPLATES_MAX, Claim, ClaimSpec, DEVICE_SERIAL_BYTES_MAX, SERIALS_AT_ONCE_MAX,
    TEMPLATE_BODY_BYTES_MAX, Template, TemplateKind, TemplateSpec, Token, TokenSpec,
};
pub use registry::{ACTIVE_MAX, Counts, Limits, PENDING_PER_DEVICE_MAX, Registry};
pub use seen::{Seen, SeenBook, TlsVersion};
pub use standing::{Active, Rights, Standing, Suspended};
pub use thing::{
    ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, Attributes, Groups, Quarantine,
    TYPE_NAME_BYTES_MAX, Thing, ThingSpec, ThingType,
};
pub use time::Wall;
