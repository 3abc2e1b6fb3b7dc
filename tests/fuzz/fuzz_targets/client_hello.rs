//! The first bytes of a TLS connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::documents::client_hello(data));
