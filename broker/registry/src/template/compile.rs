//! Checks a template whole.

mod functions;
mod resources;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use super::body::{Located, TemplateBody};
use super::expression::{Expr, Mappings};
use super::node::{Checker, Node, Value, shown};
use super::subject::{ID, SUBJECT};
use super::{
    PARAMETER_NAME_BYTES_MAX, PARAMETER_VALUE_BYTES_MAX, PARAMETERS_MAX, Parameter, TemplateProblem,
};
use crate::{TEMPLATE_BODY_BYTES_MAX, TemplateKind};

/// A template in the making.
struct Compiler<'t> {
    checker: Checker<'t>,
    kind: TemplateKind,
    parameters: BTreeMap<String, Parameter>,
    mappings: Mappings,
}

pub(super) fn compile(kind: TemplateKind, text: &str) -> Result<TemplateBody, Vec<TemplateProblem>> {
    let mut checker = Checker::new(text);
    if text.len() > TEMPLATE_BODY_BYTES_MAX {
        let what =
            format!("the template has {} bytes, at most {TEMPLATE_BODY_BYTES_MAX} are allowed", text.len());
        checker.problem(0, what, "leave out what is not needed, white space too");
        return Err(checker.problems);
    }
    let Some(root) = checker.read() else { return Err(checker.problems) };
    let mut compiler = Compiler { checker, kind, parameters: BTreeMap::new(), mappings: Mappings::new() };
    let body = compiler.root(root);
    let Compiler { mut checker, parameters, mappings, .. } = compiler;
    match body {
        Some((thing, certificate, policies, configuration)) if checker.problems.is_empty() => {
            let warnings = std::mem::take(&mut checker.warnings);
            let body = TemplateBody {
                kind,
                parameters,
                mappings,
                thing,
                certificate,
                policies,
                configuration,
                warnings,
            };
            whole::check(body, &checker)
        }
        _ => {
            let mut problems = checker.problems;
            problems.sort_by_key(|problem| (problem.line, problem.column));
            Err(problems)
        }
    }
}

type Parts = (
    super::body::ThingResource,
    super::body::CertificateResource,
    Vec<Located<Expr>>,
    Vec<(String, Located<Expr>)>,
);

const SECTIONS: &str = "the sections are Parameters, Mappings, Resources and DeviceConfiguration";

