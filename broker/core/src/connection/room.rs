//! Whether memory has room for a packet of the client, and what becomes of a PUBLISH for which it has none.

use signet_wire::{Publish, QosId, TopicName, Version, packet_len};

use crate::action::Actions;
use crate::close::CloseReason;
use crate::connection::Open;
use crate::counters::count;
use crate::hub::{Draft, Hub, NoRoom, Outline, Pressure, SendError, may_be_lost};
use crate::journal::Ticket;
use crate::message::properties_bytes;
use crate::router::Matches;
use crate::session::SessionRef;

/// The type of the packet, in the high half of its first byte.
const PUBLISH: u8 = 3;
/// The flag in the first byte of a PUBLISH.
const RETAIN: u8 = 0b0001;
/// The two bits of the quality of service there. Both together mean none (`[MQTT-3.3.1-4]`).
const QOS: u8 = 0b0110;
const PACKET_ID_BYTES: usize = 2;

impl Open {
    /// Whether memory has room for a message of this client. Of a name above its share none is refused that makes nobody's share
    /// larger; its receivers, which are looked up for that, are given.
    pub(super) fn room(
        &mut self,
        hub: &Hub,
        topic: &TopicName,
        retain: bool,
        content_bytes: usize,
    ) -> Result<Option<Matches<SessionRef>>, NoRoom> {
        if !self.is_shed(hub) {
            return Ok(None);
        }
        if hub.pressure() != Pressure::Tight {
            return Err(NoRoom);
        }
        let message = Outline { topic, retain, content_bytes };
        hub.room_beside_hoards(&self.cell, &self.author, &message, self.scratch.get_or_insert_default())
    }

    /// Whether the packet that begins with these bytes is a PUBLISH of 3.1.1, of QoS 1 or 2, that memory has room for although its
    /// name is refused others. One that has not come to its end may go on coming: then it is asked again. One that is malformed, or
    /// too deep, is not kept from being told so.
    pub(super) fn may_publish_nonetheless(&mut self, hub: &Hub, packet: &[u8]) -> bool {
        if hub.pressure() != Pressure::Tight {
            return false;
        }
        if packet_len(packet).is_none_or(|length| packet.len() < length) {
            return true;
        }
        packet.first().is_some_and(|first| first >> 4 == PUBLISH)
            && outline(packet).is_none_or(|(topic, retain, bytes)| {
                hub.too_deep(&topic) || self.room(hub, &topic, retain, bytes).is_ok()
            })
    }

    /// Memory runs short. QoS 0 is lost; a 5.0 client is told that its message was not taken; a 3.1.1 client cannot be
    /// told, and must not be acknowledged what is nowhere, so it is closed and sends it again. Its owner has let it wait
    /// before: [`crate::Connection::should_wait`].
    pub(super) fn shed(
        &mut self,
        hub: &Hub,
        qos: QosId,
        draft: &Draft,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
        let counters = self.counters(hub);
        if may_be_lost(qos.qos()) {
            count(&counters.shed_qos0);
            return Ok(());
        }
        if self.version == Version::V311 {
            count(&counters.shed_publish);
            return Err(CloseReason::Overloaded);
        }
        self.acknowledge(hub, (qos, Ticket::NONE), draft, Err(SendError::Overloaded), out)
    }
}

/// Whether a 3.1.1 packet that begins with these bytes makes the broker keep something: SUBSCRIBE, and PUBLISH of QoS 1 and 2 unless
/// it clears a retained message.
pub(super) fn takes_memory(packet: &[u8]) -> bool {
    match packet.split_first() {
        Some((first, _)) if first >> 4 == 8 => true,
        Some((first, rest)) if first >> 4 == PUBLISH && first & QOS != 0 => {
            first & RETAIN == 0 || !has_no_payload(rest)
        }
        _ => false,
    }
}

/// Bytes of the payload and of the properties that stay with the message.
pub(super) fn content_bytes(publish: &Publish) -> usize {
    publish.payload.len() + publish.properties.as_deref().map_or(0, properties_bytes)
}

/// The topic, RETAIN and the length of the payload of a whole PUBLISH of 3.1.1 that has a packet identifier; `None`: it is
/// malformed.
fn outline(packet: &[u8]) -> Option<(TopicName, bool, usize)> {
    let first = *packet.first()?;
    let header = 1 + packet.iter().skip(1).take(4).position(|byte| byte & 0x80 == 0)? + 1;
    let body = packet.get(header..packet_len(packet)?)?;
    let (length, rest) = body.split_first_chunk()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let topic = TopicName::try_from(std::str::from_utf8(topic).ok()?).ok()?;
    let (id, payload) = rest.split_first_chunk::<PACKET_ID_BYTES>()?;
    let well_formed = first & QOS != QOS && *id != [0; PACKET_ID_BYTES];
    well_formed.then_some((topic, first & RETAIN != 0, payload.len()))
}

/// Whether a PUBLISH with a packet identifier ends behind it. `rest` is what comes after its first byte.
fn has_no_payload(rest: &[u8]) -> bool {
    let mut length = 0;
    for (place, byte) in rest.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let Some([high, low]) = rest.get(place + 1..place + 3) else { return false };
            return length == 2 + usize::from(u16::from_be_bytes([*high, *low])) + PACKET_ID_BYTES;
        }
    }
    false
}
