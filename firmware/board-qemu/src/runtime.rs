//! Time, a pretended sensor, and the console.

use core::future::pending;

use embassy_time::{Instant, Timer};
use semihosting::println;
use signet_device_agent::Runtime;
use signet_device_core::platform::Clock;
use signet_device_core::telemetry::Reading;
use signet_device_core::{Event, Now};

use crate::clock::Clocks;
use crate::{memory, stack};

/// The emulated board.
pub struct Emulated {
    /// Bytes of heap in use before the first connection: the rest is TLS and MQTT.
    heap_before: usize,
    samples: u16,
}

impl Emulated {
    /// `heap_before` is what is in use before the first connection.
    pub const fn new(heap_before: usize) -> Self {
        Self { heap_before, samples: 0 }
    }
}

impl Clock for Emulated {
    fn now(&self) -> Now {
        Clocks.now()
    }
}

impl Runtime for Emulated {
    async fn until(&self, mono: u64) {
        Timer::at(Instant::from_millis(mono)).await;
    }

    /// The real-time clock is set by the host, or it is not.
    fn set_clock(&mut self) {
        println!("clock wall={:?}", Clocks.now().wall);
    }

    async fn roused(&self) {
        pending().await
    }

    /// A warm afternoon.
    async fn sample(&mut self) -> Option<Reading> {
        self.samples = (self.samples + 1) % 100;
        println!(
            "heap tls-and-mqtt peak={} stack peak={}",
            memory::peak().saturating_sub(self.heap_before),
            stack::peak()
        );
        // Between 21.00 and 21.99 degrees.
        let hundredths = i16::try_from(self.samples).unwrap_or_default();
        Some(Reading { centi_celsius: 2_100 + hundredths, centi_percent: 4_500 })
    }

    fn identify(&mut self, secs: u16) {
        println!("identify secs={secs}");
    }

    fn note(&mut self, event: &Event) {
        println!("event {event:?}{}", if event.is_alarm() { " ALARM" } else { "" });
    }
}
