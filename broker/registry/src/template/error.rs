//! What is wrong with a template, or with what it was given.

use std::fmt;

use signet_identity::{CertificateId, NameError};

use super::{
    DEVICE_CONFIGURATION_BYTES_MAX, PARAMETER_NAME_BYTES_MAX, PARAMETER_VALUE_BYTES_MAX, PARAMETERS_MAX,
    TEMPLATE_TEXT_BYTES_MAX,
};
use crate::RegistryError;

/// One thing that is wrong, or questionable, in a template.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TemplateProblem {
    /// Where, as a path from the root: `$.Resources.thing.Properties.ThingName`.
    pub path: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}; {}", self.line, self.column, self.path, self.what, self.help)
    }
}

/// Why a template gives nothing for what it was given. Its text goes to the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// A parameter that has no default is missing.
    #[error("the parameter {name} is missing")]
    MissingParameter {
        /// Its name.
        name: String,
    },
    /// The certificate's subject lacks an attribute that the template declares.
    #[error("the subject of the certificate has no value for {name}")]
    MissingSubject {
        /// The parameter's name.
        name: String,
    },
    /// The certificate's subject has an attribute more than once, so none of them is it.
    #[error("the subject of the certificate has several values for {name}")]
    AmbiguousSubject {
        /// The parameter's name.
        name: String,
    },
    /// More parameters than [`PARAMETERS_MAX`].
    #[error("more than {PARAMETERS_MAX} parameters")]
    TooManyParameters,
    /// A parameter's name or value is too long.
    #[error(
        "a parameter is too long: names have at most {PARAMETER_NAME_BYTES_MAX} bytes, values {PARAMETER_VALUE_BYTES_MAX}"
    )]
    ParameterTooLong,
    /// A parameter's value has a control character, or one that changes how text is shown.
    #[error("the parameter {name} has a control character")]
    ParameterControl {
        /// Its name.
        name: String,
    },
    /// A parameter's value is none of the allowed ones.
    #[error("the parameter {name} has a value that the template does not allow")]
    ParameterNotAllowed {
        /// Its name.
        name: String,
    },
    /// `Fn::Select` names a place that the list does not have.
    #[error("{at}: Fn::Select names a place that the list does not have")]
    Select {
        /// Where in the template.
        at: Box<str>,
    },
    /// `Fn::FindInMap` names something that the mappings do not have.
    #[error("{at}: the mappings have no such entry")]
    FindInMap {
        /// Where in the template.
        at: Box<str>,
    },
    /// `Fn::Split` at an empty text.
    #[error("{at}: Fn::Split needs a text to split at")]
    Split {
        /// Where in the template.
        at: Box<str>,
    },
    /// A text is longer than [`TEMPLATE_TEXT_BYTES_MAX`].
    #[error("{at}: the text is longer than {TEMPLATE_TEXT_BYTES_MAX} bytes")]
    TextTooLong {
        /// Where in the template.
        at: Box<str>,
    },
    /// The device configuration is larger than [`DEVICE_CONFIGURATION_BYTES_MAX`].
    #[error("the device configuration is larger than {DEVICE_CONFIGURATION_BYTES_MAX} bytes")]
    DeviceConfigurationTooLong,
    /// What should be the name of a thing is none.
    #[error("the thing's name: {0}")]
    ThingName(NameError),
    /// What should be the name of a thing type is none.
    #[error("the thing's type: {0}")]
    ThingType(NameError),
    /// What should be the name of a group is none.
    #[error("{at}: {why}")]
    Group {
        /// Where in the template.
        at: Box<str>,
        /// Why.
        why: NameError,
    },
    /// An attribute is outside of its grammar, or there are too many groups.
    #[error("{0}")]
    Thing(RegistryError),
    /// `Status` is neither ACTIVE nor INACTIVE.
    #[error("the status of the certificate is neither ACTIVE nor INACTIVE")]
    Status,
    /// The template names another certificate than the newcomer's.
    #[error("the template is about another certificate than {0}")]
    OtherCertificate(CertificateId),
    /// A rotation template was evaluated for nobody in particular.
    #[error("only a device that has a thing can renew its certificate")]
    NoOwnThing,
}

impl EvaluateError {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::MissingParameter { .. } => "missing_parameter",
            Self::MissingSubject { .. } => "missing_subject",
            Self::AmbiguousSubject { .. } => "ambiguous_subject",
            Self::TooManyParameters => "too_many_parameters",
            Self::ParameterTooLong => "parameter_too_long",
            Self::ParameterControl { .. } => "parameter_control",
            Self::ParameterNotAllowed { .. } => "parameter_not_allowed",
            Self::Select { .. } => "select",
            Self::FindInMap { .. } => "find_in_map",
            Self::Split { .. } => "split",
            Self::TextTooLong { .. } => "text_too_long",
            Self::DeviceConfigurationTooLong => "device_configuration_too_long",
            Self::ThingName(_) => "thing_name",
            Self::ThingType(_) => "thing_type",
            Self::Group { .. } => "group",
            Self::Thing(_) => "thing",
            Self::Status => "status",
            Self::OtherCertificate(_) => "other_certificate",
            Self::NoOwnThing => "no_own_thing",
        }
    }
}
