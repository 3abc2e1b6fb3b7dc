//! Commands and telemetry of a device that is connected.

use signet_device_core::{Action, Input, Message, RebootReason};

use super::world::{HOUR, World};

const RESULTS: &str = "devices/thing-sn-0001/telemetry/results";

fn enrolled() -> World {
    let mut world = World::new();
    world.boot();
    world.online();
    world.run(60_000);
    world
}

fn command(world: &mut World, name: &str, payload: &str) -> Vec<String> {
    let before = world.said(RESULTS).len();
    world.send(&format!("devices/thing-sn-0001/commands/{name}"), payload.as_bytes());
    world.said(RESULTS).split_off(before)
}

#[test]
fn readings_come_in_their_interval_and_a_command_changes_it() {
    let mut world = enrolled();
    let topic = "devices/thing-sn-0001/telemetry/environment";
    let before = world.said(topic).len();
    assert_eq!(
        command(&mut world, "interval", "30"),
        [r#"{"device":"thing-sn-0001","command":"interval","ok":true}"#]
    );
    world.run(HOUR);
    let said = world.said(topic).split_off(before);
    assert!((115..=121).contains(&said.len()), "{} readings in an hour", said.len());
    assert!(
        said[0].starts_with(r#"{"device":"thing-sn-0001","temp":21.5,"hum":40,"uptime":"#),
        "{}",
        said[0]
    );
}

#[test]
fn a_bad_command_gets_an_error_and_changes_nothing() {
    let mut world = enrolled();
    let before = world.device.as_ref().expect("booted").next_deadline();
    let actions = world.actions.len();
    let long = "x".repeat(5_000);
    let names = ["interval", "reboot", "identify", "rotate", "report", "ota", "format"];
    let mut bad = 0;
    for name in names {
        for payload in ["junk", "{", "[]", "-1", "1e9", "\"1\"", "{\"seconds\":0}", "{\"x\":1}", &long] {
            let results = command(&mut world, name, payload);
            assert_eq!(results.len(), 1, "{name} {payload}");
            assert!(results[0].contains(r#""ok":false,"error":"#), "{name} {payload}: {}", results[0]);
            bad += 1;
        }
    }
    assert_eq!(bad, 63);
    assert!(world.actions[actions..].iter().all(|action| matches!(action, Action::Publish(_))));
    assert_eq!(world.device.as_ref().expect("booted").next_deadline(), before);
    assert!(world.reboots.is_empty() && !world.device.as_ref().expect("booted").is_rotating());
}

#[test]
fn a_report_says_how_the_device_is() {
    let mut world = enrolled();
    let results = command(&mut world, "report", r#"{"id":"q"}"#);
    let result: serde_json::Value = serde_json::from_str(&results[0]).expect("JSON");
    assert_eq!((&result["id"], &result["ok"]), (&"q".into(), &true.into()));
    let certificate: String =
        world.certificate().expect("one").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(result["report"]["certificate"], certificate);
    assert_eq!((&result["report"]["slot"], &result["report"]["interval"]), (&"a".into(), &3_600.into()));
    assert!(result["report"]["renewal"].as_u64() < result["report"]["not_after"].as_u64());
}

#[test]
fn a_reboot_comes_after_its_result_and_only_once() {
    let mut world = enrolled();
    let results = command(&mut world, "reboot", "");
    assert_eq!(results, [r#"{"device":"thing-sn-0001","command":"reboot","ok":true}"#]);
    assert_eq!(world.reboots, [RebootReason::Commanded]);
    world.online();
    world.run(HOUR);
    assert_eq!(world.reboots.len(), 1);
}

#[test]
fn a_retained_command_is_not_obeyed() {
    let mut world = enrolled();
    let message = Message { topic: "devices/thing-sn-0001/commands/reboot", payload: b"", retained: true };
    world.raw(Input::Message(message));
    world.run(HOUR);
    assert!(world.reboots.is_empty() && world.said(RESULTS).is_empty());
}

#[test]
fn a_command_for_another_device_is_not_obeyed() {
    let mut world = enrolled();
    world.send("devices/thing-sn-0002/commands/reboot", b"");
    world.send("devices/thing-sn-00011/commands/reboot", b"");
    world.run(HOUR);
    assert!(world.reboots.is_empty() && world.said(RESULTS).is_empty());
}

#[test]
fn identify_blinks() {
    let mut world = enrolled();
    command(&mut world, "identify", r#"{"seconds": 5}"#);
    assert!(world.actions.contains(&Action::Identify(5)));
}
