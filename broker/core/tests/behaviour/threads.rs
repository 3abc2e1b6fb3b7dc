//! The same broker from several threads at once: takeovers, publishing, policy changes and timers get into each
//! other's way, and whatever the order was, the books balance at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Wake, Waker};

use signet_core::{Action, Actions, CloseReason, Connection, Hub, Input, Limits, Mono, Now, Peer, Wall};
use signet_wire::{Ack, Packet, QosId, Subscribe};

use crate::world::{EVERYTHING, compile, delayed, filter, id, say, v5, will};

const THREADS: u64 = 4;
const STEPS: u64 = 10_000;
/// Fewer than there are threads, so that they take each other's sessions over.
const CLIENTS: u64 = 3;

const NOW: Now = Now { mono: Mono::START, wall: Wall(1_800_000_000_000) };

struct Silent;

impl Wake for Silent {
    fn wake(self: Arc<Self>) {}
}

/// A small generator of numbers; a failure repeats with the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn connect(hub: &Arc<Hub>, numbers: &mut Numbers, actions: &mut Actions) -> Connection {
    let mut dial = v5(&format!("dev-{}", numbers.below(CLIENTS)));
    dial = match numbers.below(4) {
        0 => dial,
        1 => dial.expiry(60),
        _ => dial.lasting(),
    };
    dial = match numbers.below(3) {
        0 => dial,
        1 => dial.will(will("wills/x", "gone")),
        _ => dial.will(delayed(will("wills/x", "gone"), 5)),
    };
    let peer = Peer { principal: dial.principal, address: "192.0.2.1:1".parse().unwrap(), rules: dial.rules };
    let mut connection = Connection::new(Arc::clone(hub), peer, Waker::from(Arc::new(Silent)), NOW);
    connection.handle(Input::Connect(Ok(dial.connect)), NOW, actions);
    connection
}

/// One connection's turn; gives what is left of it.
fn act(mut connection: Connection, numbers: &mut Numbers, actions: &mut Actions) -> Option<Connection> {
    let packet_id = id(numbers.below(20) as u16 + 1);
    let topic = format!("t/{}", numbers.below(5));
    let input = match numbers.below(12) {
        0 => Input::PeerClosed,
        1 => Input::Close(CloseReason::Administrative),
        2 => return None,
        3 | 4 => {
            let filters = vec![filter(["t/#", "$share/g/t/+", "wills/#"][numbers.below(3) as usize], 2)];
            let subscribe =
                Subscribe { packet_id, subscription_id: None, user_properties: Vec::new(), filters };
            Input::Packet(Packet::Subscribe(Box::new(subscribe)))
        }
        5 => Input::Packet(Packet::PubRel(Ack::success(packet_id))),
        6 | 7 => Input::Wake,
        n => {
            let say = say(&topic, "x").qos((n % 3) as u8);
            let say = if numbers.below(4) == 0 { say.retain() } else { say };
            Input::Packet(Packet::Publish(say.packet(packet_id.get())))
        }
    };
    connection.handle(input, NOW, actions);
    if connection.wants_drain() {
        connection.handle(Input::Wake, NOW, actions);
    }
    let mut answers = Vec::new();
    for action in actions.drain() {
        match action {
            Action::Deliver(delivery) => match delivery.qos {
                QosId::AtMostOnce => {}
                QosId::AtLeastOnce(id) => answers.push(Packet::PubAck(Ack::success(id))),
                QosId::ExactlyOnce(id) => answers.push(Packet::PubRec(Ack::success(id))),
            },
            Action::Send(Packet::PubRel(ack)) => answers.push(Packet::PubComp(Ack::success(ack.packet_id))),
            Action::Hold(_)
            | Action::Send(_)
            | Action::Enrol(_)
            | Action::Answer(_)
            | Action::Note(_)
            | Action::Close(_) => {}
        }
    }
    for answer in answers {
        connection.handle(Input::Packet(answer), NOW, actions);
    }
    Some(connection).filter(|connection| !connection.is_closed())
}

fn client_thread(hub: &Arc<Hub>, seed: u64) {
    let mut numbers = Numbers(seed);
    let mut actions = Actions::new();
    let mut connections: Vec<Connection> = Vec::new();
    for _ in 0..STEPS {
        if connections.len() < 3 {
            connections.push(connect(hub, &mut numbers, &mut actions));
        }
        let place = numbers.below(connections.len() as u64) as usize;
        let connection = connections.swap_remove(place);
        connections.extend(act(connection, &mut numbers, &mut actions));
    }
}

