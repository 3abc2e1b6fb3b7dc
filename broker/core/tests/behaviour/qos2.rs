//! QoS 2 in both directions (MQTT5 §4.3.3).

use signet_core::{CloseReason, Violation};
use signet_wire::{Ack, Packet, ReasonCode};

use crate::world::{Who, World, id, ids, say, text, texts, v3, v5};

fn pair() -> (World, Who, Who) {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    let writer = w.connect(v5("writer"));
    w.subscribe(reader, "t", 2);
    (w, reader, writer)
}

#[test]
fn a_message_is_delivered_once_through_the_whole_exchange() {
    let (mut w, reader, writer) = pair();
    w.send(writer, Packet::Publish(say("t", "x").qos(2).packet(5)));
    assert_eq!(w.heard(writer), [Packet::PubRec(Ack::success(id(5)))]);
    w.send(writer, Packet::PubRel(Ack::success(id(5))));
    assert_eq!(w.heard(writer), [Packet::PubComp(Ack::success(id(5)))]);
    let [message] = w.messages(reader).try_into().unwrap();
    let packet_id = id(ids(std::slice::from_ref(&message))[0]);
    w.send(reader, Packet::PubRec(Ack::success(packet_id)));
    assert_eq!(w.heard(reader), [Packet::PubRel(Ack::success(packet_id))]);
    w.send(reader, Packet::PubComp(Ack::success(packet_id)));
    assert_eq!(w.heard(reader), []);
    assert_eq!(
        w.hub.sessions().iter().map(|session| session.inflight + session.unreleased).sum::<usize>(),
        0
    );
}

#[test]
fn a_duplicate_before_pubrel_is_answered_and_not_routed_twice() {
    let (mut w, reader, writer) = pair();
    let mut publish = say("t", "x").qos(2).packet(5);
    w.send(writer, Packet::Publish(publish.clone()));
    publish.dup = true;
    w.send(writer, Packet::Publish(publish.clone()));
    publish.dup = false;
    w.send(writer, Packet::Publish(publish));
    assert_eq!(w.heard(writer), vec![Packet::PubRec(Ack::success(id(5))); 3]);
    assert_eq!(w.messages(reader).len(), 1);
}

#[test]
fn a_released_identifier_is_a_new_message() {
    let (mut w, reader, writer) = pair();
    for payload in ["1", "2"] {
        w.send(writer, Packet::Publish(say("t", payload).qos(2).packet(5)));
        w.send(writer, Packet::PubRel(Ack::success(id(5))));
    }
    assert_eq!(texts(&w.messages(reader)), ["1", "2"]);
}

#[test]
fn onward_delivery_starts_at_publish() {
    let (mut w, reader, writer) = pair();
    w.send(writer, Packet::Publish(say("t", "x").qos(2).packet(5)));
    assert_eq!(texts(&w.messages(reader)), ["x"]);
}

#[test]
fn identifiers_are_remembered_across_connections() {
    for lasting in [v5("writer").lasting(), v3("writer").lasting()] {
        let mut w = World::new();
        let reader = w.connect(v5("reader"));
        w.subscribe(reader, "t", 2);
        let writer = w.connect(lasting.clone());
        let mut publish = say("t", "x").qos(2).packet(5);
        w.send(writer, Packet::Publish(publish.clone()));
        w.drop_connection(writer);
        let (writer, present) = w.reconnect(lasting);
        assert!(present);
        publish.dup = true;
        w.send(writer, Packet::Publish(publish));
        assert_eq!(w.heard(writer), [Packet::PubRec(Ack::success(id(5)))]);
        w.send(writer, Packet::PubRel(Ack::success(id(5))));
        assert_eq!(w.heard(writer), [Packet::PubComp(Ack::success(id(5)))]);
        assert_eq!(w.messages(reader).len(), 1);
    }
}

#[test]
fn a_clean_start_forgets_the_identifiers() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer").lasting());
    let publish = say("t", "x").qos(2).packet(5);
    w.send(writer, Packet::Publish(publish.clone()));
    w.drop_connection(writer);
    let writer = w.connect(v5("writer"));
    w.send(writer, Packet::Publish(publish));
    assert_eq!(w.messages(reader).len(), 2);
}

