//! An access policy and what is asked of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::documents::policy(data));
