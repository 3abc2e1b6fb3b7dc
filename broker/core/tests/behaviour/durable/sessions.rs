//! Sessions, wills and deadlines over a crash.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use signet_core::{Condemned, Consequences, RetainedTaken};
use signet_wire::{Ack, Disconnect, DisconnectProperties, Packet, Publish, QosId};

use crate::world::{EVERYTHING, Who, World, delayed, device, id, ids, member, say, texts, v3, v5, will};

fn disconnect_with(w: &mut World, who: Who, expiry: u32) {
    let properties =
        DisconnectProperties { session_expiry_secs: Some(expiry), ..DisconnectProperties::default() };
    let disconnect = Disconnect { properties: Some(Box::new(properties)), ..Disconnect::default() };
    w.send(who, Packet::Disconnect(disconnect));
}

#[test]
fn a_lasting_session_is_there_again_and_one_of_a_connection_is_not() {
    let mut w = World::on_disk();
    for dial in [v5("five").lasting(), v3("three").lasting(), v5("short"), v3("clean")] {
        let who = w.connect(dial);
        w.subscribe(who, "t", 1);
    }
    assert_eq!(w.disk().twin.session_count(), 2);
    let restored = w.crash();
    assert_eq!((restored.sessions, restored.subscriptions), (2, 2));
    for (dial, expected) in
        [(v5("five").lasting(), true), (v3("three").lasting(), true), (v5("short").resume(), false)]
    {
        assert_eq!(w.reconnect(dial).1, expected);
    }
}

#[test]
fn a_session_expires_by_the_wall_clock_whatever_the_process_did() {
    let mut w = World::on_disk();
    let dial = || v5("reader").resume().expiry(100);
    let who = w.connect(dial());
    w.drop_connection(who);
    w.advance_secs(60);
    w.crash_for(30);
    assert_eq!(w.hub.session_count(), 1);
    w.advance_secs(9);
    assert_eq!(w.hub.session_count(), 1);
    w.advance_secs(2);
    assert_eq!(w.hub.session_count(), 0);
    w.drive();
    assert!(w.disk().twin.is_empty());
    let who = w.connect(dial());
    w.drop_connection(who);
    w.crash_for(101);
    assert_eq!(w.hub.session_count(), 0, "it expired while there was no broker");
    assert!(!w.reconnect(dial()).1);
}

#[test]
fn who_was_connected_in_the_crash_has_the_whole_interval_from_the_restart() {
    let mut w = World::on_disk();
    let who = w.connect(v5("reader").resume().expiry(100));
    w.drop_connection(who);
    w.advance_secs(50);
    w.connect(v5("reader").resume().expiry(100));
    w.advance_secs(300);
    w.crash_for(500);
    w.advance_secs(99);
    assert_eq!(w.hub.session_count(), 1);
    // The deadline is on the disk by now: another crash does not move it.
    w.crash();
    w.advance_secs(2);
    assert_eq!(w.hub.session_count(), 0);
}

#[test]
fn a_clock_that_went_back_keeps_nothing_longer_than_its_interval() {
    let mut w = World::on_disk();
    let who = w.connect(v5("reader").resume().expiry(100));
    w.drop_connection(who);
    w.now.wall = signet_core::Wall(1000);
    w.crash();
    w.advance_secs(101);
    assert_eq!(w.hub.session_count(), 0);
}

#[test]
fn a_message_waits_no_longer_than_its_interval_by_a_clock_that_went_back() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "short").qos(1).expiry(100).retain());
    w.publish(writer, say("t/2", "kept").qos(1).retain());
    w.now.wall = signet_core::Wall(1000);
    w.crash();
    w.advance_secs(99);
    assert_eq!(w.hub.retained_fill().0, 2);
    w.advance_secs(3);
    assert_eq!(w.hub.retained_fill().0, 1);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), [""; 0]);
}

#[test]
fn a_clean_start_is_answered_when_the_old_session_cannot_come_back() {
    for next in [v5("reader").expiry(100), v5("reader")] {
        let mut w = World::on_disk();
        let who = w.connect(v5("reader").lasting());
        w.subscribe(who, "t", 1);
        w.drop_connection(who);
        w.disk().hang_after(0);
        let (first, connack) = w.dial(next.clone());
        assert!(connack.is_none());
        // Nor may the one who asks again be told so.
        w.drop_connection(first);
        let (second, connack) = w.dial(next);
        assert!(connack.is_none());
        w.disk().hang_after(usize::MAX);
        w.drive();
        assert!(matches!(w.heard(second).as_slice(), [Packet::ConnAck(_)]));
        w.crash();
        assert_eq!(w.hub.subscription_count(), 0);
    }
}

