//! Has the allocator give back what it keeps.
//!
//! The allocator (mimalloc) looks for what was given back to it when it is asked for memory: a page that belongs to a thread, of
//! which other threads have given back all, is empty to it when *that* thread has asked it ten thousand times, and goes to the
//! kernel a second later, when any thread has done so again. Somebody who takes nothing on asks for nothing. So while memory
//! is short for what was just given back, it would stay short: after 200 connections were closed that TLS kept 32 KiB for, 8 MB
//! stayed.
//!
//! Its call for this is a foreign one. What does the same is to ask it so often, on each thread.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use signet_core::Mono;
use tokio::runtime::Handle;

/// Between two rounds.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// After so many questions of a thread the allocator looks (its `generic_collect`). It takes less than a millisecond.
const QUESTIONS: usize = 10_000;
/// A question that it does not answer from what is at hand, in bytes: more than a KiB.
const QUESTION_BYTES: usize = 2048;
/// Tasks for each thread of a runtime: one that is busy with the first does not get the second.
const TASKS_PER_THREAD: usize = 2;

thread_local! {
    /// The last round in which this thread has looked.
    static LOOKED: Cell<u64> = const { Cell::new(0) };
}

/// Has the allocator look for what this thread has, and others have given back, and give to the kernel what nobody has had for a
/// second.
pub fn look() {
    for _ in 0..QUESTIONS {
        drop(black_box(Vec::<u8>::with_capacity(QUESTION_BYTES)));
    }
}

/// The threads that are asked to look.
#[derive(Debug)]
pub(crate) struct Threads {
    runtimes: Vec<Asked>,
    round: u64,
    last: Option<Mono>,
}

/// One runtime. Each has its own rounds: threads that hardly get a turn hold up no others.
#[derive(Debug)]
struct Asked {
    runtime: Handle,
    /// The last round that it was asked in.
    round: u64,
    /// Each task has one of these.
    under_way: Arc<()>,
}

impl Threads {
    pub(crate) fn new(runtimes: Vec<Handle>) -> Self {
        let asked = |runtime| Asked { runtime, round: 0, under_way: Arc::default() };
        Self { runtimes: runtimes.into_iter().map(asked).collect(), round: 0, last: None }
    }

    /// Has each of them look, unless that was so a moment ago, or tasks of its runtime's last round still wait: no more than those
    /// of one round do.
    pub(crate) fn give_back(&mut self, now: Mono) {
        if self.last.is_some_and(|last| now.since(last) < AGAIN_AFTER) {
            return;
        }
        self.last = Some(now);
        self.round += 1;
        for asked in &mut self.runtimes {
            asked.ask(self.round);
        }
    }
}

impl Asked {
    fn ask(&mut self, round: u64) {
        if Arc::strong_count(&self.under_way) > 1 {
            return;
        }
        self.round = round;
        for _ in 0..TASKS_PER_THREAD * self.runtime.metrics().num_workers() {
            let under_way = Arc::clone(&self.under_way);
            self.runtime.spawn(async move {
                look_once(round);
                drop(under_way);
            });
        }
    }
}

/// Whether this thread had not looked in this round.
fn look_once(round: u64) -> bool {
    let is_first = LOOKED.replace(round) != round;
    if is_first {
        look();
    }
    is_first
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Runtime;

    use super::*;

    #[test]
    fn a_thread_looks_once_in_a_round() {
        assert!(look_once(1));
        assert!(!look_once(1));
        assert!(look_once(2));
        assert!(std::thread::spawn(|| look_once(2)).join().unwrap(), "another thread has not");
    }

    fn threads_of(runtimes: &[Runtime]) -> Threads {
        Threads::new(runtimes.iter().map(|runtime| runtime.handle().clone()).collect())
    }

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    fn at(ms: u64) -> Mono {
        Mono::START.after(Duration::from_millis(ms))
    }

    /// Waits until nothing is under way.
    fn done(asked: &Asked) {
        while Arc::strong_count(&asked.under_way) > 1 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn there_is_no_other_round_within_half_a_second_or_while_one_is_under_way() {
        let runtimes = [runtime()];
        let mut threads = threads_of(&runtimes);
        threads.give_back(at(0));
        done(&threads.runtimes[0]);
        threads.give_back(at(499));
        assert_eq!(threads.runtimes[0].round, 1);
        threads.give_back(at(500));
        assert_eq!(threads.runtimes[0].round, 2);
        done(&threads.runtimes[0]);
        let busy = Arc::clone(&threads.runtimes[0].under_way);
        threads.give_back(at(5_000));
        assert_eq!(threads.runtimes[0].round, 2);
        drop(busy);
        threads.give_back(at(10_000));
        assert!(threads.runtimes[0].round > 2);
    }

    #[test]
    fn threads_that_get_no_turn_do_not_hold_up_the_next_round_of_others() {
        let runtimes = [runtime(), runtime()];
        let mut threads = threads_of(&runtimes);
        threads.give_back(at(0));
        threads.runtimes.iter().for_each(done);
        let busy = Arc::clone(&threads.runtimes[0].under_way);
        threads.give_back(at(500));
        assert_eq!((threads.runtimes[0].round, threads.runtimes[1].round), (1, 2));
        done(&threads.runtimes[1]);
        threads.give_back(at(1_000));
        assert_eq!((threads.runtimes[0].round, threads.runtimes[1].round), (1, 3));
        drop(busy);
    }
}
