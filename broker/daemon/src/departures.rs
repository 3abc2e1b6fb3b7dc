//! Whose peer has gone is taken down in turn.
//!
//! When a site loses its power or its uplink, thousands of connections end in one moment. To see that a peer has gone costs
//! little; what follows (its session is left, its will may be sent, its memory is given back) costs several times that, has
//! time, and is done on the threads of the traffic. So each of these threads takes down one at a time, and looks for messages
//! that have come before it goes on with the next. Were they to follow one another on their own, tokio would let each that
//! ends its turn be followed by the one that it wakes, before anything else, and would look for what has come after more than
//! two hundred of them only: 4 ms.
//!
//! While one thread of the traffic works, another may have been woken for a message and wait for the same processor, for as
//! long as the kernel lets the first one go on: that can be 4 ms too. So a thread pauses after a few. Whoever is waited for
//! (by a newer connection with its session, or by who wants it closed) does not wait for its turn.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// So many connections whose peer has gone are taken down by a thread, 20 us each, before it pauses.
const IN_A_ROW_MAX: u32 = 8;
/// The pause: the least that the timer of the runtime can do. With it, a thread takes down four thousand in a second or more;
/// half a thread does handshakes for each thread of the traffic, and as many come from there at most.
const PAUSE: Duration = Duration::from_millis(1);

/// The turns of those whose peer has gone.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    waiting: Mutex<VecDeque<oneshot::Sender<Turn>>>,
    asked: Notify,
}

impl Departures {
    /// A place behind those who wait already.
    pub(crate) fn line_up(&self) -> Departure {
        let (give, take) = oneshot::channel();
        self.waiting.lock().push_back(give);
        self.asked.notify_one();
        Departure::Waits(take)
    }

    /// Gives turns, one at a time, for as long as the runtime lasts. To be run once for each thread of the runtime.
    pub(crate) async fn give(self: Arc<Self>) {
        loop {
            for _ in 0..IN_A_ROW_MAX {
                self.give_one().await;
                // The runtime goes on with this when it has looked for what has come, and that goes first.
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Gives a turn to whoever is next, and waits until it is over.
    async fn give_one(&self) {
        loop {
            let Some(next) = self.next() else {
                self.asked.notified().await;
                continue;
            };
            let (turn, over) = oneshot::channel();
            if next.send(Turn { _over: turn }).is_ok() {
                // Nothing is ever sent: it is over when the turn is dropped.
                let _ = over.await;
                return;
            }
        }
    }

    /// Who is next. One that does not wait any more has no turn.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut waiting = self.waiting.lock();
        let next = std::iter::from_fn(|| waiting.pop_front()).find(|waiter| !waiter.is_closed());
        if waiting.is_empty() {
            // Room for a whole fleet is not kept for the next one that goes.
            *waiting = VecDeque::new();
        } else {
            // Those who asked at the same time woke one thread only.
            self.asked.notify_one();
        }
        next
    }
}

/// A place among those who wait to be taken down.
pub(crate) enum Departure {
    Now { _turn: Option<Turn> },
    Waits(oneshot::Receiver<Turn>),
}

/// The right to be taken down now; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _over: oneshot::Sender<()>,
}

impl Departure {
    /// Resolves when it is this one's turn; then it may be dropped once what is to be done is done.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Waits(turn) = self {
            // When nobody gives turns any more, the broker stops, and it may go.
            let turn = ready!(Pin::new(turn).poll(cx)).ok();
            *self = Self::Now { _turn: turn };
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Waker;
    use tokio::sync::mpsc;

    const SOON: Duration = Duration::from_secs(20);

    fn one_thread() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Goes in its turn, and says so.
    fn goes(departures: &Departures, name: u32, told: &mpsc::UnboundedSender<u32>) {
        let (mut place, told) = (departures.line_up(), told.clone());
        tokio::spawn(async move {
            poll_fn(|cx| place.poll(cx)).await;
            told.send(name).unwrap();
        });
    }

    async fn next(told: &mut mpsc::UnboundedReceiver<u32>) -> u32 {
        tokio::time::timeout(SOON, told.recv()).await.expect("nobody goes").unwrap()
    }

