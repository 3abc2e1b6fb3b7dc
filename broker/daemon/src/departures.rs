//! Whose peer has gone is taken down behind the traffic.
//!
//! When a site loses its power or its uplink, thousands of connections end in one moment. To see that a peer has gone costs
//! little, and is done where messages are. What follows (its session is left, its will may be sent, its socket is closed, its
//! memory is given back) costs several times that, and has time: it is done where handshakes are, in portions, in the order in which
//! the peers went. Locks of the core are held there for microseconds, by a thread of low priority: the store's writer, who needs all
//! that belongs together, tries for a while before it keeps messages waiting for it.
//!
//! The places of a peer that has gone are free as soon as that is seen. So that whoever takes one finds a descriptor and
//! memory too, nobody is accepted while many are still to be taken down.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::portions::{Offers, PORTION};

/// While so many whose peer has gone wait to be taken down, no further connection is accepted: their descriptors and memory are
/// not free yet.
const GONE_WAITING_MAX: usize = 64;

/// A connection whose peer has gone.
pub(crate) trait Gone: Send {
    /// Ends it. Nobody waits for that.
    fn take_down(self: Box<Self>);
}

/// Those whose peer has gone, and who are still to be taken down. They are no more than there were connections.
#[derive(Default)]
pub(crate) struct Departures {
    line: Mutex<Line>,
    asked: Notify,
    eased: Notify,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Box<dyn Gone>>,
    /// Nobody takes anybody down any more.
    over: bool,
}

impl Departures {
    /// To be taken down behind those who wait already.
    pub(crate) fn hand_over(&self, gone: Box<dyn Gone>) {
        let mut line = self.line.lock();
        if line.over {
            drop(line);
            drop(gone);
            return;
        }
        line.waiting.push_back(gone);
        drop(line);
        self.asked.notify_one();
    }

    /// Takes down one after the other, for as long as the runtime lasts.
    pub(crate) async fn take_down(self: Arc<Self>, offers: Arc<Offers>) {
        loop {
            self.asked.notified().await;
            while self.take_down_some() {
                offers.offer();
                // Who stops this thread is heard.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes down for a portion's time, and one at least: most take 15 us, one whose will goes to thousands takes longer. Whether
    /// there may be more.
    fn take_down_some(&self) -> bool {
        let begun = Instant::now();
        loop {
            let Some(gone) = self.next() else { return false };
            if catch_unwind(AssertUnwindSafe(|| gone.take_down())).is_err() {
                tracing::error!(
                    "a panic while a connection was taken down; this is a defect, please report it"
                );
            }
            if begun.elapsed() >= PORTION {
                return true;
            }
        }
    }

    fn next(&self) -> Option<Box<dyn Gone>> {
        let mut line = self.line.lock();
        let next = line.waiting.pop_front();
        let left = line.waiting.len();
        if left == 0 {
            // Room for a whole fleet is not kept for the next one that goes.
            line.waiting = VecDeque::new();
        }
        drop(line);
        if next.is_some() && left == GONE_WAITING_MAX - 1 {
            self.eased.notify_waiters();
        }
        next
    }

    /// Resolves when there are not too many who still have to be taken down.
    pub(crate) async fn room(&self) {
        loop {
            let eased = self.eased.notified();
            if self.line.lock().waiting.len() < GONE_WAITING_MAX {
                return;
            }
            eased.await;
        }
    }

    /// The threads have ended: who still waits is dropped, and so is who comes later.
    pub(crate) fn end(&self) {
        let mut line = self.line.lock();
        line.over = true;
        let left = std::mem::take(&mut line.waiting);
        drop(line);
        drop(left);
    }
}

impl std::fmt::Debug for Departures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Departures").field("waiting", &self.line.lock().waiting.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};
    use std::time::Duration;
    use tokio::sync::mpsc;

    const SOON: Duration = Duration::from_secs(20);

    /// Says its name when it is taken down, and 1000 more when it is dropped.
    struct Named(u32, mpsc::UnboundedSender<u32>);

    impl Gone for Named {
        fn take_down(self: Box<Self>) {
            assert_ne!(self.0, 13, "a defect");
            self.1.send(self.0).unwrap();
        }
    }

    impl Drop for Named {
        fn drop(&mut self) {
            let _ = self.1.send(self.0 + 1_000);
        }
    }

    fn one_thread() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    async fn next(told: &mut mpsc::UnboundedReceiver<u32>) -> u32 {
        tokio::time::timeout(SOON, told.recv()).await.expect("nobody goes").unwrap()
    }

    #[test]
    fn those_who_have_gone_are_taken_down_one_after_the_other_in_the_order_in_which_they_went() {
        one_thread().block_on(async {
            let departures = Arc::new(Departures::default());
            let (tell, mut told) = mpsc::unbounded_channel();
            let go = |name| departures.hand_over(Box::new(Named(name, tell.clone())));
            (0..100).for_each(go);
            assert!(told.try_recv().is_err(), "nobody takes them down yet");
            let working = tokio::spawn(Arc::clone(&departures).take_down(Arc::default()));
            (100..200).for_each(go);
            // One of them is a defect: it is dropped, and the others go on.
            for name in 0..200 {
                let mine = if name == 13 { vec![1_013] } else { vec![name, name + 1_000] };
                for expected in mine {
                    assert_eq!(next(&mut told).await, expected);
                }
            }
            assert!(departures.line.lock().waiting.is_empty());
            working.abort();
        });
    }

    /// Takes as long as a portion lasts.
    struct Slow;

    impl Gone for Slow {
        fn take_down(self: Box<Self>) {
            let begun = Instant::now();
            while begun.elapsed() < PORTION {
                std::hint::spin_loop();
            }
        }
    }

    #[test]
    fn others_of_the_thread_have_their_turn_when_a_portion_is_done_however_few_were_taken_down() {
        let departures = Arc::new(Departures::default());
        (0..10).for_each(|_| departures.hand_over(Box::new(Slow)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let working = tokio::spawn(Arc::clone(&departures).take_down(Arc::default()));
            for left in (0..10).rev() {
                tokio::task::yield_now().await;
                assert_eq!(departures.line.lock().waiting.len(), left);
            }
            working.abort();
        });
    }

    #[test]
    fn nobody_is_accepted_while_many_are_still_to_be_taken_down() {
        one_thread().block_on(async {
            let departures = Arc::new(Departures::default());
            let (tell, mut told) = mpsc::unbounded_channel();
            let go = |name| departures.hand_over(Box::new(Named(name, tell.clone())));
            let mut cx = Context::from_waker(Waker::noop());
            (100..99 + GONE_WAITING_MAX as u32).for_each(go);
            departures.room().await;
            go(1);
            let mut room = std::pin::pin!(departures.room());
            assert!(room.as_mut().poll(&mut cx).is_pending());
            let working = tokio::spawn(Arc::clone(&departures).take_down(Arc::default()));
            tokio::time::timeout(SOON, room).await.expect("there is room");
            assert_eq!(next(&mut told).await, 100);
            working.abort();
        });
    }

    #[test]
    fn when_the_threads_have_ended_nobody_is_kept() {
        let departures = Departures::default();
        let (tell, mut told) = mpsc::unbounded_channel();
        let go = |name| departures.hand_over(Box::new(Named(name, tell.clone())));
        go(1);
        assert!(told.try_recv().is_err());
        departures.end();
        assert_eq!(told.try_recv().unwrap(), 1_001);
        go(2);
        assert_eq!(told.try_recv().unwrap(), 1_002);
    }
}
