//! Whether many threads get in each other's way: the core from 1 to 16 threads at once, beside as many cores that share nothing.
//!
//! On a machine with fewer processors than threads no speed-up can be seen. What can be seen is what sharing costs: CPU time per message with one
//! hub for all threads, divided by the same with a hub for each thread (the same work, nothing shared), and how often a thread had to wait for
//! another one (voluntary context switches; none of this work waits for anything but a lock).

use std::fs;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use mqttbytes::QoS;
use serde::Serialize;
use signet_core::Hub;

use crate::endpoint::{self, Endpoint};
use crate::process::own_thread_time;
use crate::report::{Record, Results, median};

/// Figures of so many runs, of which the median counts.
const ROUNDS: usize = 5;
/// Messages published before the receiver has its turn.
const BATCH: usize = 16;

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Messages of each thread.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    pub(crate) messages: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { messages: 50_000 }
    }
}

/// Who shares what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// A hub for each thread: nothing is shared.
    Nothing,
    /// One hub; each thread serves a publisher and the subscriber of its messages.
    Hub,
    /// One hub; the subscriber of a thread's messages belongs to the next thread.
    Messages,
}

/// What one thread used.
#[derive(Clone, Copy, Default)]
struct Used {
    time: Duration,
    waits: u64,
}

pub(crate) fn measure(load: &Load) -> Result<Record> {
    let mut results = Results::new();
    for (threads, names) in THREADS {
        let alone = runs(threads, Sharing::Nothing, load)?;
        let shared = runs(threads, Sharing::Hub, load)?;
        let crossing = runs(threads, Sharing::Messages, load)?;
        results.insert(names.alone, alone.ns);
        results.insert(names.shared, shared.ns);
        results.insert(names.crossing, crossing.ns);
        results.insert(names.ratio, shared.ns / alone.ns);
        results.insert(names.waits, shared.waits);
        results.insert(names.crossing_waits, crossing.waits);
    }
    Record::alone("threads", load, results)
}

/// The names of the figures at a number of threads.
struct Names {
    alone: &'static str,
    shared: &'static str,
    crossing: &'static str,
    ratio: &'static str,
    waits: &'static str,
    crossing_waits: &'static str,
}

macro_rules! names {
    ($threads:literal) => {
        (
            $threads,
            Names {
                alone: concat!("own_hubs_", $threads, "_threads_ns"),
                shared: concat!("one_hub_", $threads, "_threads_ns"),
                crossing: concat!("one_hub_crossing_", $threads, "_threads_ns"),
                ratio: concat!("sharing_", $threads, "_threads_ratio"),
                waits: concat!("one_hub_", $threads, "_threads_waits_per_million"),
                crossing_waits: concat!("one_hub_crossing_", $threads, "_threads_waits_per_million"),
            },
        )
    };
}

const THREADS: [(usize, Names); 5] = [names!(1), names!(2), names!(4), names!(8), names!(16)];

/// Medians over the rounds.
struct Figures {
    ns: f64,
    waits: f64,
}

fn runs(threads: usize, sharing: Sharing, load: &Load) -> Result<Figures> {
    let (mut ns, mut waits) = (Vec::new(), Vec::new());
    let messages = f64::from(load.messages) * threads as f64;
    for _ in 0..ROUNDS {
        let used = run(threads, sharing, load.messages as usize)?;
        let time: Duration = used.iter().map(|used| used.time).sum();
        ns.push(time.as_secs_f64() * 1e9 / messages);
        waits.push(used.iter().map(|used| used.waits).sum::<u64>() as f64 * 1e6 / messages);
    }
    Ok(Figures { ns: median(&ns).context("no rounds")?, waits: median(&waits).context("no rounds")? })
}

fn run(threads: usize, sharing: Sharing, messages: usize) -> Result<Vec<Used>> {
    let common = endpoint::hub()?;
    let barrier = Barrier::new(threads);
    let failed = Mutex::new(None);
    let mut work = Vec::with_capacity(threads);
    for number in 0..threads {
        let hub = if sharing == Sharing::Nothing { endpoint::hub()? } else { Arc::clone(&common) };
        let from = if sharing == Sharing::Messages { (number + 1) % threads } else { number };
        work.push(Work::new(&hub, number, from)?);
    }
    let used = std::thread::scope(|scope| {
        let running: Vec<_> = work
            .into_iter()
            .map(|work| {
                let (barrier, failed) = (&barrier, &failed);
                scope.spawn(move || {
                    barrier.wait();
                    work.run(messages).unwrap_or_else(|error| {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        Used::default()
                    })
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    ensure!(used.len() == threads, "a thread panicked");
    Ok(used)
}

/// A publisher and a subscriber, both of one thread.
struct Work {
    publisher: Endpoint,
    subscriber: Endpoint,
    packet: Vec<u8>,
}

impl Work {
    /// The publisher of thread `number`, and a subscriber to what thread `from` publishes.
    fn new(hub: &Arc<Hub>, number: usize, from: usize) -> Result<Self> {
        let name = format!("bench-{number:05}");
        let publisher = Endpoint::connected(hub, &name, &name)?;
        let mut subscriber = Endpoint::connected(hub, "admin", &format!("sub-{number}"))?;
        subscriber.subscribe(&format!("devices/bench-{from:05}/telemetry/#"), QoS::AtMostOnce)?;
        Ok(Self { publisher, subscriber, packet: endpoint::publish(&name, QoS::AtMostOnce)?.to_vec() })
    }

    fn run(mut self, messages: usize) -> Result<Used> {
        let all = messages * self.packet.len();
        let (waits, start) = (voluntary_switches()?, own_thread_time());
        let (mut published, mut received) = (0, 0);
        while published < messages {
            for _ in 0..BATCH.min(messages - published) {
                self.publisher.receive(&self.packet);
                published += 1;
            }
            self.subscriber.drain();
            received += self.subscriber.discard();
        }
        let used = Used { time: own_thread_time() - start, waits: voluntary_switches()? - waits };
        // Those of another thread may still be on their way, which is no part of the measurement.
        let deadline = Instant::now() + Duration::from_secs(30);
        while received < all && Instant::now() < deadline {
            std::thread::yield_now();
            self.subscriber.drain();
            received += self.subscriber.discard();
        }
        ensure!(received == all, "of {all} bytes {received} arrived");
        Ok(used)
    }
}

/// How often this thread has given up its processor to wait.
fn voluntary_switches() -> Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(line.context("no voluntary_ctxt_switches")?.trim().parse()?)
}
