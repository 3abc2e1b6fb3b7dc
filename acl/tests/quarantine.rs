//! What a principal in quarantine may do: its recovery topics, and nothing that the rest of the policy gives.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::sync::Arc;

use signet_acl::{Access, DenyCause, ParseOptions, Policy, Question, Subject};
use signet_identity::{CertificateId, Principal, TemplateName, ThingName};
use signet_wire::{TopicFilter, TopicName};

const FILE: &str = "\
user sensor-1
topic readwrite shared/#
topic deny devices/sensor-1/certs/secret

role device
topic readwrite all/#

pattern readwrite devices/%u/#
";

fn policy(text: &str, options: &ParseOptions) -> Policy {
    let recovery = "pattern readwrite devices/%u/certs/#\n";
    let recovery = Policy::parse(recovery, "recovery-topics", &ParseOptions::default()).unwrap().0;
    Policy::parse(text, "test.acl", options).unwrap().0.with_recovery(Arc::new(recovery))
}

fn device() -> Principal {
    let name = ThingName::try_from("sensor-1").unwrap();
    Principal::device(name, CertificateId::of(b"c"), Vec::new())
}

fn publish(policy: &Policy, who: &Principal, client_id: &str, topic: &str) -> Result<(), DenyCause> {
    let topic = TopicName::try_from(topic).unwrap();
    let answer = policy.may_publish(&Subject { principal: who, client_id }, &topic);
    answer.map(drop).map_err(|denied| denied.because)
}

fn subscribe(policy: &Policy, who: &Principal, filter: &str) -> Result<(), DenyCause> {
    let filter = TopicFilter::try_from(filter).unwrap();
    let answer = policy.may_subscribe(&Subject { principal: who, client_id: "c" }, &filter);
    answer.map(drop).map_err(|denied| denied.because)
}

#[test]
fn only_the_recovery_topics_of_its_own_name_are_left() {
    let policy = policy(FILE, &ParseOptions::default());
    let (free, held) = (device(), device().in_quarantine());
    for topic in ["shared/a", "all/a", "devices/sensor-1/status", "devices/sensor-1/certs"] {
        assert_eq!(publish(&policy, &free, "c", topic), Ok(()), "{topic}");
    }
    for topic in ["shared/a", "all/a", "devices/sensor-1/status", "devices/sensor-2/certs/rotate", "other"] {
        assert_eq!(publish(&policy, &held, "c", topic), Err(DenyCause::Quarantine), "{topic}");
    }
    assert_eq!(publish(&policy, &held, "c", "devices/sensor-1/certs/rotate"), Ok(()));
    assert_eq!(subscribe(&policy, &held, "devices/sensor-1/certs/#"), Ok(()));
    assert_eq!(subscribe(&policy, &held, "devices/sensor-1/#"), Err(DenyCause::Quarantine));
    assert_eq!(subscribe(&policy, &held, "#"), Err(DenyCause::Quarantine));
    assert_eq!(publish(&policy, &held, "c", "$SYS/x"), Err(DenyCause::ReservedTopic));
}

#[test]
fn a_deny_rule_holds_in_quarantine_too() {
    let policy = policy(FILE, &ParseOptions::default());
    let denied = publish(&policy, &device().in_quarantine(), "c", "devices/sensor-1/certs/secret");
    assert!(matches!(denied, Err(DenyCause::Rule(_))), "{denied:?}");
}

#[test]
fn a_client_identifier_with_a_wildcard_reaches_nothing() {
    let policy = policy(FILE, &ParseOptions::default());
    let denied = publish(&policy, &device().in_quarantine(), "+", "devices/sensor-1/certs/rotate");
    assert_eq!(denied, Err(DenyCause::Quarantine));
}

#[test]
fn subscriptions_are_checked_in_quarantine_in_any_case() {
    let options = ParseOptions { subscribe_check: false, ..ParseOptions::default() };
    let policy = policy(FILE, &options);
    assert_eq!(subscribe(&policy, &device(), "#"), Ok(()));
    assert_eq!(subscribe(&policy, &device().in_quarantine(), "#"), Err(DenyCause::Quarantine));
}

#[test]
fn the_way_to_a_new_certificate_stays_open_while_there_is_one() {
    let policy = policy(FILE, &ParseOptions::default());
    let held = device().in_quarantine();
    let ask = "$aws/certificates/create-from-csr/json";
    assert_eq!(publish(&policy, &held, "c", ask), Err(DenyCause::Quarantine));
    policy.set_rotation_templates([TemplateName::try_from("renew").unwrap()].into());
    assert_eq!(publish(&policy, &held, "c", ask), Ok(()));
    assert_eq!(subscribe(&policy, &held, "$aws/certificates/create-from-csr/json/+"), Ok(()));
    assert_eq!(publish(&policy, &held, "c", "$aws/provisioning-templates/renew/provision/json"), Ok(()));
    let other = publish(&policy, &held, "c", "$aws/provisioning-templates/other/provision/json");
    assert_eq!(other, Err(DenyCause::Quarantine));
    assert_eq!(publish(&policy, &held, "c", "devices/sensor-1/status"), Err(DenyCause::Quarantine));
}

#[test]
fn an_explanation_names_the_rule_or_the_quarantine() {
    let policy = policy(FILE, &ParseOptions::default());
    let held = device().in_quarantine();
    let who = Subject { principal: &held, client_id: "c" };
    let allowed = Question::new(Access::Write, "devices/sensor-1/certs/x").unwrap();
    let explained = policy.explain(&who, &allowed);
    let rule = policy.rule(explained.verdict.unwrap());
    assert_eq!((rule.file, rule.text), ("recovery-topics", "pattern readwrite devices/%u/certs/#"));
    assert!(explained.decided_by().is_some_and(|rule| rule.file == "recovery-topics"), "{explained}");
    let refused = policy.explain(&who, &Question::new(Access::Read, "shared/a").unwrap());
    assert!(refused.to_string().contains("in quarantine"), "{refused}");
}
