//! Random histories against what must hold in every one of them.
//!
//! One publisher numbers its messages; several readers with lasting sessions subscribe once, connect, disconnect, are
//! taken over, stall, and acknowledge as they like. At the end everybody comes back and acknowledges everything. Then
//! each reader has every QoS 1 and QoS 2 message at least once, every QoS 2 message exactly once (counting as a
//! receiver does: a new identifier is a new message), and the first copies of each topic and quality of service in
//! the order of publishing.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use signet_wire::{Ack, Packet, PacketId, QosId};

use crate::world::{Dial, Who, World, say, text, v3, v5};

const READERS: usize = 3;
const TOPICS: [&str; 3] = ["t/1", "t/2", "t/3"];

#[derive(Clone, Debug)]
enum Step {
    Publish { topic: usize, qos: u8 },
    Repeat,
    Acknowledge { reader: usize, most: usize },
    Break { reader: usize },
    Return { reader: usize, version3: bool, receive_max: u16 },
    Stall { reader: usize, stalled: bool },
    RepublishConnection,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..TOPICS.len(), 1..=2_u8).prop_map(|(topic, qos)| Step::Publish { topic, qos }),
        1 => Just(Step::Repeat),
        5 => (0..READERS, 1..6_usize).prop_map(|(reader, most)| Step::Acknowledge { reader, most }),
        2 => (0..READERS).prop_map(|reader| Step::Break { reader }),
        3 => (0..READERS, any::<bool>(), 1..5_u16)
            .prop_map(|(reader, version3, receive_max)| Step::Return { reader, version3, receive_max }),
        1 => (0..READERS, any::<bool>()).prop_map(|(reader, stalled)| Step::Stall { reader, stalled }),
        1 => Just(Step::RepublishConnection),
    ];
    prop::collection::vec(step, 1..120)
}

/// A reader as the specification wants it: QoS 2 identifiers are remembered from PUBLISH to PUBREL, across
/// connections.
#[derive(Default)]
struct Reader {
    who: Option<Who>,
    pending: Vec<Packet>,
    unreleased: HashSet<PacketId>,
    /// Message numbers in the order of arrival, by topic and quality of service.
    got: BTreeMap<(String, u8), Vec<u32>>,
}

impl Reader {
    fn dial(index: usize, version3: bool, receive_max: u16) -> Dial {
        let name = format!("reader-{index}");
        if version3 { v3(&name).lasting() } else { v5(&name).lasting().receive_max(receive_max) }
    }

    fn hear(&mut self, w: &mut World) {
        let Some(who) = self.who else { return };
        self.pending.extend(w.heard(who));
    }

    /// Takes up to `most` packets in order, and answers them.
    fn answer(&mut self, w: &mut World, most: usize) -> bool {
        self.hear(w);
        let Some(who) = self.who else { return false };
        let taken: Vec<Packet> = self.pending.drain(..most.min(self.pending.len())).collect();
        let any = !taken.is_empty();
        for packet in taken {
            match packet {
                Packet::Publish(publish) => {
                    let key = (publish.topic.as_deref().unwrap().to_owned(), publish.qos.qos() as u8);
                    let number = text(&publish).parse().unwrap();
                    match publish.qos {
                        QosId::AtMostOnce => panic!("nothing was published at QoS 0"),
                        QosId::AtLeastOnce(id) => {
                            self.got.entry(key).or_default().push(number);
                            w.send(who, Packet::PubAck(Ack::success(id)));
                        }
                        QosId::ExactlyOnce(id) => {
                            if self.unreleased.insert(id) {
                                self.got.entry(key).or_default().push(number);
                            }
                            w.send(who, Packet::PubRec(Ack::success(id)));
                        }
                    }
                }
                Packet::PubRel(ack) => {
                    self.unreleased.remove(&ack.packet_id);
                    w.send(who, Packet::PubComp(Ack::success(ack.packet_id)));
                }
                other => panic!("{other:?}"),
            }
        }
        any
    }

    fn lose_connection(&mut self) {
        self.who = None;
        // What was not read from the socket is gone.
        self.pending.clear();
    }
}

