//! What must hold before a packet is written. Types exclude most mistakes; these are the ones that they leave.

use crate::basics::{QoS, Version};
use crate::encode::VARINT_MAX;
use crate::error::EncodeError;
use crate::filter::{FilterError, SubscriptionFilter};
use crate::packet::{Ack, Auth, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, UnsubAck};
use crate::reason::{ReasonCode, Sender};

type Checked = Result<(), EncodeError>;

pub(super) fn check(packet: &Packet, version: Version) -> Checked {
    match packet {
        Packet::Connect(connect) => check_connect(connect, version),
        Packet::ConnAck(connack) => check_connack(connack, version),
        Packet::Publish(publish) => check_publish(publish, version),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            check_ack(ack, packet, version)
        }
        Packet::Subscribe(subscribe) => check_subscribe(subscribe),
        Packet::SubAck(suback) => {
            let SubAck { reasons, .. } = suback.as_ref();
            check_list(reasons, "reason code")?;
            reasons.iter().try_for_each(|&reason| check_reason(reason, packet))
        }
        Packet::Unsubscribe(unsubscribe) => {
            check_list(&unsubscribe.filters, "topic filter")?;
            unsubscribe.filters.iter().try_for_each(check_filter)
        }
        Packet::UnsubAck(unsuback) => {
            let UnsubAck { reasons, .. } = unsuback.as_ref();
            if version == Version::V5 {
                check_list(reasons, "reason code")?;
            }
            reasons.iter().try_for_each(|&reason| check_reason(reason, packet))
        }
        Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::Disconnect(disconnect) => check_disconnect(disconnect, packet, version),
        Packet::Auth(auth) => check_auth(auth, packet, version),
    }
}

fn check_connect(connect: &Connect, version: Version) -> Checked {
    if connect.version != version {
        return Err(EncodeError::NotInVersion("a CONNECT of another version", version));
    }
    if version == Version::V311 {
        if connect.client_id.is_none() && !connect.clean_start {
            return Err(EncodeError::NotInVersion("a session without a client identifier", version));
        }
        if connect.password.is_some() && connect.username.is_none() {
            return Err(EncodeError::NotInVersion("a password without a user name", version));
        }
    }
    if connect.properties.auth_data.is_some() && connect.properties.auth_method.is_none() {
        return Err(EncodeError::Contradiction("authentication data without a method"));
    }
    match &connect.will {
        Some(will) if will.payload.len() > usize::from(u16::MAX) => {
            Err(EncodeError::FieldTooLong("will payload"))
        }
        _ => Ok(()),
    }
}

fn check_connack(connack: &ConnAck, version: Version) -> Checked {
    if connack.session_present && connack.reason != ReasonCode::Success {
        return Err(EncodeError::Contradiction("session present on a refused connection"));
    }
    match version {
        Version::V311 => return_code(connack.reason).map(|_| ()),
        Version::V5 => {
            if connack.properties.auth_data.is_some() && connack.properties.auth_method.is_none() {
                return Err(EncodeError::Contradiction("authentication data without a method"));
            }
            allowed(connack.reason, connack.reason.allowed_in(crate::PacketType::ConnAck, Sender::Server))
        }
    }
}

/// The return code of 3.1.1 that says most nearly what `reason` says (MQTT3 §3.2.2.3).
pub(super) fn return_code(reason: ReasonCode) -> Result<u8, EncodeError> {
    use ReasonCode as R;
    match reason {
        R::Success => Ok(0),
        R::UnsupportedProtocolVersion => Ok(1),
        R::ClientIdentifierNotValid => Ok(2),
        R::ServerUnavailable
        | R::ServerBusy
        | R::UnspecifiedError
        | R::ImplementationSpecificError
        | R::PacketTooLarge
        | R::QuotaExceeded
        | R::UseAnotherServer
        | R::ServerMoved
        | R::ConnectionRateExceeded => Ok(3),
        R::BadUserNameOrPassword => Ok(4),
        R::NotAuthorized
        | R::Banned
        | R::BadAuthenticationMethod
        | R::TopicNameInvalid
        | R::PayloadFormatInvalid
        | R::RetainNotSupported
        | R::QoSNotSupported => Ok(5),
        // [MQTT3-3.1.4-1] the connection is closed without a CONNACK.
        R::MalformedPacket | R::ProtocolError => {
            Err(EncodeError::NotInVersion("a CONNACK for a malformed packet", Version::V311))
        }
        other => Err(EncodeError::Reason(other)),
    }
}

