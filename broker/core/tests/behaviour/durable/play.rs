//! A writer and readers as the specification wants them, over a broker that crashes.
//!
//! The writer sends again what was not acknowledged to the end, in its order, whenever it comes back. The readers remember
//! QoS 2 identifiers from PUBLISH to PUBREL. When all is over, every reader has every message that was published: QoS 1 at
//! least once, QoS 2 exactly once, and the first copies of each topic and quality of service in the order of publishing.

use std::collections::{BTreeMap, HashSet, VecDeque};

use signet_wire::{Ack, Packet, PacketId, QosId};

use crate::world::{Dial, Who, World, id, say, text, v3, v5};

pub(super) const READERS: usize = 2;
pub(super) const TOPICS: [&str; 2] = ["t/1", "t/2"];
/// More are not published before some are acknowledged.
const OPEN_MAX: usize = 40;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Publish {
        topic: usize,
        qos: u8,
    },
    /// The writer takes what it was told.
    Hear,
    BreakWriter,
    ReturnWriter,
    /// A reader takes at most so many packets and answers them.
    Answer {
        reader: usize,
        most: usize,
    },
    BreakReader {
        reader: usize,
    },
    ReturnReader {
        reader: usize,
        receive_max: u16,
    },
    /// After so many more portions nothing becomes durable any more.
    Hang {
        after: usize,
    },
    Crash,
}

#[derive(Default)]
struct Reader {
    who: Option<Who>,
    pending: VecDeque<Packet>,
    unreleased: HashSet<PacketId>,
    /// Message numbers in the order of arrival, by topic and quality of service.
    got: BTreeMap<(String, u8), Vec<u32>>,
}

struct Open {
    number: u32,
    topic: usize,
    id: PacketId,
    qos: u8,
    /// PUBREC has come.
    received: bool,
}

#[derive(Default)]
struct Writer {
    who: Option<Who>,
    next: u32,
    open: VecDeque<Open>,
    /// Something was acknowledged.
    heard: bool,
    sent: BTreeMap<(String, u8), Vec<u32>>,
}

pub(super) struct Play {
    pub(super) w: World,
    readers: Vec<Reader>,
    writer: Writer,
}

impl Play {
    /// Everybody is connected, the readers subscribe to everything, and all that is durable.
    pub(super) fn new() -> Self {
        let mut play = Self {
            w: World::on_disk_in_small_pieces(),
            readers: (0..READERS).map(|_| Reader::default()).collect(),
            writer: Writer::default(),
        };
        for index in 0..READERS {
            let who = play.w.connect(reader(index, 3));
            play.w.subscribe(who, "t/#", 2);
            play.readers[index].who = Some(who);
        }
        play.writer.come(&mut play.w);
        play
    }

    pub(super) fn step(&mut self, step: Step) {
        let Self { w, readers, writer } = self;
        match step {
            Step::Publish { topic, qos } => writer.publish(w, topic, qos),
            Step::Hear => {
                writer.hear(w);
            }
            Step::BreakWriter => {
                if let Some(who) = writer.who.take() {
                    w.drop_connection(who);
                }
            }
            Step::ReturnWriter => writer.come(w),
            Step::Answer { reader, most } => {
                readers[reader].answer(w, most);
            }
            Step::BreakReader { reader } => {
                if let Some(who) = readers[reader].who {
                    w.drop_connection(who);
                }
                readers[reader].lose_connection();
            }
            Step::ReturnReader { reader, receive_max } => {
                readers[reader].come(w, self::reader(reader, receive_max));
            }
            Step::Hang { after } => w.disk().hang_after(after),
            Step::Crash => {
                w.crash_for(1);
                writer.who = None;
                readers.iter_mut().for_each(Reader::lose_connection);
            }
        }
    }

    /// Everybody comes back and finishes; then nothing may be missing.
    pub(super) fn end(mut self) {
        self.w.disk().hang_after(usize::MAX);
        self.w.drive();
        let Self { w, readers, writer } = &mut self;
        writer.come(w);
        for (index, it) in readers.iter_mut().enumerate() {
            it.come(w, reader(index, 2));
        }
        while writer.hear(w) || readers.iter_mut().any(|reader| reader.answer(w, usize::MAX)) {}
        assert!(writer.open.is_empty(), "not acknowledged to the end");
        for reader in readers {
            let first: BTreeMap<_, _> =
                reader.got.iter().map(|(key, numbers)| (key.clone(), first_copies(numbers))).collect();
            assert_eq!(first, writer.sent);
            for ((_, qos), numbers) in &reader.got {
                if *qos == 2 {
                    assert_eq!(&first_copies(numbers), numbers, "QoS 2 twice");
                }
            }
        }
        let waiting =
            |w: &World| w.hub.sessions().iter().map(|it| it.queued_messages + it.inflight).sum::<usize>();
        assert_eq!(waiting(w), 0);
        assert_eq!(w.disk().twin.entry_count(), 0);
    }
}

