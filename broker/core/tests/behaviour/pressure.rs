//! What is turned away while memory runs short, and what is not; and what all sessions of one name may have together.

use bytes::BytesMut;
use signet_core::{CloseReason, Event, Pressure, Quota, Refusal};
use signet_wire::{Ack, Packet, ReasonCode, Version, encode};

use crate::world::{Who, World, filter, id, say, v3, v5};

#[test]
fn qos_0_is_lost_first_and_qos_1_and_2_are_refused() {
    let mut w = World::new();
    let (reader, writer) = (w.connect(v5("reader")), w.connect(v5("writer")));
    w.subscribe(reader, "t", 2);
    w.hub.set_pressure(Pressure::Shed);
    w.publish(writer, say("t", "lost"));
    assert_eq!(w.publish(writer, say("t", "refused").qos(1)), ReasonCode::QuotaExceeded);
    assert_eq!(w.publish(writer, say("t", "refused").qos(2)), ReasonCode::QuotaExceeded);
    assert!(w.notes(writer).contains(&Event::QuotaReached(Quota::Memory)));
    assert_eq!((w.counts().shed_qos0, w.counts().shed_publish), (1, 2));
    w.hub.set_pressure(Pressure::None);
    assert_eq!(w.publish(writer, say("t", "taken").qos(2)), ReasonCode::Success);
    assert_eq!(w.payloads(reader), ["taken"]);
}

#[test]
fn a_3_1_1_publisher_is_closed_and_never_acknowledged_what_is_nowhere() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 2);
    for qos in [1, 2] {
        let writer = w.connect(v3("writer").lasting());
        w.hub.set_pressure(Pressure::Shed);
        w.send(writer, Packet::Publish(say("t", "m").qos(qos).packet(7)));
        assert_eq!(w.closed(writer), Some(CloseReason::Overloaded));
        assert!(w.heard(writer).is_empty(), "no acknowledgement");
        w.hub.set_pressure(Pressure::None);
        // It sends the same again, under the same identifier.
        let writer = w.connect(v3("writer").lasting());
        w.send(writer, Packet::Publish(say("t", "m").qos(qos).packet(7)));
        assert_eq!(w.payloads(reader), ["m"]);
        w.disconnect(writer);
    }
}

#[test]
fn clearing_a_retained_message_gives_memory_back_and_is_taken() {
    let mut w = World::new();
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "kept").retain());
    w.hub.set_pressure(Pressure::Shed);
    assert_eq!(w.publish(writer, say("t", "").retain().qos(1)), ReasonCode::NoMatchingSubscribers);
    assert_eq!(w.hub.retained_fill().0, 0);
    assert_eq!(w.publish(writer, say("t", "more").retain().qos(1)), ReasonCode::QuotaExceeded);
    assert_eq!(w.publish(writer, say("t", "").qos(1)), ReasonCode::QuotaExceeded, "an empty message is one");
}

#[test]
fn nobody_new_gets_in_and_who_has_messages_waiting_does() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "waits").qos(1));
    w.hub.set_pressure(Pressure::Shed);
    let (new, connack) = w.dial(v5("new"));
    assert_eq!(connack.unwrap().reason, ReasonCode::ServerBusy);
    assert_eq!(w.closed(new), Some(CloseReason::Refused(Refusal::Overloaded)));
    w.hub.set_pressure(Pressure::Full);
    let (_, connack) = w.dial(v5("new"));
    assert_eq!(connack.unwrap().reason, ReasonCode::ServerBusy);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["waits"]);
    assert_eq!(w.counts().shed_connects, 2);
    w.hub.set_pressure(Pressure::None);
    w.connect(v5("new"));
}

#[test]
fn new_subscriptions_are_refused_and_those_that_exist_can_be_asked_for_again() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.subscribe(who, "a", 0);
    w.hub.set_pressure(Pressure::Shed);
    let answer = w.subscribe_to(who, vec![filter("a", 1), filter("b", 0)], None);
    assert_eq!(answer.reasons, [ReasonCode::GrantedQoS1, ReasonCode::QuotaExceeded]);
    assert_eq!(w.counts().shed_subscriptions, 1);
}

