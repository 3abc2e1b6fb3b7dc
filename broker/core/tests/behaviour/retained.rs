//! Retained messages (MQTT5 §3.3.1.3, §3.8.3.1).

use signet_core::{Event, Quota};
use signet_wire::{Publish, QoS, ReasonCode, RetainHandling};

use crate::world::{Who, World, filter, say, text, texts, topic, v3, v5, will};

fn world() -> (World, Who) {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    (w, writer)
}

#[test]
fn a_new_subscription_gets_the_last_message_with_retain_set() {
    for dial in [v3("reader"), v5("reader")] {
        let (mut w, writer) = world();
        w.publish(writer, say("t", "old").retain());
        w.publish(writer, say("t", "last").retain().qos(1));
        let reader = w.connect(dial);
        w.subscribe(reader, "t", 2);
        let [message] = w.messages(reader).try_into().unwrap();
        assert_eq!((text(&message).as_str(), message.retain, message.dup), ("last", true, false));
        assert_eq!(message.qos.qos(), QoS::AtLeastOnce);
    }
}

#[test]
fn retain_is_clear_on_live_messages_unless_it_is_to_stay_as_published() {
    let (mut w, writer) = world();
    let plain = w.connect(v5("plain"));
    w.subscribe(plain, "t", 0);
    let as_published = w.connect(v5("as-published"));
    let mut wanted = filter("t", 0);
    wanted.options.retain_as_published = true;
    w.subscribe_to(as_published, vec![wanted], None);
    w.publish(writer, say("t", "kept").retain());
    w.publish(writer, say("t", "passing"));
    let flags = |messages: Vec<Publish>| messages.iter().map(|message| message.retain).collect::<Vec<_>>();
    assert_eq!(flags(w.messages(plain)), [false, false]);
    assert_eq!(flags(w.messages(as_published)), [true, false]);
}

#[test]
fn an_empty_payload_clears_and_is_forwarded_and_is_not_stored() {
    let (mut w, writer) = world();
    w.publish(writer, say("t", "x").retain());
    let live = w.connect(v5("live"));
    w.subscribe(live, "t", 0);
    w.heard(live);
    w.publish(writer, say("t", "").retain());
    let [cleared] = w.messages(live).try_into().unwrap();
    assert_eq!((text(&cleared).as_str(), cleared.retain), ("", false));
    let late = w.connect(v5("late"));
    w.subscribe(late, "t", 0);
    assert_eq!(w.messages(late), []);
    assert_eq!(w.hub.retained_fill(), (0, 0));
}

#[test]
fn a_message_without_retain_changes_nothing() {
    let (mut w, writer) = world();
    w.publish(writer, say("t", "kept").retain());
    w.publish(writer, say("t", "passing"));
    w.publish(writer, say("t", ""));
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 0);
    assert_eq!(w.payloads(reader), ["kept"]);
}

#[test]
fn wildcards_find_all_but_reserved_topics() {
    let (mut w, writer) = world();
    for name in ["a", "a/b", "a/b/c", "/a", "$private/x"] {
        w.publish(writer, say(name, name).retain());
    }
    for (wanted, found) in [
        ("#", vec!["/a", "a", "a/b", "a/b/c"]),
        ("a/#", vec!["a", "a/b", "a/b/c"]),
        ("+", vec!["a"]),
        ("+/+", vec!["/a", "a/b"]),
    ] {
        let reader = w.connect(v5("reader"));
        w.subscribe(reader, wanted, 0);
        let mut payloads = w.payloads(reader);
        payloads.sort();
        assert_eq!(payloads, found, "{wanted}");
    }
}

#[test]
fn retain_handling_decides_what_a_repeated_subscription_gets() {
    for (handling, first, second) in [
        (RetainHandling::SendAlways, 1, 1),
        (RetainHandling::SendIfNew, 1, 0),
        (RetainHandling::DoNotSend, 0, 0),
    ] {
        let (mut w, writer) = world();
        w.publish(writer, say("t", "x").retain());
        let reader = w.connect(v5("reader").lasting());
        let mut wanted = filter("t", 0);
        wanted.options.retain_handling = handling;
        w.subscribe_to(reader, vec![wanted.clone()], None);
        assert_eq!(w.messages(reader).len(), first);
        w.subscribe_to(reader, vec![wanted.clone()], None);
        assert_eq!(w.messages(reader).len(), second);
        // A subscription of a resumed session is not new.
        w.drop_connection(reader);
        let reader = w.connect(v5("reader").lasting());
        w.subscribe_to(reader, vec![wanted], None);
        assert_eq!(w.messages(reader).len(), second);
    }
}

