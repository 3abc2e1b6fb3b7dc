//! PUBLISH, and the properties that it shares with the will.

use std::num::NonZeroU16;

use crate::basics::{PacketType, QoS, QosId, Version};
use crate::error::DecodeErrorKind as Kind;
use crate::names::{NameError, TopicName};
use crate::packet::{PayloadFormat, Publish, PublishProperties};
use crate::property::{self, Key, Place, Value};
use crate::reader::{Reader, Step, text_error};
use crate::reason::Sender;
use crate::text::Text;

const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;

pub(super) fn publish(first_byte: u8, mut reader: Reader, version: Version, sender: Sender) -> Step<Publish> {
    let qos = QoS::try_from(first_byte >> 1 & 0b11).map_err(|_| Kind::QosThree)?;
    let dup = first_byte & DUP != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(Kind::DupAtQosZero);
    }
    let topic = reader.field()?;
    let topic = if topic.is_empty() {
        None
    } else {
        Some(TopicName::try_from(topic).map_err(|error| topic_error(error, Kind::TopicWildcard))?)
    };
    let qos = match qos {
        QoS::AtMostOnce => QosId::AtMostOnce,
        QoS::AtLeastOnce => QosId::AtLeastOnce(reader.packet_id()?),
        QoS::ExactlyOnce => QosId::ExactlyOnce(reader.packet_id()?),
    };
    let properties = match version {
        Version::V311 => None,
        Version::V5 => properties(&mut reader, sender)?,
    };
    if topic.is_none() && properties.as_ref().is_none_or(|it| it.topic_alias.is_none()) {
        return Err(Kind::TopicEmpty);
    }
    Ok(Publish { dup, retain: first_byte & RETAIN != 0, qos, topic, properties, payload: reader.rest() })
}

fn properties(reader: &mut Reader, sender: Sender) -> Step<Option<Box<PublishProperties>>> {
    let mut found: Option<Box<PublishProperties>> = None;
    property::read(reader, Place::Packet(PacketType::Publish), sender, |id, value| {
        set(found.get_or_insert_default(), id, value)
    })?;
    Ok(found)
}

/// Stores one property of a PUBLISH or a will.
pub(super) fn set(out: &mut PublishProperties, id: Key, value: Value) -> Step<()> {
    match (id, value) {
        (Key::PayloadFormat, Value::Flag(utf8)) => {
            out.payload_format = Some(if utf8 { PayloadFormat::Utf8 } else { PayloadFormat::Bytes });
        }
        (Key::MessageExpiry, Value::FourBytes(secs)) => out.message_expiry_secs = Some(secs),
        (Key::TopicAlias, Value::TwoBytes(alias)) => out.topic_alias = NonZeroU16::new(alias),
        (Key::ResponseTopic, Value::Text(topic)) => out.response_topic = Some(response_topic(topic)?),
        (Key::CorrelationData, Value::Binary(data)) => out.correlation_data = Some(data),
        (Key::UserProperty, Value::Pair(name, value)) => out.user_properties.push((name, value)),
        (Key::SubscriptionId, Value::Varint(id)) => out.subscription_ids.push(id),
        (Key::ContentType, Value::Text(text)) => out.content_type = Some(text),
        // The table lets nothing else through.
        _ => return Err(Kind::PropertyNotAllowed),
    }
    Ok(())
}

fn response_topic(text: Text) -> Step<TopicName> {
    TopicName::try_from(text).map_err(|error| topic_error(error, Kind::ResponseTopic))
}

/// What a name error means where `otherwise` is the answer to an empty name or a wildcard.
pub(super) fn topic_error(error: NameError, otherwise: Kind) -> Kind {
    match error {
        NameError::Text(error) => text_error(error),
        NameError::Empty | NameError::Wildcard => otherwise,
    }
}