#[test]
fn what_is_taken_is_told_so_that_memory_is_looked_at_in_time() {
    let mut w = World::new();
    let (reader, writer) = (w.connect(v5("reader")), w.connect(v5("writer")));
    w.subscribe(reader, "t", 0);
    w.hub.reset_growth();
    w.publish(writer, say("t", &"x".repeat(10_000)));
    assert!((10_000..12_000).contains(&w.hub.growth()), "{}", w.hub.growth());
}

#[test]
fn who_holds_the_most_can_be_told_and_closed() {
    let mut w = World::new();
    let (slow, fast, writer) = (w.connect(v5("slow")), w.connect(v5("fast")), w.connect(v5("writer")));
    w.subscribe(slow, "t", 0);
    w.subscribe(fast, "t", 0);
    w.stall(slow, true);
    w.publish(writer, say("t", &"x".repeat(1000)));
    let backlogs = w.hub.backlogs();
    assert_eq!(backlogs.len(), 1, "{backlogs:?}");
    assert_eq!(backlogs[0].connection, w.connection(slow).number());
    assert!(backlogs[0].bytes > 1000);
    assert!(w.hub.close_slow(backlogs[0].connection));
    w.drive();
    assert_eq!(w.closed(slow), Some(CloseReason::SlowConsumer));
    assert!(w.hub.backlogs().is_empty());
    w.assert_open(fast);
}

#[test]
fn closing_gives_back_what_waits_for_a_session_that_ends_and_of_one_that_stays_only_qos_0() {
    let mut w = World::new();
    let (stays, ends, writer) =
        (w.connect(v5("stays").lasting()), w.connect(v5("ends")), w.connect(v5("writer")));
    for reader in [stays, ends] {
        w.subscribe(reader, "t", 1);
        w.stall(reader, true);
    }
    w.publish(writer, say("t", &"x".repeat(1000)).qos(1));
    let backlogs = w.hub.backlogs();
    assert_eq!(backlogs.len(), 1, "{backlogs:?}");
    assert_eq!(backlogs[0].connection, w.connection(ends).number());
    w.publish(writer, say("t", &"x".repeat(3000)));
    let backlog = |w: &World, reader| {
        let number = w.connection(reader).number();
        w.hub.backlogs().iter().find(|it| it.connection == number).unwrap().bytes
    };
    // Each of them has a half of what waits for both, or less where the journal still has it too: closing one alone gives back
    // nothing of it.
    let part = backlog(&w, stays);
    assert!((500..2000).contains(&part), "{:?}", w.hub.backlogs());
    assert!((part + 1..part + 1000).contains(&backlog(&w, ends)), "{:?}", w.hub.backlogs());
    w.drop_connection(ends);
    assert!(backlog(&w, stays) > part, "{:?}", w.hub.backlogs());
}

#[test]
fn retained_messages_that_nobody_takes_are_to_take_and_given_back_once_the_store_has_others() {
    for qos in [0, 1] {
        let mut w = World::new();
        let (reader, writer) = (w.connect(v5("reader")), w.connect(v5("writer")));
        let retain = |w: &mut World, payload: &str| {
            for n in 0..100 {
                w.publish(writer, say(&format!("r/{n}"), &payload.repeat(1000)).qos(qos).retain());
            }
        };
        retain(&mut w, "x");
        w.stall(reader, true);
        w.subscribe(reader, "r/#", qos);
        let backlog = |w: &World| match w.hub.backlogs()[..] {
            [backlog] => backlog,
            ref other => panic!("{other:?}"),
        };
        let held = backlog(&w);
        assert_eq!(held.connection, w.connection(reader).number());
        assert!((100_000..110_000).contains(&held.to_take), "{held:?}");
        assert!(held.bytes < 50_000, "its end gives back the places, the messages are the store's: {held:?}");
        w.unsubscribe(reader, "r/#");
        retain(&mut w, "y");
        let held = backlog(&w);
        assert!((100_000..110_000).contains(&held.to_take), "{held:?}");
        assert!(held.bytes > 100_000, "nobody else has them now: {held:?}");
        w.stall(reader, false);
        assert_eq!(w.payloads(reader).len(), 100);
        assert!(w.hub.backlogs().is_empty());
    }
}

