//! From what a device sent to what becomes of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use signet_identity::{GroupName, NameRule, ThingName};

use super::body::{Located, TemplateBody};
use super::expression::{Expr, List, Scope};
use super::subject::{ID, SUBJECT};
use super::{
    CertificateParameters, DEVICE_CONFIGURATION_BYTES_MAX, EvaluateError, PARAMETER_NAME_BYTES_MAX,
    PARAMETER_VALUE_BYTES_MAX, PARAMETERS_MAX, Parameter, Provisioned,
};
use crate::{Attributes, Enter, Groups, IfExists, Override, Overrides, TemplateKind, ThingSpec, ThingType};

/// The parameter that a claim's list of serial numbers is about.
const SERIAL: &str = "SerialNumber";

impl TemplateBody {
    /// As [`Self::evaluate`], where things are named by `names`.
    ///
    /// # Errors
    /// The first [`EvaluateError`].
    pub fn evaluate_with(
        &self,
        parameters: &BTreeMap<String, String>,
        certificate: &CertificateParameters,
        names: &NameRule,
    ) -> Result<Provisioned, EvaluateError> {
        bounded(parameters)?;
        let scope = self.scope(parameters, certificate)?;
        let at = &self.certificate.id.at;
        if scope.text(&self.certificate.id.part, at)? != certificate.id.to_string() {
            return Err(EvaluateError::OtherCertificate(certificate.id));
        }
        let enter = match &self.certificate.status {
            None => Enter::Active,
            Some(status) => enter(&scope.text(&status.part, &status.at)?).ok_or(EvaluateError::Status)?,
        };
        let name = match (self.kind, &certificate.own_thing, &self.thing.name) {
            (TemplateKind::Rotation, Some(own), _) => own.clone(),
            (TemplateKind::Rotation, None, _) | (_, _, None) => return Err(EvaluateError::NoOwnThing),
            (_, _, Some(name)) => thing_name(&scope.text(&name.part, &name.at)?, names)?,
        };
        let (thing, policies) = self.thing_named(name, &scope, names)?;
        let if_exists = self.if_exists(&policies)?;
        let device_configuration = self.device_configuration(&scope)?;
        let serial = parameters.get(SERIAL).filter(|_| self.is_named_by_serial()).cloned();
        Ok(Provisioned { thing, if_exists, enter, device_configuration, policies, serial })
    }

    /// Whether the serial number is all that a thing's name is made of: then one of a claim's list makes one thing. With a
    /// part that the device chooses beside it, one number would make any number of them.
    fn is_named_by_serial(&self) -> bool {
        let mut names = BTreeSet::new();
        if let Some(name) = &self.thing.name {
            name.part.each_parameter(&mut |parameter| {
                names.insert(parameter.to_owned());
            });
        }
        names.len() == 1 && names.contains(SERIAL)
    }

    fn scope<'v>(
        &'v self,
        given: &'v BTreeMap<String, String>,
        certificate: &'v CertificateParameters,
    ) -> Result<Scope<'v>, EvaluateError> {
        let mut values = BTreeMap::from([(ID, Cow::Owned(certificate.id.to_string()))]);
        for (name, value) in &certificate.subject {
            if let Some(value) = value.as_ref().filter(|_| self.parameters.contains_key(*name)) {
                values.insert(*name, Cow::Borrowed(value.as_str()));
            }
        }
        for parameter in self.parameters.values() {
            let name = parameter.name.as_str();
            if parameter.is_from_certificate() {
                if !values.contains_key(name) {
                    values.insert(name, Cow::Borrowed(missing_subject(parameter, certificate)?));
                }
            } else {
                let value = given.get(name).or(parameter.default.as_ref());
                let value = value.ok_or_else(|| EvaluateError::MissingParameter { name: name.into() })?;
                values.insert(name, Cow::Borrowed(value.as_str()));
            }
            if let Some(value) = values.get(name)
                && !parameter.allowed.is_empty()
                && !parameter.allowed.contains(&**value)
            {
                return Err(EvaluateError::ParameterNotAllowed { name: name.into() });
            }
        }
        for (name, value) in &values {
            plain(name, value)?;
        }
        Ok(Scope { values, mappings: &self.mappings })
    }

    /// The thing, and those of its groups that come of policies.
    fn thing_named(
        &self,
        name: ThingName,
        scope: &Scope<'_>,
        names: &NameRule,
    ) -> Result<(ThingSpec, BTreeSet<GroupName>), EvaluateError> {
        let thing_type = match &self.thing.thing_type {
            None => None,
            Some(kind) => {
                let name = ThingName::new(&scope.text(&kind.part, &kind.at)?, names);
                Some(ThingType(name.map_err(EvaluateError::ThingType)?))
            }
        };
        let mut attributes = BTreeMap::new();
        for (name, value) in &self.thing.attributes {
            attributes.insert(name.as_str().into(), scope.text(&value.part, &value.at)?.into());
        }
        let attributes = Attributes::new(attributes).map_err(EvaluateError::Thing)?;
        let (mut groups, mut policies) = (Vec::new(), BTreeSet::new());
        // A rotation changes no rights: what the thing is a member of was decided when it came in.
        if self.kind != TemplateKind::Rotation {
            if let Some(listed) = &self.thing.groups {
                groups = group_list(scope, listed)?;
            }
            for policy in &self.policies {
                policies.insert(group_of(scope, policy)?);
            }
        }
        groups.extend(policies.iter().cloned());
        let groups = Groups::new(groups).map_err(EvaluateError::Thing)?;
        Ok((ThingSpec { name, thing_type, attributes, groups }, policies))
    }

    fn if_exists(&self, policies: &BTreeSet<GroupName>) -> Result<IfExists, EvaluateError> {
        let overrides = self.thing.overrides;
        if overrides.refuse {
            return Ok(IfExists::Refuse);
        }
        let rotation = self.kind == TemplateKind::Rotation;
        let groups = if rotation { Override::Keep } else { overrides.groups };
        let join = Groups::new(policies.iter().cloned().collect()).map_err(EvaluateError::Thing)?;
        let (replace_type, attributes) = (overrides.replace_type, overrides.attributes);
        Ok(match (replace_type, attributes, groups) {
            (false, Override::Keep, Override::Keep) if join.as_slice().is_empty() => IfExists::Keep,
            (true, Override::Replace, Override::Replace) => IfExists::Replace,
            _ => IfExists::Adjust(Overrides { replace_type, attributes, groups, join }),
        })
    }

    fn device_configuration(&self, scope: &Scope<'_>) -> Result<BTreeMap<String, String>, EvaluateError> {
        let mut configuration = BTreeMap::new();
        let mut bytes = 0;
        for (name, value) in &self.configuration {
            let value = scope.text(&value.part, &value.at)?;
            bytes += name.len() + value.len();
            if bytes > DEVICE_CONFIGURATION_BYTES_MAX {
                return Err(EvaluateError::DeviceConfigurationTooLong);
            }
            configuration.insert(name.clone(), value);
        }
        Ok(configuration)
    }
}