fn reader(index: usize, receive_max: u16) -> Dial {
    let name = format!("reader-{index}");
    if index == 0 { v3(&name).lasting() } else { v5(&name).lasting().receive_max(receive_max) }
}

impl Reader {
    fn come(&mut self, w: &mut World, dial: Dial) {
        self.lose_connection();
        let (who, connack) = w.dial(dial);
        if let Some(connack) = connack {
            assert!(connack.session_present);
            self.who = Some(who);
        }
    }

    fn lose_connection(&mut self) {
        self.who = None;
        // What was not read from the socket is gone.
        self.pending.clear();
    }

    fn answer(&mut self, w: &mut World, most: usize) -> bool {
        let Some(who) = self.who else { return false };
        self.pending.extend(w.heard(who));
        let taken: Vec<Packet> = self.pending.drain(..most.min(self.pending.len())).collect();
        let any = !taken.is_empty();
        for packet in taken {
            let answer = match packet {
                Packet::Publish(publish) => {
                    let topic = publish.topic.as_deref().unwrap().to_owned();
                    let got = self.got.entry((topic, publish.qos.qos() as u8)).or_default();
                    let number = text(&publish).parse().unwrap();
                    match publish.qos {
                        QosId::AtMostOnce => panic!("nothing was published at QoS 0"),
                        QosId::AtLeastOnce(id) => {
                            got.push(number);
                            Packet::PubAck(Ack::success(id))
                        }
                        QosId::ExactlyOnce(id) => {
                            if self.unreleased.insert(id) {
                                got.push(number);
                            }
                            Packet::PubRec(Ack::success(id))
                        }
                    }
                }
                Packet::PubRel(ack) => {
                    self.unreleased.remove(&ack.packet_id);
                    Packet::PubComp(Ack::success(ack.packet_id))
                }
                other => panic!("{other:?}"),
            };
            w.send(who, answer);
        }
        any
    }
}

impl Writer {
    fn come(&mut self, w: &mut World) {
        let (who, connack) = w.dial(v5("writer").lasting());
        self.who = None;
        let Some(connack) = connack else { return };
        assert!(connack.session_present || !self.heard, "what was acknowledged belonged to a session");
        self.who = Some(who);
        for open in &self.open {
            let packet = match open.received {
                true => Packet::PubRel(Ack::success(open.id)),
                false => Packet::Publish(open.packet(true)),
            };
            w.send(who, packet);
        }
    }

    fn publish(&mut self, w: &mut World, topic: usize, qos: u8) {
        let Some(who) = self.who.filter(|_| self.open.len() < OPEN_MAX) else { return };
        self.next += 1;
        self.sent.entry((TOPICS[topic].to_owned(), qos)).or_default().push(self.next);
        // Identifiers are used again as soon as they are free.
        let used: HashSet<PacketId> = self.open.iter().map(|open| open.id).collect();
        let id = (1..).map(id).find(|id| !used.contains(id)).unwrap();
        let open = Open { number: self.next, topic, id, qos, received: false };
        w.send(who, Packet::Publish(open.packet(false)));
        self.open.push_back(open);
    }

    fn hear(&mut self, w: &mut World) -> bool {
        let Some(who) = self.who else { return false };
        let heard = w.heard(who);
        let any = !heard.is_empty();
        self.heard |= any;
        for packet in heard {
            match packet {
                Packet::PubAck(ack) | Packet::PubComp(ack) => {
                    self.open.retain(|open| open.id != ack.packet_id);
                }
                Packet::PubRec(ack) => {
                    let open =
                        self.open.iter_mut().find(|open| open.id == ack.packet_id).expect("one of ours");
                    open.received = true;
                    w.send(who, Packet::PubRel(Ack::success(ack.packet_id)));
                }
                other => panic!("{other:?}"),
            }
        }
        any
    }
}

impl Open {
    fn packet(&self, dup: bool) -> signet_wire::Publish {
        let publish = say(TOPICS[self.topic], &self.number.to_string()).qos(self.qos).packet(self.id.get());
        signet_wire::Publish { dup, ..publish }
    }
}

fn first_copies(numbers: &[u32]) -> Vec<u32> {
    let mut seen = HashSet::new();
    numbers.iter().copied().filter(|number| seen.insert(*number)).collect()
}
