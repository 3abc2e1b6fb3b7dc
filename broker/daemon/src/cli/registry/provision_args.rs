//! The command line of templates and claims.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::args::{ReasonArg, duration, pair};
use crate::cli::args::AdminArgs;

/// Reads a date or a moment.
fn date(text: &str) -> Result<DateArg, String> {
    use time::format_description::well_known::Rfc3339;
    use time::macros::format_description;
    let moment = time::Date::parse(text, format_description!("[year]-[month]-[day]"))
        .map(|date| date.midnight().assume_utc())
        .or_else(|_| time::OffsetDateTime::parse(text, &Rfc3339))
        .map_err(|_| "a date is written as 2027-06-30, a moment as 2027-06-30T12:00:00Z".to_owned())?;
    u64::try_from(moment.unix_timestamp())
        .map(|secs| DateArg(secs.saturating_mul(1000)))
        .map_err(|_| "the date is before 1970".to_owned())
}

/// A moment in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateArg(pub u64);

/// `signet template`.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Store a template, or a new version of it. It is checked whole first.
    Add(AddTemplateArgs),
    /// Check a template, and show what it would give. No broker is asked.
    Check(CheckTemplateArgs),
    /// The templates and who uses them.
    List(AdminArgs),
    /// One template: its text, and what a device sends for it.
    Show {
        /// Its name.
        name: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Delete a template that no claim and no authority names.
    Remove {
        /// Its name.
        name: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TemplateKindArg {
    /// Devices that come with a claim.
    Fleet,
    /// Devices of an outside authority, at their first connection.
    Jitp,
    /// Devices that renew their own certificate.
    Rotation,
}

/// `signet template add`.
#[derive(Debug, Args)]
pub struct AddTemplateArgs {
    /// Its name: letters, digits, `_` and `-`, at most 36.
    pub name: String,
    /// The template, JSON in the language of AWS IoT fleet provisioning.
    pub file: PathBuf,
    /// What it is for.
    #[arg(long, value_enum)]
    pub kind: TemplateKindArg,
    /// Let the broker make private keys for it, for devices that cannot make their own.
    #[arg(long)]
    pub keys: bool,
    /// Store it, and let nobody ask for it.
    #[arg(long)]
    pub disabled: bool,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `signet template check`.
#[derive(Debug, Args)]
pub struct CheckTemplateArgs {
    /// The template.
    pub file: PathBuf,
    /// What it is for.
    #[arg(long, value_enum, default_value = "fleet")]
    pub kind: TemplateKindArg,
    /// What a device would send; may be given several times. Shows the thing that would come of it.
    #[arg(long = "with", value_name = "NAME=VALUE", value_parser = pair)]
    pub with: Vec<(String, String)>,
    /// A device's certificate, for --kind jitp: shows the thing that would come of it.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// The device that renews its certificate, for --kind rotation: shows what would come of it.
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Print JSON for a program to read.
    #[arg(long)]
    pub json: bool,
}

/// `signet claim`.
#[derive(Debug, Subcommand)]
pub enum ClaimCommand {
    /// Make a claim: a certificate and a key with which devices leave the factory.
    Create(CreateClaimArgs),
    /// The claims.
    List(AdminArgs),
    /// One claim, its certificates and its serial numbers.
    Show {
        /// Its name.
        name: String,
        /// Show every serial number of its list, not only how many there are.
        #[arg(long)]
        serials: bool,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Let nobody in by this claim any more, until it is resumed. Its connections are closed at once.
    Suspend {
        /// Its name.
        name: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Let a suspended claim work again.
    Resume {
        /// Its name.
        name: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Revoke the certificates of a claim for ever. The devices that came by it keep theirs.
    Revoke {
        /// Its name.
        name: String,
        /// Why, as a revocation list says it.
        #[arg(long, value_enum, default_value = "unspecified")]
        reason: ReasonArg,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Let more serial numbers in.
    AddSerials {
        /// Its name.
        name: String,
        /// The serial numbers: one on each line, or a CSV file with a column `serial`.
        file: PathBuf,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// `signet claim create`.
#[derive(Debug, Args)]
pub struct CreateClaimArgs {
    /// Its name.
    pub name: String,
    /// A template of the kind fleet that it may ask for; may be given several times.
    #[arg(long = "template", value_name = "NAME", required = true)]
    pub templates: Vec<String>,
    /// Let in only devices with these serial numbers: one on each line, or a CSV file with a column `serial`. The template must
    /// have a parameter SerialNumber.
    #[arg(long, value_name = "FILE")]
    pub serials: Option<PathBuf>,
    /// How many devices it may bring in.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max: Option<u32>,
    /// When it ends, and its certificate with it, in UTC. A year from now without --until and --valid.
    #[arg(long, value_name = "DATE", value_parser = date, conflicts_with = "valid")]
    pub until: Option<DateArg>,
    /// How long it lives, as in 5m: for a person who brings in one device and then needs it no more.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub valid: Option<Duration>,
    /// A network that it may be used from, as in 10.1.0.0/16; may be given several times.
    #[arg(long, value_name = "CIDR")]
    pub from: Vec<String>,
    /// Let it ask the broker to make private keys, also when no template of it allows that.
    #[arg(long)]
    pub keys: bool,
    /// Where certificate and key go: a folder with the claim's name is made there, of mode 0700.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}
