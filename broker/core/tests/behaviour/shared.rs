//! Shared subscriptions (MQTT5 §4.8.2).

use signet_core::CloseReason;
use signet_wire::{Ack, Packet, Publish, ReasonCode};

use crate::world::{Who, World, filter, id, ids, say, text, v3, v5};

fn members(w: &mut World, names: &[&str], qos: u8) -> Vec<Who> {
    names
        .iter()
        .map(|name| {
            let who = w.connect(v5(name).lasting());
            w.subscribe(who, "$share/g/t", qos);
            who
        })
        .collect()
}

fn writer(w: &mut World) -> Who {
    w.connect(v5("writer"))
}

#[test]
fn each_message_goes_to_exactly_one_member_in_turn() {
    let mut w = World::new();
    let members = members(&mut w, &["a", "b", "c"], 1);
    let writer = writer(&mut w);
    for n in 0..30 {
        w.publish(writer, say("t", &n.to_string()).qos((n % 2) as u8));
    }
    let shares: Vec<Vec<String>> = members.iter().map(|who| w.payloads(*who)).collect();
    assert!(shares.iter().all(|share| share.len() == 10), "{shares:?}");
    let mut all: Vec<u32> = shares.concat().iter().map(|text| text.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
}

#[test]
fn groups_and_plain_subscribers_each_get_a_copy() {
    let mut w = World::new();
    let one = w.connect(v5("one"));
    let two = w.connect(v5("two"));
    let both = w.connect(v5("both"));
    w.subscribe(one, "$share/g1/t", 0);
    w.subscribe(two, "$share/g2/t", 0);
    w.subscribe(both, "$share/g3/t", 0);
    w.subscribe(both, "t", 0);
    let writer = writer(&mut w);
    w.publish(writer, say("t", "x"));
    assert_eq!([one, two, both].map(|who| w.messages(who).len()), [1, 1, 2]);
}

#[test]
fn the_quality_of_service_is_that_of_the_member() {
    let mut w = World::new();
    let low = w.connect(v5("low"));
    w.subscribe(low, "$share/g/t", 0);
    let high = w.connect(v5("high"));
    w.subscribe(high, "$share/g/t", 2);
    let writer = writer(&mut w);
    for _ in 0..2 {
        w.publish(writer, say("t", "x").qos(1));
    }
    assert_eq!([low, high].map(|who| w.messages(who)[0].qos.qos() as u8), [0, 1]);
}

#[test]
fn a_connected_member_is_preferred() {
    let mut w = World::new();
    let members = members(&mut w, &["asleep", "awake"], 1);
    w.drop_connection(members[0]);
    let writer = writer(&mut w);
    for n in 0..10 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    assert_eq!(w.payloads(members[1]).len(), 10);
}

#[test]
fn a_member_that_is_to_close_gets_nothing_more_where_there_is_another() {
    for qos in [0, 1] {
        let mut w = World::new();
        let members = members(&mut w, &["leaving", "staying"], 1);
        let writer = writer(&mut w);
        let number = w.connection(members[0]).number();
        w.stall(members[0], true);
        assert!(w.hub.close_connection(number, CloseReason::CertificateRevoked));
        for n in 0..10 {
            w.publish(writer, say("t", &n.to_string()).qos(qos));
        }
        assert_eq!(w.payloads(members[1]).len(), 10, "{qos}");
    }
}

#[test]
fn a_member_that_is_to_close_and_has_the_group_to_itself_finds_its_messages_when_it_is_back() {
    let mut w = World::new();
    let members = members(&mut w, &["alone"], 1);
    let writer = writer(&mut w);
    let number = w.connection(members[0]).number();
    w.stall(members[0], true);
    assert!(w.hub.close_rejudged(number, None));
    w.publish(writer, say("t", "kept").qos(1));
    w.publish(writer, say("t", "lost"));
    assert_eq!(w.counts().dropped_no_member, 1, "nobody is there for QoS 0");
    w.stall(members[0], false);
    w.drive();
    assert!(w.closed(members[0]).is_some());
    let (back, present) = w.reconnect(v5("alone").lasting());
    assert!(present);
    assert_eq!(w.payloads(back), ["kept"]);
}

#[test]
fn messages_wait_fairly_when_nobody_is_connected() {
    let mut w = World::new();
    let all = members(&mut w, &["a", "b"], 1);
    for who in all {
        w.drop_connection(who);
    }
    let writer = writer(&mut w);
    for n in 0..10 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    let a = w.connect(v5("a").lasting());
    let b = w.connect(v5("b").lasting());
    assert_eq!([a, b].map(|who| w.payloads(who).len()), [5, 5]);
}

#[test]
fn qos_0_without_a_connected_member_is_dropped_and_counted() {
    let mut w = World::new();
    let all = members(&mut w, &["a"], 1);
    w.drop_connection(all[0]);
    let writer = writer(&mut w);
    w.publish(writer, say("t", "x"));
    assert_eq!(w.counts().dropped_no_member, 1);
}

#[test]
fn subscription_identifiers_come_with_shared_messages() {
    let mut w = World::new();
    let who = w.connect(v5("a"));
    w.subscribe_to(who, vec![filter("$share/g/t", 0)], Some(9));
    let writer = writer(&mut w);
    w.publish(writer, say("t", "x"));
    assert_eq!(w.messages(who)[0].properties.as_ref().unwrap().subscription_ids.as_slice(), [9]);
}

/// What the survivor of a group gets after the other member, which had taken and not acknowledged `qos` messages,
/// went away.
fn survivors_share(qos: u8, acknowledge: fn(&mut World, Who, &[Publish])) -> Vec<String> {
    let mut w = World::new();
    let leaver = w.connect(v5("leaver").receive_max(2));
    w.subscribe(leaver, "$share/g/t", 2);
    let writer = writer(&mut w);
    for n in 0..4 {
        w.publish(writer, say("t", &n.to_string()).qos(qos));
    }
    let taken = w.messages(leaver);
    assert_eq!(taken.len(), 2, "two in flight, two waiting");
    acknowledge(&mut w, leaver, &taken);
    w.heard(leaver);
    let survivor = w.connect(v5("survivor"));
    w.subscribe(survivor, "$share/g/t", 2);
    w.drop_connection(leaver);
    w.payloads(survivor)
}

#[test]
fn qos_1_in_flight_and_waiting_goes_to_another_member_when_the_session_ends() {
    assert_eq!(survivors_share(1, |_, _, _| {}), ["0", "1", "2", "3"]);
}

#[test]
fn qos_2_in_flight_ends_with_its_member_and_what_waits_goes_on() {
    assert_eq!(survivors_share(2, |_, _, _| {}), ["2", "3"]);
}

#[test]
fn an_acknowledged_message_does_not_go_to_another_member() {
    let acknowledge = |w: &mut World, who: Who, taken: &[Publish]| {
        w.send(who, Packet::PubAck(Ack::success(id(ids(taken)[0]))));
    };
    // The slot that became free took message 2.
    assert_eq!(survivors_share(1, acknowledge), ["1", "2", "3"]);
}

#[test]
fn a_refused_message_is_discarded_and_goes_to_nobody_else() {
    let refuse = |w: &mut World, who: Who, taken: &[Publish]| {
        w.send(who, Packet::PubAck(Ack::new(id(ids(taken)[0]), ReasonCode::ImplementationSpecificError)));
    };
    assert_eq!(survivors_share(1, refuse), ["1", "2", "3"]);
}

#[test]
fn a_lasting_member_keeps_its_messages_until_its_session_ends() {
    let mut w = World::new();
    let sleeper = w.connect(v5("sleeper").expiry(60));
    w.subscribe(sleeper, "$share/g/t", 1);
    let writer = writer(&mut w);
    w.publish(writer, say("t", "1").qos(1));
    w.drop_connection(sleeper);
    w.publish(writer, say("t", "2").qos(1));
    let other = w.connect(v5("other"));
    w.subscribe(other, "$share/g/t", 1);
    assert_eq!(w.payloads(other), [""; 0]);
    w.advance_secs(60);
    assert_eq!(w.payloads(other), ["1", "2"]);
    assert_eq!(w.counts().shared_redelivered, 2);
}

#[test]
fn a_full_member_is_passed_over() {
    let mut w = World::limited(|limits| limits.queued_messages_max = 1);
    let full = w.connect(v5("full").receive_max(1));
    w.subscribe(full, "$share/g/t", 1);
    let free = w.connect(v5("free"));
    w.subscribe(free, "$share/g/t", 1);
    let writer = writer(&mut w);
    let mut got = Vec::new();
    for n in 0..20 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
        got.extend(w.payloads(free));
    }
    assert_eq!(got.len(), 18, "all but one in flight and one waiting");
    assert_eq!(w.counts().dropped_queue_full, 0);
}

