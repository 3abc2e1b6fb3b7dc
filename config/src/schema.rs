//! How a key of the configuration is described; the descriptions are in [`KEYS`].

use crate::keys::KEYS;
use std::fmt;

/// A table of the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// `[[listener]]`, once for each address.
    Listener,
    /// `[acl]`.
    Acl,
    /// `[identity]`.
    Identity,
    /// `[limits]`.
    Limits,
    /// `[admin]`.
    Admin,
    /// `[log]`.
    Log,
    /// `[store]`.
    Store,
    /// `[registry]`.
    Registry,
    /// `[ca]`.
    Ca,
    /// `[[ca-previous]]`, once for each authority.
    CaPrevious,
    /// `[revocation]`.
    Revocation,
    /// `[standing]`.
    Standing,
    /// `[clones]`.
    Clones,
    /// `[[https]]`, once for each address.
    Https,
    /// `[[est.label]]`, once for each label.
    EstLabel,
    /// `[provisioning]`.
    Provisioning,
    /// `[events]`.
    Events,
    /// `[system]`.
    System,
}

impl Section {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 18] = [
        Self::Listener,
        Self::Acl,
        Self::Identity,
        Self::Limits,
        Self::Admin,
        Self::Log,
        Self::Store,
        Self::Registry,
        Self::Ca,
        Self::CaPrevious,
        Self::Revocation,
        Self::Standing,
        Self::Clones,
        Self::Https,
        Self::EstLabel,
        Self::Provisioning,
        Self::Events,
        Self::System,
    ];

    /// The table's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Acl => "acl",
            Self::Identity => "identity",
            Self::Limits => "limits",
            Self::Admin => "admin",
            Self::Log => "log",
            Self::Store => "store",
            Self::Registry => "registry",
            Self::Ca => "ca",
            Self::CaPrevious => "ca-previous",
            Self::Revocation => "revocation",
            Self::Standing => "standing",
            Self::Clones => "clones",
            Self::Https => "https",
            Self::EstLabel => "est",
            Self::Provisioning => "provisioning",
            Self::Events => "events",
            Self::System => "system",
        }
    }

    /// The table's header as it is written.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Listener => "[[listener]]",
            Self::Acl => "[acl]",
            Self::Identity => "[identity]",
            Self::Limits => "[limits]",
            Self::Admin => "[admin]",
            Self::Log => "[log]",
            Self::Store => "[store]",
            Self::Registry => "[registry]",
            Self::Ca => "[ca]",
            Self::CaPrevious => "[[ca-previous]]",
            Self::Revocation => "[revocation]",
            Self::Standing => "[standing]",
            Self::Clones => "[clones]",
            Self::Https => "[[https]]",
            Self::EstLabel => "[[est.label]]",
            Self::Provisioning => "[provisioning]",
            Self::Events => "[events]",
            Self::System => "[system]",
        }
    }

    /// Its keys.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.section == self)
    }
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesEffect {
    /// At a reload, for what is connected too where that makes sense.
    Reload,
    /// At the next start. A reload says so and keeps the running value.
    Restart,
}

impl fmt::Display for TakesEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        })
    }
}

/// One key of the configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table it is in.
    pub section: Section,
    /// Its name, kebab-case.
    pub name: &'static str,
    /// The value when the key is absent, as TOML; empty when there is none.
    pub default: &'static str,
    /// Whether the key must be there.
    pub required: bool,
    /// When a changed value takes effect.
    pub takes_effect: TakesEffect,
    /// Its meaning, a sentence or two.
    pub about: &'static str,
    /// What it holds, within which bounds.
    pub(crate) kind: Kind,
}

impl Key {
    /// What the value is and its bounds, for people.
    #[must_use]
    pub fn bounds(&self) -> String {
        self.kind.to_string()
    }
}

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// An IP address and a port.
    Address,
    /// A path.
    File,
    /// A list of paths.
    Files,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of some of these words, at least one.
    Choices(&'static [&'static str]),
    /// A list of names.
    Names,
    /// A table: group name to list of names.
    Groups,
    /// A list of topics with `%u`.
    Topics,
    /// A table: a name to one of these words.
    ChoiceOf(&'static [&'static str]),
    /// ASCII characters.
    Characters,
    /// A number of things.
    Count { min: u64, max: u64, zero: Option<&'static str> },
    /// A number of bytes, or a string with a unit.
    Bytes { min: u64, max: u64, zero: Option<&'static str> },
    /// Seconds, or a string with a unit, in milliseconds here.
    Time { min_ms: u64, max_ms: u64, zero: Option<&'static str>, never: bool },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::value::{show_duration, show_size};
        use std::time::Duration;
        let zero_text = |zero: &Option<&str>| zero.map_or(String::new(), |means| format!("; 0: {means}"));
        match self {
            Self::Address => f.write_str("IP address and port"),
            Self::File => f.write_str("path"),
            Self::Files => f.write_str("list of paths"),
            Self::Flag => f.write_str("true or false"),
            Self::Choice(words) => f.write_str(&quoted(words, " or ")),
            Self::Choices(words) => write!(f, "list of {}", quoted(words, ", ")),
            Self::Names => f.write_str("list of names"),
            Self::Groups => f.write_str("table: group = list of names"),
            Self::Topics => f.write_str("list of topics with %u"),
            Self::ChoiceOf(words) => write!(f, "table: name = {}", quoted(words, " or ")),
            Self::Characters => f.write_str("ASCII characters"),
            Self::Count { min, max, zero } => write!(f, "{min} to {max}{}", zero_text(zero)),
            Self::Bytes { min, max, zero } => {
                write!(f, "bytes, {} to {}{}", show_size(*min), show_size(*max), zero_text(zero))
            }
            Self::Time { min_ms, max_ms, zero, never } => {
                let show = |ms: u64| show_duration(Duration::from_millis(ms));
                let never = if *never { "; \"never\"" } else { "" };
                write!(f, "seconds, {} to {}{}{never}", show(*min_ms), show(*max_ms), zero_text(zero))
            }
        }
    }
}

/// The words in double quotes, with `last` between them.
pub(crate) fn quoted(words: &[&str], between: &str) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(between)
}

/// The key of that name.
pub(crate) fn find(section: Section, name: &str) -> Option<&'static Key> {
    section.keys().find(|key| key.name == name)
}
