//! A compiled policy and its decisions.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use signet_identity::{Principal, Role, TemplateName};
use signet_wire::{TopicFilter, TopicName};

use crate::claim;
use crate::compile::{self, ParseOptions};
use crate::decision::{Access, Authorized, Denied, DenyCause, RuleId, RuleInfo, Subject, Topical, Values};
use crate::grammar::AccessWord;
use crate::levels::Shape;
use crate::problem::{AclError, Warning};
use crate::reserved::{is_provisioning, is_reserved};
use crate::trie::{Effect, Hits, NONE, Trie};

/// A line of the policy. Spans are (start, length) in bytes of the source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) line: u32,
    pub(crate) text: (u32, u32),
    pub(crate) filter: (u32, u32),
    pub(crate) access: AccessWord,
    pub(crate) pattern: bool,
}

impl Rule {
    pub(crate) fn shape<'a>(&self, source: &'a str, built_in: bool) -> Shape<'a> {
        Shape { filter: span(source, self.filter), pattern: self.pattern, built_in }
    }

    pub(crate) const fn effect(&self) -> Effect {
        match self.access {
            AccessWord::Deny => Effect::Deny,
            AccessWord::Read => Effect::Allow { read: true, write: false },
            AccessWord::Write => Effect::Allow { read: false, write: true },
            AccessWord::ReadWrite => Effect::Allow { read: true, write: true },
        }
    }
}

fn span(source: &str, (start, length): (u32, u32)) -> &str {
    let start = start as usize;
    source.get(start..start + length as usize).unwrap_or_default()
}

/// Whom the rules of a section are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SectionKey {
    Anonymous,
    User(Box<str>),
    Role(Role),
    Group(Box<str>),
    Patterns,
}

/// A section: the root of its trie, and its rules in the order of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    pub(crate) root: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

type ByName = HashMap<Box<str>, Section, foldhash::fast::RandomState>;

/// The sections by what they are looked up with.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    pub(crate) anonymous: Option<Section>,
    pub(crate) patterns: Option<Section>,
    pub(crate) roles: [Option<Section>; 3],
    pub(crate) users: ByName,
    pub(crate) groups: ByName,
}

impl Sections {
    pub(crate) fn insert(&mut self, key: SectionKey, section: Section) {
        match key {
            SectionKey::Anonymous => self.anonymous = Some(section),
            SectionKey::Patterns => self.patterns = Some(section),
            SectionKey::Role(role) => self.roles[role as usize] = Some(section),
            SectionKey::User(name) => {
                self.users.insert(name, section);
            }
            SectionKey::Group(name) => {
                self.groups.insert(name, section);
            }
        }
    }

    pub(crate) fn role(&self, role: Role) -> Option<Section> {
        self.roles[role as usize]
    }

    /// The sections of the principal's role and groups.
    pub(crate) fn of_roles<'a>(&'a self, principal: &'a Principal) -> impl Iterator<Item = Section> + 'a {
        let groups = principal.groups().iter().filter_map(|group| self.groups.get(group.as_str()).copied());
        self.role(principal.role()).into_iter().chain(groups)
    }
}

/// A compiled access policy: immutable, and shared between threads.
///
/// A decision allocates nothing, and its cost grows with the levels of the topic and with the rules of the sections
/// that apply, not with the number of sections or of principals.
#[derive(Debug)]
pub struct Policy {
    pub(crate) source: Box<str>,
    pub(crate) file: Arc<str>,
    pub(crate) options: ParseOptions,
    pub(crate) built_in: bool,
    pub(crate) rules: Box<[Rule]>,
    pub(crate) trie: Trie,
    pub(crate) sections: Sections,
    pub(crate) uses_client_id: bool,
    /// The templates by which devices may ask for their own next certificate. Looked at for provisioning topics alone.
    pub(crate) rotation: RwLock<Arc<[TemplateName]>>,
    /// What there is in quarantine, by its pattern rules.
    pub(crate) recovery: Option<Arc<Policy>>,
}

impl Policy {
    /// Compiles `text`. `file` is the name that errors, warnings and explanations show.
    ///
    /// # Errors
    /// Every line that is not understood, up to [`PROBLEMS_MAX`](crate::PROBLEMS_MAX). There is no policy of the
    /// remaining lines: a broken line may be a `deny`.
    pub fn parse(
        text: &str,
        file: &str,
        options: &ParseOptions,
    ) -> Result<(Self, Vec<Warning>), Vec<AclError>> {
        compile::parse(text, file, options, false)
    }

