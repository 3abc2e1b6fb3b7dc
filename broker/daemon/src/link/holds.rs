//! Output that waits for the disk: an acknowledgement leaves when what it acknowledges outlives the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use signet_core::journal::{Call, Journal, Ticket};

/// So many places in the output of one connection wait for the disk; with as many, nothing more is taken from the peer.
pub(super) const HOLDS_WAITING_MAX: usize = 1024;

/// The places in the output of one connection behind which nothing leaves yet.
#[derive(Debug)]
pub(super) struct Holds {
    /// `None`: nothing is ever held.
    journal: Option<Arc<Journal>>,
    /// How many bytes have left.
    left: u64,
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
        Self { journal, left: 0, waiting: VecDeque::new(), last_words: None, settled: None, room: None }
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

    /// So many bytes have left.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.left += bytes as u64;
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
    pub(super) fn give_up(&mut self, buffered: usize) -> std::ops::Range<usize> {
        let within =
            |place: u64| usize::try_from(place.saturating_sub(self.left)).unwrap_or(buffered).min(buffered);
        let until = self.last_words.map_or(buffered, within);
        let from = self.waiting.front().map_or(until, |(place, _)| within(*place)).min(until);
        self.waiting = VecDeque::new();
        self.settled = None;
        from..until
    }

    /// Gives memory back that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > 0 {
            self.waiting = VecDeque::new();
        }
    }
}
