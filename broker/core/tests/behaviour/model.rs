//! Random histories of several clients beside a small model of the session rules.
//!
//! The model is written from the specifications, not from the broker: sessions, subscriptions, retained messages, wills and
//! expiry as lists that are searched from the front. After every step each client has heard exactly what the model says, and
//! each CONNACK says what the model says about the session. Everything is acknowledged at once; what becomes of messages that
//! are not is in [`crate::random`].
//!
//! `SIGNET_MODEL_CASES` histories are tried, 300 without it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use signet_wire::{Publish, QoS, Requested, RetainHandling, SubscribeOptions, SubscriptionFilter, Text};

use crate::world::{Who, World, delayed, say, text, v3, v5, will};

const CLIENTS: usize = 3;
const NAMES: [&str; CLIENTS] = ["one", "two", "three"];
const TOPICS: [&str; 4] = ["a", "a/b", "a/c", "x/b"];
const FILTERS: [&str; 6] = ["a", "a/b", "a/+", "a/#", "+/b", "#"];

#[derive(Clone, Debug)]
enum Step {
    Connect { client: usize, v311: bool, clean: bool, expiry: u32, will: Option<u32> },
    Disconnect { client: usize },
    Break { client: usize },
    Subscribe { client: usize, filter: usize, options: Options },
    Unsubscribe { client: usize, filter: usize },
    Publish { client: usize, topic: usize, qos: u8, retain: bool, empty: bool, expiry: Option<u32> },
    Wait { secs: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Options {
    qos: u8,
    no_local: bool,
    as_published: bool,
    handling: u8,
    id: Option<u32>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let expiry = prop_oneof![Just(0), Just(60), Just(u32::MAX)];
    let connect = (
        client.clone(),
        any::<bool>(),
        any::<bool>(),
        expiry,
        prop::option::of(prop_oneof![Just(0), Just(30)]),
    )
        .prop_map(|(client, v311, clean, expiry, will)| Step::Connect {
            client,
            v311,
            clean,
            expiry,
            will,
        });
    let options = (0..3_u8, any::<bool>(), any::<bool>(), 0..3_u8, prop::option::of(1..4_u32)).prop_map(
        |(qos, no_local, as_published, handling, id)| Options { qos, no_local, as_published, handling, id },
    );
    let publish =
        (client.clone(), 0..TOPICS.len(), 0..3_u8, any::<bool>(), 0..5_u8, prop::option::of(Just(20)))
            .prop_map(|(client, topic, qos, retain, empty, expiry)| Step::Publish {
                client,
                topic,
                qos,
                retain,
                empty: empty == 0,
                expiry,
            });
    let step = prop_oneof![
        4 => connect,
        1 => client.clone().prop_map(|client| Step::Disconnect { client }),
        2 => client.clone().prop_map(|client| Step::Break { client }),
        5 => (client.clone(), 0..FILTERS.len(), options)
            .prop_map(|(client, filter, options)| Step::Subscribe { client, filter, options }),
        1 => (client, 0..FILTERS.len()).prop_map(|(client, filter)| Step::Unsubscribe { client, filter }),
        8 => publish,
        2 => prop_oneof![Just(5), Just(25), Just(40), Just(70)].prop_map(|secs| Step::Wait { secs }),
    ];
    prop::collection::vec(step, 1..60)
}

/// A message as a client hears it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Heard {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
    ids: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Said {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
    expires: Option<u64>,
    /// The client that published it.
    by: usize,
}

#[derive(Debug)]
struct Stored {
    /// Sessions that were made earlier act earlier at the same moment.
    made: u64,
    v311: bool,
    connected: bool,
    expiry: u32,
    ends: Option<u64>,
    will: Option<u32>,
    will_due: Option<u64>,
    subscriptions: BTreeMap<usize, Options>,
    waiting: Vec<(Said, Heard)>,
}

#[derive(Default)]
struct Model {
    now: u64,
    made: u64,
    sessions: BTreeMap<usize, Stored>,
    retained: BTreeMap<String, Said>,
    heard: [Vec<Heard>; CLIENTS],
}

/// MQTT5 §4.7: levels one by one.
fn matches(filter: &str, topic: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    for (place, level) in filter.iter().enumerate() {
        match (*level, topic.get(place)) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == *level => {}
            _ => return false,
        }
    }
    filter.len() == topic.len()
}

impl Model {
    /// Says whether a session is present.
    fn connect(&mut self, client: usize, v311: bool, clean: bool, expiry: u32, will: Option<u32>) -> bool {
        let expiry = match (v311, clean) {
            (true, true) => 0,
            (true, false) => u32::MAX,
            (false, _) => expiry,
        };
        let ends = self.sessions.get(&client).is_some_and(|old| clean || (old.connected && old.expiry == 0));
        if ends {
            self.end(client);
        }
        let made = self.made + 1;
        let present = self.sessions.contains_key(&client);
        let session = self.sessions.entry(client).or_insert_with(|| Stored {
            made,
            v311,
            connected: false,
            expiry: 0,
            ends: None,
            will: None,
            will_due: None,
            subscriptions: BTreeMap::new(),
            waiting: Vec::new(),
        });
        self.made = made;
        // [MQTT5-3.1.3-9]: a will that waits is not sent when its session goes on.
        let fires = session.connected && session.will == Some(0);
        session.v311 = v311;
        session.connected = true;
        session.expiry = expiry;
        session.ends = None;
        // In 3.1.1 there is no delay.
        session.will = will.map(|delay| if v311 { 0 } else { delay });
        session.will_due = None;
        let waiting = std::mem::take(&mut session.waiting);
        for (said, heard) in waiting {
            if said.expires.is_none_or(|at| at > self.now) {
                self.hear(client, heard);
            }
        }
        if fires {
            self.send_will(client);
        }
        present
    }

