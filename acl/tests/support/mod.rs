//! What the tests of this crate share: principals, policies, and questions as one-liners.

#![expect(dead_code, reason = "each test binary uses a part of it")]

use signet_acl::{Denied, ParseOptions, Policy, RuleId, Subject};
use signet_identity::{CertificateId, GroupName, Principal, TemplateName, ThingName};
use signet_wire::{TopicFilter, TopicName};

/// Mosquitto's own leniency: what a file that Mosquitto accepts is read with.
pub(crate) const LENIENT: ParseOptions = ParseOptions {
    subscribe_check: true,
    allow_pattern_without_variable: true,
    allow_mid_level_variable: true,
};

pub(crate) fn policy(text: &str) -> Policy {
    policy_with(text, &ParseOptions::default())
}

pub(crate) fn policy_with(text: &str, options: &ParseOptions) -> Policy {
    match Policy::parse(text, "acl.conf", options) {
        Ok((policy, _)) => policy,
        Err(errors) => panic!("{text}\n{errors:?}"),
    }
}

fn name(text: &str) -> ThingName {
    ThingName::try_from(text).expect("a test's name is in the grammar")
}

fn groups(names: &[&str]) -> Vec<GroupName> {
    names.iter().map(|name| GroupName::try_from(*name).expect("a test's group is in the grammar")).collect()
}

pub(crate) fn device(text: &str) -> Principal {
    member(text, &[])
}

pub(crate) fn member(text: &str, of: &[&str]) -> Principal {
    Principal::device(name(text), CertificateId::of(text.as_bytes()), groups(of))
}

pub(crate) fn operator(text: &str) -> Principal {
    Principal::operator(name(text), CertificateId::of(text.as_bytes()), Vec::new())
}

pub(crate) fn operator_in(text: &str, of: &[&str]) -> Principal {
    Principal::operator(name(text), CertificateId::of(text.as_bytes()), groups(of))
}

pub(crate) fn claim(text: &str, templates: &[&str]) -> Principal {
    let template = |text: &&str| TemplateName::try_from(*text).expect("a test's template is in the grammar");
    let templates = templates.iter().map(template).collect();
    Principal::claim(name(text), CertificateId::of(text.as_bytes()), templates)
}

pub(crate) fn topic(text: &str) -> TopicName {
    TopicName::try_from(text).expect("a test's topic is one")
}

pub(crate) fn filter(text: &str) -> TopicFilter {
    TopicFilter::try_from(text).expect("a test's filter is one")
}

/// A policy and a subject, to ask about.
pub(crate) struct Ask<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) who: Subject<'a>,
}

impl<'a> Ask<'a> {
    /// The client id is the principal's name.
    pub(crate) fn new(policy: &'a Policy, principal: &'a Principal) -> Self {
        Self::with_client_id(policy, principal, principal.name())
    }

    pub(crate) fn with_client_id(policy: &'a Policy, principal: &'a Principal, client_id: &'a str) -> Self {
        Self { policy, who: Subject { principal, client_id } }
    }

    pub(crate) fn write(&self, text: &str) -> Result<RuleId, Denied> {
        self.policy.may_publish(&self.who, &topic(text))
    }

    pub(crate) fn read(&self, text: &str) -> Result<RuleId, Denied> {
        self.policy.may_receive(&self.who, &topic(text))
    }

    pub(crate) fn subscribe(&self, text: &str) -> Result<RuleId, Denied> {
        self.policy.may_subscribe(&self.who, &filter(text))
    }

    pub(crate) fn writes(&self, text: &str) -> bool {
        self.write(text).is_ok()
    }

    pub(crate) fn reads(&self, text: &str) -> bool {
        self.read(text).is_ok()
    }

    pub(crate) fn subscribes(&self, text: &str) -> bool {
        self.subscribe(text).is_ok()
    }
}