impl Compiler<'_> {
    fn root(&mut self, root: Node) -> Option<Parts> {
        let at = root.at;
        let members = self.object(root, "a template is an object")?;
        let (mut resources, mut configuration) = (None, None);
        let (mut parameters, mut mappings) = (None, None);
        for (key, node) in members {
            match key.as_str() {
                "Parameters" => parameters = Some(node),
                "Mappings" => mappings = Some(node),
                "Resources" => resources = Some(node),
                "DeviceConfiguration" => configuration = Some(node),
                "templateBody" => self.member(&key, |c| {
                    let help =
                        "give the text of templateBody by itself, not escaped; there is no roleArn here";
                    c.checker.problem(node.at, "this is AWS's wrapper around a template", help);
                }),
                _ => self.member(&key, |c| {
                    c.checker.problem(node.at, format!("there is no section {:?}", shown(&key)), SECTIONS);
                }),
            }
        }
        if let Some(node) = parameters {
            self.member("Parameters", |c| c.parameters(node));
        }
        if let Some(node) = mappings {
            self.member("Mappings", |c| c.mappings(node));
        }
        let configuration = match configuration {
            Some(node) => self.member("DeviceConfiguration", |c| c.configuration(node)),
            None => Vec::new(),
        };
        let Some(resources) = resources else {
            self.checker.problem(
                at,
                "the section Resources is missing",
                "declare the thing and the certificate there",
            );
            return None;
        };
        let (thing, certificate, policies) = self.member("Resources", |c| c.resources(resources))?;
        Some((thing, certificate, policies, configuration))
    }

    fn member<R>(&mut self, key: &str, check: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.checker.enter(key);
        let result = check(self);
        self.checker.leave(before);
        result
    }

    fn item<R>(&mut self, index: usize, check: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.checker.enter_item(index);
        let result = check(self);
        self.checker.leave(before);
        result
    }

    /// The members of an object; `help` says what belongs there.
    fn object(&mut self, node: Node, help: &str) -> Option<Vec<(String, Node)>> {
        match node.value {
            Value::Object(members) => Some(members),
            other => {
                self.checker.problem(node.at, format!("this is {}, not an object", other.is()), help);
                None
            }
        }
    }

    fn plain_text(&mut self, node: Node, help: &str) -> Option<String> {
        match node.value {
            Value::Text(text) => Some(text),
            other => {
                self.checker.problem(node.at, format!("this is {}, not a text", other.is()), help);
                None
            }
        }
    }

    fn parameters(&mut self, node: Node) {
        let at = node.at;
        let help = "write \"NAME\": {\"Type\": \"String\"} for each parameter";
        let members = self.object(node, help).unwrap_or_default();
        if members.len() > PARAMETERS_MAX {
            let what =
                format!("there are {} parameters, at most {PARAMETERS_MAX} are allowed", members.len());
            self.checker.problem(at, what, "leave some out");
            return;
        }
        for (name, node) in members {
            let parameter = self.member(&name, |c| c.parameter(&name, node));
            self.parameters.insert(name, parameter);
        }
    }

    fn parameter(&mut self, name: &str, node: Node) -> Parameter {
        let at = node.at;
        let mut parameter = Parameter { name: name.into(), default: None, allowed: BTreeSet::new() };
        self.parameter_name(name, at);
        let Some(members) = self.object(node, "write {\"Type\": \"String\"}") else { return parameter };
        let mut typed = false;
        for (key, node) in members {
            let at = node.at;
            self.member(&key, |c| match key.as_str() {
                "Type" => {
                    typed = true;
                    if c.plain_text(node, "write \"String\"").is_some_and(|kind| kind != "String") {
                        c.checker.problem(
                            at,
                            "this is not a type",
                            "the only type of a parameter is \"String\"",
                        );
                    }
                }
                "Default" => {
                    parameter.default = c.plain_text(node, "write the default as a text");
                    if parameter.default.as_ref().is_some_and(|d| d.len() > PARAMETER_VALUE_BYTES_MAX) {
                        let help = format!("a value has at most {PARAMETER_VALUE_BYTES_MAX} bytes");
                        c.checker.problem(at, "the default is too long", help);
                    }
                }
                "AllowedValues" => c.allowed_values(node, &mut parameter.allowed),
                "Description" => drop(c.plain_text(node, "write the description as a text")),
                _ => {
                    let help = "a parameter has Type, Default, AllowedValues and Description";
                    c.checker.problem(at, format!("there is no {:?} here", shown(&key)), help);
                }
            });
        }
        if !typed {
            self.checker.problem(at, "the type is missing", "add \"Type\": \"String\"");
        }
        if parameter
            .default
            .as_ref()
            .is_some_and(|d| !parameter.allowed.is_empty() && !parameter.allowed.contains(d))
        {
            self.checker.problem(at, "the default is none of the allowed values", "add it to AllowedValues");
        }
        parameter
    }

    fn parameter_name(&mut self, name: &str, at: usize) {
        if name.is_empty() || name.len() > PARAMETER_NAME_BYTES_MAX {
            let help = format!("a name has 1 to {PARAMETER_NAME_BYTES_MAX} bytes");
            self.checker.problem(at, "the name of the parameter is empty or too long", help);
        }
        if !name.starts_with("AWS::") || name == ID {
            return;
        }
        let known = SUBJECT.contains(&name);
        if known && self.kind != TemplateKind::Jitp {
            let help = format!(
                "only {ID} is given here; a certificate's subject is known in templates of the kind jitp"
            );
            self.checker.problem(at, "this parameter is given only to devices of an outside authority", help);
        } else if !known {
            let help =
                format!("the names that begin with AWS:: are {ID} and, in jitp, {}", SUBJECT.join(", "));
            self.checker.problem(at, "the broker gives no such parameter", help);
        }
    }

    fn allowed_values(&mut self, node: Node, allowed: &mut BTreeSet<String>) {
        let at = node.at;
        let Value::List(items) = node.value else {
            self.checker.problem(at, "this is not a list", "list the values that a device may send");
            return;
        };
        if items.is_empty() {
            self.checker.problem(at, "no value is allowed", "list the values that a device may send");
        }
        for (index, item) in items.into_iter().enumerate() {
            allowed.extend(self.item(index, |c| c.plain_text(item, "write the value as a text")));
        }
    }

    fn mappings(&mut self, node: Node) {
        if self.kind == TemplateKind::Jitp {
            let help = "leave it out, or make a template of the kind fleet";
            self.checker.problem(node.at, "a template of the kind jitp has no Mappings", help);
            return;
        }
        let help = "a mapping is {\"KEY\": {\"KEY\": \"TEXT\"}}, without functions";
        for (map, node) in self.object(node, help).unwrap_or_default() {
            let mut rows = BTreeMap::new();
            self.member(&map, |c| {
                for (first, node) in c.object(node, help).unwrap_or_default() {
                    let row = c.member(&first, |c| {
                        let members = c.object(node, help).unwrap_or_default();
                        let texts = members.into_iter().filter_map(|(second, node)| {
                            let text = c.member(&second, |c| c.plain_text(node, help))?;
                            Some((second, text))
                        });
                        texts.collect::<BTreeMap<_, _>>()
                    });
                    rows.insert(first, row);
                }
            });
            self.mappings.insert(map, rows);
        }
    }

    fn configuration(&mut self, node: Node) -> Vec<(String, Located<Expr>)> {
        if self.kind == TemplateKind::Jitp {
            let help = "leave it out: a device of an outside authority asks nothing, so it gets no answer";
            self.checker.problem(node.at, "a template of the kind jitp has no DeviceConfiguration", help);
            return Vec::new();
        }
        let members = self.object(node, "write \"NAME\": \"TEXT\" for each value").unwrap_or_default();
        members
            .into_iter()
            .filter_map(|(name, node)| Some((name.clone(), self.located(&name, node)?)))
            .collect()
    }

    fn located(&mut self, key: &str, node: Node) -> Option<Located<Expr>> {
        self.member(key, |c| {
            let (at, offset) = (c.checker.path(), node.at);
            Some(Located { at, offset, part: c.expression(node)? })
        })
    }
}