fn check_publish(publish: &Publish, version: Version) -> Checked {
    if publish.dup && publish.qos.qos() == QoS::AtMostOnce {
        return Err(EncodeError::Contradiction("the DUP flag at QoS 0"));
    }
    let properties = publish.properties.as_deref().filter(|_| version == Version::V5);
    if publish.topic.is_none() && properties.is_none_or(|it| it.topic_alias.is_none()) {
        return Err(EncodeError::Empty("topic"));
    }
    properties.map_or(Ok(()), |it| it.subscription_ids.iter().try_for_each(|&id| check_subscription_id(id)))
}

pub(crate) const fn is_subscription_id(id: u32) -> bool {
    id != 0 && id as usize <= VARINT_MAX
}

fn check_subscription_id(id: u32) -> Checked {
    if is_subscription_id(id) {
        Ok(())
    } else {
        Err(EncodeError::Contradiction("a subscription identifier is from 1 to 268435455"))
    }
}

fn check_ack(ack: &Ack, packet: &Packet, version: Version) -> Checked {
    match version {
        Version::V311 => Ok(()),
        Version::V5 => check_reason(ack.reason, packet),
    }
}

fn check_subscribe(subscribe: &Subscribe) -> Checked {
    check_list(&subscribe.filters, "topic filter")?;
    subscribe.subscription_id.map_or(Ok(()), check_subscription_id)?;
    subscribe.filters.iter().try_for_each(|requested| {
        check_filter(&requested.filter)?;
        if requested.options.no_local && matches!(requested.filter, Ok(SubscriptionFilter::Shared { .. })) {
            return Err(EncodeError::Contradiction("no local on a shared subscription"));
        }
        Ok(())
    })
}

/// The text of an impossible filter is not kept, and a filter with its share name may exceed a field.
fn check_filter(filter: &Result<SubscriptionFilter, FilterError>) -> Checked {
    match filter {
        Ok(filter) if filter.text_len() > usize::from(u16::MAX) => {
            Err(EncodeError::FieldTooLong("topic filter"))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(EncodeError::Contradiction("a filter that is none")),
    }
}

fn check_disconnect(disconnect: &Disconnect, packet: &Packet, version: Version) -> Checked {
    match version {
        Version::V311 if disconnect.reason != ReasonCode::NORMAL_DISCONNECTION => {
            Err(EncodeError::NotInVersion("a DISCONNECT with a reason", version))
        }
        Version::V311 => Ok(()),
        Version::V5 => check_reason(disconnect.reason, packet),
    }
}

fn check_auth(auth: &Auth, packet: &Packet, version: Version) -> Checked {
    if version == Version::V311 {
        return Err(EncodeError::NotInVersion("AUTH", version));
    }
    check_reason(auth.reason, packet)?;
    let bare = auth.reason == ReasonCode::Success
        && auth.auth_data.is_none()
        && auth.reason_string.is_none()
        && auth.user_properties.is_empty();
    if auth.auth_method.is_none() && !bare {
        return Err(EncodeError::Empty("authentication method"));
    }
    Ok(())
}

fn check_list<T>(list: &[T], what: &'static str) -> Checked {
    if list.is_empty() { Err(EncodeError::Empty(what)) } else { Ok(()) }
}

/// The encoder serves both sides, so what either may say is allowed.
fn check_reason(reason: ReasonCode, packet: &Packet) -> Checked {
    let packet = packet.packet_type();
    allowed(reason, reason.allowed_in(packet, Sender::Client) || reason.allowed_in(packet, Sender::Server))
}

const fn allowed(reason: ReasonCode, is: bool) -> Checked {
    if is { Ok(()) } else { Err(EncodeError::Reason(reason)) }
}
