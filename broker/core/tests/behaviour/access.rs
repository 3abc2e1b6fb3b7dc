//! The access policy at every door.

use signet_core::{DeniedAccess, Event};
use signet_wire::{Packet, ReasonCode};

use crate::world::{World, filter, member, operator, say, topic, v3, v5};

/// The lesson's policy: devices write their own telemetry and read their own commands.
const FLEET: &str = "\
user admin
topic read #
topic write devices/+/commands/#

pattern write devices/%u/telemetry/#
pattern write devices/%u/status
pattern read devices/%u/commands/#
";

#[test]
fn a_device_publishes_in_its_own_tree_and_nowhere_else() {
    let mut w = World::under(FLEET);
    let admin = w.connect(v5("admin").principal(operator("admin")));
    w.subscribe(admin, "#", 1);
    let sensor = w.connect(v5("sensor-1"));
    assert_eq!(w.publish(sensor, say("devices/sensor-1/telemetry/t", "21").qos(1)), ReasonCode::Success);
    for name in ["devices/sensor-2/telemetry/t", "devices/sensor-1/commands/x", "devices/sensor-1", "$SYS/x"]
    {
        for qos in 1..=2 {
            assert_eq!(w.publish(sensor, say(name, "x").qos(qos)), ReasonCode::NotAuthorized, "{name}");
        }
        w.publish(sensor, say(name, "x"));
    }
    assert_eq!(w.payloads(admin), ["21"]);
    assert_eq!(w.counts().denied_publish, 12);
    w.assert_open(sensor);
}

