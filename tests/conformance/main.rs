//! Every normative statement of MQTT 3.1.1 and 5.0 that concerns a server, with the tests that exercise it.
//!
//! A test names the statements it exercises in its doc comment, and `statements.toml` names the test in return;
//! `in_step` fails when one of the two is missing. The tests run wire and core on virtual time, raw packets in and
//! raw packets out; what only a socket can show is in `tests/broker`.

mod acks;
mod aliases;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod expiry;
mod flow_control;
mod framing;
mod in_step;
mod keep_alive;
mod ordering;
mod packet_size;
mod properties;
mod publish;
mod qos;
mod retained;
mod session;
mod shared;
mod strings;
mod subscribe;
mod topics;
mod unsubscribe;
mod will;