fn without_repetitions(numbers: &[u32]) -> Vec<u32> {
    let mut seen = HashSet::new();
    numbers.iter().copied().filter(|number| seen.insert(*number)).collect()
}

/// The publisher's side: its packet identifiers and what it has sent.
struct Writer {
    who: Who,
    next: u32,
    sent: BTreeMap<(String, u8), Vec<u32>>,
    /// A QoS 2 PUBLISH whose PUBREL is not sent yet.
    open: Option<signet_wire::Publish>,
}

impl Writer {
    fn connect(w: &mut World) -> Who {
        w.connect(v5("writer").lasting())
    }

    fn publish(&mut self, w: &mut World, topic: &str, qos: u8) {
        self.release(w);
        self.next += 1;
        self.sent.entry((topic.to_owned(), qos)).or_default().push(self.next);
        let packet = say(topic, &self.next.to_string()).qos(qos).packet((self.next % 60_000) as u16 + 1);
        w.send(self.who, Packet::Publish(packet.clone()));
        assert_eq!(w.heard(self.who).len(), 1, "acknowledged at once");
        self.open = (qos == 2).then_some(packet);
    }

    /// Sends an open QoS 2 PUBLISH again: nobody may notice.
    fn repeat(&mut self, w: &mut World) {
        if let Some(publish) = &mut self.open {
            publish.dup = true;
            w.send(self.who, Packet::Publish(publish.clone()));
            assert_eq!(w.heard(self.who).len(), 1);
        }
    }

    fn release(&mut self, w: &mut World) {
        if let Some(publish) = self.open.take() {
            w.send(self.who, Packet::PubRel(Ack::success(publish.qos.packet_id().unwrap())));
            assert_eq!(w.heard(self.who).len(), 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_of_qos_2_comes_twice(history in steps()) {
        let mut w = World::new();
        let mut readers: Vec<Reader> = (0..READERS).map(|_| Reader::default()).collect();
        for (index, reader) in readers.iter_mut().enumerate() {
            let who = w.connect(Reader::dial(index, index == 0, 3));
            w.subscribe(who, "t/#", 2);
            reader.who = Some(who);
        }
        let who = Writer::connect(&mut w);
        let mut writer = Writer { who, next: 0, sent: BTreeMap::new(), open: None };
        for step in history {
            match step {
                Step::Publish { topic, qos } => writer.publish(&mut w, TOPICS[topic], qos),
                Step::Repeat => writer.repeat(&mut w),
                Step::RepublishConnection => {
                    w.drop_connection(writer.who);
                    writer.who = Writer::connect(&mut w);
                    writer.repeat(&mut w);
                }
                Step::Acknowledge { reader, most } => {
                    readers[reader].answer(&mut w, most);
                }
                Step::Break { reader } => {
                    if let Some(who) = readers[reader].who {
                        w.drop_connection(who);
                        readers[reader].lose_connection();
                    }
                }
                Step::Return { reader, version3, receive_max } => {
                    // While a connection exists this is a takeover.
                    readers[reader].lose_connection();
                    let (who, present) = w.reconnect(Reader::dial(reader, version3, receive_max));
                    prop_assert!(present);
                    readers[reader].who = Some(who);
                }
                Step::Stall { reader, stalled } => {
                    if let Some(who) = readers[reader].who {
                        w.stall(who, stalled);
                    }
                }
            }
        }
        for (index, reader) in readers.iter_mut().enumerate() {
            reader.lose_connection();
            reader.who = Some(w.connect(Reader::dial(index, false, 2)));
            while reader.answer(&mut w, usize::MAX) {}
            let first: BTreeMap<_, _> =
                reader.got.iter().map(|(key, numbers)| (key.clone(), without_repetitions(numbers))).collect();
            prop_assert_eq!(&first, &writer.sent);
            for ((_, qos), numbers) in &reader.got {
                if *qos == 2 {
                    prop_assert_eq!(&without_repetitions(numbers), numbers, "QoS 2 twice");
                }
            }
        }
        prop_assert!(w.hub.sessions().iter().all(|session| session.inflight == 0 && session.queued_messages == 0));
    }
}
