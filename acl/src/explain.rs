//! Why a question is decided as it is: every rule that was considered, in order.

use std::fmt;

use signet_identity::Role;
use signet_wire::{FilterError, Text, TopicFilter, TopicName};

use crate::claim;
use crate::decision::{Access, Denied, RuleId, Subject, Values};
use crate::grammar::AccessWord;
use crate::policy::{Policy, Rule, Section, is_dangerous};
use crate::reserved::{is_provisioning, is_reserved};

/// The most rules that one stage of an explanation lists when they do not match.
const RULES_SHOWN_MAX: usize = 200;

/// Why a text cannot be asked about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The text is not a topic, for read and write.
    #[error("{0:?} is not a topic: it must be 1 to 65535 bytes without + and #")]
    Topic(String),
    /// The text is not a filter, for subscribe.
    #[error("{text:?} is not a topic filter: {why}")]
    Filter {
        /// The text.
        text: String,
        /// Why.
        why: FilterError,
    },
}

/// An access and the topic, or for [`Access::Subscribe`] the filter, that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    access: Access,
    asked: Text,
}

impl Question {
    /// Asks for `access` to `topic_or_filter`.
    ///
    /// # Errors
    /// [`QuestionError`] when the text is not a topic, or a filter, as the access needs it.
    pub fn new(access: Access, topic_or_filter: &str) -> Result<Self, QuestionError> {
        let asked = match access {
            Access::Read | Access::Write => TopicName::try_from(topic_or_filter)
                .map_err(|_| QuestionError::Topic(topic_or_filter.to_owned()))?
                .into_text(),
            Access::Subscribe => TopicFilter::try_from(topic_or_filter)
                .map_err(|why| QuestionError::Filter { text: topic_or_filter.to_owned(), why })?
                .into_text(),
        };
        Ok(Self { access, asked })
    }

    /// The access.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// The topic or filter.
    #[must_use]
    pub fn asked(&self) -> &str {
        &self.asked
    }
}

/// What became of a rule that was considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It decides: allowed.
    Allows,
    /// It decides: refused.
    Denies,
    /// It matches, and gives another access than the one that is asked for.
    OtherAccess,
    /// It does not match; for a subscription, it does not cover the filter.
    NoMatch,
    /// A variable in it stands for nothing with this principal.
    NoValue,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allows => "allows",
            Self::Denies => "denies",
            Self::OtherAccess => "matches, for another access",
            Self::NoMatch => "does not match",
            Self::NoValue => "does not match: a variable has no value here",
        })
    }
}

/// A rule that was considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// The rule.
    pub rule: RuleId,
    /// Its file.
    pub file: String,
    /// Its line, counted from 1.
    pub line: u32,
    /// The text of the line.
    pub text: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// One stage of the order of evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Which one: `user sensor-001`, `role device`, `patterns`.
    pub name: String,
    /// A word on the stage as a whole.
    pub note: Option<&'static str>,
    /// The rules in the order in which they were considered, up to the one that decides.
    pub considered: Vec<Considered>,
    /// How many more were considered, did not match and are not listed.
    pub left_out: usize,
}

impl Stage {
    fn new(name: String) -> Self {
        Self { name, note: None, considered: Vec::new(), left_out: 0 }
    }

    fn noted(name: String, note: &'static str) -> Self {
        Self { note: Some(note), ..Self::new(name) }
    }

    fn decides(&self) -> bool {
        (self.considered.last()).is_some_and(|last| matches!(last.outcome, Outcome::Allows | Outcome::Denies))
    }
}

/// A decision and how it came about. Its `Display` is the text of `signet acl why`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Who asks.
    pub who: String,
    /// What is asked.
    pub question: Question,
    /// The decision.
    pub verdict: Result<RuleId, Denied>,
    /// The stages up to the decision.
    pub stages: Vec<Stage>,
}

impl Explanation {
    /// The rule that decided, if one did.
    #[must_use]
    pub fn decided_by(&self) -> Option<&Considered> {
        let last = self.stages.last()?;
        last.decides().then(|| last.considered.last()).flatten()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let question = &self.question;
        write!(f, "{} {} {:?}: ", self.who, question.access, question.asked())?;
        match (&self.verdict, self.decided_by()) {
            (Ok(_), Some(rule)) => write!(f, "allowed by {}:{}", rule.file, rule.line)?,
            (Err(_), Some(rule)) => write!(f, "refused by {}:{}", rule.file, rule.line)?,
            (Ok(_), None) => f.write_str("allowed: subscriptions are not checked")?,
            (Err(denied), None) => write!(f, "refused: {denied}")?,
        }
        for stage in &self.stages {
            write!(f, "\n  {}", stage.name)?;
            if let Some(note) = stage.note {
                write!(f, ": {note}")?;
            }
            for rule in &stage.considered {
                write!(f, "\n    {}:{}: {}  -- {}", rule.file, rule.line, rule.text, rule.outcome)?;
            }
            if stage.left_out > 0 {
                write!(f, "\n    and {} more that do not match", stage.left_out)?;
            }
        }
        Ok(())
    }
}

impl Policy {
    /// Decides about `question` and tells every rule that was considered, in order.
    #[must_use]
    pub fn explain(&self, who: &Subject<'_>, question: &Question) -> Explanation {
        let (access, asked) = (question.access, question.asked());
        let principal = who.principal;
        Explanation {
            who: format!("{} {:?} (client id {:?})", principal.role(), principal.name(), who.client_id),
            question: question.clone(),
            verdict: self.decide(who, access, asked),
            stages: self.stages(who, access, asked),
        }
    }

