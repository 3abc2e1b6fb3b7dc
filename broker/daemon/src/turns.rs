//! Whose handshake goes on next, when more of them have something to do than there are threads.
//!
//! Each step of a handshake (our first flight, the client's certificate and signature) is one turn. Who wants one says so
//! and waits; turns go round the source addresses, so that one from which thousands come has as many turns as one from
//! which a single device comes, and to those first from which somebody good has come lately. Every fifth turn is for the
//! others: a stranger may be a device on its first day.
//!
//! What a turn costs is hundreds of times what asking for one does, so all ask before the next one is given.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// Turns of known addresses before one of the others.
const KNOWN_IN_A_ROW: u32 = 4;
/// While so many of known addresses wait, no further connection is accepted: the kernel keeps them, and nobody has to make
/// room who would have been let in.
const KNOWN_WAITING_MAX: usize = 1024;

/// The right to work; given back when it is dropped.
pub(crate) type Turn = OwnedSemaphorePermit;

/// Those who wait, by address.
#[derive(Debug, Default)]
struct Waiting {
    /// The addresses that have somebody waiting, in the order of their turns.
    round: VecDeque<IpAddr>,
    queues: HashMap<IpAddr, VecDeque<oneshot::Sender<Turn>>, foldhash::quality::RandomState>,
    count: usize,
}

impl Waiting {
    fn push(&mut self, source: IpAddr, waiter: oneshot::Sender<Turn>) {
        let queue = self.queues.entry(source).or_default();
        if queue.is_empty() {
            self.round.push_back(source);
        }
        queue.push_back(waiter);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<oneshot::Sender<Turn>> {
        let source = self.round.pop_front()?;
        let queue = self.queues.get_mut(&source)?;
        let waiter = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&source);
        } else {
            self.round.push_back(source);
        }
        self.count -= usize::from(waiter.is_some());
        waiter
    }
}

#[derive(Debug, Default)]
struct State {
    known: Waiting,
    others: Waiting,
    known_in_a_row: u32,
}

impl State {
    fn pop(&mut self) -> Option<oneshot::Sender<Turn>> {
        let known_first = self.known_in_a_row < KNOWN_IN_A_ROW || self.others.count == 0;
        if known_first && let Some(waiter) = self.known.pop() {
            self.known_in_a_row = self.known_in_a_row.saturating_add(1);
            return Some(waiter);
        }
        self.known_in_a_row = 0;
        self.others.pop()
    }
}

/// The turns of all handshakes of a broker.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    asked: Notify,
    eased: Notify,
    places: Arc<Semaphore>,
}