    /// The policy that refuses everything to everybody: what an empty file is too.
    #[must_use]
    pub fn deny_all() -> Self {
        Self {
            source: "".into(),
            file: "built-in".into(),
            options: ParseOptions::default(),
            built_in: false,
            rules: Box::new([]),
            trie: Trie::default(),
            sections: Sections::default(),
            uses_client_id: false,
            rotation: RwLock::default(),
            recovery: None,
        }
    }

    /// Whether `who` may publish to `topic`.
    ///
    /// # Errors
    /// [`Denied`] with the cause.
    pub fn may_publish(&self, who: &Subject<'_>, topic: &TopicName) -> Result<RuleId, Denied> {
        self.decide(who, Access::Write, topic)
    }

    /// Whether `who` may be given a message of `topic`: live, retained or queued.
    ///
    /// # Errors
    /// [`Denied`] with the cause.
    pub fn may_receive(&self, who: &Subject<'_>, topic: &TopicName) -> Result<RuleId, Denied> {
        self.decide(who, Access::Read, topic)
    }

    /// Whether `who` may subscribe with `filter`, which is without `$share/group/`.
    ///
    /// Granted if and only if one rule that allows reading covers the filter (every topic that the filter can match
    /// is matched by the rule), and no `deny` rule that comes before it in the order of evaluation covers the
    /// filter. A `deny` rule for a part of the filter takes effect at delivery, so a grant does not mean that
    /// everything is delivered: [`may_receive`](Self::may_receive) decides each message. Every topic of a granted
    /// filter is either readable or denied by a rule. A filter that only several rules together cover is refused.
    ///
    /// Under a policy without subscribe check the answer is [`RuleId::SUBSCRIBE_UNCHECKED`], but for claims and for a
    /// principal in quarantine.
    ///
    /// # Errors
    /// [`Denied`] with the cause.
    pub fn may_subscribe(&self, who: &Subject<'_>, filter: &TopicFilter) -> Result<RuleId, Denied> {
        self.decide(who, Access::Subscribe, filter)
    }

    /// Turns a message into one that may be routed, if `who` may publish to its topic.
    ///
    /// # Errors
    /// [`Denied`] with the cause.
    pub fn authorize<T: Topical>(&self, who: &Subject<'_>, message: T) -> Result<Authorized<T>, Denied> {
        let by = self.may_publish(who, message.topic())?;
        Ok(Authorized::new(message, by))
    }

