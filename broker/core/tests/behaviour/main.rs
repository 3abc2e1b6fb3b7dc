//! The server behaviour of MQTT 3.1.1 and 5.0, on virtual time: clients speak bytes, nothing sleeps, nothing listens.
// The modules are `cfg(test)` for clippy, which lets only test code unwrap.

/// Whether worlds have a disk, on which at their end is what is in memory.
pub(crate) const ON_DISK: bool = false;

#[cfg(test)]
mod access;
#[cfg(test)]
mod alias;
#[cfg(test)]
mod buffers;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod dial;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod keep_alive;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod model;
#[cfg(test)]
mod outgoing;
#[cfg(test)]
mod packet_size;
#[cfg(test)]
mod policy_change;
mod pressure;
#[cfg(test)]
mod provisioning;
#[cfg(test)]
mod purge;
#[cfg(test)]
mod qos1;
#[cfg(test)]
mod qos2;
#[cfg(test)]
mod random;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod retained;
#[cfg(test)]
mod services;
#[cfg(test)]
mod share;
mod shared;
#[cfg(test)]
mod subscribe;
#[cfg(test)]
mod sys;
#[cfg(test)]
mod takeover;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod violations;
#[cfg(test)]
mod will;
#[cfg(test)]
mod world;
