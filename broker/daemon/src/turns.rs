//! Whose handshake goes on next, when more of them have something to do than there are threads.
//!
//! Each step of a handshake (our first flight, the client's certificate and signature) is one turn. Who wants one says so
//! and waits. First come those from whose address somebody good has come lately; every fifth turn is for the others: a
//! stranger may be a device on its first day.
//!
//! Turns go round the source addresses, so that one from which thousands come has as many turns as one from which a single
//! device comes. Those of known addresses go round the authorities before that: the whole fleet of one comes back no faster
//! for being large, and a device of another does not wait for it. Under which authority a client is can be said of who has
//! been here; of a stranger it is known when its certificate has been read, which is in the middle of the turn in which it
//! is verified too: TLS asks for the verdict there and then.
//!
//! What a turn costs is hundreds of times what asking for one does, so all ask before the next one is given.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::admission::Authority;
use crate::portions::Offers;

/// Turns of known addresses before one of the others.
const KNOWN_IN_A_ROW: u32 = 4;
/// While so many of known addresses wait, no further connection is accepted: the kernel keeps them, and nobody has to make
/// room who would have been let in.
const KNOWN_WAITING_MAX: usize = 1024;

/// The right to work; given back when it is dropped.
pub(crate) type Turn = OwnedSemaphorePermit;

/// Who waits for a turn.
type Waiter = oneshot::Sender<Turn>;
/// Those of an address in the order in which they came, and the addresses in the order of their turns.
type ByAddress = Round<IpAddr, VecDeque<Waiter>>;

/// Something out of which one after the other is taken.
trait Queue: Default {
    fn take(&mut self) -> Option<Waiter>;
    fn is_empty(&self) -> bool;
}

impl Queue for VecDeque<Waiter> {
    fn take(&mut self) -> Option<Waiter> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

/// Queues that are taken from in turns.
#[derive(Debug)]
struct Round<K, Q> {
    /// Those that have somebody waiting.
    order: VecDeque<K>,
    queues: HashMap<K, Q, foldhash::quality::RandomState>,
}

impl<K, Q> Default for Round<K, Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::default() }
    }
}

impl<K: Copy + Eq + Hash, Q: Queue> Round<K, Q> {
    /// The queue of `key`, for somebody to be put into it.
    fn of(&mut self, key: K) -> &mut Q {
        let order = &mut self.order;
        self.queues.entry(key).or_insert_with(|| {
            order.push_back(key);
            Q::default()
        })
    }
}

