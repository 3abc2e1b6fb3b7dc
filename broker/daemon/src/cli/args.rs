//! The command line, as clap reads it. What each command does is in the modules beside this one.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::doctor::DoctorArgs;
use super::ota::OtaCommand;
use super::registry::args::{AuditCommand, BackupArgs, CaCommand, CrlCommand, DeviceCommand, RestoreArgs};
use super::registry::operator::OperatorCommand;
use super::registry::provision_args::{ClaimCommand, TemplateCommand};
use super::registry::token::{EstCommand, TokenCommand};

/// Exit codes, the same for every command.
pub mod exit {
    /// The command did what it was asked to do.
    pub const OK: u8 = 0;
    /// The command ran and found something wrong: a problem in a file, a refused reload, a denied access.
    pub const FOUND: u8 = 1;
    /// The command line could not be understood, or a file or the running broker could not be reached.
    pub const USAGE: u8 = 2;
}

/// An MQTT broker for devices that prove who they are with a certificate.
#[derive(Debug, Parser)]
#[command(
    name = "signet",
    version,
    about = "An MQTT broker for devices that prove who they are with a certificate.",
    long_about = "Signet speaks MQTT 3.1.1 and 5.0 over mutually authenticated TLS, takes the name in the client's\n\
        certificate as the user, and enforces an access policy in the grammar of Mosquitto's acl_file.\n\n\
        First steps:\n  \
        signet dev                            development certificates and a broker on 127.0.0.1:8883\n  \
        signet check --config signet.toml     every problem of a configuration, with line and column\n  \
        signet run --config signet.toml       the broker\n\n\
        When something does not connect:\n  \
        signet doctor device.crt --config signet.toml    what is wrong with a certificate\n  \
        signet doctor HOST:PORT --ca root.crt            what is wrong with the way to a broker\n  \
        signet tls failures --config signet.toml         who was turned away, and why\n\n\
        Exit codes: 0 done; 1 ran and found something wrong; 2 could not run.",
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make development certificates if there are none, and run a broker on 127.0.0.1:8883.
    Dev(DevArgs),
    /// Run the broker.
    Run(RunArgs),
    /// Check a configuration and every file it names, without running.
    Check(CheckArgs),
    /// Translate the configuration of another broker.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Ask an access policy: why is this allowed, what changes, what is doubtful.
    #[command(subcommand)]
    Acl(AclCommand),
    /// Make a running broker read its files again; the old state stays if the new one is wrong.
    Reload(AdminArgs),
    /// Show what a running broker is doing.
    Status(AdminArgs),
    /// The sessions of a running broker.
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// What is wrong with a certificate, or with the way to a broker, and what to do.
    Doctor(Box<DoctorArgs>),
    /// TLS at a running broker.
    #[command(subcommand)]
    Tls(TlsCommand),
    /// The devices in the registry of a running broker, and where their certificates stand.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Provisioning templates: which thing a newcomer becomes.
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Claims: the certificates that devices leave the factory with.
    #[command(subcommand)]
    Claim(ClaimCommand),
    /// The certificate authority of the broker, and outside ones that it trusts.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Operators: people and services that run the fleet, with certificates of their own.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// One-time tokens, with which a device gets its certificate at its first boot.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Firmware updates of devices.
    #[command(subcommand)]
    Ota(OtaCommand),
    /// Enrolments over EST that wait for approval.
    #[command(subcommand)]
    Est(EstCommand),
    /// The revocation list of the broker's authority.
    #[command(subcommand)]
    Crl(CrlCommand),
    /// The audit trail of the registry.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Copy the registry, the sessions and the messages of a running broker to files.
    Backup(BackupArgs),
    /// Put such a copy back, of a broker that is not running.
    Restore(RestoreArgs),
    /// Stop a running broker in good order.
    Stop(AdminArgs),
}

/// `signet dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Where the development certificates and the policy are kept.
    #[arg(long, value_name = "DIR", default_value = "certs-dev/out")]
    pub dir: PathBuf,
    /// Where to listen. Only loopback addresses: the keys of a development setup lie in a folder.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8883")]
    pub address: SocketAddr,
    /// Make the files, say what they are, and do not run.
    #[arg(long)]
    pub no_run: bool,
    /// The least severe log record shown.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: LogLevelArg,
}

/// Log levels on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum LogLevelArg {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// The configuration, TOML.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A mosquitto.conf, taken as it is. `signet import mosquitto` says how each option is understood.
    #[arg(long, value_name = "FILE")]
    pub mosquitto_conf: Option<PathBuf>,
}

/// `signet run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: Source,
    /// Write the addresses that the broker listens on to this file, one a line, once it is ready; those of HTTPS last, as
    /// URLs.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// `signet check`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 no problem (there may be warnings); 1 a problem; 2 could not run.")]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: Source,
    /// Print JSON for a program to read.
    #[arg(long)]
    pub json: bool,
}