#[test]
fn a_session_that_was_over_before_is_not_told_to_be_over_before_it_is() {
    let mut w = World::on_disk();
    let who = w.connect(v5("reader").lasting());
    w.disk().hang_after(0);
    disconnect_with(&mut w, who, 0);
    let (_, connack) = w.dial(v5("reader").resume());
    assert!(connack.is_none());
    w.connect(v5("another").resume());
}

#[test]
fn a_new_session_without_a_will_waits_for_nothing_and_one_with_a_will_does() {
    let mut w = World::on_disk();
    w.disk().hang_after(0);
    w.connect(v5("without").lasting());
    let (_, connack) = w.dial(v5("with").lasting().will(will("w", "gone")));
    assert!(connack.is_none());
}

#[test]
fn a_session_resumed_for_this_connection_only_ends_with_the_process() {
    let mut w = World::on_disk();
    let who = w.connect(v5("reader").lasting());
    w.subscribe(who, "t", 1);
    w.drop_connection(who);
    let (_, present) = w.reconnect(v5("reader").resume());
    assert!(present);
    assert!(w.disk().twin.is_empty());
    w.crash();
    assert!(!w.reconnect(v5("reader").lasting()).1);
}

#[test]
fn an_expiry_that_disconnect_changes_is_the_one_that_counts() {
    let mut w = World::on_disk();
    let who = w.connect(v5("reader").resume().expiry(1000));
    disconnect_with(&mut w, who, 50);
    w.crash_for(51);
    assert_eq!(w.hub.session_count(), 0);
    let who = w.connect(v5("reader").resume().expiry(1000));
    disconnect_with(&mut w, who, u32::MAX);
    w.crash_for(1_000_000);
    assert_eq!(w.hub.session_count(), 1);
}

#[test]
fn a_session_that_the_broker_made_end_with_its_connection_is_not_prolonged() {
    let mut w = World::limited(|limits| limits.session_expiry_secs_max = 0);
    let who = w.connect(v5("reader").expiry(100));
    w.hub.set_limits(signet_core::Limits::default());
    disconnect_with(&mut w, who, 100);
    assert_eq!(w.hub.session_count(), 0);
}

#[test]
fn the_will_of_who_was_connected_in_the_crash_is_sent_after_its_delay() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "w/#", 1);
    w.connect(v5("now").lasting().will(will("w/now", "now")));
    w.connect(v5("later").lasting().will(delayed(will("w/later", "later"), 60)));
    w.crash_for(1000);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["now"]);
    w.advance_secs(59);
    assert_eq!(w.payloads(reader), [""; 0]);
    w.advance_secs(2);
    assert_eq!(w.payloads(reader), ["later"]);
    w.crash_for(1000);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), [""; 0], "each is sent once");
}

#[test]
fn a_will_that_waits_keeps_its_moment_over_a_crash() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "w", 1);
    let who = w.connect(v5("who").lasting().will(delayed(will("w", "gone"), 60)));
    w.drop_connection(who);
    w.advance_secs(30);
    w.crash_for(20);
    let reader = w.connect(v5("reader").lasting());
    w.advance_secs(9);
    assert_eq!(w.payloads(reader), [""; 0]);
    w.advance_secs(2);
    assert_eq!(w.payloads(reader), ["gone"]);
}

#[test]
fn a_will_that_was_taken_back_or_whose_client_came_back_is_not_sent() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "w", 1);
    let proper = w.connect(v5("proper").lasting().will(delayed(will("w", "no"), 60)));
    w.disconnect(proper);
    let back = w.connect(v5("back").lasting().will(delayed(will("w", "no"), 60)));
    w.drop_connection(back);
    w.connect(v5("back").lasting());
    w.crash_for(1000);
    w.advance_secs(1000);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), [""; 0]);
}

