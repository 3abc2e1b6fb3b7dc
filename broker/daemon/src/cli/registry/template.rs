//! `signet template`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use hyper::Method;
use serde::Serialize;
use signet_identity::{CertificateId, ThingName};
use signet_registry::template::{CertificateParameters, Provisioned, TemplateBody, TemplateProblem};
use signet_registry::{Enter, IfExists, Override, TEMPLATE_BODY_BYTES_MAX, TemplateKind};

use super::device::{say_changed, word};
use super::moment;
use super::provision_args::{AddTemplateArgs, CheckTemplateArgs, TemplateCommand, TemplateKindArg};
use crate::admin::registry::api::{
    Changed, NameTemplate, SetTemplate, TemplateRow, TemplateSet, TemplateShown,
};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};

/// The largest certificate file that is read, in bytes.
const CERTIFICATE_FILE_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn template(command: TemplateCommand) -> Result<Outcome, Failure> {
    match command {
        TemplateCommand::Add(args) => add(&args),
        TemplateCommand::Check(args) => check(&args),
        TemplateCommand::List(admin) => list(&admin),
        TemplateCommand::Show { name, admin } => show(&admin, name),
        TemplateCommand::Remove { name, admin } => {
            let wanted = NameTemplate { name };
            let changed: Changed = call(&admin, Method::POST, "/registry/templates/remove", Some(&wanted))?;
            say_changed(&admin, &changed)
        }
    }
}

impl From<TemplateKindArg> for TemplateKind {
    fn from(kind: TemplateKindArg) -> Self {
        match kind {
            TemplateKindArg::Fleet => Self::Fleet,
            TemplateKindArg::Jitp => Self::Jitp,
            TemplateKindArg::Rotation => Self::Rotation,
        }
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let unreadable = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > bytes_max {
        let what = format!("the file has {length} bytes, at most {bytes_max} are allowed");
        return Err(Failure::found(format!("{}: {what}", path.display())));
    }
    std::fs::read(path).map_err(|error| unreadable(error.to_string()))
}

fn read_template(path: &Path) -> Result<String, Failure> {
    let bytes = read(path, TEMPLATE_BODY_BYTES_MAX as u64)?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::found(format!("{}: a template is text in UTF-8", path.display())))
}

fn add(args: &AddTemplateArgs) -> Result<Outcome, Failure> {
    let body = read_template(&args.file)?;
    // Here too, so that the answer names the file.
    if let Err(problems) = TemplateBody::parse(args.kind.into(), &body) {
        return Err(Failure::found(named(&args.file, &problems) + "nothing was done"));
    }
    let wanted = SetTemplate {
        name: args.name.clone(),
        kind: word(&args.kind),
        enabled: !args.disabled,
        keys: args.keys,
        body,
    };
    let set: TemplateSet = call(&args.admin, Method::POST, "/registry/templates/set", Some(&wanted))?;
    if args.admin.json {
        say_json(&set)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    let version = set.template.version;
    let _ = match set.changed {
        true => writeln!(text, "the template {} is stored, version {version}", set.template.name),
        false => writeln!(
            text,
            "nothing to do: the template {} is so already, version {version}",
            set.template.name
        ),
    };
    for warning in &set.warnings {
        let _ = writeln!(text, "warning: {}:{warning}", args.file.display());
    }
    say(&text);
    Ok(Outcome::Done)
}

fn named(file: &Path, problems: &[TemplateProblem]) -> String {
    problems.iter().map(|problem| format!("{}:{problem}\n", file.display())).collect()
}

/// What `signet template check --json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Checked {
    problems: Vec<TemplateProblem>,
    warnings: Vec<TemplateProblem>,
    /// What would come of it, when it was asked for.
    gives: Option<Gives>,
    /// Why nothing would.
    refused: Option<String>,
}

/// What a template gives.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Gives {
    name: String,
    thing_type: Option<String>,
    groups: Vec<String>,
    attributes: BTreeMap<String, String>,
    policies: Vec<String>,
    certificate: &'static str,
    if_exists: String,
    device_configuration: BTreeMap<String, String>,
}

