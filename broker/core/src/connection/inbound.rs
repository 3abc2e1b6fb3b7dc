//! From the bytes of a peer to what they ask of the connection.

use bytes::BytesMut;
use signet_wire::{decode_connect, decode_from_client, frame};

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
        let frame = match frame(inbound, self.packet_bytes_max()) {
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
