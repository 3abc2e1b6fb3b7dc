//! Abuse of provisioning, in a process of its own: its memory is measured.
// The modules are `cfg(test)` for clippy, which lets only test code unwrap.

#[cfg(test)]
#[expect(dead_code, reason = "the other tests of provisioning use all of it")]
#[path = "../provisioning/device.rs"]
mod device;
#[cfg(test)]
#[expect(dead_code, reason = "the other tests of provisioning use all of it")]
#[path = "../provisioning/factory.rs"]
mod factory;
#[cfg(test)]
mod hostile;