impl Turns {
    /// So many may work at once.
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            asked: Notify::new(),
            eased: Notify::new(),
            places: Arc::new(Semaphore::new(at_once.max(1))),
        })
    }

    fn ask(&self, source: IpAddr, known: bool) -> oneshot::Receiver<Turn> {
        let (give, take) = oneshot::channel();
        let mut state = self.state.lock();
        let waiting = if known { &mut state.known } else { &mut state.others };
        waiting.push(source, give);
        drop(state);
        self.asked.notify_one();
        take
    }

    fn pop(&self) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.state.lock();
        let before = state.known.count;
        let waiter = state.pop();
        let eased = before >= KNOWN_WAITING_MAX && state.known.count < KNOWN_WAITING_MAX;
        drop(state);
        if eased {
            self.eased.notify_waiters();
        }
        waiter
    }

    /// Gives the turns, for as long as the runtime lasts.
    pub(crate) async fn give(self: Arc<Self>) {
        loop {
            let Ok(mut turn) = Arc::clone(&self.places).acquire_owned().await else { return };
            // Whoever was woken meanwhile asks first.
            tokio::task::yield_now().await;
            loop {
                match self.pop() {
                    Some(waiter) => match waiter.send(turn) {
                        Ok(()) => break,
                        // It is gone; the next one has its turn.
                        Err(back) => turn = back,
                    },
                    None => {
                        self.asked.notified().await;
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// Resolves when there are not too many waiting for whom it is worth to wait.
    pub(crate) async fn room(&self) {
        loop {
            let eased = self.eased.notified();
            if self.state.lock().known.count < KNOWN_WAITING_MAX {
                return;
            }
            eased.await;
        }
    }
}

/// A future that is polled in turns only.
pub(crate) struct InTurn<F> {
    inner: Pin<Box<F>>,
    turns: Arc<Turns>,
    source: IpAddr,
    known: bool,
    asked: Option<oneshot::Receiver<Turn>>,
}

impl<F: Future> InTurn<F> {
    pub(crate) fn new(turns: &Arc<Turns>, source: IpAddr, known: bool, inner: F) -> Self {
        Self { inner: Box::pin(inner), turns: Arc::clone(turns), source, known, asked: None }
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let asked = this.asked.get_or_insert_with(|| this.turns.ask(this.source, this.known));
        // When nobody gives turns any more, the broker stops.
        let turn = ready!(Pin::new(asked).poll(cx));
        this.asked = None;
        let polled = this.inner.as_mut().poll(cx);
        drop(turn);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// The order in which these ask, and are served.
    fn served(asking: &[(u8, bool)]) -> Vec<u8> {
        let turns = Turns::new(1);
        let mut taken: Vec<_> = asking.iter().map(|(n, known)| (*n, turns.ask(source(*n), *known))).collect();
        let mut order = Vec::new();
        while let Some(waiter) = turns.pop() {
            let turn = Arc::clone(&turns.places).try_acquire_owned().unwrap();
            waiter.send(turn).unwrap();
            let place = taken.iter_mut().position(|(_, take)| take.try_recv().is_ok()).unwrap();
            order.push(taken.remove(place).0);
        }
        order
    }

    #[test]
    fn turns_go_round_the_addresses() {
        let asking = [(1, false), (1, false), (1, false), (1, false), (2, false), (3, false), (2, false)];
        assert_eq!(served(&asking), [1, 2, 3, 1, 2, 1, 1]);
    }

    #[test]
    fn known_addresses_go_first_and_strangers_are_not_forgotten() {
        let mut asking = vec![(9, false), (9, false)];
        asking.extend((0..8).map(|_| (1, true)));
        assert_eq!(served(&asking), [1, 1, 1, 1, 9, 1, 1, 1, 1, 9]);
    }

    #[test]
    fn who_has_gone_does_not_keep_others_waiting() {
        runtime().block_on(async {
            let turns = Turns::new(1);
            drop(turns.ask(source(1), true));
            let giving = tokio::spawn(Arc::clone(&turns).give());
            for _ in 0..100 {
                assert_eq!(InTurn::new(&turns, source(2), false, async { 7 }).await, 7);
            }
            giving.abort();
        });
    }

    #[test]
    fn no_more_work_at_once_than_there_are_turns_and_all_of_it_is_done() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        runtime.block_on(async {
            let turns = Turns::new(2);
            let giving = tokio::spawn(Arc::clone(&turns).give());
            let (now, most) = (
                Arc::new(std::sync::atomic::AtomicUsize::new(0)),
                Arc::new(std::sync::atomic::AtomicUsize::new(0)),
            );
            let work = |n: u8| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                let step = std::future::poll_fn(move |_| {
                    let at_once = now.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                    most.fetch_max(at_once, std::sync::atomic::Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    Poll::Ready(())
                });
                tokio::spawn(InTurn::new(&turns, source(n), n.is_multiple_of(2), step))
            };
            for task in (0..200).map(work).collect::<Vec<_>>() {
                task.await.unwrap();
            }
            assert!((1..=2).contains(&most.load(std::sync::atomic::Ordering::SeqCst)));
            giving.abort();
        });
    }

    #[test]
    fn nobody_is_accepted_while_too_many_wait_who_are_known() {
        runtime().block_on(async {
            let turns = Turns::new(1);
            turns.room().await;
            let held: Vec<_> = (0..KNOWN_WAITING_MAX).map(|_| turns.ask(source(1), true)).collect();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut room = std::pin::pin!(turns.room());
            assert!(room.as_mut().poll(&mut cx).is_pending());
            drop(turns.pop());
            assert!(room.as_mut().poll(&mut cx).is_ready());
            // Strangers close the door to nobody.
            let strangers: Vec<_> = (0..KNOWN_WAITING_MAX * 2).map(|_| turns.ask(source(2), false)).collect();
            turns.room().await;
            drop((held, strangers));
        });
    }
}
