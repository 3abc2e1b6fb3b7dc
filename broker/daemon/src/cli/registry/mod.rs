//! The commands of the registry, the authority and the audit trail.

pub mod args;
mod audit;
mod authority;
mod bulk;
mod claim;
mod device;
mod folder;
pub mod operator;
pub mod provision_args;
mod restore;
pub mod rotate;
mod template;
pub mod token;

use args::{AuditCommand, CaCommand, CrlCommand, DeviceCommand};
use provision_args::{ClaimCommand, TemplateCommand};
use signet_registry::Wall;

use super::out::{Failure, Outcome};

pub use audit::backup;
pub(super) use folder::Folder;
pub use restore::restore;

/// `signet device`.
pub fn device(command: DeviceCommand) -> Result<Outcome, Failure> {
    device::device(command)
}

/// `signet template`.
pub fn template(command: TemplateCommand) -> Result<Outcome, Failure> {
    template::template(command)
}

/// `signet claim`.
pub fn claim(command: ClaimCommand) -> Result<Outcome, Failure> {
    claim::claim(command)
}

/// `signet ca`.
pub fn ca(command: CaCommand) -> Result<Outcome, Failure> {
    match command {
        CaCommand::Init(args) => authority::init(&args),
        CaCommand::Show(admin) => authority::show(&admin),
        CaCommand::Import(args) => authority::import(args),
        CaCommand::Set(args) => authority::set(args),
    }
}

/// `signet operator`.
pub fn operator(command: operator::OperatorCommand) -> Result<Outcome, Failure> {
    operator::operator(command)
}

/// `signet token`.
pub fn token(command: token::TokenCommand) -> Result<Outcome, Failure> {
    token::token(command)
}

/// `signet est`.
pub fn est(command: token::EstCommand) -> Result<Outcome, Failure> {
    token::est(command)
}

/// `signet crl`.
pub fn crl(command: CrlCommand) -> Result<Outcome, Failure> {
    match command {
        CrlCommand::Show(admin) => authority::show_list(&admin),
        CrlCommand::Write { output, admin } => authority::write_list(&admin, output.as_deref()),
    }
}

/// `signet audit`.
pub fn audit(command: AuditCommand) -> Result<Outcome, Failure> {
    audit::audit(command)
}

/// A moment in Unix milliseconds for people.
fn moment(ms: u64) -> String {
    Wall(ms / 1000 * 1000).to_string()
}

/// How far away a Unix second is, for people.
fn left(not_after: i64) -> String {
    let now = Wall(crate::clock::wall().0).unix_secs();
    match not_after.saturating_sub(now) {
        past if past < 0 => "expired".to_owned(),
        secs if secs < 7200 => format!("{} min", secs / 60),
        secs if secs < 172_800 => format!("{} h", secs / 3600),
        secs => format!("{} d", secs / 86_400),
    }
}

/// The beginning of an id: enough for a command to find it by.
fn short(id: &str) -> &str {
    id.get(..16).unwrap_or(id)
}
