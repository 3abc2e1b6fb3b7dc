//! QoS 0 and 1, order, and the flags of a delivery.

use signet_wire::{Ack, Packet, PublishProperties, QoS, QosId, ReasonCode, Text};

use crate::world::{World, filter, id, ids, reason_string, say, text, texts, topic, v3, v5};

#[test]
fn a_message_reaches_every_subscriber_in_both_versions() {
    let mut w = World::new();
    let old = w.connect(v3("old"));
    let new = w.connect(v5("new"));
    let other = w.connect(v5("other"));
    let publisher = w.connect(v3("publisher"));
    w.subscribe(old, "a/+", 0);
    w.subscribe(new, "a/#", 0);
    w.subscribe(other, "b/#", 0);
    w.publish(publisher, say("a/b", "hello"));
    for who in [old, new] {
        let [message] = w.messages(who).try_into().unwrap();
        assert_eq!((message.topic.clone(), text(&message)), (Some(topic("a/b")), "hello".into()));
        assert_eq!((message.qos, message.dup, message.retain), (QosId::AtMostOnce, false, false));
    }
    assert_eq!(w.messages(other), []);
}

#[test]
fn the_quality_of_service_is_the_lower_of_published_and_granted() {
    for published in 0..=2 {
        for granted in 0..=2 {
            let mut w = World::new();
            let reader = w.connect(v5("reader"));
            let writer = w.connect(v5("writer"));
            w.subscribe(reader, "t", granted);
            w.publish(writer, say("t", "x").qos(published));
            let [message] = w.messages(reader).try_into().unwrap();
            assert_eq!(message.qos.qos() as u8, published.min(granted));
        }
    }
}

#[test]
fn puback_says_whether_anybody_got_it() {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    assert_eq!(w.publish(writer, say("t", "x").qos(1)), ReasonCode::NoMatchingSubscribers);
    w.subscribe(writer, "t", 0);
    assert_eq!(w.publish(writer, say("t", "x").qos(1)), ReasonCode::Success);
    let old = w.connect(v3("old"));
    assert_eq!(w.publish(old, say("nobody", "x").qos(1)), ReasonCode::Success, "3.1.1 cannot say it");
}

#[test]
fn dup_is_not_propagated() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    let writer = w.connect(v5("writer"));
    w.subscribe(reader, "t", 1);
    let mut publish = say("t", "x").qos(1).packet(7);
    publish.dup = true;
    w.send(writer, Packet::Publish(publish));
    assert!(!w.messages(reader)[0].dup);
}

#[test]
fn properties_travel_unaltered_and_in_order() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    let old = w.connect(v3("old"));
    let writer = w.connect(v5("writer"));
    w.subscribe(reader, "t", 0);
    w.subscribe(old, "t", 0);
    let mut message = say("t", "payload");
    message.properties = PublishProperties {
        payload_format: Some(signet_wire::PayloadFormat::Utf8),
        content_type: Some(Text::from_static("text/plain")),
        response_topic: Some(topic("reply")),
        correlation_data: Some(signet_wire::Binary::from_static(&[0, 255])),
        user_properties: vec![
            (Text::from_static("z"), Text::from_static("1")),
            (Text::from_static("a"), Text::from_static("2")),
            (Text::from_static("z"), Text::from_static("3")),
        ],
        ..PublishProperties::default()
    };
    w.publish(writer, message.clone());
    assert_eq!(w.messages(reader)[0].properties.as_deref(), Some(&message.properties));
    assert_eq!(text(&w.messages(old)[0]), "payload", "nothing of 5.0 leaks into a 3.1.1 payload");
}

#[test]
fn messages_of_one_publisher_keep_their_order_at_each_quality_of_service() {
    for qos in 0..=2 {
        let mut w = World::new();
        let reader = w.connect(v5("reader").receive_max(3));
        let writer = w.connect(v5("writer"));
        w.subscribe(reader, "t", 2);
        let sent: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        for payload in &sent {
            w.publish(writer, say("t", payload).qos(qos));
        }
        assert_eq!(w.payloads(reader), sent, "QoS {qos}");
    }
}

#[test]
fn interleaved_qualities_of_service_keep_their_order_while_nothing_is_held_back() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    let writer = w.connect(v5("writer"));
    w.subscribe(reader, "t", 2);
    let mut bytes = bytes::BytesMut::new();
    for n in 0..30_u16 {
        let publish = say("t", &n.to_string()).qos(n as u8 % 3).packet(n + 1);
        signet_wire::encode(&Packet::Publish(publish), signet_wire::Version::V5, &mut bytes).unwrap();
    }
    w.send_bytes(writer, &bytes);
    let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    assert_eq!(texts(&w.messages(reader)), expected);
}

