//! The same client identifier twice (MQTT5 §3.1.4).

use signet_core::{CloseReason, Event};
use signet_wire::{Packet, ReasonCode};

use crate::world::{World, delayed, device, operator, say, v3, v5, will};

#[test]
fn the_second_connection_closes_the_first_with_0x8e() {
    let mut w = World::new();
    let first = w.connect(v5("dev"));
    let second = w.connect(v5("dev"));
    w.assert_disconnected(first, ReasonCode::SessionTakenOver);
    assert_eq!(w.closed(first), Some(CloseReason::TakenOver));
    w.assert_open(second);
    assert!(w.notes(second).contains(&Event::Connected { session_present: false, took_over: true }));
    assert_eq!(w.counts().takeovers, 1);
    assert_eq!(w.hub.connected_count(), 1);
}

#[test]
fn a_3_1_1_client_is_closed_without_a_packet() {
    let mut w = World::new();
    let first = w.connect(v3("dev"));
    w.connect(v3("dev"));
    assert_eq!(w.closed(first), Some(CloseReason::TakenOver));
    assert_eq!(w.heard(first), []);
}

#[test]
fn a_lasting_session_goes_over_with_its_messages() {
    let mut w = World::new();
    let first = w.connect(v5("dev").lasting());
    w.subscribe(first, "t", 1);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "1").qos(1));
    let sent = w.messages(first);
    let (second, present) = w.reconnect(v5("dev").lasting());
    assert!(present);
    let again = w.messages(second);
    assert_eq!((again[0].qos, again[0].dup), (sent[0].qos, true));
    w.acknowledge(second, &again[0]);
    w.publish(writer, say("t", "2").qos(1));
    assert_eq!(w.payloads(second), ["2"]);
}

#[test]
fn a_session_that_ends_with_its_connection_does_not_go_over() {
    for dial in [v5("dev").resume(), v3("dev")] {
        let mut w = World::new();
        let first = w.connect(dial);
        w.subscribe(first, "t", 1);
        let (_, present) = w.reconnect(v5("dev").resume());
        assert!(!present);
        assert_eq!(w.hub.subscription_count(), 0);
    }
}

#[test]
fn a_stalled_connection_is_taken_over_too() {
    let mut w = World::new();
    let first = w.connect(v5("dev").lasting());
    w.stall(first, true);
    let second = w.connect(v5("dev").lasting());
    assert_eq!(w.closed(first), Some(CloseReason::TakenOver));
    w.assert_open(second);
}

#[test]
fn the_closed_connection_does_not_touch_the_session_any_more() {
    let mut w = World::new();
    let first = w.connect(v5("dev").lasting());
    w.subscribe(first, "t", 1);
    let second = w.connect(v5("dev").lasting());
    w.lose(first);
    let session = w.hub.sessions().remove(0);
    assert!(session.connected);
    w.publish(second, say("t", "x").qos(1));
    assert_eq!(w.payloads(second), ["x"]);
}

#[test]
fn the_old_will_is_sent_unless_it_is_delayed_and_the_session_goes_on() {
    let now = || will("wills/dev", "gone");
    let late = || delayed(now(), 100);
    let lasting = || v5("dev").lasting();
    for (first, second, expected) in [
        (v5("dev").will(now()), v5("dev"), 1),
        (v5("dev").will(late()), v5("dev"), 1),
        (v5("dev").will(late()), v5("dev").resume(), 1),
        (lasting().will(now()), lasting(), 1),
        (lasting().will(now()), v5("dev"), 1),
        (lasting().will(late()), v5("dev"), 1),
        (lasting().will(late()), lasting(), 0),
        (v3("dev").will(now()), v3("dev"), 1),
        (v3("dev").lasting().will(now()), v3("dev").lasting(), 1),
    ] {
        let mut w = World::new();
        let listener = w.connect(v5("listener"));
        w.subscribe(listener, "wills/#", 0);
        w.connect(first.clone());
        w.connect(second.clone());
        w.advance_secs(1000);
        assert_eq!(
            w.payloads(listener).len(),
            expected,
            "{:?} {:?} then clean {}",
            first.connect.properties.session_expiry_secs,
            first.connect.will.map(|will| will.delay_secs),
            second.connect.clean_start
        );
    }
}

#[test]
fn the_new_connections_will_is_its_own() {
    let mut w = World::new();
    let listener = w.connect(v5("listener"));
    w.subscribe(listener, "wills/#", 0);
    w.connect(v5("dev").lasting().will(delayed(will("wills/dev", "old"), 100)));
    let second = w.connect(v5("dev").lasting().will(will("wills/dev", "new")));
    assert_eq!(w.payloads(listener), [""; 0]);
    w.drop_connection(second);
    assert_eq!(w.payloads(listener), ["new"]);
}

#[test]
fn another_principal_with_the_same_identifier_neither_evicts_nor_resumes_nor_sees() {
    let mut w = World::new();
    let victim = w.connect(v5("victim").client_id("shared").lasting().will(will("wills/victim", "gone")));
    w.subscribe(victim, "secret", 1);
    for thief in [device("thief"), operator("victim")] {
        let dial = v5("thief").principal(thief).client_id("shared").lasting();
        let (thief, present) = w.reconnect(dial);
        assert!(!present);
        w.assert_open(victim);
        w.publish(victim, say("secret", "x").qos(1));
        assert_eq!(w.payloads(victim), ["x"]);
        assert_eq!(w.messages(thief), []);
    }
    // The same for a session that is not connected.
    w.drop_connection(victim);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("secret", "waiting").qos(1));
    let other = v5("other").client_id("shared").lasting();
    let (other, present) = w.reconnect(other);
    assert!(!present);
    assert_eq!(w.messages(other), []);
    let (victim, present) = w.reconnect(v5("victim").client_id("shared").lasting());
    assert!(present);
    assert_eq!(w.payloads(victim), ["waiting"]);
}

#[test]
fn a_renewed_certificate_keeps_the_session() {
    let mut w = World::new();
    let dev = w.connect(v5("dev").lasting());
    w.subscribe(dev, "t", 1);
    let renewed = signet_identity::Principal::device(
        signet_identity::ThingName::try_from("dev").unwrap(),
        signet_identity::CertificateId::of(b"another certificate"),
        Vec::new(),
    );
    let (_, present) = w.reconnect(v5("dev").principal(renewed).lasting());
    assert!(present);
    w.assert_disconnected(dev, ReasonCode::SessionTakenOver);
}

#[test]
fn many_takeovers_leave_one_session() {
    let mut w = World::new();
    let mut last = w.connect(v5("dev").lasting());
    w.subscribe(last, "t", 1);
    for n in 0..500 {
        let dial = if n % 7 == 0 { v5("dev").expiry(100) } else { v5("dev").lasting() };
        last = w.connect(dial);
        if n % 7 == 0 {
            w.subscribe(last, "t", 1);
        }
    }
    assert_eq!((w.hub.session_count(), w.hub.connected_count(), w.hub.subscription_count()), (1, 1, 1));
    w.send(last, Packet::PingReq);
    assert_eq!(w.heard(last), [Packet::PingResp]);
}