fn check(args: &CheckTemplateArgs) -> Result<Outcome, Failure> {
    let body = read_template(&args.file)?;
    let mut checked = Checked { problems: Vec::new(), warnings: Vec::new(), gives: None, refused: None };
    match TemplateBody::parse(args.kind.into(), &body) {
        Err(problems) => checked.problems = problems,
        Ok(template) => {
            checked.warnings = template.warnings().to_vec();
            if let Some(certificate) = tried(args)? {
                match template.evaluate(&args.with.iter().cloned().collect(), &certificate) {
                    Ok(provisioned) => checked.gives = Some(gives(provisioned)),
                    Err(error) => checked.refused = Some(error.to_string()),
                }
            }
        }
    }
    let good = checked.problems.is_empty() && checked.refused.is_none();
    let outcome = if good { Outcome::Done } else { Outcome::Found };
    if args.json {
        say_json(&checked)?;
        return Ok(outcome);
    }
    let mut text = named(&args.file, &checked.problems);
    for warning in &checked.warnings {
        let _ = writeln!(text, "warning: {}:{warning}", args.file.display());
    }
    if let Some(refused) = &checked.refused {
        let _ = writeln!(text, "such a device is refused: {refused}");
    }
    if let Some(gives) = &checked.gives {
        describe(&mut text, gives);
    }
    if checked.problems.is_empty() {
        let _ = writeln!(text, "{}: the template is good", args.file.display());
    }
    say(&text);
    Ok(outcome)
}

/// The certificate that a template is tried with; `None` when it is only checked.
fn tried(args: &CheckTemplateArgs) -> Result<Option<CertificateParameters>, Failure> {
    // The certificate of a newcomer does not exist yet: any id stands for it.
    let id = CertificateId::from_bytes([0; 32]);
    Ok(match (args.kind, &args.certificate, &args.device) {
        (TemplateKindArg::Jitp, Some(file), None) => {
            let bytes = read(file, CERTIFICATE_FILE_BYTES_MAX)?;
            let der = pem::parse(&bytes).map_or(bytes, pem::Pem::into_contents);
            let parameters = CertificateParameters::from_certificate(&der, CertificateId::of(&der));
            Some(parameters.map_err(|error| Failure::found(format!("{}: {error}", file.display())))?)
        }
        (TemplateKindArg::Rotation, None, Some(name)) => {
            let own = ThingName::try_from(name.as_str())
                .map_err(|error| Failure::found(format!("{name:?} cannot be a name: {error}")))?;
            Some(CertificateParameters::renewed(id, own))
        }
        (TemplateKindArg::Fleet, None, None) if !args.with.is_empty() => {
            Some(CertificateParameters::issued(id))
        }
        (_, None, None) if args.with.is_empty() => None,
        _ => {
            return Err(Failure::usage(
                "what is tried does not go with the kind: fleet takes --with, jitp takes --certificate, \
                 rotation takes --device and --with",
            ));
        }
    })
}

fn gives(provisioned: Provisioned) -> Gives {
    let thing = provisioned.thing;
    Gives {
        policies: provisioned.policies.iter().map(ToString::to_string).collect(),
        certificate: match provisioned.enter {
            Enter::Active => "ACTIVE",
            Enter::Inactive => "INACTIVE",
        },
        if_exists: if_exists(&provisioned.if_exists),
        name: thing.name.to_string(),
        thing_type: thing.thing_type.map(|kind| kind.0.to_string()),
        groups: thing.groups.as_slice().iter().map(ToString::to_string).collect(),
        attributes: thing
            .attributes
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        device_configuration: provisioned.device_configuration,
    }
}

