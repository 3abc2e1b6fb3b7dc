//! A provisioning template and what a device sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::template_and_parameters(data));
