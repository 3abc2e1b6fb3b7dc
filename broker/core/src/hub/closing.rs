//! Closing many connections while the others are served.
//!
//! To close a connection costs some tens of microseconds: last words, a TLS alert, the end of its session. Ten thousand that
//! are woken at once stand before everybody else in the queues of the threads. So they are only marked at once, which is
//! what takes their rights away, and woken a few at a time.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::hub::Hub;
use crate::link::Link;

/// Connections that are woken to close and have not done so yet, at most.
const PORTION: usize = 4;
/// A portion that is not done after so many calls of [`Hub::close_some`] is not waited for.
const PATIENCE: u32 = 50;

/// Connections that are marked to close. Bounded by the number of connections.
#[derive(Debug, Default)]
pub(super) struct Closings(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// To be woken, the last first: who is revoked alone need not wait for the thousands before.
    waiting: Vec<Arc<Link>>,
    /// Woken, and still open when last looked at.
    in_work: Vec<Arc<Link>>,
    /// Calls since a portion was woken.
    waited: u32,
    waker: Option<Waker>,
}

impl Hub {
    /// Who is to be called when [`Self::close_some`] has something to do. Without somebody, connections are woken all at
    /// once.
    pub fn set_closing_waker(&self, waker: Waker) {
        self.closings.0.lock().waker = Some(waker);
    }

    /// Wakes the next few of the connections that are marked to close, when those before are done. True: it is to be called
    /// again, after others had their turn.
    ///
    /// How often it is called is how fast many connections close: at most 4 for each call.
    pub fn close_some(&self) -> bool {
        let mut queue = self.closings.0.lock();
        self.look_after(&mut queue);
        queue.waited += 1;
        if queue.waited > PATIENCE {
            queue.in_work.clear();
        }
        // A whole portion at a time, so that one that is slow to close slows the others down.
        let mut portion = Vec::new();
        if queue.in_work.is_empty() {
            let from = queue.waiting.len().saturating_sub(PORTION);
            portion = queue.waiting.split_off(from);
            queue.in_work.extend(portion.iter().cloned());
            queue.waited = 0;
        }
        let more = !queue.waiting.is_empty();
        if !more {
            queue.waiting = Vec::new();
        }
        drop(queue);
        portion.iter().for_each(|link| link.wake());
        more
    }

    /// Marks one connection by `mark`, and sees to it that it closes. False: there is none. One that has closed, and whose
    /// last words are on their way, is marked all the same: it may be that they are to be withheld.
    pub(super) fn end_link(&self, number: u64, mark: impl FnOnce(&Link)) -> bool {
        let Some(link) = self.link(number) else {
            if let Some(link) = self.partings.get(&number).map(|parting| Arc::clone(&parting.link)) {
                mark(&link);
                silence(&link);
            }
            return false;
        };
        mark(&link);
        self.close_marked(&[link]);
        true
    }

    /// Sees to it that connections close that are marked. From the return on nothing is taken from them, and nothing handed
    /// to them.
    pub(super) fn close_marked(&self, links: &[Arc<Link>]) {
        let mut queue = self.closings.0.lock();
        if queue.waiting.is_empty() {
            self.look_after(&mut queue);
        }
        let room = match &queue.waker {
            None => links.len(),
            Some(_) if !queue.waiting.is_empty() => 0,
            Some(_) => PORTION.saturating_sub(queue.in_work.len()).min(links.len()),
        };
        let (at_once, later) = links.split_at(room);
        if queue.waker.is_some() {
            queue.in_work.extend(at_once.iter().cloned());
        }
        let waker = if later.is_empty() { None } else { queue.waker.clone() };
        queue.waiting.extend(later.iter().cloned());
        drop(queue);
        at_once.iter().for_each(|link| link.wake());
        if let Some(waker) = waker {
            waker.wake();
        }
        links.iter().for_each(|link| link.wait_until_idle());
    }

    fn look_after(&self, queue: &mut Queue) {
        queue.in_work.retain(|link| self.links.contains_key(&link.number));
    }
}

