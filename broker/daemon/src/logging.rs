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
/// Between two looks at all keys.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Lets through the first few events per key and interval, and counts the rest, so that a peer that misbehaves
/// a thousand times a second costs a few log lines and a number.
#[derive(Debug)]
pub struct RateLimit<K> {
    per_interval: u32,
    interval: Duration,
    seen: Mutex<Windows<K>>,
}

#[derive(Debug)]
struct Windows<K> {
    by_key: HashMap<K, Window>,
    /// Not before then the windows are looked at for those that are over: that is a look at all of them.
    next_sweep: Mono,
    #[cfg(test)]
    sweeps: u32,
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
        let windows = Windows {
            by_key: HashMap::new(),
            next_sweep: Mono::START,
            #[cfg(test)]
            sweeps: 0,
        };
        Self { per_interval, interval, seen: Mutex::new(windows) }
    }

    /// Judges one event of `key`.
    pub fn admit(&self, key: K, now: Mono) -> Admit {
        let mut seen = self.seen.lock();
        let seen = &mut *seen;
        if seen.by_key.len() >= KEYS_MAX && !seen.by_key.contains_key(&key) {
            if now >= seen.next_sweep {
                seen.by_key.retain(|_, window| now.since(window.began) < self.interval);
                seen.next_sweep = now.after(SWEEP_INTERVAL);
                #[cfg(test)]
                {
                    seen.sweeps += 1;
                }
            }
            if seen.by_key.len() >= KEYS_MAX {
                return Admit::Suppress;
            }
        }
        let window = seen.by_key.entry(key).or_insert(Window { began: now, count: 0 });
        let mut suppressed = 0;
        if now.since(window.began) >= self.interval {
            suppressed = window.count.saturating_sub(self.per_interval);
            *window = Window { began: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        if window.count <= self.per_interval { Admit::Log { suppressed } } else { Admit::Suppress }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono::new(Duration::from_secs(secs))
    }

    #[test]
    fn the_first_few_of_a_key_are_let_through_and_the_rest_is_counted() {
        let limit = RateLimit::new(2, Duration::from_secs(60));
        let verdicts: Vec<_> = (0..5).map(|_| limit.admit("a", at(1))).collect();
        let logged = Admit::Log { suppressed: 0 };
        assert_eq!(verdicts, [logged, logged, Admit::Suppress, Admit::Suppress, Admit::Suppress]);
        assert_eq!(limit.admit("b", at(1)), logged);
        assert_eq!(limit.admit("a", at(61)), Admit::Log { suppressed: 3 });
    }

    #[test]
    fn a_full_table_is_searched_once_in_a_while_and_not_for_every_key() {
        let limit = RateLimit::new(1, Duration::from_secs(60));
        for key in 0..KEYS_MAX {
            assert_ne!(limit.admit(key, at(1)), Admit::Suppress);
        }
        for key in 0..1000 {
            assert_eq!(limit.admit(KEYS_MAX + key, at(2)), Admit::Suppress);
        }
        assert_eq!(limit.seen.lock().sweeps, 1);
        assert_ne!(limit.admit(KEYS_MAX, at(62)), Admit::Suppress);
        assert_eq!(limit.seen.lock().sweeps, 2);
    }
}
