//! The edges of Mosquitto's `acl_file`, each as Mosquitto 2.0.22 (M0) and 2.1 (M1) have it, and where this engine
//! differs.
//!
//! The numbers are those of the list that the broker's manual of access control gives. Vectors that no policy
//! decides have their tests elsewhere: 13 and 14 (what a denied PUBLISH is answered with) in the session core, 15
//! to 17 (two names, NUL, no name) with the identity, 19 and 20 (revocation lists) with the TLS verifier.

mod support;

use signet_acl::{AclErrorKind, Denied, DenyCause, ParseOptions, Policy, WarningKind};
use signet_identity::{NameError, ThingName};
use support::{Ask, LENIENT, device, operator, policy, policy_with};

const NO_RULE: Denied = Denied { because: DenyCause::NoRule };

fn error(text: &str) -> AclErrorKind {
    let errors = Policy::parse(text, "acl.conf", &ParseOptions::default()).expect_err("the text is broken");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].kind.clone()
}

#[test]
fn vector_01_an_empty_file_refuses_everything() {
    let (policy, warnings) = Policy::parse("", "acl.conf", &ParseOptions::default()).unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].kind, WarningKind::Empty);
    let principal = device("a");
    for policy in [policy, Policy::deny_all()] {
        let ask = Ask::new(&policy, &principal);
        assert_eq!(ask.write("x"), Err(NO_RULE));
        assert_eq!(ask.read("x"), Err(NO_RULE));
        assert_eq!(ask.subscribe("x"), Err(NO_RULE));
    }
}

#[test]
fn vector_02_a_lone_access_word_is_a_topic_to_read_and_write() {
    let text = "user a\ntopic read\n";
    let (policy, warnings) = Policy::parse(text, "acl.conf", &ParseOptions::default()).unwrap();
    assert_eq!(warnings[0].to_string().split_once(": this gives").unwrap().0, "acl.conf:2:7");
    let principal = device("a");
    let ask = Ask::new(&policy, &principal);
    assert!(ask.reads("read") && ask.writes("read"));
    assert!(!ask.reads("x") && !ask.writes("x"));
}

#[test]
fn vector_03_a_tab_after_the_keyword_is_an_error() {
    assert_eq!(error("topic\tread a"), AclErrorKind::Tab);
    assert_eq!(error("user\ta"), AclErrorKind::Tab);
}

#[test]
fn vector_04_an_allow_of_the_user_beats_a_deny_pattern() {
    let policy = policy_with("pattern deny a/b\npattern read %u\nuser u\ntopic a/#\n", &LENIENT);
    let (u, v) = (device("u"), device("v"));
    assert!(Ask::new(&policy, &u).writes("a/b"));
    assert!(!Ask::new(&policy, &v).writes("a/b"));
}

#[test]
fn vector_05_a_deny_of_the_user_beats_an_allow_pattern() {
    let policy = policy_with("pattern a/#\nuser u\ntopic deny a/b\n", &LENIENT);
    let (u, v) = (device("u"), device("v"));
    assert!(!Ask::new(&policy, &u).writes("a/b"));
    assert!(Ask::new(&policy, &u).writes("a/c"));
    assert!(Ask::new(&policy, &v).writes("a/b"));
}

#[test]
fn vector_06_rules_before_the_first_user_are_not_for_a_client_with_a_name() {
    let text = "topic read x\n";
    let (policy, warnings) = Policy::parse(text, "acl.conf", &ParseOptions::default()).unwrap();
    assert_eq!(warnings[0].kind, WarningKind::AnonymousRule);
    let principal = device("u");
    assert_eq!(Ask::new(&policy, &principal).read("x"), Err(NO_RULE));
}

#[test]
fn vector_07_a_leading_wildcard_does_not_reach_below_dollar() {
    let policy = policy("user u\ntopic readwrite #\ntopic readwrite +/x\nuser v\ntopic $hall/#\n");
    let (u, v) = (device("u"), device("v"));
    let ask = Ask::new(&policy, &u);
    assert!(ask.writes("x/y") && ask.reads("x/y"));
    assert!(!ask.writes("$aws/x") && !ask.reads("$aws/x") && !ask.subscribes("$aws/x"));
    assert!(!ask.subscribes("$aws/#") && ask.subscribes("#"));
    assert!(Ask::new(&policy, &v).writes("$hall/x"));
}

#[test]
fn vector_07_a_deny_with_a_leading_wildcard_does_not_reach_below_dollar_either() {
    let policy = policy("user u\ntopic deny #\ntopic read $SYS/#\n");
    let principal = device("u");
    let ask = Ask::new(&policy, &principal);
    assert!(ask.reads("$SYS/broker/uptime"));
    assert!(!ask.reads("x"));
}

#[test]
fn vector_08_a_name_with_a_slash_is_not_a_name_and_a_client_id_with_one_matches_nothing() {
    // M0 lets the holder of the name a/b write to d/a/b/c; M1 does not.
    assert!(matches!(ThingName::try_from("a/b"), Err(NameError::Character { found: '/', .. })));
    let policy = policy("pattern d/%c/#\n");
    let principal = device("u");
    let ask = Ask::with_client_id(&policy, &principal, "a/b");
    assert!(!ask.writes("d/a/b/c") && !ask.writes("d/a/b") && !ask.subscribes("d/a/b/#"));
    assert!(Ask::with_client_id(&policy, &principal, "a").writes("d/a/b/c"));
}

