//! The server behaviour of MQTT 3.1.1 and 5.0, on virtual time: clients speak bytes, nothing sleeps, nothing listens.

mod access;
mod alias;
mod connect;
mod expiry;
mod keep_alive;
mod limits;
mod outgoing;
mod packet_size;
mod policy_change;
mod qos1;
mod qos2;
mod random;
mod resume;
mod retained;
mod shared;
mod subscribe;
mod sys;
mod takeover;
mod violations;
mod will;
mod world;