#[test]
fn a_denied_publish_is_noted() {
    let mut w = World::under(FLEET);
    let sensor = w.connect(v5("sensor-1"));
    w.notes(sensor);
    w.publish(sensor, say("devices/sensor-2/status", "x"));
    match w.notes(sensor).as_slice() {
        [Event::Denied { access: DeniedAccess::Publish(name), .. }] => {
            assert_eq!(*name, topic("devices/sensor-2/status"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_denied_3_1_1_publish_is_acknowledged_and_gone() {
    let mut w = World::under(FLEET);
    let admin = w.connect(v5("admin").principal(operator("admin")));
    w.subscribe(admin, "#", 2);
    let sensor = w.connect(v3("sensor-1"));
    for qos in 0..=2 {
        assert_eq!(w.publish(sensor, say("devices/sensor-2/status", "x").qos(qos)), ReasonCode::Success);
    }
    assert_eq!(w.messages(admin), []);
    w.assert_open(sensor);
}

#[test]
fn a_filter_that_is_not_covered_is_refused() {
    let mut w = World::under(FLEET);
    for (dial, refused) in
        [(v5("sensor-1"), ReasonCode::NotAuthorized), (v3("sensor-1"), ReasonCode::UnspecifiedError)]
    {
        let sensor = w.connect(dial);
        for wanted in
            ["#", "devices/+/commands/#", "devices/sensor-2/commands/x", "devices/sensor-1/#", "$SYS/#"]
        {
            assert_eq!(w.subscribe_to(sensor, vec![filter(wanted, 1)], None).reasons, [refused], "{wanted}");
        }
        for wanted in ["devices/sensor-1/commands/#", "devices/sensor-1/commands/reboot"] {
            w.subscribe(sensor, wanted, 1);
        }
    }
    assert_eq!(w.counts().denied_subscribe, 10);
}

#[test]
fn what_reaches_a_subscription_is_judged_again_at_delivery() {
    let policy = "user reader\ntopic read t/#\ntopic deny t/secret\nuser writer\ntopic write #\n";
    let mut w = World::under(policy);
    let reader = w.connect(v5("reader"));
    let answer = w.subscribe_to(reader, vec![filter("t/#", 1)], None).reasons[0];
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t/open", "1").qos(1));
    w.publish(writer, say("t/secret", "2").qos(1));
    let got = w.payloads(reader);
    assert!(!got.contains(&"2".to_owned()), "{answer:?} {got:?}");
}

#[test]
fn a_response_topic_must_be_one_that_the_publisher_may_read() {
    let mut w = World::under(FLEET);
    let admin = w.connect(v5("admin").principal(operator("admin")));
    w.subscribe(admin, "devices/#", 1);
    let sensor = w.connect(v5("sensor-1"));
    let ask = |reply: &str| say("devices/sensor-1/telemetry/ask", "?").qos(1).response_topic(reply);
    assert_eq!(w.publish(sensor, ask("devices/sensor-1/commands/answer")), ReasonCode::Success);
    assert_eq!(w.publish(sensor, ask("devices/sensor-2/commands/reboot")), ReasonCode::NotAuthorized);
    assert_eq!(w.counts().denied_response_topic, 1);
    assert_eq!(w.payloads(admin).len(), 1);
    assert!(w.notes(sensor).iter().any(|note| matches!(note,
        Event::Denied { access: DeniedAccess::ResponseTopic(name), .. } if *name == topic("devices/sensor-2/commands/reboot"))));
}

#[test]
fn groups_give_their_members_rights() {
    let mut w = World::under("role meters\ntopic write readings/#\n");
    let meter = w.connect(v5("m1").principal(member("m1", "meters")));
    let other = w.connect(v5("m2"));
    assert!(!w.publish(meter, say("readings/1", "x").qos(1)).is_failure());
    assert_eq!(w.publish(other, say("readings/1", "x").qos(1)), ReasonCode::NotAuthorized);
}

#[test]
fn a_resumed_session_is_judged_with_the_rights_of_the_new_certificate() {
    let mut w = World::under("role meters\ntopic read readings/#\nuser writer\ntopic write #\n");
    let meter = w.connect(v5("m1").principal(member("m1", "meters")).lasting());
    w.subscribe(meter, "readings/#", 1);
    w.drop_connection(meter);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("readings/1", "x").qos(1));
    let (meter, present) = w.reconnect(v5("m1").lasting());
    assert!(present);
    assert_eq!(w.messages(meter), []);
    assert_eq!(w.hub.subscription_count(), 0);
}

#[test]
fn nobody_publishes_below_sys_even_with_a_rule() {
    let mut w = World::under("user dev\ntopic readwrite #\ntopic readwrite $SYS/#\n");
    let dev = w.connect(v5("dev"));
    w.subscribe(dev, "$SYS/#", 0);
    assert_eq!(w.publish(dev, say("$SYS/broker/version", "x").qos(1)), ReasonCode::NotAuthorized);
    assert_eq!(w.messages(dev), []);
}

#[test]
fn a_client_identifier_made_of_wildcards_gives_nothing() {
    let mut w = World::under("pattern readwrite clients/%c/#\nuser writer\ntopic write #\n");
    for client_id in ["+", "#", "a/b", "a+"] {
        let dev = w.connect(v5("dev").client_id(client_id));
        let asked = ["clients/x/t", "clients/+/t", "clients/a/b/t"];
        for name in asked {
            let reasons = w.subscribe_to(dev, vec![filter(name, 0)], None).reasons;
            assert_eq!(reasons, [ReasonCode::NotAuthorized], "{client_id} {name}");
        }
    }
    let dev = w.connect(v5("dev").client_id("x"));
    w.subscribe(dev, "clients/x/t", 0);
}

#[test]
fn an_empty_policy_denies_everything() {
    let mut w = World::under("");
    let dev = w.connect(v5("dev"));
    assert_eq!(w.publish(dev, say("t", "x").qos(1)), ReasonCode::NotAuthorized);
    assert_eq!(w.subscribe_to(dev, vec![filter("t", 0)], None).reasons, [ReasonCode::NotAuthorized]);
    w.send(dev, Packet::PingReq);
    assert!(w.heard(dev).contains(&Packet::PingResp));
}
