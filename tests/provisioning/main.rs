//! Certificates for devices that ask over MQTT, by a broker with TLS, registry and authority of its own.
// The modules are `cfg(test)` for clippy, which lets only test code unwrap.

#[cfg(test)]
mod bad;
#[cfg(test)]
mod checklist;
#[cfg(test)]
mod claim;
#[cfg(test)]
mod deadline;
#[cfg(test)]
mod device;
#[cfg(test)]
mod factory;
#[cfg(test)]
mod hook;
#[cfg(test)]
mod just_in_time;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod small;