#[test]
fn a_qos_2_will_is_sent_once_wherever_the_process_ends() {
    for durable in 0..12 {
        let mut w = World::on_disk_in_small_pieces();
        let readers = ["one", "two"].map(|name| {
            let who = w.connect(v5(name).lasting());
            w.subscribe(who, "w", 2);
            w.disconnect(who);
            name
        });
        let mut gone = delayed(will("w", "gone"), 60);
        gone.qos = signet_wire::QoS::ExactlyOnce;
        let who = w.connect(v5("who").lasting().will(gone));
        w.drop_connection(who);
        w.disk().hang_after(durable);
        w.advance_secs(61);
        w.crash_for(1000);
        w.advance_secs(1000);
        for name in readers {
            let reader = w.connect(v5(name).lasting());
            assert_eq!(w.payloads(reader), ["gone"], "{durable} records were durable");
        }
    }
}

#[test]
fn messages_keep_their_order_their_identifiers_and_their_expiry() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting().receive_max(4));
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer"));
    for (number, qos) in [1_u8, 2, 1, 2, 1, 2].into_iter().enumerate() {
        w.publish(writer, say("t", &number.to_string()).qos(qos).expiry(100));
    }
    let before = w.messages(reader);
    assert_eq!(texts(&before), ["0", "1", "2", "3"]);
    w.send(reader, Packet::PubRec(Ack::success(before[1].qos.packet_id().unwrap())));
    w.heard(reader);
    w.advance_secs(10);
    w.crash_for(20);
    let reader = w.connect(v5("reader").lasting().receive_max(9));
    let mut heard = w.heard(reader);
    let released = heard.remove(0);
    assert_eq!(released, Packet::PubRel(Ack::success(before[1].qos.packet_id().unwrap())));
    let after: Vec<Publish> = heard
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts(&after), ["0", "2", "3", "4", "5"]);
    assert_eq!(after.iter().map(|it| it.dup).collect::<Vec<_>>(), [true, true, true, false, false]);
    assert_eq!(after[2].qos, before[3].qos, "a QoS 2 message has the identifier that it had");
    let numbers = ids(&after);
    assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), 5);
    assert!(!numbers.contains(&before[1].qos.packet_id().unwrap().get()));
    let expiry = after[0].properties.as_ref().and_then(|it| it.message_expiry_secs);
    assert_eq!(expiry, Some(70));
    w.crash_for(71);
    let reader = w.connect(v5("reader").lasting());
    let numbers: Vec<String> = w
        .heard(reader)
        .into_iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(String::from_utf8(publish.payload.to_vec()).unwrap()),
            _ => None,
        })
        .collect();
    // [MQTT5-4.3.3-7]: a QoS 2 exchange that began goes on after the expiry.
    assert_eq!(numbers, ["0", "2", "3", "4", "5"]);
}

#[test]
fn what_expired_meanwhile_is_not_sent_and_leaves_the_disk() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 2);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "old").qos(2).expiry(10));
    w.publish(writer, say("t", "new").qos(2));
    w.publish(writer, say("r", "old").qos(1).retain().expiry(10));
    w.publish(writer, say("s", "swept").qos(1).retain().expiry(1000));
    let restored = w.crash_for(11);
    assert_eq!(restored.retained, 1);
    assert_eq!(w.disk().twin.retained(), ["s"]);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["new"]);
    assert_eq!(w.disk().twin.entry_count(), 0);
    w.advance(Duration::from_secs(2000));
    assert!(w.disk().twin.retained().is_empty());
}

#[test]
fn retained_messages_are_found_again_by_every_kind_of_filter() {
    let mut w = World::on_disk();
    let writer = w.connect(v5("writer"));
    for topic in ["a", "a/b", "a/b/c", "b/b", "z"] {
        w.publish(writer, say(topic, topic).qos(1).retain());
    }
    w.publish(writer, say("z", "").retain());
    assert_eq!(w.crash().retained, 4);
    let expected: [(&str, &[&str]); 4] =
        [("a/b", &["a/b"]), ("+/b", &["a/b", "b/b"]), ("a/#", &["a", "a/b", "a/b/c"]), ("z", &[])];
    for (number, (filter, topics)) in expected.into_iter().enumerate() {
        let reader = w.connect(v5(&format!("reader-{number}")));
        w.subscribe(reader, filter, 1);
        assert_eq!(w.payloads(reader), topics, "{filter}");
    }
}

