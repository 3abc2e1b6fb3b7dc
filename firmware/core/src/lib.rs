//! The sensor without its chip.
//!
//! [`Device`] is a state machine: it takes [`Input`]s (time, what the connection brought) and gives [`Action`]s (connect with
//! this credential, publish, subscribe, sample, reboot). It opens no socket and reads no clock. What it must own to keep a
//! promise across a power cut, the flash, it reaches through `embedded_storage`'s `NorFlash`; randomness, signing and sealing
//! through the traits of [`platform`]. So the same code runs on the host by the thousand, in an emulator, and on the chip.
//!
//! - [`identity`]: the key, the signing request, what a certificate must be to be ours.
//! - [`store`] and [`slots`]: two credentials in NVS and the marker that says which one counts.
//! - [`enrol`]: the claim flow and rotation over `$aws`, in JSON and CBOR.
//! - [`schedule`] and [`backoff`]: when to rotate, when to come back.
//! - [`telemetry`], [`command`]: what the sensor is there for.
//! - [`ota`], [`images`], [`trial`]: updates, where they go, and the way back.
//!
//! The crate has no `unsafe` and needs `alloc`.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod backoff;
pub mod command;
pub mod device;
pub mod enrol;
pub mod factory;
pub mod https;
pub mod identity;
pub mod images;
pub mod io;
pub mod ota;
pub mod platform;
pub mod region;
pub mod schedule;
pub mod seal;
pub mod slots;
pub mod sntp;
pub mod store;
pub mod telemetry;
pub mod topic;
pub mod trial;

pub use device::{Device, Parts, Settings};
pub use io::{
    Action, Connect, Event, Failure, Input, LastWill, Message, Now, Publish, RebootReason, Refusal, Rung,
};
