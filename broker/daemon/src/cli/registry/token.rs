//! `signet token` and `signet est`.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;

use super::args::{duration, pair};
use super::device::say_changed;
use super::{moment, short};
use crate::admin::registry::api::{
    AddDevice, Changed, CreateToken, CreatedToken, DecideEnrolment, EnrolmentRow, RevokeToken, TokenRow,
};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};

/// `signet token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token for one device: whoever shows it gets the device's certificate, once.
    Create(CreateTokenArgs),
    /// The tokens that were made, used or not, each until its end.
    List(AdminArgs),
    /// Withdraw a token.
    Revoke {
        /// Its id, or the first digits of it.
        id: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// `signet token create`.
#[derive(Debug, Args)]
pub struct CreateTokenArgs {
    /// The device. It is added when it uses the token and does not exist.
    pub name: String,
    /// How long the token is good, as in 1h; a minute to 90 days.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    pub valid: Duration,
    /// The type of the device.
    #[arg(long = "type", value_name = "TYPE")]
    pub thing_type: Option<String>,
    /// A group that the device is in; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// An attribute of the device; may be given several times.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = pair)]
    pub attributes: Vec<(String, String)>,
    /// What the token is for.
    #[arg(long)]
    pub note: Option<String>,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `signet est`.
#[derive(Debug, Subcommand)]
pub enum EstCommand {
    /// Enrolments that wait for approval.
    Pending(AdminArgs),
    /// Let an enrolment have its certificate when it asks again.
    Approve {
        /// Its id, or the first digits of it.
        id: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Refuse an enrolment.
    Reject {
        /// Its id, or the first digits of it.
        id: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

pub(super) fn token(command: TokenCommand) -> Result<Outcome, Failure> {
    match command {
        TokenCommand::Create(args) => create(args),
        TokenCommand::List(admin) => list(&admin),
        TokenCommand::Revoke { id, admin } => {
            let wanted = RevokeToken { id };
            let changed: Changed = call(&admin, Method::POST, "/registry/tokens/revoke", Some(&wanted))?;
            say_changed(&admin, &changed)
        }
    }
}

pub(super) fn est(command: EstCommand) -> Result<Outcome, Failure> {
    match command {
        EstCommand::Pending(admin) => pending(&admin),
        EstCommand::Approve { id, admin } => decide(&admin, id, true),
        EstCommand::Reject { id, admin } => decide(&admin, id, false),
    }
}

fn create(args: CreateTokenArgs) -> Result<Outcome, Failure> {
    let device = AddDevice {
        name: args.name,
        thing_type: args.thing_type,
        groups: args.groups,
        attributes: args.attributes.into_iter().collect(),
        csr: None,
        public_key: None,
    };
    let wanted = CreateToken { device, valid_seconds: Some(args.valid.as_secs()), note: args.note };
    let made: CreatedToken = call(&args.admin, Method::POST, "/registry/tokens/create", Some(&wanted))?;
    if args.admin.json {
        say_json(&made)?;
        return Ok(Outcome::Done);
    }
    say(&format!(
        "{}\n\nfor {}, once, until {}; it is shown only here, and listed as {}\n",
        made.token,
        made.device,
        moment(made.until_ms),
        short(&made.id)
    ));
    Ok(Outcome::Done)
}

fn list(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let rows: Vec<TokenRow> = call(admin, Method::GET, "/registry/tokens", None::<&()>)?;
    if admin.json {
        say_json(&rows)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("{:<16} {:<24} {:<8} {:<20} NOTE\n", "TOKEN", "DEVICE", "STATE", "UNTIL");
    for row in &rows {
        let until = moment(row.until_ms);
        let _ = writeln!(
            text,
            "{:<16} {:<24} {:<8} {until:<20} {}",
            short(&row.id),
            row.device,
            row.state,
            row.note
        );
    }
    let _ = writeln!(text, "{} tokens", rows.len());
    say(&text);
    Ok(Outcome::Done)
}

fn pending(admin: &AdminArgs) -> Result<Outcome, Failure> {
    let rows: Vec<EnrolmentRow> = call(admin, Method::GET, "/registry/est/pending", None::<&()>)?;
    if admin.json {
        say_json(&rows)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!(
        "{:<16} {:<24} {:<12} {:<9} {:<16} {:<20} ASKED\n",
        "ENROLMENT", "DEVICE", "LABEL", "STATE", "PUBLIC KEY", "FROM"
    );
    for row in &rows {
        let _ = writeln!(
            text,
            "{:<16} {:<24} {:<12} {:<9} {:<16} {:<20} {} s ago",
            short(&row.id),
            row.device,
            row.label.as_deref().unwrap_or("-"),
            row.state,
            short(&row.key),
            row.address,
            row.last_seconds_ago
        );
    }
    let _ = writeln!(text, "{} enrolments", rows.len());
    say(&text);
    Ok(Outcome::Done)
}

fn decide(admin: &AdminArgs, id: String, approve: bool) -> Result<Outcome, Failure> {
    let wanted = DecideEnrolment { id, approve };
    let changed: Changed = call(admin, Method::POST, "/registry/est/decide", Some(&wanted))?;
    say_changed(admin, &changed)
}
