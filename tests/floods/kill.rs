//! SIGKILL while a device publishes: what was acknowledged and is not there afterwards.

use crate::beside;
use crate::site::{Site, V5, let_in, sized, tell};
use serde_json::json;
use signet_tests::build;
use signet_tests::raw_client::RawClient;
use signet_tests::received::Received;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Messages that may wait for their acknowledgement: below what any of the brokers allows.
const WINDOW: usize = 16;
/// One round publishes no more than a queue of Mosquitto holds by default.
const ROUND_MAX: usize = 900;
const TOPIC: &str = "shared/kill";
const LAST: &str = "this is the last";

fn number_of(payload: &[u8]) -> Option<usize> {
    std::str::from_utf8(payload).ok()?.split(' ').next()?.parse().ok()
}

/// Publishes until so many are acknowledged, with others under way; then the broker is killed.
fn published_until_killed(site: &mut Site, first: usize, target: usize) -> BTreeSet<usize> {
    let mut writer = let_in(&site.device("writer"), &build::connect(V5, "w"));
    let mut acknowledged = BTreeSet::new();
    let mut sent = 0;
    let mut next = |writer: &mut RawClient| {
        let (number, id) = (first + sent, u16::try_from(sent + 1).expect("a round is short"));
        writer.send(build::publish(V5, TOPIC, format!("{number} {}", "x".repeat(200))).qos1(id).bytes());
        sent += 1;
    };
    (0..WINDOW).for_each(|_| next(&mut writer));
    while acknowledged.len() < target {
        match writer.receive() {
            Received::PubAck(ack) if ack.code & !0x10 == 0 => {
                acknowledged.insert(number_of_id(first, ack.packet_id))
            }
            // Memory is short: it is killed at this moment.
            Received::PubAck(ack) if ack.code == 0x97 => break,
            other => panic!("{} are acknowledged, then: {other:?}\n{}", acknowledged.len(), site.log()),
        };
        next(&mut writer);
    }
    site.kill_and_start();
    // What it had acknowledged before it was killed.
    while let Some(Received::PubAck(ack)) = writer.receive_or_end() {
        if ack.code & !0x10 == 0 {
            acknowledged.insert(number_of_id(first, ack.packet_id));
        }
    }
    acknowledged
}

fn number_of_id(first: usize, id: u16) -> usize {
    first + usize::from(id) - 1
}

/// What the reader, who was away, gets now; whether its session was there.
fn heard(site: &Site) -> (BTreeSet<usize>, bool) {
    let connect = build::connect(V5, "r").persistent();
    let (mut reader, present, _) = site.device("reader").connected(&connect, V5);
    if !present {
        reader.subscribe(TOPIC, 1);
    }
    let mut writer = let_in(&site.device("writer"), &build::connect(V5, "last"));
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        writer.send(build::publish(V5, TOPIC, LAST).qos1(1).bytes());
        match writer.receive() {
            Received::PubAck(ack) if ack.code & !0x10 == 0 => break,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
    }
    let mut heard = BTreeSet::new();
    loop {
        match reader.receive() {
            Received::Publish(publish) => {
                reader.send(build::puback(publish.packet_id));
                if publish.payload == LAST.as_bytes() {
                    break;
                }
                heard.extend(number_of(&publish.payload));
            }
            other => panic!("{other:?}"),
        }
    }
    reader.send(build::disconnect());
    (heard, present)
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_acknowledged_to_who_is_away() {
    let mut site = Site::start("", 0);
    let (mut total, mut lost, mut sessions_lost) = (0, 0, 0);
    let rounds = sized(3, 20);
    // Whoever is to hear of it is away.
    let _ = heard(&site);
    for round in 0..rounds {
        // Another moment each time, the same in every run.
        let target = 100 + round * 7919 % (ROUND_MAX - 100 - 2 * WINDOW);
        let acknowledged = published_until_killed(&mut site, round * ROUND_MAX, target);
        let (heard, present) = heard(&site);
        total += acknowledged.len();
        lost += acknowledged.difference(&heard).count();
        sessions_lost += usize::from(!present);
    }
    tell(&json!({
        "flood": "kill", "rounds": rounds, "acknowledged": total, "lost": lost, "sessions_lost": sessions_lost,
    }));
    assert!(total > rounds, "{total} acknowledged in {rounds} rounds");
    assert!(
        (lost, sessions_lost) == (0, 0) || beside::is_asked_for(),
        "{lost} of {total} acknowledged are lost"
    );
}
