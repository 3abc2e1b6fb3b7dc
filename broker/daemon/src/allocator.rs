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
    runtimes: Vec<Handle>,
    round: u64,
    last: Option<Mono>,
    /// Each task has one of these.
    under_way: Arc<()>,
}

impl Threads {
    pub(crate) fn new(runtimes: Vec<Handle>) -> Self {
        Self { runtimes, round: 0, last: None, under_way: Arc::default() }
    }

    /// Has each of them look, unless that was so a moment ago, or the tasks of the last round still wait: no more than those of one
    /// do.
    pub(crate) fn give_back(&mut self, now: Mono) {
        let is_early = self.last.is_some_and(|last| now.since(last) < AGAIN_AFTER);
        if is_early || Arc::strong_count(&self.under_way) > 1 {
            return;
        }
        self.last = Some(now);
        self.round += 1;
        for runtime in &self.runtimes {
            for _ in 0..TASKS_PER_THREAD * runtime.metrics().num_workers() {
                let (round, under_way) = (self.round, Arc::clone(&self.under_way));
                runtime.spawn(async move {
                    look_once(round);
                    drop(under_way);
                });
            }
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
    use super::*;

    #[test]
    fn a_thread_looks_once_in_a_round() {
        assert!(look_once(1));
        assert!(!look_once(1));
        assert!(look_once(2));
        assert!(std::thread::spawn(|| look_once(2)).join().unwrap(), "another thread has not");
    }

    #[test]
    fn there_is_no_other_round_within_half_a_second_or_while_one_is_under_way() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mut threads = Threads::new(vec![runtime.handle().clone()]);
        let at = |ms| Mono::START.after(Duration::from_millis(ms));
        let done = |threads: &Threads| {
            while Arc::strong_count(&threads.under_way) > 1 {
                std::thread::yield_now();
            }
        };
        threads.give_back(at(0));
        done(&threads);
        threads.give_back(at(499));
        assert_eq!(threads.round, 1);
        threads.give_back(at(500));
        assert_eq!(threads.round, 2);
        done(&threads);
        let busy = Arc::clone(&threads.under_way);
        threads.give_back(at(5_000));
        assert_eq!(threads.round, 2);
        drop(busy);
        threads.give_back(at(5_000));
        assert_eq!(threads.round, 3);
    }
}
