//! Sessions that outlive their connection (MQTT5 §4.1, §4.4).

use signet_wire::{Ack, Disconnect, DisconnectProperties, Packet, Publish, ReasonCode};

use crate::world::{Dial, Who, World, id, ids, say, texts, v3, v5};

fn lasting() -> [Dial; 2] {
    [v5("reader").lasting(), v3("reader").lasting()]
}

fn writer(w: &mut World) -> Who {
    w.connect(v5("writer"))
}

#[test]
fn messages_wait_for_a_session_in_order_and_without_dup() {
    for dial in lasting() {
        let mut w = World::new();
        let reader = w.connect(dial.clone());
        w.subscribe(reader, "t", 2);
        w.disconnect(reader);
        let writer = writer(&mut w);
        for n in 0..20_u8 {
            w.publish(writer, say("t", &n.to_string()).qos(1 + n % 2));
        }
        let (reader, present) = w.reconnect(dial);
        assert!(present);
        let messages = w.messages(reader);
        assert_eq!(texts(&messages), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(messages.iter().all(|message| !message.dup && !message.retain));
    }
}

#[test]
fn qos_0_does_not_wait() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 2);
    w.disconnect(reader);
    let writer = writer(&mut w);
    w.publish(writer, say("t", "lost"));
    w.publish(writer, say("t", "kept").qos(1));
    let reader = w.connect(v5("reader").lasting());
    assert_eq!(w.payloads(reader), ["kept"]);
}

#[test]
fn unacknowledged_messages_are_sent_again_with_their_identifiers_in_their_order() {
    for dial in lasting() {
        let mut w = World::new();
        let reader = w.connect(dial.clone());
        w.subscribe(reader, "t", 2);
        let writer = writer(&mut w);
        for n in 0..6_u8 {
            w.publish(writer, say("t", &n.to_string()).qos(1 + n % 2));
        }
        let before = w.messages(reader);
        w.drop_connection(reader);
        w.publish(writer, say("t", "new").qos(1));
        let (reader, _) = w.reconnect(dial);
        let after = w.messages(reader);
        assert_eq!(ids(&after[..6]), ids(&before));
        assert_eq!(texts(&after[..6]), texts(&before));
        assert!(after[..6].iter().all(|message| message.dup));
        assert_eq!((texts(&after[6..]), after[6].dup), (vec!["new".to_owned()], false));
    }
}

#[test]
fn after_pubrec_only_pubrel_is_sent_again() {
    for dial in lasting() {
        let mut w = World::new();
        let reader = w.connect(dial.clone());
        w.subscribe(reader, "t", 2);
        let writer = writer(&mut w);
        for payload in ["1", "2", "3"] {
            w.publish(writer, say("t", payload).qos(2));
        }
        let sent = ids(&w.messages(reader));
        for packet_id in [sent[0], sent[2]] {
            w.send(reader, Packet::PubRec(Ack::success(id(packet_id))));
        }
        w.heard(reader);
        w.drop_connection(reader);
        let (reader, _) = w.reconnect(dial);
        let mut heard = w.heard(reader);
        let Some(Packet::Publish(again)) = heard.pop() else { panic!("no PUBLISH") };
        assert_eq!((ids(std::slice::from_ref(&again)), again.dup), (vec![sent[1]], true));
        assert_eq!(heard, [sent[0], sent[2]].map(|n| Packet::PubRel(Ack::success(id(n)))));
        for packet_id in [sent[0], sent[2]] {
            w.send(reader, Packet::PubComp(Ack::success(id(packet_id))));
        }
        w.acknowledge(reader, &again);
        assert_eq!(w.hub.sessions().iter().map(|session| session.inflight).sum::<usize>(), 0);
    }
}

#[test]
fn sending_again_keeps_to_the_new_receive_maximum() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    let writer = writer(&mut w);
    for n in 0..6 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    let before = w.messages(reader);
    w.drop_connection(reader);
    w.publish(writer, say("t", "6").qos(1));
    let (reader, _) = w.reconnect(v5("reader").lasting().receive_max(2));
    let mut all: Vec<Publish> = Vec::new();
    loop {
        let round = w.messages(reader);
        if round.is_empty() {
            break;
        }
        assert!(round.len() <= 2);
        for message in round {
            w.acknowledge(reader, &message);
            all.push(message);
        }
    }
    assert_eq!(texts(&all), ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(ids(&all[..6]), ids(&before));
}

#[test]
fn releases_are_not_held_back_by_the_receive_maximum() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 2);
    let writer = writer(&mut w);
    for n in 0..4 {
        w.publish(writer, say("t", &n.to_string()).qos(2));
    }
    let sent = ids(&w.messages(reader));
    for packet_id in &sent {
        w.send(reader, Packet::PubRec(Ack::success(id(*packet_id))));
    }
    w.heard(reader);
    w.drop_connection(reader);
    let (reader, _) = w.reconnect(v5("reader").lasting().receive_max(1));
    let expected: Vec<Packet> = sent.iter().map(|n| Packet::PubRel(Ack::success(id(*n)))).collect();
    assert_eq!(w.heard(reader), expected);
}

