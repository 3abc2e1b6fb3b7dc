//! What a process has used, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Clock ticks per second in /proc/PID/stat: 100 on every architecture that Linux and Debian run on.
const TICKS_PER_SECOND: u64 = 100;

/// Resident and proportional memory, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    /// Pages that several processes share count in parts.
    pub(crate) pss_kib: u64,
}

/// CPU time of all threads of a process, those that have ended included, user and system, to 10 ms.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}: has the broker ended?"))?;
    ticks(&text)
        .map(|ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
        .context("the format of /proc/PID/stat")
}

/// Bytes that a process has had written to disks.
pub(crate) fn bytes_written(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/io");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    kib(&text, "write_bytes:").with_context(|| format!("write_bytes in {path}"))
}

/// Memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name| kib(&text, name).with_context(|| format!("{name} in {path}"));
    Ok(Memory { rss_kib: field("Rss:")?, pss_kib: field("Pss:")? })
}

/// CPU time of this thread, to the nanosecond.
pub(crate) fn own_thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Raises the number of files that this process, and so the brokers that it starts, may open to what the system lets it
/// have, and gives that number.
pub(crate) fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Should it be refused, the old limit stays and is what is said.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// utime and stime: fields 14 and 15; the name in field 2 may contain anything but ends at the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kib(rollup: &str, name: &str) -> Option<u64> {
    rollup.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "4242 (a) b (c)) S 1 4242 4242 0 -1 4194560 9 0 0 0 120 34 0 0 20 0 5 0 99 1 2";
        assert_eq!(ticks(stat), Some(154));
    }

    #[test]
    fn a_line_that_is_cut_short_gives_nothing() {
        assert_eq!(ticks("4242 (name) S 1 2 3"), None);
        assert_eq!(ticks("4242"), None);
    }

    #[test]
    fn resident_and_proportional_memory_are_told_from_their_parts() {
        let rollup = "0-1 ---p 0 00:00 0 [rollup]\nRss:    2048 kB\nPss:    1024 kB\nPss_Dirty:  7 kB\n";
        assert_eq!((kib(rollup, "Rss:"), kib(rollup, "Pss:")), (Some(2048), Some(1024)));
        assert_eq!(kib(rollup, "Swap:"), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap().rss_kib > 0);
        assert!(cpu_time(pid).is_ok());
        assert!(own_thread_time() > Duration::ZERO);
        assert!(raise_open_files() > 0);
    }
}
