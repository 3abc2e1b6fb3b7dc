//! Everything behind the fixed header. The packet was checked before: nothing here can fail.

use crate::basics::Version;
use crate::encode::check::return_code;
use crate::encode::properties::{self, put_option};
use crate::encode::sink::Sink;
use crate::filter::{FilterError, SubscriptionFilter};
use crate::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, SubscribeOptions, UnsubAck,
    Unsubscribe,
};
use crate::reason::ReasonCode;

pub(super) fn put<S: Sink>(packet: &Packet, version: Version, out: &mut S) {
    match packet {
        Packet::Connect(it) => connect(it, version, out),
        Packet::ConnAck(it) => connack(it, version, out),
        Packet::Publish(it) => publish(it, version, out),
        Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubRel(it) | Packet::PubComp(it) => {
            ack(it, version, out);
        }
        Packet::Subscribe(it) => subscribe(it, version, out),
        Packet::SubAck(it) => suback(it, version, out),
        Packet::Unsubscribe(it) => unsubscribe(it, version, out),
        Packet::UnsubAck(it) => unsuback(it, version, out),
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(it) => disconnect(it, version, out),
        Packet::Auth(it) => auth(it, out),
    }
}

fn connect<S: Sink>(it: &Connect, version: Version, out: &mut S) {
    out.field(b"MQTT");
    out.u8(version.level());
    let will = it.will.as_ref().map_or(0, |will| u8::from(will.retain) << 5 | (will.qos as u8) << 3 | 1 << 2);
    let username = u8::from(it.username.is_some()) << 7;
    let password = u8::from(it.password.is_some()) << 6;
    out.u8(username | password | will | u8::from(it.clean_start) << 1);
    out.u16(it.keep_alive_secs);
    if version == Version::V5 {
        properties::put(&it.properties, out);
    }
    out.field(it.client_id.as_deref().unwrap_or_default().as_bytes());
    if let Some(will) = &it.will {
        if version == Version::V5 {
            properties::put(will.as_ref(), out);
        }
        out.field(will.topic.as_bytes());
        out.field(&will.payload);
    }
    if let Some(username) = &it.username {
        out.field(username.as_bytes());
    }
    if let Some(password) = &it.password {
        out.field(password);
    }
}

fn connack<S: Sink>(it: &ConnAck, version: Version, out: &mut S) {
    out.u8(it.session_present.into());
    match version {
        Version::V311 => out.u8(return_code(it.reason).unwrap_or(3)),
        Version::V5 => {
            out.u8(it.reason as u8);
            properties::put(it.properties.as_ref(), out);
        }
    }
}

fn publish<S: Sink>(it: &Publish, version: Version, out: &mut S) {
    out.field(it.topic.as_deref().unwrap_or_default().as_bytes());
    if let Some(id) = it.qos.packet_id() {
        out.u16(id.get());
    }
    if version == Version::V5 {
        put_option(it.properties.as_deref(), out);
    }
    out.slice(&it.payload);
}

/// Reason code and properties are left out where they say nothing (MQTT5 §3.4.2.1).
fn ack<S: Sink>(it: &Ack, version: Version, out: &mut S) {
    out.u16(it.packet_id.get());
    if version == Version::V311 {
        return;
    }
    let properties = it.properties.as_deref().filter(|it| !properties::is_empty(*it));
    if it.reason != ReasonCode::Success || properties.is_some() {
        out.u8(it.reason as u8);
    }
    if let Some(properties) = properties {
        properties::put(properties, out);
    }
}

fn subscribe<S: Sink>(it: &Subscribe, version: Version, out: &mut S) {
    out.u16(it.packet_id.get());
    if version == Version::V5 {
        properties::put(it, out);
    }
    for requested in &it.filters {
        filter(&requested.filter, out);
        out.u8(options(requested.options, version));
    }
}

const fn options(options: SubscribeOptions, version: Version) -> u8 {
    let qos = options.qos as u8;
    match version {
        Version::V311 => qos,
        Version::V5 => {
            (options.retain_handling as u8) << 4
                | (options.retain_as_published as u8) << 3
                | (options.no_local as u8) << 2
                | qos
        }
    }
}

fn filter<S: Sink>(filter: &Result<SubscriptionFilter, FilterError>, out: &mut S) {
    let Ok(filter) = filter else { return };
    out.u16(u16::try_from(filter.text_len()).unwrap_or(u16::MAX));
    for part in filter.text_parts() {
        out.slice(part.as_bytes());
    }
}

fn suback<S: Sink>(it: &SubAck, version: Version, out: &mut S) {
    out.u16(it.packet_id.get());
    if version == Version::V5 {
        put_option(it.properties.as_deref(), out);
    }
    for &reason in &it.reasons {
        out.u8(match version {
            // [MQTT3-3.9.3-2] 3.1.1 knows one failure.
            Version::V311 if reason.is_failure() => ReasonCode::UnspecifiedError as u8,
            _ => reason as u8,
        });
    }
}

fn unsubscribe<S: Sink>(it: &Unsubscribe, version: Version, out: &mut S) {
    out.u16(it.packet_id.get());
    if version == Version::V5 {
        properties::put(it, out);
    }
    for unwanted in &it.filters {
        filter(unwanted, out);
    }
}

fn unsuback<S: Sink>(it: &UnsubAck, version: Version, out: &mut S) {
    out.u16(it.packet_id.get());
    if version == Version::V5 {
        put_option(it.properties.as_deref(), out);
        for &reason in &it.reasons {
            out.u8(reason as u8);
        }
    }
}

/// Reason code and properties are left out where they say nothing (MQTT5 §3.14.2.1).
fn disconnect<S: Sink>(it: &Disconnect, version: Version, out: &mut S) {
    if version == Version::V311 {
        return;
    }
    let properties = it.properties.as_deref().filter(|it| !properties::is_empty(*it));
    if it.reason != ReasonCode::NORMAL_DISCONNECTION || properties.is_some() {
        out.u8(it.reason as u8);
    }
    if let Some(properties) = properties {
        properties::put(properties, out);
    }
}

/// Success without properties is an empty body (MQTT5 §3.15.2.1).
fn auth<S: Sink>(it: &Auth, out: &mut S) {
    if it.auth_method.is_none() {
        return;
    }
    out.u8(it.reason as u8);
    properties::put(it, out);
}
