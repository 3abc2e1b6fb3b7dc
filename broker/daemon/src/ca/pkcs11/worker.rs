//! The one thread that speaks to a token, and the deadline of those who wait for it.
//!
//! The code behind PKCS #11 is its vendor's, and it may wait for a device or a network for ever. So nobody calls it: what
//! is wanted of a token is handed to the token's thread, and who wants it waits no longer than [`DEADLINE`]. While a call
//! is overdue nothing more is asked of the token, and everybody is told so at once. When the call ends after all, the
//! token is used again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use signet_config::Pkcs11;

/// How long somebody waits for a token: for a signature, or until it is open.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How long somebody waits until a token has made a key pair. Only `signet ca init` does.
pub(super) const KEY_PAIR_DEADLINE: Duration = Duration::from_secs(120);
/// The most calls that wait for one token; more are refused at once.
pub const CALLS_WAITING_MAX: usize = 256;

/// The threads of this process, one for each token. A module has one state for the process and stays loaded, so a token's
/// thread stays too; there are as many as tokens were ever named.
static WORKERS: Mutex<Vec<(PathBuf, String, Arc<Worker>)>> = Mutex::new(Vec::new());

/// Why nothing came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// It did not end within the deadline. It may still end, and what it gives is thrown away.
    Overdue(Duration),
    /// Another call has been overdue since, and this one was not made.
    Stuck(Duration),
    /// Too many calls wait already.
    Full,
    /// The call ended by a panic, or the thread could not be started.
    Failed,
}

impl Late {
    /// In words, with what to do.
    pub(super) fn explain(self, token: &str) -> String {
        let said = match self {
            Self::Overdue(after) => {
                format!("the token {token:?} did not answer within {} seconds", after.as_secs())
            }
            Self::Stuck(since) => format!(
                "the token {token:?} has not answered for {} seconds, and is asked nothing more until it does",
                since.as_secs()
            ),
            Self::Full => {
                format!(
                    "{CALLS_WAITING_MAX} calls wait for the token {token:?} already: it is slower than what is asked of it"
                )
            }
            Self::Failed => format!("a call of the token {token:?} ended by a defect of its driver"),
        };
        format!(
            "{said}\n  hint: see that the token and the way to it are well, with its vendor's tool; it is used again as soon as it \
             answers, and if its driver never comes back to itself, restart the broker"
        )
    }
}

/// What is known of a token's thread.
#[derive(Debug, Default)]
pub struct TokenWatch {
    /// The token's label or serial number.
    token: String,
    /// Calls that missed their deadline.
    overdue: AtomicU64,
    /// Calls that were not made, because another was overdue or too many waited.
    refused: AtomicU64,
    /// Calls that wait or are made.
    waiting: AtomicUsize,
    /// Since when the present call is being made, and by when it is to be over.
    present: Mutex<Option<(Instant, Duration)>>,
}

impl TokenWatch {
    /// The label or serial number that the settings have for the token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// How many calls missed their deadline since the process began.
    #[must_use]
    pub fn overdue(&self) -> u64 {
        self.overdue.load(Ordering::Relaxed)
    }

