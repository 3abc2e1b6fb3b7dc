//! Who is who, and who may do what.

use super::{Entry, key, required};
use crate::schema::Kind;
use crate::schema::TakesEffect::Reload;

/// `[acl]`.
pub(super) const ACL: &[Entry] = &[
    required(
        "file",
        Kind::File,
        Reload,
        "The policy, in the grammar of Mosquitto's acl_file. An empty file denies everything.",
    ),
    key(
        "subscribe-check",
        Kind::Flag,
        "true",
        Reload,
        "Whether a SUBSCRIBE is refused when its filter is not covered by what the client may read. With false it is granted as Mosquitto does; deliveries are checked in any case.",
    ),
    key(
        "allow-pattern-without-variable",
        Kind::Flag,
        "false",
        Reload,
        "Whether a `pattern` rule with neither %u nor %c, which grants the same to everybody, is a warning and not an error.",
    ),
    key(
        "allow-mid-level-variable",
        Kind::Flag,
        "false",
        Reload,
        "Whether %u or %c as a part of a level, such as `dev-%u`, is a warning and not an error. It stands for itself there: such a rule matches the literal text only, as in Mosquitto 2.1.",
    ),
];

/// `[identity]`.
pub(super) const IDENTITY: &[Entry] = &[
    key(
        "operators",
        Kind::Names,
        "[]",
        Reload,
        "Names whose bearers have the role operator, to which a policy grants rights with `role operator`. Everybody else is a device.",
    ),
    key(
        "groups",
        Kind::Groups,
        "{}",
        Reload,
        "Groups of names, to which a policy grants rights with `role GROUP`.",
    ),
];