impl<K: Copy + Eq + Hash, Q: Queue> Queue for Round<K, Q> {
    fn take(&mut self) -> Option<Waiter> {
        let key = self.order.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let waiter = queue.take();
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        waiter
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[derive(Debug, Default)]
struct State {
    known: Round<Authority, ByAddress>,
    known_count: usize,
    others: ByAddress,
    known_in_a_row: u32,
}

impl State {
    fn push(&mut self, source: IpAddr, known: Option<Authority>, waiter: Waiter) {
        let queues = match known {
            Some(authority) => self.known.of(authority),
            None => &mut self.others,
        };
        queues.of(source).push_back(waiter);
        self.known_count += usize::from(known.is_some());
    }

    /// Who is next. Those that have gone meanwhile leave with the ones before whom they would have had a turn: a flood of
    /// strangers that give up does not stay here, and takes no turn from one that waits.
    fn pop(&mut self) -> Option<Waiter> {
        let known_first = self.known_in_a_row < KNOWN_IN_A_ROW || self.others.is_empty();
        if known_first && let Some(waiter) = self.take_known() {
            self.known_in_a_row = self.known_in_a_row.saturating_add(1);
            return Some(waiter);
        }
        self.known_in_a_row = 0;
        let stranger = std::iter::from_fn(|| self.others.take()).find(|waiter| !waiter.is_closed());
        stranger.or_else(|| self.take_known())
    }

    fn take_known(&mut self) -> Option<Waiter> {
        while let Some(waiter) = self.known.take() {
            self.known_count -= 1;
            if !waiter.is_closed() {
                return Some(waiter);
            }
        }
        None
    }
}

/// The turns of all handshakes of a broker.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    asked: Notify,
    eased: Notify,
    places: Arc<Semaphore>,
    offers: Arc<Offers>,
}

impl Turns {
    /// So many may work at once, and make `offers` after each turn.
    pub(crate) fn new(at_once: usize, offers: Arc<Offers>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            asked: Notify::new(),
            eased: Notify::new(),
            places: Arc::new(Semaphore::new(at_once.max(1))),
            offers,
        })
    }

    fn ask(&self, source: IpAddr, known: Option<Authority>) -> oneshot::Receiver<Turn> {
        let (give, take) = oneshot::channel();
        self.state.lock().push(source, known, give);
        self.asked.notify_one();
        take
    }

    fn pop(&self) -> Option<Waiter> {
        let mut state = self.state.lock();
        let before = state.known_count;
        let waiter = state.pop();
        let eased = before >= KNOWN_WAITING_MAX && state.known_count < KNOWN_WAITING_MAX;
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
            if self.state.lock().known_count < KNOWN_WAITING_MAX {
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
    known: Option<Authority>,
    asked: Option<oneshot::Receiver<Turn>>,
}

impl<F: Future> InTurn<F> {
    /// `known` is the authority of those who are known at the address.
    pub(crate) fn new(turns: &Arc<Turns>, source: IpAddr, known: Option<Authority>, inner: F) -> Self {
        Self { inner: Box::pin(inner), turns: Arc::clone(turns), source, known, asked: None }
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let asked = this.asked.get_or_insert_with(|| {
            this.turns.offers.offer();
            this.turns.ask(this.source, this.known)
        });
        // When nobody gives turns any more, the broker stops.
        let turn = ready!(Pin::new(asked).poll(cx));
        this.asked = None;
        let polled = this.inner.as_mut().poll(cx);
        drop(turn);
        this.turns.offers.offer();
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    fn authority(n: u8) -> Authority {
        Authority::of([n; 32])
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// The order in which these ask, and are served: each has an address, and an authority where that is known.
    fn served(asking: &[(u32, Option<u8>)]) -> Vec<u32> {
        let turns = Turns::new(1, Arc::default());
        let ask = |(n, known): &(u32, Option<u8>)| (*n, turns.ask(source(*n), known.map(authority)));
        let mut taken: Vec<_> = asking.iter().map(ask).collect();
        let mut order = Vec::new();
        while let Some(waiter) = turns.pop() {
            let turn = Arc::clone(&turns.places).try_acquire_owned().unwrap();
            waiter.send(turn).unwrap();
            let place = taken.iter_mut().position(|(_, take)| take.try_recv().is_ok()).unwrap();
            order.push(taken.remove(place).0);
        }
        assert_eq!(turns.state.lock().known_count, 0);
        order
    }

    #[test]
    fn turns_go_round_the_addresses() {
        for known in [None, Some(1)] {
            let asking = [1, 1, 1, 1, 2, 3, 2].map(|n| (n, known));
            assert_eq!(served(&asking), [1, 2, 3, 1, 2, 1, 1]);
        }
    }

    #[test]
    fn strangers_that_have_gone_take_no_turn_and_no_place() {
        let turns = Turns::new(1, Arc::default());
        let known: Vec<_> = (0..6).map(|n| turns.ask(source(n), Some(authority(1)))).collect();
        drop((100..1_100).map(|n| turns.ask(source(n), None)).collect::<Vec<_>>());
        let mut last = turns.ask(source(5_000), None);
        for _ in 0..4 {
            turns.pop().unwrap();
        }
        let fifth = turns.pop().unwrap();
        fifth.send(Arc::clone(&turns.places).try_acquire_owned().unwrap()).unwrap();
        assert!(last.try_recv().is_ok(), "the fifth turn is for a stranger, and only one of them waits");
        assert!(turns.state.lock().others.is_empty());
        drop(known);
        assert!(turns.pop().is_none());
        assert_eq!(turns.state.lock().known_count, 0);
    }

    #[test]
    fn turns_of_the_known_go_round_the_authorities_first() {
        let asking = [
            (1, Some(1)),
            (2, Some(1)),
            (3, Some(1)),
            (1, Some(1)),
            (7, Some(2)),
            (8, Some(2)),
            (9, Some(3)),
        ];
        assert_eq!(served(&asking), [1, 7, 9, 2, 8, 3, 1]);
    }

    #[test]
    fn a_thousand_peers_of_one_authority_do_not_keep_a_device_of_another_waiting() {
        let mut asking: Vec<_> = (0..1_000).map(|n| (n, Some(1))).collect();
        asking.extend((2_000..3_000).map(|n| (n, None)));
        asking.push((5_000, Some(2)));
        let place = served(&asking).iter().position(|n| *n == 5_000).unwrap();
        assert!(place <= 2, "{place} had a turn before");
    }

    #[test]
    fn known_addresses_go_first_and_strangers_are_not_forgotten() {
        let mut asking = vec![(9, None), (9, None)];
        asking.extend((0..8).map(|_| (1, Some(1))));
        assert_eq!(served(&asking), [1, 1, 1, 1, 9, 1, 1, 1, 1, 9]);
    }

    #[test]
    fn who_has_gone_does_not_keep_others_waiting() {
        runtime().block_on(async {
            let turns = Turns::new(1, Arc::default());
            drop(turns.ask(source(1), Some(authority(1))));
            let giving = tokio::spawn(Arc::clone(&turns).give());
            for _ in 0..100 {
                assert_eq!(InTurn::new(&turns, source(2), None, async { 7 }).await, 7);
            }
            giving.abort();
        });
    }

    #[test]
    fn no_more_work_at_once_than_there_are_turns_and_all_of_it_is_done() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        runtime.block_on(async {
            let turns = Turns::new(2, Arc::default());
            let giving = tokio::spawn(Arc::clone(&turns).give());
            let (now, most) = (
                Arc::new(std::sync::atomic::AtomicUsize::new(0)),
                Arc::new(std::sync::atomic::AtomicUsize::new(0)),
            );
            let work = |n: u32| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                let step = std::future::poll_fn(move |_| {
                    let at_once = now.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                    most.fetch_max(at_once, std::sync::atomic::Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    Poll::Ready(())
                });
                tokio::spawn(InTurn::new(&turns, source(n), n.is_multiple_of(2).then(|| authority(1)), step))
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
            let turns = Turns::new(1, Arc::default());
            turns.room().await;
            let held: Vec<_> =
                (0..KNOWN_WAITING_MAX).map(|_| turns.ask(source(1), Some(authority(1)))).collect();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut room = std::pin::pin!(turns.room());
            assert!(room.as_mut().poll(&mut cx).is_pending());
            drop(turns.pop());
            assert!(room.as_mut().poll(&mut cx).is_ready());
            // Strangers close the door to nobody.
            let strangers: Vec<_> = (0..KNOWN_WAITING_MAX * 2).map(|_| turns.ask(source(2), None)).collect();
            turns.room().await;
            drop((held, strangers));
        });
    }
}
