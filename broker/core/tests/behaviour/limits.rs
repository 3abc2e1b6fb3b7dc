//! Every bound has a test that reaches it.

use signet_core::{CloseReason, Event, Quota, Refusal, SlowConsumer};
use signet_wire::ReasonCode;

use crate::world::{World, filter, say, texts, v3, v5};

#[test]
fn subscriptions_of_a_session() {
    let mut w = World::limited(|limits| limits.subscriptions_per_session_max = 2);
    let who = w.connect(v5("dev"));
    let answer =
        w.subscribe_to(who, vec![filter("a", 0), filter("b", 0), filter("c", 0), filter("a", 1)], None);
    assert_eq!(
        answer.reasons,
        [ReasonCode::Success, ReasonCode::Success, ReasonCode::QuotaExceeded, ReasonCode::GrantedQoS1]
    );
    assert!(w.notes(who).contains(&Event::QuotaReached(Quota::Subscriptions)));
    w.unsubscribe(who, "a");
    w.subscribe(who, "c", 0);
    assert_eq!(w.counts().quota_subscriptions, 1);
}

#[test]
fn levels_of_a_filter() {
    let mut w = World::limited(|limits| limits.topic_levels_max = 3);
    let who = w.connect(v5("dev"));
    let answer = w.subscribe_to(
        who,
        vec![filter("a/b/c", 0), filter("a/b/c/#", 0), filter("$share/g/a/b/c", 0)],
        None,
    );
    assert_eq!(answer.reasons, [ReasonCode::Success, ReasonCode::TopicFilterInvalid, ReasonCode::Success]);
    assert!(w.notes(who).contains(&Event::QuotaReached(Quota::FilterLevels)));
}

#[test]
fn sessions_of_a_principal() {
    let mut w = World::limited(|limits| limits.sessions_per_principal_max = 2);
    let first = w.connect(v5("dev").client_id("1"));
    let second = w.connect(v5("dev").client_id("2").lasting());
    let (third, connack) = w.dial(v5("dev").client_id("3"));
    assert_eq!(connack.unwrap().reason, ReasonCode::QuotaExceeded);
    assert_eq!(w.closed(third), Some(CloseReason::Refused(Refusal::TooManySessionsOfPrincipal)));
    // Its own sessions may come back, others are not concerned, and an ended one makes room.
    w.drop_connection(second);
    w.connect(v5("dev").client_id("2").lasting());
    w.connect(v5("other"));
    w.disconnect(first);
    w.connect(v5("dev").client_id("3"));
}

#[test]
fn sessions_in_the_broker() {
    let mut w = World::limited(|limits| limits.sessions_max = 1);
    let first = w.connect(v5("a"));
    let (who, _) = w.dial(v3("b"));
    assert_eq!(w.closed(who), Some(CloseReason::Refused(Refusal::TooManySessions)));
    w.connect(v5("a"));
    w.assert_disconnected(first, ReasonCode::SessionTakenOver);
}

#[test]
fn bytes_of_a_client_identifier() {
    let mut w = World::limited(|limits| limits.client_id_bytes_max = 5);
    w.connect(v5("dev").client_id("12345"));
    let (_, connack) = w.dial(v5("dev").client_id("123456"));
    assert_eq!(connack.unwrap().reason, ReasonCode::ClientIdentifierNotValid);
}

#[test]
fn messages_that_wait_for_a_session_that_is_away() {
    let mut w = World::limited(|limits| limits.queued_messages_max = 3);
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    for n in 0..5 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    assert_eq!(w.counts().dropped_queue_full, 2);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["0", "1", "2"], "the newest are dropped");
}

#[test]
fn bytes_that_wait_for_a_session_that_is_away() {
    let mut w = World::limited(|limits| limits.queued_bytes_max = 3000);
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    let payload = "x".repeat(1000);
    for _ in 0..5 {
        w.publish(writer, say("t", &payload).qos(1));
    }
    let session = w.hub.sessions().into_iter().find(|session| !session.connected).unwrap();
    assert_eq!(session.queued_messages, 2);
    assert!(session.queued_bytes <= 3000);
    assert_eq!(w.counts().dropped_queue_full, 3);
}

#[test]
fn messages_that_wait_for_acknowledgements() {
    let mut w = World::limited(|limits| limits.queued_messages_max = 2);
    let reader = w.connect(v5("reader").receive_max(1));
    w.subscribe(reader, "t", 1);
    let writer = w.connect(v5("writer"));
    for n in 0..5 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    assert_eq!(w.payloads(reader), ["0", "1", "2"]);
    assert_eq!(w.counts().dropped_queue_full, 2);
    w.assert_open(reader);
}

#[test]
fn qos_0_bytes_that_a_slow_client_does_not_take_are_dropped() {
    let mut w = World::limited(|limits| limits.outbox_bytes_max = 10_000);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 0);
    let writer = w.connect(v5("writer"));
    w.stall(reader, true);
    let payload = "x".repeat(1000);
    for _ in 0..100 {
        w.publish(writer, say("t", &payload));
    }
    w.assert_open(reader);
    assert_eq!(w.counts().dropped_queue_full, 92);
    w.stall(reader, false);
    assert_eq!(w.messages(reader).len(), 8);
    w.publish(writer, say("t", "again"));
    assert_eq!(w.payloads(reader), ["again"]);
}