    fn stages(&self, who: &Subject<'_>, access: Access, asked: &str) -> Vec<Stage> {
        let principal = who.principal;
        if is_reserved(principal.role(), access, asked) {
            let note = "nobody publishes below $SYS, $share, $CONTROL and $aws (but requests of provisioning), or reads \
                        these or $share; $aws/events is for operators";
            return vec![Stage::noted("reserved topics".to_owned(), note)];
        }
        let asking = Asking { access, asked, values: who.values() };
        if principal.role() == Role::Claim {
            return self.claim_stages(&asking);
        }
        if principal.is_quarantined() {
            return self.quarantine_stages(&asking);
        }
        if access == Access::Subscribe && !self.options().subscribe_check {
            return vec![Stage::noted("subscriptions".to_owned(), "not checked, delivery is")];
        }
        let mut stages = Vec::new();
        let name = format!("user {}", principal.name());
        let user = self.sections.users.get(principal.name().as_str());
        stages.push(asking.stage(self, name, user.copied()));
        if stages.iter().any(Stage::decides) {
            return stages;
        }
        let names = principal.groups().iter().map(|group| group.as_str());
        let names: Vec<&str> = std::iter::once(principal.role().as_str()).chain(names).collect();
        stages.push(asking.stage(
            self,
            format!("role {}", names.join(", ")),
            self.sections.of_roles(principal),
        ));
        if stages.iter().any(Stage::decides) {
            return stages;
        }
        let patterns = self.sections.patterns;
        stages.push(if patterns.is_some() && is_dangerous(&asking.values) {
            Stage::noted("patterns".to_owned(), "not considered, the client id contains a wildcard")
        } else {
            asking.stage(self, "patterns".to_owned(), patterns)
        });
        if principal.role() == Role::Device && is_provisioning(asked) && !stages.iter().any(Stage::decides) {
            let templates = self.rotation_templates();
            if !templates.is_empty() {
                let asking =
                    Asking { access, asked, values: Values { templates: &templates, ..asking.values } };
                stages.push(asking.built_in("built-in rights of devices that rotate their certificate"));
            }
        }
        stages
    }

    /// A principal in quarantine: the rules of the file can only deny, which is not listed here.
    fn quarantine_stages(&self, asking: &Asking<'_>) -> Vec<Stage> {
        let mut stages = Vec::new();
        let templates = self.rotation_templates();
        if is_provisioning(asking.asked) && !templates.is_empty() {
            let values = Values { templates: &templates, ..asking.values };
            stages.push(
                Asking { values, ..*asking }
                    .built_in("built-in rights of devices that rotate their certificate"),
            );
        }
        if !stages.iter().any(Stage::decides) {
            stages.push(match &self.recovery {
                Some(recovery) => asking.stage(recovery, "quarantine".to_owned(), recovery.sections.patterns),
                None => Stage::noted("quarantine".to_owned(), "no recovery topics"),
            });
        }
        stages
    }

    fn claim_stages(&self, asking: &Asking<'_>) -> Vec<Stage> {
        let own =
            asking.stage(self, "role claim (it can only deny)".to_owned(), self.sections.role(Role::Claim));
        if own.decides() {
            return vec![own];
        }
        vec![own, asking.built_in("built-in rights of claims")]
    }
}

struct Asking<'a> {
    access: Access,
    asked: &'a str,
    values: Values<'a>,
}

impl Asking<'_> {
    /// Considers the built-in rules of provisioning.
    fn built_in(&self, name: &str) -> Stage {
        let built_in = claim::policy();
        self.stage(built_in, name.to_owned(), built_in.sections.role(Role::Claim))
    }

    /// Considers the rules of `sections` as one list: `deny` rules first, then the others, both in the order of the
    /// file.
    fn stage(&self, policy: &Policy, name: String, sections: impl IntoIterator<Item = Section>) -> Stage {
        let mut rules: Vec<_> = sections.into_iter().flat_map(|section| policy.rules_of(section)).collect();
        if rules.is_empty() {
            return Stage::noted(name, "no rules");
        }
        rules.sort_by_key(|(id, rule)| (rule.access != AccessWord::Deny, *id));
        let mut stage = Stage::new(name);
        for (id, rule) in rules {
            let outcome = self.outcome(policy, rule);
            let decides = matches!(outcome, Outcome::Allows | Outcome::Denies);
            if !decides && stage.considered.len() >= RULES_SHOWN_MAX {
                stage.left_out += 1;
                continue;
            }
            let info = policy.rule(id);
            stage.considered.push(Considered {
                rule: id,
                file: info.file.to_owned(),
                line: info.line,
                text: info.text.to_owned(),
                outcome,
            });
            if decides {
                break;
            }
        }
        stage
    }

    fn outcome(&self, policy: &Policy, rule: &Rule) -> Outcome {
        let shape = policy.shape(rule);
        if shape.variables().any(|variable| !variable.is_set(&self.values)) {
            return Outcome::NoValue;
        }
        if !shape.covers(self.asked, &self.values) {
            return Outcome::NoMatch;
        }
        let write = self.access == Access::Write;
        match rule.access {
            AccessWord::Deny => Outcome::Denies,
            AccessWord::ReadWrite => Outcome::Allows,
            AccessWord::Write if write => Outcome::Allows,
            AccessWord::Read if !write => Outcome::Allows,
            AccessWord::Read | AccessWord::Write => Outcome::OtherAccess,
        }
    }
}
