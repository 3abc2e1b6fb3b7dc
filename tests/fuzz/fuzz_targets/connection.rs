//! What authenticated clients say, in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::connection::connections(data));