/// The bounds of what a device may send, whether the template asks for it or not.
fn bounded(parameters: &BTreeMap<String, String>) -> Result<(), EvaluateError> {
    if parameters.len() > PARAMETERS_MAX {
        return Err(EvaluateError::TooManyParameters);
    }
    let long = |(name, value): (&String, &String)| {
        name.len() > PARAMETER_NAME_BYTES_MAX || value.len() > PARAMETER_VALUE_BYTES_MAX
    };
    if parameters.iter().any(long) { Err(EvaluateError::ParameterTooLong) } else { Ok(()) }
}

/// A value is one line that is shown as it is: no control characters, no line separators, none that turn the direction of
/// the text around them.
fn plain(name: &str, value: &str) -> Result<(), EvaluateError> {
    if value.len() > PARAMETER_VALUE_BYTES_MAX {
        return Err(EvaluateError::ParameterTooLong);
    }
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if value.contains(odd) {
        return Err(EvaluateError::ParameterControl { name: name.into() });
    }
    Ok(())
}

/// What stands for a subject attribute that the certificate does not give once.
fn missing_subject<'v>(
    parameter: &'v Parameter,
    certificate: &CertificateParameters,
) -> Result<&'v str, EvaluateError> {
    let name = parameter.name.clone();
    if certificate.subject.contains_key(name.as_str()) {
        return Err(EvaluateError::AmbiguousSubject { name });
    }
    parameter.default.as_deref().ok_or(if SUBJECT.contains(&name.as_str()) {
        EvaluateError::MissingSubject { name }
    } else {
        EvaluateError::MissingParameter { name }
    })
}

pub(super) fn thing_name(text: &str, names: &NameRule) -> Result<ThingName, EvaluateError> {
    ThingName::new(text, names).map_err(EvaluateError::ThingName)
}

/// `ACTIVE` or `INACTIVE`, in any case of letters: AWS's own examples have `Active` and `ACTIVE`.
pub(super) fn enter(status: &str) -> Option<Enter> {
    if status.eq_ignore_ascii_case("ACTIVE") {
        Some(Enter::Active)
    } else if status.eq_ignore_ascii_case("INACTIVE") {
        Some(Enter::Inactive)
    } else {
        None
    }
}

pub(super) fn group_of(scope: &Scope<'_>, policy: &Located<Expr>) -> Result<GroupName, EvaluateError> {
    group(&scope.text(&policy.part, &policy.at)?, &policy.at)
}

pub(super) fn group_list(scope: &Scope<'_>, groups: &Located<List>) -> Result<Vec<GroupName>, EvaluateError> {
    scope.list(&groups.part, &groups.at)?.iter().map(|name| group(name, &groups.at)).collect()
}

fn group(name: &str, at: &str) -> Result<GroupName, EvaluateError> {
    GroupName::try_from(name).map_err(|why| EvaluateError::Group { at: at.into(), why })
}
