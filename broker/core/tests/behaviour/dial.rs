//! What clients say: how they connect and what they publish.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use signet_core::ListenerRules;
use signet_identity::{CertificateId, GroupName, Principal, ThingName};
use signet_wire::{
    AckProperties, ClientId, Connect, ConnectProperties, PacketId, Publish, PublishProperties, QoS, QosId,
    Requested, SubscribeOptions, SubscriptionFilter, Text, TopicName, Version, Will,
};

/// How a client connects.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) principal: Principal,
    pub(crate) rules: ListenerRules,
    pub(crate) connect: Connect,
}

/// A 5.0 client of the device `name`, with its name as client identifier, Clean Start and no session expiry.
pub(crate) fn v5(name: &str) -> Dial {
    Dial {
        principal: device(name),
        rules: ListenerRules::default(),
        connect: Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive_secs: 0,
            client_id: Some(ClientId::try_from(name).unwrap()),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        },
    }
}

/// A 3.1.1 client of the device `name`, with its name as client identifier and Clean Session 1.
pub(crate) fn v3(name: &str) -> Dial {
    let mut dial = v5(name);
    dial.connect.version = Version::V311;
    dial
}

pub(crate) fn device(name: &str) -> Principal {
    Principal::device(ThingName::try_from(name).unwrap(), CertificateId::of(name.as_bytes()), Vec::new())
}

pub(crate) fn operator(name: &str) -> Principal {
    Principal::operator(ThingName::try_from(name).unwrap(), CertificateId::of(name.as_bytes()), Vec::new())
}

pub(crate) fn member(name: &str, group: &str) -> Principal {
    let groups = vec![GroupName::try_from(group).unwrap()];
    Principal::device(ThingName::try_from(name).unwrap(), CertificateId::of(name.as_bytes()), groups)
}

impl Dial {
    pub(crate) fn principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    pub(crate) fn client_id(mut self, client_id: &str) -> Self {
        self.connect.client_id = Some(ClientId::try_from(client_id).unwrap());
        self
    }

    pub(crate) fn no_client_id(mut self) -> Self {
        self.connect.client_id = None;
        self
    }

    /// Clean Start or Clean Session 0.
    pub(crate) fn resume(mut self) -> Self {
        self.connect.clean_start = false;
        self
    }

    pub(crate) fn expiry(mut self, secs: u32) -> Self {
        self.connect.properties.session_expiry_secs = Some(secs);
        self
    }

    /// A session that outlives its connection and is resumed when there is one.
    pub(crate) fn lasting(self) -> Self {
        match self.connect.version {
            Version::V5 => self.resume().expiry(u32::MAX),
            Version::V311 => self.resume(),
        }
    }

    pub(crate) fn keep_alive(mut self, secs: u16) -> Self {
        self.connect.keep_alive_secs = secs;
        self
    }

    pub(crate) fn receive_max(mut self, max: u16) -> Self {
        self.connect.properties.receive_max = NonZeroU16::new(max);
        self
    }

    pub(crate) fn packet_max(mut self, bytes: u32) -> Self {
        self.connect.properties.packet_bytes_max = NonZeroU32::new(bytes);
        self
    }

    pub(crate) fn alias_max(mut self, max: u16) -> Self {
        self.connect.properties.topic_alias_max = max;
        self
    }

    pub(crate) fn no_problem_info(mut self) -> Self {
        self.connect.properties.request_problem_info = false;
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.connect.will = Some(Box::new(will));
        self
    }
}

/// A will on `topic` with QoS 1.
pub(crate) fn will(topic: &str, payload: &'static str) -> Will {
    Will {
        topic: self::topic(topic),
        payload: Bytes::from_static(payload.as_bytes()),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_secs: 0,
        properties: None,
    }
}

pub(crate) fn delayed(mut will: Will, secs: u32) -> Will {
    will.delay_secs = secs;
    will
}

pub(crate) fn topic(text: &str) -> TopicName {
    TopicName::try_from(text).unwrap()
}

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// A message to publish.
#[derive(Clone)]
pub(crate) struct Say {
    pub(crate) topic: Option<TopicName>,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: PublishProperties,
}

pub(crate) fn say(topic: &str, payload: &str) -> Say {
    Say {
        topic: Some(self::topic(topic)),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: PublishProperties::default(),
    }
}

impl Say {
    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = QoS::try_from(qos).unwrap();
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn expiry(mut self, secs: u32) -> Self {
        self.properties.message_expiry_secs = Some(secs);
        self
    }

    pub(crate) fn response_topic(mut self, topic: &str) -> Self {
        self.properties.response_topic = Some(self::topic(topic));
        self
    }

    pub(crate) fn alias(mut self, alias: u16) -> Self {
        self.properties.topic_alias = NonZeroU16::new(alias);
        self
    }

    pub(crate) fn without_topic(mut self) -> Self {
        self.topic = None;
        self
    }

    pub(crate) fn packet(self, packet_id: u16) -> Publish {
        let qos = match self.qos {
            QoS::AtMostOnce => QosId::AtMostOnce,
            QoS::AtLeastOnce => QosId::AtLeastOnce(id(packet_id)),
            QoS::ExactlyOnce => QosId::ExactlyOnce(id(packet_id)),
        };
        let properties = Some(Box::new(self.properties)).filter(|it| **it != PublishProperties::default());
        Publish { dup: false, retain: self.retain, qos, topic: self.topic, properties, payload: self.payload }
    }
}

/// A filter with options, for SUBSCRIBE.
pub(crate) fn filter(text: &str, qos: u8) -> Requested {
    Requested {
        filter: SubscriptionFilter::parse(Text::try_from(text).unwrap()),
        options: SubscribeOptions { qos: QoS::try_from(qos).unwrap(), ..SubscribeOptions::default() },
    }
}

pub(crate) fn text(message: &Publish) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

pub(crate) fn texts(messages: &[Publish]) -> Vec<String> {
    messages.iter().map(text).collect()
}

/// The packet identifiers of messages with QoS 1 or 2.
pub(crate) fn ids(messages: &[Publish]) -> Vec<u16> {
    messages.iter().map(|message| message.qos.packet_id().expect("an identifier").get()).collect()
}

pub(crate) fn reason_string(properties: Option<&AckProperties>) -> Option<&str> {
    properties?.reason_string.as_deref()
}
