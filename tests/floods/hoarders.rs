//! Devices that have the broker keep for days whatever they may.

use crate::beside;
use crate::site::{Site, V5, ceiling_bytes};
use serde_json::json;
use signet_tests::build::{self, Version};
use signet_tests::raw_client::RawClient;
use signet_tests::received::Received;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Sessions of one name, of which all but one are away.
const SESSIONS: usize = 16;
/// Quota exceeded.
const QUOTA: u8 = 0x97;

/// The code of the PUBACK that comes next; `None`: the broker closed.
fn puback(client: &mut RawClient) -> Option<u8> {
    loop {
        match client.receive_or_end()? {
            // Nobody who subscribes is no failure.
            Received::PubAck(ack) => return Some(if ack.code == 0x10 { 0 } else { ack.code }),
            Received::Publish(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Fills the queues of sessions that are away, and retains messages, as far as one name may. How many messages were taken
/// and refused.
fn hoard(site: &Site, name: &str) -> (usize, usize) {
    let (shakes, payload) = (site.device(name), vec![b'h'; 16 * 1024]);
    let (mut taken, mut refused) = (0, 0);
    for n in 0..SESSIONS {
        let Ok(mut client) = shakes.open(V5) else { continue };
        if client.try_connect(&build::connect(V5, format!("away-{n}")).persistent()) {
            client.send(build::subscribe(V5, 1, &[build::sub(format!("devices/{name}/{n}"), 1)]));
            let _ = client.receive_or_end();
            client.send(build::disconnect());
        }
    }
    let Ok(mut client) = shakes.open(V5) else { return (0, 0) };
    if !client.try_connect(&build::connect(V5, "hoards")) {
        return (0, 0);
    }
    for round in 0..50 {
        for n in 0..SESSIONS {
            let queued = build::publish(V5, format!("devices/{name}/{n}"), &payload).qos1(1);
            let kept = build::publish(V5, format!("devices/{name}/kept/{round}/{n}"), &payload).qos1(1);
            for packet in [queued.bytes(), kept.retain().bytes()] {
                if client.try_send(packet).is_err() {
                    return (taken, refused);
                }
                match puback(&mut client) {
                    Some(0) => taken += 1,
                    Some(QUOTA) => refused += 1,
                    Some(code) => panic!("{code:#04x}"),
                    None => return (taken, refused),
                }
            }
        }
    }
    (taken, refused)
}

/// Devices that are new here connect, subscribe, publish and hear; how many were refused any of it.
fn newcomers_refused(site: &Site, newcomers: Range<usize>) -> usize {
    let serve = |n: usize| -> Option<()> {
        let name = format!("newcomer-{n}");
        let mut client = site.device(&name).open(V5).ok()?;
        let topic = format!("devices/{name}/t");
        if !client.try_connect(&build::connect(V5, "n").persistent()) {
            return None;
        }
        client.send(build::subscribe(V5, 1, &[build::sub(&topic, 1)]));
        let granted = matches!(client.receive_or_end()?, Received::SubAck { codes, .. } if codes == [1]);
        client.send(build::publish(V5, &topic, "m").qos1(2).bytes());
        let (mut acknowledged, mut heard) = (false, false);
        while granted && !(acknowledged && heard) {
            match client.receive_or_end()? {
                Received::PubAck(ack) => acknowledged = ack.code == 0,
                Received::Publish(publish) => {
                    heard = true;
                    client.send(build::puback(publish.packet_id));
                }
                _ => return None,
            }
        }
        granted.then_some(())
    };
    newcomers.filter(|n| serve(*n).is_none()).count()
}

#[test]
fn what_one_name_has_the_broker_keep_for_days_costs_nobody_else_anything() {
    Site::with_devices("").survives("hoarder", |site| {
        let (taken, refused) = hoard(site, "hoarder");
        let others = newcomers_refused(site, 0..10);
        assert!(others == 0 || beside::is_asked_for(), "{others} of 10 are refused");
        json!({ "sessions": SESSIONS, "bytes_each": 16 * 1024, "taken": taken, "refused_0x97": refused, "newcomers_refused": others })
    });
}

/// How long it takes until ten devices that are new here are all served, and how many were refused before.
fn until_newcomers_are_served(site: &Site) -> (Duration, usize) {
    let (began, mut refused) = (Instant::now(), 0);
    for round in 1.. {
        match newcomers_refused(site, round * 10..round * 10 + 10) {
            0 => break,
            some => refused += some,
        }
        let resident = site.resident();
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{refused} are refused, {resident} bytes: {}",
            site.log()
        );
    }
    (began.elapsed(), refused)
}

#[test]
fn many_names_that_hoard_together_are_held_back_and_others_are_served() {
    const NAMES: usize = 16;
    if beside::is_asked_for() {
        return;
    }
    Site::with_devices("").survives("hoarders_together", |site| {
        let sum = |(a, b), (c, d)| (a + c, b + d);
        let part = |hand: usize| {
            let mine = (hand..NAMES).step_by(4);
            mine.map(|n| hoard(site, &format!("hoarder-{n}"))).fold((0, 0), sum)
        };
        let (taken, refused) = std::thread::scope(|scope| {
            let hands: Vec<_> = (0..4).map(|hand| scope.spawn(move || part(hand))).collect();
            hands.into_iter().map(|hand| hand.join().expect("it hoards")).fold((0, 0), sum)
        });
        // What was taken is written to the store a little later, which takes memory for a while.
        let (served, newcomers) = until_newcomers_are_served(site);
        let share = usize::try_from(ceiling_bytes()).expect("64 bits") / 16;
        assert!(taken < NAMES * 2 * share / (16 * 1024), "{taken} taken: as many as each may have alone");
        json!({
            "names": NAMES, "bytes_each": 16 * 1024, "taken": taken, "refused_0x97": refused,
            "newcomers_served_after_s": served.as_secs_f64(), "newcomers_refused_before": newcomers,
        })
    });
}

/// Memory runs short as soon as a 5.0 client is told so.
fn until_it_is_short(site: &Site, new: &mut RawClient) {
    site.set_ceiling(site.resident() / 8 * 10);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        new.send(build::publish(V5, "shared/t", "x").qos1(1).bytes());
        match puback(new) {
            Some(QUOTA) => return,
            Some(0) => assert!(Instant::now() < until, "memory never runs short: {}", site.log()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_3_1_1_client_waits_for_memory_and_is_closed_only_when_there_is_none_for_long() {
    if beside::is_asked_for() {
        return;
    }
    let site = Site::start("", 10);
    let mut new = site.device("new").connect(&build::connect(V5, "n"), V5);
    let connect = build::connect(Version::V311, "o").persistent();
    let mut old = site.device("old").connect(&connect, Version::V311);
    until_it_is_short(&site, &mut new);
    old.send(build::publish(Version::V311, "shared/t", "waits").qos1(1).bytes());
    for _ in 0..20 {
        new.publish("shared/t", "x", QUOTA);
    }
    assert!(old.is_alive());
    site.set_ceiling(1 << 30);
    old.expect_puback(1, 0);
    until_it_is_short(&site, &mut new);
    let began = Instant::now();
    old.send(build::subscribe(Version::V311, 1, &[build::sub("shared/new", 1)]));
    old.expect_closed();
    assert!(began.elapsed() > Duration::from_secs(5), "closed after {:?}", began.elapsed());
}
