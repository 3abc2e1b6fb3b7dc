//! What a policy answers, and about whom.

use std::fmt;

use signet_identity::{Principal, TemplateName};
use signet_wire::TopicName;

/// Who asks: a principal and the client id of its connection.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The principal.
    pub principal: &'a Principal,
    /// The client id, as the connection uses it: what `%c` stands for.
    pub client_id: &'a str,
}

impl<'a> Subject<'a> {
    pub(crate) fn values(&self) -> Values<'a> {
        Values {
            user: self.principal.name(),
            client: self.client_id,
            thing: self.principal.thing().map_or("", |thing| thing.as_str()),
            templates: self.principal.templates(),
        }
    }
}

/// What the variables of a pattern stand for. An empty value matches nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) user: &'a str,
    pub(crate) client: &'a str,
    pub(crate) thing: &'a str,
    pub(crate) templates: &'a [TemplateName],
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// To receive a message of a topic: live, retained or queued.
    Read,
    /// To publish to a topic, a will included.
    Write,
    /// To subscribe with a filter.
    Subscribe,
}

impl Access {
    /// The word for it in metrics and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Subscribe => "subscribe",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The rule that decided. [`Policy::rule`](crate::Policy::rule) of the policy that gave it tells which line that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub(crate) u32);

impl RuleId {
    /// No rule of the file: subscriptions are not checked under this policy.
    pub const SUBSCRIBE_UNCHECKED: Self = Self(u32::MAX);
    /// No rule of the file: the broker itself speaks.
    pub const BROKER: Self = Self(u32::MAX - 1);
    /// Rules of the built-in policy for claims have this bit.
    pub(crate) const BUILT_IN: u32 = 1 << 31;
    /// Rules of the policy for quarantine have this bit, and not that one.
    pub(crate) const RECOVERY: u32 = 1 << 30;
}

/// The line of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleInfo<'a> {
    /// The file, as it was named to [`Policy::parse`](crate::Policy::parse), or `built-in`.
    pub file: &'a str,
    /// The line, counted from 1; 0 when the answer has no line.
    pub line: u32,
    /// The text of the line without surrounding space.
    pub text: &'a str,
}

impl fmt::Display for RuleInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyCause {
    /// Nobody publishes there: below `$SYS` (but for `$SYS/broker/connection/+/state`, which the policy decides),
    /// `$share`, `$CONTROL` and `$aws` (but for the requests of provisioning, by claims and devices); nobody reads these
    /// or below `$share`, and only operators read below `$aws/events`.
    ReservedTopic,
    /// A `deny` rule matches.
    Rule(RuleId),
    /// There are pattern rules, and the client id contains `+` or `#`.
    DangerousName,
    /// The principal is in quarantine, and this is none of its recovery topics.
    Quarantine,
    /// No rule matches.
    NoRule,
}

impl DenyCause {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::ReservedTopic => "reserved_topic",
            Self::Rule(_) => "rule",
            Self::DangerousName => "dangerous_name",
            Self::Quarantine => "quarantine",
            Self::NoRule => "no_rule",
        }
    }
}

/// A refusal. For the peer it is reason code 0x87 (Not authorized) in MQTT 5.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", match because {
    DenyCause::ReservedTopic => "the topic is reserved to the broker",
    DenyCause::Rule(_) => "a deny rule matches",
    DenyCause::DangerousName => "the client id contains a wildcard and the policy has pattern rules",
    DenyCause::Quarantine => "the principal is in quarantine, and this is none of its recovery topics",
    DenyCause::NoRule => "no rule allows it",
})]
pub struct Denied {
    /// Why.
    pub because: DenyCause,
}

impl Denied {
    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        self.because.metric_label()
    }
}

/// Something that is published to a topic.
pub trait Topical {
    /// The topic.
    fn topic(&self) -> &TopicName;
}

impl Topical for TopicName {
    fn topic(&self) -> &TopicName {
        self
    }
}

impl<T: Topical + ?Sized> Topical for std::sync::Arc<T> {
    fn topic(&self) -> &TopicName {
        (**self).topic()
    }
}

/// A `T` that its publisher was allowed to publish, at the moment of the check.
///
/// There is no other way to make one than [`Policy::authorize`](crate::Policy::authorize) and [`authorize_broker`],
/// so a function that takes it cannot be reached by a message that was not checked:
///
/// ```compile_fail
/// fn route(message: signet_acl::Authorized<signet_wire::TopicName>) {}
/// route(signet_acl::Authorized { inner: "a".try_into().unwrap(), by: signet_acl::RuleId::BROKER });
/// ```
#[derive(Debug)]
#[must_use = "an authorized message that is not routed is lost"]
pub struct Authorized<T> {
    inner: T,
    by: RuleId,
}

impl<T> Authorized<T> {
    pub(crate) const fn new(inner: T, by: RuleId) -> Self {
        Self { inner, by }
    }

    /// What was authorized.
    pub const fn inner(&self) -> &T {
        &self.inner
    }

    /// What was authorized. The proof is given up.
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// The rule that allowed it.
    pub const fn by(&self) -> RuleId {
        self.by
    }
}

/// Authorizes what the broker itself says, which is below `$` and nowhere else: `$SYS/...`, `$aws/...`.
///
/// # Errors
/// [`DenyCause::NoRule`] when the topic does not begin with `$`: the broker has no voice in the topics of its
/// clients.
pub fn authorize_broker<T: Topical>(message: T) -> Result<Authorized<T>, Denied> {
    if message.topic().is_reserved() {
        Ok(Authorized::new(message, RuleId::BROKER))
    } else {
        Err(Denied { because: DenyCause::NoRule })
    }
}
