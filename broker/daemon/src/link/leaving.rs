//! Connections whose peer has gone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use signet_core::{Input, Now};
use tokio::io::AsyncWrite as _;

use super::Link;
use crate::departures::Gone;

/// How a peer has gone.
pub(super) enum Leaving {
    /// It has said so, with TLS's close_notify.
    Said,
    /// It has closed without a word.
    Closed,
    /// The network took it away.
    Lost(io::Error),
}

impl Link {
    /// The peer has gone. What follows is done behind the traffic, when nothing is to be said to it any more: then this is ready,
    /// and [`super::run`] hands it over. It may have closed its half only, and still read.
    pub(super) fn leave(&mut self, how: Leaving, cx: &mut Context<'_>, now: Now) -> Poll<()> {
        let lost = matches!(how, Leaving::Lost(_));
        if lost || (self.outbound.is_empty() && !self.stream.get_ref().1.wants_write()) {
            // Should it be half-open, its place is free.
            self.bounds.is_known();
            self.leaving = Some(Box::new(how));
            return Poll::Ready(());
        }
        self.input(Input::PeerClosed, now);
        self.poll_farewell(cx, now)
    }

    fn part(&mut self) {
        let now = self.broker.clock.now();
        match self.leaving.take().as_deref() {
            Some(Leaving::Said) => {
                // It may wait for ours.
                self.stream.get_mut().0.close_at_once();
                let _ = Pin::new(&mut self.stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
            }
            Some(Leaving::Lost(error)) => {
                tracing::debug!(id = self.registration.live().number, %error, "the connection was lost");
            }
            Some(Leaving::Closed) | None => {}
        }
        self.input(Input::PeerClosed, now);
    }
}

impl Gone for Link {
    fn take_down(mut self: Box<Self>) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.part())).is_err() {
            self.after_a_panic();
        }
    }
}
