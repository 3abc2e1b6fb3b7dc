//! Topic aliases, which mean something on one connection and in one direction only (`[MQTT5-3.3.2-7]`).

use std::num::NonZeroU16;

use signet_wire::TopicName;

use crate::close::Violation;

/// The aliases that the client has set.
#[derive(Debug)]
pub(super) struct InboundAliases {
    max: u16,
    topics: Vec<Option<TopicName>>,
}

impl InboundAliases {
    pub(super) const fn new(max: u16) -> Self {
        Self { max, topics: Vec::new() }
    }

    /// The topic of a PUBLISH; one that comes with an alias is remembered under it (`[MQTT5-3.3.2-12]`).
    pub(super) fn resolve(
        &mut self,
        topic: Option<TopicName>,
        alias: Option<NonZeroU16>,
    ) -> Result<TopicName, Violation> {
        let Some(alias) = alias else { return topic.ok_or(Violation::TopicAliasUnknown) };
        if alias.get() > self.max {
            return Err(Violation::TopicAliasTooHigh);
        }
        let place = usize::from(alias.get()) - 1;
        let Some(topic) = topic else {
            return self.topics.get(place).cloned().flatten().ok_or(Violation::TopicAliasUnknown);
        };
        let topic = topic.detached();
        if self.topics.len() <= place {
            self.topics.resize(place + 1, None);
        }
        if let Some(slot) = self.topics.get_mut(place) {
            *slot = Some(topic.clone());
        }
        Ok(topic)
    }
}

/// The aliases that the client was told: the first topics of the connection get them and keep them. Few, so they are
/// looked through.
#[derive(Debug)]
pub(super) struct OutboundAliases {
    max: u16,
    topics: Vec<TopicName>,
}

/// Shorter topics are not worth the three bytes of the property.
const TOPIC_BYTES_MIN: usize = 4;

impl OutboundAliases {
    pub(super) const fn new(max: u16) -> Self {
        Self { max, topics: Vec::new() }
    }

    /// The alias to send with a topic, and whether the client knows the topic behind it; `None` when there is none to
    /// give.
    pub(super) fn of(&self, topic: &TopicName) -> Option<(NonZeroU16, bool)> {
        if topic.len() < TOPIC_BYTES_MIN {
            return None;
        }
        if let Some(place) = self.topics.iter().position(|known| known == topic) {
            return Some((number(place)?, true));
        }
        if self.topics.len() >= self.max.into() {
            return None;
        }
        Some((number(self.topics.len())?, false))
    }

    /// The client is being told the next alias.
    pub(super) fn assign(&mut self, topic: &TopicName) {
        self.topics.push(topic.clone());
    }
}

fn number(place: usize) -> Option<NonZeroU16> {
    NonZeroU16::new(u16::try_from(place + 1).ok()?)
}
