//! The connections of one address, counted against its `max-connections`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::admission::{Entrance, Ticket};

/// Connections beyond `max-connections` for as long as half-open peers make room for them; the reserve of descriptors has
/// more.
const OVER_MAX: usize = 32;

/// How many connections are open, those in their handshake included.
#[derive(Debug)]
pub(crate) struct Seats {
    taken: Arc<AtomicUsize>,
    entrance: Entrance,
}

/// A connection's place among them; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Seats {
    /// All free, at an entrance of their own.
    pub(crate) fn new() -> Self {
        Self { taken: Arc::default(), entrance: Entrance::another() }
    }

    /// Where those come to that sit here.
    pub(crate) fn entrance(&self) -> Entrance {
        self.entrance
    }

    /// How many there are.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// A place for a new connection. When all `most` are taken, a peer that came to the same
    /// entrance and has not shown who it is makes room.
    pub(crate) fn take(&self, most: usize, newcomer: &Ticket) -> Option<Seat> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // One that is too many counts itself out again.
        let seat = Seat(Arc::clone(&self.taken));
        let room = before < most || (before < most + OVER_MAX && newcomer.displaces_another());
        room.then_some(seat)
    }
}