#[test]
fn retained_messages_of_qos_1_for_a_session_that_stays_are_not_given_back_with_its_connection() {
    let mut w = World::new();
    let (reader, writer) = (w.connect(v5("reader").lasting()), w.connect(v5("writer")));
    w.publish(writer, say("r/1", &"x".repeat(1000)).qos(1).retain());
    w.publish(writer, say("r/0", &"x".repeat(3000)).retain());
    w.stall(reader, true);
    w.subscribe(reader, "r/#", 1);
    let backlogs = w.hub.backlogs();
    assert!((3000..3500).contains(&backlogs[0].to_take), "{backlogs:?}");
}

#[test]
fn subscriptions_of_all_sessions_of_a_name_have_one_bound() {
    let mut w = World::limited(|limits| limits.subscriptions_per_principal_max = 3);
    let first = w.connect(v5("dev").client_id("1"));
    let second = w.connect(v5("dev").client_id("2"));
    w.subscribe(first, "a", 0);
    w.subscribe(first, "b", 0);
    w.subscribe(second, "a", 0);
    let answer = w.subscribe_to(second, vec![filter("b", 0), filter("a", 1)], None);
    assert_eq!(answer.reasons, [ReasonCode::QuotaExceeded, ReasonCode::GrantedQoS1]);
    assert_eq!(w.counts().quota_subscriptions_of_principal, 1);
    let other = w.connect(v5("other"));
    w.subscribe(other, "a", 0);
    // What is given up can be had by the other session, by UNSUBSCRIBE and by the end of a session.
    w.unsubscribe(first, "b");
    w.subscribe(second, "b", 0);
    w.disconnect(first);
    w.subscribe(second, "c", 0);
    let answer = w.subscribe_to(second, vec![filter("d", 0)], None);
    assert_eq!(answer.reasons, [ReasonCode::QuotaExceeded]);
}

#[test]
fn bytes_that_wait_for_all_sessions_of_a_name_have_one_bound() {
    let mut w = World::limited(|limits| limits.queued_bytes_per_principal_max = 3000);
    for id in ["1", "2"] {
        let reader = w.connect(v5("reader").client_id(id).lasting());
        w.subscribe(reader, id, 1);
        w.drop_connection(reader);
    }
    let other = w.connect(v5("other").lasting());
    w.subscribe(other, "2", 1);
    w.drop_connection(other);
    let writer = w.connect(v5("writer"));
    let payload = "x".repeat(1000);
    w.publish(writer, say("1", &payload).qos(1));
    w.publish(writer, say("1", &payload).qos(1));
    w.publish(writer, say("2", &payload).qos(1));
    assert_eq!(w.counts().dropped_queue_full, 1, "the third of `reader`");
    let first = w.connect(v5("reader").client_id("1").lasting());
    assert_eq!(w.payloads(first).len(), 2);
    // They have been taken, so there is room for the other session.
    w.publish(writer, say("2", &payload).qos(1));
    let second = w.connect(v5("reader").client_id("2").lasting());
    assert_eq!(w.payloads(second).len(), 1);
    let other = w.connect(v5("other").lasting());
    assert_eq!(w.payloads(other).len(), 2, "another name has a bound of its own");
}

#[test]
fn who_is_connected_has_a_share_of_its_own_when_sessions_of_its_name_that_are_away_have_all() {
    let mut w = World::limited(|limits| {
        limits.queued_bytes_per_principal_max = 3000;
        limits.drain_bytes_max = 2500;
    });
    for id in ["1", "2"] {
        let away = w.connect(v5("reader").client_id(id).lasting());
        w.subscribe(away, id, 1);
        w.drop_connection(away);
    }
    let live = w.connect(v5("reader").client_id("live").lasting());
    w.subscribe(live, "live", 1);
    let writer = w.connect(v5("writer"));
    let payload = "x".repeat(1000);
    for _ in 0..3 {
        w.publish(writer, say("1", &payload).qos(1));
    }
    assert_eq!(w.counts().dropped_queue_full, 1, "the name has no more room");
    for _ in 0..5 {
        w.publish(writer, say("live", &payload).qos(1));
        assert_eq!(w.payloads(live), [payload.as_str()]);
    }
    // One that is larger than the share comes too, for who has nothing else.
    let large = "x".repeat(2700);
    w.publish(writer, say("live", &large).qos(1));
    assert_eq!(w.payloads(live), [large]);
    // It is a share, and only for who is connected.
    assert_eq!(w.counts().dropped_queue_full, 1);
    w.stall(live, true);
    for _ in 0..3 {
        w.publish(writer, say("live", &payload).qos(1));
    }
    assert_eq!(w.counts().dropped_queue_full, 2);
    w.publish(writer, say("2", &payload).qos(1));
    assert_eq!(w.counts().dropped_queue_full, 3);
    w.stall(live, false);
    assert_eq!(w.payloads(live).len(), 2);
}