/// `signet import`.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Read a mosquitto.conf: each option kept, mapped, changed or unsupported, then the same as TOML.
    Mosquitto {
        /// The mosquitto.conf.
        file: PathBuf,
        /// Write the TOML here instead of to standard output. An existing file is never overwritten.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Print the report and the TOML as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `signet acl`.
#[derive(Debug, Subcommand)]
pub enum AclCommand {
    /// Which rule decides about one access, and which were considered before it.
    #[command(after_help = "Exit codes: 0 allowed; 1 refused, or the policy has a problem; 2 could not run.")]
    Why {
        /// The certified name.
        name: String,
        /// What it wants to do.
        access: AccessArg,
        /// The topic; for `subscribe` a topic filter.
        topic: String,
        /// Which policy.
        #[command(flatten)]
        policy: PolicyArgs,
        /// The role that the name has.
        #[arg(long, value_enum, default_value = "device")]
        role: RoleArg,
        /// A group that the name is in; may be given several times.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// The MQTT client id, for policies that use %c. Default: the name.
        #[arg(long, value_name = "ID")]
        client_id: Option<String>,
        /// Print JSON for a program to read.
        #[arg(long)]
        json: bool,
    },
    /// What is wrong with, or doubtful in, a policy file.
    #[command(after_help = "Exit codes: 0 nothing to object to; 1 a problem or a warning; 2 could not run.")]
    Lint {
        /// The policy.
        file: PathBuf,
        /// Accept `pattern` lines without %u, %c or %t, as Mosquitto does.
        #[arg(long)]
        allow_pattern_without_variable: bool,
        /// Print JSON for a program to read.
        #[arg(long)]
        json: bool,
    },
    /// Who gains and who loses what between two policies.
    #[command(
        after_help = "Exit codes: 0 no right changes; 1 one does, or a policy has a problem; 2 could not run."
    )]
    Diff {
        /// The policy in force.
        old: PathBuf,
        /// The policy to come.
        new: PathBuf,
        /// Names to compare, besides those that the two files speak of; may be given several times.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// Accept `pattern` lines without %u, %c or %t, as Mosquitto does.
        #[arg(long)]
        allow_pattern_without_variable: bool,
        /// Print JSON for a program to read.
        #[arg(long)]
        json: bool,
    },
}

/// Which policy to ask.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The policy file.
    #[arg(long, value_name = "FILE", conflicts_with = "config", required_unless_present = "config")]
    pub file: Option<PathBuf>,
    /// The configuration that names the policy file, its switches and the roles.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Kinds of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccessArg {
    /// Be sent messages of this topic.
    Read,
    /// Publish to this topic.
    Write,
    /// Subscribe to this filter.
    Subscribe,
}

/// Roles on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum RoleArg {
    Device,
    Claim,
    Operator,
}

/// How to reach a running broker.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The broker's admin socket. Default without --config: the environment variable SIGNET_SOCKET.
    // Not clap's `env`: a variable that is set would be in conflict with --config.
    #[arg(long, value_name = "SOCKET", conflicts_with = "config")]
    pub socket: Option<PathBuf>,
    /// The broker's configuration, which names the socket.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON for a program to read.
    #[arg(long)]
    pub json: bool,
}

impl AdminArgs {
    /// The socket that was named, on the command line or in the environment; --config is asked before the environment.
    #[must_use]
    pub fn named_socket(&self) -> Option<PathBuf> {
        let variable =
            || std::env::var_os("SIGNET_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        self.socket.clone().or_else(variable)
    }
}

/// `signet sessions`.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// All sessions, connected or not.
    List(AdminArgs),
    /// Close the connections of a name. Its sessions stay; it may connect again.
    Kick {
        /// The certified name.
        name: String,
        /// Only this client id.
        #[arg(long, value_name = "ID")]
        client_id: Option<String>,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// `signet tls`.
#[derive(Debug, Subcommand)]
pub enum TlsCommand {
    /// Handshakes that failed: who, why, and what to do.
    Failures(FailuresArgs),
}

/// `signet tls failures`.
#[derive(Debug, Args)]
pub struct FailuresArgs {
    /// How they are grouped.
    #[arg(long, value_enum, default_value = "cause")]
    pub by: GroupBy,
    /// Each failure by itself, oldest first.
    #[arg(long, conflicts_with = "by")]
    pub each: bool,
    /// Each new failure as it happens, until Ctrl-C; with --json one object a line.
    #[arg(long, conflicts_with_all = ["by", "each"])]
    pub follow: bool,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// How failures are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// By what went wrong, the most frequent first.
    Cause,
    /// By the certificate, or the address where none was shown.
    Device,
}
