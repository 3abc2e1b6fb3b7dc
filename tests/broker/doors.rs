//! The policy at every door: publish, subscribe, live, retained and queued delivery, shared subscription, will,
//! response topic. Each refusal has the nearest thing that is allowed beside it.

use crate::LESSON;
use signet_tests::build::*;
use signet_tests::raw_client::RawClient;
use signet_tests::received::Received;
use signet_tests::test_broker::{Settings, TestBroker};

fn lesson() -> TestBroker {
    TestBroker::start(LESSON)
}

fn client(broker: &TestBroker, name: &str, version: Version) -> RawClient {
    broker.device(name).connect(&connect(version, "test"), version)
}

#[test]
fn publish_to_another_devices_topic_is_refused_and_reaches_nobody() {
    let broker = lesson();
    for version in BOTH {
        let mut admin = client(&broker, "admin", version);
        admin.subscribe("#", 0);
        let mut sensor = client(&broker, "sensor-001", version);
        let refused = if version == V5 { 0x87 } else { 0 };
        for topic in [
            "devices/sensor-002/telemetry/t",
            "devices/sensor-002/status",
            "devices/sensor-001/commands/reboot",
            "devices/sensor-001/status/more",
            "devices/sensor-0011/status",
            "devices//status",
            "devices",
            "$SYS/broker/version",
        ] {
            sensor.publish(topic, "x", refused);
        }
        sensor.publish("devices/sensor-001/status", "allowed", 0);
        admin.expect_publish("devices/sensor-001/status", "allowed");
    }
}

#[test]
fn subscribe_beyond_ones_own_topics_is_refused() {
    let broker = lesson();
    for version in BOTH {
        let mut sensor = client(&broker, "sensor-001", version);
        let denied = if version == V5 { 0x87 } else { 0x80 };
        let filters = [
            "devices/sensor-002/commands/#",
            "devices/+/commands/#",
            "devices/#",
            "#",
            "+/sensor-001/commands/x",
            "devices/sensor-001/telemetry/#",
            "$SYS/#",
            "$share/g/devices/sensor-002/commands/#",
            "$share/g/#",
        ];
        for filter in filters {
            sensor.send(subscribe(version, 1, &[sub(filter, 1)]));
            sensor.expect_suback(1, &[denied]);
        }
        sensor.subscribe("devices/sensor-001/commands/#", 1);
        sensor.subscribe("devices/sensor-001/commands/+/now", 1);
        let mut admin = client(&broker, "admin", version);
        admin.publish("devices/sensor-002/commands/reboot", "not for you", 0);
        admin.publish("devices/sensor-001/commands/reboot", "for you", 0);
        sensor.expect_publish("devices/sensor-001/commands/reboot", "for you");
    }
}

#[test]
fn delivery_is_filtered_where_subscribing_is_not_checked() {
    let mosquitto = Settings { acl: "subscribe-check = false", ..Settings::default() };
    let broker = TestBroker::start_with(LESSON, mosquitto);
    for version in BOTH {
        let mut sensor = client(&broker, "sensor-001", version);
        sensor.subscribe("devices/#", 1);
        let mut admin = client(&broker, "admin", version);
        admin.publish("devices/sensor-002/commands/a", "not for you", 0);
        admin.send(publish(version, "devices/sensor-002/commands/a", "kept").qos1(1).retain().bytes());
        admin.expect_puback(1, 0);
        sensor.subscribe("#", 1);
        admin.publish("devices/sensor-001/commands/a", "for you", 0);
        sensor.expect_publish("devices/sensor-001/commands/a", "for you");
    }
}

#[test]
fn retained_message_is_judged_for_its_reader() {
    let broker = lesson();
    let mut admin = client(&broker, "admin", V5);
    for name in ["sensor-001", "sensor-002"] {
        admin.send(publish(V5, format!("devices/{name}/commands/mode"), name).qos1(1).retain().bytes());
        admin.expect_puback(1, 0);
    }
    let mut sensor = client(&broker, "sensor-001", V5);
    sensor.subscribe("devices/sensor-001/commands/#", 1);
    assert!(sensor.expect_publish("devices/sensor-001/commands/mode", "sensor-001").retain);
    sensor.send(subscribe(V5, 1, &[sub("devices/+/commands/mode", 1)]));
    sensor.expect_suback(1, &[0x87]);
    sensor.expect_nothing();
}

