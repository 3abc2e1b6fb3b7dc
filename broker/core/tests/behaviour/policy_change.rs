//! A new policy reaches what exists.

use signet_core::CloseReason;
use signet_wire::{Packet, ReasonCode};

use crate::world::{World, device, say, texts, v3, v5};

const BOTH: &str =
    "user reader\ntopic read a\ntopic read b\nuser other\ntopic read a\nuser writer\ntopic write #\n";
const ONLY_A: &str = "user reader\ntopic read a\nuser other\ntopic read a\nuser writer\ntopic write #\n";

#[test]
fn a_connection_with_a_refused_subscription_is_closed_with_0x87() {
    let mut w = World::under(BOTH);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "a", 1);
    w.subscribe(reader, "b", 1);
    let other = w.connect(v5("other"));
    w.subscribe(other, "a", 1);
    let old = w.connect(v3("old-reader").principal(device("reader")).client_id("old"));
    w.subscribe(old, "b", 1);
    w.set_policy(ONLY_A);
    w.assert_disconnected(reader, ReasonCode::NotAuthorized);
    assert_eq!(w.closed(old), Some(CloseReason::NotAuthorized));
    assert_eq!(w.heard(old), []);
    w.assert_open(other);
    assert_eq!(w.counts().subscriptions_revoked, 2);
}

#[test]
fn who_keeps_every_right_is_not_disturbed() {
    let mut w = World::under(BOTH);
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "a", 1);
    let writer = w.connect(v5("writer"));
    w.set_policy(ONLY_A);
    w.publish(writer, say("a", "x").qos(1));
    assert_eq!(w.payloads(reader), ["x"]);
}

#[test]
fn a_stored_session_loses_the_subscription_and_the_waiting_messages() {
    let mut w = World::under(BOTH);
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "a", 1);
    w.subscribe(reader, "b", 1);
    w.drop_connection(reader);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("a", "1").qos(1));
    w.publish(writer, say("b", "2").qos(1));
    w.set_policy(ONLY_A);
    w.publish(writer, say("b", "3").qos(1));
    assert_eq!(w.hub.subscription_count(), 1);
    let (reader, present) = w.reconnect(v5("reader").lasting());
    assert!(present);
    assert_eq!(texts(&w.messages(reader)), ["1"]);
    // Given back, the right does not bring the subscription back.
    w.set_policy(BOTH);
    w.publish(writer, say("b", "4").qos(1));
    assert_eq!(w.messages(reader), []);
}

#[test]
fn an_unfinished_delivery_is_judged_again_when_it_is_resumed() {
    let mut w = World::under(BOTH);
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "a", 2);
    w.subscribe(reader, "b", 2);
    let writer = w.connect(v5("writer"));
    for (name, qos) in [("b", 1), ("b", 2), ("a", 1)] {
        w.publish(writer, say(name, name).qos(qos));
    }
    assert_eq!(w.messages(reader).len(), 3);
    w.drop_connection(reader);
    w.set_policy(ONLY_A);
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["a"]);
    assert!(
        w.hub.sessions().iter().all(|session| session.inflight == 0),
        "refused deliveries free their slots"
    );
}

#[test]
fn a_right_to_publish_is_taken_away_at_once() {
    let mut w = World::under(BOTH);
    let writer = w.connect(v5("writer"));
    assert!(!w.publish(writer, say("t", "x").qos(1)).is_failure());
    w.set_policy("user writer\ntopic write other\n");
    assert_eq!(w.publish(writer, say("t", "x").qos(1)), ReasonCode::NotAuthorized);
}

#[test]
fn messages_that_wait_for_a_slow_client_are_judged_when_they_go_out() {
    let mut w = World::under("user reader\ntopic read #\nuser writer\ntopic write #\n");
    let reader = w.connect(v5("reader"));
    w.subscribe(reader, "#", 1);
    let writer = w.connect(v5("writer"));
    w.stall(reader, true);
    w.publish(writer, say("secret", "1"));
    w.publish(writer, say("secret", "2").qos(1));
    w.set_policy("user reader\ntopic read open/#\nuser writer\ntopic write #\n");
    w.stall(reader, false);
    let heard = w.heard(reader);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(w.closed(reader), Some(CloseReason::NotAuthorized));
}

#[test]
fn kicking_closes_the_named_connections_and_keeps_their_sessions() {
    let mut w = World::new();
    let one = w.connect(v5("dev").client_id("one").lasting());
    let two = w.connect(v5("dev").client_id("two").lasting());
    let other = w.connect(v5("other").client_id("one"));
    let client_id = signet_wire::ClientId::try_from("one").unwrap();
    assert_eq!(w.hub.kick(device("dev").key(), Some(&client_id), CloseReason::Administrative), 1);
    w.drive();
    w.assert_disconnected(one, ReasonCode::AdministrativeAction);
    w.assert_open(two);
    w.assert_open(other);
    assert_eq!(w.hub.kick(device("dev").key(), None, CloseReason::CertificateExpired), 1);
    w.drive();
    w.assert_disconnected(two, ReasonCode::MaximumConnectTime);
    assert_eq!(w.hub.session_count(), 3);
    assert_eq!(w.hub.kick_all(CloseReason::ServerShuttingDown), 1);
    w.drive();
    w.assert_disconnected(other, ReasonCode::ServerShuttingDown);
}

#[test]
fn one_connection_is_closed_by_its_number() {
    let mut w = World::new();
    let one = w.connect(v5("dev").client_id("one"));
    let two = w.connect(v5("dev").client_id("two"));
    let number = w.connection(one).number();
    assert!(w.hub.close_connection(number, CloseReason::CertificateRevoked));
    w.drive();
    w.assert_disconnected(one, ReasonCode::AdministrativeAction);
    w.assert_open(two);
    assert!(!w.hub.close_connection(number, CloseReason::CertificateRevoked));
}

#[test]
fn a_connection_before_connect_is_kicked_too() {
    let mut w = World::new();
    let dial = v5("dev");
    let who = w.open(dial.principal, dial.rules);
    assert_eq!(w.hub.kick(device("dev").key(), None, CloseReason::CertificateRevoked), 1);
    w.drive();
    assert_eq!(w.closed(who), Some(CloseReason::CertificateRevoked));
    assert_eq!(w.heard(who), []);
}

#[test]
fn a_stop_hands_out_what_was_acknowledged_before_it_says_goodbye() {
    let mut w = World::new();
    let subscriber = w.connect(v5("sub"));
    w.subscribe(subscriber, "t", 1);
    // Its output has no room, so the message waits in the mailbox when the stop comes.
    w.stall(subscriber, true);
    let publisher = w.connect(v5("pub"));
    assert_eq!(w.publish(publisher, say("t", "last words").qos(1)), ReasonCode::Success);
    w.hub.kick_all(CloseReason::ServerShuttingDown);
    w.drive();
    let heard = w.heard(subscriber);
    assert!(matches!(&heard[0], Packet::Publish(publish) if publish.payload == "last words"), "{heard:?}");
    assert!(matches!(&heard[1], Packet::Disconnect(_)), "{heard:?}");
}
