//! Whose peer has gone is taken down in turn.
//!
//! When a site loses its power or its uplink, thousands of connections end in one moment. To see that a peer has gone costs
//! little; what follows (its session is left, its will may be sent, its memory is given back) costs several times that, has
//! time, and is done on the threads of the traffic. In turn, so that no message waits for more than a few of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// So many are taken down at once. All others wait; they are no more than there were connections.
const AT_ONCE: usize = 1;

/// The turns of those whose peer has gone.
#[derive(Debug)]
pub(crate) struct Departures(Arc<Semaphore>);

impl Default for Departures {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Departures {
    /// A place behind those who wait already.
    pub(crate) fn line_up(&self) -> Departure {
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(turn) => Departure::Now { _turn: turn },
            Err(_) => Departure::Waits(Box::pin(Arc::clone(&self.0).acquire_owned())),
        }
    }
}

/// A place among those who wait to be taken down.
pub(crate) enum Departure {
    Now { _turn: Turn },
    Waits(Pin<Box<dyn Future<Output = Result<Turn, AcquireError>> + Send>>),
}

/// The right to be taken down now; given back when it is dropped.
pub(crate) type Turn = OwnedSemaphorePermit;

impl Departure {
    /// Resolves when it is this one's turn; then it may be dropped once what is to be done is done.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Waits(waiting) = self {
            match waiting.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(turn)) => *self = Self::Now { _turn: turn },
                // Nobody closes the semaphore.
                Poll::Ready(Err(_)) => {}
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn those_who_have_gone_are_taken_down_one_after_the_other_in_the_order_in_which_they_went() {
        let departures = Departures::default();
        let mut cx = Context::from_waker(Waker::noop());
        let [mut first, mut second, mut third] = [(); 3].map(|()| departures.line_up());
        assert!(first.poll(&mut cx).is_ready());
        for _ in 0..2 {
            assert!(second.poll(&mut cx).is_pending());
            assert!(third.poll(&mut cx).is_pending());
        }
        drop(first);
        assert!(third.poll(&mut cx).is_pending());
        assert!(second.poll(&mut cx).is_ready());
        drop(second);
        assert!(third.poll(&mut cx).is_ready());
    }

    #[test]
    fn one_that_does_not_wait_any_more_keeps_nobody_waiting() {
        let departures = Departures::default();
        let mut cx = Context::from_waker(Waker::noop());
        let [first, mut second, mut third] = [(); 3].map(|()| departures.line_up());
        assert!(second.poll(&mut cx).is_pending());
        assert!(third.poll(&mut cx).is_pending());
        drop((second, first));
        assert!(third.poll(&mut cx).is_ready());
    }
}
