//! From packets to bytes.

use bytes::BytesMut;

use crate::basics::Version;
use crate::error::EncodeError;
use crate::packet::Packet;

/// Appends `packet` to `out`; on an error `out` is as before.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    todo!("{packet:?} {version} {out:?}")
}

/// The bytes that [`encode`] would append; 0 for a packet that cannot be encoded.
#[must_use]
pub fn encoded_len(packet: &Packet, version: Version) -> usize {
    todo!("{packet:?} {version}")
}
