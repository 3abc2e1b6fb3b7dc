//! `signet acl`: questions to a policy.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use signet_acl::{Access, ParseOptions, Policy, Question, Subject, Warning};
use signet_identity::{CertificateId, GroupName, Principal, Role, ThingName};

use super::args::{AccessArg, AclCommand, PolicyArgs, RoleArg};
use super::out::{Failure, Outcome, say, say_json};
use crate::state;

/// Carries out one `acl` command.
pub fn acl(command: AclCommand) -> Result<Outcome, Failure> {
    match command {
        AclCommand::Why { name, access, topic, policy, role, groups, client_id, json } => {
            let asker = Asker::new(&name, role, &groups, client_id)?;
            why(&asker, access, &topic, &policy, json)
        }
        AclCommand::Lint { file, allow_pattern_without_variable, json } => {
            lint(&file, allow_pattern_without_variable, json)
        }
        AclCommand::Diff { old, new, names, allow_pattern_without_variable, json } => {
            diff(&old, &new, &names, allow_pattern_without_variable, json)
        }
    }
}

/// Nobody presents this certificate: the questions are about names.
fn no_certificate() -> CertificateId {
    CertificateId::of(b"")
}

fn thing_name(text: &str) -> Result<ThingName, Failure> {
    ThingName::try_from(text).map_err(|error| Failure::usage(format!("{text:?} cannot be a name: {error}")))
}

/// Who a question is about.
struct Asker {
    name: ThingName,
    role: Role,
    groups: Vec<GroupName>,
    client_id: String,
}

impl Asker {
    fn new(name: &str, role: RoleArg, groups: &[String], client_id: Option<String>) -> Result<Self, Failure> {
        let groups = groups
            .iter()
            .map(|group| {
                GroupName::try_from(group.as_str())
                    .map_err(|error| Failure::usage(format!("{group:?} cannot be a group: {error}")))
            })
            .collect::<Result<_, _>>()?;
        let role = match role {
            RoleArg::Device => Role::Device,
            RoleArg::Claim => Role::Claim,
            RoleArg::Operator => Role::Operator,
        };
        Ok(Self {
            client_id: client_id.unwrap_or_else(|| name.to_owned()),
            name: thing_name(name)?,
            role,
            groups,
        })
    }

