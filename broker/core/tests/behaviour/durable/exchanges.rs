//! Crashes at every place of exchanges in both directions.

use proptest::prelude::*;

use super::play::{Play, READERS, Step, TOPICS};

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
