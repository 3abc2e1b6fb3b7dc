//! Connections whose peer has gone.

use std::io;
use std::task::{Context, Poll};

use signet_core::{Input, Now};

use super::Link;
use crate::departures::Departure;

/// A connection whose peer has gone.
pub(super) struct Leaving {
    /// How, when it did not say so.
    lost: Option<io::Error>,
    place: Departure,
}

impl Link {
    /// The peer has gone; what follows waits for its turn.
    pub(super) fn leave(&mut self, lost: Option<io::Error>) {
        let place = self.broker.departures.line_up();
        self.leaving = Some(Box::new(Leaving { lost, place }));
    }

    pub(super) fn poll_leaving(&mut self, cx: &mut Context<'_>, now: Now) -> Poll<()> {
        // Somebody waits for this one: a newer connection with its session, or who wants it closed.
        let at_once = self.connection.is_summoned();
        let waits = |leaving: &mut Box<Leaving>| !at_once && leaving.place.poll(cx).is_pending();
        if self.leaving.as_mut().is_some_and(waits) {
            return Poll::Pending;
        }
        // Its turn is over at the end of this.
        let leaving = self.leaving.take();
        if let Some(error) = leaving.as_ref().and_then(|leaving| leaving.lost.as_ref()) {
            return self.lost(error, now);
        }
        self.input(Input::PeerClosed, now);
        self.poll_farewell(cx, now)
    }
}
