//! The same server behaviour with a disk below it: nothing of what clients see changes, no record contradicts another,
//! and at the end of each test what is on the disk is what is in memory.
// Some helpers are for the tests that are only in the other crate.
#![allow(dead_code, reason = "one world for two crates")]

/// Whether worlds have a disk.
pub(crate) const ON_DISK: bool = true;

#[cfg(test)]
#[path = "../behaviour/access.rs"]
mod access;
#[cfg(test)]
#[path = "../behaviour/alias.rs"]
mod alias;
#[cfg(test)]
#[path = "../behaviour/connect.rs"]
mod connect;
#[cfg(test)]
#[path = "../behaviour/dial.rs"]
mod dial;
#[cfg(test)]
#[path = "../behaviour/disk.rs"]
mod disk;
#[cfg(test)]
#[path = "../behaviour/expiry.rs"]
mod expiry;
#[cfg(test)]
#[path = "../behaviour/keep_alive.rs"]
mod keep_alive;
#[cfg(test)]
#[path = "../behaviour/limits.rs"]
mod limits;
#[cfg(test)]
#[path = "../behaviour/model.rs"]
mod model;
#[cfg(test)]
#[path = "../behaviour/outgoing.rs"]
mod outgoing;
#[cfg(test)]
#[path = "../behaviour/packet_size.rs"]
mod packet_size;
#[cfg(test)]
#[path = "../behaviour/policy_change.rs"]
mod policy_change;
#[cfg(test)]
#[path = "../behaviour/pressure.rs"]
mod pressure;
#[cfg(test)]
#[path = "../behaviour/provisioning.rs"]
mod provisioning;
#[cfg(test)]
#[path = "../behaviour/purge.rs"]
mod purge;
#[cfg(test)]
#[path = "../behaviour/qos1.rs"]
mod qos1;
#[cfg(test)]
#[path = "../behaviour/qos2.rs"]
mod qos2;
#[cfg(test)]
#[path = "../behaviour/random.rs"]
mod random;
#[cfg(test)]
#[path = "../behaviour/resume.rs"]
mod resume;
#[cfg(test)]
#[path = "../behaviour/retained.rs"]
mod retained;
#[cfg(test)]
#[path = "../behaviour/services.rs"]
mod services;
#[cfg(test)]
#[path = "../behaviour/share.rs"]
mod share;
#[cfg(test)]
#[path = "../behaviour/shared.rs"]
mod shared;
#[cfg(test)]
#[path = "../behaviour/subscribe.rs"]
mod subscribe;
#[cfg(test)]
#[path = "../behaviour/sys.rs"]
mod sys;
#[cfg(test)]
#[path = "../behaviour/takeover.rs"]
mod takeover;
#[cfg(test)]
#[path = "../behaviour/violations.rs"]
mod violations;
#[cfg(test)]
#[path = "../behaviour/will.rs"]
mod will;
#[cfg(test)]
#[path = "../behaviour/world/mod.rs"]
mod world;
