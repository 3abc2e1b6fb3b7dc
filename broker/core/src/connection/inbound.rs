//! From the bytes of a peer to what they ask of the connection.

use bytes::{Bytes, BytesMut};
use signet_wire::{Frame, FrameError, decode_connect, decode_from_client, frame};

use super::Connection;
use crate::action::Input;

impl Connection {
    /// Cuts the first whole packet off `inbound` and decodes it as this connection expects it: a CONNECT of any version first, then
    /// packets of that version. `None` while `inbound` holds no whole packet, and once the connection is closed.
    ///
    /// Ask again only after [`Connection::handle`] was given the input: it may change the version and
    /// [`Connection::packet_bytes_max`], which is the bound in bytes of what `inbound` may hold for one packet.
    #[must_use]
    pub fn next_input(&self, inbound: &mut BytesMut) -> Option<Input> {
        if self.is_closed() {
            return None;
        }
        let copied_bytes_max = self.hub.limits.load().payload_copy_bytes_max;
        let frame = match cut(inbound, self.packet_bytes_max(), copied_bytes_max) {
            Ok(frame) => frame?,
            Err(error) => return Some(Input::Unframable(error)),
        };
        Some(match self.version() {
            None => Input::Connect(decode_connect(frame)),
            Some(version) => match decode_from_client(frame, version) {
                Ok(packet) => Input::Packet(packet),
                Err(error) => Input::Undecodable(error),
            },
        })
    }
}

/// Cuts the first whole packet off `inbound`. One longer than `copied_bytes_max`, whose payload may be kept as a part of its
/// buffer, shares that with no packet behind it, and has it only where it fills at least half of what there is of it. Short ones
/// before it are no longer than itself, or the buffer is one of 64 KiB: so whoever keeps it keeps a few times its length at most.
fn cut(
    inbound: &mut BytesMut,
    packet_bytes_max: u32,
    copied_bytes_max: usize,
) -> Result<Option<Frame>, FrameError> {
    let room = inbound.capacity();
    let Some(frame) = frame(inbound, packet_bytes_max)? else { return Ok(None) };
    let bytes = frame.wire_len();
    if bytes <= copied_bytes_max {
        return Ok(Some(frame));
    }
    // About what one read brought beside it.
    *inbound = BytesMut::from(&inbound[..]);
    if bytes < room / 2 {
        return Ok(Some(Frame::new(frame.first_byte(), Bytes::copy_from_slice(frame.body()))));
    }
    Ok(Some(frame))
}
