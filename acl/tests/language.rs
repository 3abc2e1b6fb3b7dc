//! The language beside Mosquitto's edges: errors and their places, roles, claims, explanations, findings,
//! differences.

mod support;

use signet_acl::{
    Access, AclErrorKind, Authorized, DenyCause, Outcome, PROBLEMS_MAX, ParseOptions, Policy, Question,
    QuestionError, RuleId, Subject, WarningKind, authorize_broker, diff, lint,
};
use signet_wire::TopicName;
use support::{Ask, LENIENT, claim, device, member, operator, policy, policy_with, topic};

fn parse(text: &str) -> Result<Vec<String>, Vec<String>> {
    match Policy::parse(text, "acl.conf", &ParseOptions::default()) {
        Ok((_, warnings)) => Ok(warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn every_error_is_told_with_its_line_and_column() {
    let text = "\
topics read a
user u
topic red a/b
topic read a/#/b
  # no comment
pattern read a/b
pattern read a/x-%u
user
role claim
topic write x
role Device
";
    assert_eq!(
        parse(text).unwrap_err(),
        [
            "acl.conf:1:1: \"topics\" is not a keyword",
            "acl.conf:3:7: \"red\" is not one of read, write, readwrite, deny",
            "acl.conf:4:12: '#' must stand alone in the last level of a filter",
            "acl.conf:5:3: a comment must begin in the first column",
            "acl.conf:6:14: a pattern without %u, %c or %t applies to everybody",
            "acl.conf:7:16: \"x-%u\": a variable must be a whole level (worked in Mosquitto 2.0, dead in 2.1)",
            "acl.conf:8:1: the name of the user is missing",
            "acl.conf:10:1: the rights of a claim are built in, this section can only take some away",
            "acl.conf:11:6: \"Device\" is not a role or group: the name is that of a built-in role",
        ]
    );
}

#[test]
fn columns_count_characters() {
    let errors = parse("user ä\ntopic read äö/#/b\ntopic äö b\n").unwrap_err();
    assert!(errors[0].starts_with("acl.conf:2:12:"), "{errors:?}");
    assert!(errors[1].starts_with("acl.conf:3:7:"), "{errors:?}");
}

#[test]
fn a_byte_order_mark_and_a_nul_are_errors() {
    let kind =
        |text: &str| Policy::parse(text, "acl.conf", &ParseOptions::default()).unwrap_err()[0].kind.clone();
    assert_eq!(kind("\u{feff}user a\ntopic read x\n"), AclErrorKind::ByteOrderMark);
    assert_eq!(kind("user a\ntopic read x\0y\n"), AclErrorKind::Nul);
}

#[test]
fn the_number_of_reported_errors_is_bounded() {
    let text = "nonsense\n".repeat(PROBLEMS_MAX + 10);
    let errors = parse(&text).unwrap_err();
    assert_eq!(errors.len(), PROBLEMS_MAX + 1);
    assert!(errors.last().unwrap().ends_with("10 more errors"));
}

#[test]
fn crlf_and_a_missing_last_line_feed_are_fine() {
    let policy = policy("# comment\r\nuser u\r\ntopic read a b/c\r\ntopic write d");
    let principal = device("u");
    let ask = Ask::new(&policy, &principal);
    assert!(ask.reads("a b/c") && ask.writes("d") && !ask.reads("a b/c\u{20}"));
}

#[test]
fn suspicious_lines_are_warned_about() {
    let text = "\
topic read a
user a/b
user u
topic read %u/x
pattern read %u/y
topic read $share/g/x
topic $SYS/#
topic write $CONTROL/x
";
    let warnings = parse(text).unwrap();
    let kinds: Vec<&str> = warnings.iter().map(|warning| warning.split_once(": ").unwrap().0).collect();
    assert_eq!(
        kinds,
        [
            "acl.conf:1:1",
            "acl.conf:2:6",
            "acl.conf:4:12",
            "acl.conf:5:1",
            "acl.conf:6:12",
            "acl.conf:7:7",
            "acl.conf:8:13"
        ],
        "{warnings:#?}"
    );
}

#[test]
fn topic_lines_have_no_variables_and_pattern_lines_in_a_role_are_of_the_role_alone() {
    let policy = policy("role meters\ntopic read a/%u\npattern write m/%t/#\nuser u\npattern read p/%u\n");
    let (meter, other) = (member("u", &["meters"]), device("v"));
    let ask = Ask::new(&policy, &meter);
    assert!(ask.reads("a/%u") && !ask.reads("a/u"));
    assert!(ask.writes("m/u/1") && !ask.writes("m/v/1") && !ask.writes("m/%t/1"));
    let ask = Ask::new(&policy, &other);
    assert!(!ask.writes("m/v/1"), "not in the group");
    assert!(ask.reads("p/v"), "a pattern in the section of a user is for everybody");
}

#[test]
fn a_variable_is_one_level_that_is_neither_empty_nor_reserved() {
    let policy = policy("pattern a/%c/b\npattern %c/x\n");
    let principal = device("u");
    for (client_id, topic) in [("", "a//b"), ("$SYS", "$SYS/x"), ("x/y", "a/x/y/b"), ("$aws", "$aws/x")] {
        assert!(!Ask::with_client_id(&policy, &principal, client_id).reads(topic), "{client_id:?}");
    }
    assert!(Ask::with_client_id(&policy, &principal, "$aws").reads("a/$aws/b"));
    assert!(Ask::with_client_id(&policy, &principal, "%u").reads("a/%u/b"));
}

#[test]
fn a_group_section_is_decided_after_the_user_and_before_patterns() {
    let text = "\
pattern read x/%u
pattern deny y/%u
user u
topic read z
role g
topic deny x/#
topic read y/#
topic deny z
role device
topic read x/#
";
    let policy = policy(text);
    let principal = member("u", &["g"]);
    let ask = Ask::new(&policy, &principal);
    assert!(ask.reads("z"), "the user's allow is decided before the group's deny");
    assert!(!ask.reads("x/u"), "the group's deny is decided before the pattern, and before the role's allow");
    assert!(ask.reads("y/u"), "the group's allow is decided before the deny pattern");
}

#[test]
fn a_claim_has_its_built_in_rights_less_what_the_file_denies() {
    let text = "\
pattern %u/#
user batch
topic #
role operator
topic #
role claim
topic deny $aws/certificates/create/+
topic deny $aws/certificates/create/+/+
";
    let policy = policy(text);
    let principal = claim("batch", &["fleet"]);
    let ask = Ask::new(&policy, &principal);
    assert!(!ask.writes("batch/x") && !ask.writes("x") && !ask.reads("x"));
    assert!(!ask.writes("$aws/certificates/create/json"));
    assert!(!ask.subscribes("$aws/certificates/create/json/accepted"));
    assert!(ask.writes("$aws/certificates/create-from-csr/json"));
    let by = ask.write("$aws/certificates/create-from-csr/json").unwrap();
    assert_eq!(policy.rule(by).file, "built-in");
    assert_eq!(policy.rule(by).text, "topic write $aws/certificates/create-from-csr/json");
}

#[test]
fn the_subscriptions_of_a_claim_are_checked_even_where_others_are_not() {
    let unchecked = ParseOptions { subscribe_check: false, ..ParseOptions::default() };
    let policy = policy_with("user u\ntopic read a\n", &unchecked);
    assert_eq!(Ask::new(&policy, &device("u")).subscribe("#"), Ok(RuleId::SUBSCRIBE_UNCHECKED));
    assert!(!Ask::new(&policy, &claim("u", &["fleet"])).subscribes("#"));
}

#[test]
fn a_policy_says_whether_it_needs_client_ids_that_are_bound() {
    assert!(policy("pattern read a/%c\n").uses_client_id());
    assert!(policy("role g\npattern deny a/%c\n").uses_client_id());
    assert!(!policy("pattern read a/%u\nuser u\ntopic read a/%c\n").uses_client_id());
}

#[test]
fn a_message_is_authorized_by_the_right_to_publish_alone() {
    let policy = policy("user u\ntopic read a\ntopic write b\n");
    let principal = device("u");
    let who = Subject { principal: &principal, client_id: "c" };
    let authorized: Authorized<TopicName> = policy.authorize(&who, topic("b")).unwrap();
    assert_eq!(policy.rule(authorized.by()).line, 3);
    assert_eq!(authorized.inner(), &topic("b"));
    let denied = policy.authorize(&who, topic("a")).unwrap_err();
    assert_eq!(denied.because, DenyCause::NoRule);
}

#[test]
fn the_broker_itself_speaks_below_dollar_alone() {
    assert_eq!(authorize_broker(topic("$SYS/broker/uptime")).unwrap().by(), RuleId::BROKER);
    assert!(authorize_broker(topic("devices/a/commands/x")).is_err());
}

#[test]
fn an_explanation_names_the_line_that_decided_and_what_was_considered_before() {
    let text = "\
pattern write devices/%u/status
user admin
topic read #
topic deny devices/+/secret
role operator
topic read $SYS/#
";
    let policy = policy(text);
    let principal = device("sensor-001");
    let who = Subject { principal: &principal, client_id: "c1" };
    let ask = |access, asked| policy.explain(&who, &Question::new(access, asked).unwrap());
    assert_eq!(
        ask(Access::Write, "devices/sensor-001/status").to_string(),
        "device \"sensor-001\" (client id \"c1\") write \"devices/sensor-001/status\": allowed by acl.conf:1\n\
         \x20 user sensor-001: no rules\n\
         \x20 role device: no rules\n\
         \x20 patterns\n\
         \x20   acl.conf:1: pattern write devices/%u/status  -- allows"
    );
    let refused = ask(Access::Read, "devices/sensor-001/status");
    assert!(refused.to_string().contains("refused: no rule allows it"));
    assert_eq!(refused.stages[2].considered[0].outcome, Outcome::OtherAccess);
    assert!(refused.decided_by().is_none());

    let principal = device("admin");
    let who = Subject { principal: &principal, client_id: "c1" };
    let denied = policy.explain(&who, &Question::new(Access::Read, "devices/a/secret").unwrap());
    assert_eq!(denied.decided_by().map(|rule| rule.line), Some(4), "deny comes before the earlier allow");
    assert!(denied.to_string().contains("refused by acl.conf:4"));
    let reserved = policy.explain(&who, &Question::new(Access::Write, "$SYS/x").unwrap());
    assert!(reserved.to_string().contains("reserved to the broker"), "{reserved}");
}

#[test]
fn a_topic_with_wildcards_can_be_asked_about_for_subscribe_alone() {
    assert!(Question::new(Access::Subscribe, "a/+").is_ok());
    assert_eq!(Question::new(Access::Read, "a/+"), Err(QuestionError::Topic("a/+".into())));
    assert!(matches!(Question::new(Access::Subscribe, "a/#/b"), Err(QuestionError::Filter { .. })));
}

#[test]
fn lint_finds_what_never_decides_and_what_a_deny_pattern_does_not_reach() {
    let text = "\
user u
topic deny a/#
topic read a/b
topic read c/#
topic read c/+
topic readwrite c/+
topic deny a/x
topic deny d
role g
topic read e/#
pattern read e/%t
user w
topic read p/w
topic read p/x
pattern deny p/%u
";
    let policy = policy_with(text, &LENIENT);
    let found: Vec<_> = lint(&policy).into_iter().map(|warning| (warning.line, warning.kind)).collect();
    assert_eq!(
        found,
        [
            (3, WarningKind::Denied { by: 2 }),
            (5, WarningKind::Redundant { by: 4 }),
            (7, WarningKind::Redundant { by: 2 }),
            (11, WarningKind::Redundant { by: 10 }),
            (13, WarningKind::BeatsPatternDeny { pattern: 15 }),
        ]
    );
}

fn changes(old: &str, new: &str, principal: &signet_identity::Principal) -> Vec<String> {
    let (old, new) = (policy_with(old, &LENIENT), policy_with(new, &LENIENT));
    let diff = diff(&old, &new, [Subject { principal, client_id: "c" }]);
    assert!(diff.incomplete.is_empty());
    diff.changes.iter().map(ToString::to_string).collect()
}

#[test]
fn a_difference_tells_who_gains_and_who_loses_what() {
    let old = "pattern write d/%u/telemetry/#\nuser admin\ntopic read #\n";
    let new = "pattern write d/%u/#\nuser admin\ntopic read d/#\ntopic deny d/+/secret\n";
    assert_eq!(changes(old, new, &device("s")), ["device:s gains write d/s/#"]);
    let of_admin = ["device:admin loses read #", "device:admin gains write d/admin/#"];
    assert_eq!(changes(old, new, &device("admin")), of_admin);
    assert_eq!(changes(old, old, &device("admin")), Vec::<String>::new());
}

#[test]
fn a_difference_that_only_the_overlap_of_two_rules_shows_is_found() {
    let old = "user u\ntopic read a/+\ntopic deny +/b\n";
    let new = "user u\ntopic read a/+\n";
    assert_eq!(changes(old, new, &device("u")), ["device:u gains read a/b"]);
    assert_eq!(changes(new, old, &device("u")), ["device:u loses read a/b"]);
}

#[test]
fn a_difference_of_groups_concerns_their_members() {
    let old = "role g\ntopic read a\n";
    let new = "role g\ntopic read a\ntopic write b\nrole operator\ntopic read $SYS/#\n";
    assert_eq!(changes(old, new, &member("u", &["g"])), ["device:u gains write b"]);
    assert_eq!(changes(old, new, &device("u")), Vec::<String>::new());
    assert_eq!(changes(old, new, &operator("o")), ["operator:o gains read $SYS/#"]);
}