#[test]
fn what_is_sent_and_not_acknowledged_counts_for_its_name_until_it_is() {
    let mut w = World::limited(|limits| {
        limits.queued_bytes_per_principal_max = 20_000;
        limits.drain_bytes_max = 1000;
    });
    let away = w.connect(v5("reader").client_id("away").lasting());
    w.subscribe(away, "away", 1);
    w.drop_connection(away);
    for qos in [1, 2] {
        let reader = w.connect(v5("reader").lasting());
        w.subscribe(reader, "t", qos);
        let writer = w.connect(v5("writer"));
        let (payload, dropped) = ("x".repeat(6000), w.counts().dropped_queue_full);
        for _ in 0..5 {
            w.publish(writer, say("t", &payload).qos(qos));
        }
        assert_eq!(w.messages(reader).len(), 3, "all of these are kept until they are acknowledged");
        assert_eq!(w.counts().dropped_queue_full, dropped + 2);
        w.drop_connection(reader);
        w.publish(writer, say("away", &payload).qos(1));
        assert_eq!(w.counts().dropped_queue_full, dropped + 3, "they count while nobody is connected");
        let reader = w.connect(v5("reader").lasting());
        assert_eq!(w.payloads(reader).len(), 3);
        w.publish(writer, say("away", &payload).qos(1));
        assert_eq!(w.counts().dropped_queue_full, dropped + 3);
        let away = w.connect(v5("reader").client_id("away").lasting());
        assert_eq!(w.payloads(away).len(), 1);
        w.drop_connection(away);
        // The end of a session gives back what was in flight.
        w.publish(writer, say("t", &payload).qos(qos));
        assert_eq!(w.messages(reader).len(), 1);
        let reader = w.connect(v5("reader"));
        w.disconnect(reader);
    }
}

#[test]
fn a_3_1_1_client_that_subscribes_is_closed_and_not_left_deaf() {
    let mut w = World::new();
    let who = w.connect(v3("dev").lasting());
    w.subscribe(who, "a", 1);
    w.hub.set_pressure(Pressure::Shed);
    w.subscribe(who, "a", 0);
    let asked = signet_wire::Subscribe {
        packet_id: id(9),
        subscription_id: None,
        user_properties: Vec::new(),
        filters: vec![filter("a", 1), filter("b", 1)],
    };
    w.send(who, Packet::Subscribe(Box::new(asked.clone())));
    assert_eq!(w.closed(who), Some(CloseReason::Overloaded));
    assert!(w.heard(who).is_empty(), "no SUBACK");
    assert_eq!((w.counts().shed_subscriptions, w.hub.subscription_count()), (1, 1));
    w.hub.set_pressure(Pressure::None);
    let who = w.connect(v3("dev").lasting());
    w.send(who, Packet::Subscribe(Box::new(asked)));
    assert!(matches!(w.heard(who).as_slice(), [Packet::SubAck(_)]));
}

#[test]
fn what_cannot_be_answered_with_a_refusal_had_better_wait_while_memory_runs_short() {
    let mut w = World::new();
    let (old, new) = (w.connect(v3("old")), w.connect(v5("new")));
    let waits = |w: &mut World, who: Who, packet: Packet, version: Version| {
        let mut bytes = BytesMut::new();
        encode(&packet, version, &mut bytes).unwrap();
        // The first bytes are enough.
        w.connection_mut(who).should_wait(&bytes[..bytes.len().min(8)])
    };
    let long = "x".repeat(500);
    let packets = || {
        let subscribe = signet_wire::Subscribe {
            packet_id: id(1),
            subscription_id: None,
            user_properties: Vec::new(),
            filters: vec![filter("a", 0)],
        };
        [
            (Packet::Publish(say("t", "m").qos(1).packet(1)), true),
            (Packet::Publish(say("t", "m").qos(2).packet(1)), true),
            (Packet::Publish(say("t", &long).qos(1).retain().packet(1)), true),
            (Packet::Publish(say("t", "").qos(1).packet(1)), true),
            (Packet::Subscribe(Box::new(subscribe)), true),
            // It gives memory back, or can be lost, or takes none.
            (Packet::Publish(say("t", "").qos(1).retain().packet(1)), false),
            (Packet::Publish(say("t", "m").packet(1)), false),
            (Packet::PubAck(Ack::success(id(1))), false),
            (Packet::PingReq, false),
        ]
    };
    for (packet, _) in packets() {
        assert!(!waits(&mut w, old, packet, Version::V311), "there is memory");
    }
    w.hub.set_pressure(Pressure::Shed);
    for (packet, expected) in packets() {
        assert_eq!(waits(&mut w, old, packet.clone(), Version::V311), expected, "{packet:?}");
        assert!(!waits(&mut w, new, packet, Version::V5), "it can be told");
    }
}

