//! Each policy that is shipped: it loads without a warning, grants what it is for, and refuses what is next to it.

mod support;

use signet_acl::{ParseOptions, Policy, lint};
use support::{Ask, claim, device, member, operator, operator_in};

fn shipped(text: &str, file: &str) -> Policy {
    let (policy, warnings) =
        Policy::parse(text, file, &ParseOptions::default()).expect("a shipped policy is correct");
    assert_eq!(warnings, [], "{file}");
    assert_eq!(lint(&policy), [], "{file}");
    policy
}

fn lesson_and_default() -> [Policy; 2] {
    [
        shipped(include_str!("../policies/lesson.acl"), "lesson.acl"),
        shipped(include_str!("../policies/default.acl"), "default.acl"),
    ]
}

#[test]
fn lesson_and_default_let_a_device_write_its_own_telemetry_and_status_and_nobody_elses() {
    for policy in lesson_and_default() {
        let principal = device("sensor-001");
        let ask = Ask::new(&policy, &principal);
        assert!(ask.writes("devices/sensor-001/telemetry/temperature"));
        assert!(ask.writes("devices/sensor-001/telemetry"), "# stands for its parent too");
        assert!(ask.writes("devices/sensor-001/status"));
        for refused in [
            "devices/sensor-002/telemetry/temperature",
            "devices/sensor-002/status",
            "devices/sensor-001/status/x",
            "devices/sensor-001/commands/reboot",
            "devices/sensor-001",
            "devices/sensor-0011/status",
            "Devices/sensor-001/status",
            "/devices/sensor-001/status",
            "x/devices/sensor-001/status",
            "devices//status",
        ] {
            assert!(!ask.writes(refused), "{refused}");
        }
    }
}

#[test]
fn lesson_and_default_let_a_device_read_its_own_commands_and_nothing_else() {
    for policy in lesson_and_default() {
        let principal = device("sensor-001");
        let ask = Ask::new(&policy, &principal);
        assert!(ask.reads("devices/sensor-001/commands/reboot"));
        for granted in
            ["devices/sensor-001/commands/#", "devices/sensor-001/commands/+", "devices/sensor-001/commands"]
        {
            assert!(ask.subscribes(granted), "{granted}");
        }
        for refused in [
            "devices/sensor-002/commands/reboot",
            "devices/sensor-001/telemetry/x",
            "devices/sensor-001/status",
        ] {
            assert!(!ask.reads(refused) && !ask.subscribes(refused), "{refused}");
        }
        for refused in [
            "#",
            "devices/#",
            "devices/+/commands/#",
            "+/sensor-001/commands/#",
            "devices/sensor-001/#",
            "$SYS/#",
        ] {
            assert!(!ask.subscribes(refused), "{refused}");
        }
    }
}

#[test]
fn lesson_and_default_let_admin_read_everything_and_write_commands_alone() {
    for policy in lesson_and_default() {
        let principal = device("admin");
        let ask = Ask::new(&policy, &principal);
        assert!(ask.reads("devices/sensor-001/telemetry/x") && ask.subscribes("#"));
        assert!(ask.writes("devices/sensor-001/commands/reboot"));
        assert!(!ask.writes("devices/sensor-001/telemetry/x"));
        assert!(!ask.writes("devices/sensor-001/status"));
        assert!(!ask.reads("$SYS/broker/uptime") && !ask.subscribes("$SYS/#"));
        let namesake = device("admin2");
        assert!(!Ask::new(&policy, &namesake).subscribes("#"));
    }
}

#[test]
fn a_claim_with_the_name_admin_has_none_of_its_rights() {
    for policy in lesson_and_default() {
        let principal = claim("admin", &["fleet"]);
        let ask = Ask::new(&policy, &principal);
        assert!(!ask.reads("devices/x/status") && !ask.subscribes("#"));
        assert!(!ask.writes("devices/x/commands/reboot") && !ask.writes("devices/admin/status"));
        assert!(ask.writes("$aws/certificates/create/json"));
    }
}

#[test]
fn default_lets_operators_read_below_sys_and_devices_not() {
    let [lesson, default] = lesson_and_default();
    let operator = operator("olga");
    let ask = Ask::new(&default, &operator);
    assert!(ask.reads("$SYS/broker/uptime") && ask.subscribes("$SYS/#"));
    assert!(!ask.writes("$SYS/broker/uptime"));
    assert!(!Ask::new(&lesson, &operator).reads("$SYS/broker/uptime"));
    assert!(!Ask::new(&default, &device("olga")).reads("$SYS/broker/uptime"));
}

