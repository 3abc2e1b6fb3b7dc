//! DISCONNECT and AUTH.

use crate::basics::{PacketType, Version};
use crate::decode::acks::reason;
use crate::error::DecodeErrorKind as Kind;
use crate::packet::{Auth, Disconnect, DisconnectProperties};
use crate::property::{self, Key, Place, Value};
use crate::reader::{Reader, Step};
use crate::reason::{ReasonCode, Sender};

pub(super) fn disconnect(reader: &mut Reader, version: Version, sender: Sender) -> Step<Disconnect> {
    if version == Version::V311 || reader.is_empty() {
        reader.finish()?;
        return Ok(Disconnect::default());
    }
    let reason = reason(reader, PacketType::Disconnect, sender)?;
    let mut found: Option<Box<DisconnectProperties>> = None;
    // MQTT5 §3.14.2.2.1: without a property length there are no properties.
    if !reader.is_empty() {
        property::read(reader, Place::Packet(PacketType::Disconnect), sender, |id, value| {
            let out = found.get_or_insert_default();
            match (id, value) {
                (Key::SessionExpiry, Value::FourBytes(secs)) => out.session_expiry_secs = Some(secs),
                (Key::ReasonString, Value::Text(text)) => out.reason_string = Some(text),
                (Key::UserProperty, Value::Pair(name, value)) => out.user_properties.push((name, value)),
                (Key::ServerReference, Value::Text(text)) => out.server_reference = Some(text),
                _ => return Err(Kind::PropertyNotAllowed),
            }
            Ok(())
        })?;
    }
    reader.finish()?;
    Ok(Disconnect { reason, properties: found })
}

pub(super) fn auth(reader: &mut Reader, sender: Sender) -> Step<Auth> {
    let mut auth = Auth {
        reason: ReasonCode::Success,
        auth_method: None,
        auth_data: None,
        reason_string: None,
        user_properties: Vec::new(),
    };
    // MQTT5 §3.15.2.1: reason code and property length are left out together, and mean success without properties.
    if reader.is_empty() {
        return if auth.reason.allowed_in(PacketType::Auth, sender) { Ok(auth) } else { Err(Kind::Reason) };
    }
    auth.reason = reason(reader, PacketType::Auth, sender)?;
    property::read(reader, Place::Packet(PacketType::Auth), sender, |id, value| {
        match (id, value) {
            (Key::AuthMethod, Value::Text(text)) => auth.auth_method = Some(text),
            (Key::AuthData, Value::Binary(data)) => auth.auth_data = Some(data),
            (Key::ReasonString, Value::Text(text)) => auth.reason_string = Some(text),
            (Key::UserProperty, Value::Pair(name, value)) => auth.user_properties.push((name, value)),
            _ => return Err(Kind::PropertyNotAllowed),
        }
        Ok(())
    })?;
    reader.finish()?;
    if auth.auth_method.is_none() {
        return Err(Kind::AuthWithoutMethod);
    }
    Ok(auth)
}
