//! The device against a model of the broker, on virtual time and a flash that fails.

#![allow(
    unreachable_pub,
    reason = "the modules of a test see each other's items, and the flash is the simulator's"
)]

#[path = "../../../sim/src/chip.rs"]
mod chip;
#[path = "../../../sim/src/flash.rs"]
mod flash;

mod broker;
mod commands;
mod factory;
mod fetch;
mod power_cut;
mod provisioning;
mod region;
mod rotation;
mod store;
mod token;
mod update;
mod update_cuts;
mod vectors;
mod world;
