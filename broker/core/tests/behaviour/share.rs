//! What counts in a name's share while memory is tight, what its filters may take, and what the end of a connection gives back.

use bytes::BytesMut;
use signet_core::{Backlog, Event, Pressure, Quota};
use signet_wire::{Packet, ReasonCode, Version, encode};

use crate::world::{Who, World, filter, say, v3, v5};

/// A filter of so many bytes that no other number has.
fn long(n: usize, bytes: usize) -> String {
    format!("{n:04}/{}", "x".repeat(bytes - 5))
}

fn ask(w: &mut World, who: Who, filters: impl Iterator<Item = String>) -> Vec<ReasonCode> {
    let filters = filters.map(|text| filter(&text, 1)).collect();
    w.subscribe_to(who, filters, None).reasons
}

fn waits(w: &mut World, who: Who, packet: signet_wire::Publish) -> bool {
    let mut bytes = BytesMut::new();
    encode(&Packet::Publish(packet), Version::V311, &mut bytes).unwrap();
    w.connection_mut(who).should_wait(&bytes)
}

#[test]
fn long_filters_count_as_long_as_they_are_and_short_ones_of_a_service_that_reconnects_do_not() {
    let mut w = World::new();
    w.hub.set_fair_share(100_000);
    let (hoarder, service) = (w.connect(v5("hoarder")), w.connect(v5("service")));
    ask(&mut w, hoarder, (0..20).map(|n| long(n, 5000)));
    w.hub.set_pressure(Pressure::Tight);
    assert_eq!(ask(&mut w, hoarder, ["more".into()].into_iter()), [ReasonCode::QuotaExceeded]);
    // The least share that there is, with a ceiling of 64 MiB.
    w.hub.set_fair_share(16 * 1024);
    for n in 0..60 {
        assert_eq!(ask(&mut w, service, [long(n, 40)].into_iter()), [ReasonCode::GrantedQoS1], "{n}");
    }
    // What is given up counts no longer, and nothing of it is left over.
    for n in 0..20 {
        w.unsubscribe(hoarder, &long(n, 5000));
    }
    assert_eq!(ask(&mut w, hoarder, ["more".into()].into_iter()), [ReasonCode::GrantedQoS1]);
}

#[test]
fn filters_of_many_levels_count_for_what_they_take_in_the_index() {
    let mut w = World::new();
    w.hub.set_fair_share(100_000);
    let (hoarder, other) = (w.connect(v5("hoarder")), w.connect(v5("other")));
    for who in [hoarder, other] {
        let deep = if who == hoarder { "/+".repeat(100) } else { "/x".repeat(100) };
        ask(&mut w, who, (0..10).map(|n| format!("{n}{deep}")));
    }
    w.hub.set_pressure(Pressure::Tight);
    for (who, code) in [(hoarder, ReasonCode::QuotaExceeded), (other, ReasonCode::GrantedQoS1)] {
        assert_eq!(ask(&mut w, who, ["more".into()].into_iter()), [code]);
    }
}

#[test]
fn the_filters_of_a_name_have_a_bound_of_bytes_however_few_they_are() {
    let mut w = World::limited(|limits| limits.subscriptions_per_principal_max = 300);
    let first = w.connect(v5("hoarder").client_id("1"));
    let second = w.connect(v5("hoarder").client_id("2"));
    w.hub.reset_growth();
    assert_eq!(ask(&mut w, first, [long(0, 60_000)].into_iter()), [ReasonCode::GrantedQoS1]);
    assert!(w.hub.growth() > 120_000, "it lies in the session and in the index: {}", w.hub.growth());
    assert_eq!(ask(&mut w, second, [long(1, 60_000)].into_iter()), [ReasonCode::GrantedQoS1]);
    let more = |w: &mut World, who| ask(w, who, [long(2, 60_000), "short".into()].into_iter());
    assert_eq!(more(&mut w, second), [ReasonCode::QuotaExceeded, ReasonCode::GrantedQoS1]);
    assert!(w.notes(second).contains(&Event::QuotaReached(Quota::SubscriptionsOfPrincipal)));
    let other = w.connect(v5("other"));
    assert_eq!(more(&mut w, other), [ReasonCode::GrantedQoS1; 2], "another name has its own");
    // The end of a session gives back what its filters took.
    w.disconnect(first);
    assert_eq!(more(&mut w, second), [ReasonCode::GrantedQoS1; 2]);
}

#[test]
fn what_the_policy_takes_away_counts_no_longer_in_the_bytes_of_a_name() {
    let mut w = World::limited(|limits| limits.subscriptions_per_principal_max = 300);
    let away = w.connect(v5("dev").client_id("away").lasting());
    ask(&mut w, away, (0..2).map(|n| long(n, 60_000)));
    w.drop_connection(away);
    let live = w.connect(v5("dev").client_id("live"));
    assert_eq!(ask(&mut w, live, [long(2, 60_000)].into_iter()), [ReasonCode::QuotaExceeded]);
    w.set_policy("user dev\ntopic read 0002/#\n");
    assert_eq!(ask(&mut w, live, [long(2, 60_000)].into_iter()), [ReasonCode::GrantedQoS1]);
}

/// A name above its share: it retains, and listens to everything.
fn hoarder(w: &mut World) -> Who {
    w.hub.set_fair_share(2000);
    let hoarder = w.connect(v5("hoarder"));
    w.publish(hoarder, say("kept", &"x".repeat(3000)).qos(1).retain());
    w.subscribe(hoarder, "#", 1);
    w.hub.set_pressure(Pressure::Tight);
    hoarder
}

