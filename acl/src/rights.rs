//! What a principal may do, rule by rule: the summary that people read before they ask about one topic.

use signet_identity::Role;

use crate::claim;
use crate::decision::{RuleId, Subject, Values};
use crate::grammar::AccessWord;
use crate::levels::substituted;
use crate::policy::{Policy, Section, is_dangerous};

/// The most rights that one summary lists.
pub const RIGHTS_SHOWN_MAX: usize = 1000;

/// One rule as it is for one principal, variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// The stage of evaluation that it belongs to: `user sensor-001`, `role device`, `patterns`.
    pub stage: String,
    /// The rule takes away instead of giving, whatever comes after it in its stage and in later ones.
    pub deny: bool,
    /// Messages of these topics may be received, and these topics subscribed to.
    pub read: bool,
    /// These topics may be published to.
    pub write: bool,
    /// The topics, as a filter.
    pub filter: String,
    /// The rule; [`Policy::rule`] tells its file and line.
    pub rule: RuleId,
}

/// The rules that apply to a principal, in the order of evaluation: the first that matches a topic decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// At most [`RIGHTS_SHOWN_MAX`].
    pub rights: Vec<Right>,
    /// How many more there are.
    pub left_out: usize,
}

impl Policy {
    /// The rules that apply to `who`, in the order in which they are considered.
    ///
    /// What no rule can allow (publishing below `$SYS`, for one) is not taken out of the filters.
    #[must_use]
    pub fn rights(&self, who: &Subject<'_>) -> Rights {
        let mut all = Rights::default();
        let (principal, values) = (who.principal, who.values());
        let any = |_| true;
        let taken = |access| access == AccessWord::Deny;
        if principal.role() == Role::Claim {
            // A policy file can only take rights from a claim.
            all.collect(self, "role claim", self.sections.role(Role::Claim), &values, taken, 0);
            all.built_in("built-in rights of claims", &values);
            return all;
        }
        let held = principal.is_quarantined();
        let wanted = |access| !held || taken(access);
        let name = principal.name().as_str();
        let user = self.sections.users.get(name).copied();
        all.collect(self, &format!("user {name}"), user, &values, wanted, 0);
        let groups = principal.groups().iter().map(|group| group.as_str());
        let roles: Vec<&str> = std::iter::once(principal.role().as_str()).chain(groups).collect();
        let stage = format!("role {}", roles.join(", "));
        all.collect(self, &stage, self.sections.of_roles(principal), &values, wanted, 0);
        let patterns = self.sections.patterns.filter(|_| !is_dangerous(&values));
        all.collect(self, "patterns", patterns, &values, wanted, 0);
        let templates = self.rotation_templates();
        if principal.role() == Role::Device && !templates.is_empty() {
            let values = Values { templates: &templates, ..values };
            all.built_in("built-in rights of devices that rotate their certificate", &values);
        }
        if let Some(recovery) = self.recovery.as_ref().filter(|_| held) {
            let patterns = recovery.sections.patterns;
            all.collect(recovery, "quarantine", patterns, &values, any, RuleId::RECOVERY);
        }
        all
    }
}

impl Rights {
    fn built_in(&mut self, stage: &str, values: &Values<'_>) {
        let built_in = claim::policy();
        let section = built_in.sections.role(Role::Claim);
        self.collect(built_in, stage, section, values, |_| true, RuleId::BUILT_IN);
    }