    fn principal(self: &Asker, operators: bool, more: Vec<GroupName>) -> Principal {
        let mut groups = self.groups.clone();
        groups.extend(more);
        match self.role {
            Role::Claim => Principal::claim(self.name.clone(), no_certificate(), Vec::new()),
            Role::Operator => Principal::operator(self.name.clone(), no_certificate(), groups),
            Role::Device if operators => Principal::operator(self.name.clone(), no_certificate(), groups),
            Role::Device => Principal::device(self.name.clone(), no_certificate(), groups),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct WhyReport {
    who: String,
    access: &'static str,
    topic: String,
    allowed: bool,
    decided_by: Option<RuleReport>,
    stages: Vec<StageReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct StageReport {
    name: String,
    note: Option<&'static str>,
    considered: Vec<RuleReport>,
    left_out: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RuleReport {
    file: String,
    line: u32,
    text: String,
    outcome: String,
}

impl RuleReport {
    fn of(rule: &signet_acl::Considered) -> Self {
        Self {
            file: rule.file.clone(),
            line: rule.line,
            text: rule.text.clone(),
            outcome: rule.outcome.to_string(),
        }
    }
}

fn why(
    asker: &Asker,
    access: AccessArg,
    topic: &str,
    args: &PolicyArgs,
    json: bool,
) -> Result<Outcome, Failure> {
    let access = match access {
        AccessArg::Read => Access::Read,
        AccessArg::Write => Access::Write,
        AccessArg::Subscribe => Access::Subscribe,
    };
    let (policy, principal) = match (&args.config, &args.file) {
        (Some(path), _) => {
            let config = signet_config::load(path)
                .map_err(|problems| Failure::found(signet_config::render(&problems)))?;
            let (policy, _) =
                state::policy(&config).map_err(|problems| Failure::found(problems.join("\n")))?;
            let groups = config.identity.groups_of(&asker.name).cloned().collect();
            let operator = config.identity.operators.contains(&asker.name);
            (policy, asker.principal(operator, groups))
        }
        (None, Some(path)) => (load(path, ParseOptions::default())?.0, asker.principal(false, Vec::new())),
        (None, None) => return Err(Failure::usage("which policy? give --file FILE or --config FILE")),
    };
    let question = Question::new(access, topic).map_err(|error| Failure::usage(error.to_string()))?;
    let who = Subject { principal: &principal, client_id: &asker.client_id };
    let explanation = policy.explain(&who, &question);
    let allowed = explanation.verdict.is_ok();
    if json {
        say_json(&WhyReport {
            who: explanation.who.clone(),
            access: access.as_str(),
            topic: topic.to_owned(),
            allowed,
            decided_by: explanation.decided_by().map(RuleReport::of),
            stages: explanation
                .stages
                .iter()
                .map(|stage| StageReport {
                    name: stage.name.clone(),
                    note: stage.note,
                    considered: stage.considered.iter().map(RuleReport::of).collect(),
                    left_out: stage.left_out,
                })
                .collect(),
        })?;
    } else {
        say(&format!("{explanation}\n"));
    }
    Ok(if allowed { Outcome::Done } else { Outcome::Found })
}

fn load(path: &Path, options: ParseOptions) -> Result<(Policy, Vec<Warning>), Failure> {
    let text = state::read_policy(path).map_err(Failure::usage)?;
    Policy::parse(&text, &path.display().to_string(), &options).map_err(|errors| {
        Failure::found(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct LintReport {
    problems: Vec<String>,
    warnings: Vec<String>,
}

fn lint(path: &Path, allow_pattern_without_variable: bool, json: bool) -> Result<Outcome, Failure> {
    let text = state::read_policy(path).map_err(Failure::usage)?;
    let options = ParseOptions { allow_pattern_without_variable, ..ParseOptions::default() };
    let mut report = LintReport { problems: Vec::new(), warnings: Vec::new() };
    match Policy::parse(&text, &path.display().to_string(), &options) {
        Ok((policy, warnings)) => {
            let all = warnings.iter().chain(&signet_acl::lint(&policy)).map(ToString::to_string).collect();
            report.warnings = all;
        }
        Err(errors) => report.problems = errors.iter().map(ToString::to_string).collect(),
    }
    let good = report.problems.is_empty() && report.warnings.is_empty();
    if json {
        say_json(&report)?;
    } else {
        let mut text = String::new();
        for problem in &report.problems {
            let _ = writeln!(text, "error: {problem}");
        }
        for warning in &report.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        if good {
            text.push_str("nothing to object to\n");
        }
        say(&text);
    }
    Ok(if good { Outcome::Done } else { Outcome::Found })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct DiffReport {
    changes: Vec<ChangeReport>,
    not_fully_compared: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ChangeReport {
    principal: String,
    direction: &'static str,
    access: &'static str,
    filter: String,
}

fn diff(
    old: &Path,
    new: &Path,
    names: &[String],
    allow_pattern_without_variable: bool,
    json: bool,
) -> Result<Outcome, Failure> {
    let options = ParseOptions { allow_pattern_without_variable, ..ParseOptions::default() };
    let (old, _) = load(old, options)?;
    let (new, _) = load(new, options)?;
    let mut compared: BTreeSet<ThingName> = BTreeSet::new();
    for name in names {
        compared.insert(thing_name(name)?);
    }
    for policy in [&old, &new] {
        // A section of a name that no certificate can bear gives nobody anything.
        compared.extend(policy.user_names().filter_map(|name| ThingName::try_from(name).ok()));
    }
    if compared.is_empty() {
        // Patterns and roles treat every device alike: one stands for all.
        compared.insert(thing_name("any-device")?);
    }
    let mut principals = Vec::new();
    for name in compared {
        principals.push(Principal::device(name.clone(), no_certificate(), Vec::new()));
        principals.push(Principal::operator(name, no_certificate(), Vec::new()));
    }
    let subjects = principals.iter().map(|principal| Subject { principal, client_id: principal.name() });
    let diff = signet_acl::diff(&old, &new, subjects);
    if json {
        say_json(&DiffReport {
            changes: diff
                .changes
                .iter()
                .map(|change| ChangeReport {
                    principal: change.principal.to_string(),
                    direction: match change.direction {
                        signet_acl::Direction::Gains => "gains",
                        signet_acl::Direction::Loses => "loses",
                    },
                    access: if change.write { Access::Write.as_str() } else { Access::Read.as_str() },
                    filter: change.filter.clone(),
                })
                .collect(),
            not_fully_compared: diff.incomplete.iter().map(ToString::to_string).collect(),
        })?;
    } else {
        let mut text = String::new();
        for change in &diff.changes {
            let _ = writeln!(text, "{change}");
        }
        for principal in &diff.incomplete {
            let _ = writeln!(text, "{principal} has too many rules to compare every combination of them");
        }
        if diff.changes.is_empty() {
            text.push_str("no right changes\n");
        }
        say(&text);
    }
    Ok(if diff.changes.is_empty() { Outcome::Done } else { Outcome::Found })
}
