//! Output that waits for the disk: an acknowledgement leaves when what it acknowledges outlives the process. And which of the
//! output may still leave when the peer is to have no more of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use signet_core::journal::{Call, Journal, Ticket};
use signet_wire::packet_len;

/// So many places in the output of one connection wait for the disk; with as many, nothing more is taken from the peer.
pub(super) const HOLDS_WAITING_MAX: usize = 1024;

/// The places in the output of one connection behind which nothing leaves yet.
#[derive(Debug)]
pub(super) struct Holds {
    /// `None`: nothing is ever held.
    journal: Option<Arc<Journal>>,
    /// How many bytes have left.
    left: u64,
    /// Where the packet ends of which the last part left that was less than it could be; before `left`, whole packets have.
    packet_ends: u64,
    /// Places, counted in bytes from the beginning of the connection, and what each waits for. Both rise.
    waiting: VecDeque<(u64, Ticket)>,
    /// Where the last words begin.
    last_words: Option<u64>,
    /// Calls us for the first of `waiting`.
    settled: Option<(Ticket, Call)>,
    /// Calls us when the journal has room.
    room: Option<Call>,
}

impl Holds {
    pub(super) const fn new(journal: Option<Arc<Journal>>) -> Self {
        Self {
            journal,
            left: 0,
            packet_ends: 0,
            waiting: VecDeque::new(),
            last_words: None,
            settled: None,
            room: None,
        }
    }

    /// What comes behind the `buffered` bytes that have not left waits for `ticket`.
    pub(super) fn push(&mut self, buffered: usize, ticket: Ticket) {
        let place = self.left + buffered as u64;
        match self.waiting.back_mut() {
            Some((last, waits)) if *last == place => *waits = ticket.max(*waits),
            _ => self.waiting.push_back((place, ticket)),
        }
    }

    /// The last words come behind the `buffered` bytes that have not left. They wait for nothing when time runs out.
    pub(super) fn say_last_words(&mut self, buffered: usize) {
        self.last_words = Some(self.left + buffered as u64);
    }

    /// How many of the `buffered` bytes may leave now. `waker` is called when it is more.
    pub(super) fn free(&mut self, buffered: usize, waker: &Waker) -> usize {
        let Some(journal) = &self.journal else { return buffered };
        while let Some((place, ticket)) = self.waiting.front() {
            let called = self.settled.as_ref().is_some_and(|(waits, _)| waits == ticket);
            if !journal.is_settled(*ticket) {
                if !called {
                    self.settled = journal.wake_when_settled(*ticket, waker).map(|call| (*ticket, call));
                }
                if self.settled.is_some() {
                    return usize::try_from(place.saturating_sub(self.left)).unwrap_or(buffered);
                }
            }
            self.settled = None;
            self.waiting.pop_front();
        }
        buffered
    }

    /// So many of the `free` bytes have left. Those are whole packets, but for the first of which a part may have left before.
    pub(super) fn advance(&mut self, free: &[u8], bytes: usize) {
        if bytes < free.len() {
            let mut ends = self.under_way();
            while ends < bytes {
                ends += free.get(ends..).and_then(packet_len).unwrap_or(free.len());
            }
            self.packet_ends = self.left + ends as u64;
        }
        self.left += bytes as u64;
    }

    /// How many bytes are to come of the packet of which a part has left.
    fn under_way(&self) -> usize {
        usize::try_from(self.packet_ends.saturating_sub(self.left)).unwrap_or(usize::MAX)
    }

    /// The peer is to have none of the `buffered` bytes but the rest of a packet that is under way, and the last words: which
    /// are the others. Nothing waits afterwards.
    pub(super) fn withhold(&mut self, buffered: usize) -> Range<usize> {
        let until = self.last_words.map_or(buffered, |place| self.within(place, buffered));
        self.wait_for_nothing();
        self.under_way().min(until)..until
    }

    /// Whether anything waits.
    pub(super) fn any(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether [`HOLDS_WAITING_MAX`] is reached.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= HOLDS_WAITING_MAX
    }

    /// Whether the journal has no room for what the peer wants to have recorded. `waker` is called when it has.
    pub(super) fn journal_is_full(&mut self, waker: &Waker) -> bool {
        let Some(journal) = &self.journal else { return false };
        // Anew each time: the last call may have come, and the room be gone again.
        self.room = if journal.is_full() { journal.wake_when_room(waker) } else { None };
        self.room.is_some()
    }

    /// Time has run out: which of the `buffered` bytes must not leave, since what they acknowledge may be lost. Nothing
    /// waits afterwards.
    pub(super) fn give_up(&mut self, buffered: usize) -> Range<usize> {
        let until = self.last_words.map_or(buffered, |place| self.within(place, buffered));
        let from = self.waiting.front().map_or(until, |(place, _)| self.within(*place, buffered)).min(until);
        self.wait_for_nothing();
        from..until
    }

    /// A place as one in the `buffered` bytes.
    fn within(&self, place: u64, buffered: usize) -> usize {
        usize::try_from(place.saturating_sub(self.left)).unwrap_or(buffered).min(buffered)
    }

    fn wait_for_nothing(&mut self) {
        self.waiting = VecDeque::new();
        self.settled = None;
    }

    /// Gives memory back that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > 0 {
            self.waiting = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PUBLISH of so many bytes in all.
    fn packet(bytes: usize) -> Vec<u8> {
        let head: Vec<u8> = match bytes {
            2..=129 => vec![0x30, u8::try_from(bytes - 2).unwrap()],
            _ => {
                let rest = bytes - 3;
                vec![0x30, u8::try_from(rest % 128).unwrap() | 0x80, u8::try_from(rest / 128).unwrap()]
            }
        };
        [head.clone(), vec![7; bytes - head.len()]].concat()
    }

    #[test]
    fn of_what_is_withheld_the_rest_of_a_packet_under_way_goes_on() {
        let output = [packet(2), packet(129), packet(300), packet(10), packet(4)].concat();
        let ends = [0, 2, 131, 431, 441, 445];
        for left in 0..output.len() {
            let mut holds = Holds::new(None);
            holds.advance(&output, left);
            let rest = output.len() - left;
            let under_way = ends.into_iter().find(|end| *end >= left).unwrap() - left;
            assert_eq!(holds.withhold(rest), under_way..rest, "{left}");
        }
    }

    #[test]
    fn a_packet_that_leaves_in_many_parts_is_under_way_until_its_end() {
        let output = [packet(300), packet(10)].concat();
        let mut holds = Holds::new(None);
        for left in (0..300).step_by(50) {
            holds.advance(&output[left..], 50);
            let rest = 250 - left;
            assert_eq!(holds.withhold(rest + 10), rest..rest + 10);
        }
        holds.advance(&output[300..], 10);
        assert_eq!(holds.withhold(0), 0..0);
    }

    #[test]
    fn the_last_words_are_not_withheld_and_wait_for_nothing() {
        let output = [packet(300), packet(10)].concat();
        let mut holds = Holds::new(None);
        holds.advance(&output, 100);
        holds.push(200, Ticket::NONE);
        holds.say_last_words(210);
        assert_eq!(holds.withhold(220), 200..210);
        assert!(!holds.any());
    }
}