    fn hear(&mut self, client: usize, mut heard: Heard) {
        if self.sessions[&client].v311 {
            heard.ids.clear();
        }
        self.heard[client].push(heard);
    }

    fn close(&mut self, client: usize, properly: bool) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&client).filter(|session| session.connected) else {
            return;
        };
        session.connected = false;
        if properly {
            session.will = None;
        }
        if session.expiry == 0 {
            return self.end(client);
        }
        session.ends = (session.expiry != u32::MAX).then(|| now + u64::from(session.expiry));
        match session.will {
            Some(0) => {
                session.will = None;
                self.send_will(client);
            }
            Some(delay) => {
                let due = now + u64::from(delay);
                session.will_due = Some(session.ends.map_or(due, |ends| ends.min(due)));
            }
            None => {}
        }
    }

    fn end(&mut self, client: usize) {
        let ended = self.sessions.remove(&client);
        if ended.is_some_and(|session| session.will.is_some()) {
            self.send_will(client);
        }
    }

    fn send_will(&mut self, client: usize) {
        let said = Said {
            topic: "a/c".to_owned(),
            payload: format!("will of {}", NAMES[client]),
            qos: 1,
            retain: false,
            expires: None,
            by: client,
        };
        // The session that ended is no publisher any more: No Local of the one that follows it does not count.
        self.spread(&said);
    }

    fn publish(&mut self, said: &Said) {
        if said.retain {
            if said.payload.is_empty() {
                self.retained.remove(&said.topic);
            } else {
                self.retained.insert(said.topic.clone(), said.clone());
            }
        }
        self.spread(said);
    }

    fn spread(&mut self, said: &Said) {
        for client in 0..CLIENTS {
            let Some(session) = self.sessions.get(&client) else { continue };
            let hits: Vec<&Options> = session
                .subscriptions
                .iter()
                .filter(|(filter, options)| {
                    matches(FILTERS[**filter], &said.topic) && !(options.no_local && said.by == client)
                })
                .map(|(_, options)| options)
                .collect();
            let Some(granted) = hits.iter().map(|options| options.qos).max() else { continue };
            let mut ids: Vec<u32> = hits.iter().filter_map(|options| options.id).collect();
            ids.sort_unstable();
            let heard = Heard {
                topic: said.topic.clone(),
                payload: said.payload.clone(),
                qos: granted.min(said.qos),
                retain: said.retain && hits.iter().any(|options| options.as_published),
                ids,
            };
            if session.connected {
                self.hear(client, heard);
            } else if heard.qos > 0 {
                let waiting = (said.clone(), heard);
                self.sessions.get_mut(&client).expect("the session").waiting.push(waiting);
            }
        }
    }

    fn subscribe(&mut self, client: usize, filter: usize, options: Options) {
        let session = self.sessions.get_mut(&client).expect("a session");
        let new = session.subscriptions.insert(filter, options).is_none();
        let wanted = match options.handling {
            0 => true,
            1 => new,
            _ => false,
        };
        if !wanted {
            return;
        }
        let due: Vec<Said> = self.retained.values().cloned().collect();
        for said in due {
            let own = options.no_local && said.by == client;
            let expired = said.expires.is_some_and(|at| at <= self.now);
            if matches(FILTERS[filter], &said.topic) && !own && !expired {
                let ids = options.id.into_iter().collect();
                let qos = options.qos.min(said.qos);
                self.hear(client, Heard { topic: said.topic, payload: said.payload, qos, retain: true, ids });
            }
        }
    }

    fn wait(&mut self, secs: u64) {
        let end = self.now + secs;
        loop {
            let due = |session: &Stored| session.ends.into_iter().chain(session.will_due).min();
            let next = self
                .sessions
                .iter()
                .filter_map(|(client, session)| Some((due(session)?, session.made, *client)))
                .filter(|(at, _, _)| *at <= end)
                .min();
            let Some((at, _, client)) = next else { break };
            self.now = at;
            let session = self.sessions.get_mut(&client).expect("the session");
            if session.ends.is_some_and(|ends| ends <= at) {
                self.end(client);
            } else {
                session.will_due = None;
                session.will = None;
                self.send_will(client);
            }
        }
        self.now = end;
    }

    fn connected(&self, client: usize) -> bool {
        self.sessions.get(&client).is_some_and(|session| session.connected)
    }
}

