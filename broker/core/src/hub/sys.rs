//! The `$SYS` tree, with the names that Mosquitto's dashboards know. Who reads it needs an explicit rule, as for any
//! topic.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::quality::RandomState;

use crate::counters::Counts;
use crate::hub::{Hub, own_topic};
use crate::mailbox::Fill;
use crate::time::{Mono, Now};

/// One count of all.
type Count = fn(&Counts) -> u64;

/// What the load averages are taken of: the topic between `load/` and the interval, and the count.
const LOADS: [(&str, Count); 9] = [
    ("messages/received", |counts| counts.packets_received),
    ("messages/sent", |counts| counts.packets_sent),
    ("publish/received", |counts| counts.publish_received),
    ("publish/sent", |counts| counts.publish_sent),
    ("publish/dropped", dropped),
    ("bytes/received", |counts| counts.bytes_received),
    ("bytes/sent", |counts| counts.bytes_sent),
    ("sockets", |counts| counts.sockets),
    ("connections", |counts| counts.connects),
];

/// The intervals of the load averages, in minutes.
const INTERVALS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// What `$SYS` remembers between two rounds.
#[derive(Debug, Default)]
pub(super) struct SysState {
    /// When the last round was, and what was counted then.
    last: Option<(Mono, Counts)>,
    averages: [[f64; INTERVALS.len()]; LOADS.len()],
    /// The value that each topic has, so that only what changed is published.
    published: HashMap<String, String, RandomState>,
}

impl SysState {
    /// Exponentially damped averages of what happened per minute, as Mosquitto and Unix load averages are.
    fn update(&mut self, counts: Counts, now: Mono) {
        if let Some((then, before)) = self.last {
            let minutes = now.since(then).as_secs_f64() / 60.0;
            if minutes <= 0.0 {
                return;
            }
            for ((_, of), averages) in LOADS.iter().zip(&mut self.averages) {
                let per_minute = of(&counts).saturating_sub(of(&before)) as f64 / minutes;
                for ((_, interval), average) in INTERVALS.iter().zip(averages) {
                    let weight = (-minutes / interval).exp();
                    *average = per_minute + weight * (*average - per_minute);
                }
            }
        }
        self.last = Some((now, counts));
    }
}

/// Messages that were lost to a bound, as Mosquitto counts them.
fn dropped(counts: &Counts) -> u64 {
    counts.dropped_queue_full
        + counts.dropped_expired
        + counts.dropped_retained_replay
        + counts.dropped_no_member
}

impl Hub {
    /// Publishes the values of `$SYS` that changed since the last round, retained. Call it at a regular interval;
    /// Mosquitto's is 10 seconds.
    pub fn publish_sys(&self, now: Now) {
        for (name, value) in self.sys_round(now) {
            if let Some(topic) = own_topic(format!("$SYS/broker/{name}")) {
                // Never refused: the topic begins with '$'.
                let _ = self.publish_internal(topic, Bytes::from(value), true, now);
            }
        }
    }

    /// The values of `$SYS` that changed since the last round, by the topic below `$SYS/broker/`.
    fn sys_round(&self, now: Now) -> Vec<(String, String)> {
        let counts = self.counters.snapshot();
        let mut sys = self.sys.lock();
        sys.update(counts, now.mono);
        let mut values = self.sys_values(&counts, now);
        for ((name, _), averages) in LOADS.iter().zip(&sys.averages) {
            for ((interval, _), average) in INTERVALS.iter().zip(averages) {
                values.push((format!("load/{name}/{interval}"), format!("{average:.2}")));
            }
        }
        values.retain(|(name, value)| match sys.published.get_mut(name) {
            Some(published) if published == value => false,
            Some(published) => {
                published.clone_from(value);
                true
            }
            None => {
                sys.published.insert(name.clone(), value.clone());
                true
            }
        });
        values
    }

    /// What waits for clients that are connected.
    fn outgoing(&self) -> Fill {
        let mut all = Fill::default();
        for cell in self.cells(|_| true) {
            let own = cell.mailbox.lock().outgoing().unwrap_or_default();
            all.messages += own.messages;
            all.bytes += own.bytes;
        }
        all
    }

    fn sys_values(&self, counts: &Counts, now: Now) -> Vec<(String, String)> {
        let sessions = self.session_count();
        let connected = self.connected_count();
        let disconnected = sessions.saturating_sub(connected);
        let (retained, retained_bytes) = self.retained_fill();
        let outgoing = self.outgoing();
        let maximum = self.session_count_max.load(std::sync::atomic::Ordering::Relaxed);
        let text = |name: &str, value: String| (name.to_owned(), value);
        let number = |name: &str, value: u64| (name.to_owned(), value.to_string());
        let size = |name: &str, value: usize| (name.to_owned(), value.to_string());
        let unsettled =
            self.journal.as_ref().map(|journal| size("store/unsettled/bytes", journal.unsettled_bytes()));
        let mut values = vec![
            text("version", format!("signet version {}", env!("CARGO_PKG_VERSION"))),
            text("uptime", format!("{} seconds", now.mono.elapsed().as_secs())),
            size("clients/total", sessions),
            size("clients/maximum", maximum),
            size("clients/connected", connected),
            size("clients/active", connected),
            size("clients/disconnected", disconnected),
            size("clients/inactive", disconnected),
            number("clients/expired", counts.sessions_expired),
            number("messages/received", counts.packets_received),
            number("messages/sent", counts.packets_sent),
            size("messages/stored", retained),
            size("store/messages/count", retained),
            size("store/messages/bytes", retained_bytes),
            size("retained messages/count", retained),
            size("subscriptions/count", self.index.subscriptions()),
            size("shared_subscriptions/count", self.index.shared_subscriptions()),
            number("bytes/received", counts.bytes_received),
            number("bytes/sent", counts.bytes_sent),
            number("publish/messages/received", counts.publish_received),
            number("publish/messages/sent", counts.publish_sent),
            number("publish/messages/dropped", dropped(counts)),
            number("publish/bytes/received", counts.publish_bytes_received),
            number("publish/bytes/sent", counts.publish_bytes_sent),
            size("packet/out/count", outgoing.messages),
            size("packet/out/bytes", outgoing.bytes),
            size("connections/socket/count", self.links.len()),
        ];
        values.extend(unsettled);
        values
    }
}