#[test]
fn every_policy_lets_a_device_hear_its_own_commands_and_what_concerns_its_certificate() {
    let [lesson, default] = lesson_and_default();
    let groups = shipped(include_str!("../policies/groups.acl"), "groups.acl");
    for (policy, name) in [(lesson, "lesson"), (default, "default"), (groups, "groups")] {
        let principal = device("sensor-001");
        let ask = Ask::new(&policy, &principal);
        for level in ["commands", "certs"] {
            let (own, others) =
                (format!("devices/sensor-001/{level}"), format!("devices/sensor-002/{level}"));
            assert!(
                ask.subscribes(&format!("{own}/#")) && ask.reads(&format!("{own}/rotate")),
                "{name} {level}"
            );
            assert!(
                !ask.subscribes(&format!("{others}/#")) && !ask.reads(&format!("{others}/rotate")),
                "{name}"
            );
            assert!(!ask.subscribes(&format!("devices/+/{level}/#")), "{name} {level}");
            assert!(!ask.writes(&format!("{own}/rotate")), "{name} {level}");
        }
    }
}

#[test]
fn groups_give_a_thing_the_rights_of_its_role_and_groups_and_no_others() {
    let policy = shipped(include_str!("../policies/groups.acl"), "groups.acl");
    let (plain, meter) = (device("t1"), member("t1", &["meters"]));
    let valve = member("t1", &["valves"]);
    for thing in [&plain, &meter, &valve] {
        let ask = Ask::new(&policy, thing);
        assert!(ask.writes("devices/t1/status") && ask.subscribes("devices/t1/commands/#"));
        assert!(!ask.writes("devices/t2/status") && !ask.subscribes("devices/t2/commands/#"));
        assert!(!ask.subscribes("devices/#") && !ask.reads("$SYS/broker/uptime"));
    }
    assert!(Ask::new(&policy, &meter).writes("devices/t1/readings/1"));
    assert!(!Ask::new(&policy, &meter).writes("devices/t2/readings/1"));
    assert!(!Ask::new(&policy, &plain).writes("devices/t1/readings/1"));
    assert!(!Ask::new(&policy, &valve).writes("devices/t1/readings/1"));
    assert!(Ask::new(&policy, &valve).subscribes("sites/north/valves/position"));
    assert!(!Ask::new(&policy, &valve).writes("sites/north/valves/position"));
    assert!(!Ask::new(&policy, &meter).subscribes("sites/north/valves/position"));
}

#[test]
fn groups_take_rights_away_in_quarantine_whatever_else_a_thing_is_in() {
    let policy = shipped(include_str!("../policies/groups.acl"), "groups.acl");
    let principal = member("t1", &["meters", "quarantine", "valves"]);
    let ask = Ask::new(&policy, &principal);
    assert!(ask.writes("devices/t1/status"));
    assert!(!ask.writes("devices/t1/readings/1"));
    assert!(!ask.subscribes("sites/north/valves/position") && !ask.reads("sites/north/valves/position"));
}

#[test]
fn groups_let_operators_read_devices_and_command_them() {
    let policy = shipped(include_str!("../policies/groups.acl"), "groups.acl");
    let principal = operator_in("olga", &[]);
    let ask = Ask::new(&policy, &principal);
    assert!(
        ask.subscribes("devices/#") && ask.writes("devices/t1/commands/open") && ask.subscribes("$SYS/#")
    );
    assert!(!ask.writes("devices/t1/status") && !ask.writes("devices/olga/status"));
}

#[test]
fn a_claim_may_ask_for_its_own_templates_and_read_the_answers_and_nothing_else() {
    let policy = Policy::deny_all();
    let principal = claim("batch-7", &["fleet", "pilot"]);
    let ask = Ask::new(&policy, &principal);
    for format in ["json", "cbor"] {
        for request in [
            format!("$aws/certificates/create/{format}"),
            format!("$aws/certificates/create-from-csr/{format}"),
            format!("$aws/provisioning-templates/fleet/provision/{format}"),
            format!("$aws/provisioning-templates/pilot/provision/{format}"),
        ] {
            assert!(ask.writes(&request), "{request}");
            assert!(!ask.reads(&request) && !ask.subscribes(&request), "{request}");
            for answer in ["accepted", "rejected"] {
                let answer = format!("{request}/{answer}");
                assert!(ask.reads(&answer) && ask.subscribes(&answer), "{answer}");
                assert!(!ask.writes(&answer), "{answer}");
            }
            assert!(ask.subscribes(&format!("{request}/+")));
            assert!(ask.subscribes(&format!("{request}/#")));
        }
    }
    for refused in [
        "$aws/provisioning-templates/other/provision/json",
        "$aws/provisioning-templates/%template/provision/json",
        "$aws/certificates/create/xml",
        "$aws/things/batch-7/shadow/update",
        "devices/batch-7/status",
    ] {
        assert!(!ask.writes(refused), "{refused}");
    }
    for refused in [
        "#",
        "$aws/#",
        "$aws/certificates/#",
        "$aws/certificates/create/#",
        "$aws/certificates/create/+/accepted",
        "$aws/provisioning-templates/+/provision/json/+",
        "$aws/events/#",
        "$SYS/#",
    ] {
        assert!(!ask.subscribes(refused), "{refused}");
    }
    let without = claim("batch-8", &[]);
    assert!(!Ask::new(&policy, &without).writes("$aws/provisioning-templates/fleet/provision/json"));
    let device = device("batch-7");
    assert!(!Ask::new(&policy, &device).writes("$aws/certificates/create/json"));
}

