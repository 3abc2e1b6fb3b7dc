//! What has come from the peer and is no whole packet yet.

use bytes::BytesMut;

/// Gives back what a connection that waits does not need: all of it where nothing has come, and the room for more where that are
/// fewer than `few` bytes. Which memory it is in cannot be asked: when packets were cut off to the last byte of it, a `BytesMut`
/// has a capacity of 0 and holds all of it.
pub(super) fn shrink(inbound: &mut BytesMut, few: usize) {
    if inbound.len() < few {
        *inbound = BytesMut::from(&inbound[..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf as _;

    #[test]
    fn what_was_taken_to_the_last_byte_of_its_memory_gives_it_back() {
        let mut inbound = BytesMut::from(&[7; 1_000][..]);
        inbound.advance(1_000);
        assert_eq!(inbound.capacity(), 0, "as if it held nothing");
        shrink(&mut inbound, 100);
        assert!(!inbound.try_reclaim(1), "it holds nothing");
    }

    #[test]
    fn a_few_bytes_get_memory_of_their_own_and_many_stay_where_they_are() {
        let mut inbound = BytesMut::from(&[7; 1_000][..]);
        inbound.advance(950);
        let place = inbound.as_ptr();
        shrink(&mut inbound, 50);
        assert_eq!((inbound.as_ptr(), inbound.len()), (place, 50));
        shrink(&mut inbound, 51);
        assert_eq!((&inbound[..], inbound.capacity()), (&[7; 50][..], 50));
        assert!(!inbound.try_reclaim(1), "it holds nothing else");
    }
}
