//! `signet operator`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;

use super::args::duration;
use super::{folder, left, short};
use crate::admin::registry::api::{AddOperator, AddedOperator, OperatorRow};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};

/// `signet operator`.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Give a person or a service a certificate with the role operator. `signet device revoke --certificate` takes it away.
    Add(AddOperatorArgs),
    /// The operators that have a certificate of the registry.
    List(AdminArgs),
}

/// `signet operator add`.
#[derive(Debug, Args)]
#[group(id = "operator-proof", required = true, multiple = false, args = ["csr", "key"])]
pub struct AddOperatorArgs {
    /// The name.
    pub name: String,
    /// A signing request, PEM or DER.
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
    /// Make a P-256 key here. Needs --out.
    #[arg(long, requires = "out")]
    pub key: bool,
    /// Where certificate and key go: a folder of the operator's name, of mode 0700.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How long the certificate is valid, as in 30d; as a device's when absent.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub validity: Option<Duration>,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

pub(super) fn operator(command: OperatorCommand) -> Result<Outcome, Failure> {
    match command {
        OperatorCommand::Add(args) => add(args),
        OperatorCommand::List(admin) => list(&admin),
    }
}

fn add(args: AddOperatorArgs) -> Result<Outcome, Failure> {
    let out = args.out.as_deref().map(|out| folder::Folder::of(out, &args.name)).transpose()?;
    let csr = args.csr.as_deref().map(folder::read_csr).transpose()?;
    let public_key = match (&out, args.key) {
        (Some(out), true) => Some(out.key()?),
        _ => None,
    };
    let valid_seconds = args.validity.map(|validity| validity.as_secs());
    let wanted = AddOperator { name: args.name, csr, public_key, valid_seconds };
    let added: AddedOperator = call(&args.admin, Method::POST, "/registry/operators/add", Some(&wanted))?;
    if let Some(out) = &out {
        out.store(&added.name, &added.certificate, Some(&added.issuer))?;
    }
    if args.admin.json {
        say_json(&added)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!(
        "operator {}\ncertificate {}, ends in {}\n",
        added.name,
        added.certificate.id,
        left(added.certificate.not_after)
    );
    match &out {
        Some(out) => {
            let _ = writeln!(text, "written to {}", out.path().display());
        }
        None => text.push_str(&added.certificate.pem),
    }
    say(&text);
    Ok(Outcome::Done)
}

fn list(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let rows: Vec<OperatorRow> = call(admin, Method::GET, "/registry/operators", None::<&()>)?;
    if admin.json {
        say_json(&rows)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("{:<24} {:<18} {:<16} {:<10}\n", "NAME", "STATUS", "CERTIFICATE", "ENDS IN");
    for row in &rows {
        for certificate in &row.certificates {
            let _ = writeln!(
                text,
                "{:<24} {:<18} {:<16} {:<10}",
                row.name,
                certificate.status,
                short(&certificate.id),
                left(certificate.not_after)
            );
        }
    }
    let _ = writeln!(text, "{} operators", rows.len());
    say(&text);
    Ok(Outcome::Done)
}
