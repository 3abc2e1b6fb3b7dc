//! What waits for the disk, and what does not.

use signet_core::Limits;
use signet_core::journal::Durability;
use signet_wire::{Ack, Packet, PublishProperties, QoS, ReasonCode, Subscribe, Version};

use crate::world::{EVERYTHING, Who, World, filter, id, say, texts, v3, v5, will};

/// A writer, and a reader that outlives its connection.
fn pair(qos: u8) -> (World, Who, Who) {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t/#", qos);
    let writer = w.connect(v5("writer"));
    w.disk().hang_after(0);
    (w, reader, writer)
}

/// The disk goes on until it has everything.
fn recover(w: &mut World) {
    w.disk().hang_after(usize::MAX);
    w.drive();
}

#[test]
fn a_puback_waits_until_the_message_is_on_the_disk_and_the_reader_does_not() {
    let (mut w, reader, writer) = pair(1);
    w.send(writer, Packet::Publish(say("t/1", "x").qos(1).packet(5)));
    assert_eq!(w.heard(writer), []);
    assert_eq!(texts(&w.messages(reader)), ["x"]);
    recover(&mut w);
    assert_eq!(w.heard(writer), [Packet::PubAck(Ack::success(id(5)))]);
}

#[test]
fn a_pubrec_and_a_qos_2_delivery_wait_for_the_disk() {
    let (mut w, reader, writer) = pair(2);
    w.send(writer, Packet::Publish(say("t/1", "x").qos(2).packet(5)));
    assert_eq!(w.heard(writer), []);
    assert_eq!(w.heard(reader), [], "nobody knows yet with which identifier it goes out");
    recover(&mut w);
    assert_eq!(w.heard(writer), [Packet::PubRec(Ack::success(id(5)))]);
    assert_eq!(texts(&w.messages(reader)), ["x"]);
}

#[test]
fn what_comes_behind_a_held_acknowledgement_waits_with_it_and_what_came_before_does_not() {
    let (mut w, _, writer) = pair(1);
    w.send(writer, Packet::PingReq);
    w.send(writer, Packet::Publish(say("t/1", "x").qos(1).packet(5)));
    w.send(writer, Packet::PingReq);
    assert_eq!(w.heard(writer), [Packet::PingResp]);
    recover(&mut w);
    assert_eq!(w.heard(writer), [Packet::PubAck(Ack::success(id(5))), Packet::PingResp]);
}

#[test]
fn a_message_that_nobody_keeps_is_not_waited_for() {
    let (mut w, _, writer) = pair(0);
    let online = w.connect(v5("online"));
    w.subscribe(online, "u", 2);
    for (to, number) in [("t/1", 1), ("u", 2), ("nobody", 3)] {
        w.send(writer, Packet::Publish(say(to, "x").qos(1).packet(number)));
        assert!(matches!(w.heard(writer).as_slice(), [Packet::PubAck(_)]), "{to}");
        w.send(writer, Packet::Publish(say(to, "x").qos(2).packet(number)));
        assert!(matches!(w.heard(writer).as_slice(), [Packet::PubRec(_)]), "{to}");
    }
    assert_eq!(w.disk().journal.unsettled_bytes(), 0, "nothing was recorded");
}

#[test]
fn a_lasting_publisher_waits_for_its_qos_2_identifiers() {
    let mut w = World::on_disk();
    let writer = w.connect(v5("writer").lasting());
    w.disk().hang_after(0);
    w.send(writer, Packet::Publish(say("nobody", "x").qos(2).packet(5)));
    w.send(writer, Packet::PubRel(Ack::success(id(5))));
    assert_eq!(w.heard(writer), []);
    recover(&mut w);
    let pubrec = Packet::PubRec(Ack::new(id(5), ReasonCode::NoMatchingSubscribers));
    assert_eq!(w.heard(writer), [pubrec, Packet::PubComp(Ack::success(id(5)))]);
}

#[test]
fn a_message_is_acknowledged_when_it_is_kept_for_all_and_is_lost_to_nobody_then() {
    let (mut w, _, writer) = pair(1);
    let away = w.connect(v3("away"));
    w.drop_connection(away);
    w.send(writer, Packet::Publish(say("t/1", "lost").qos(1).packet(5)));
    w.crash();
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), [""; 0], "nobody was told that it was taken");
    let writer = w.connect(v5("writer"));
    assert_eq!(w.publish(writer, say("t/1", "kept").qos(1)), ReasonCode::Success);
    w.crash();
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["kept"]);
    w.crash();
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), [""; 0], "it was acknowledged");
}

