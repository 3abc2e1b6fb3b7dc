//! SUBSCRIBE, UNSUBSCRIBE, and what overlapping subscriptions give.

use signet_wire::{QoS, ReasonCode};

use crate::world::{World, filter, say, texts, v3, v5};

#[test]
fn one_suback_answers_every_filter_in_order() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    let suback = w.subscribe_to(
        who,
        vec![filter("a", 2), filter("b/#/c", 1), filter("c", 0), filter("$share//d", 0)],
        None,
    );
    assert_eq!(
        suback.reasons,
        [
            ReasonCode::GrantedQoS2,
            ReasonCode::TopicFilterInvalid,
            ReasonCode::GRANTED_QOS_0,
            ReasonCode::TopicFilterInvalid
        ]
    );
    assert_eq!(w.hub.subscription_count(), 2);
}

#[test]
fn a_3_1_1_client_gets_0x80_for_a_refused_filter() {
    let mut w = World::new();
    let who = w.connect(v3("dev"));
    let suback = w.subscribe_to(who, vec![filter("a#", 1), filter("a", 1)], None);
    assert_eq!(suback.reasons, [ReasonCode::UnspecifiedError, ReasonCode::GrantedQoS1]);
}

#[test]
fn the_same_filter_replaces_the_subscription() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "t", 2);
    w.subscribe(who, "t", 0);
    w.publish(who, say("t", "x").qos(2));
    assert_eq!(w.messages(who)[0].qos.qos(), QoS::AtMostOnce);
    assert_eq!(w.hub.subscription_count(), 1);
}

#[test]
fn the_last_of_equal_filters_in_one_packet_wins() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    let suback = w.subscribe_to(who, vec![filter("t", 2), filter("t", 1)], None);
    assert_eq!(suback.reasons, [ReasonCode::GrantedQoS2, ReasonCode::GrantedQoS1]);
    w.publish(who, say("t", "x").qos(2));
    let messages = w.messages(who);
    assert_eq!((messages.len(), messages[0].qos.qos()), (1, QoS::AtLeastOnce));
}

#[test]
fn overlapping_subscriptions_give_one_copy_at_the_highest_quality_with_all_identifiers() {
    for reverse in [false, true] {
        let mut w = World::new();
        let who = w.connect(v5("dev"));
        let mut wanted = vec![("a/b", 0, Some(1)), ("a/+", 2, Some(2)), ("a/#", 1, Some(3)), ("#", 0, None)];
        if reverse {
            wanted.reverse();
        }
        for (text, qos, subscription_id) in wanted {
            w.subscribe_to(who, vec![filter(text, qos)], subscription_id);
        }
        w.publish(who, say("a/b", "x").qos(2));
        let [message] = w.messages(who).try_into().unwrap();
        assert_eq!(message.qos.qos(), QoS::ExactlyOnce);
        let mut ids = message.properties.unwrap().subscription_ids.to_vec();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
    }
}

#[test]
fn a_3_1_1_client_gets_the_highest_quality_of_overlapping_subscriptions() {
    let mut w = World::new();
    let who = w.connect(v3("dev"));
    w.subscribe(who, "a/#", 0);
    w.subscribe(who, "a/b", 2);
    w.subscribe(who, "a/+", 1);
    w.publish(who, say("a/b", "x").qos(2));
    let messages = w.messages(who);
    assert_eq!((messages.len(), messages[0].qos.qos()), (1, QoS::ExactlyOnce));
}

#[test]
fn a_replaced_subscription_changes_its_identifier() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe_to(who, vec![filter("t", 0)], Some(1));
    w.subscribe_to(who, vec![filter("t", 0)], Some(2));
    w.publish(who, say("t", "x"));
    assert_eq!(w.messages(who)[0].properties.as_ref().unwrap().subscription_ids.as_slice(), [2]);
    w.subscribe_to(who, vec![filter("t", 0)], None);
    w.publish(who, say("t", "x"));
    assert_eq!(w.messages(who)[0].properties, None);
}

#[test]
fn no_local_keeps_own_messages_away_and_only_those() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    let other = w.connect(v5("other"));
    let mut wanted = filter("t", 0);
    wanted.options.no_local = true;
    w.subscribe_to(who, vec![wanted], None);
    w.publish(who, say("t", "mine"));
    w.publish(other, say("t", "theirs"));
    assert_eq!(w.payloads(who), ["theirs"]);
    // Another subscription without No Local brings the message.
    w.subscribe(who, "#", 0);
    w.publish(who, say("t", "mine"));
    assert_eq!(w.payloads(who), ["mine"]);
}

#[test]
fn no_local_holds_for_the_session_across_connections() {
    let mut w = World::new();
    let who = w.connect(v5("dev").lasting());
    let mut wanted = filter("t", 1);
    wanted.options.no_local = true;
    w.subscribe_to(who, vec![wanted], None);
    w.drop_connection(who);
    let who = w.connect(v5("dev").lasting());
    w.publish(who, say("t", "mine").qos(1));
    assert_eq!(w.messages(who), []);
}

#[test]
fn wildcards_match_as_they_must() {
    let cases = [
        ("sport/#", "sport", true),
        ("sport/#", "sport/tennis/1", true),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+", "/x", false),
        ("+/+", "/x", true),
        ("/+", "/x", true),
        ("#", "/x", true),
        ("#", "$x", false),
        ("+/x", "$a/x", false),
        ("$a/+", "$a/x", true),
        ("Sport", "sport", false),
        ("a/+/c", "a//c", true),
    ];
    for (wanted, name, expected) in cases {
        let mut w = World::new();
        let who = w.connect(v5("dev"));
        w.subscribe(who, wanted, 0);
        w.publish(who, say(name, "x"));
        assert_eq!(!w.messages(who).is_empty(), expected, "{wanted} {name}");
    }
}

#[test]
fn unsubscribe_compares_characters_and_says_what_it_found() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "a/+", 1);
    assert_eq!(w.unsubscribe(who, "a/b").reasons, [ReasonCode::NoSubscriptionExisted]);
    assert_eq!(w.unsubscribe(who, "a/#/b").reasons, [ReasonCode::TopicFilterInvalid]);
    w.publish(who, say("a/b", "1"));
    assert_eq!(w.unsubscribe(who, "a/+").reasons, [ReasonCode::Success]);
    w.publish(who, say("a/b", "2"));
    assert_eq!(texts(&w.messages(who)), ["1"]);
    assert_eq!(w.hub.subscription_count(), 0);
}

#[test]
fn a_delivery_that_began_before_unsubscribe_is_finished() {
    let mut w = World::new();
    let who = w.connect(v5("dev").lasting());
    w.subscribe(who, "t", 1);
    w.publish(who, say("t", "x").qos(1));
    let sent = w.messages(who);
    w.unsubscribe(who, "t");
    w.drop_connection(who);
    let who = w.connect(v5("dev").lasting());
    let again = w.messages(who);
    assert_eq!((again[0].qos, again[0].dup), (sent[0].qos, true));
}

#[test]
fn the_suback_comes_before_the_first_message() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.publish(who, say("t", "x").retain());
    let packet_id = crate::world::id(w.packet_id());
    w.send(
        who,
        signet_wire::Packet::Subscribe(Box::new(signet_wire::Subscribe {
            packet_id,
            subscription_id: None,
            user_properties: Vec::new(),
            filters: vec![filter("t", 0)],
        })),
    );
    let heard = w.heard(who);
    assert!(
        matches!(heard.as_slice(), [signet_wire::Packet::SubAck(_), signet_wire::Packet::Publish(_)]),
        "{heard:?}"
    );
}
