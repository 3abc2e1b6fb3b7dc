//! What operators and the broker say to each other about the registry. Times are Unix milliseconds, validity periods Unix
//! seconds, as in certificates; ids are hexadecimal.

mod claims;
mod operators;
mod rotations;
mod templates;
mod tokens;

use std::collections::BTreeMap;

pub use claims::{
    AddSerials, ChangeClaim, ClaimAction, ClaimRow, ClaimShown, CreateClaim, CreatedClaim, SerialsAdded,
    ShowClaim,
};
pub use operators::{AddOperator, AddedOperator, OperatorRow};
pub use rotations::{
    ChangeRotation, RotationAction, RotationDevice, RotationRow, RotationShown, ShowRotation, StartRotation,
};
use serde::{Deserialize, Serialize};
pub use templates::{NameTemplate, ParameterRow, SetTemplate, TemplateRow, TemplateSet, TemplateShown};
pub use tokens::{CreateToken, CreatedToken, DecideEnrolment, EnrolmentRow, RevokeToken, TokenRow};

/// The most devices in one answer, and in one request to add some.
pub const DEVICES_AT_ONCE_MAX: usize = 500;

/// `POST /registry/devices/list`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ListDevices {
    /// Devices after this one, in the order of their names.
    pub after: Option<String>,
    /// Only those with a certificate in this state: `pending-activation`, `active`, `inactive`, `revoked`.
    pub status: Option<String>,
    /// Only those with a certificate in force that ends within so many seconds.
    pub expiring_within_seconds: Option<u64>,
    /// Only those of this type.
    pub thing_type: Option<String>,
    /// Only those in this group.
    pub group: Option<String>,
}

/// The answer to [`ListDevices`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Devices {
    /// The devices.
    pub devices: Vec<Device>,
    /// Ask again with this as `after` for the next ones; absent at the end.
    pub next: Option<String>,
    /// On the last page, with `status` `pending-activation`: certificates that are nobody's yet.
    pub unbound: Vec<CertificateRow>,
}

/// A device and its certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Device {
    /// The name.
    pub name: String,
    /// The type.
    pub thing_type: Option<String>,
    /// The groups.
    pub groups: Vec<String>,
    /// The attributes.
    pub attributes: BTreeMap<String, String>,
    /// Counts changes of these.
    pub version: u64,
    /// Since when it exists.
    pub added_ms: u64,
    /// Since when and why it reaches its recovery topics only.
    #[serde(default)]
    pub quarantine: Option<QuarantineRow>,
    /// Its certificates, in the order in which they became its.
    pub certificates: Vec<CertificateRow>,
}

/// Why a device reaches its recovery topics only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuarantineRow {
    /// Since when.
    pub since_ms: u64,
    /// Why.
    pub why: String,
}

/// A certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CertificateRow {
    /// SHA-256 of the DER.
    pub id: String,
    /// The serial number.
    pub serial: String,
    /// SHA-256 of the key that signed it.
    pub issuer_key: String,
    /// The subject of the authority with that key, when it is registered.
    pub issuer: Option<String>,
    /// Its own subject.
    pub subject: String,
    /// Its state.
    pub status: String,
    /// Whether it may connect now, or why not: `active`, `revoked`, `inactive`, `pending`.
    pub standing: String,
    /// Since when it is suspended or revoked.
    pub since_ms: Option<u64>,
    /// Why it was revoked.
    pub reason: Option<String>,
    /// Whose it is, as `device NAME`.
    pub holder: Option<String>,
    /// First second of the validity period.
    pub not_before: i64,
    /// Last second of the validity period.
    pub not_after: i64,
    /// When it came into the registry.
    pub registered_ms: u64,
    /// The certificate that takes its place.
    pub replaced_by: Option<String>,
    /// When and from where it connected.
    pub seen: Option<SeenRow>,
}

/// What was seen of a certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SeenRow {
    /// The first connection.
    pub first_ms: u64,
    /// The last connection.
    pub last_ms: u64,
    /// Its address.
    pub address: String,
    /// Its version of TLS.
    pub tls: String,
    /// How many there were.
    pub connects: u64,
}

/// `POST /registry/devices/show`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ShowDevice {
    /// A name, or at least 8 digits that a certificate's id begins with.
    pub what: String,
}

