//! A row of the registry.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::documents::stored_record(data));