#[test]
fn an_acknowledgement_that_comes_before_the_repetition_is_accepted() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    let writer = writer(&mut w);
    for n in 0..3 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    let sent = ids(&w.messages(reader));
    w.drop_connection(reader);
    let (reader, _) = w.reconnect(v5("reader").lasting().receive_max(1));
    assert_eq!(ids(&w.messages(reader)), [sent[0]]);
    w.send(reader, Packet::PubAck(Ack::success(id(sent[2]))));
    w.send(reader, Packet::PubAck(Ack::success(id(sent[0]))));
    let [last] = w.messages(reader).try_into().unwrap();
    assert_eq!(ids(std::slice::from_ref(&last)), [sent[1]]);
    w.acknowledge(reader, &last);
    assert_eq!(w.messages(reader), []);
}

#[test]
fn a_clean_start_discards_everything() {
    for (dial, clean) in lasting().into_iter().zip([v5("reader"), v3("reader")]) {
        let mut w = World::new();
        let reader = w.connect(dial.clone());
        w.subscribe(reader, "t", 1);
        let writer = writer(&mut w);
        w.publish(writer, say("t", "inflight").qos(1));
        w.drop_connection(reader);
        w.publish(writer, say("t", "queued").qos(1));
        let (reader, present) = w.reconnect(clean);
        assert!(!present);
        w.publish(writer, say("t", "after").qos(1));
        assert!(w.heard(reader).is_empty());
        // And the clean session did not last.
        w.drop_connection(reader);
        assert!(!w.reconnect(dial).1);
    }
}

#[test]
fn a_session_without_expiry_ends_with_its_connection() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").resume());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    assert!(w.hub.sessions().is_empty());
    assert_eq!(w.hub.subscription_count(), 0);
    assert!(!w.reconnect(v5("reader").resume()).1);
}

#[test]
fn a_session_expires_when_its_interval_is_over_and_not_before() {
    let mut w = World::new();
    for (wait, present) in [(59, true), (60, false)] {
        let reader = w.connect(v5("reader").expiry(60));
        w.drop_connection(reader);
        w.advance_secs(wait);
        let (reader, resumed) = w.reconnect(v5("reader").resume());
        assert_eq!(resumed, present, "after {wait} s");
        w.disconnect(reader);
    }
    assert_eq!(w.counts().sessions_expired, 1);
}

#[test]
fn the_expiry_clock_starts_at_the_end_of_the_connection() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").expiry(60));
    w.advance_secs(1000);
    w.drop_connection(reader);
    w.advance_secs(59);
    assert!(w.reconnect(v5("reader").resume()).1);
}

#[test]
fn a_session_without_end_stays() {
    let mut w = World::new();
    for dial in lasting() {
        let reader = w.connect(dial.clone());
        w.drop_connection(reader);
        w.advance_secs(10 * 365 * 86_400);
        let (reader, present) = w.reconnect(dial);
        assert!(present);
        w.send(reader, Packet::Disconnect(Disconnect::default()));
        w.connect(v5("reader"));
    }
}

fn disconnect_with_expiry(secs: u32) -> Packet {
    let properties =
        DisconnectProperties { session_expiry_secs: Some(secs), ..DisconnectProperties::default() };
    Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties: Some(Box::new(properties)) })
}

#[test]
fn disconnect_may_change_the_expiry() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").expiry(60));
    w.send(reader, disconnect_with_expiry(1000));
    w.advance_secs(500);
    let (reader, present) = w.reconnect(v5("reader").resume().expiry(60));
    assert!(present);
    w.send(reader, disconnect_with_expiry(0));
    assert!(w.hub.sessions().is_empty());
}

#[test]
fn disconnect_may_not_make_a_session_last_that_was_not_to() {
    let mut w = World::new();
    let reader = w.connect(v5("reader"));
    w.send(reader, disconnect_with_expiry(10));
    w.assert_disconnected(reader, ReasonCode::ProtocolError);
    assert!(w.hub.sessions().is_empty());
    let reader = w.connect(v5("reader"));
    w.send(reader, disconnect_with_expiry(0));
    assert_eq!(w.heard(reader), []);
}

#[test]
fn a_session_may_continue_in_the_other_version() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe_to(reader, vec![crate::world::filter("t", 1)], Some(7));
    let writer = writer(&mut w);
    w.publish(writer, say("t", "1").qos(1));
    w.heard(reader);
    w.drop_connection(reader);
    let (reader, present) = w.reconnect(v3("reader").lasting());
    assert!(present);
    assert_eq!(w.payloads(reader), ["1"]);
}

#[test]
fn a_session_survives_any_number_of_connections() {
    let mut w = World::new();
    let reader = w.connect(v5("reader").lasting());
    w.subscribe(reader, "t", 1);
    w.drop_connection(reader);
    let writer = writer(&mut w);
    for n in 0..20 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
        let (reader, present) = w.reconnect(v5("reader").lasting());
        assert!(present);
        assert_eq!(w.payloads(reader), [n.to_string()]);
        w.drop_connection(reader);
    }
    assert_eq!(w.hub.session_count(), 2);
}