#[test]
fn nothing_is_sent_again_on_a_live_connection() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    let writer = w.connect(v5("writer"));
    w.subscribe(reader, "t", 2);
    w.publish(writer, say("t", "1").qos(1));
    w.publish(writer, say("t", "2").qos(2));
    assert_eq!(w.messages(reader).len(), 2);
    w.advance_secs(3600);
    assert_eq!(w.messages(reader), []);
}

#[test]
fn identifiers_are_unique_while_in_use_and_wrap_without_zero() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    let writer = w.connect(v5("writer"));
    w.subscribe(reader, "t", 1);
    w.publish(writer, say("t", "held").qos(1));
    let held = w.messages(reader).remove(0);
    for _ in 0..66_000 {
        w.publish(writer, say("t", "x").qos(1));
        let message = w.messages(reader).remove(0);
        assert_ne!(message.qos, held.qos);
        w.acknowledge(reader, &message);
    }
    w.assert_open(reader);
}

#[test]
fn an_unknown_puback_is_ignored() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.send(who, Packet::PubAck(Ack::success(id(99))));
    w.assert_open(who);
}

#[test]
fn a_puback_with_a_failure_ends_the_delivery_and_frees_the_slot() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").receive_max(1).lasting());
    let writer = w.connect(v5("writer"));
    w.subscribe(reader, "t", 1);
    w.publish(writer, say("t", "1").qos(1));
    w.publish(writer, say("t", "2").qos(1));
    let [first] = w.messages(reader).try_into().unwrap();
    w.send(reader, Packet::PubAck(Ack::new(id(ids(&[first])[0]), ReasonCode::QuotaExceeded)));
    let [second] = w.messages(reader).try_into().unwrap();
    assert_eq!(text(&second), "2");
    w.acknowledge(reader, &second);
    w.drop_connection(reader);
    let (reader, present) = w.reconnect(v5("reader").lasting());
    assert!(present);
    assert_eq!(w.messages(reader), []);
}

#[test]
fn a_publisher_may_hear_itself() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "t", 1);
    w.publish(who, say("t", "echo").qos(1));
    assert_eq!(w.payloads(who), ["echo"]);
}

#[test]
fn an_empty_payload_is_a_message() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "t", 0);
    w.publish(who, say("t", ""));
    assert_eq!(texts(&w.messages(who)), [""]);
}

#[test]
fn topics_of_65535_bytes_and_150_levels_are_legal() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    let long = "x".repeat(65_535);
    let deep = vec!["a"; 150].join("/");
    w.subscribe(who, &deep, 0);
    w.subscribe(who, "+", 0);
    for name in [long.as_str(), deep.as_str()] {
        w.publish(who, say(name, "x"));
        assert_eq!(w.messages(who)[0].topic.as_deref(), Some(name));
    }
}

#[test]
fn a_large_payload_arrives_whole() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "t", 1);
    let large = "x".repeat(200_000);
    w.publish(who, say("t", &large).qos(1));
    assert_eq!(w.payloads(who), [large]);
}

#[test]
fn reason_strings_come_only_to_those_who_want_them() {
    let policy = "user dev\ntopic write mine\n";
    for (dial, wanted) in [(v5("dev"), true), (v5("dev").no_problem_info(), false)] {
        let mut w = World::under(policy);
        let who = w.connect(dial);
        let puback = w.publish_ack(who, say("yours", "x").qos(1)).unwrap();
        assert_eq!(puback.reason, ReasonCode::NotAuthorized);
        assert_eq!(reason_string(puback.properties.as_deref()).is_some(), wanted);
    }
}

#[test]
fn qos_of_a_delivery_is_never_raised_by_the_subscription() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "t", 2);
    w.publish(who, say("t", "x"));
    assert_eq!(w.messages(who)[0].qos.qos(), QoS::AtMostOnce);
}

#[test]
fn a_fresh_session_is_woken_for_its_first_message() {
    for wanted in ["t", "$share/g/t"] {
        let mut w = World::new();
        let reader = w.connect(v5("reader"));
        let mut silent = filter(wanted, 1);
        silent.options.retain_handling = signet_wire::RetainHandling::DoNotSend;
        w.subscribe_to(reader, vec![silent], None);
        let writer = w.connect(v5("writer"));
        w.publish(writer, say("t", "x").qos(1));
        assert_eq!(w.payloads(reader), ["x"], "{wanted}");
    }
}
