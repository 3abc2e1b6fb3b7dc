//! What the program's allocator keeps, and gives back when it is asked to.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: u64 = 1024 * 1024;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

/// As it is when TLS keeps a record for each of many peers, and they are closed by another thread.
#[test]
fn what_another_thread_has_given_back_goes_to_the_kernel_when_its_owner_looks() {
    signet::pages::begin_small();
    let (hand_over, buffers) = mpsc::channel();
    let (ask, asked) = mpsc::channel::<()>();
    let owner = std::thread::spawn(move || {
        let records: Vec<Vec<u8>> = (0..800).map(|_| vec![7; 18 * 1024]).collect();
        hand_over.send(records).unwrap();
        asked.iter().for_each(|()| signet::allocator::look());
    });
    let records = buffers.recv().unwrap();
    let held = resident();
    drop(records);
    assert!(resident() + 4 * MIB > held, "if it gave all back by itself nobody would have to ask");
    let until = Instant::now() + Duration::from_secs(20);
    while resident() + 12 * MIB > held {
        assert!(Instant::now() < until, "{} of {held} bytes are resident still", resident());
        ask.send(()).unwrap();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    drop(ask);
    owner.join().unwrap();
}
