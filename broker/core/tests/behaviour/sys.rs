//! The `$SYS` tree.

use std::collections::HashMap;

use signet_wire::ReasonCode;

use crate::world::{Who, World, filter, operator, say, text, v5};

const OPERATORS: &str =
    "role operator\ntopic read $SYS/#\ntopic readwrite #\nrole device\ntopic readwrite #\n";

fn round(w: &mut World, reader: Who) -> HashMap<String, String> {
    w.hub.publish_sys(w.now);
    w.drive();
    w.messages(reader)
        .into_iter()
        .map(|message| (message.topic.as_ref().unwrap()["$SYS/broker/".len()..].to_owned(), text(&message)))
        .collect()
}

fn world() -> (World, Who) {
    let mut w = World::under(OPERATORS);
    let admin = w.connect(v5("admin").principal(operator("admin")));
    w.subscribe(admin, "$SYS/#", 0);
    (w, admin)
}

#[test]
fn it_has_the_names_that_dashboards_rely_on() {
    let (mut w, admin) = world();
    let values = round(&mut w, admin);
    for name in [
        "version",
        "uptime",
        "clients/total",
        "clients/maximum",
        "clients/disconnected",
        "clients/inactive",
        "clients/connected",
        "clients/active",
        "clients/expired",
        "messages/stored",
        "messages/received",
        "messages/sent",
        "store/messages/count",
        "store/messages/bytes",
        "subscriptions/count",
        "shared_subscriptions/count",
        "retained messages/count",
        "bytes/received",
        "bytes/sent",
        "publish/bytes/received",
        "publish/bytes/sent",
        "publish/messages/dropped",
        "publish/messages/received",
        "publish/messages/sent",
        "packet/out/count",
        "packet/out/bytes",
        "connections/socket/count",
        "load/messages/received/1min",
        "load/publish/sent/5min",
        "load/publish/dropped/15min",
        "load/bytes/received/1min",
        "load/sockets/1min",
        "load/connections/15min",
    ] {
        assert!(values.contains_key(name), "{name}");
    }
    assert_eq!(values["clients/connected"], "1");
    assert_eq!(values["subscriptions/count"], "1");
}

#[test]
fn only_what_changed_is_published_and_the_rest_is_retained() {
    let (mut w, admin) = world();
    round(&mut w, admin);
    w.advance_secs(10);
    let second = round(&mut w, admin);
    assert_eq!(second.get("uptime").map(String::as_str), Some("10 seconds"));
    assert!(!second.contains_key("version"));
    let late = w.connect(v5("late").principal(operator("late")));
    w.subscribe(late, "$SYS/broker/version", 0);
    let [version] = w.messages(late).try_into().unwrap();
    assert!(version.retain);
}

#[test]
fn what_waits_for_connected_clients_is_told_and_what_waits_for_others_is_not() {
    let (mut w, admin) = world();
    let outgoing = |w: &mut World| {
        let values = round(w, admin);
        ["count", "bytes"]
            .map(|name| values.get(&format!("packet/out/{name}")).map(|value| value.parse().unwrap()))
    };
    assert_eq!(outgoing(&mut w), [Some(0), Some(0)]);
    let (slow, away) = (w.connect(v5("slow").lasting()), w.connect(v5("away").lasting()));
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t/kept", "12345").retain());
    w.subscribe(away, "t/#", 1);
    w.drop_connection(away);
    w.stall(slow, true);
    w.subscribe(slow, "t/#", 1);
    w.publish(writer, say("t/lost", "12345"));
    w.publish(writer, say("t/sure", "12345").qos(1));
    let [count, bytes] = outgoing(&mut w);
    assert_eq!(count, Some(3), "the retained one, and both that came");
    assert!(bytes.is_some_and(|bytes: usize| (3 * 11..3 * 250).contains(&bytes)), "{bytes:?}");
    w.stall(slow, false);
    assert_eq!(w.messages(slow).len(), 3);
    assert_eq!(outgoing(&mut w), [Some(0), Some(0)]);
}

#[test]
fn devices_do_not_see_it_without_a_rule() {
    let (mut w, _) = world();
    w.hub.publish_sys(w.now);
    let device = w.connect(v5("dev"));
    assert_eq!(w.subscribe_to(device, vec![filter("$SYS/#", 0)], None).reasons, [ReasonCode::NotAuthorized]);
    w.subscribe(device, "#", 0);
    w.hub.publish_sys(w.now);
    w.drive();
    assert!(w.messages(device).iter().all(|message| !message.topic.as_ref().unwrap().starts_with('$')));
}

#[test]
fn counts_and_load_averages_follow_the_traffic() {
    let (mut w, admin) = world();
    round(&mut w, admin);
    let writer = w.connect(v5("writer"));
    for _ in 0..60 {
        w.publish(writer, say("t", "12345"));
    }
    w.advance_secs(60);
    let values = round(&mut w, admin);
    assert_eq!(values["publish/messages/received"], "60");
    assert_eq!(values["publish/bytes/received"], "300");
    // 60 in the first minute, weighted 1 - 1/e.
    assert_eq!(values["load/publish/received/1min"], "37.93");
    w.advance_secs(600);
    let later: f64 = round(&mut w, admin)["load/publish/received/1min"].parse().unwrap();
    assert!(later < 0.1, "{later}");
}

#[test]
fn the_broker_has_no_voice_in_the_topics_of_its_clients() {
    let w = World::new();
    let topic = crate::world::topic("devices/a/commands");
    assert!(w.hub.publish_internal(topic, bytes::Bytes::from_static(b"x"), false, w.now).is_err());
}