#[test]
fn vector_09_a_variable_that_is_not_a_whole_level_is_an_error_and_under_the_switch_matches_only_itself() {
    let text = "pattern dev-%u/x\n";
    assert_eq!(error(text), AclErrorKind::MidLevelVariable { level: "dev-%u".into() });
    let (policy, warnings) = Policy::parse(text, "acl.conf", &LENIENT).unwrap();
    assert_eq!(warnings[0].kind, WarningKind::MidLevelVariable { level: "dev-%u".into() });
    assert!(warnings[0].to_string().contains("worked in Mosquitto 2.0, dead in 2.1"));
    let principal = device("a");
    let ask = Ask::new(&policy, &principal);
    assert!(!ask.writes("dev-a/x"));
    assert!(ask.writes("dev-%u/x"));
}

#[test]
fn vector_10_a_name_with_a_wildcard_is_not_a_name_and_a_client_id_with_one_reaches_no_pattern() {
    assert!(matches!(ThingName::try_from("a+b"), Err(NameError::Character { found: '+', .. })));
    let policy = policy("pattern x/%u\nuser u\ntopic read y\n");
    let principal = device("u");
    for client_id in ["a+b", "+", "#", "a#"] {
        let ask = Ask::with_client_id(&policy, &principal, client_id);
        assert_eq!(ask.write("x/u"), Err(Denied { because: DenyCause::DangerousName }));
        assert_eq!(ask.subscribe("x/u"), Err(Denied { because: DenyCause::DangerousName }));
        assert!(ask.reads("y"), "a rule of the user is decided before");
    }
    assert!(Ask::with_client_id(&policy, &principal, "a").writes("x/u"));
}

#[test]
fn vector_11_a_deny_pattern_with_a_variable_that_has_no_value_is_skipped() {
    // Here every client has a name, so %u always has a value; an operator is no thing, so %t can be without one.
    let policy = policy_with("pattern deny %t/x\npattern read +/x\n", &LENIENT);
    assert!(Ask::new(&policy, &operator("o")).reads("o/x"));
    assert!(!Ask::new(&policy, &device("o")).reads("o/x"));
}

#[test]
fn vector_12_a_subscription_without_read_right_is_refused_and_under_the_switch_granted_but_not_delivered() {
    let text = "pattern write a/%u\n";
    let principal = device("u");
    let checked = policy(text);
    assert_eq!(Ask::new(&checked, &principal).subscribe("a/u"), Err(NO_RULE));
    let unchecked = policy_with(text, &ParseOptions { subscribe_check: false, ..ParseOptions::default() });
    let ask = Ask::new(&unchecked, &principal);
    assert!(ask.subscribes("a/u") && ask.subscribes("#"));
    assert!(!ask.reads("a/u"));
}

#[test]
fn vector_18_nobody_publishes_below_sys_whatever_the_policy_says() {
    let policy = policy("user u\ntopic write $SYS/#\ntopic write $SYSTEM\ntopic read $SYS/#\n");
    let principal = device("u");
    let ask = Ask::new(&policy, &principal);
    let reserved = Err(Denied { because: DenyCause::ReservedTopic });
    for topic in
        ["$SYS/x", "$SYS", "$SYSTEM", "$SYS/broker/connection/a/b/state", "$SYS/broker/connection/state"]
    {
        assert_eq!(ask.write(topic), reserved, "{topic}");
    }
    assert!(ask.reads("$SYS/x"));
    assert!(ask.writes("$SYS/broker/connection/bridge/state"), "a bridge says here whether it is connected");
    let other = device("v");
    assert!(!Ask::new(&policy, &other).writes("$SYS/broker/connection/bridge/state"));
}

#[test]
fn vector_18_nobody_uses_share_or_control_as_a_topic() {
    let policy = policy("user u\ntopic $share/#\ntopic $CONTROL/#\n");
    let principal = device("u");
    let ask = Ask::new(&policy, &principal);
    assert!(!ask.writes("$share/g/x") && !ask.reads("$share/g/x") && !ask.subscribes("$share/g/x"));
    assert!(!ask.writes("$CONTROL/dynamic-security/v1"));
}

#[test]
fn vector_21_a_client_id_with_a_wildcard_does_not_match_its_pattern() {
    let policy = policy("pattern x/%c\n");
    let principal = device("u");
    let ask = Ask::with_client_id(&policy, &principal, "a#");
    assert_eq!(ask.write("x/a"), Err(Denied { because: DenyCause::DangerousName }));
    // As a filter, x/+ must not be taken for the client's own topic.
    assert!(!Ask::with_client_id(&policy, &principal, "+").subscribes("x/+"));
    assert!(!Ask::with_client_id(&policy, &principal, "#").subscribes("x/#"));
}

#[test]
fn vector_22_a_repeated_user_section_merges_with_the_earlier_one() {
    let policy = policy("user u\ntopic read a\nuser v\ntopic read b\nuser u\ntopic read c\ntopic deny a/x\n");
    let principal = device("u");
    let ask = Ask::new(&policy, &principal);
    assert!(ask.reads("a") && ask.reads("c") && !ask.reads("b") && !ask.reads("a/x"));
}

#[test]
fn vector_23_space_around_a_name_in_the_file_is_cut_off_and_no_certificate_gives_a_name_with_space() {
    let policy = policy("user   bob  \r\ntopic read a\n");
    assert!(Ask::new(&policy, &device("bob")).reads("a"));
    assert!(matches!(ThingName::try_from("bob "), Err(NameError::Character { found: ' ', .. })));
}
