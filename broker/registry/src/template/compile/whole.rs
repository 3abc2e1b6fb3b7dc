//! What can be said about a template only when all of it is known.

use std::collections::{BTreeMap, BTreeSet};

use signet_identity::{NameRule, ThingName};

use super::super::body::{Located, TemplateBody};
use super::super::evaluate::{enter, group_list, group_of, thing_name};
use super::super::expression::{Expr, Scope};
use super::super::node::{Checker, shown};
use super::super::{EvaluateError, TemplateProblem};
use crate::{Attributes, TemplateKind};

/// Tries now what does not depend on a device, and points out what a device could choose.
pub(super) fn check(
    mut body: TemplateBody,
    checker: &Checker<'_>,
) -> Result<TemplateBody, Vec<TemplateProblem>> {
    let mut problems = constants(&body, checker);
    if problems.is_empty() {
        let warnings =
            [same_name(&body, checker), chosen_groups(&body, checker), idle(&body, checker)].concat();
        body.warnings.extend(warnings);
        return Ok(body);
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(problems)
}

/// The texts that are the same for every device are what they must be.
fn constants(body: &TemplateBody, checker: &Checker<'_>) -> Vec<TemplateProblem> {
    let scope = Scope { values: BTreeMap::new(), mappings: &body.mappings };
    let mut problems = Vec::new();
    let mut tried = |at: &str, offset: usize, result: Result<(), EvaluateError>| {
        if let Err(error) = result {
            let help = "no device could be provisioned with this: correct it";
            problems.push(checker.about(at, offset, error.to_string(), help));
        }
    };
    // The widest names: which of them are admitted is a matter of the configuration.
    let names = widest_names();
    let constant = |located: &&Located<Expr>| located.part.is_constant();
    let text = |located: &Located<Expr>| scope.text(&located.part, &located.at);
    if let Some(name) = body.thing.name.as_ref().filter(constant) {
        tried(&name.at, name.offset, text(name).and_then(|name| thing_name(&name, &names).map(drop)));
    }
    if let Some(kind) = body.thing.thing_type.as_ref().filter(constant) {
        let named = |name: String| ThingName::new(&name, &names).map(drop).map_err(EvaluateError::ThingType);
        tried(&kind.at, kind.offset, text(kind).and_then(named));
    }
    if let Some(status) = body.certificate.status.as_ref().filter(constant) {
        let known = |status: String| enter(&status).map(drop).ok_or(EvaluateError::Status);
        tried(&status.at, status.offset, text(status).and_then(known));
    }
    for (name, value) in &body.thing.attributes {
        // A name is always the same; a value that is not is not judged here.
        let value_now = if value.part.is_constant() { text(value) } else { Ok(String::new()) };
        let fits = |value: String| {
            let pair = BTreeMap::from([(name.as_str().into(), value.into())]);
            Attributes::new(pair).map(drop).map_err(EvaluateError::Thing)
        };
        tried(&value.at, value.offset, value_now.and_then(fits));
    }
    for policy in body.policies.iter().filter(|policy| policy.part.is_constant()) {
        tried(&policy.at, policy.offset, group_of(&scope, policy).map(drop));
    }
    if let Some(groups) = &body.thing.groups {
        let mut constant = true;
        groups.part.each_parameter(&mut |_| constant = false);
        if constant {
            tried(&groups.at, groups.offset, group_list(&scope, groups).map(drop));
        }
    }
    for (_, value) in body.configuration.iter().filter(|(_, value)| value.part.is_constant()) {
        tried(&value.at, value.offset, text(value).map(drop));
    }
    problems
}

/// The rule that admits the most.
fn widest_names() -> NameRule {
    let extra: String = ('!'..='~').filter(|c| NameRule::new(1, &c.to_string()).is_ok()).collect();
    NameRule::new(signet_identity::NAME_LEN_MAX, &extra).unwrap_or_default()
}

/// Every device would be one and the same thing.
fn same_name(body: &TemplateBody, checker: &Checker<'_>) -> Vec<TemplateProblem> {
    let name = body.thing.name.as_ref().filter(|name| name.part.is_constant());
    let name = name.filter(|_| body.kind != TemplateKind::Rotation);
    let warning = |name: &Located<Expr>| {
        let what = "every device would become the same thing".to_owned();
        checker.about(
            &name.at,
            name.offset,
            what,
            "make the name depend on a parameter, such as SerialNumber",
        )
    };
    name.map(warning).into_iter().collect()
}

/// A device that sends the name of a group gives itself the rights of that group.
fn chosen_groups(body: &TemplateBody, checker: &Checker<'_>) -> Vec<TemplateProblem> {
    if body.kind != TemplateKind::Fleet {
        return Vec::new();
    }
    let open = |names: BTreeSet<&str>| {
        let mut declared = names.into_iter().filter_map(|name| body.parameters.get(name));
        declared.find(|parameter| parameter.allowed.is_empty() && !parameter.is_from_certificate())
    };
    let mut warnings = Vec::new();
    let mut warn = |at: &str, offset: usize, names: BTreeSet<&str>| {
        if let Some(parameter) = open(names) {
            let name = shown(&parameter.name);
            let what =
                format!("the device chooses its own group, and so its rights, by the parameter {name}");
            let help = "give the parameter AllowedValues, or look the group up with Fn::FindInMap";
            warnings.push(checker.about(at, offset, what, help));
        }
    };
    for policy in &body.policies {
        let mut names = BTreeSet::new();
        policy.part.shaped_by(&mut names);
        warn(&policy.at, policy.offset, names);
    }
    if let Some(groups) = &body.thing.groups {
        let mut names = BTreeSet::new();
        groups.part.shaped_by(&mut names);
        warn(&groups.at, groups.offset, names);
    }
    warnings
}

/// A rotation changes no groups.
fn idle(body: &TemplateBody, checker: &Checker<'_>) -> Vec<TemplateProblem> {
    if body.kind != TemplateKind::Rotation {
        return Vec::new();
    }
    let groups = body.thing.groups.iter().map(|groups| (&*groups.at, groups.offset));
    let policies = body.policies.iter().map(|policy| (&*policy.at, policy.offset));
    let warning = |(at, offset): (&str, usize)| {
        let what = "a rotation changes no groups, so this has no effect".to_owned();
        checker.about(at, offset, what, "leave it out; groups are given when the thing comes in")
    };
    groups.chain(policies).map(warning).collect()
}