fn keeper_thread(hub: &Hub, stop: &AtomicBool) {
    let narrow = "role device\ntopic readwrite t/#\n";
    let mut round = 0_u32;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        hub.set_policy(compile(if round.is_multiple_of(2) { EVERYTHING } else { narrow }));
        hub.tick(Now { mono: Mono::START.after_secs(round), ..NOW });
        hub.publish_sys(NOW);
        assert!(hub.sessions().len() <= CLIENTS as usize);
        std::thread::yield_now();
    }
}

#[test]
fn the_books_balance_whatever_the_order_was() {
    let hub = Hub::new(Limits::default(), compile(EVERYTHING));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let keeper = scope.spawn(|| keeper_thread(&hub, &stop));
        let clients: Vec<_> = (1..=THREADS)
            .map(|seed| {
                let hub = &hub;
                scope.spawn(move || client_thread(hub, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::SeqCst);
        assert!(keeper.join().is_ok());
        assert!(results.iter().all(Result::is_ok));
    });
    assert!(hub.counters().snapshot().takeovers > 1000, "the threads did meet");
    assert!(hub.connections().is_empty());
    assert_eq!(hub.connected_count(), 0);
    let sessions = hub.sessions();
    assert_eq!(hub.session_count(), sessions.len());
    assert!(sessions.iter().all(|session| !session.connected));
    assert_eq!(hub.subscription_count(), sessions.iter().map(|session| session.subscriptions).sum::<usize>());
    for session in sessions {
        assert!(hub.end_session(&session.principal, &session.client_id, NOW));
    }
    assert_eq!((hub.session_count(), hub.subscription_count()), (0, 0));
    // With everything gone a principal has all of its sessions to use again.
    let mut actions = Actions::new();
    for n in 0..hub.limits().sessions_per_principal_max {
        let dial = v5("dev-0").client_id(&n.to_string());
        let peer =
            Peer { principal: dial.principal, address: "192.0.2.1:1".parse().unwrap(), rules: dial.rules };
        let mut connection = Connection::new(Arc::clone(&hub), peer, Waker::from(Arc::new(Silent)), NOW);
        connection.handle(Input::Connect(Ok(dial.connect)), NOW, &mut actions);
        assert!(!connection.is_closed());
    }
}

/// How often somebody subscribes at the moment at which the message is retained.
const MEETINGS: u16 = 20_000;

#[test]
fn who_subscribes_while_a_message_is_retained_gets_it_from_one_side_at_least() {
    let hub = Hub::new(Limits::default(), compile(EVERYTHING));
    let connected = |name: &str| {
        let (dial, actions) = (v5(name), &mut Actions::new());
        let peer =
            Peer { principal: dial.principal, address: "192.0.2.1:1".parse().unwrap(), rules: dial.rules };
        let mut connection = Connection::new(Arc::clone(&hub), peer, Waker::from(Arc::new(Silent)), NOW);
        connection.handle(Input::Connect(Ok(dial.connect)), NOW, actions);
        connection
    };
    let (mut writer, mut reader) = (connected("writer"), connected("reader"));
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..MEETINGS {
                let message = say(&format!("t/{}", n % 100), &n.to_string()).retain();
                ready.wait();
                writer.handle(Input::Packet(Packet::Publish(message.packet(1))), NOW, &mut Actions::new());
                done.wait();
            }
        });
        let mut missed = 0;
        for n in 0..MEETINGS {
            let topic = format!("t/{}", n % 100);
            let filters = vec![filter(&topic, 0)];
            let subscribe =
                Subscribe { packet_id: id(1), subscription_id: None, user_properties: Vec::new(), filters };
            let unsubscribe = signet_wire::Unsubscribe {
                packet_id: id(1),
                user_properties: Vec::new(),
                filters: vec![filter(&topic, 0).filter],
            };
            let mut actions = Actions::new();
            ready.wait();
            reader.handle(Input::Packet(Packet::Subscribe(Box::new(subscribe))), NOW, &mut actions);
            done.wait();
            reader.handle(Input::Wake, NOW, &mut actions);
            reader.handle(Input::Packet(Packet::Unsubscribe(Box::new(unsubscribe))), NOW, &mut actions);
            let payload = n.to_string();
            let is_it = |action| matches!(action, Action::Deliver(it) if it.message.payload == payload);
            missed += usize::from(!actions.drain().any(is_it));
        }
        assert_eq!(missed, 0, "of {MEETINGS}");
    });
}
