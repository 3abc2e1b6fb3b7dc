//! What the broker's own services say: commands of an operator without a connection, and events.

use bytes::Bytes;
use signet_acl::DenyCause;
use signet_core::{Event, Hears};
use signet_wire::{ClientId, QoS};

use crate::world::{World, device, operator, topic, v5};

const POLICY: &str = "role operator\ntopic read $aws/events/#\ntopic write devices/+/certs/rotate\n\
    role device\npattern read devices/%u/certs/#\ntopic readwrite open/#\n";

fn client() -> ClientId {
    ClientId::try_from("signet").unwrap()
}

#[test]
fn a_command_reaches_its_device_by_the_right_of_an_operator() {
    let mut w = World::under(POLICY);
    let (a, b) = (w.connect(v5("a")), w.connect(v5("b")));
    w.subscribe(a, "devices/a/certs/rotate", 1);
    let to = topic("devices/a/certs/rotate");
    let command = |principal, to| {
        w.hub.publish_for(&principal, &client(), (to, Bytes::from("{}"), QoS::AtLeastOnce), w.now)
    };
    command(operator("signet"), to.clone()).unwrap();
    // The same as somebody who may not, and to where operators may not.
    assert_eq!(command(device("signet"), to.clone()).unwrap_err().because, DenyCause::NoRule);
    assert_eq!(
        command(operator("signet"), topic("devices/a/status")).unwrap_err().because,
        DenyCause::NoRule
    );
    w.drive();
    assert_eq!(w.payloads(a), ["{}"]);
    assert_eq!(w.payloads(b), [""; 0]);
}

#[test]
fn whether_a_device_hears_a_topic_depends_on_its_subscription_and_its_right() {
    let mut w = World::under(POLICY);
    let a = w.connect(v5("a").lasting());
    let key = device("a").key().clone();
    let to = topic("devices/a/certs/rotate");
    assert_eq!(w.hub.hears(&key, &to), Hears::No);
    w.subscribe(a, "devices/a/certs/#", 1);
    assert_eq!(w.hub.hears(&key, &to), Hears::Yes);
    // Another's subscription is not the device's.
    assert_eq!(w.hub.hears(device("b").key(), &to), Hears::No);
    // A session that lasts hears while it is away.
    w.drop_connection(a);
    assert_eq!(w.hub.hears(&key, &to), Hears::Yes);
    w.set_policy("role device\ntopic readwrite open/#\n");
    assert_ne!(w.hub.hears(&key, &to), Hears::Yes);
}

#[test]
fn events_are_for_operators_and_wait_for_them() {
    let mut w = World::under(POLICY);
    let admin = w.connect(v5("admin").principal(operator("admin")));
    w.subscribe(admin, "$aws/events/#", 1);
    let event = topic("$aws/events/presence/connected/x");
    w.hub.publish_event(event, Bytes::from("now"), w.now).unwrap();
    assert!(w.hub.publish_event(topic("open/x"), Bytes::new(), w.now).is_err());
    w.drive();
    let heard = w.messages(admin);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].qos.qos(), QoS::AtLeastOnce);
}

#[test]
fn subscriptions_are_reported_only_while_somebody_wants_to_know() {
    let mut w = World::under(POLICY);
    let a = w.connect(v5("a"));
    w.subscribe(a, "open/1", 0);
    w.unsubscribe(a, "open/1");
    assert!(!w.notes(a).iter().any(|event| matches!(event, Event::Subscribed(_) | Event::Unsubscribed(_))));
    w.hub.report_subscriptions(true);
    w.subscribe(a, "open/2", 0);
    w.unsubscribe(a, "open/2");
    w.unsubscribe(a, "open/2");
    let notes = w.notes(a);
    let filters = |filters: &[signet_wire::SubscriptionFilter]| {
        filters.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let reported: Vec<_> = notes
        .iter()
        .filter_map(|event| match event {
            Event::Subscribed(made) => Some(("+", filters(made))),
            Event::Unsubscribed(ended) => Some(("-", filters(ended))),
            _ => None,
        })
        .collect();
    assert_eq!(reported, [("+", vec!["open/2".to_owned()]), ("-", vec!["open/2".to_owned()])]);
}