#[test]
fn a_retained_message_and_its_end_are_waited_for() {
    for repeated in [false, true] {
        let mut w = World::on_disk();
        let writer = w.connect(v5("writer"));
        assert_eq!(w.publish(writer, say("r", "x").qos(1).retain()), ReasonCode::NoMatchingSubscribers);
        assert_eq!(w.disk().twin.retained(), ["r"]);
        w.disk().hang_after(0);
        w.send(writer, Packet::Publish(say("r", "").qos(1).retain().packet(5)));
        let mut asks = writer;
        if repeated {
            w.drop_connection(writer);
            asks = w.connect(v5("writer"));
            w.send(asks, Packet::Publish(say("r", "").qos(1).retain().packet(5)));
        }
        assert_eq!(w.heard(asks), [], "it could come back");
        recover(&mut w);
        assert!(matches!(w.heard(asks).as_slice(), [Packet::PubAck(_)]));
        assert!(w.disk().twin.is_empty());
    }
}

#[test]
fn a_suback_waits_for_the_subscription_and_the_retained_messages() {
    let mut w = World::on_disk();
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t/1", "kept").qos(1).retain());
    let reader = w.connect(v5("reader").lasting());
    w.disk().hang_after(0);
    let subscribe = |filters| {
        Packet::Subscribe(Box::new(signet_wire::Subscribe {
            packet_id: id(9),
            subscription_id: None,
            user_properties: Vec::new(),
            filters,
        }))
    };
    w.send(reader, subscribe(vec![filter("t/#", 1)]));
    assert_eq!(w.heard(reader), []);
    recover(&mut w);
    assert!(matches!(w.heard(reader).as_slice(), [Packet::SubAck(_), Packet::Publish(_)]));
    w.crash();
    let (reader, present) = w.reconnect(v5("reader").lasting());
    assert!(present);
    assert_eq!(w.payloads(reader), ["kept"]);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t/2", "live").qos(1));
    assert_eq!(w.payloads(reader), ["live"]);
}

#[test]
fn a_subscription_whose_suback_never_left_brings_its_retained_messages_again() {
    let mut w = World::on_disk_in_small_pieces();
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t/1", "kept").qos(1).retain());
    for durable in 0..2 {
        let mut requested = filter("t/#", 1);
        requested.options.retain_handling = signet_wire::RetainHandling::SendIfNew;
        let reader = w.connect(v5("reader").lasting());
        w.disk().hang_after(durable);
        let subscribe = signet_wire::Subscribe {
            packet_id: id(9),
            subscription_id: None,
            user_properties: Vec::new(),
            filters: vec![requested.clone()],
        };
        w.send(reader, Packet::Subscribe(Box::new(subscribe)));
        assert!(w.heard(reader).iter().all(|packet| !matches!(packet, Packet::SubAck(_))));
        w.crash();
        let reader = w.connect(v5("reader").lasting());
        w.heard(reader);
        w.subscribe_to(reader, vec![requested], None);
        assert_eq!(w.payloads(reader), ["kept"], "{durable} records were durable");
        w.unsubscribe(reader, "t/#");
        w.disconnect(reader);
    }
}

#[test]
fn an_unsuback_waits_and_so_does_the_answer_to_who_asks_again() {
    let mut w = World::on_disk();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.disk().hang_after(0);
    let unsubscribe = || {
        Packet::Unsubscribe(Box::new(signet_wire::Unsubscribe {
            packet_id: id(9),
            user_properties: Vec::new(),
            filters: vec![filter("t", 0).filter],
        }))
    };
    w.send(reader, unsubscribe());
    assert_eq!(w.heard(reader), []);
    w.drop_connection(reader);
    w.disk().hang_after(0);
    let (reader, present) = w.reconnect(v5("reader").lasting());
    assert!(present);
    w.send(reader, unsubscribe());
    assert_eq!(w.heard(reader), [], "the subscription could come back");
    recover(&mut w);
    assert!(matches!(w.heard(reader).as_slice(), [Packet::UnsubAck(_)]));
    w.crash();
    assert_eq!(w.hub.subscription_count(), 0);
}

#[test]
fn a_pubrec_that_comes_with_the_connect_is_answered_when_the_first_one_is_settled() {
    let (mut w, reader, writer) = pair(2);
    recover(&mut w);
    w.publish(writer, say("t/1", "x").qos(2));
    let [message] = w.messages(reader).try_into().unwrap();
    let pubrec = Packet::PubRec(Ack::success(message.qos.packet_id().unwrap()));
    w.disk().hang_after(0);
    w.send(reader, pubrec.clone());
    w.drop_connection(reader);
    let dial = v5("reader").lasting();
    let again = w.open(dial.principal, dial.rules);
    let mut bytes = bytes::BytesMut::new();
    for packet in [Packet::Connect(Box::new(dial.connect)), pubrec] {
        signet_wire::encode(&packet, Version::V5, &mut bytes).unwrap();
    }
    w.send_bytes(again, &bytes);
    assert!(w.heard(again).iter().all(|packet| !matches!(packet, Packet::PubRel(_))));
    recover(&mut w);
    assert!(w.heard(again).iter().any(|packet| matches!(packet, Packet::PubRel(_))));
}

#[test]
fn batched_waits_for_nothing_and_keeps_the_same() {
    let mut w = World::on_disk_with(Limits::default(), EVERYTHING, Durability::Batched);
    w.disk().hang_after(0);
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "x").qos(2));
    assert_eq!(w.messages(reader).len(), 1);
    recover(&mut w);
    w.crash();
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["x"]);
}