#[test]
fn a_shared_message_whose_member_ends_goes_to_another_exactly_once_wherever_the_process_ends() {
    for durable in 0..16 {
        let mut w = World::on_disk_in_small_pieces();
        let names = ["one", "two"];
        for name in names {
            let who = w.connect(v5(name).resume().expiry(1000));
            w.subscribe(who, "$share/g/t", 2);
            w.disconnect(who);
        }
        let writer = w.connect(v5("writer"));
        for number in 0..4 {
            w.publish(writer, say("t", &number.to_string()).qos(2));
        }
        w.disk().hang_after(durable);
        // One of them starts anew; its messages go to the other one.
        w.dial(v5("one").expiry(1000));
        w.crash();
        let mut all = Vec::new();
        for name in names {
            let who = w.connect(v5(name).resume().expiry(1000));
            all.extend(w.payloads(who));
        }
        all.sort_unstable();
        assert_eq!(all, ["0", "1", "2", "3"], "{durable} records were durable");
    }
}

#[test]
fn a_shared_message_is_of_its_group_after_a_crash_too() {
    let mut w = World::on_disk();
    for name in ["one", "two"] {
        let who = w.connect(v5(name).resume().expiry(1000));
        w.subscribe(who, "$share/g/t", 1);
        w.disconnect(who);
    }
    let writer = w.connect(v5("writer"));
    for number in 0..4 {
        w.publish(writer, say("t", &number.to_string()).qos(1));
    }
    w.crash();
    w.connect(v5("one"));
    let two = w.connect(v5("two").resume().expiry(1000));
    assert_eq!(w.payloads(two).len(), 4);
}

#[test]
fn the_policy_of_the_restart_judges_what_comes_back() {
    let narrow = "role device\ntopic readwrite t/#\n";
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t/1", 1);
    w.subscribe(reader, "secret", 1);
    w.drop_connection(reader);
    w.connect(v5("who").lasting().will(will("secret", "gone")));
    let writer = w.connect(v5("writer"));
    for topic in ["t/1", "secret"] {
        w.publish(writer, say(topic, topic).qos(1));
    }
    w.crash_into(0, narrow, &|principal| Some(principal.clone()));
    assert_eq!(w.hub.subscription_count(), 1);
    assert_eq!(w.counts().denied_will, 1);
    assert_eq!(w.disk().twin.entry_count(), 1, "what was taken away is gone from the disk");
    w.crash_into(0, EVERYTHING, &|principal| Some(principal.clone()));
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["t/1"]);
}

#[test]
fn sessions_of_whom_nobody_stands_for_end_and_are_told() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "#", 1);
    let gone = w.connect(v5("gone").lasting().will(will("w", "will")));
    w.subscribe(gone, "t", 1);
    w.publish(gone, say("r", "retained").qos(1).retain());
    w.payloads(reader);
    let restored = w.crash_into(0, EVERYTHING, &|who| (who.name().as_str() != "gone").then(|| who.clone()));
    assert_eq!(restored.gone, [device("gone").key().clone()].into_iter().collect());
    assert_eq!(w.hub.session_count(), 1);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), [""; 0], "no will of theirs is sent");
    assert_eq!(w.disk().twin.retained(), ["r"], "what is retained is for the caller to decide");
    let condemned = Condemned { principals: restored.gone.clone(), ..Condemned::default() };
    let consequences = Arc::new(Consequences { retained: RetainedTaken::All, ..Consequences::default() });
    w.hub.purge(&condemned, &consequences, w.now);
    w.drive();
    assert!(w.disk().twin.retained().is_empty());
}

#[test]
fn a_will_is_judged_by_the_rights_that_its_author_has_after_the_restart() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "w", 1);
    w.connect(v5("who").principal(member("who", "one")).lasting().will(will("w", "gone")));
    let without_groups = device("who");
    w.crash_into(0, "role device\ntopic read #\nrole one\ntopic write w\n", &|principal| {
        Some(if principal.name().as_str() == "who" { without_groups.clone() } else { principal.clone() })
    });
    assert_eq!(w.counts().denied_will, 1);
}

