//! The light, the sensor, and the console.

use embassy_time::{Duration, Instant, Timer};
use esp_hal::gpio::Output;
use signet_device_agent::Runtime;
use signet_device_core::platform::Clock;
use signet_device_core::telemetry::Reading;
use signet_device_core::{Event, Now};

use crate::clock::{Clocks, SET, WANTED};
use crate::restart;
use crate::sensor::Sensor;

/// How often the watchdog hears of the agent, in milliseconds.
const FED_EVERY_MS: u64 = 10_000;

/// The board under the agent.
pub struct Board {
    /// The light that shows which device this is.
    pub light: Output<'static>,
    /// What measures.
    pub sensor: Sensor,
    /// Until when the light blinks.
    pub blink_until: Instant,
}

impl Clock for Board {
    fn now(&self) -> Now {
        Clocks.now()
    }
}

impl Runtime for Board {
    /// The agent waits here and nowhere else: it is its heartbeat.
    async fn until(&self, mono: u64) {
        loop {
            restart::feed();
            let next = Instant::now().as_millis() + FED_EVERY_MS;
            Timer::at(Instant::from_millis(mono.min(next))).await;
            if mono <= next {
                return;
            }
        }
    }

    fn acknowledged(&mut self) {
        restart::succeeded();
    }

    fn set_clock(&mut self) {
        WANTED.signal(());
    }

    async fn roused(&self) {
        SET.wait().await;
    }

    async fn sample(&mut self) -> Option<Reading> {
        if Instant::now() >= self.blink_until {
            self.light.set_low();
        }
        self.sensor.read()
    }

    fn identify(&mut self, secs: u16) {
        self.blink_until = Instant::now() + Duration::from_secs(secs.into());
        self.light.set_high();
    }

    fn note(&mut self, event: &Event) {
        let level = if event.is_alarm() { log::Level::Error } else { log::Level::Info };
        log::log!(level, "{event}");
    }
}
