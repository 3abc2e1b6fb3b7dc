//! Configuration: text in, checked settings out.
//!
//! The text goes through two steps here and a third one in the daemon. *Raw*: a tree in which every key and value
//! knows its line and column, and nothing is judged. *Checked*: domain types, within their bounds, with every
//! problem of the file reported and not only the first. *Built* (the daemon): files read, policy compiled, TLS ready.
//!
//! Two grammars lead to the same [`Checked`]: our TOML ([`parse`], [`load`]) and `mosquitto.conf`
//! ([`mosquitto::import`], [`mosquitto::load`]). They share one table of keys, [`KEYS`], which also carries each
//! default, bound and meaning; the configuration page of the documentation is compared with it by a test.
//!
//! Apart from the two `load` functions, which read the named files, nothing in this crate touches disk, clock or
//! network: whether a certificate exists and matches its key is for the daemon to say.

mod authority;
mod check;
mod checked;
mod events;
mod https;
mod keys;
pub mod mosquitto;
mod problem;
mod provisioning;
mod raw;
mod schema;
mod standing;
mod store;
mod value;
pub use authority::{Ca, CaKey, KeyKind, Pkcs11, PreviousCa, Registry};
pub use checked::{
    Acl, Admin, Checked, ClientIdRule, CrlStale, Identity, Limits, Listener, Log, LogFormat, LogLevel,
    MemoryMax, NameShare, PostQuantum, SlowConsumer, System, TlsVersions, X509V1,
};
pub use events::Events;
pub use https::{EstLabel, Https};
pub use keys::KEYS;
pub use problem::{Problem, render};
pub use provisioning::{Hook, Provisioning};
pub use schema::{Key, Section, TakesEffect};
pub use standing::{
    CloneAction, Clones, RetainedOfRevoked, Revocation, SessionOfRevoked, StandingRules, TOPIC_PATTERNS_MAX,
    TopicPatterns, WillOfRevoked,
};
pub use store::{Corrupt, DiskStore, Durability, Store};
pub use value::duration;

use std::path::Path;

/// The largest configuration file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads and checks the TOML file at `path`.
///
/// # Errors
/// Every problem of the file, in the order of the lines; or the one problem that the file cannot be read, is longer
/// than [`FILE_BYTES_MAX`] or is not UTF-8.
pub fn load(path: &Path) -> Result<Checked, Vec<Problem>> {
    let text = read(path).map_err(|problem| vec![problem])?;
    parse(&text, path)
}

/// Checks the TOML in `text`. `file` names it in problems, and relative paths are relative to the folder it is in.
///
/// # Errors
/// Every problem of the text, in the order of the lines.
pub fn parse(text: &str, file: &Path) -> Result<Checked, Vec<Problem>> {
    let (root, syntax) = raw::parse(text, file);
    check::check(&root, file, file.parent().unwrap_or(Path::new("")), syntax)
}

/// Reads a configuration file as text, bounded by [`FILE_BYTES_MAX`].
fn read(path: &Path) -> Result<String, Problem> {
    use std::io::Read;
    let unreadable = |why: String| Problem::whole_file(path, format!("cannot read the file: {why}"));
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        unreadable(format!(
            "it is not UTF-8 text (byte {} is the first wrong one)",
            error.utf8_error().valid_up_to()
        ))
    })
}