#[test]
fn a_revoked_device_leaves_nothing_on_the_disk() {
    let mut w = World::on_disk();
    let who = w.connect(v5("who").lasting().will(delayed(will("w", "gone"), 60)));
    w.subscribe(who, "#", 2);
    w.publish(who, say("r", "x").qos(2).retain());
    w.send(who, Packet::Publish(say("t", "x").qos(2).packet(77)));
    let away = w.connect(v5("who").client_id("away").lasting());
    w.subscribe(away, "#", 1);
    w.drop_connection(away);
    let publish = say("t", "y").qos(1);
    w.publish(who, publish);
    assert!(!w.disk().twin.is_empty());
    let principal = device("who");
    let condemned = Condemned {
        certificates: [*principal.certificate()].into_iter().collect(),
        principals: [principal.key().clone()].into_iter().collect(),
    };
    let consequences = Arc::new(Consequences { retained: RetainedTaken::All, ..Consequences::default() });
    w.hub.purge(&condemned, &consequences, w.now);
    w.drive();
    assert!(w.disk().twin.is_empty());
}

#[test]
fn an_identifier_of_a_client_is_in_use_after_a_crash() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer").lasting());
    let mut publish = say("t", "x").qos(2).packet(5);
    w.send(writer, Packet::Publish(publish.clone()));
    assert!(matches!(publish.qos, QosId::ExactlyOnce(_)));
    w.crash();
    let reader = w.connect(v5("reader").lasting());
    let writer = w.connect(v5("writer").lasting());
    publish.dup = true;
    w.send(writer, Packet::Publish(publish));
    assert_eq!(w.heard(writer), [Packet::PubRec(Ack::success(id(5)))]);
    w.send(writer, Packet::PubRel(Ack::success(id(5))));
    assert_eq!(w.heard(writer), [Packet::PubComp(Ack::success(id(5)))]);
    assert_eq!(w.payloads(reader), ["x"]);
}

#[test]
fn a_will_that_a_takeover_sent_or_disarmed_does_not_go_out_after_a_crash() {
    let without = || v5("who").lasting();
    let (now, later) = (|| will("w", "old"), || delayed(will("w", "old"), 60));
    // Sent by the takeover; disarmed by it; and each replaced by another one.
    let cases = [
        (without().will(now()), without(), vec!["old"]),
        (without().will(later()), without(), vec![]),
        (without().will(now()), without().will(will("w", "new")), vec!["old", "new"]),
        (without().will(later()), without().will(will("w", "new")), vec!["new"]),
        (without(), without().will(will("w", "new")), vec!["new"]),
        (without().will(now()), v5("who"), vec!["old"]),
    ];
    for (number, (old, new, expected)) in cases.into_iter().enumerate() {
        let mut w = World::on_disk_in_small_pieces();
        let reader = w.connect(v5("reader").lasting());
        w.subscribe(reader, "w", 1);
        w.disconnect(reader);
        w.connect(old);
        w.connect(new);
        w.crash_for(1000);
        w.advance_secs(1000);
        let reader = w.connect(v5("reader").lasting());
        assert_eq!(w.payloads(reader), expected, "case {number}");
    }
}

#[test]
fn a_will_that_a_takeover_sends_is_sent_once_wherever_the_process_ends() {
    for durable in 0..8 {
        let mut w = World::on_disk_in_small_pieces();
        let reader = w.connect(v5("reader").lasting());
        w.subscribe(reader, "w", 2);
        w.disconnect(reader);
        let mut old = will("w", "old");
        old.qos = signet_wire::QoS::ExactlyOnce;
        w.connect(v5("who").lasting().will(old));
        w.disk().hang_after(durable);
        w.dial(v5("who").lasting());
        w.crash_for(1000);
        w.advance_secs(1000);
        let reader = w.connect(v5("reader").lasting());
        assert_eq!(w.payloads(reader), ["old"], "{durable} records were durable");
    }
}

#[test]
fn a_will_that_a_judgement_took_back_at_a_takeover_is_not_armed_again_by_a_crash() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "w", 1);
    let old = w.connect(v5("who").lasting().will(will("w", "no")));
    // Judged and told to close, but not closed yet when the client comes again.
    w.stall(old, true);
    let number = w.connection(old).number();
    assert!(w.hub.close_rejudged(number, None));
    w.dial(v5("who").lasting());
    w.crash_for(1000);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), [""; 0]);
}