/// A name that holds more than its share, in the queue of a session that is away or retained.
fn hoarder(w: &mut World, retained: bool) -> Who {
    let away = w.connect(v5("hoarder").client_id("away").lasting());
    w.subscribe(away, "hoard", 1);
    w.drop_connection(away);
    let hoarder = w.connect(v5("hoarder"));
    let payload = "x".repeat(3000);
    let hoard = say(if retained { "kept" } else { "hoard" }, &payload).qos(1);
    w.publish(hoarder, if retained { hoard.retain() } else { hoard });
    hoarder
}

#[test]
fn while_memory_is_tight_those_who_hold_more_than_their_share_are_refused_and_nobody_else() {
    for retained in [false, true] {
        let mut w = World::new();
        w.hub.set_fair_share(2000);
        let other = w.connect(v5("other"));
        let hoarder = hoarder(&mut w, retained);
        assert_eq!(w.publish(hoarder, say("hoard", "m").qos(1)), ReasonCode::Success);
        w.hub.set_pressure(Pressure::Tight);
        for qos in [1, 2] {
            assert_eq!(w.publish(hoarder, say("hoard", "m").qos(qos)), ReasonCode::QuotaExceeded);
            let new = || say("new", "m").qos(qos).retain();
            assert_eq!(w.publish(hoarder, new()), ReasonCode::QuotaExceeded);
            assert_eq!(w.publish(other, new()), ReasonCode::NoMatchingSubscribers);
            w.publish(other, say("new", "").qos(1).retain());
        }
        let refused = w.subscribe_to(hoarder, vec![filter("x", 0)], None);
        assert_eq!(refused.reasons, [ReasonCode::QuotaExceeded]);
        w.subscribe(other, "x", 0);
        w.publish(other, say("x", "heard"));
        assert_eq!(w.payloads(other), ["heard"]);
        let (_, connack) = w.dial(v5("hoarder").client_id("more"));
        assert_eq!(connack.unwrap().reason, ReasonCode::ServerBusy);
        w.connect(v5("new"));
        // It may take what waits, and give up what it retains; then it is one of many.
        let away = w.connect(v5("hoarder").client_id("away").lasting());
        w.payloads(away);
        w.publish(hoarder, say("kept", "").qos(1).retain());
        assert_eq!(w.publish(hoarder, say("hoard", "m").qos(1)), ReasonCode::Success);
        w.connect(v5("hoarder").client_id("more"));
    }
}

