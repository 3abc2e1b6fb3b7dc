//! A stream of bytes taken for MQTT 3.1.1.
#![no_main]

use signet_wire::Version;

libfuzzer_sys::fuzz_target!(|data: &[u8]| signet_fuzz::stream(data, Version::V311));
