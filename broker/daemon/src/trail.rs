//! Notes in the audit trail about what the registry does not decide: the policy, reloads, revocation lists, keys, commands.
//!
//! Without a registry there is no trail, and the log is all that tells of them.

use std::fmt::Display;

use signet_config::CaKey;
use signet_registry::{Actor, Topic};

use crate::admin::api::Reloaded;
use crate::ca::WrittenList;
use crate::reload::ReloadRefused;
use crate::server::Broker;
use crate::state::Digest;
use crate::tls::Edition;

/// The problems of a refused reload that one note has.
const PROBLEMS_TOLD_MAX: usize = 3;

fn note(broker: &Broker, topic: Topic, text: &dyn Display, actor: &Actor) {
    if let Some(registry) = broker.registry() {
        registry.note(topic, text, actor.clone());
    }
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The broker has started with this policy and these lists, which were not seen before.
pub(crate) fn started(broker: &Broker, policy: &Digest, lists: &[Edition]) {
    let config = broker.config.load();
    let text = format!("started with {} ({})", config.file.display(), env!("CARGO_PKG_VERSION"));
    note(broker, Topic::Reload, &text, &Actor::Broker);
    let text = format!("{} is in force, SHA-256 {}", config.acl.file.display(), hex(policy));
    note(broker, Topic::Policy, &text, &Actor::Broker);
    loaded(broker, lists, &Actor::Broker);
    if let (Some(authority), Some(ca)) = (broker.authority(), &config.ca) {
        let place = match &ca.key {
            CaKey::File { passphrase_file: None } => "not encrypted, in a file".to_owned(),
            CaKey::File { passphrase_file: Some(_) } => "encrypted, in a file".to_owned(),
            CaKey::Pkcs11(token) => format!("in the token {:?}", token.token),
        };
        let text = format!("the key of \"{}\" is ready to sign; it is {place}", authority.issuer().subject());
        note(broker, Topic::Key, &text, &Actor::Broker);
    }
}

/// Another state is in force.
pub(crate) fn reloaded(
    broker: &Broker,
    because: &str,
    reloaded: &Reloaded,
    policy: Option<(Digest, Digest)>,
    lists: &[Edition],
    actor: &Actor,
) {
    let changed =
        if reloaded.changed.is_empty() { "files only".to_owned() } else { reloaded.changed.join("; ") };
    let text = format!("generation {} is in force ({because}): {changed}", reloaded.generation);
    note(broker, Topic::Reload, &text, actor);
    if let Some((old, new)) = policy {
        let file = broker.config.load().acl.file.display().to_string();
        let text = format!("{file} has changed: SHA-256 {} is now {}", hex(&old), hex(&new));
        note(broker, Topic::Policy, &text, actor);
    }
    loaded(broker, lists, actor);
}

/// A state was refused, and the old one stays.
pub(crate) fn refused(broker: &Broker, because: &str, refused: &ReloadRefused, actor: &Actor) {
    let problems = refused.problems();
    let told = problems.iter().take(PROBLEMS_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
    let more = problems.len().saturating_sub(PROBLEMS_TOLD_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    note(broker, Topic::Reload, &format!("refused ({because}): {told}{more}"), actor);
}

fn loaded(broker: &Broker, lists: &[Edition], actor: &Actor) {
    for list in lists {
        let text = format!("the list of \"{}\" is in force: {list}", list.issuer);
        note(broker, Topic::Crl, &text, actor);
    }
}

/// This broker has signed a revocation list.
pub(crate) fn list_written(broker: &Broker, list: &WrittenList, actor: &Actor) {
    let text =
        format!("written to {}: number {}, {} entries", list.path.display(), list.number, list.entries);
    note(broker, Topic::Crl, &text, actor);
}

/// A revocation list of an authority of before has come from outside.
pub(crate) fn own_list(broker: &Broker, text: &str) {
    note(broker, Topic::Crl, &text, &Actor::Broker);
}

/// Something wants to be looked at.
pub(crate) fn alarm(broker: &Broker, text: &dyn Display) {
    note(broker, Topic::Alarm, text, &Actor::Broker);
}

/// An operator has given a command that changes nothing in the registry.
pub(crate) fn command(broker: &Broker, text: &dyn Display, actor: &Actor) {
    note(broker, Topic::Command, text, actor);
}
