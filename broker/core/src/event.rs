//! What an operator may want to read about a connection that goes on.

use std::fmt;

use signet_acl::DenyCause;
use signet_wire::{SubscriptionFilter, TopicName};

/// What was being done when the access control refused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeniedAccess {
    /// A PUBLISH.
    Publish(TopicName),
    /// The response topic of a PUBLISH: the publisher itself may not read it.
    ResponseTopic(TopicName),
    /// The will, looked at when CONNECT arrives. It is judged again when it is sent.
    Will(TopicName),
    /// A SUBSCRIBE.
    Subscribe(SubscriptionFilter),
    /// A message for a subscription that exists.
    Receive(TopicName),
}

impl DeniedAccess {
    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::Publish(_) => "publish",
            Self::ResponseTopic(_) => "response_topic",
            Self::Will(_) => "will",
            Self::Subscribe(_) => "subscribe",
            Self::Receive(_) => "receive",
        }
    }
}

impl fmt::Display for DeniedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(topic) => write!(f, "publish to {:?}", &**topic),
            Self::ResponseTopic(topic) => write!(f, "response topic {:?}", &**topic),
            Self::Will(topic) => write!(f, "will to {:?}", &**topic),
            Self::Subscribe(filter) => write!(f, "subscribe to {:?}", filter.to_string()),
            Self::Receive(topic) => write!(f, "receive {:?}", &**topic),
        }
    }
}

/// A bound that refused something without ending the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// `subscriptions_per_session_max`.
    Subscriptions,
    /// `subscriptions_per_principal_max`.
    SubscriptionsOfPrincipal,
    /// Memory runs short.
    Memory,
    /// One of the bounds of the retained store.
    Retained,
    /// `topic_levels_max`, of a filter.
    FilterLevels,
    /// Requests of one connection that wait for their answers.
    Requests,
}

impl Quota {
    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::SubscriptionsOfPrincipal => "subscriptions_of_principal",
            Self::Memory => "memory",
            Self::Retained => "retained",
            Self::FilterLevels => "filter_levels",
            Self::Requests => "requests",
        }
    }
}

/// Why the answer to a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerDropped {
    /// The connection does not subscribe to its topic. Many clients do not look at the refusal of a subscription.
    NotSubscribed,
    /// The connection may not read its topic.
    Denied(DenyCause),
    /// It is larger than the client's Maximum Packet Size.
    TooLarge,
}

impl AnswerDropped {
    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::NotSubscribed => "answer_not_subscribed",
            Self::Denied(_) => "answer_denied",
            Self::TooLarge => "answer_too_large",
        }
    }
}

impl fmt::Display for AnswerDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSubscribed => "the client has not subscribed to it",
            Self::Denied(_) => "the access policy refuses it to the client",
            Self::TooLarge => "it is larger than the client's Maximum Packet Size",
        })
    }
}

/// An occurrence on one connection. Its caller logs it, with a rate limit: a client can cause as many as it sends
/// packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// CONNECT was accepted.
    Connected {
        /// Whether a stored session continues.
        session_present: bool,
        /// Whether another connection of the same session was closed for this one.
        took_over: bool,
    },
    /// The access control refused something.
    Denied {
        /// What.
        access: DeniedAccess,
        /// Why.
        cause: DenyCause,
    },
    /// A bound refused something.
    QuotaReached(Quota),
    /// SUBSCRIBE was granted, for these filters. Only while [`Hub::report_subscriptions`](crate::Hub::report_subscriptions) says so.
    Subscribed(Vec<SubscriptionFilter>),
    /// UNSUBSCRIBE ended the subscriptions to these filters. Only while
    /// [`Hub::report_subscriptions`](crate::Hub::report_subscriptions) says so.
    Unsubscribed(Vec<SubscriptionFilter>),
    /// The answer to a request for a certificate was not sent.
    AnswerDropped {
        /// Its topic.
        topic: TopicName,
        /// Why.
        why: AnswerDropped,
    },
}

impl Event {
    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::Subscribed(_) => "subscribed",
            Self::Unsubscribed(_) => "unsubscribed",
            Self::Denied { access, .. } => access.metric_label(),
            Self::QuotaReached(quota) => quota.metric_label(),
            Self::AnswerDropped { why, .. } => why.metric_label(),
        }
    }
}