    /// How many calls were not made since the process began, because another was overdue or too many waited.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// For how long the present call has been going on, when that is longer than it may.
    #[must_use]
    pub fn stuck_for(&self) -> Option<Duration> {
        let (since, deadline) = (*self.present.lock())?;
        Some(since.elapsed()).filter(|lasted| *lasted >= deadline)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread of one token.
#[derive(Debug)]
pub(super) struct Worker {
    watch: Arc<TokenWatch>,
    jobs: SyncSender<Job>,
}

/// One of the calls that wait.
struct Place(Arc<TokenWatch>);

impl Place {
    fn take(watch: &Arc<TokenWatch>) -> Option<Self> {
        let place = Self(Arc::clone(watch));
        (watch.waiting.fetch_add(1, Ordering::Relaxed) < CALLS_WAITING_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The call that is being made, until it is dropped.
struct Present(Arc<TokenWatch>);

impl Present {
    fn begin(watch: &Arc<TokenWatch>, within: Duration) -> Self {
        *watch.present.lock() = Some((Instant::now(), within));
        Self(Arc::clone(watch))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        *self.0.present.lock() = None;
    }
}

/// Waits until the tokens of this process are at rest, no longer than `within` for each. The end of a process unloads the
/// modules, and one that is in the middle of closing a session then has nothing to stand on.
pub fn rest(within: Duration) {
    let workers: Vec<_> = WORKERS.lock().iter().map(|(_, _, worker)| Arc::clone(worker)).collect();
    for worker in workers {
        // Calls are made in order, so what was asked before is done when this is. A token that hangs is left alone.
        let _ = worker.run(within, || ());
    }
}

impl Worker {
    /// The thread of the token that `settings` name, the same one for all who name it.
    pub(super) fn of(settings: &Pkcs11) -> Result<Arc<Self>, Late> {
        let mut workers = WORKERS.lock();
        let is_it = |(module, token, _): &&(PathBuf, String, _)| {
            *module == settings.module && *token == settings.token
        };
        if let Some((_, _, worker)) = workers.iter().find(is_it) {
            return Ok(Arc::clone(worker));
        }
        let worker = Self::start(settings.token.clone())?;
        workers.push((settings.module.clone(), settings.token.clone(), Arc::clone(&worker)));
        Ok(worker)
    }

    /// A thread for the token `token`. It ends when nobody can ask it any more; nobody waits for that.
    pub(super) fn start(token: String) -> Result<Arc<Self>, Late> {
        // Room for the calls, and for sessions that are given up.
        let (jobs, todo) = sync_channel(2 * CALLS_WAITING_MAX);
        let watch = Arc::new(TokenWatch { token, ..TokenWatch::default() });
        let thread = std::thread::Builder::new().name("signet-token".to_owned());
        thread.spawn(move || work(&todo)).map_err(|_| Late::Failed)?;
        Ok(Arc::new(Self { watch, jobs }))
    }

    pub(super) const fn watch(&self) -> &Arc<TokenWatch> {
        &self.watch
    }

    /// Has `call` made on the token's thread, and waits for what it gives, no longer than `within`.
    pub(super) fn run<T: Send + 'static>(
        &self,
        within: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        let outcome = self.try_run(within, call);
        match outcome {
            Err(Late::Overdue(_)) => {
                self.watch.overdue.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{}", Late::Overdue(within).explain(&self.watch.token));
            }
            Err(_) => {
                self.watch.refused.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
        }
        outcome
    }

    fn try_run<T: Send + 'static>(
        &self,
        within: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        if let Some(since) = self.watch.stuck_for() {
            return Err(Late::Stuck(since));
        }
        let place = Place::take(&self.watch).ok_or(Late::Full)?;
        // What is given is taken at once or comes back: nobody else's thread drops it.
        let (give, given) = sync_channel(0);
        let asked = Instant::now();
        let job = move || {
            // Whoever asked has gone by now: the token need not do it.
            if asked.elapsed() < within {
                let watch = Arc::clone(&place.0);
                let present = Present::begin(&watch, within);
                let outcome = catch_unwind(AssertUnwindSafe(call));
                drop((present, place));
                if let Ok(outcome) = outcome
                    && let Err(SendError(late)) = give.send(outcome)
                {
                    // What nobody waits for any more is dropped here, on the token's thread, as sessions must be. That is
                    // a call too.
                    let _present = Present::begin(&watch, within);
                    drop(late);
                }
            }
        };
        match self.jobs.try_send(Box::new(job)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Late::Full),
            Err(TrySendError::Disconnected(_)) => return Err(Late::Failed),
        }
        given.recv_timeout(within).map_err(|error| match error {
            RecvTimeoutError::Timeout => Late::Overdue(within),
            RecvTimeoutError::Disconnected if asked.elapsed() >= within => Late::Overdue(within),
            RecvTimeoutError::Disconnected => Late::Failed,
        })
    }

    /// Drops `what` on the token's thread: to close a session is a call too. When even for that there is no room, it is
    /// never closed.
    pub(super) fn discard<T: Send + 'static>(&self, what: T) {
        let watch = Arc::clone(&self.watch);
        let job = move || {
            let _present = Present::begin(&watch, DEADLINE);
            drop(what);
        };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.jobs.try_send(Box::new(job))
        {
            Box::leak(Box::new(job));
        }
    }
}

fn work(todo: &Receiver<Job>) {
    while let Ok(job) = todo.recv() {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!(
                "what was dropped on a token's thread panicked; this is a defect, please report it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    /// A call begins a moment after it was asked for, and is overdue that moment later than whoever asked has gone.
    fn until_stuck(worker: &Worker) {
        let end = Instant::now() + LONG;
        while worker.watch().stuck_for().is_none() {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
    }

    /// A worker whose thread is in a call until the sender is dropped; the call was given up after [`SHORT`].
    fn stuck() -> (Arc<Worker>, std::sync::mpsc::Sender<()>) {
        let worker = Worker::start("t".to_owned()).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let begun = Instant::now();
        let outcome = worker.run(SHORT, move || held.recv());
        assert_eq!(outcome, Err(Late::Overdue(SHORT)));
        assert!(begun.elapsed() < LONG);
        until_stuck(&worker);
        (worker, release)
    }

    #[test]
    fn a_call_that_does_not_end_is_given_up_at_its_deadline_and_others_are_refused_at_once() {
        let (worker, release) = stuck();
        assert_eq!(worker.watch().overdue(), 1);
        assert!(worker.watch().stuck_for().is_some());
        let begun = Instant::now();
        for _ in 0..100 {
            assert!(matches!(worker.run(LONG, || ()), Err(Late::Stuck(_))));
        }
        assert!(begun.elapsed() < LONG, "nobody waits behind it");
        assert_eq!((worker.watch().overdue(), worker.watch().refused()), (1, 100));
        drop(release);
    }

    #[test]
    fn a_token_that_answers_again_is_used_again() {
        let (worker, release) = stuck();
        drop(release);
        let end = Instant::now() + LONG;
        while worker.watch().stuck_for().is_some() {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
        assert_eq!(worker.run(LONG, || 7), Ok(7));
        assert_eq!(worker.watch.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_waited_until_nobody_wanted_it_is_not_asked_of_the_token() {
        let worker = Worker::start("t".to_owned()).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (began, begun) = std::sync::mpsc::channel::<()>();
        let first = Arc::clone(&worker);
        let first = std::thread::spawn(move || {
            first.run(LONG, move || {
                let _heard = began.send(());
                let _released = held.recv();
            })
        });
        begun.recv().unwrap();
        let made = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&made);
        // The first call may go on, so this one waits for its turn, until its own deadline.
        let second = worker.run(SHORT, move || counted.fetch_add(1, Ordering::Relaxed));
        assert_eq!(second, Err(Late::Overdue(SHORT)));
        drop(release);
        assert_eq!(first.join().unwrap(), Ok(()));
        assert_eq!(worker.run(LONG, || 7), Ok(7));
        assert_eq!(made.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn calls_that_wait_are_bounded() {
        let worker = Worker::start("t".to_owned()).unwrap();
        let places: Vec<_> = (0..CALLS_WAITING_MAX).map(|_| Place::take(worker.watch()).unwrap()).collect();
        assert_eq!(worker.run(LONG, || ()), Err(Late::Full));
        drop(places);
        assert_eq!(worker.run(LONG, || ()), Ok(()));
    }

    #[test]
    fn a_panic_in_a_call_leaves_the_thread_alive() {
        let worker = Worker::start("t".to_owned()).unwrap();
        assert_eq!(worker.run(LONG, || -> u8 { panic!("the driver") }), Err(Late::Failed));
        assert_eq!(worker.run(LONG, || 7), Ok(7));
        assert_eq!(worker.watch().stuck_for(), None);
    }

    #[test]
    fn all_who_name_a_token_share_its_thread_and_what_is_discarded_is_dropped_on_it() {
        let settings = |token: &str| Pkcs11 {
            module: PathBuf::from("/nowhere/module.so"),
            token: token.to_owned(),
            key: "k".to_owned(),
            pin_file: None,
        };
        let one = Worker::of(&settings("a token of this test")).unwrap();
        assert!(Arc::ptr_eq(&one, &Worker::of(&settings("a token of this test")).unwrap()));
        assert!(!Arc::ptr_eq(&one, &Worker::of(&settings("another of this test")).unwrap()));
        struct Session(std::sync::mpsc::Sender<std::thread::ThreadId>);
        impl Drop for Session {
            fn drop(&mut self) {
                let _heard = self.0.send(std::thread::current().id());
            }
        }
        let (dropped, on) = std::sync::mpsc::channel();
        one.discard(Session(dropped));
        let here = one.run(LONG, || std::thread::current().id()).unwrap();
        assert_eq!(on.recv().unwrap(), here);
    }

    /// A session whose end takes until the sender is dropped.
    struct Slow(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _heard = self.0.send(());
            let _released = self.1.recv();
        }
    }

    #[test]
    fn what_hangs_while_it_is_dropped_is_a_call_like_any_other() {
        for discarded in [true, false] {
            let worker = Worker::start("t".to_owned()).unwrap();
            let (release, held) = std::sync::mpsc::channel();
            let (began, begun) = std::sync::mpsc::channel();
            let session = Slow(began, held);
            if discarded {
                worker.discard(session);
            } else {
                let (go_on, waits) = std::sync::mpsc::channel::<()>();
                let late = worker.run(SHORT, move || {
                    let _released = waits.recv();
                    session
                });
                assert_eq!(late.err(), Some(Late::Overdue(SHORT)));
                drop(go_on);
            }
            begun.recv().unwrap();
            assert!(worker.watch.present.lock().is_some(), "{discarded}: it counts as a call");
            if !discarded {
                until_stuck(&worker);
                assert!(matches!(worker.run(LONG, || ()), Err(Late::Stuck(_))), "nobody waits behind it");
            }
            drop(release);
            let end = Instant::now() + LONG;
            while worker.watch.present.lock().is_some() {
                assert!(Instant::now() < end);
                std::thread::yield_now();
            }
            assert_eq!(worker.run(LONG, || 7), Ok(7));
        }
    }

    #[test]
    fn every_lateness_says_what_to_do() {
        for late in [Late::Overdue(DEADLINE), Late::Stuck(LONG), Late::Full, Late::Failed] {
            let said = late.explain("fleet");
            assert!(said.contains("\"fleet\"") && said.contains("\n  hint: "), "{said}");
        }
    }
}
