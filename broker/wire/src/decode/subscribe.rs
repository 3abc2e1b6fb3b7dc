//! SUBSCRIBE and UNSUBSCRIBE.

use crate::basics::{PacketType, QoS, Version};
use crate::error::DecodeErrorKind as Kind;
use crate::filter::SubscriptionFilter;
use crate::packet::{Requested, RetainHandling, Subscribe, SubscribeOptions, Unsubscribe};
use crate::property::{self, Key, Place, Value};
use crate::reader::{Reader, Step};
use crate::reason::Sender;

pub(super) fn subscribe(reader: &mut Reader, version: Version) -> Step<Subscribe> {
    let packet_id = reader.packet_id()?;
    let mut subscription_id = None;
    let mut user_properties = Vec::new();
    if version == Version::V5 {
        let place = Place::Packet(PacketType::Subscribe);
        property::read(reader, place, Sender::Client, |id, value| {
            match (id, value) {
                (Key::SubscriptionId, Value::Varint(id)) => subscription_id = Some(id),
                (Key::UserProperty, Value::Pair(name, value)) => user_properties.push((name, value)),
                _ => return Err(Kind::PropertyNotAllowed),
            }
            Ok(())
        })?;
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        let filter = SubscriptionFilter::parse(reader.text()?);
        let options = options(reader.u8()?, version)?;
        if options.no_local && matches!(filter, Ok(SubscriptionFilter::Shared { .. })) {
            return Err(Kind::NoLocalShared);
        }
        filters.push(Requested { filter, options });
    }
    if filters.is_empty() {
        return Err(Kind::NoFilters);
    }
    Ok(Subscribe { packet_id, subscription_id, user_properties, filters })
}

pub(super) fn unsubscribe(reader: &mut Reader, version: Version) -> Step<Unsubscribe> {
    let packet_id = reader.packet_id()?;
    let mut user_properties = Vec::new();
    if version == Version::V5 {
        let place = Place::Packet(PacketType::Unsubscribe);
        property::read(reader, place, Sender::Client, |id, value| {
            match (id, value) {
                (Key::UserProperty, Value::Pair(name, value)) => user_properties.push((name, value)),
                _ => return Err(Kind::PropertyNotAllowed),
            }
            Ok(())
        })?;
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(SubscriptionFilter::parse(reader.text()?));
    }
    if filters.is_empty() {
        return Err(Kind::NoFilters);
    }
    Ok(Unsubscribe { packet_id, user_properties, filters })
}

/// The options byte: QoS alone in 3.1.1 (`[MQTT3-3.8.3-4]`), six bits in 5.0 (MQTT5 §3.8.3.1).
fn options(byte: u8, version: Version) -> Step<SubscribeOptions> {
    let reserved = match version {
        Version::V311 => 0b1111_1100,
        Version::V5 => 0b1100_0000,
    };
    if byte & reserved != 0 {
        return Err(Kind::SubscribeOptions);
    }
    Ok(SubscribeOptions {
        qos: QoS::try_from(byte & 0b11).map_err(|_| Kind::SubscribeQosThree)?,
        no_local: byte & 0b0100 != 0,
        retain_as_published: byte & 0b1000 != 0,
        retain_handling: match byte >> 4 & 0b11 {
            0 => RetainHandling::SendAlways,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Kind::RetainHandlingThree),
        },
    })
}
