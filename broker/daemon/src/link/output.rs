//! Encoded packets that wait for the socket.
//!
//! A private key may be among them. No byte of it stays in memory that was given back: what has left, was cut out, or had to move
//! to where there is more room is wiped at once. `BytesMut` does none of this, whichever of its methods moves its content.

use std::ops::{Deref, Range};

use bytes::{Buf as _, BytesMut};
use zeroize::Zeroize as _;

/// The output of one connection.
#[derive(Default)]
pub(super) struct Output {
    bytes: BytesMut,
    /// A private key is among them.
    secret: bool,
}

impl Output {
    /// Appends what `write` writes. If that is `secret`, `write` makes room for all of it before its first byte.
    pub(super) fn append<T>(&mut self, secret: bool, write: impl FnOnce(&mut BytesMut) -> T) -> T {
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
        if self.bytes.capacity() - self.bytes.len() >= more {
            return None;
        }
        let mut larger = BytesMut::with_capacity(self.bytes.len() + more);
        larger.extend_from_slice(&self.bytes);
        let mut outgrown = std::mem::replace(&mut self.bytes, larger);
        outgrown.as_mut().zeroize();
        Some(outgrown)
    }

    /// The first `count` bytes have left.
    pub(super) fn advance(&mut self, count: usize) {
        self.wipe(0..count);
        self.bytes.advance(count);
        self.secret &= !self.bytes.is_empty();
    }

    /// Takes these bytes out.
    pub(super) fn cut(&mut self, cut: Range<usize>) {
        let rest = close_gap(&mut self.bytes, cut);
        self.wipe(rest..self.bytes.len());
        self.bytes.truncate(rest);
        self.secret &= !self.bytes.is_empty();
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

    /// An empty one gives its memory back.
    pub(super) fn shrink(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            self.bytes = BytesMut::new();
        }
    }
}

impl Deref for Output {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
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
