//! Drives the sensor: [`Device`](signet_device_core::Device) says what to do, [`run`] does it.
//!
//! The agent is one future. It connects through a [`Connector`], speaks MQTT 5, and asks a [`Runtime`] for everything else: time,
//! the sensor, the light. It spawns nothing, allocates with `alloc`, and knows no socket, so the same code runs on the host by
//! the thousand, in an emulator and on the chip.
#![no_std]

extern crate alloc;

mod https;
mod mqtt;
mod run;
mod runtime;
mod watched;

pub use run::run;
pub use runtime::{Connector, Runtime};
