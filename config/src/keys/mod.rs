//! The one table of keys: what there is, what it may hold, what it is when not said, and what it means.
//!
//! The checker takes defaults and bounds from here, the importer takes bounds from here, and a test compares the
//! documentation with it, so that none of them can say something else.
//!
//! A file here is a matter, and lists the keys of its tables. Which table a key is in, [`TABLES`] says, so that what
//! two tables have in common is written once.

mod access;
mod authority;
mod https;
mod limits;
mod listener;
mod process;
mod provisioning;
mod standing;
mod store;

use crate::schema::{Key, Kind, Section, TakesEffect};

/// Every key of the configuration file, in the order of the documentation.
pub const KEYS: &[Key] = &listed::<{ count_of(TABLES) }>(TABLES);

/// The keys of each section, in the order of [`Section::ALL`].
const TABLES: &[(Section, &[Entry])] = &[
    (Section::Listener, listener::LISTENER),
    (Section::Acl, access::ACL),
    (Section::Identity, access::IDENTITY),
    (Section::Limits, limits::LIMITS),
    (Section::Admin, process::ADMIN),
    (Section::Log, process::LOG),
    (Section::Store, store::STORE),
    (Section::Registry, store::REGISTRY),
    (Section::Ca, authority::CA_PLACE),
    (Section::Ca, authority::PRIVATE_KEY),
    (Section::Ca, authority::CA),
    (Section::CaPrevious, authority::CA_PREVIOUS),
    (Section::CaPrevious, authority::PRIVATE_KEY),
    (Section::Revocation, standing::REVOCATION),
    (Section::Standing, standing::STANDING),
    (Section::Clones, standing::CLONES),
    (Section::Https, https::HTTPS),
    (Section::EstLabel, https::EST_LABEL),
    (Section::Provisioning, provisioning::PROVISIONING),
    (Section::Events, process::EVENTS),
    (Section::System, process::SYSTEM),
];

/// What there is to say of a key but for the table it is in.
#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    kind: Kind,
    default: &'static str,
    required: bool,
    takes_effect: TakesEffect,
    about: &'static str,
}

impl Entry {
    const fn of(self, section: Section) -> Key {
        let Self { name, kind, default, required, takes_effect, about } = self;
        Key { section, name, default, required, takes_effect, about, kind }
    }
}

const fn count_of(tables: &[(Section, &[Entry])]) -> usize {
    let mut count = 0;
    let mut table = 0;
    while table < tables.len() {
        count += tables[table].1.len();
        table += 1;
    }
    count
}

/// The entries of all tables as keys; `N` is their [`count_of`].
const fn listed<const N: usize>(tables: &[(Section, &[Entry])]) -> [Key; N] {
    let mut keys = [tables[0].1[0].of(tables[0].0); N];
    let (mut next, mut table) = (0, 0);
    while table < tables.len() {
        let (section, entries) = tables[table];
        let mut entry = 0;
        while entry < entries.len() {
            keys[next] = entries[entry].of(section);
            (next, entry) = (next + 1, entry + 1);
        }
        table += 1;
    }
    keys
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    takes_effect: TakesEffect,
    about: &'static str,
) -> Entry {
    Entry { name, kind, default, required: false, takes_effect, about }
}

const fn required(name: &'static str, kind: Kind, takes_effect: TakesEffect, about: &'static str) -> Entry {
    Entry { name, kind, default: "", required: true, takes_effect, about }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max, zero: None }
}

const fn count_or(zero: &'static str, max: u64) -> Kind {
    Kind::Count { min: 0, max, zero: Some(zero) }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Bytes { min, max, zero: None }
}

const fn bytes_or(zero: &'static str, max: u64) -> Kind {
    Kind::Bytes { min: 0, max, zero: Some(zero) }
}

const fn secs(min: u64, max: u64) -> Kind {
    Kind::Time { min_ms: min * 1000, max_ms: max * 1000, zero: None, never: false }
}

const fn secs_or(zero: &'static str, max: u64) -> Kind {
    Kind::Time { min_ms: 0, max_ms: max * 1000, zero: Some(zero), never: false }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: u64 = 86_400;
