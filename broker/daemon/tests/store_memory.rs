//! What the message store takes of memory while it works. In a program of its own, since the whole process is measured.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use signet::store::messages::{Batch, Change, Damaged, DiskStore, MessageStore};

const MIB: u64 = 1 << 20;

/// A field of `/proc/self/status`, in bytes.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn rows_of_many_tables_are_merged_without_all_of_them_in_memory() {
    /// Each row is written twice.
    const WRITTEN: u64 = 4096;
    const ROWS: u64 = WRITTEN / 2;
    const BATCH: u64 = 16;
    const TABLE: u64 = MIB;
    let value = vec![b'v'; 16 * 1024];
    let dir = tempfile::tempdir().unwrap();
    let opened =
        DiskStore::open_bounded(&dir.path().join("data"), Damaged::Refuse, TABLE.try_into().unwrap())
            .unwrap();
    let (mut store, before) = (opened.store, memory("VmRSS"));
    for first in (0..WRITTEN).step_by(BATCH.try_into().unwrap()) {
        let mut batch = Batch::default();
        for n in first..first + BATCH {
            // In no order, so that each table has some of everything and all of them are merged with each other.
            let key = format!("Rdevices/{:04}/a topic as long as some are", n * 2_741 % ROWS);
            batch.push(Change::Put(key.into_bytes(), Bytes::from(value.clone())));
        }
        store.commit(&batch).unwrap();
    }
    // Fewer tables than were written: rows that were written twice have met.
    let until = Instant::now() + Duration::from_secs(20);
    while store.size().tables >= WRITTEN * 16 * 1024 / TABLE {
        assert!(Instant::now() < until, "tables are merged: {:?}", store.size());
        std::thread::yield_now();
    }
    let most = memory("VmHWM").saturating_sub(before);
    assert!(most < 16 * MIB, "{} MiB for {} MiB of rows in tables of 1 MiB", most / MIB, ROWS * 16 / 1024);
}
