//! A template that was checked.

use std::collections::BTreeMap;

use signet_identity::NameRule;

use super::expression::{Expr, List, Mappings};
use super::{CertificateParameters, EvaluateError, Parameter, Provisioned, TemplateProblem, compile};
use crate::{Override, TemplateKind};

/// A provisioning template that was checked whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateBody {
    pub(super) kind: TemplateKind,
    pub(super) parameters: BTreeMap<String, Parameter>,
    pub(super) mappings: Mappings,
    pub(super) thing: ThingResource,
    pub(super) certificate: CertificateResource,
    /// The names of the policies.
    pub(super) policies: Vec<Located<Expr>>,
    pub(super) configuration: Vec<(String, Located<Expr>)>,
    pub(super) warnings: Vec<TemplateProblem>,
}

/// A part of a template, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located<T> {
    /// The path.
    pub(super) at: Box<str>,
    /// In bytes from the beginning of the template.
    pub(super) offset: usize,
    pub(super) part: T,
}

/// The resource `AWS::IoT::Thing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThingResource {
    /// Absent only in a rotation template.
    pub(super) name: Option<Located<Expr>>,
    pub(super) thing_type: Option<Located<Expr>>,
    pub(super) attributes: Vec<(String, Located<Expr>)>,
    pub(super) groups: Option<Located<List>>,
    pub(super) overrides: ThingOverrides,
}

/// What `OverrideSettings` of the thing say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThingOverrides {
    pub(super) refuse: bool,
    pub(super) replace_type: bool,
    pub(super) attributes: Override,
    pub(super) groups: Override,
}

/// The resource `AWS::IoT::Certificate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateResource {
    pub(super) id: Located<Expr>,
    /// ACTIVE when absent.
    pub(super) status: Option<Located<Expr>>,
}

impl TemplateBody {
    /// Checks the template `text` whole.
    ///
    /// # Errors
    /// Every problem in the order of the text, at most [`TEMPLATE_PROBLEMS_MAX`](super::TEMPLATE_PROBLEMS_MAX).
    pub fn parse(kind: TemplateKind, text: &str) -> Result<Self, Vec<TemplateProblem>> {
        compile::compile(kind, text)
    }

    /// What the template is for.
    #[must_use]
    pub const fn kind(&self) -> TemplateKind {
        self.kind
    }

    /// The parameters that it declares, in name order.
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.parameters.values()
    }

    /// What is allowed and yet may not be what was meant.
    #[must_use]
    pub fn warnings(&self) -> &[TemplateProblem] {
        &self.warnings
    }

    /// What the template gives for a device that sent `parameters` and has the certificate `certificate`, where things are
    /// named by the default [`NameRule`].
    ///
    /// # Errors
    /// The first [`EvaluateError`].
    pub fn evaluate(
        &self,
        parameters: &BTreeMap<String, String>,
        certificate: &CertificateParameters,
    ) -> Result<Provisioned, EvaluateError> {
        self.evaluate_with(parameters, certificate, &NameRule::default())
    }
}
