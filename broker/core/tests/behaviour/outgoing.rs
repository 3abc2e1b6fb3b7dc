//! The client's Receive Maximum, and the order of what waits for it (MQTT5 §4.9).

use signet_wire::{Ack, Packet};

use crate::world::{World, id, ids, say, texts, v3, v5};

#[test]
fn no_more_than_the_receive_maximum_is_in_flight() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").receive_max(3));
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer"));
    for n in 0..10_u8 {
        w.publish(writer, say("t", &n.to_string()).qos(1 + n % 2));
    }
    let first = w.messages(reader);
    assert_eq!(texts(&first), ["0", "1", "2"]);
    w.acknowledge(reader, &first[0]);
    assert_eq!(texts(&w.messages(reader)), ["3"]);
}

#[test]
fn pubrec_frees_no_slot_and_pubcomp_does() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").receive_max(1));
    w.subscribe(reader, "t", 2);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "1").qos(2));
    w.publish(writer, say("t", "2").qos(2));
    let first = id(ids(&w.messages(reader))[0]);
    w.send(reader, Packet::PubRec(Ack::success(first)));
    assert_eq!(w.heard(reader), [Packet::PubRel(Ack::success(first))]);
    w.send(reader, Packet::PubComp(Ack::success(first)));
    assert_eq!(texts(&w.messages(reader)), ["2"]);
}

#[test]
fn other_packets_and_qos_0_are_not_delayed() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").receive_max(1));
    w.subscribe(reader, "t", 1);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "1").qos(1));
    w.publish(writer, say("t", "2").qos(1));
    w.publish(writer, say("t", "0"));
    let messages = w.messages(reader);
    assert_eq!(texts(&messages), ["1", "0"]);
    w.send(reader, Packet::PingReq);
    assert_eq!(w.heard(reader), [Packet::PingResp]);
    w.acknowledge(reader, &messages[0]);
    assert_eq!(texts(&w.messages(reader)), ["2"]);
}

#[test]
fn the_brokers_own_limit_holds_for_clients_that_name_none() {
    for dial in [v3("reader"), v5("reader")] {
        let mut w = World::limited(|limits| limits.inflight_max = 4.try_into().unwrap());
        let reader = w.connect(dial);
        w.subscribe(reader, "t", 1);
        let writer = w.connect(v5("writer"));
        for n in 0..10 {
            w.publish(writer, say("t", &n.to_string()).qos(1));
        }
        assert_eq!(w.messages(reader).len(), 4);
    }
}

#[test]
fn acknowledgements_out_of_order_free_their_slots() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").receive_max(3));
    w.subscribe(reader, "t", 1);
    let writer = w.connect(v5("writer"));
    for n in 0..6 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    let first = w.messages(reader);
    for message in first.iter().rev() {
        w.acknowledge(reader, message);
    }
    let second = w.messages(reader);
    assert_eq!(texts(&second), ["3", "4", "5"]);
    let mut all = ids(&first);
    all.extend(ids(&second));
    all.dedup();
    assert_eq!(all.len(), 6);
}

#[test]
fn a_client_that_stops_acknowledging_does_not_hold_up_others() {
    let mut w = World::new();
    let stuck = w.connect(v5("stuck").receive_max(1));
    let brisk = w.connect(v5("brisk"));
    for who in [stuck, brisk] {
        w.subscribe(who, "t", 1);
    }
    let writer = w.connect(v5("writer"));
    for n in 0..50 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    assert_eq!(w.payloads(brisk).len(), 50);
    assert_eq!(w.messages(stuck).len(), 1);
}