#[test]
fn qos_1_bytes_that_a_slow_client_does_not_take_close_it_with_0x97() {
    let mut w = World::limited(|limits| {
        limits.outbox_bytes_max = 10_000;
        limits.queued_bytes_max = 10_000;
    });
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    let writer = w.connect(v5("writer"));
    w.stall(reader, true);
    let payload = "x".repeat(1000);
    for _ in 0..20 {
        w.publish(writer, say("t", &payload).qos(1));
    }
    w.assert_disconnected(reader, ReasonCode::QuotaExceeded);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.messages(reader).len(), 8, "what fits waits for its return");
}

#[test]
fn a_policy_may_drop_the_newest_instead() {
    let mut w = World::limited(|limits| {
        limits.outbox_bytes_max = 10_000;
        limits.slow_consumer = SlowConsumer::DropNewest;
    });
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 1);
    let writer = w.connect(v5("writer"));
    w.stall(reader, true);
    let payload = "x".repeat(1000);
    for _ in 0..20 {
        w.publish(writer, say("t", &payload).qos(1));
    }
    w.assert_open(reader);
    assert_eq!(w.counts().dropped_queue_full, 12);
    w.stall(reader, false);
    assert_eq!(w.messages(reader).len(), 8);
}

#[test]
fn a_slow_client_does_not_slow_another() {
    let mut w = World::limited(|limits| limits.outbox_bytes_max = 10_000);
    let slow = w.connect(v5("slow"));
    let fast = w.connect(v5("fast"));
    for who in [slow, fast] {
        w.subscribe(who, "t", 0);
    }
    let writer = w.connect(v5("writer"));
    w.stall(slow, true);
    for n in 0..1000 {
        w.publish(writer, say("t", &n.to_string()));
    }
    assert_eq!(w.messages(fast).len(), 1000);
}

#[test]
fn retained_messages_behind_a_subscription() {
    let mut w = World::limited(|limits| limits.retained_replay_max = 5);
    let writer = w.connect(v5("writer"));
    for n in 0..8 {
        w.publish(writer, say(&format!("t/{n}"), "x").retain());
    }
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t/#", 0);
    assert_eq!(w.messages(reader).len(), 5);
    assert_eq!(w.counts().dropped_retained_replay, 3);
    w.subscribe(reader, "t/1", 0);
    assert_eq!(w.messages(reader).len(), 1, "room again");
}

#[test]
fn bytes_of_one_drain() {
    let mut w = World::limited(|limits| limits.drain_bytes_max = 5000);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 0);
    let writer = w.connect(v5("writer"));
    w.stall(reader, true);
    let payload = "x".repeat(1000);
    for _ in 0..50 {
        w.publish(writer, say("t", &payload));
    }
    w.input(reader, signet_core::Input::Wake);
    assert_eq!(w.messages(reader).len(), 5);
    assert!(w.connection(reader).wants_drain());
    w.stall(reader, false);
    assert_eq!(w.messages(reader).len(), 45);
    assert!(!w.connection(reader).wants_drain());
}

#[test]
fn new_limits_hold_for_what_happens_next() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "a", 0);
    w.subscribe(who, "b", 0);
    let mut limits = (*w.hub.limits()).clone();
    limits.subscriptions_per_session_max = 1;
    w.hub.set_limits(limits);
    assert_eq!(w.subscribe_to(who, vec![filter("c", 0)], None).reasons, [ReasonCode::QuotaExceeded]);
    w.publish(who, say("b", "x"));
    assert_eq!(texts(&w.messages(who)), ["x"]);
}

#[test]
fn expired_messages_give_their_places_to_new_ones() {
    let mut w = World::limited(|limits| limits.queued_messages_max = 2);
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "stale").qos(1).expiry(5));
    w.publish(writer, say("t", "kept").qos(1));
    w.advance_secs(10);
    w.publish(writer, say("t", "new").qos(1));
    assert_eq!((w.counts().dropped_expired, w.counts().dropped_queue_full), (1, 0));
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["kept", "new"]);
}

#[test]
fn reports_of_one_subscribe() {
    let mut w = World::under("");
    let who = w.connect(v5("dev"));
    w.notes(who);
    let filters: Vec<_> = (0..500).map(|n| filter(&format!("t/{n}"), 0)).collect();
    let answer = w.subscribe_to(who, filters, None);
    assert_eq!(answer.reasons, vec![ReasonCode::NotAuthorized; 500]);
    assert_eq!(w.notes(who).len(), 16);
    assert_eq!(w.counts().denied_subscribe, 500);
}

#[test]
fn the_packet_size_that_was_announced_holds_for_the_connection() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "t", 0);
    let mut limits = (*w.hub.limits()).clone();
    limits.packet_bytes_max = 100.try_into().unwrap();
    w.hub.set_limits(limits);
    let payload = "x".repeat(1000);
    w.publish(who, say("t", &payload));
    assert_eq!(w.payloads(who), [payload]);
    let (_, connack) = w.dial(v5("late"));
    assert_eq!(connack.unwrap().properties.packet_bytes_max.unwrap().get(), 100);
}
