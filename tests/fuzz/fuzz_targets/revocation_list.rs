//! A file of revocation lists.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::documents::revocation_list(data));