#[test]
fn will_without_permission_is_not_sent_and_one_with_it_is() {
    let broker = lesson();
    for version in BOTH {
        let mut admin = client(&broker, "admin", version);
        admin.subscribe("devices/#", 0);
        let bad = connect(version, "bad").will(will("devices/sensor-002/status", "forged"));
        let good = connect(version, "good").will(will("devices/sensor-001/status", "gone"));
        let bad = broker.device("sensor-001").open(version).map(|mut client| {
            client.send(bad.bytes());
            let accepted = matches!(client.receive(), Received::ConnAck { code: 0, .. });
            (client, accepted)
        });
        let (bad, _) = bad.expect("the handshake succeeds");
        let good = broker.device("sensor-001").connect(&good, version);
        bad.drop_connection();
        good.drop_connection();
        let got = admin.expect_publish("devices/sensor-001/status", "gone");
        assert_eq!(got.topic, "devices/sensor-001/status");
        // Both connections are over, so the forged will has had its chance.
        admin.publish("devices/sensor-001/commands/x", "marker", 0);
        admin.expect_publish("devices/sensor-001/commands/x", "marker");
    }
}

#[test]
fn shared_subscription_is_judged_by_its_filter() {
    let broker = lesson();
    let mut sensor = client(&broker, "sensor-001", V5);
    sensor.subscribe("$share/sensor-002/devices/sensor-001/commands/#", 1);
    let mut admin = client(&broker, "admin", V5);
    admin.publish("devices/sensor-001/commands/x", "mine", 0);
    sensor.expect_publish("devices/sensor-001/commands/x", "mine");
}

#[test]
fn response_topic_that_the_publisher_may_not_read_is_refused() {
    let broker = lesson();
    let mut admin = client(&broker, "admin", V5);
    admin.subscribe("devices/#", 0);
    let mut sensor = client(&broker, "sensor-001", V5);
    let ask = |answer: &str| {
        publish(V5, "devices/sensor-001/telemetry/ask", "x")
            .qos1(1)
            .with(|p| p.text(id::RESPONSE_TOPIC, answer))
            .bytes()
    };
    sensor.send(ask("devices/sensor-002/commands/answer"));
    sensor.expect_puback(1, 0x87);
    sensor.send(ask("devices/sensor-001/commands/answer"));
    sensor.expect_puback(1, 0);
    let got = admin.expect_publish("devices/sensor-001/telemetry/ask", "x");
    assert_eq!(got.props.text(id::RESPONSE_TOPIC), Some("devices/sensor-001/commands/answer"));
}

#[test]
fn sys_topics_are_for_operators() {
    let broker = TestBroker::start("role operator\ntopic read $SYS/#\n\nrole device\ntopic readwrite c/#\n");
    let mut admin = client(&broker, "admin", V5);
    admin.subscribe("$SYS/broker/version", 0);
    let Received::Publish(version) = admin.receive() else { panic!("expected $SYS") };
    assert_eq!(version.topic, "$SYS/broker/version");
    let mut sensor = client(&broker, "sensor-001", V5);
    sensor.send(subscribe(V5, 1, &[sub("$SYS/#", 0), sub("$SYS/broker/version", 0)]));
    sensor.expect_suback(1, &[0x87, 0x87]);
    sensor.publish("$SYS/broker/version", "forged", 0x87);
}

#[test]
fn denials_are_counted() {
    let broker = lesson();
    let before = broker.broker().status().access_denied;
    let mut sensor = client(&broker, "sensor-001", V5);
    sensor.publish("devices/sensor-002/status", "x", 0x87);
    sensor.send(subscribe(V5, 1, &[sub("#", 0)]));
    sensor.expect_suback(1, &[0x87]);
    assert_eq!(broker.broker().status().access_denied, before + 2);
}
