//! Crashes at every place of exchanges in both directions.

use proptest::prelude::*;

use std::collections::HashSet;

use signet_core::Limits;
use signet_core::journal::Durability;
use signet_wire::{Ack, Packet, PacketId, Publish};

use super::play::{Play, READERS, Step, TOPICS};
use crate::world::{EVERYTHING, Who, World, say, v3, v5};

/// Readers that answer at once and late, break and come back, and identifiers that are used again.
const SCRIPT: [Step; 22] = [
    Step::Publish { topic: 0, qos: 2 },
    Step::Answer { reader: 0, most: 1 },
    Step::Publish { topic: 0, qos: 1 },
    Step::Hear,
    Step::Publish { topic: 0, qos: 2 },
    Step::Answer { reader: 0, most: 2 },
    Step::Answer { reader: 1, most: 1 },
    Step::BreakReader { reader: 0 },
    Step::Publish { topic: 1, qos: 2 },
    Step::BreakWriter,
    Step::ReturnWriter,
    Step::Hear,
    Step::Publish { topic: 1, qos: 1 },
    Step::ReturnReader { reader: 0, receive_max: 1 },
    Step::Answer { reader: 0, most: 2 },
    Step::Hear,
    Step::Hear,
    Step::Publish { topic: 0, qos: 2 },
    Step::Answer { reader: 1, most: 3 },
    Step::Answer { reader: 0, most: 9 },
    Step::Hear,
    Step::Answer { reader: 1, most: 9 },
];

#[test]
fn a_crash_at_any_record_of_a_script_loses_and_repeats_nothing() {
    let mut crashes = 0;
    for steps in 0..=SCRIPT.len() {
        for durable in 0.. {
            let mut play = Play::new();
            let before = play.w.disk().portions;
            play.step(Step::Hang { after: durable });
            for step in SCRIPT.into_iter().take(steps) {
                play.step(step);
            }
            let hung = play.w.disk().portions - before == durable;
            play.step(Step::Crash);
            play.end();
            crashes += 1;
            if !hung {
                break;
            }
        }
    }
    assert!(crashes > 200, "{crashes} crashes");
}

/// What the reader is sent of some QoS 2 messages. It answers PUBREC and hears no PUBREL.
fn half_received(w: &mut World, reader: Who) -> Vec<PacketId> {
    let writer = w.connect(v5("writer"));
    for n in 0..20 {
        w.publish(writer, say("t", &n.to_string()).qos(2));
    }
    let ids: Vec<PacketId> =
        w.messages(reader).iter().filter_map(|message: &Publish| message.qos.packet_id()).collect();
    w.stall(reader, true);
    for id in &ids {
        w.send(reader, Packet::PubRec(Ack::success(*id)));
    }
    ids
}

#[test]
fn identifiers_that_only_the_client_remembers_are_not_given_to_new_messages_soon() {
    for dial in [v3("reader").lasting(), v5("reader").lasting()] {
        let mut w = World::on_disk_with(Limits::default(), EVERYTHING, Durability::Batched);
        let reader = w.connect(dial.clone());
        w.subscribe(reader, "t", 2);
        // The last interval is lost: nothing tells the next process of these exchanges.
        w.disk().hang_after(0);
        let held: HashSet<PacketId> = half_received(&mut w, reader).into_iter().collect();
        assert_eq!(held.len(), 20);
        w.crash_for(1);
        let (reader, present) = w.reconnect(dial);
        assert!(present);
        let new = half_received(&mut w, reader);
        assert_eq!(new.len(), 20);
        assert!(new.iter().all(|id| !held.contains(id)), "{held:?}, then {new:?}");
    }
}

#[test]
fn each_process_and_each_session_begins_with_other_identifiers() {
    let mut w = World::on_disk();
    for name in ["a", "b"] {
        let who = w.connect(v5(name).lasting());
        w.subscribe(who, "t", 1);
    }
    let mut begun = HashSet::new();
    for _ in 0..3 {
        w.crash_for(1);
        let readers = ["a", "b"].map(|name| w.connect(v5(name).lasting()));
        let writer = w.connect(v5("writer"));
        w.publish(writer, say("t", "x").qos(1));
        for reader in readers {
            let messages = w.messages(reader);
            begun.insert(messages[0].qos.packet_id().unwrap());
            w.acknowledge(reader, &messages[0]);
        }
    }
    assert_eq!(begun.len(), 6, "{begun:?}");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..TOPICS.len(), 1..=2_u8).prop_map(|(topic, qos)| Step::Publish { topic, qos }),
        6 => Just(Step::Hear),
        1 => Just(Step::BreakWriter),
        2 => Just(Step::ReturnWriter),
        8 => (0..READERS, 1..6_usize).prop_map(|(reader, most)| Step::Answer { reader, most }),
        1 => (0..READERS).prop_map(|reader| Step::BreakReader { reader }),
        3 => (0..READERS, 1..5_u16)
            .prop_map(|(reader, receive_max)| Step::ReturnReader { reader, receive_max }),
        2 => (0..12_usize).prop_map(|after| Step::Hang { after }),
        2 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn crashes_in_random_histories_lose_and_repeat_nothing(history in steps()) {
        let mut play = Play::new();
        for step in history {
            play.step(step);
        }
        play.end();
    }
}
