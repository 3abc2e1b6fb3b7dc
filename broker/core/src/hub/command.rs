//! What the broker's own services say to devices, and about them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use signet_acl::{Denied, authorize_broker};
use signet_identity::{Principal, PrincipalKey};
use signet_wire::{ClientId, QoS, TopicName};

use crate::hub::route::{Draft, Scratch, SendError};
use crate::hub::{Hub, NOBODY};
use crate::message::{Author, Message, Publisher};
use crate::router::Matches;
use crate::time::Now;

/// Whether a principal hears what is published on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// It has a session that subscribes to it.
    Yes,
    /// It subscribes to it, and the policy refuses it what comes.
    Denied,
    /// None of its sessions subscribes to it.
    No,
}

impl Hub {
    /// Publishes for `principal`, who has no connection: an operator who commands by the admin socket. The policy judges it
    /// as it would judge the same PUBLISH of a connection. Whoever asked is not told when it is durable.
    ///
    /// # Errors
    /// [`Denied`] when the policy refuses it.
    pub fn publish_for(
        &self,
        principal: &Principal,
        client_id: &ClientId,
        message: (TopicName, Bytes, QoS),
        now: Now,
    ) -> Result<(), Denied> {
        let (topic, payload, qos) = message;
        let mut draft = Draft {
            topic,
            payload,
            qos,
            retain: false,
            properties: None,
            can_be_refused: true,
            receivers: None,
        };
        let author = Arc::new(Author { principal: principal.clone(), client_id: client_id.clone() });
        match self.send(&mut draft, &author, NOBODY, &mut Scratch::default(), now) {
            Ok(_) => Ok(()),
            Err(SendError::Denied(because) | SendError::ResponseTopic(because)) => Err(Denied { because }),
            // Nothing is retained here.
            Err(SendError::RetainedQuota | SendError::Overloaded) => Ok(()),
        }
    }

    /// Whether `principal` hears what is published on `topic` now.
    #[must_use]
    pub fn hears(&self, principal: &PrincipalKey, topic: &TopicName) -> Hears {
        let mut matches = Matches::new();
        self.index.matches(topic, NOBODY, &mut matches);
        let slot = self.policy_slot();
        let mut hears = Hears::No;
        for hit in matches.drain_plain() {
            if hit.subscriber.key.principal != *principal {
                continue;
            }
            match slot.policy.may_receive(&hit.subscriber.author.load().subject(), topic) {
                Ok(_) => return Hears::Yes,
                Err(_) => hears = Hears::Denied,
            }
        }
        hears
    }

    /// Whether anybody subscribes to `topic` now.
    #[must_use]
    pub fn is_heard(&self, topic: &TopicName) -> bool {
        let mut matches = Matches::new();
        self.index.matches(topic, NOBODY, &mut matches);
        !matches.is_empty()
    }

    /// Whether anybody could hear of an event below `$aws/events/`. Costs one load; [`Self::is_heard`] knows of one topic.
    #[must_use]
    pub fn hears_events(&self) -> bool {
        self.index.reaches_aws()
    }

    /// Tells operators what happens, with QoS 1, below `$aws/events/`. Readers need their right as for any topic.
    ///
    /// # Errors
    /// [`Denied`] when the topic does not begin with `$`.
    pub fn publish_event(&self, topic: TopicName, payload: Bytes, now: Now) -> Result<(), Denied> {
        let qos = QoS::AtLeastOnce;
        let message = Message::new(topic, payload, qos, false, None, Publisher::Broker, now.mono);
        let message = authorize_broker(Arc::new(message))?.into_inner();
        self.spread_event(&message);
        Ok(())
    }

    /// Whether connections report what they subscribe to and unsubscribe from, as
    /// [`Event::Subscribed`](crate::Event::Subscribed) and [`Event::Unsubscribed`](crate::Event::Unsubscribed).
    pub fn report_subscriptions(&self, report: bool) {
        self.reports_subscriptions.store(report, Ordering::Relaxed);
    }

    pub(crate) fn reports_subscriptions(&self) -> bool {
        self.reports_subscriptions.load(Ordering::Relaxed)
    }
}
