//! From frames to packets.

use crate::basics::Version;
use crate::error::{ConnectError, DecodeError};
use crate::frame::Frame;
use crate::packet::{Connect, Packet};

/// Decodes the first packet of a connection.
///
/// # Errors
/// See [`ConnectError`].
pub fn decode_connect(frame: Frame) -> Result<Connect, ConnectError> {
    todo!("{frame:?}")
}

/// Decodes what a client sends after CONNECT.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_from_client(frame: Frame, version: Version) -> Result<Packet, DecodeError> {
    todo!("{frame:?} {version}")
}

/// Decodes what a server sends.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_from_server(frame: Frame, version: Version) -> Result<Packet, DecodeError> {
    todo!("{frame:?} {version}")
}
