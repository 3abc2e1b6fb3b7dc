//! How much TLS keeps of what was written to it. It does not say so itself: it follows from what was given to it and what the
//! socket has taken since TLS was empty.

use crate::listener::TLS_BUFFER_BYTES_MAX;

/// The largest plaintext of one record, in bytes.
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// What a record adds to its plaintext: header, tag, and with TLS 1.2 a nonce.
const RECORD_OVERHEAD_BYTES: usize = 29;

/// What TLS has and the socket has not.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    /// When the socket has taken so many bytes, TLS has none left.
    end: u64,
}

impl Unsent {
    /// TLS was given `bytes` more. Before that, the socket had taken `sent` bytes in all, and TLS `wanted_write`.
    pub(super) fn add(&mut self, bytes: usize, sent: u64, wanted_write: bool) {
        let begin = if wanted_write { self.end.max(sent) } else { sent };
        let records = bytes.div_ceil(RECORD_BYTES_MAX);
        self.end = begin + (bytes + records * RECORD_OVERHEAD_BYTES) as u64;
    }

    /// How many bytes TLS keeps when the socket has taken `sent` bytes in all and TLS `wants_write`.
    pub(super) fn bytes(&self, sent: u64, wants_write: bool) -> usize {
        if !wants_write {
            return 0;
        }
        let left = usize::try_from(self.end.saturating_sub(sent)).unwrap_or(usize::MAX);
        // With other records than these the sum goes astray, a few bytes for each. It holds no more than it may.
        left.min(TLS_BUFFER_BYTES_MAX + RECORD_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_message_to_a_slow_peer_counts_as_what_it_is() {
        let mut unsent = Unsent::default();
        unsent.add(200, 5_000, false);
        assert_eq!(unsent.bytes(5_000, true), 229);
        assert_eq!(unsent.bytes(5_100, true), 129, "some of it has left");
        assert_eq!(unsent.bytes(5_222, false), 0, "all of it has");
    }

    #[test]
    fn what_is_given_meanwhile_is_added_and_what_has_left_is_forgotten() {
        let mut unsent = Unsent::default();
        unsent.add(32 * 1024, 1_000, false);
        unsent.add(1_000, 11_000, true);
        let all = 32 * 1024 + 1_000 + 3 * RECORD_OVERHEAD_BYTES;
        assert_eq!(unsent.bytes(11_000, true), all - 10_000);
        unsent.add(50, 100_000, false);
        assert_eq!(unsent.bytes(100_000, true), 79, "it was empty in between");
        unsent.add(50, 200_000, true);
        assert_eq!(unsent.bytes(200_000, true), 79, "what waited was not ours");
    }

    #[test]
    fn it_is_never_more_than_tls_may_hold() {
        let mut unsent = Unsent::default();
        (0..1_000_000).for_each(|_| unsent.add(1, 0, true));
        assert_eq!(unsent.bytes(0, true), TLS_BUFFER_BYTES_MAX + RECORD_BYTES_MAX);
    }
}