#[test]
fn an_unknown_pubrel_is_answered_with_0x92() {
    let mut w = World::new();
    let new = w.connect(v5("new"));
    w.send(new, Packet::PubRel(Ack::success(id(9))));
    assert_eq!(w.heard(new), [Packet::PubComp(Ack::new(id(9), ReasonCode::PacketIdentifierNotFound))]);
    let old = w.connect(v3("old"));
    w.send(old, Packet::PubRel(Ack::success(id(9))));
    assert_eq!(w.heard(old), [Packet::PubComp(Ack::success(id(9)))]);
}

#[test]
fn an_unknown_pubrec_is_answered_with_0x92() {
    let mut w = World::new();
    let new = w.connect(v5("new"));
    w.send(new, Packet::PubRec(Ack::success(id(9))));
    assert_eq!(w.heard(new), [Packet::PubRel(Ack::new(id(9), ReasonCode::PacketIdentifierNotFound))]);
}

#[test]
fn a_pubrec_with_a_failure_ends_the_delivery() {
    let (mut w, reader, writer) = pair();
    w.publish(writer, say("t", "x").qos(2));
    let packet_id = id(ids(&w.messages(reader))[0]);
    w.send(reader, Packet::PubRec(Ack::new(packet_id, ReasonCode::QuotaExceeded)));
    assert_eq!(w.heard(reader), [], "no PUBREL");
    assert_eq!(w.hub.sessions().iter().map(|session| session.inflight).sum::<usize>(), 0);
}

#[test]
fn a_second_pubrec_is_answered_again() {
    let (mut w, reader, writer) = pair();
    w.publish(writer, say("t", "x").qos(2));
    let packet_id = id(ids(&w.messages(reader))[0]);
    for _ in 0..2 {
        w.send(reader, Packet::PubRec(Ack::success(packet_id)));
        assert_eq!(w.heard(reader), [Packet::PubRel(Ack::success(packet_id))]);
    }
}

#[test]
fn acknowledgements_of_the_wrong_kind_close_the_connection() {
    type Answer = fn(Ack) -> Packet;
    let wrong: [(u8, Answer); 4] =
        [(1, Packet::PubRec), (1, Packet::PubComp), (2, Packet::PubAck), (2, Packet::PubComp)];
    for (qos, packet) in wrong {
        let (mut w, reader, writer) = pair();
        w.publish(writer, say("t", "x").qos(qos));
        let packet_id = id(ids(&w.messages(reader))[0]);
        w.send(reader, packet(Ack::success(packet_id)));
        assert_eq!(w.closed(reader), Some(CloseReason::Violation(Violation::AckOutOfOrder)));
        w.assert_disconnected(reader, ReasonCode::ProtocolError);
    }
}

#[test]
fn a_refused_message_frees_its_identifier_in_5_0() {
    let policy = "user writer\ntopic write mine\nuser reader\ntopic read #\n";
    let mut w = World::under(policy);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "#", 2);
    let writer = w.connect(v5("writer"));
    w.send(writer, Packet::Publish(say("yours", "no").qos(2).packet(5)));
    match w.heard(writer).as_slice() {
        [Packet::PubRec(ack)] => assert_eq!(ack.reason, ReasonCode::NotAuthorized),
        other => panic!("{other:?}"),
    }
    w.send(writer, Packet::Publish(say("mine", "yes").qos(2).packet(5)));
    assert_eq!(w.messages(reader).iter().map(text).collect::<Vec<_>>(), ["yes"]);
}

#[test]
fn a_message_beyond_the_receive_maximum_is_taken_when_it_is_sent_again() {
    let mut w = World::limited(|limits| limits.receive_max = std::num::NonZeroU16::MIN);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer").lasting());
    w.send(writer, Packet::Publish(say("t", "1").qos(2).packet(1)));
    w.send(writer, Packet::Publish(say("t", "2").qos(2).packet(2)));
    assert_eq!(w.closed(writer), Some(CloseReason::Violation(Violation::ReceiveMaximumExceeded)));
    let writer = w.connect(v5("writer").lasting());
    let mut again = say("t", "2").qos(2).packet(2);
    again.dup = true;
    w.send(writer, Packet::Publish(again));
    assert_eq!(w.heard(writer), [Packet::PubRec(Ack::success(id(2)))]);
    assert_eq!(texts(&w.messages(reader)), ["1", "2"]);
}
