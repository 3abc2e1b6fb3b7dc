//! The will (MQTT5 §3.1.2.5, §3.1.3.2.2).

use signet_core::{CloseReason, DeniedAccess, Event, Input};
use signet_wire::{Disconnect, DisconnectProperties, Packet, PublishProperties, QoS, ReasonCode, Text};

use crate::world::{Dial, Who, World, delayed, say, texts, topic, v3, v5, will};

/// A world with somebody who listens to `wills/#`.
fn listened() -> (World, Who) {
    let mut w = World::new();
    let listener = w.connect(v5("listener"));
    w.subscribe(listener, "wills/#", 2);
    (w, listener)
}

fn wills(w: &mut World, listener: Who) -> Vec<String> {
    w.payloads(listener)
}

fn with_will(dial: Dial) -> Dial {
    dial.will(will("wills/dev", "gone"))
}

#[test]
fn a_broken_connection_sends_the_will_in_both_versions() {
    for dial in [v3("dev"), v5("dev")] {
        let (mut w, listener) = listened();
        let who = w.connect(with_will(dial));
        assert_eq!(wills(&mut w, listener), [""; 0]);
        w.drop_connection(who);
        assert_eq!(wills(&mut w, listener), ["gone"]);
    }
}

#[test]
fn a_proper_disconnect_discards_the_will_in_both_versions() {
    for dial in [v3("dev"), v5("dev"), v5("dev").expiry(100)] {
        let (mut w, listener) = listened();
        let who = w.connect(with_will(dial));
        w.disconnect(who);
        assert_eq!(w.closed(who), Some(CloseReason::Disconnected));
        w.advance_secs(1000);
        assert_eq!(wills(&mut w, listener), [""; 0]);
    }
}

#[test]
fn disconnect_with_will_sends_it() {
    let (mut w, listener) = listened();
    let who = w.connect(with_will(v5("dev")));
    w.send(who, Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill)));
    assert_eq!(wills(&mut w, listener), ["gone"]);
}

#[test]
fn every_other_end_sends_the_will() {
    let malformed: fn(&mut World, Who) = |w, who| w.send_bytes(who, &[0xC1, 0x00]);
    let keep_alive: fn(&mut World, Who) = |w, _| w.advance_secs(20);
    let bad_disconnect: fn(&mut World, Who) = |w, who| w.send_bytes(who, &[0xE1, 0x00]);
    let kicked: fn(&mut World, Who) = |w, who| w.input(who, Input::Close(CloseReason::Administrative));
    let lost: fn(&mut World, Who) = |w, who| w.lose(who);
    for end in [malformed, keep_alive, bad_disconnect, kicked, lost] {
        let (mut w, listener) = listened();
        let who = w.connect(with_will(v5("dev").keep_alive(10)));
        end(&mut w, who);
        assert_eq!(wills(&mut w, listener), ["gone"]);
    }
}

#[test]
fn a_disconnect_that_is_not_valid_sends_the_will() {
    let (mut w, listener) = listened();
    let who = w.connect(with_will(v5("dev").expiry(0)));
    let properties =
        DisconnectProperties { session_expiry_secs: Some(10), ..DisconnectProperties::default() };
    w.send(
        who,
        Packet::Disconnect(Disconnect {
            reason: ReasonCode::NORMAL_DISCONNECTION,
            properties: Some(Box::new(properties)),
        }),
    );
    w.assert_disconnected(who, ReasonCode::ProtocolError);
    assert_eq!(wills(&mut w, listener), ["gone"]);
}

#[test]
fn the_will_of_a_revoked_certificate_is_not_sent() {
    let (mut w, listener) = listened();
    let who = w.connect(with_will(v5("dev").expiry(100)));
    w.input(who, Input::Close(CloseReason::CertificateRevoked));
    w.advance_secs(200);
    assert_eq!(wills(&mut w, listener), [""; 0]);
}

#[test]
fn a_will_is_sent_once() {
    let (mut w, listener) = listened();
    let who = w.connect(with_will(v5("dev").lasting()));
    w.drop_connection(who);
    assert_eq!(wills(&mut w, listener), ["gone"]);
    let who = w.connect(v5("dev").lasting());
    w.drop_connection(who);
    w.advance_secs(1000);
    assert_eq!(wills(&mut w, listener), [""; 0]);
}

#[test]
fn a_delayed_will_waits_while_the_session_lasts() {
    let (mut w, listener) = listened();
    let who = w.connect(v5("dev").expiry(100).will(delayed(will("wills/dev", "late"), 10)));
    w.drop_connection(who);
    w.advance_secs(9);
    assert_eq!(wills(&mut w, listener), [""; 0]);
    w.advance_secs(1);
    assert_eq!(wills(&mut w, listener), ["late"]);
}

#[test]
fn a_delay_longer_than_the_session_ends_with_it() {
    let (mut w, listener) = listened();
    let who = w.connect(v5("dev").expiry(5).will(delayed(will("wills/dev", "late"), 10)));
    w.drop_connection(who);
    w.advance_secs(4);
    assert_eq!(wills(&mut w, listener), [""; 0]);
    w.advance_secs(1);
    assert_eq!(wills(&mut w, listener), ["late"]);
}

#[test]
fn a_delay_without_a_lasting_session_is_none() {
    let (mut w, listener) = listened();
    let who = w.connect(v5("dev").expiry(0).will(delayed(will("wills/dev", "now"), 10)));
    w.drop_connection(who);
    assert_eq!(wills(&mut w, listener), ["now"]);
}

#[test]
fn a_resumed_session_cancels_the_delayed_will() {
    let (mut w, listener) = listened();
    let dial = v5("dev").lasting();
    let who = w.connect(dial.clone().will(delayed(will("wills/dev", "late"), 10)));
    w.drop_connection(who);
    w.advance_secs(9);
    w.connect(dial);
    w.advance_secs(100);
    assert_eq!(wills(&mut w, listener), [""; 0]);
}