fn if_exists(rule: &IfExists) -> String {
    let part = |part: Override| match part {
        Override::Keep => "stay",
        Override::Replace => "are replaced",
        Override::Merge => "are merged",
    };
    match rule {
        IfExists::Refuse => "the registration is refused".to_owned(),
        IfExists::Keep => "it stays as it is".to_owned(),
        IfExists::Replace => "its type, attributes and groups are replaced".to_owned(),
        IfExists::Adjust(overrides) => {
            let joined = overrides.join.as_slice();
            let joins = if joined.is_empty() { "" } else { ", and it joins those of the policies" };
            let kind = if overrides.replace_type { "is replaced" } else { "stays" };
            format!(
                "its type {kind}, attributes {}, groups {}{joins}",
                part(overrides.attributes),
                part(overrides.groups)
            )
        }
    }
}

fn describe(text: &mut String, gives: &Gives) {
    let _ = writeln!(text, "thing         {}", gives.name);
    let _ = writeln!(text, "type          {}", gives.thing_type.as_deref().unwrap_or("-"));
    let _ = writeln!(text, "groups        {}", gives.groups.join(" "));
    for (name, value) in &gives.attributes {
        let _ = writeln!(text, "attribute     {name} = {value}");
    }
    let _ = writeln!(text, "certificate   {}", gives.certificate);
    let _ = writeln!(text, "if it exists  {}", gives.if_exists);
    for (name, value) in &gives.device_configuration {
        let _ = writeln!(text, "is told       {name} = {value}");
    }
}

fn list(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let templates: Vec<TemplateRow> = call(admin, Method::GET, "/registry/templates", None::<&()>)?;
    if admin.json {
        say_json(&templates)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<36} {:<9} {:<8} {:>7} {:<20} {:<24}",
        "NAME", "KIND", "STATE", "VERSION", "CHANGED", "USED BY"
    );
    for row in &templates {
        let authorities = row.authorities.iter().map(|id| format!("authority {}", super::short(id)));
        let users: Vec<_> =
            row.claims.iter().map(|claim| format!("claim {claim}")).chain(authorities).collect();
        let _ = writeln!(
            text,
            "{:<36} {:<9} {:<8} {:>7} {:<20} {:<24}",
            row.name,
            row.kind,
            if row.enabled { "enabled" } else { "disabled" },
            row.version,
            moment(row.changed_ms),
            if users.is_empty() { "-".to_owned() } else { users.join(", ") }
        );
    }
    let _ = writeln!(text, "{} templates", templates.len());
    say(&text);
    Ok(Outcome::Done)
}

fn show(admin: &AdminArgs, name: String) -> Result<Outcome, Failure> {
    let wanted = NameTemplate { name };
    let shown: TemplateShown = call(admin, Method::POST, "/registry/templates/show", Some(&wanted))?;
    if admin.json {
        say_json(&shown)?;
        return Ok(Outcome::Done);
    }
    let row = &shown.template;
    let mut text = String::new();
    let _ = writeln!(text, "template      {}, {}, version {}", row.name, row.kind, row.version);
    let _ = writeln!(text, "enabled       {}", row.enabled);
    let _ = writeln!(text, "makes keys    {}", row.keys);
    let _ = writeln!(text, "changed       {}", moment(row.changed_ms));
    for claim in &row.claims {
        let _ = writeln!(text, "claim         {claim}");
    }
    for authority in &row.authorities {
        let _ = writeln!(text, "authority     {authority}");
    }
    for (name, parameter) in &shown.parameters {
        let from = match (&parameter.default, parameter.from_certificate) {
            (_, true) => "from the certificate".to_owned(),
            (Some(default), false) => format!("{default:?} when it is not sent"),
            (None, false) => "must be sent".to_owned(),
        };
        let allowed = match parameter.allowed.as_slice() {
            [] => String::new(),
            allowed => format!("; one of {}", allowed.join(", ")),
        };
        let _ = writeln!(text, "parameter     {name}: {from}{allowed}");
    }
    for warning in &shown.warnings {
        let _ = writeln!(text, "warning       {warning}");
    }
    let _ = writeln!(text, "\n{}", shown.body.trim_end());
    say(&text);
    Ok(Outcome::Done)
}
