//! The certificate authority that this broker is: what it signs and how.
//!
//! It takes the public key of a signing request and nothing else; subject, extensions, validity and serial number are
//! the broker's own. What was signed comes into force by [`Command::Issue`](crate::Command::Issue) and its kin, which
//! [`Registry::decide`](crate::Registry::decide) judges again.