    /// The line of a rule of this policy.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> RuleInfo<'_> {
        let other = |text| RuleInfo { file: "built-in", line: 0, text };
        match id {
            RuleId::SUBSCRIBE_UNCHECKED => other("subscriptions are not checked (subscribe-check is off)"),
            RuleId::BROKER => other("the broker itself"),
            RuleId(id) if id & RuleId::RECOVERY != 0 && id & RuleId::BUILT_IN == 0 => match &self.recovery {
                Some(recovery) => recovery.rule(RuleId(id & !RuleId::RECOVERY)),
                None => other("a rule of another policy"),
            },
            RuleId(id) if id & RuleId::BUILT_IN != 0 && !self.built_in => {
                claim::policy().rule(RuleId(id & !RuleId::BUILT_IN))
            }
            RuleId(id) => match self.rules.get(id as usize) {
                Some(rule) => RuleInfo {
                    file: if self.built_in { "built-in" } else { &self.file },
                    line: rule.line,
                    text: span(&self.source, rule.text),
                },
                None => other("a rule of another policy"),
            },
        }
    }

    /// Whether a rule uses `%c`. A client chooses its client id freely, so such a policy belongs only on a listener
    /// that binds the client id to the identity.
    #[must_use]
    pub const fn uses_client_id(&self) -> bool {
        self.uses_client_id
    }

    /// The options that the policy was compiled with.
    #[must_use]
    pub const fn options(&self) -> &ParseOptions {
        &self.options
    }

    /// Sets the templates by which devices may ask for their own next certificate. While there is one, every device has the
    /// built-in rights of provisioning for these templates, besides what the rules give it and less what they deny.
    pub fn set_rotation_templates(&self, templates: Arc<[TemplateName]>) {
        *self.rotation.write().unwrap_or_else(PoisonError::into_inner) = templates;
    }

    /// The templates by which devices may ask for their own next certificate.
    #[must_use]
    pub fn rotation_templates(&self) -> Arc<[TemplateName]> {
        Arc::clone(&self.rotation.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many rules there are.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// The names that have a `user` section, in no particular order.
    pub fn user_names(&self) -> impl Iterator<Item = &str> {
        self.sections.users.keys().map(AsRef::as_ref)
    }

    /// Decides about `asked`: a topic, or for [`Access::Subscribe`] a filter.
    pub(crate) fn decide(&self, who: &Subject<'_>, access: Access, asked: &str) -> Result<RuleId, Denied> {
        let role = who.principal.role();
        if is_reserved(role, access, asked) {
            return Err(Denied { because: DenyCause::ReservedTopic });
        }
        let values = who.values();
        if role == Role::Claim {
            return self.decide_claim(access, asked, &values);
        }
        if who.principal.is_quarantined() {
            return self.decide_in_quarantine(who, access, asked, &values);
        }
        if access == Access::Subscribe && !self.options.subscribe_check {
            return Ok(RuleId::SUBSCRIBE_UNCHECKED);
        }
        match self.decide_by_rules(who, access, asked, &values) {
            Err(denied) if role == Role::Device && !matches!(denied.because, DenyCause::Rule(_)) => {
                self.decide_rotation(access, asked, &values).unwrap_or(Err(denied))
            }
            answer => answer,
        }
    }

    pub(crate) fn decide_by_rules(
        &self,
        who: &Subject<'_>,
        access: Access,
        asked: &str,
        values: &Values<'_>,
    ) -> Result<RuleId, Denied> {
        let hits = |section: Section| self.hits(section, access, asked, values);
        let user = self.sections.users.get(who.principal.name().as_str()).copied();
        if let Some(answer) = user.and_then(|section| answer(hits(section))) {
            return answer;
        }
        let roles =
            self.sections.of_roles(who.principal).fold(Hits::NONE, |all, section| all.and(hits(section)));
        if let Some(answer) = answer(roles) {
            return answer;
        }
        let Some(patterns) = self.sections.patterns else {
            return Err(Denied { because: DenyCause::NoRule });
        };
        if is_dangerous(values) {
            return Err(Denied { because: DenyCause::DangerousName });
        }
        answer(hits(patterns)).unwrap_or(Err(Denied { because: DenyCause::NoRule }))
    }

    /// What a device has besides the rules: the provisioning topics, while there are templates for its rotation.
    pub(crate) fn decide_rotation(
        &self,
        access: Access,
        asked: &str,
        values: &Values<'_>,
    ) -> Option<Result<RuleId, Denied>> {
        if !is_provisioning(asked) {
            return None;
        }
        let templates = self.rotation_templates();
        if templates.is_empty() {
            return None;
        }
        self.decide_built_in(access, asked, &Values { templates: &templates, ..*values })
    }

    /// A claim has the built-in rights, less what its section of the file denies. Nothing else of the file applies
    /// to it.
    fn decide_claim(&self, access: Access, asked: &str, values: &Values<'_>) -> Result<RuleId, Denied> {
        let own = self.sections.role(Role::Claim).map(|section| self.hits(section, access, asked, values));
        if let Some(denied) = own.and_then(answer).filter(Result::is_err) {
            return denied;
        }
        self.decide_built_in(access, asked, values).unwrap_or(Err(Denied { because: DenyCause::NoRule }))
    }

    /// What the built-in rules of provisioning say.
    fn decide_built_in(
        &self,
        access: Access,
        asked: &str,
        values: &Values<'_>,
    ) -> Option<Result<RuleId, Denied>> {
        let built_in = claim::policy();
        let section = built_in.sections.role(Role::Claim)?;
        match answer(built_in.hits(section, access, asked, values))? {
            Ok(RuleId(id)) => Some(Ok(RuleId(id | RuleId::BUILT_IN))),
            Err(_) => None,
        }
    }

    pub(crate) fn hits(&self, section: Section, access: Access, asked: &str, values: &Values<'_>) -> Hits {
        self.trie.walk(&self.source, section.root, asked, access == Access::Write, values)
    }

    pub(crate) fn shape(&self, rule: &Rule) -> Shape<'_> {
        rule.shape(&self.source, self.built_in)
    }

    /// The rules of a section with their ids, in the order of the file.
    pub(crate) fn rules_of(&self, section: Section) -> impl DoubleEndedIterator<Item = (RuleId, &Rule)> {
        let rules = self.rules.get(section.start as usize..section.end as usize).unwrap_or_default();
        (section.start..section.end).map(RuleId).zip(rules)
    }
}

/// What a list of rules says: any `deny` first, then any other.
pub(crate) fn answer(hits: Hits) -> Option<Result<RuleId, Denied>> {
    match hits {
        Hits { deny: NONE, allow: NONE } => None,
        Hits { deny: NONE, allow } => Some(Ok(RuleId(allow))),
        Hits { deny, .. } => Some(Err(Denied { because: DenyCause::Rule(RuleId(deny)) })),
    }
}

/// Whether a name could be taken for a wildcard. A principal's name never can; a client id can.
pub(crate) fn is_dangerous(values: &Values<'_>) -> bool {
    values.client.contains(['+', '#']) || values.user.contains(['+', '#'])
}
