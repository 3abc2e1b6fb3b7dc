//! Provisioning templates: the JSON that says which thing a newcomer becomes.
//!
//! The language is that of AWS IoT fleet provisioning: `Parameters`, `Mappings`, `Resources`, `DeviceConfiguration`, and the
//! functions `Ref`, `Fn::Join`, `Fn::Sub`, `Fn::Split`, `Fn::Select` and `Fn::FindInMap`. [`TemplateBody::parse`] checks a
//! template whole, once, when it is stored; what it admits can fail later only because of what a device sends.
//!
//! Three things differ, because Signet has no policy documents and no accounts:
//! - A `PolicyName` is the name of a group that the thing joins; the access rules are in the section `role NAME` of the ACL
//!   file. `PolicyDocument` is refused.
//! - The result must be names of this broker: a thing's name is one topic level and no wildcard.
//! - A rotation template is always about the caller's own thing, whatever it says, and never changes groups.

mod body;
mod compile;
mod error;
mod evaluate;
mod expression;
mod node;
mod subject;

use std::collections::{BTreeMap, BTreeSet};

use signet_identity::GroupName;

pub use body::TemplateBody;
pub use error::{EvaluateError, TemplateProblem};
pub use subject::{CertificateParameters, SubjectError};

use crate::{Enter, IfExists, ThingSpec};

/// The most levels of objects and lists in a template's JSON.
pub const TEMPLATE_DEPTH_MAX: usize = 32;
/// The most problems that one [`TemplateBody::parse`] reports.
pub const TEMPLATE_PROBLEMS_MAX: usize = 64;
/// The most parameters that a device may send with one registration.
pub const PARAMETERS_MAX: usize = 64;
/// The most bytes of a parameter's name.
pub const PARAMETER_NAME_BYTES_MAX: usize = 128;
/// The most bytes of a parameter's value.
pub const PARAMETER_VALUE_BYTES_MAX: usize = 800;
/// The most bytes of any text that a function gives.
pub const TEMPLATE_TEXT_BYTES_MAX: usize = 2_048;
/// The most bytes of names and values of a device configuration together.
pub const DEVICE_CONFIGURATION_BYTES_MAX: usize = 8_192;

/// What a template gives for one newcomer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// The thing. Its groups are the `ThingGroups` and the policies together.
    pub thing: ThingSpec,
    /// What happens when the thing exists.
    pub if_exists: IfExists,
    /// In which state the certificate enters.
    pub enter: Enter,
    /// What the device is told, name to value.
    pub device_configuration: BTreeMap<String, String>,
    /// The groups among `thing.groups` that come of policies.
    pub policies: BTreeSet<GroupName>,
    /// The value of the parameter `SerialNumber`, when the device sent one and the thing's name is made of nothing else that it can
    /// choose: what a claim's list of serial numbers is about.
    pub serial: Option<String>,
}

/// A parameter that a template declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it is when it is not given; without one it must be given.
    pub default: Option<String>,
    /// What it may be; anything when empty.
    pub allowed: BTreeSet<String>,
}

impl Parameter {
    /// Whether the broker gives the value, from a certificate, and not the device.
    #[must_use]
    pub fn is_from_certificate(&self) -> bool {
        self.name.starts_with("AWS::")
    }
}

#[cfg(test)]
mod tests;
