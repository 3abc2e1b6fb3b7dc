//! Readings, kept in a bounded queue while there is no connection.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use crate::io::Now;

/// What the sensor measured, in fixed point: chips need no floating point for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Temperature in hundredths of a degree Celsius.
    pub centi_celsius: i16,
    /// Relative humidity in hundredths of a percent.
    pub centi_percent: u16,
}

/// A reading with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    reading: Reading,
    uptime_secs: u64,
    wall: Option<u64>,
    /// Whether it waited for a connection: then its time is sent with it.
    late: bool,
    in_flight: Option<u32>,
}

/// Readings that wait, oldest first.
#[derive(Debug, Clone)]
pub struct Queue {
    kept: VecDeque<Kept>,
    readings_max: usize,
    dropped: u32,
}

impl Queue {
    /// A queue for at most `readings_max` readings; the oldest gives way.
    #[must_use]
    pub fn new(readings_max: usize) -> Self {
        Self { kept: VecDeque::new(), readings_max: readings_max.max(1), dropped: 0 }
    }

    /// Puts a reading in. `online` is whether it can be sent at once.
    pub fn push(&mut self, reading: Reading, now: Now, online: bool) {
        while self.kept.len() >= self.readings_max {
            self.kept.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.kept.push_back(Kept {
            reading,
            uptime_secs: now.mono / 1_000,
            wall: now.wall,
            late: !online,
            in_flight: None,
        });
    }

    /// The next reading to send, marked as sent under the number `id`; none when `window` are under way.
    pub fn send(&mut self, device: &str, id: u32, window: usize) -> Option<Vec<u8>> {
        if self.kept.iter().filter(|kept| kept.in_flight.is_some()).count() >= window {
            return None;
        }
        let kept = self.kept.iter_mut().find(|kept| kept.in_flight.is_none())?;
        kept.in_flight = Some(id);
        Some(payload(device, kept))
    }

    /// The message `id` is the broker's now (or was refused by it): it is not sent again. Whether it was one of these.
    pub fn settled(&mut self, id: u32) -> bool {
        let before = self.kept.len();
        self.kept.retain(|kept| kept.in_flight != Some(id));
        before != self.kept.len()
    }

    /// The connection ended: what was under way is sent again.
    pub fn disconnected(&mut self) {
        for kept in &mut self.kept {
            kept.in_flight = None;
            kept.late = true;
        }
    }

    /// How many wait or are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many gave way since this was asked last.
    pub const fn take_dropped(&mut self) -> u32 {
        core::mem::replace(&mut self.dropped, 0)
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    device: &'a str,
    temp: serde_json::Number,
    hum: serde_json::Number,
    uptime: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
}

fn payload(device: &str, kept: &Kept) -> Vec<u8> {
    let number = |centi: i32| serde_json::from_str(&decimal(centi)).unwrap_or_else(|_| 0.into());
    let payload = Payload {
        device,
        temp: number(kept.reading.centi_celsius.into()),
        hum: number(kept.reading.centi_percent.into()),
        uptime: kept.uptime_secs,
        time: kept.wall.filter(|_| kept.late),
    };
    serde_json::to_vec(&payload).unwrap_or_default()
}

/// Hundredths as a decimal number, without trailing zeros.
fn decimal(centi: i32) -> String {
    let sign = if centi < 0 { "-" } else { "" };
    let (whole, rest) = (centi.unsigned_abs() / 100, centi.unsigned_abs() % 100);
    let text = format!("{sign}{whole}.{rest:02}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: Reading = Reading { centi_celsius: 2_150, centi_percent: 4_025 };

    fn at(secs: u64) -> Now {
        Now { mono: secs * 1_000, wall: Some(1_800_000_000 + secs) }
    }

    #[test]
    fn a_reading_has_the_four_fields_of_the_lesson() {
        let mut queue = Queue::new(4);
        queue.push(READING, at(61), true);
        let sent = queue.send("sensor-001", 1, 1);
        assert_eq!(
            sent.as_deref(),
            Some(&br#"{"device":"sensor-001","temp":21.5,"hum":40.25,"uptime":61}"#[..])
        );
        assert!(queue.settled(1) && queue.is_empty());
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        for (centi, text) in [
            (0, "0"),
            (5, "0.05"),
            (-5, "-0.05"),
            (100, "1"),
            (-2_150, "-21.5"),
            (i32::from(i16::MIN), "-327.68"),
        ] {
            assert_eq!(decimal(centi), text);
        }
    }

    #[test]
    fn a_reading_that_waited_tells_its_time() {
        let mut queue = Queue::new(4);
        queue.push(READING, at(60), false);
        let sent = queue.send("d", 1, 1).expect("one waits");
        assert!(sent.ends_with(br#""uptime":60,"time":1800000060}"#));
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_counts() {
        let mut queue = Queue::new(3);
        for secs in 0..5 {
            queue.push(READING, at(secs), false);
        }
        assert_eq!((queue.len(), queue.take_dropped(), queue.take_dropped()), (3, 2, 0));
        assert!(queue.send("d", 9, 1).expect("one").windows(10).any(|w| w == br#""uptime":2"#));
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again() {
        let mut queue = Queue::new(4);
        queue.push(READING, at(1), true);
        queue.push(READING, at(2), true);
        let first = queue.send("d", 1, 8).expect("first");
        assert!(queue.send("d", 2, 8).is_some() && queue.send("d", 3, 8).is_none());
        assert!(queue.settled(2) && !queue.settled(7));
        queue.disconnected();
        let again = queue.send("d", 4, 8).expect("again");
        assert!(again.starts_with(&first[..first.len() - 1]) && queue.send("d", 5, 8).is_none());
    }

    #[test]
    fn the_window_bounds_what_is_under_way() {
        let mut queue = Queue::new(9);
        (0..9).for_each(|secs| queue.push(READING, at(secs), true));
        assert_eq!((0..9).filter(|id| queue.send("d", *id, 4).is_some()).count(), 4);
    }
}