#[test]
fn a_message_that_a_full_queue_drops_is_not_recorded() {
    let limits = Limits { queued_messages_max: 1, ..Limits::default() };
    let mut w = World::on_disk_with(limits, EVERYTHING, Durability::Strict);
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    for number in ["1", "2", "3"] {
        w.publish(writer, say("t", number).qos(1));
    }
    assert_eq!(w.disk().twin.entry_count(), 1);
    w.crash();
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["1"]);
}

#[test]
fn a_retained_message_that_a_bound_refuses_is_not_recorded() {
    let limits = Limits { retained_messages_max: 1, ..Limits::default() };
    let mut w = World::on_disk_with(limits, EVERYTHING, Durability::Strict);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("a", "x").qos(1).retain());
    assert_eq!(w.publish(writer, say("b", "x").qos(1).retain()), ReasonCode::QuotaExceeded);
    assert_eq!(w.disk().twin.retained(), ["a"]);
}

#[test]
fn what_the_broker_retains_itself_is_not_recorded() {
    let mut w = World::on_disk();
    w.hub.publish_sys(w.now);
    w.drive();
    assert!(w.hub.retained_fill().0 > 0);
    assert!(w.disk().twin.is_empty());
}

#[test]
fn a_disk_that_is_far_behind_refuses_sessions_that_it_would_have_to_store() {
    let mut w = World::on_disk();
    w.disk().hang_after(0);
    w.disk().journal.set_bytes_max(0);
    for (dial, reason) in [
        (v5("a").lasting(), ReasonCode::ServerUnavailable),
        (v3("b").lasting(), ReasonCode::ServerUnavailable),
        (v5("c"), ReasonCode::Success),
        (v3("d"), ReasonCode::Success),
    ] {
        let (_, connack) = w.dial(dial);
        assert_eq!(connack.expect("a CONNACK").reason, reason);
    }
    w.disk().journal.set_bytes_max(1);
    w.connect(v5("a").lasting());
}

#[test]
fn qos_0_is_neither_recorded_nor_kept() {
    let (mut w, reader, writer) = pair(2);
    w.publish(writer, say("t/1", "x"));
    assert_eq!(w.messages(reader)[0].qos.qos(), QoS::AtMostOnce);
    assert_eq!(w.disk().journal.unsettled_bytes(), 0);
}

#[test]
fn a_message_counts_once_in_the_journal_however_many_sessions_it_waits_for() {
    const PAYLOAD: usize = 10_000;
    let mut w = World::on_disk();
    for number in 0..20 {
        let reader = w.connect(v5(&format!("reader-{number}")).lasting());
        w.subscribe(reader, "t", 1);
        w.drop_connection(reader);
    }
    let writer = w.connect(v5("writer"));
    w.disk().hang_after(0);
    let before = w.disk().journal.unsettled_bytes();
    w.send(writer, Packet::Publish(say("t", &"x".repeat(PAYLOAD)).qos(1).packet(7)));
    let bytes = w.disk().journal.unsettled_bytes() - before;
    assert!((PAYLOAD..2 * PAYLOAD).contains(&bytes), "{bytes}");
    w.disk().hang_after(usize::MAX);
    w.drive();
    assert_eq!(w.disk().journal.unsettled_bytes(), 0);
}

#[test]
fn what_is_replayed_to_a_stored_session_counts_in_the_journal_and_stops_the_next_one() {
    const PAYLOAD: usize = 10_000;
    let mut w = World::on_disk();
    let writer = w.connect(v5("writer"));
    for number in 0..10 {
        w.publish(writer, say(&format!("t/{number}"), &"x".repeat(PAYLOAD)).qos(1).retain());
    }
    let reader = w.connect(v5("reader").lasting());
    w.disk().hang_after(0);
    w.disk().journal.set_bytes_max(10 * PAYLOAD);
    let filters = vec![filter("t/#", 1)];
    let subscribe =
        Subscribe { packet_id: id(1), subscription_id: None, user_properties: Vec::new(), filters };
    w.send(reader, Packet::Subscribe(Box::new(subscribe)));
    assert!(w.disk().journal.unsettled_bytes() > 10 * PAYLOAD);
    assert!(w.disk().journal.is_full(), "nothing more is read from who wants something recorded");
}

#[test]
fn the_properties_of_a_will_count_in_the_journal() {
    let unsettled = |properties: bool| {
        let mut w = World::on_disk();
        w.disk().hang_after(0);
        let mut gone = will("w", "gone");
        if properties {
            gone.properties = Some(Box::new(PublishProperties {
                correlation_data: Some(signet_wire::Binary::from_static(&[0; 5000])),
                ..PublishProperties::default()
            }));
        }
        w.dial(v5("who").lasting().will(gone));
        w.disk().journal.unsettled_bytes()
    };
    assert!(unsettled(true) >= unsettled(false) + 5000);
}
