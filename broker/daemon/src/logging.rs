//! Log records: structured, on standard error, as text for people or JSON for programs.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::IsTerminal;
use std::time::Duration;

use parking_lot::Mutex;
use signet_config::{LogFormat, LogLevel};
use signet_core::Mono;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging for this process. A second call changes nothing, so that tests may start many brokers.
pub fn init(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder =
        tracing_subscriber::fmt().with_max_level(level).with_target(false).with_writer(std::io::stderr);
    let already = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init(),
    };
    drop(already);
}

/// Keys that a [`RateLimit`] remembers at most; beyond it the oldest window is forgotten whole.
const KEYS_MAX: usize = 8192;

/// Lets through the first few events per key and interval, and counts the rest, so that a peer that misbehaves
/// a thousand times a second costs a few log lines and a number.
#[derive(Debug)]
pub struct RateLimit<K> {
    per_interval: u32,
    interval: Duration,
    seen: Mutex<HashMap<K, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Mono,
    count: u32,
}

/// The verdict on one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Log it; so many of its key went unlogged in the interval before.
    Log {
        /// Events suppressed since the last one that was logged.
        suppressed: u32,
    },
    /// Do not log it.
    Suppress,
}

impl<K: Eq + Hash> RateLimit<K> {
    /// At most `per_interval` events per key and `interval`.
    pub fn new(per_interval: u32, interval: Duration) -> Self {
        Self { per_interval, interval, seen: Mutex::default() }
    }

    /// Judges one event of `key`.
    pub fn admit(&self, key: K, now: Mono) -> Admit {
        let mut seen = self.seen.lock();
        if seen.len() >= KEYS_MAX && !seen.contains_key(&key) {
            seen.retain(|_, window| now.since(window.began) < self.interval);
            if seen.len() >= KEYS_MAX {
                return Admit::Suppress;
            }
        }
        let window = seen.entry(key).or_insert(Window { began: now, count: 0 });
        let mut suppressed = 0;
        if now.since(window.began) >= self.interval {
            suppressed = window.count.saturating_sub(self.per_interval);
            *window = Window { began: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        if window.count <= self.per_interval { Admit::Log { suppressed } } else { Admit::Suppress }
    }
}