#[test]
fn a_clean_start_ends_the_session_and_sends_the_delayed_will() {
    let (mut w, listener) = listened();
    let who = w.connect(v5("dev").lasting().will(delayed(will("wills/dev", "late"), 1000)));
    w.drop_connection(who);
    w.connect(v5("dev"));
    assert_eq!(wills(&mut w, listener), ["late"]);
}

#[test]
fn disconnect_may_shorten_the_session_and_with_it_the_delay() {
    let (mut w, listener) = listened();
    let who = w.connect(v5("dev").expiry(1000).will(delayed(will("wills/dev", "late"), 500)));
    let properties = DisconnectProperties { session_expiry_secs: Some(5), ..DisconnectProperties::default() };
    w.send(
        who,
        Packet::Disconnect(Disconnect {
            reason: ReasonCode::DisconnectWithWill,
            properties: Some(Box::new(properties)),
        }),
    );
    w.advance_secs(5);
    assert_eq!(wills(&mut w, listener), ["late"]);
}

#[test]
fn a_will_delay_is_cut_at_the_limit() {
    let mut w = World::limited(|limits| limits.will_delay_secs_max = 60);
    let listener = w.connect(v5("listener"));
    w.subscribe(listener, "wills/#", 0);
    let who = w.connect(v5("dev").lasting().will(delayed(will("wills/dev", "late"), u32::MAX)));
    w.drop_connection(who);
    w.advance_secs(60);
    assert_eq!(w.payloads(listener), ["late"]);
}

#[test]
fn a_will_keeps_its_qos_retain_and_properties() {
    let (mut w, listener) = listened();
    let mut full = will("wills/dev", "gone");
    full.qos = QoS::ExactlyOnce;
    full.retain = true;
    full.properties = Some(Box::new(PublishProperties {
        message_expiry_secs: Some(60),
        content_type: Some(Text::from_static("text/plain")),
        response_topic: Some(topic("answers")),
        user_properties: vec![
            (Text::from_static("b"), Text::from_static("1")),
            (Text::from_static("a"), Text::from_static("2")),
        ],
        ..PublishProperties::default()
    }));
    let who = w.connect(v5("dev").will(full.clone()));
    w.drop_connection(who);
    let [got] = w.messages(listener).try_into().unwrap();
    assert_eq!(got.qos.qos(), QoS::ExactlyOnce);
    assert_eq!(got.properties, full.properties);
    assert!(!got.retain, "live");
    let late = w.connect(v5("late"));
    w.subscribe(late, "wills/#", 0);
    let [kept] = w.messages(late).try_into().unwrap();
    assert!(kept.retain);
    assert_eq!(kept.properties, full.properties);
}

#[test]
fn a_will_reaches_sessions_that_are_not_connected() {
    let mut w = World::new();
    let sleeper = w.connect(v5("sleeper").lasting());
    w.subscribe(sleeper, "wills/#", 1);
    w.drop_connection(sleeper);
    let who = w.connect(with_will(v5("dev")));
    w.drop_connection(who);
    let sleeper = w.connect(v5("sleeper").lasting());
    assert_eq!(w.payloads(sleeper), ["gone"]);
}

#[test]
fn a_will_that_the_policy_refuses_is_noted_at_connect_and_not_sent() {
    let policy = "user listener\ntopic readwrite #\nuser dev\ntopic write mine/#\n";
    let mut w = World::under(policy);
    let listener = w.connect(v5("listener"));
    w.subscribe(listener, "#", 0);
    let who = w.connect(v5("dev").will(will("others/dev", "spoof")));
    assert!(w.notes(who).iter().any(|note| matches!(note,
        Event::Denied { access: DeniedAccess::Will(denied), .. } if *denied == topic("others/dev"))));
    w.drop_connection(who);
    assert_eq!(w.payloads(listener), [""; 0]);
    assert_eq!(w.counts().denied_will, 1);
    // The nearest that is allowed.
    let who = w.connect(v5("dev").will(will("mine/dev", "fine")));
    w.drop_connection(who);
    assert_eq!(w.payloads(listener), ["fine"]);
}

#[test]
fn a_will_is_judged_by_the_policy_of_the_moment_it_is_sent() {
    let before = "user listener\ntopic readwrite #\nuser dev\ntopic write wills/#\n";
    let after = "user listener\ntopic readwrite #\nuser dev\ntopic write other/#\n";
    let mut w = World::under(before);
    let listener = w.connect(v5("listener"));
    w.subscribe(listener, "#", 0);
    let who = w.connect(with_will(v5("dev")));
    w.set_policy(after);
    w.drop_connection(who);
    assert_eq!(w.payloads(listener), [""; 0]);
    assert_eq!(w.counts().denied_will, 1);
}

#[test]
fn a_will_with_too_many_levels_is_refused_at_connect() {
    let mut w = World::limited(|limits| limits.topic_levels_max = 3);
    let (who, connack) = w.dial(v5("dev").will(will("a/b/c/d", "x")));
    assert_eq!(connack.unwrap().reason, ReasonCode::TopicNameInvalid);
    assert!(w.closed(who).is_some());
    let (who, _) = w.dial(v5("dev").will(will("a/b/c", "x")));
    w.assert_open(who);
}

#[test]
fn messages_of_the_client_come_before_its_will() {
    let (mut w, listener) = listened();
    let who = w.connect(with_will(v5("dev")));
    w.publish(who, say("wills/dev", "last words").qos(1));
    w.drop_connection(who);
    assert_eq!(texts(&w.messages(listener)), ["last words", "gone"]);
}