#[test]
fn while_memory_is_tight_a_name_above_its_share_may_say_what_makes_nobodys_share_larger() {
    let mut w = World::new();
    w.hub.set_fair_share(2000);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "live", 2);
    let hoarder = hoarder(&mut w, true);
    let old = w.connect(v3("hoarder").client_id("old"));
    let own = w.connect(v5("hoarder").client_id("own"));
    w.subscribe_to(own, vec![filter("$share/g/group", 1)], None);
    w.hub.set_pressure(Pressure::Tight);
    for qos in [0, 1, 2] {
        w.publish(hoarder, say("live", "heard").qos(qos));
        assert_eq!(w.payloads(reader), ["heard"], "QoS {qos}");
    }
    // It may say the same anew, but nothing that is longer, or has properties besides.
    let kept = |bytes: usize| say("kept", &"y".repeat(bytes)).qos(1).retain();
    assert_eq!(w.publish(hoarder, kept(3000)), ReasonCode::NoMatchingSubscribers);
    assert_eq!(w.publish(hoarder, kept(3001)), ReasonCode::QuotaExceeded);
    // The next of a group may be one of its own.
    assert_eq!(w.publish(hoarder, say("group", "m").qos(1)), ReasonCode::QuotaExceeded);
    let waits = |w: &mut World, packet: signet_wire::Publish, cut: usize| {
        let mut bytes = BytesMut::new();
        encode(&Packet::Publish(packet), Version::V311, &mut bytes).unwrap();
        w.connection_mut(old).should_wait(&bytes[..bytes.len() - cut])
    };
    assert!(!waits(&mut w, say("live", "m").qos(1).packet(1), 0));
    assert!(!waits(&mut w, kept(3000).packet(1), 0));
    assert!(waits(&mut w, kept(3001).packet(1), 0) && waits(&mut w, say("group", "m").qos(2).packet(1), 0));
    assert!(!waits(&mut w, kept(3001).packet(1), 1), "the rest is to come");
    let malformed = |text: &[u8], by: &[u8]| {
        let mut bytes = BytesMut::new();
        encode(&Packet::Publish(kept(3001).packet(1)), Version::V311, &mut bytes).unwrap();
        let place = bytes.windows(text.len()).position(|found| found == text).unwrap();
        bytes[place..place + by.len()].copy_from_slice(by);
        bytes
    };
    for bytes in [
        malformed(b"kept", b"kep#"),
        malformed(b"\0\x04kept", b"\xFF\xFF"),
        malformed(b"kept\0\x01", b"kept\0\0"),
        malformed(b"\x33", b"\x37"),
    ] {
        assert!(!w.connection_mut(old).should_wait(&bytes), "it is closed at once: {:?}", &bytes[..12]);
    }
    w.send(old, Packet::Publish(say("live", "of the old").qos(1).packet(1)));
    assert_eq!(w.payloads(reader), ["of the old"]);
    w.hub.set_pressure(Pressure::Shed);
    assert_eq!(w.publish(hoarder, kept(3000)), ReasonCode::QuotaExceeded, "now it is everybody");
    assert!(waits(&mut w, say("live", "m").qos(1).packet(1), 0));
}

#[test]
fn subscriptions_without_number_count_for_the_name_that_has_them() {
    let mut w = World::new();
    w.hub.set_fair_share(20_000);
    let (greedy, other) = (w.connect(v5("greedy")), w.connect(v5("other")));
    for n in 0..200 {
        w.subscribe(greedy, &format!("f/{n}"), 0);
    }
    w.subscribe(other, "one", 0);
    w.hub.set_pressure(Pressure::Tight);
    for (who, code) in [(greedy, ReasonCode::QuotaExceeded), (other, ReasonCode::Success)] {
        assert_eq!(w.subscribe_to(who, vec![filter("more", 0)], None).reasons, [code]);
    }
}

#[test]
fn retained_messages_that_wait_count_for_whoever_asked_for_them() {
    let mut w = World::new();
    w.hub.set_fair_share(2000);
    let writer = w.connect(v5("writer"));
    for n in 0..3 {
        w.publish(writer, say(&format!("r/{n}"), &"x".repeat(1000)).qos(1).retain());
    }
    for qos in [0, 1] {
        let reader = w.connect(v5("reader").lasting());
        w.stall(reader, true);
        w.subscribe(reader, "r/#", qos);
        w.hub.set_pressure(Pressure::Tight);
        assert_eq!(w.publish(reader, say("r/x", "m").qos(1)), ReasonCode::QuotaExceeded, "QoS {qos}");
        w.stall(reader, false);
        assert_eq!(w.payloads(reader).len(), 3);
        assert_eq!(w.publish(reader, say("r/x", "m").qos(1)), ReasonCode::Success);
        w.payloads(reader);
        w.hub.set_pressure(Pressure::None);
        // What waits at QoS 0 goes with the connection, and the rest with the session.
        w.unsubscribe(reader, "r/#");
        w.stall(reader, true);
        w.subscribe(reader, "r/#", qos);
        w.drop_connection(reader);
        w.connect(v5("reader"));
        w.hub.set_pressure(Pressure::Tight);
        let again = w.connect(v5("reader").client_id("again"));
        assert_eq!(w.publish(again, say("x", "m").qos(1)), ReasonCode::NoMatchingSubscribers);
        w.hub.set_pressure(Pressure::None);
    }
}
