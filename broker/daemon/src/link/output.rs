//! Encoded packets that wait for the socket.
//!
//! A private key may be among them. No byte of it stays in memory that was given back: what has left, was cut out, or had to move
//! to where there is more room is wiped at once. `BytesMut` does none of this, whichever of its methods moves its content.

use std::ops::{Deref, Range};

use bytes::BytesMut;
use zeroize::Zeroize as _;

/// The output of one connection.
///
/// Nothing is taken from the front of `bytes`: a `BytesMut` that was advanced does not tell what it still holds there, and one
/// that was advanced to the end of its memory has a capacity of 0 and holds all of it.
#[derive(Default)]
pub(super) struct Output {
    bytes: BytesMut,
    /// So many of them have left. Their memory is used again when more is written.
    gone: usize,
    /// A private key is among them.
    secret: bool,
}

impl Output {
    /// Appends what `write` writes. If that is `secret`, `write` makes room for all of it before its first byte.
    pub(super) fn append<T>(&mut self, secret: bool, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        if self.gone > self.len() {
            self.remove(0..self.gone);
            self.gone = 0;
        }
        self.secret |= secret;
        if !self.secret {
            return write(&mut self.bytes);
        }
        let mut more = BytesMut::new();
        let written = write(&mut more);
        drop(self.make_room(more.len()));
        self.bytes.extend_from_slice(&more);
        more.as_mut().zeroize();
        written
    }

    /// Makes room for so many more bytes without a copy that stays behind. Gives what had them before, if that was too small.
    fn make_room(&mut self, more: usize) -> Option<BytesMut> {
        (self.bytes.capacity() - self.bytes.len() < more).then(|| self.move_to(self.len() + more))
    }

    /// What waits moves to memory of this size. Gives what had it before.
    fn move_to(&mut self, size: usize) -> BytesMut {
        let mut place = BytesMut::with_capacity(size);
        place.extend_from_slice(self);
        let mut left = std::mem::replace(&mut self.bytes, place);
        self.gone = 0;
        if self.secret {
            left.as_mut().zeroize();
        }
        left
    }

    /// The first `count` bytes have left.
    pub(super) fn advance(&mut self, count: usize) {
        let until = self.gone + count;
        self.wipe(self.gone..until);
        self.gone = until;
        self.ends();
    }

    /// Takes these bytes out.
    pub(super) fn cut(&mut self, cut: Range<usize>) {
        self.remove(self.gone + cut.start..self.gone + cut.end);
        self.ends();
    }

    /// Takes these bytes out of those that it holds.
    fn remove(&mut self, cut: Range<usize>) {
        let rest = close_gap(&mut self.bytes, cut);
        self.wipe(rest..self.bytes.len());
        self.bytes.truncate(rest);
    }

    /// When nothing waits any more, it begins anew, and no secret is among it.
    fn ends(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.gone = 0;
            self.secret = false;
        }
    }

    fn wipe(&mut self, range: Range<usize>) {
        if let Some(bytes) = self.bytes.get_mut(range).filter(|_| self.secret) {
            bytes.zeroize();
        }
    }

    /// Bytes that it holds in memory.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives memory back of which more than half is not needed: all of it where nothing waits.
    pub(super) fn shrink(&mut self) {
        if self.capacity() > 2 * self.len() {
            drop(self.move_to(self.len()));
        }
    }
}

impl Deref for Output {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.wipe(0..self.bytes.len());
    }
}

