//! Topic aliases in both directions (MQTT5 §3.3.2.3.4).

use signet_wire::ReasonCode;

use crate::world::{World, say, texts, topic, v5};

#[test]
fn an_alias_stands_for_the_topic_it_was_set_with() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "#", 2);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("first", "1").alias(3));
    for qos in 0..=2 {
        w.publish(writer, say("ignored", "2").alias(3).without_topic().qos(qos));
    }
    w.publish(writer, say("second", "3").alias(3));
    w.publish(writer, say("ignored", "4").alias(3).without_topic());
    let topics: Vec<String> =
        w.messages(reader).into_iter().map(|message| message.topic.unwrap().to_string()).collect();
    assert_eq!(topics, ["first", "first", "first", "first", "second", "second"]);
}

#[test]
fn an_alias_is_not_forwarded() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 0);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "x").alias(1));
    assert_eq!(w.messages(reader)[0].properties, None);
}

#[test]
fn a_retained_message_has_its_real_topic() {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("real", "1").alias(1));
    w.publish(writer, say("x", "2").alias(1).without_topic().retain());
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "real", 0);
    assert_eq!(texts(&w.messages(reader)), ["2"]);
}

#[test]
fn an_alias_above_the_maximum_closes_with_0x94() {
    let mut w = World::limited(|limits| limits.topic_alias_in_max = 2);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "x").alias(2));
    w.assert_open(writer);
    w.send(writer, signet_wire::Packet::Publish(say("t", "x").alias(3).packet(1)));
    w.assert_disconnected(writer, ReasonCode::TopicAliasInvalid);
}

#[test]
fn an_alias_that_is_not_set_closes_with_0x82() {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "x").alias(2));
    w.send(writer, signet_wire::Packet::Publish(say("t", "x").alias(1).without_topic().packet(1)));
    w.assert_disconnected(writer, ReasonCode::ProtocolError);
}

#[test]
fn aliases_do_not_outlive_their_connection() {
    let mut w = World::new();
    let writer = w.connect(v5("writer").lasting());
    w.publish(writer, say("t", "x").alias(1));
    w.drop_connection(writer);
    let writer = w.connect(v5("writer").lasting());
    w.send(writer, signet_wire::Packet::Publish(say("t", "x").alias(1).without_topic().packet(1)));
    w.assert_disconnected(writer, ReasonCode::ProtocolError);
}

#[test]
fn the_policy_judges_the_real_topic() {
    let mut w = World::under("user writer\ntopic write good\n");
    let writer = w.connect(v5("writer"));
    assert_eq!(w.publish(writer, say("bad", "x").alias(1).qos(1)), ReasonCode::NotAuthorized);
    assert_eq!(w.publish(writer, say("x", "x").alias(1).without_topic().qos(1)), ReasonCode::NotAuthorized);
    assert_eq!(w.publish(writer, say("good", "x").alias(1).qos(1)), ReasonCode::NoMatchingSubscribers);
    assert_eq!(
        w.publish(writer, say("x", "x").alias(1).without_topic().qos(1)),
        ReasonCode::NoMatchingSubscribers
    );
}

#[test]
fn a_client_that_takes_aliases_gets_them_up_to_its_maximum() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").alias_max(2));
    w.subscribe(reader, "#", 1);
    let writer = w.connect(v5("writer"));
    for (name, qos) in
        [("topic/1", 0), ("topic/1", 1), ("topic/2", 0), ("topic/3", 0), ("topic/1", 0), ("topic/3", 1)]
    {
        w.publish(writer, say(name, "x").qos(qos));
    }
    let seen: Vec<(Option<String>, Option<u16>)> = w
        .messages(reader)
        .into_iter()
        .map(|message| {
            let alias = message.properties.and_then(|properties| properties.topic_alias);
            (message.topic.map(|topic| topic.to_string()), alias.map(|alias| alias.get()))
        })
        .collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        seen,
        [
            (named("topic/1"), Some(1)),
            (None, Some(1)),
            (named("topic/2"), Some(2)),
            (named("topic/3"), None),
            (None, Some(1)),
            (named("topic/3"), None),
        ]
    );
}

#[test]
fn a_message_sent_again_on_a_new_connection_names_its_topic() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").alias_max(5).lasting());
    w.subscribe(reader, "topic/1", 1);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("topic/1", "1").qos(1));
    w.publish(writer, say("topic/1", "2").qos(1));
    w.heard(reader);
    w.drop_connection(reader);
    let reader = w.connect(v5("reader").alias_max(5).lasting());
    let again = w.messages(reader);
    assert_eq!(again[0].topic, Some(topic("topic/1")));
    assert_eq!(again[1].topic, None);
}

#[test]
fn a_client_that_takes_no_aliases_gets_none() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "topic/1", 0);
    let writer = w.connect(v5("writer"));
    for _ in 0..3 {
        w.publish(writer, say("topic/1", "x"));
    }
    assert!(w.messages(reader).iter().all(|message| message.topic.is_some() && message.properties.is_none()));
}