/// The answer to [`ShowDevice`]: one of the two.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shown {
    /// The device of that name.
    pub device: Option<Device>,
    /// The certificate with that id.
    pub certificate: Option<CertificateRow>,
}

/// `POST /registry/devices/add`: at most [`DEVICES_AT_ONCE_MAX`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddDevices {
    /// The devices.
    pub devices: Vec<AddDevice>,
}

/// One device in [`AddDevices`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddDevice {
    /// The name.
    pub name: String,
    /// The type.
    pub thing_type: Option<String>,
    /// The groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// A signing request in PEM. With it, or with `public-key`, the device gets a certificate.
    pub csr: Option<String>,
    /// A public key in PEM (`PUBLIC KEY`) that the operator vouches for.
    pub public_key: Option<String>,
}

/// The answer to [`AddDevices`], in the same order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Added {
    /// One for each device.
    pub devices: Vec<AddedDevice>,
    /// The authority's certificate in PEM, when there is an authority.
    pub issuer: Option<String>,
}

/// What became of one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddedDevice {
    /// The name.
    pub name: String,
    /// Why it was refused. What follows is absent then.
    pub problem: Option<String>,
    /// The certificate, when one was asked for.
    pub certificate: Option<IssuedCertificate>,
}

/// A certificate for a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IssuedCertificate {
    /// SHA-256 of the DER.
    pub id: String,
    /// The serial number.
    pub serial: String,
    /// Last second of the validity period.
    pub not_after: i64,
    /// The certificate in PEM.
    pub pem: String,
    /// Whether it was there before, for the same device and key.
    pub already: bool,
}

/// `POST /registry/standing`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChangeStanding {
    /// `revoke`, `suspend`, `activate`, `quarantine` or `release`.
    pub action: Action,
    /// Which certificates; for `quarantine` and `release` the name of a device.
    pub select: Select,
    /// Why: for `revoke` a reason of revocation lists, `unspecified` when absent; for `quarantine` a line for people.
    pub reason: Option<String>,
}

/// What is done with certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// They are refused for ever.
    Revoke,
    /// They are refused until they are activated.
    Suspend,
    /// They are in force.
    Activate,
    /// A device connects and reaches its recovery topics only.
    Quarantine,
    /// A device is out of quarantine.
    Release,
}

/// Certificates: by exactly one of name, certificate, serial number, issuer, authority; an issuer may go with a serial number.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Select {
    /// Those of the device of this name.
    pub name: Option<String>,
    /// The one with this id, or the only one whose id begins so, at least 8 digits.
    pub certificate: Option<String>,
    /// The one with this serial number.
    pub serial: Option<String>,
    /// Those that this authority or this key signed; the beginning of the id is enough.
    pub issuer: Option<String>,
    /// This authority as a whole, with certificates that nobody knows yet; the beginning of the id is enough.
    pub ca: Option<String>,
}

/// `POST /registry/devices/approve`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApproveDevice {
    /// The device.
    pub name: String,
    /// For how long it may be provisioned again; absent: no longer.
    pub valid_seconds: Option<u64>,
}

/// What a command changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changed {
    /// How many events.
    pub events: u64,
    /// The first of them in words, at most 100.
    pub what: Vec<String>,
    /// How many certificates could connect before and no longer can.
    pub lost: u64,
}

/// One authority in `GET /registry/cas`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CaRow {
    /// SHA-256 of its certificate.
    pub id: String,
    /// SHA-256 of its key.
    pub key: String,
    /// Its subject.
    pub subject: String,
    /// Whether this broker signs with its key.
    pub own: bool,
    /// The role of its certificates.
    pub role: String,
    /// Whether its certificates may connect.
    pub connect: bool,
    /// Whether unknown certificates of it are registered.
    pub registers: bool,
    /// How: `registered-only`, `auto`, `jitr`, `jitp`.
    pub unknown: String,
    /// The template, for `jitp`.
    pub template: Option<String>,
    /// The names it may give.
    pub names: Vec<String>,
    /// First second of its validity period.
    pub not_before: i64,
    /// Last second of its validity period.
    pub not_after: i64,
    /// Since when it is revoked.
    pub revoked_ms: Option<u64>,
    /// How many certificates of it the registry knows.
    pub certificates: u64,
    /// How many of them wait to be activated.
    pub waiting: u32,
    /// How many devices it has brought in whose certificates were unknown.
    pub devices: u32,
    /// How many it may bring in; any number when absent.
    pub devices_max: Option<u32>,
    /// Whether an unknown certificate of it may become that of another authority's thing.
    pub joins_others: bool,
}

