//! The command line of the registry, the authority and the audit trail.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::admin::registry::api;
use crate::cli::args::{AdminArgs, RoleArg};

/// Reads a duration such as `30d`.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    signet_config::duration(text).ok_or_else(|| "a duration is written as in 90s, 12h, 30d or 8w".to_owned())
}

/// Reads `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("an attribute is written as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `signet device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// The devices in the registry and where their certificates stand.
    List(ListArgs),
    /// One device, or one certificate, with everything that is known of it.
    Show {
        /// The name, or at least 8 digits that the certificate's id begins with.
        what: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Add a device, and give it a certificate; or many from a file.
    Add(AddArgs),
    /// Tell devices to renew their certificates, and follow each of them.
    Rotate(super::rotate::RotateArgs),
    /// Revoke certificates for ever: their connections are closed at once.
    Revoke {
        /// Which certificates.
        #[command(flatten)]
        select: SelectArgs,
        /// Why, as a revocation list says it.
        #[arg(long, value_enum, default_value = "unspecified")]
        reason: ReasonArg,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Suspend certificates: their connections are closed at once, until they are activated.
    Suspend {
        /// Which certificates.
        #[command(flatten)]
        select: SelectArgs,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Let a device be provisioned again for a while, though it was before, or lost its standing.
    Approve(ApproveArgs),
    /// Bring certificates into force: suspended ones, and those that wait for it.
    Activate {
        /// Which certificates.
        #[command(flatten)]
        select: SelectArgs,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Put a device into quarantine: it connects, and reaches its recovery topics only.
    Quarantine {
        /// The device.
        name: String,
        /// Why, for those who look later.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Let a device out of quarantine.
    Release {
        /// The device.
        name: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// `signet device approve`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The device.
    pub name: String,
    /// For how long, as in 1h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "1h")]
    pub within: Duration,
    /// Take the approval back.
    #[arg(long, conflicts_with = "within")]
    pub withdraw: bool,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `signet device list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only devices with a certificate in this state.
    #[arg(long, value_enum)]
    pub status: Option<StatusArg>,
    /// Only devices with a certificate in force that ends within this time, as in 30d.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expiring: Option<Duration>,
    /// Only devices of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub thing_type: Option<String>,
    /// Only devices in this group.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// States on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum StatusArg {
    PendingActivation,
    Active,
    Inactive,
    Revoked,
}

/// `signet device add`.
#[derive(Debug, Args)]
#[group(id = "proof", multiple = false, args = ["csr", "key"])]
pub struct AddArgs {
    /// The name of the device. Without --csr and --key it is added without a certificate.
    #[arg(required_unless_present = "from")]
    pub name: Option<String>,
    /// The type.
    #[arg(long = "type", value_name = "TYPE")]
    pub thing_type: Option<String>,
    /// A group that it is in; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// An attribute; may be given several times.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = pair)]
    pub attributes: Vec<(String, String)>,
    /// A signing request of the device, PEM or DER.
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
    /// Make a P-256 key here, for a device that cannot make its own. Needs --out.
    #[arg(long, requires = "out")]
    pub key: bool,
    /// Where certificates and keys go: a folder for each device, of mode 0700.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Add many: a CSV file with a column `name` (or `serial`); `type` and `groups` (separated by spaces) may be columns too, and
    /// every other column is an attribute. Each device gets a key and a certificate. Started again, it goes on where
    /// it stopped.
    #[arg(long, value_name = "FILE", requires = "out", conflicts_with_all = ["name", "csr", "key", "attributes"])]
    pub from: Option<PathBuf>,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Which certificates a command is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct SelectArgs {
    /// Those of the device of this name.
    #[arg(conflicts_with_all = ["certificate", "serial", "issuer", "ca"])]
    pub name: Option<String>,
    /// The one with this id (SHA-256), or the only one whose id begins so.
    #[arg(long, value_name = "ID", conflicts_with_all = ["serial", "issuer", "ca"])]
    pub certificate: Option<String>,
    /// The one with this serial number, hexadecimal.
    #[arg(long, value_name = "SERIAL", conflicts_with = "ca")]
    pub serial: Option<String>,
    /// All that this authority signed and the registry knows; with --serial, the one. An id of `signet ca show`.
    #[arg(long, value_name = "ID", conflicts_with = "ca")]
    pub issuer: Option<String>,
    /// This authority as a whole, with certificates that nobody knows yet. An id of `signet ca show`.
    #[arg(long, value_name = "ID")]
    pub ca: Option<String>,
}

impl From<SelectArgs> for api::Select {
    fn from(args: SelectArgs) -> Self {
        let SelectArgs { name, certificate, serial, issuer, ca } = args;
        Self { name, certificate, serial, issuer, ca }
    }
}

/// Reasons on the command line (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum ReasonArg {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    PrivilegeWithdrawn,
}

/// `signet ca`.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make a root and the issuing authority of this broker. The root's key is for a safe place, not for the broker.
    Init(InitArgs),
    /// The authorities that the registry knows.
    Show(AdminArgs),
    /// Let certificates of an outside authority in.
    Import(ImportArgs),
    /// Change what an outside authority may bring in by itself. What is not given stays as it is.
    Set(SetCaArgs),
}

/// `signet ca init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The broker's configuration: its `[ca]` says where the authority goes.
    #[arg(long, value_name = "FILE", required_unless_present = "directory", conflicts_with = "directory")]
    pub config: Option<PathBuf>,
    /// Where the issuing authority goes: the `[ca]` directory.
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// The file whose first line encrypts the issuing key; with --config, the one that it names.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Where the root goes: a place that the broker does not read.
    #[arg(long, value_name = "DIR", required_unless_present = "certificate")]
    pub root: Option<PathBuf>,
    /// The file whose first line encrypts the root's key.
    #[arg(long, value_name = "FILE")]
    pub root_passphrase_file: Option<PathBuf>,
    /// What the authorities are called; ` Root CA` and ` Issuing CA` are appended.
    #[arg(long, default_value = "Signet")]
    pub name: String,
    /// The kind of both keys.
    #[arg(long = "key-kind", value_enum, default_value = "p-256")]
    pub key_kind: AuthorityKeyArg,
    /// How long the root is valid.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7300d")]
    pub root_validity: Duration,
    /// How long the issuing authority is valid.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "3650d")]
    pub validity: Duration,
    /// Take over an issuing authority that exists: its certificate. Nothing is made then.
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub certificate: Option<PathBuf>,
    /// The private key of --certificate, when it is not in a token; it is encrypted anew with --passphrase-file.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub private_key: Option<PathBuf>,
    /// The file whose first line decrypts --private-key.
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub private_key_passphrase_file: Option<PathBuf>,
    /// Where the issuing key is, when it is in a token; with --config, the pkcs11- keys of `[ca]` say it.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Print JSON for a program to read.
    #[arg(long)]
    pub json: bool,
}

/// A private key in a PKCS #11 token.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Have the issuing key in a PKCS #11 token, such as an HSM: the shared library that speaks to it. The key is made there.
    #[arg(long, value_name = "FILE", requires_all = ["pkcs11_token", "pkcs11_key"], conflicts_with_all = ["config", "private_key", "passphrase_file"])]
    pub pkcs11_module: Option<PathBuf>,
    /// The token's label or serial number.
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    pub pkcs11_token: Option<String>,
    /// The label of the key pair.
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    pub pkcs11_key: Option<String>,
    /// The file whose first line is the user PIN.
    #[arg(long, value_name = "FILE", requires = "pkcs11_module")]
    pub pkcs11_pin_file: Option<PathBuf>,
    /// Use the key pair that is in the token in place of making one.
    #[arg(long)]
    pub existing_key: bool,
}

/// Kinds of an authority's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuthorityKeyArg {
    /// NIST P-256.
    #[value(name = "p-256")]
    P256,
    /// NIST P-384.
    #[value(name = "p-384")]
    P384,
}

/// `signet ca import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The authority's certificate, PEM.
    pub file: PathBuf,
    /// Names that it may give, `*` for any characters; may be given several times.
    #[arg(long = "names", value_name = "PATTERN", required = true)]
    pub names: Vec<String>,
    /// The role of its certificates.
    #[arg(long, value_enum, default_value = "device")]
    pub role: RoleArg,
    /// What happens to certificates of it that the registry does not know.
    #[arg(long, value_enum, default_value = "registered-only")]
    pub unknown: UnknownArg,
    /// The template, for `--unknown jitp`.
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// An authority that may give some of the names too: an id of `signet ca show`, or `own`; may be given several times.
    #[arg(long, value_name = "ID")]
    pub share_names_with: Vec<String>,
    /// How many devices it may bring in whose certificates the registry does not know; any number when not given. Whoever has
    /// the authority's key can make as many certificates as he likes.
    #[arg(long = "max", value_name = "N")]
    pub devices_max: Option<u32>,
    /// Let an unknown certificate of it become that of a thing whose certificates are another authority's; for `--unknown auto`.
    #[arg(long)]
    pub joins_others: bool,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `signet ca set`.
#[derive(Debug, Args)]
pub struct SetCaArgs {
    /// The authority: an id of `signet ca show`, or at least 8 digits that it begins with.
    pub id: String,
    /// How many devices it may bring in whose certificates the registry does not know; 0 for any number.
    #[arg(long = "max", value_name = "N", required_unless_present_any = ["registers", "joins_others"])]
    pub devices_max: Option<u32>,
    /// Whether certificates that the registry does not know are registered, true or false. Those that are registered are not
    /// touched.
    #[arg(long, value_name = "BOOL")]
    pub registers: Option<bool>,
    /// Whether an unknown certificate of it may become that of a thing whose certificates are another authority's, true or
    /// false.
    #[arg(long, value_name = "BOOL")]
    pub joins_others: Option<bool>,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// What happens to unknown certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnknownArg {
    /// They are refused.
    RegisteredOnly,
    /// They are registered as active, for the name that they give, if no other authority's device has it.
    Auto,
    /// They are registered and wait for `signet device activate`.
    Jitr,
    /// They are provisioned by a template.
    Jitp,
}

/// `signet crl`.
#[derive(Debug, Subcommand)]
pub enum CrlCommand {
    /// The revocation list that was written last.
    Show(AdminArgs),
    /// Sign and write the revocation list now.
    Write {
        /// Write it here too.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// `signet audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find edited, removed and reordered rows.
    Verify {
        /// A row that must be in the trail, as an earlier verification, a backup or the log gave it.
        #[arg(long, value_name = "NUMBER:HASH")]
        expect: Option<String>,
        /// A database file, of a broker that is not running or of a backup.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["socket", "config"])]
        database: Option<PathBuf>,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Rows of the trail, oldest first.
    List {
        /// Rows with a higher number. Without it the newest ones are shown.
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
        /// Rows about this name.
        #[arg(long)]
        name: Option<String>,
        /// Rows about this certificate.
        #[arg(long, value_name = "ID")]
        certificate: Option<String>,
        /// Rows of this kind, as in `certificate_revoked`.
        #[arg(long)]
        kind: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Write a remark into the trail.
    Note {
        /// What it says.
        text: String,
        /// Which broker.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Say that the clock is right although it was later before; until then nothing is issued.
    AcceptClock(AdminArgs),
}

/// `signet backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file of the registry's copy; it must not exist. The broker writes it, with mode 0600, and that of sessions and
    /// messages beside it, with `.messages` behind its name.
    pub file: PathBuf,
    /// Which broker.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `signet restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The copy that `signet backup` made. What has `.messages` behind its name is put back too.
    pub file: PathBuf,
    /// The configuration of the broker, which must not be running.
    #[arg(long, value_name = "FILE", required_unless_present = "directory", conflicts_with = "directory")]
    pub config: Option<PathBuf>,
    /// The `[registry]` directory; then sessions and messages are left as they are.
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Move what is there aside. What was revoked there stays revoked.
    #[arg(long)]
    pub replace: bool,
    /// Print JSON for a program to read.
    #[arg(long)]
    pub json: bool,
}
