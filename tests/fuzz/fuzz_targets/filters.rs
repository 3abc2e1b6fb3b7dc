//! A filter and a topic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::filter_and_topic(data));
