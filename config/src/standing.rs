//! `[revocation]`, `[standing]` and `[clones]`: what follows when a certificate is no longer what it was.

use std::num::NonZeroU32;
use std::time::Duration;

use signet_acl::{ParseOptions, Policy};

/// The most patterns in one list of topics.
pub const TOPIC_PATTERNS_MAX: usize = 64;

/// Topics by pattern, as a `pattern` rule of a policy has them: `%u` fills one level with the name of whom it is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicPatterns(Vec<String>);

impl TopicPatterns {
    /// Checks each pattern.
    ///
    /// # Errors
    /// What is wrong with the first wrong one, or that there are more than [`TOPIC_PATTERNS_MAX`].
    pub fn new(patterns: Vec<String>) -> Result<Self, String> {
        if patterns.len() > TOPIC_PATTERNS_MAX {
            return Err(format!("at most {TOPIC_PATTERNS_MAX} topics can be listed"));
        }
        for pattern in &patterns {
            if pattern.is_empty() || pattern.trim() != pattern || pattern.contains(char::is_control) {
                return Err(format!("{pattern:?} is not a topic pattern"));
            }
            let policy = compile(std::slice::from_ref(pattern), "write")
                .map_err(|why| format!("{pattern:?} is not a topic pattern: {why}"))?;
            if policy.uses_client_id() {
                return Err(format!(
                    "{pattern:?} uses %c: a client chooses its client id, so only %u can say whose topic it is"
                ));
            }
        }
        Ok(Self(patterns))
    }

    /// The patterns as they were written.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// The policy under which everybody may publish to the topics of its name that the patterns name, and nothing else.
    #[must_use]
    pub fn policy(&self) -> Policy {
        // Each line was compiled when the list was made.
        compile(&self.0, "write").unwrap_or_else(|_| Policy::deny_all())
    }

    /// The policy under which everybody may read and publish to those topics of its name.
    #[must_use]
    pub fn recovery(&self) -> Policy {
        compile(&self.0, "readwrite").unwrap_or_else(|_| Policy::deny_all())
    }
}

fn compile(patterns: &[String], access: &str) -> Result<Policy, String> {
    let text: String = patterns.iter().map(|pattern| format!("pattern {access} {pattern}\n")).collect();
    match Policy::parse(&text, "pattern", &ParseOptions::default()) {
        Ok((policy, _)) => Ok(policy),
        Err(errors) => Err(errors.first().map_or_else(String::new, |error| error.kind.to_string())),
    }
}

/// `[revocation]`: what follows when the last certificate of a name is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its wills.
    pub will: WillOfRevoked,
    /// Its retained messages.
    pub retained: RetainedOfRevoked,
    /// Its sessions, with their subscriptions and queues.
    pub session: SessionOfRevoked,
}

/// What becomes of the will of somebody whose certificate is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WillOfRevoked {
    /// It is not sent.
    Suppress,
    /// It is sent when the connection closes, judged by the policy.
    Send,
}

/// What becomes of the retained messages of somebody whose certificate is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetainedOfRevoked {
    /// Those on topics of these patterns are removed.
    Status(TopicPatterns),
    /// All are removed.
    All,
    /// All are kept.
    Keep,
}

/// What becomes of the sessions of somebody whose certificate is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOfRevoked {
    /// They end, and what is queued in them is dropped.
    Delete,
    /// They wait for the next certificate of that name, until they expire.
    Keep,
}

/// `[standing]`: what a certificate may do that is no longer quite good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingRules {
    /// How long after its end a device's certificate may connect into quarantine; zero: not at all.
    pub expired_grace: Duration,
    /// What may be read and written in quarantine, besides the rotation topics below `$aws`.
    pub recovery_topics: TopicPatterns,
    /// The longest that a peer which is refused again and again waits; `None`: nobody waits.
    pub refused_pause_max: Option<Duration>,
}

/// `[clones]`: how one certificate in two hands is noticed, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clones {
    /// What follows.
    pub action: CloneAction,
    /// How many returns make a clone.
    pub returns: NonZeroU32,
    /// Within what time.
    pub within: Duration,
}

/// What follows when a certificate seems to be in two hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneAction {
    /// Nobody looks.
    Off,
    /// It is logged, counted and noted in the audit trail.
    Alarm,
    /// Besides, its thing goes into quarantine.
    Quarantine,
}