/// Moves what is behind `cut` to where that begins, where it is; how many bytes count then.
fn close_gap(bytes: &mut [u8], cut: Range<usize>) -> usize {
    let rest = bytes.len() - cut.len();
    bytes.copy_within(cut.end.., cut.start);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An output of these bytes, with room for no more.
    fn output(bytes: &[u8], secret: bool) -> Output {
        let mut output = Output::default();
        output.append(secret, |out| {
            out.reserve(bytes.len());
            out.extend_from_slice(bytes);
        });
        assert_eq!(&*output, bytes);
        output
    }

    #[test]
    fn a_secret_that_has_to_move_leaves_no_copy_behind() {
        let mut output = output(&[7; 100], true);
        assert!(output.make_room(output.capacity() - output.len()).is_none(), "there is room");
        let outgrown = output.make_room(1_000).expect("it moves");
        assert_eq!(&outgrown[..], [0; 100]);
        let place = output.as_ptr();
        output.append(false, |out| out.extend_from_slice(&[8; 1_000]));
        assert_eq!(output.as_ptr(), place, "what comes behind it moves it no more");
        assert_eq!(*output, [&[7; 100][..], &[8; 1_000]].concat());
    }

    #[test]
    fn what_follows_a_secret_moves_it_only_where_it_is_wiped() {
        let mut output = output(&[7; 100], true);
        for _ in 0..50 {
            let (room, place) = (output.capacity() - output.len(), output.as_ptr());
            output.append(false, |out| {
                assert_eq!(out.capacity(), 0, "it is written beside, and never into the room of the secret");
                out.extend_from_slice(&[8; 10]);
            });
            assert!(room < 10 || output.as_ptr() == place);
        }
        assert_eq!(output.len(), 600);
    }

    #[test]
    fn a_cut_is_closed_where_it_is_and_wipes_what_it_leaves_over() {
        for (cut, rest) in [(0..3, &[4, 5, 6][..]), (1..3, &[1, 4, 5, 6]), (4..6, &[1, 2, 3, 4]), (0..6, &[])]
        {
            let mut output = output(&[1, 2, 3, 4, 5, 6], true);
            let place = output.as_ptr();
            output.cut(cut.clone());
            assert_eq!(&*output, rest);
            assert_eq!(output.as_ptr(), place);
            assert_eq!(output.secret, !rest.is_empty());
            // What is over: as `cut` does it, in sight.
            let mut output = self::output(&[1, 2, 3, 4, 5, 6], true);
            let rest = close_gap(&mut output.bytes, cut);
            output.wipe(rest..6);
            assert!(output.iter().skip(rest).all(|byte| *byte == 0));
        }
    }

    #[test]
    fn an_output_without_a_secret_is_written_to_where_it_is() {
        let mut output = output(&[7; 100], false);
        output.append(false, |out| assert_eq!(out.len(), 100));
        output.advance(60);
        output.cut(10..20);
        assert_eq!(*output, [7; 30]);
    }

    #[test]
    fn what_has_left_counts_until_its_memory_is_given_back() {
        let mut output = output(&[7; 1_000], false);
        output.advance(400);
        assert_eq!((output.len(), output.capacity()), (600, 1_000));
        output.shrink();
        assert_eq!(output.capacity(), 1_000, "half of it is needed");
        output.advance(200);
        output.append(false, |out| out.extend_from_slice(&[8; 100]));
        assert_eq!(*output, [&[7; 400][..], &[8; 100]].concat());
        assert_eq!(output.capacity(), 1_000, "the room of what has left is used again");
        output.advance(450);
        output.shrink();
        assert_eq!((&*output, output.capacity()), (&[8; 50][..], 50));
        output.shrink();
        assert_eq!(output.capacity(), 50);
    }

    #[test]
    fn an_output_that_filled_its_memory_to_the_last_byte_gives_it_back() {
        let mut output = output(&[7; 1_000], false);
        output.advance(1_000);
        assert_eq!((output.len(), output.capacity()), (0, 1_000), "it is still held");
        output.shrink();
        assert_eq!(output.capacity(), 0);
        assert!(!output.bytes.try_reclaim(1), "nothing is held");
    }

    #[test]
    fn a_secret_that_is_moved_to_less_memory_leaves_no_copy_behind() {
        let mut output = output(&[7; 1_000], true);
        output.advance(900);
        let left = output.move_to(output.len());
        assert_eq!((&left[..], &*output), (&[0; 1_000][..], &[7; 100][..]));
    }

    #[test]
    fn once_all_of_it_has_left_there_is_no_secret_any_more() {
        let mut output = output(&[7; 100], true);
        output.advance(40);
        assert!(output.secret);
        output.advance(60);
        assert!(!output.secret);
        output.shrink();
        assert_eq!(output.capacity(), 0);
    }
}