#[test]
fn a_member_that_may_not_read_is_never_picked() {
    let before = "user a\ntopic read t\nuser b\ntopic read t\nuser writer\ntopic write t\n";
    // Subscribing to `t/#` covers more than `t`, so `b` loses the group too; `a` alone stays.
    let after = "user a\ntopic read t\nuser b\ntopic read other\nuser writer\ntopic write t\n";
    let mut w = World::under(before);
    let all = members(&mut w, &["a", "b"], 1);
    let writer = writer(&mut w);
    w.stall(all[1], true);
    w.set_policy(after);
    for n in 0..10 {
        w.publish(writer, say("t", &n.to_string()).qos(1));
    }
    assert_eq!(w.payloads(all[0]).len(), 10);
    assert_eq!(w.closed(all[1]), Some(signet_core::CloseReason::NotAuthorized));
}

#[test]
fn who_may_not_read_may_not_join() {
    let mut w =
        World::under("user thief\ntopic read mine\nuser good\ntopic read t\nuser writer\ntopic write t\n");
    let thief = w.connect(v5("thief"));
    let answer = w.subscribe_to(thief, vec![filter("$share/g/t", 1), filter("$share/g/mine", 1)], None);
    assert_eq!(answer.reasons, [ReasonCode::NotAuthorized, ReasonCode::GrantedQoS1]);
}

#[test]
fn a_3_1_1_client_may_share_too() {
    let mut w = World::new();
    let old = w.connect(v3("old"));
    w.subscribe(old, "$share/g/t", 1);
    let writer = writer(&mut w);
    w.publish(writer, say("t", "x").qos(1));
    assert_eq!(text(&w.messages(old)[0]), "x");
}

#[test]
fn a_member_that_leaves_gets_nothing_more() {
    let mut w = World::new();
    let all = members(&mut w, &["a", "b"], 1);
    assert_eq!(w.unsubscribe(all[0], "$share/g/t").reasons, [ReasonCode::Success]);
    assert_eq!(w.unsubscribe(all[0], "$share/g/t").reasons, [ReasonCode::NoSubscriptionExisted]);
    let writer = writer(&mut w);
    for _ in 0..4 {
        w.publish(writer, say("t", "x").qos(1));
    }
    assert_eq!([all[0], all[1]].map(|who| w.payloads(who).len()), [0, 4]);
}
