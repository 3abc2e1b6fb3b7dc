//! Who a peer is: from the end-entity certificate of a chain that has already been verified to a [`Principal`].
//!
//! This crate neither verifies paths nor reads files, sockets or clocks. It answers three questions about the bytes
//! of one certificate: which name does it give ([`identify`]), may it be used by a client ([`extended_key_usage`]),
//! and how is it shown to an operator when the first two fail ([`describe`]).
//!
//! A name is taken from exactly one place, which the listener's configuration picks ([`IdentitySource`]). There is no
//! fall-back from one place to another: a certificate that has no usable name there gives an [`IdentityError`] and
//! the connection is refused.
//!
//! ```
//! use signet_identity::{CertificateId, NameRule, Principal, Role, ThingName};
//!
//! let name = ThingName::new("sensor-001", &NameRule::default()).unwrap();
//! let principal = Principal::device(name, CertificateId::of(b"the DER"), Vec::new());
//! assert_eq!(principal.role(), Role::Device);
//! assert!(ThingName::new("sensor-001/telemetry", &NameRule::default()).is_err());
//! ```

mod certificate;
mod describe;
mod error;
mod identify;
mod lineage;
mod name;
mod principal;
mod text;

pub use certificate::{CertificateId, Eku, Serial, Validity, extended_key_usage};
pub use describe::{CertificateSummary, describe};
pub use error::IdentityError;
pub use identify::{Identified, IdentitySource, common_name_in, identify, name_of};
pub use lineage::{Issued, LINEAGE_MAX, Lineage, SERIAL_OCTETS_MAX};
pub use name::{GroupName, NAME_LEN_MAX, NameError, NameRule, NameRuleError, TemplateName, ThingName};
pub use principal::{GROUPS_MAX, Principal, PrincipalKey, Role};
