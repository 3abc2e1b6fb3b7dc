//! A row of the store of sessions and messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::documents::stored_row(data));