#[test]
fn a_repeated_3_1_1_subscription_gets_them_again() {
    let (mut w, writer) = world();
    w.publish(writer, say("t", "x").retain());
    let reader = w.connect(v3("reader"));
    for _ in 0..2 {
        w.subscribe(reader, "t", 0);
        assert_eq!(w.payloads(reader), ["x"]);
    }
}

#[test]
fn a_shared_subscription_gets_none() {
    let (mut w, writer) = world();
    w.publish(writer, say("t", "x").retain());
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "$share/g/t", 1);
    assert_eq!(w.messages(reader), []);
}

#[test]
fn retained_messages_carry_the_subscription_identifier_and_their_properties() {
    let (mut w, writer) = world();
    let mut message = say("t", "x").retain();
    message.properties.content_type = Some(signet_wire::Text::from_static("text/plain"));
    w.publish(writer, message);
    let reader = w.connect(v5("reader"));
    w.subscribe_to(reader, vec![filter("t", 0)], Some(77));
    let properties = w.messages(reader).remove(0).properties.unwrap();
    assert_eq!(properties.subscription_ids.as_slice(), [77]);
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
}

#[test]
fn no_local_keeps_the_clients_own_retained_message_away() {
    let (mut w, writer) = world();
    w.publish(writer, say("t", "mine").retain());
    let mut wanted = filter("t", 0);
    wanted.options.no_local = true;
    w.subscribe_to(writer, vec![wanted.clone()], None);
    assert_eq!(w.messages(writer), []);
    let other = w.connect(v5("other"));
    w.subscribe_to(other, vec![wanted], None);
    assert_eq!(w.payloads(other), ["mine"]);
}

#[test]
fn retained_messages_survive_their_publisher() {
    let (mut w, writer) = world();
    w.publish(writer, say("t", "x").retain());
    w.disconnect(writer);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 0);
    assert_eq!(w.payloads(reader), ["x"]);
}

#[test]
fn many_retained_messages_all_arrive() {
    let mut w = World::limited(|limits| limits.queued_messages_max = 10);
    let writer = w.connect(v5("writer"));
    for n in 0..3000 {
        w.publish(writer, say(&format!("t/{n}"), "x").retain().qos((n % 3) as u8));
    }
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t/#", 2);
    assert_eq!(w.payloads(reader).len(), 3000);
}

#[test]
fn a_message_over_a_bound_of_the_store_is_refused_whole() {
    let mut w = World::limited(|limits| limits.retained_messages_max = 2);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "#", 0);
    let writer = w.connect(v5("writer"));
    for name in ["a", "b"] {
        assert_eq!(w.publish(writer, say(name, "x").retain().qos(1)), ReasonCode::Success);
    }
    assert_eq!(w.publish(writer, say("c", "x").retain().qos(1)), ReasonCode::QuotaExceeded);
    assert!(w.notes(writer).contains(&Event::QuotaReached(Quota::Retained)));
    assert_eq!(w.messages(reader).len(), 2);
    // A topic that is there may change, and one that is cleared makes room.
    assert_eq!(w.publish(writer, say("a", "y").retain().qos(1)), ReasonCode::Success);
    w.publish(writer, say("a", "").retain());
    assert_eq!(w.publish(writer, say("c", "x").retain().qos(1)), ReasonCode::Success);
}

#[test]
fn one_principal_cannot_fill_the_store() {
    let mut w = World::limited(|limits| limits.retained_messages_per_principal_max = 1);
    let greedy = w.connect(v5("greedy"));
    let modest = w.connect(v5("modest"));
    assert!(!w.publish(greedy, say("a", "x").retain().qos(1)).is_failure());
    assert_eq!(w.publish(greedy, say("b", "x").retain().qos(1)), ReasonCode::QuotaExceeded);
    assert!(!w.publish(modest, say("c", "x").retain().qos(1)).is_failure());
}

