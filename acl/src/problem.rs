//! What is wrong, or suspicious, in the text of a policy.

use std::fmt;
use std::sync::Arc;

use signet_identity::NameError;
use signet_wire::{FilterError, TextError};

/// The most errors, and the most warnings, that are reported for one policy; one more says how many were left out.
pub const PROBLEMS_MAX: usize = 1000;

/// A line that is not understood. A policy with one is refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {kind}")]
pub struct AclError {
    /// The file, as it was named to [`Policy::parse`](crate::Policy::parse).
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
    /// The character in the line, counted from 1.
    pub column: u32,
    /// What is wrong.
    pub kind: AclErrorKind,
}

impl AclError {
    /// What to do about it, in one sentence.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        self.kind.hint()
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AclErrorKind {
    /// The text is longer than [`POLICY_BYTES_MAX`](crate::POLICY_BYTES_MAX).
    #[error("the policy has {bytes} bytes, at most {} are allowed", crate::POLICY_BYTES_MAX)]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The text begins with a byte order mark.
    #[error("the file begins with a byte order mark")]
    ByteOrderMark,
    /// The line contains U+0000.
    #[error("the line contains a NUL character")]
    Nul,
    /// The first word is none of the keywords.
    #[error("{word:?} is not a keyword")]
    Keyword {
        /// The word, cut off when it is long.
        word: String,
    },
    /// A comment that does not begin in the first column.
    #[error("a comment must begin in the first column")]
    IndentedComment,
    /// A tab where only a space separates words.
    #[error("a tab does not separate words")]
    Tab,
    /// `user` without a name.
    #[error("the name of the user is missing")]
    UserMissing,
    /// `role` without a name.
    #[error("the name of the role is missing")]
    RoleMissing,
    /// `role` with something that is neither a role nor a name of a group.
    #[error("{name:?} is not a role or group: {why}")]
    Role {
        /// The name, cut off when it is long.
        name: String,
        /// Why.
        why: NameError,
    },
    /// `topic` or `pattern` alone.
    #[error("the topic is missing")]
    TopicMissing,
    /// A word before the topic that is not an access word.
    #[error("{word:?} is not one of read, write, readwrite, deny")]
    Access {
        /// The word, cut off when it is long.
        word: String,
    },
    /// The topic is not a topic filter.
    #[error("{why}")]
    Filter {
        /// Why.
        why: FilterError,
    },
    /// The topic is longer than MQTT's strings, or contains a character that no topic contains, such as a tab.
    #[error("no topic of a message looks like this: {why}")]
    Text {
        /// Why.
        why: TextError,
    },
    /// The filter has more than [`LEVELS_MAX`](crate::LEVELS_MAX) levels.
    #[error("the filter has {levels} levels, at most {} are allowed", crate::LEVELS_MAX)]
    Levels {
        /// How many it has.
        levels: usize,
    },
    /// A pattern that does not depend on who asks.
    #[error("a pattern without %u, %c or %t applies to everybody")]
    PatternWithoutVariable,
    /// `%u` or `%c` as a part of a level.
    #[error("{level:?}: a variable must be a whole level (worked in Mosquitto 2.0, dead in 2.1)")]
    MidLevelVariable {
        /// The level, cut off when it is long.
        level: String,
    },
    /// A rule for claims that is not `deny`.
    #[error("the rights of a claim are built in, this section can only take some away")]
    ClaimGrant,
    /// There are more errors than are reported.
    #[error("{count} more errors")]
    More {
        /// How many.
        count: usize,
    },
}

impl AclErrorKind {
    /// What to do about it, in one sentence.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => {
                "use pattern rules or role sections in place of one section for each device"
            }
            Self::ByteOrderMark => "save the file as UTF-8 without a byte order mark",
            Self::Nul => "remove the NUL character",
            Self::Keyword { .. } => "a line begins with topic, pattern, user, role, or # for a comment",
            Self::IndentedComment => "remove the space before #",
            Self::Tab => "use spaces in place of tabs",
            Self::UserMissing => "write the name behind: user NAME",
            Self::RoleMissing => {
                "write the name behind: role device, role claim, role operator, or role GROUP"
            }
            Self::Role { .. } => {
                "the roles are device, claim and operator; a group has a name of letters, digits and . _ : -"
            }
            Self::TopicMissing => "write the access word and the topic behind: topic read TOPIC",
            Self::Access { .. } => {
                "write read, write, readwrite or deny before the topic; a topic with spaces needs one of them"
            }
            Self::Filter { .. } => {
                "+ stands for one whole level, # for all further levels and only at the end"
            }
            Self::Text { .. } => {
                "remove control characters (a tab, most often) from the topic, and keep it below 65536 bytes"
            }
            Self::Levels { .. } => "use fewer levels, or # in their place",
            Self::PatternWithoutVariable => {
                "use a whole level %u, %c or %t, write a role section, or allow such patterns in the configuration"
            }
            Self::MidLevelVariable { .. } => {
                "put the variable into a level of its own, as in devices/%u/status"
            }
            Self::ClaimGrant => "use deny, or remove the line",
            Self::More { .. } => "correct the errors above first",
        }
    }
}

