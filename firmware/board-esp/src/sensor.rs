//! What measures: a Sensirion SHT4x on I2C, or nothing but a pretence.

use signet_device_core::telemetry::Reading;

/// A Sensirion SHT4x.
#[cfg(feature = "sht4x")]
pub struct Sensor(
    pub sht4x::Sht4x<esp_hal::i2c::master::I2c<'static, esp_hal::Blocking>, esp_hal::delay::Delay>,
);

#[cfg(feature = "sht4x")]
impl Sensor {
    /// The sensor at its usual address.
    pub fn new(i2c: esp_hal::i2c::master::I2c<'static, esp_hal::Blocking>) -> Self {
        Self(sht4x::Sht4x::new(i2c))
    }

    /// The temperature and the humidity now; `None` when the sensor does not answer.
    pub fn read(&mut self) -> Option<Reading> {
        let mut delay = esp_hal::delay::Delay::new();
        let measured = self.0.measure(sht4x::Precision::High, &mut delay).ok()?;
        Some(Reading {
            centi_celsius: i16::try_from(measured.temperature_milli_celsius() / 10).ok()?,
            centi_percent: u16::try_from(measured.humidity_milli_percent() / 10).ok()?,
        })
    }
}

/// A pretended sensor: always the same warm afternoon.
#[cfg(not(feature = "sht4x"))]
pub struct Sensor;

#[cfg(not(feature = "sht4x"))]
impl Sensor {
    /// It needs nothing of the bus.
    pub fn new(_: esp_hal::i2c::master::I2c<'static, esp_hal::Blocking>) -> Self {
        Self
    }

    /// 21.00 degrees and 45.00 percent.
    pub fn read(&mut self) -> Option<Reading> {
        Some(Reading { centi_celsius: 2_100, centi_percent: 4_500 })
    }
}