/// A connection has closed, and was marked since. Its owner is called when that takes away what it still writes.
pub(super) fn silence(link: &Link) {
    if link.is_withheld() {
        link.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::Wake;

    use bytes::Bytes;
    use signet_acl::{ParseOptions, Policy};
    use signet_identity::{CertificateId, Principal, ThingName};
    use signet_wire::{
        ClientId, Connect, ConnectProperties, Packet, PacketId, Publish, QosId, Requested, Subscribe,
        SubscribeOptions, SubscriptionFilter, Text, TopicName, Version,
    };

    use super::*;
    use crate::action::{Action, Actions, Input};
    use crate::close::CloseReason;
    use crate::connection::{Connection, ListenerRules, Peer};
    use crate::hub::{Condemned, Consequences};
    use crate::limits::Limits;
    use crate::time::{Mono, Now, Wall};

    const NOW: Now = Now { mono: Mono::START, wall: Wall(1_800_000_000_000) };

    /// Counts how often it is called.
    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A connected device and how often it was woken.
    struct Device {
        connection: Connection,
        woken: Arc<Calls>,
        principal: Principal,
        actions: Actions,
    }

    fn hub() -> Arc<Hub> {
        let policy =
            Policy::parse("role device\ntopic readwrite #\n", "test", &ParseOptions::default()).unwrap();
        Hub::new(Limits::default(), Arc::new(policy.0))
    }

    fn device(hub: &Arc<Hub>, name: &str) -> Device {
        let principal = Principal::device(
            ThingName::try_from(name).unwrap(),
            CertificateId::of(name.as_bytes()),
            Vec::new(),
        );
        let peer = Peer {
            principal: principal.clone(),
            address: "192.0.2.1:40000".parse().unwrap(),
            rules: ListenerRules::default(),
        };
        let woken = Arc::new(Calls::default());
        let mut connection = Connection::new(Arc::clone(hub), peer, Waker::from(Arc::clone(&woken)), NOW);
        let connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive_secs: 0,
            client_id: Some(ClientId::try_from(name).unwrap()),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        let mut actions = Actions::new();
        connection.handle(Input::Connect(Ok(connect)), NOW, &mut actions);
        actions.drain().for_each(drop);
        Device { connection, woken, principal, actions }
    }

    impl Device {
        fn input(&mut self, input: Input) -> Vec<Action> {
            self.connection.handle(input, NOW, &mut self.actions);
            self.actions.drain().collect()
        }

        fn publish(&mut self, topic: &str) -> Vec<Action> {
            let publish = Publish {
                dup: false,
                qos: QosId::AtMostOnce,
                retain: false,
                topic: Some(TopicName::try_from(topic).unwrap()),
                properties: None,
                payload: Bytes::from_static(b"x"),
            };
            self.input(Input::Packet(Packet::Publish(publish)))
        }

        fn subscribe(&mut self, filter: &str) {
            let filter = SubscriptionFilter::parse(Text::try_from(filter).unwrap());
            let subscribe = Subscribe {
                packet_id: PacketId::MIN,
                subscription_id: None,
                user_properties: Vec::new(),
                filters: vec![Requested { filter, options: SubscribeOptions::default() }],
            };
            self.input(Input::Packet(Packet::Subscribe(Box::new(subscribe))));
        }

        fn deliveries(&mut self) -> usize {
            let mut count = 0;
            loop {
                let out = self.input(Input::Wake);
                count += out.iter().filter(|action| matches!(action, Action::Deliver(_))).count();
                if !self.connection.wants_drain() {
                    return count;
                }
            }
        }

        fn calls(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    fn purge(hub: &Arc<Hub>, devices: &[Device]) {
        let condemned = Condemned {
            certificates: devices.iter().map(|device| *device.principal.certificate()).collect(),
            principals: HashSet::default(),
        };
        let purged = hub.purge(&condemned, &Arc::new(Consequences::default()), NOW);
        assert_eq!(purged.connections, devices.len());
    }

    #[test]
    fn many_are_woken_in_portions_each_when_the_one_before_has_closed() {
        let hub = hub();
        let closer = Arc::new(Calls::default());
        hub.set_closing_waker(Waker::from(Arc::clone(&closer)));
        let all = 2 * PORTION + 1;
        let mut devices: Vec<Device> = (0..all).map(|n| device(&hub, &format!("d{n}"))).collect();
        purge(&hub, &devices);
        assert_eq!(closer.0.load(Ordering::SeqCst), 1, "the closer is called");
        let mut closed = 0;
        for portion in [PORTION, PORTION, 1] {
            let called = |devices: &[Device]| devices.iter().filter(|device| device.calls() > 0).count();
            assert_eq!(called(&devices), portion);
            // Those are slow.
            hub.close_some();
            assert_eq!(called(&devices), portion, "nobody else is called meanwhile");
            devices.retain_mut(|device| {
                let due = device.calls() > 0;
                if due {
                    let out = device.input(Input::Wake);
                    assert!(matches!(out.last(), Some(Action::Close(CloseReason::CertificateRevoked))));
                    closed += 1;
                }
                !due
            });
            hub.close_some();
        }
        assert_eq!((closed, devices.len()), (all, 0));
        assert!(!hub.close_some(), "there is nothing more to do");
    }

    #[test]
    fn who_waits_to_be_closed_sends_and_hears_nothing() {
        let hub = hub();
        hub.set_closing_waker(Waker::noop().clone());
        let mut watcher = device(&hub, "watcher");
        watcher.subscribe("from/#");
        let mut devices: Vec<Device> = (0..20).map(|n| device(&hub, &format!("d{n}"))).collect();
        devices.iter_mut().for_each(|device| device.subscribe("to/#"));
        watcher.publish("to/all");
        purge(&hub, &devices);
        watcher.publish("to/all");
        for device in &mut devices {
            let out = device.publish("from/one");
            assert!(matches!(out.last(), Some(Action::Close(CloseReason::CertificateRevoked))));
            assert!(!out.iter().any(|action| matches!(action, Action::Deliver(_))));
        }
        assert_eq!(watcher.deliveries(), 0);
    }

    /// A device that an operator has disconnected, and that may still have to write what it was about to.
    fn parting(hub: &Arc<Hub>) -> Device {
        let mut device = device(hub, "parting");
        assert!(hub.close_connection(device.connection.number(), CloseReason::Administrative));
        device.input(Input::Wake);
        assert!(device.connection.is_closed() && !device.connection.is_withheld());
        device
    }

    #[test]
    fn who_has_closed_is_told_when_the_right_to_what_it_still_writes_is_taken() {
        type Taken = fn(&Arc<Hub>, &Device);
        let revoked = |hub: &Arc<Hub>, device: &Device| {
            let condemned = Condemned {
                certificates: std::iter::once(*device.principal.certificate()).collect(),
                principals: HashSet::default(),
            };
            assert_eq!(hub.purge(&condemned, &Arc::default(), NOW).connections, 0, "it has closed before");
        };
        let suspended = |hub: &Arc<Hub>, device: &Device| {
            assert!(!hub.close_connection(device.connection.number(), CloseReason::CertificateRevoked));
        };
        let listed = |hub: &Arc<Hub>, device: &Device| {
            assert!(!hub.condemn_connection(device.connection.number(), &Arc::default()));
        };
        let other_rights = |hub: &Arc<Hub>, device: &Device| {
            assert!(!hub.close_rejudged(device.connection.number(), Some(device.principal.clone())));
        };
        let all: [Taken; 4] = [revoked, suspended, listed, other_rights];
        for take in all {
            let hub = hub();
            let device = parting(&hub);
            let before = device.calls();
            take(&hub, &device);
            assert!(device.connection.is_withheld());
            assert_eq!(device.calls(), before + 1);
        }
    }

    #[test]
    fn who_has_closed_is_not_concerned_by_what_takes_no_right_or_another_s() {
        let hub = hub();
        let (parting, other) = (parting(&hub), device(&hub, "other"));
        let before = parting.calls();
        assert!(!hub.close_connection(parting.connection.number(), CloseReason::ServerShuttingDown));
        purge(&hub, &[other]);
        assert!(!parting.connection.is_withheld());
        assert_eq!(parting.calls(), before);
        drop(parting);
        assert!(hub.partings.is_empty(), "nothing is left of it");
    }

    #[test]
    fn who_comes_alone_need_not_wait_for_the_many_before() {
        let hub = hub();
        hub.set_closing_waker(Waker::noop().clone());
        let mut devices: Vec<Device> = (0..1000).map(|n| device(&hub, &format!("d{n}"))).collect();
        let alone = device(&hub, "alone");
        purge(&hub, &devices);
        assert!(hub.close_connection(alone.connection.number(), CloseReason::Administrative));
        for device in devices.iter_mut().filter(|device| device.calls() > 0) {
            device.input(Input::Wake);
        }
        assert!(hub.close_some(), "most of them are left");
        assert_eq!(alone.calls(), 1);
    }

    #[test]
    fn a_connection_that_does_not_close_keeps_nobody_else_from_it() {
        let hub = hub();
        hub.set_closing_waker(Waker::noop().clone());
        let devices: Vec<Device> = (0..PORTION + 1).map(|n| device(&hub, &format!("d{n}"))).collect();
        purge(&hub, &devices);
        for _ in 0..=PATIENCE {
            hub.close_some();
        }
        assert!(devices.iter().all(|device| device.calls() == 1));
    }

    #[test]
    fn nothing_is_routed_after_the_return_whatever_was_under_way() {
        let hub = hub();
        for round in 0..40 {
            let mut watcher = device(&hub, &format!("watcher-{round}"));
            watcher.subscribe("from/#");
            let (begun, gone) = (AtomicBool::new(false), AtomicBool::new(false));
            let mut talker = device(&hub, &format!("talker-{round}"));
            let number = talker.connection.number();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !talker.connection.is_closed() {
                        talker.publish("from/one");
                        begun.store(true, Ordering::SeqCst);
                    }
                    gone.store(true, Ordering::SeqCst);
                });
                while !begun.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                assert!(hub.condemn_connection(number, &Arc::new(Consequences::default())));
                watcher.deliveries();
                while !gone.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            });
            assert_eq!(watcher.deliveries(), 0, "round {round}");
        }
    }
}