/// Something that is allowed and probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file, as it was named to [`Policy::parse`](crate::Policy::parse).
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
    /// The character in the line, counted from 1.
    pub column: u32,
    /// What is suspicious.
    pub kind: WarningKind,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.kind)
    }
}

/// What is suspicious about a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WarningKind {
    /// `topic read` and the like.
    #[error("this gives read and write access to the topic {word:?}; an access word needs a topic behind it")]
    AccessWordIsTopic {
        /// The topic.
        word: String,
    },
    /// A `topic` rule before the first section.
    #[error(
        "rules before the first user are for clients without a name, and every client of this broker has one"
    )]
    AnonymousRule,
    /// A section for a name that no certificate can give.
    #[error("no certificate can give the name {name:?}, so this section is never used")]
    ImpossibleUser {
        /// The name.
        name: String,
    },
    /// A variable in a `topic` rule.
    #[error("{variable} stands for itself in a topic rule; only pattern rules have variables")]
    LiteralVariable {
        /// The variable.
        variable: &'static str,
    },
    /// A pattern that does not depend on who asks (allowed by option).
    #[error("a pattern without %u, %c or %t applies to everybody")]
    PatternWithoutVariable,
    /// A variable as a part of a level (allowed by option).
    #[error(
        "{level:?} matches only itself: a variable must be a whole level (worked in Mosquitto 2.0, dead in 2.1)"
    )]
    MidLevelVariable {
        /// The level.
        level: String,
    },
    /// A pattern in a section of a user.
    #[error("a pattern applies to everybody, also when it stands in the section of a user")]
    PatternInUserSection,
    /// A filter that begins with `$share`.
    #[error(
        "$share is not part of the topic of any message; give access to the filter behind the share name"
    )]
    Share,
    /// A right to write that is never given.
    #[error("nobody publishes below $SYS and $CONTROL; only $SYS/broker/connection/+/state can be allowed")]
    ReservedWrite,
    /// There is no rule.
    #[error("there is no rule, so everything is refused")]
    Empty,
    /// The rule is hidden by an earlier `deny` of its section.
    #[error("this never allows anything: line {by} denies all of it")]
    Denied {
        /// The line of the rule that denies.
        by: u32,
    },
    /// The rule adds nothing to an earlier one of its section.
    #[error("this adds nothing to line {by}")]
    Redundant {
        /// The line of the earlier rule.
        by: u32,
    },
    /// An `allow` of a section is decided before a pattern's `deny`.
    #[error("this is decided before the deny pattern of line {pattern}, which does not take it away")]
    BeatsPatternDeny {
        /// The line of the pattern.
        pattern: u32,
    },
    /// There are more warnings than are reported.
    #[error("{count} more warnings")]
    More {
        /// How many.
        count: usize,
    },
}

/// A list that counts what goes beyond its bound.
pub(crate) struct Bounded<T> {
    pub(crate) items: Vec<T>,
    pub(crate) left_out: usize,
}

impl<T> Bounded<T> {
    pub(crate) const fn new() -> Self {
        Self { items: Vec::new(), left_out: 0 }
    }

    pub(crate) fn push(&mut self, item: T) {
        if self.items.len() < PROBLEMS_MAX {
            self.items.push(item);
        } else {
            self.left_out += 1;
        }
    }
}

impl Bounded<Warning> {
    pub(crate) fn into_warnings(mut self, file: &Arc<str>) -> Vec<Warning> {
        if self.left_out > 0 {
            let kind = WarningKind::More { count: self.left_out };
            self.items.push(Warning { file: Arc::clone(file), line: 0, column: 0, kind });
        }
        self.items
    }
}

impl Bounded<AclError> {
    pub(crate) fn into_errors(mut self, file: &Arc<str>) -> Vec<AclError> {
        if self.left_out > 0 {
            let kind = AclErrorKind::More { count: self.left_out };
            self.items.push(AclError { file: Arc::clone(file), line: 0, column: 0, kind });
        }
        self.items
    }
}

/// At most 64 characters of `text`, for messages.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}