    #[test]
    fn those_who_have_gone_are_taken_down_one_after_the_other_in_the_order_in_which_they_went() {
        one_thread().block_on(async {
            let departures = Arc::new(Departures::default());
            let mut cx = Context::from_waker(Waker::noop());
            let [mut first, mut second] = [(); 2].map(|()| departures.line_up());
            assert!(first.poll(&mut cx).is_pending(), "nobody gives turns yet");
            let giving = tokio::spawn(Arc::clone(&departures).give());
            poll_fn(|cx| first.poll(cx)).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
                assert!(second.poll(&mut cx).is_pending(), "the first one has not ended its turn");
            }
            drop(first);
            poll_fn(|cx| second.poll(cx)).await;
            drop(second);
            let (tell, mut told) = mpsc::unbounded_channel();
            (0..100).for_each(|name| goes(&departures, name, &tell));
            for name in 0..100 {
                assert_eq!(next(&mut told).await, name);
            }
            giving.abort();
        });
    }

    #[test]
    fn as_many_at_a_time_as_there_are_threads_and_no_more() {
        one_thread().block_on(async {
            let departures = Arc::new(Departures::default());
            let giving: Vec<_> = (0..3).map(|_| tokio::spawn(Arc::clone(&departures).give())).collect();
            // All givers wait by then.
            tokio::task::yield_now().await;
            let mut cx = Context::from_waker(Waker::noop());
            let mut going: Vec<_> = (0..5).map(|_| departures.line_up()).collect();
            for place in &mut going[..3] {
                poll_fn(|cx| place.poll(cx)).await;
            }
            for _ in 0..100 {
                tokio::task::yield_now().await;
                assert!(going[3].poll(&mut cx).is_pending());
            }
            going.remove(0);
            poll_fn(|cx| going[2].poll(cx)).await;
            assert!(going[3].poll(&mut cx).is_pending());
            giving.into_iter().for_each(|giver| giver.abort());
        });
    }

    #[test]
    fn one_that_does_not_wait_any_more_keeps_nobody_waiting() {
        one_thread().block_on(async {
            let departures = Arc::new(Departures::default());
            let mut cx = Context::from_waker(Waker::noop());
            let mut first = departures.line_up();
            let others: Vec<_> = (0..1_000).map(|_| departures.line_up()).collect();
            let mut last = departures.line_up();
            assert!(first.poll(&mut cx).is_pending() && last.poll(&mut cx).is_pending());
            drop((first, others));
            let giving = tokio::spawn(Arc::clone(&departures).give());
            poll_fn(|cx| last.poll(cx)).await;
            assert!(departures.waiting.lock().is_empty());
            giving.abort();
        });
    }

    #[test]
    fn others_of_the_thread_go_on_between_any_two_that_are_taken_down() {
        one_thread().block_on(async {
            let departures = Arc::new(Departures::default());
            let (tell, mut told) = mpsc::unbounded_channel();
            let rounds = Arc::new(AtomicU32::new(0));
            let (counted, going) = (Arc::clone(&rounds), IN_A_ROW_MAX * 3);
            let messages = tokio::spawn(async move {
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            });
            for _ in 0..going {
                let (mut place, tell, rounds) = (departures.line_up(), tell.clone(), Arc::clone(&rounds));
                tokio::spawn(async move {
                    poll_fn(|cx| place.poll(cx)).await;
                    tell.send(rounds.load(Ordering::Relaxed)).unwrap();
                });
            }
            let giving = tokio::spawn(Arc::clone(&departures).give());
            let mut before = 0;
            for _ in 0..going {
                let now = next(&mut told).await;
                assert!(now > before, "two were taken down while others waited");
                before = now;
            }
            messages.abort();
            giving.abort();
        });
    }

    #[test]
    fn an_endless_stream_of_other_work_keeps_nobody_from_being_taken_down() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let departures = Arc::new(Departures::default());
            let busy: Vec<_> = (0..200)
                .map(|_| {
                    tokio::spawn(poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        Poll::<()>::Pending
                    }))
                })
                .collect();
            let giving = tokio::spawn(Arc::clone(&departures).give());
            let (tell, mut told) = mpsc::unbounded_channel();
            (0..200).for_each(|name| goes(&departures, name, &tell));
            for name in 0..200 {
                assert_eq!(next(&mut told).await, name);
            }
            busy.into_iter().for_each(|task| task.abort());
            giving.abort();
        });
    }
}