    /// Adds the rules of `sections` that are `wanted`; their ids get the bit `mark`.
    fn collect(
        &mut self,
        policy: &Policy,
        stage: &str,
        sections: impl IntoIterator<Item = Section>,
        values: &Values<'_>,
        wanted: impl Fn(AccessWord) -> bool,
        mark: u32,
    ) {
        let mut rules: Vec<_> = sections
            .into_iter()
            .flat_map(|section| policy.rules_of(section))
            .filter(|(_, rule)| wanted(rule.access))
            .collect();
        rules.sort_by_key(|(id, rule)| (rule.access != AccessWord::Deny, *id));
        for (id, rule) in rules {
            for filter in substituted(policy.shape(rule), values) {
                if self.rights.len() == RIGHTS_SHOWN_MAX {
                    self.left_out += 1;
                    continue;
                }
                self.rights.push(Right {
                    stage: stage.to_owned(),
                    deny: rule.access == AccessWord::Deny,
                    read: matches!(rule.access, AccessWord::Read | AccessWord::ReadWrite),
                    write: matches!(rule.access, AccessWord::Write | AccessWord::ReadWrite),
                    filter,
                    rule: RuleId(id.0 | mark),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use signet_identity::{CertificateId, GroupName, Principal, TemplateName, ThingName};

    use super::*;
    use crate::ParseOptions;

    const POLICY: &str = "topic read never/for/anybody\n\npattern write devices/%u/status\n\nuser sensor-1\ntopic deny devices/sensor-1/secret\n\
        topic readwrite devices/sensor-1/#\n\nrole hall\ntopic read halls/1/#\n\n\
        role claim\ntopic deny $aws/provisioning-templates/t/provision/json\n";

    fn rights(principal: &Principal) -> Vec<(String, bool, bool, bool, String, u32)> {
        let (policy, _) = Policy::parse(POLICY, "acl.conf", &ParseOptions::default()).unwrap();
        let rights = policy.rights(&Subject { principal, client_id: principal.name() });
        assert_eq!(rights.left_out, 0);
        let line = |right: &Right| policy.rule(right.rule).line;
        rights
            .rights
            .iter()
            .map(|r| (r.stage.clone(), r.deny, r.read, r.write, r.filter.clone(), line(r)))
            .collect()
    }

    fn name(text: &str) -> ThingName {
        ThingName::try_from(text).unwrap()
    }

    #[test]
    fn a_device_sees_its_section_its_groups_and_the_patterns_in_order_and_nobody_elses() {
        let hall = GroupName::try_from("hall").unwrap();
        let device = Principal::device(name("sensor-1"), CertificateId::of(b""), vec![hall]);
        let user = "user sensor-1".to_owned();
        assert_eq!(
            rights(&device),
            [
                (user.clone(), true, false, false, "devices/sensor-1/secret".to_owned(), 6),
                (user, false, true, true, "devices/sensor-1/#".to_owned(), 7),
                ("role device, hall".to_owned(), false, true, false, "halls/1/#".to_owned(), 10),
                ("patterns".to_owned(), false, false, true, "devices/sensor-1/status".to_owned(), 3),
            ]
        );
        let other = Principal::device(name("sensor-2"), CertificateId::of(b""), Vec::new());
        assert_eq!(
            rights(&other),
            [("patterns".to_owned(), false, false, true, "devices/sensor-2/status".to_owned(), 3)]
        );
    }

    #[test]
    fn a_device_in_quarantine_keeps_what_takes_away_and_nothing_that_gives() {
        let device = Principal::device(name("sensor-1"), CertificateId::of(b""), Vec::new()).in_quarantine();
        let rights = rights(&device);
        assert_eq!(rights.len(), 1, "{rights:?}");
        assert!(rights[0].1 && rights[0].5 == 6, "{rights:?}");
    }

    #[test]
    fn a_claim_sees_what_is_built_in_and_what_the_file_takes_away() {
        let templates = vec![TemplateName::try_from("t").unwrap()];
        let claim = Principal::claim(name("claim-1"), CertificateId::of(b""), templates);
        let rights = rights(&claim);
        assert_eq!(rights[0].0, "role claim");
        assert!(rights[0].1);
        assert!(rights.len() > 2, "{rights:?}");
        assert!(rights[1..].iter().all(|right| right.0 == "built-in rights of claims"), "{rights:?}");
        assert!(rights.iter().all(|right| !right.4.contains("sensor")), "{rights:?}");
    }
}
