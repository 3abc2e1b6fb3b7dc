//! What was promised and what came, and whether the two agree.

use std::collections::{BTreeMap, HashMap, HashSet};

use signet_wire::{QoS, TopicFilter, TopicName};

use crate::device::Plan;

/// The number of a message: its payload.
pub(crate) type Number = u64;

#[derive(Debug)]
struct Published {
    by: usize,
    topic: TopicName,
    qos: QoS,
    retain: bool,
    /// The moment in which it first was sent.
    at: u64,
    acknowledged: bool,
    refused: bool,
}

#[derive(Debug, Clone, Copy)]
struct Delivered {
    number: Number,
    qos: QoS,
}

/// Everything that matters of one run, as the devices saw it.
#[derive(Debug)]
pub(crate) struct History {
    plans: Vec<Plan>,
    moment: u64,
    /// When each device had its SUBACK.
    subscribed: HashMap<usize, u64>,
    published: BTreeMap<Number, Published>,
    delivered: Vec<Vec<Delivered>>,
}

/// How much happened, so that a run in which nothing did is noticed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
    pub(crate) delivered: usize,
    pub(crate) repeated: usize,
}

impl History {
    pub(crate) fn new(plans: Vec<Plan>) -> Self {
        let delivered = plans.iter().map(|_| Vec::new()).collect();
        Self { plans, moment: 0, subscribed: HashMap::new(), published: BTreeMap::new(), delivered }
    }

    fn now(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    pub(crate) fn published(&mut self, by: usize, topic: &TopicName, qos: QoS, retain: bool) -> Number {
        let at = self.now();
        let number = self.published.len() as Number + 1;
        let entry =
            Published { by, topic: topic.clone(), qos, retain, at, acknowledged: false, refused: false };
        self.published.insert(number, entry);
        number
    }

    pub(crate) fn acknowledged(&mut self, number: Number) {
        self.published.get_mut(&number).expect("a message that was sent").acknowledged = true;
    }

    pub(crate) fn refused(&mut self, number: Number) {
        self.published.get_mut(&number).expect("a message that was sent").refused = true;
    }

    pub(crate) fn subscribed(&mut self, place: usize) {
        let at = self.now();
        self.subscribed.entry(place).or_insert(at);
    }

    /// A device takes a message for a new one.
    pub(crate) fn delivered(&mut self, place: usize, topic: &TopicName, payload: &[u8], qos: QoS) {
        let number: Number = std::str::from_utf8(payload).expect("a number").parse().expect("a number");
        let message = self.published.get(&number).expect("a message that somebody sent");
        let plan = &self.plans[place];
        assert_eq!(*topic, message.topic, "message {number} came on another topic");
        assert!(may_read(&plan.name, topic), "{} was sent {}, which it may not read", plan.name, &**topic);
        assert!(
            may_write(&self.plans[message.by].name, topic),
            "{}: message {number} was not allowed on {}",
            plan.name,
            &**topic
        );
        self.delivered[place].push(Delivered { number, qos });
    }

    /// Whoever subscribes after all has the retained message that was acknowledged last on each topic, or one that was sent
    /// after it.
    ///
    /// # Panics
    /// When it is missing, or older.
    pub(crate) fn check_retained(&self, auditor: usize) {
        let mut least: HashMap<&TopicName, Number> = HashMap::new();
        for (number, message) in
            self.published.iter().filter(|(_, message)| message.retain && message.acknowledged)
        {
            least.insert(&message.topic, *number);
        }
        for (topic, least) in least {
            let found = self.delivered[auditor].iter().map(|one| one.number);
            let found: Vec<Number> = found.filter(|number| self.published[number].topic == *topic).collect();
            assert!(
                found.iter().any(|number| *number >= least),
                "{}: {found:?} is retained, {least} was acknowledged",
                &**topic
            );
        }
    }

    /// Compares what was promised with what came, after everybody came back and everything was acknowledged.
    ///
    /// # Panics
    /// When an acknowledged message is missing, a QoS 2 message came twice, or an order changed.
    pub(crate) fn check(&self) -> Totals {
        let mut totals = Totals::default();
        for (place, plan) in self.plans.iter().enumerate() {
            let delivered = &self.delivered[place];
            let mut seen = HashSet::new();
            for one in delivered {
                let again = !seen.insert(one.number);
                totals.repeated += usize::from(again);
                assert!(
                    !(again && one.qos == QoS::ExactlyOnce),
                    "{}: QoS 2 message {} came twice",
                    plan.name,
                    one.number
                );
            }
            totals.delivered += seen.len();
            self.check_nothing_is_missing(place, plan, &seen);
            self.check_order(place, plan, delivered);
        }
        totals.acknowledged = self.published.values().filter(|message| message.acknowledged).count();
        totals.refused = self.published.values().filter(|message| message.refused).count();
        totals
    }

    fn check_nothing_is_missing(&self, place: usize, plan: &Plan, seen: &HashSet<Number>) {
        let since = *self.subscribed.get(&place).expect("everybody has subscribed in the end");
        for (number, message) in &self.published {
            let promised = message.acknowledged
                && message.at > since
                && granted(plan, &message.topic).is_some_and(|qos| qos.min(message.qos) != QoS::AtMostOnce)
                && may_write(&self.plans[message.by].name, &message.topic);
            assert!(
                !promised || seen.contains(number),
                "{}: {:?} message {number} on {} was acknowledged to {} and never came",
                plan.name,
                message.qos,
                &*message.topic,
                self.plans[message.by].name
            );
        }
    }

    /// The first copies of each publisher's messages on each topic and at each quality of service come in the order in which
    /// they were sent (`[MQTT5-4.6.0-6]`). One that was sent before the subscription was may come to it when it is sent again,
    /// behind those that came in between.
    fn check_order(&self, place: usize, plan: &Plan, delivered: &[Delivered]) {
        let since = self.subscribed.get(&place).copied().unwrap_or(u64::MAX);
        let mut last: HashMap<(usize, &TopicName, QoS), Number> = HashMap::new();
        let mut seen = HashSet::new();
        for one in delivered.iter().filter(|one| seen.insert(one.number)) {
            let message = &self.published[&one.number];
            if message.at <= since {
                continue;
            }
            let before = last.insert((message.by, &message.topic, message.qos), one.number);
            assert!(
                before.is_none_or(|before| before < one.number),
                "{}: message {} came before {} on {}",
                plan.name,
                before.unwrap_or_default(),
                one.number,
                &*message.topic
            );
        }
    }
}

/// The highest QoS that a device has subscribed to a topic with.
fn granted(plan: &Plan, topic: &TopicName) -> Option<QoS> {
    plan.filters
        .iter()
        .filter(|(filter, _)| TopicFilter::try_from(filter.as_str()).expect("a filter").matches(topic))
        .map(|(_, qos)| *qos)
        .max()
}

/// The access policy of the scenarios: see [`crate::server::POLICY`]. `watcher` is the operator.
pub(crate) fn may_read(name: &str, topic: &str) -> bool {
    matches!(name, "watcher" | "auditor") || topic.starts_with("all/") || belongs_to(name, topic)
}

/// See [`may_read`].
pub(crate) fn may_write(name: &str, topic: &str) -> bool {
    topic.starts_with("all/") || belongs_to(name, topic)
}

fn belongs_to(name: &str, topic: &str) -> bool {
    topic.strip_prefix("d/").and_then(|rest| rest.split('/').next()) == Some(name)
}