/// The broker and the model side by side.
struct Pair {
    world: World,
    model: Model,
    who: [Option<Who>; CLIENTS],
    next: u32,
}

impl Pair {
    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Connect { client, v311, clean, expiry, will } => {
                self.connect(client, v311, clean, expiry, will)?;
            }
            Step::Disconnect { client } => {
                if let Some(who) = self.who[client].take() {
                    self.world.disconnect(who);
                    self.model.close(client, true);
                }
            }
            Step::Break { client } => {
                if let Some(who) = self.who[client].take() {
                    self.world.drop_connection(who);
                    self.model.close(client, false);
                }
            }
            Step::Subscribe { client, filter, options } => self.subscribe(client, filter, options)?,
            Step::Unsubscribe { client, filter } => {
                if let Some(who) = self.who[client] {
                    self.world.unsubscribe(who, FILTERS[filter]);
                    self.model.sessions.get_mut(&client).expect("a session").subscriptions.remove(&filter);
                }
            }
            Step::Publish { client, topic, qos, retain, empty, expiry } => {
                self.publish(client, topic, qos, retain, empty, expiry);
            }
            Step::Wait { secs } => {
                self.world.advance(Duration::from_secs(secs));
                self.model.wait(secs);
            }
        }
        self.compare()
    }

    fn connect(
        &mut self,
        client: usize,
        v311: bool,
        clean: bool,
        expiry: u32,
        delay: Option<u32>,
    ) -> Result<(), TestCaseError> {
        let name = NAMES[client];
        let mut dial = if v311 { v3(name) } else { v5(name).expiry(expiry) };
        if !clean {
            dial = dial.resume();
        }
        if let Some(secs) = delay {
            let text: &'static str = ["will of one", "will of two", "will of three"][client];
            let plain = will("a/c", text);
            dial = dial.will(if v311 { plain } else { delayed(plain, secs) });
        }
        // What the connection that is taken over heard before belongs to the steps before.
        let (who, present) = self.world.reconnect(dial);
        self.who[client] = Some(who);
        let expected = self.model.connect(client, v311, clean, expiry, delay);
        prop_assert_eq!(present, expected, "session present");
        Ok(())
    }

    fn subscribe(&mut self, client: usize, filter: usize, mut options: Options) -> Result<(), TestCaseError> {
        let Some(who) = self.who[client] else { return Ok(()) };
        if self.model.sessions[&client].v311 {
            options = Options { no_local: false, as_published: false, handling: 0, id: None, ..options };
        }
        let requested = Requested {
            filter: SubscriptionFilter::parse(Text::try_from(FILTERS[filter]).unwrap()),
            options: SubscribeOptions {
                qos: QoS::try_from(options.qos).unwrap(),
                no_local: options.no_local,
                retain_as_published: options.as_published,
                retain_handling: [
                    RetainHandling::SendAlways,
                    RetainHandling::SendIfNew,
                    RetainHandling::DoNotSend,
                ][usize::from(options.handling)],
            },
        };
        let suback = self.world.subscribe_to(who, vec![requested], options.id);
        prop_assert_eq!(suback.reasons.iter().map(|it| *it as u8).collect::<Vec<_>>(), [options.qos]);
        self.model.subscribe(client, filter, options);
        Ok(())
    }

    fn publish(
        &mut self,
        client: usize,
        topic: usize,
        qos: u8,
        retain: bool,
        empty: bool,
        expiry: Option<u32>,
    ) {
        let Some(who) = self.who[client] else { return };
        self.next += 1;
        let payload = if empty { String::new() } else { self.next.to_string() };
        let expiry = expiry.filter(|_| !self.model.sessions[&client].v311);
        let mut say = say(TOPICS[topic], &payload).qos(qos);
        if retain {
            say = say.retain();
        }
        if let Some(secs) = expiry {
            say = say.expiry(secs);
        }
        self.world.publish(who, say);
        let expires = expiry.map(|secs| self.model.now + u64::from(secs));
        let topic = TOPICS[topic].to_owned();
        self.model.publish(&Said { topic, payload, qos, retain, expires, by: client });
    }

    /// Each client has heard what the model says, and is connected when it says so.
    fn compare(&mut self) -> Result<(), TestCaseError> {
        for (client, name) in NAMES.into_iter().enumerate() {
            let mut expected = std::mem::take(&mut self.model.heard[client]);
            let mut heard = self.heard(client);
            expected.sort();
            heard.sort();
            prop_assert_eq!(heard, expected, "{}", name);
            prop_assert_eq!(self.who[client].is_some(), self.model.connected(client));
        }
        Ok(())
    }

    fn heard(&mut self, client: usize) -> Vec<Heard> {
        let Some(who) = self.who[client] else { return Vec::new() };
        let mut all = Vec::new();
        loop {
            let messages = self.world.messages(who);
            if messages.is_empty() {
                return all;
            }
            for message in messages {
                all.push(heard(&message));
                self.world.acknowledge(who, &message);
            }
        }
    }
}

fn heard(message: &Publish) -> Heard {
    let mut ids: Vec<u32> = message
        .properties
        .iter()
        .flat_map(|properties| properties.subscription_ids.iter().copied())
        .collect();
    ids.sort_unstable();
    Heard {
        topic: message.topic.as_deref().unwrap().to_owned(),
        payload: text(message),
        qos: message.qos.qos() as u8,
        retain: message.retain,
        ids,
    }
}

fn cases() -> u32 {
    std::env::var("SIGNET_MODEL_CASES")
        .map_or(300, |cases| cases.parse().expect("SIGNET_MODEL_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_client_hears_what_the_model_of_the_session_rules_says(history in steps()) {
        let mut pair = Pair { world: World::new(), model: Model::default(), who: [None; CLIENTS], next: 0 };
        for step in &history {
            pair.step(step)?;
        }
        prop_assert!(pair.world.hub.sessions().len() == pair.model.sessions.len(), "as many sessions");
    }
}