#[test]
fn who_may_not_publish_is_told_so_and_not_who_listens_there() {
    let mut w = World::under("user hoarder\ntopic readwrite #\ntopic deny secret\n");
    let hoarder = hoarder(&mut w);
    assert_eq!(w.publish(hoarder, say("open", "m").qos(1)), ReasonCode::QuotaExceeded);
    for qos in [1, 2] {
        assert_eq!(w.publish(hoarder, say("secret", "m").qos(qos)), ReasonCode::NotAuthorized, "QoS {qos}");
    }
    w.hub.set_pressure(Pressure::None);
    let old = w.connect(v3("hoarder").client_id("old"));
    w.hub.set_pressure(Pressure::Tight);
    assert!(waits(&mut w, old, say("open", "m").qos(1).packet(1)));
    assert!(!waits(&mut w, old, say("secret", "m").qos(1).packet(1)), "waiting would not help");
}

#[test]
fn only_those_count_who_may_have_the_message() {
    let mut w = World::under(
        "user hoarder\ntopic readwrite #\nuser greedy\ntopic read #\ntopic deny live\nuser reader\ntopic read #\n",
    );
    w.hub.set_fair_share(2000);
    let (greedy, reader) = (w.connect(v5("greedy")), w.connect(v5("reader")));
    let writer = w.connect(v5("hoarder"));
    w.publish(writer, say("kept", &"x".repeat(3000)).qos(1).retain());
    w.stall(greedy, true);
    // It is above its share by what waits for it.
    w.subscribe_to(greedy, vec![filter("#", 1), filter("$share/g/+", 1)], None);
    w.subscribe_to(reader, vec![filter("live", 1), filter("$share/g/+", 1)], None);
    w.hub.set_pressure(Pressure::Tight);
    assert_eq!(w.publish(writer, say("live", "m").qos(1)), ReasonCode::Success);
    assert_eq!(w.payloads(reader), ["m", "m"], "as a subscriber, and of the group");
    assert_eq!(w.publish(writer, say("other", "m").qos(1)), ReasonCode::QuotaExceeded);
}

#[test]
fn a_retained_message_of_another_name_is_no_room_for_an_own_one() {
    let mut w = World::new();
    let other = w.connect(v5("other"));
    w.publish(other, say("theirs", &"x".repeat(1000)).qos(1).retain());
    w.hub.set_fair_share(2000);
    let hoarder = w.connect(v5("hoarder"));
    w.publish(hoarder, say("own", &"x".repeat(3000)).qos(1).retain());
    w.hub.set_pressure(Pressure::Tight);
    let anew = |topic| say(topic, &"y".repeat(1000)).qos(1).retain();
    assert_eq!(w.publish(hoarder, anew("theirs")), ReasonCode::QuotaExceeded);
    assert_eq!(w.publish(hoarder, anew("own")), ReasonCode::NoMatchingSubscribers);
}

#[test]
fn short_messages_that_wait_for_very_many_are_a_backlog_of_each_of_them() {
    const READERS: usize = 200;
    const MESSAGES: usize = 100;
    let mut w = World::new();
    let readers: Vec<_> = (0..READERS).map(|n| w.connect(v5(&format!("reader-{n}")))).collect();
    for reader in readers {
        w.subscribe(reader, "t", 0);
        w.stall(reader, true);
    }
    let writer = w.connect(v5("writer"));
    for _ in 0..MESSAGES {
        w.publish(writer, say("t", &"x".repeat(150)));
    }
    let backlogs = w.hub.backlogs();
    assert_eq!(backlogs.len(), READERS);
    for Backlog { bytes, to_take, .. } in backlogs {
        // Its place in each queue, and hardly anything of the message.
        assert!((MESSAGES * 64..MESSAGES * 250).contains(&bytes), "{bytes}");
        assert!((MESSAGES * 150..MESSAGES * 200).contains(&to_take), "{to_take}: it is all to be taken");
    }
}

#[test]
fn of_a_long_queue_a_part_says_how_much_it_gives_back() {
    let mut w = World::new();
    let (reader, writer) = (w.connect(v5("reader")), w.connect(v5("writer")));
    for n in 0..150 {
        w.publish(writer, say(&format!("kept/{n}"), &"x".repeat(1000)).retain());
    }
    w.stall(reader, true);
    w.subscribe(reader, "kept/#", 0);
    let places = w.hub.backlogs()[0].bytes;
    assert!((150 * 64..150 * 250).contains(&places), "{places}: what is retained stays");
    let replayed = w.hub.backlogs()[0].to_take;
    assert!((150_000..155_000).contains(&replayed), "{replayed}");
    // Behind those, where none of it may be looked at.
    w.subscribe(reader, "live", 0);
    w.publish(writer, say("live", &"x".repeat(10_000)));
    let one = w.hub.backlogs()[0];
    assert!((places + 10_000..places + 11_000).contains(&one.bytes), "{one:?}");
    assert!((replayed + 10_000..replayed + 11_000).contains(&one.to_take), "{one:?}");
    for n in 0..2000 {
        w.publish(writer, say("live", &"x".repeat(n)));
    }
    let many = w.hub.backlogs()[0];
    let whole = replayed + 10_000 + 2000 * 1000;
    assert!((whole * 9 / 10..whole * 11 / 10).contains(&many.to_take), "{many:?} of {whole}");
    assert!(many.bytes > (whole - replayed) * 9 / 10, "{many:?} of {whole}");
}