#[test]
fn operators_watch_connections_and_command_rotations() {
    let policy = shipped(include_str!("../policies/default.acl"), "default.acl");
    let (olga, sensor) = (operator("olga"), device("sensor-001"));
    let (olga, sensor) = (Ask::new(&policy, &olga), Ask::new(&policy, &sensor));
    assert!(olga.subscribes("$aws/events/#") && olga.reads("$aws/events/presence/connected/x"));
    assert!(!sensor.subscribes("$aws/events/#") && !sensor.reads("$aws/events/presence/connected/x"));
    assert!(olga.writes("devices/sensor-001/certs/rotate") && !olga.writes("devices/sensor-001/certs/x"));
    assert!(sensor.subscribes("devices/sensor-001/certs/rotate"));
    assert!(!sensor.writes("devices/sensor-001/certs/rotate"));
    assert!(!sensor.subscribes("devices/sensor-002/certs/rotate"));
}

#[test]
fn a_device_may_ask_for_its_next_certificate_only_while_there_is_a_template_for_rotation() {
    let policy = shipped(include_str!("../policies/default.acl"), "default.acl");
    let principal = device("sensor-001");
    let own = ["$aws/certificates/create-from-csr/json", "$aws/provisioning-templates/renew/provision/cbor"];
    for request in own {
        assert!(!Ask::new(&policy, &principal).writes(request), "{request}");
    }
    policy.set_rotation_templates(["renew".try_into().unwrap()].into());
    let ask = Ask::new(&policy, &principal);
    for request in own {
        assert!(ask.writes(request), "{request}");
        for answer in ["accepted", "rejected", "+", "#"] {
            assert!(ask.subscribes(&format!("{request}/{answer}")), "{request}/{answer}");
        }
        assert!(!ask.subscribes(request) && !ask.writes(&format!("{request}/accepted")));
    }
    let by = ask.write(own[0]).unwrap();
    assert_eq!(policy.rule(by).file, "built-in");
    assert!(!ask.writes("$aws/provisioning-templates/fleet/provision/json"));
    assert!(!ask.subscribes("$aws/provisioning-templates/fleet/provision/json/accepted"));
    assert!(
        !Ask::new(&policy, &operator("olga")).writes(own[0]),
        "an operator has no certificate to renew here"
    );
    policy.set_rotation_templates([].into());
    assert!(!Ask::new(&policy, &principal).writes(own[0]));
}

#[test]
fn what_the_file_denies_a_device_it_does_not_get_for_its_rotation() {
    let text = "role device\ntopic deny $aws/certificates/create/+\n";
    let (policy, _) = Policy::parse(text, "acl.conf", &ParseOptions::default()).unwrap();
    policy.set_rotation_templates(["renew".try_into().unwrap()].into());
    let principal = device("sensor-001");
    let ask = Ask::new(&policy, &principal);
    assert!(!ask.writes("$aws/certificates/create/json"));
    assert!(ask.writes("$aws/certificates/create-from-csr/json"));
}

#[test]
fn no_rule_lets_a_client_speak_below_aws_or_a_device_read_what_is_told_of_the_fleet() {
    let text = "role device\ntopic readwrite $aws/#\nrole operator\ntopic readwrite $aws/#\n";
    let (policy, _) = Policy::parse(text, "acl.conf", &ParseOptions::default()).unwrap();
    let (a_device, an_operator) = (device("d"), operator("o"));
    for topic in ["$aws/certificates/create/json/accepted", "$aws/events/presence/connected/d", "$aws/x"] {
        assert!(
            !Ask::new(&policy, &a_device).writes(topic) && !Ask::new(&policy, &an_operator).writes(topic)
        );
    }
    assert!(!Ask::new(&policy, &a_device).reads("$aws/events/presence/connected/d"));
    assert!(!Ask::new(&policy, &a_device).subscribes("$aws/events/#"));
    assert!(Ask::new(&policy, &an_operator).reads("$aws/events/presence/connected/d"));
    assert!(Ask::new(&policy, &an_operator).subscribes("$aws/events/#"));
    assert!(!Ask::new(&policy, &operator("p")).writes("$aws/certificates/create/json"));
}