/// `POST /registry/cas/import`: an outside authority.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImportCa {
    /// Its certificate in PEM.
    pub certificate: String,
    /// The names it may give; `*` stands for any characters.
    pub names: Vec<String>,
    /// The role of its certificates: `device`, `operator` or `claim`; `device` when absent.
    pub role: Option<String>,
    /// What happens to unknown certificates: `registered-only` when absent, `auto`, `jitr`, or `jitp`.
    pub unknown: Option<String>,
    /// The template, for `jitp`.
    pub template: Option<String>,
    /// The authorities that may give some of the names too, by the beginning of their id, or `own`.
    #[serde(default)]
    pub share_names_with: Vec<String>,
    /// How many devices it may bring in whose certificates are unknown; any number when absent.
    pub devices_max: Option<u32>,
    /// Whether an unknown certificate of it may become that of another authority's thing, for `auto`.
    #[serde(default)]
    pub joins_others: bool,
}

/// `POST /registry/cas/set`: what changes of an outside authority; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SetCa {
    /// Its id, or at least 8 digits that it begins with.
    pub id: String,
    /// How many devices it may bring in; 0 for any number.
    pub devices_max: Option<u32>,
    /// Whether unknown certificates of it are registered.
    pub registers: Option<bool>,
    /// Whether an unknown certificate of it may become that of another authority's thing.
    pub joins_others: Option<bool>,
}

/// The answer to [`ImportCa`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImportedCa {
    /// SHA-256 of its certificate.
    pub id: String,
}

/// `GET /registry/crl` and the answer to `POST /registry/crl/write`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RevocationList {
    /// The file.
    pub file: String,
    /// Its number.
    pub number: u64,
    /// How many certificates are in it.
    pub entries: u64,
    /// When it was made.
    pub this_update_ms: u64,
    /// When the next one is due at the latest.
    pub next_update_ms: u64,
    /// The list.
    pub pem: String,
}

/// `POST /registry/audit/list`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ListAudit {
    /// Only rows with a higher number, and then the oldest ones; without it the newest rows.
    pub after: Option<u64>,
    /// Only rows about this name.
    pub name: Option<String>,
    /// Only rows about this certificate.
    pub certificate: Option<String>,
    /// Only rows of this kind.
    pub kind: Option<String>,
    /// At most so many; 1000 when absent, 10 000 at most.
    pub limit: Option<u32>,
}

/// One row of the audit trail.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuditLine {
    /// Its number.
    pub seq: u64,
    /// When.
    pub at_ms: u64,
    /// What kind of event.
    pub kind: String,
    /// Who.
    pub actor: String,
    /// What, in words.
    pub text: String,
    /// What, as it is stored.
    pub event: serde_json::Value,
    /// The hash of the row.
    pub hash: String,
}

/// The end of the audit trail; noted elsewhere, it shows later whether the trail was rewritten.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verified {
    /// `NUMBER:HASH` of the last row.
    pub head: String,
    /// How many rows.
    pub rows: u64,
}

/// `POST /registry/audit/verify`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VerifyAudit {
    /// A row that must be in it, as `NUMBER:HASH`.
    pub expect: Option<String>,
}

/// `POST /registry/audit/note`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WriteNote {
    /// What it says.
    pub text: String,
}

/// `POST /backup`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MakeBackup {
    /// The file, which must not exist; an absolute path.
    pub to: String,
}

/// The answer to [`MakeBackup`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackedUp {
    /// The copy of the registry, when the broker has one.
    #[serde(flatten)]
    pub registry: Option<MadeBackup>,
    /// The copy of sessions and messages, when they are kept on disk.
    pub messages: Option<MessagesBackup>,
}

/// The copy of sessions and messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MessagesBackup {
    /// The file.
    pub file: String,
    /// Sessions, messages and what belongs to them.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The copy of the registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MadeBackup {
    /// The file.
    pub file: String,
    /// `NUMBER:HASH` of its last row.
    pub head: String,
    /// Its size in bytes.
    pub bytes: u64,
}