#[test]
fn the_reader_needs_the_right_to_read() {
    let policy = "user writer\ntopic write #\nuser reader\ntopic read open/#\n";
    let mut w = World::under(policy);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("open/a", "1").retain());
    w.publish(writer, say("closed/a", "2").retain());
    let reader = w.connect(v5("reader"));
    assert_eq!(w.subscribe_to(reader, vec![filter("#", 0)], None).reasons, [ReasonCode::NotAuthorized]);
    w.subscribe(reader, "open/#", 0);
    assert_eq!(texts(&w.messages(reader)), ["1"]);
}

#[test]
fn the_publisher_still_needs_the_right_to_have_written() {
    let before = "user writer\ntopic write #\nuser reader\ntopic read #\n";
    let after = "user writer\ntopic write good/#\nuser reader\ntopic read #\n";
    let mut w = World::under(before);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("good/a", "1").retain());
    w.publish(writer, say("bad/a", "2").retain());
    w.set_policy(after);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "#", 0);
    assert_eq!(texts(&w.messages(reader)), ["1"]);
    assert_eq!(w.counts().denied_retained_source, 1);
}

#[test]
fn unsubscribing_does_not_touch_them() {
    let (mut w, writer) = world();
    w.publish(writer, say("t", "x").retain());
    w.subscribe(writer, "t", 0);
    w.unsubscribe(writer, "t");
    w.heard(writer);
    w.subscribe(writer, "t", 0);
    let [message] = w.messages(writer).try_into().unwrap();
    assert_eq!(message.topic, Some(topic("t")));
}

#[test]
fn a_filter_that_comes_twice_in_one_packet_gets_them_once() {
    let (mut w, writer) = world();
    w.publish(writer, say("t", "x").retain().qos(2));
    let reader = w.connect(v5("reader"));
    w.subscribe_to(reader, vec![filter("t", 2), filter("t", 1)], None);
    let [message] = w.messages(reader).try_into().unwrap();
    assert_eq!(message.qos.qos(), QoS::AtLeastOnce);
}

#[test]
fn a_refused_retained_message_leaves_nothing_behind() {
    let mut w = World::limited(|limits| limits.retained_messages_max = 0);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 0);
    let writer = w.connect(v5("writer"));
    assert_eq!(w.publish(writer, say("t", "no").retain().qos(1)), ReasonCode::QuotaExceeded);
    w.publish(writer, say("t", "yes"));
    assert_eq!(w.payloads(reader), ["yes"]);
}

#[test]
fn who_cannot_be_told_of_a_bound_of_the_store_reaches_those_who_subscribe_now_and_is_not_retained() {
    for (dial, qos) in [(v3("writer"), 1), (v3("writer"), 2), (v3("writer"), 0), (v5("writer"), 0)] {
        let mut w = World::limited(|limits| limits.retained_messages_max = 0);
        let reader = w.connect(v5("reader"));
        w.subscribe(reader, "t", 2);
        let writer = w.connect(dial);
        assert_eq!(w.publish(writer, say("t", "x").retain().qos(qos)), ReasonCode::Success);
        assert_eq!(w.payloads(reader), ["x"]);
        assert!(w.notes(writer).contains(&Event::QuotaReached(Quota::Retained)));
        assert_eq!((w.counts().quota_retained, w.hub.retained_fill().0), (1, 0));
    }
}

#[test]
fn a_will_that_a_bound_of_the_store_refuses_reaches_those_who_subscribe_now() {
    let mut w = World::limited(|limits| limits.retained_messages_max = 0);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "w", 1);
    let mut gone = will("w", "gone");
    gone.retain = true;
    let who = w.connect(v5("who").will(gone));
    w.lose(who);
    assert_eq!(w.payloads(reader), ["gone"]);
    assert_eq!((w.counts().wills_sent, w.counts().quota_retained), (1, 1));
    assert_eq!(w.hub.retained_fill().0, 0);
}
